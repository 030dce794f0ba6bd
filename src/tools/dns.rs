//! s6-dnsip4 and s6-dnsip6: the addresses of a name, from DNS.
//!
//! A question over UDP to each server in turn, again after 1, 3 and 11 seconds, and to the last one for 45. An answer
//! too long for a datagram counts as far as it came. Where a name is qualified and has a dot in it, it is tried as it is
//! first, otherwise last.

use crate::chain::*;
use crate::diag::code;
use crate::sys::{Errno, clock, env};
use crate::time::Mono;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// The numbers of questions.
const A: u16 = 1;
const AAAA: u16 = 28;

/// Whoever cannot be resolved: DNS says so.
const NOT_RESOLVED: u8 = 2;

/// `s6-dnsip4`
pub fn ip4(args: &mut Args) -> Result<Step> {
    print_addresses(args, A)
}

/// `s6-dnsip6`
pub fn ip6(args: &mut Args) -> Result<Step> {
    print_addresses(args, AAAA)
}

/// What there is about a name.
type Addresses = Vec<IpAddr>;

fn print_addresses(args: &mut Args, kind: u16) -> Result<Step> {
    let (mut qualify, mut hosts, mut shuffle, mut limit) = (false, false, false, 0);
    loop {
        match args.option("qHhrt:")? {
            b'q' => qualify = true,
            b'r' => shuffle = true,
            b't' => limit = args.value_number()?,
            0 => break,
            letter => hosts = letter == b'h',
        }
    }
    let name = args.word()?;
    let deadline = (limit > 0).then(|| clock::mono().after(Duration::from_millis(limit.into())));
    let mut found = if hosts { in_hosts(name, kind) } else { Vec::new() };
    if found.is_empty() {
        found = resolve(name, kind, qualify, deadline)?;
    }
    if shuffle {
        for last in (1..found.len()).rev() {
            found.swap(last, random() as usize % (last + 1));
        }
    }
    if found.is_empty() {
        return Ok(Step::Exit(code::NO));
    }
    let mut text = Vec::new();
    for ip in found {
        show(ip, &mut text);
        text.push(b'\n');
    }
    print_and_exit(&text)
}

/// An address in its shortest form. (The standard library's `Display` is 3 KiB of program.)
fn show(ip: IpAddr, text: &mut Vec<u8>) {
    let groups = match ip {
        IpAddr::V4(v4) => return text.extend(v4.octets().map(decimal).join(&b'.')),
        IpAddr::V6(v6) => v6.segments(),
    };
    // The longest run of zeros, the first of several, is left out.
    let zeros = |from: usize| groups[from..].iter().take_while(|group| **group == 0).count();
    let mut gap = 0;
    for at in 1..8 {
        gap = if zeros(at) > zeros(gap) { at } else { gap };
    }
    let mut at = 0;
    while at < 8 {
        if at == gap && zeros(gap) > 1 {
            text.extend_from_slice(b"::");
            at += zeros(gap);
            continue;
        }
        if text.last().is_some_and(|last| last.is_ascii_hexdigit()) {
            text.push(b':');
        }
        let digits = [12, 8, 4, 0].map(|shift| b"0123456789abcdef"[usize::from(groups[at] >> shift & 15)]);
        let first = digits[..3].iter().take_while(|digit| **digit == b'0').count();
        text.extend_from_slice(&digits[first..]);
        at += 1;
    }
}

fn resolve(name: Word, kind: u16, qualify: bool, deadline: Option<Mono>) -> Result<Addresses> {
    let config = std::fs::read("/etc/resolv.conf").unwrap_or_default();
    let listed = |variable: &str, key: &[u8]| match env::value(variable.as_bytes()) {
        Some(list) => words(list).collect(),
        None => of_config(&config, key),
    };
    let mut servers: Vec<IpAddr> =
        listed("DNSCACHEIP", b"nameserver").into_iter().filter_map(address).collect();
    if servers.is_empty() {
        servers.push(IpAddr::from([127, 0, 0, 1]));
    }
    let whole = name.strip_suffix(b".").unwrap_or(name);
    let mut names = vec![whole.to_vec()];
    if qualify && whole.len() == name.len() {
        let suffixes = listed("DNSQUALIFY", b"search").into_iter();
        let qualified = suffixes.map(|suffix| [whole, b".", suffix].concat());
        let at = if whole.contains(&b'.') { names.len() } else { 0 };
        names.splice(at..at, qualified);
    }
    let mut verdict = NOT_RESOLVED;
    for name in names {
        match ask_all(&servers, &name, kind, deadline)? {
            (0, found) if !found.is_empty() => return Ok(found),
            (0, _) => verdict = 0,
            // No such name.
            (3, _) => {}
            (refused, _) => {
                let number = shown(decimal(refused));
                return Err(failed(NOT_RESOLVED, &["unable to resolve ", shown(&name), ": error ", number]));
            }
        }
    }
    match verdict {
        0 => Ok(Vec::new()),
        _ => Err(failed(NOT_RESOLVED, &["unable to resolve ", shown(name), ": no such domain"])),
    }
}

/// Words of a list of addresses or suffixes.
fn words(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|b| b",; \t\r\n".contains(b)).filter(|word| !word.is_empty())
}

/// What `/etc/resolv.conf` says after a word.
fn of_config<'a>(config: &'a [u8], key: &[u8]) -> Vec<&'a [u8]> {
    let lines = config.split(|b| *b == b'\n').map(|line| words(line).collect::<Vec<_>>());
    let mut said = Vec::new();
    for line in lines.filter(|line| line.first() == Some(&key)) {
        said.extend_from_slice(&line[1..]);
    }
    said
}

fn address(word: &[u8]) -> Option<IpAddr> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

fn in_hosts(name: &[u8], kind: u16) -> Addresses {
    let text = std::fs::read("/etc/hosts").unwrap_or_default();
    let mut found = Vec::new();
    for line in text.split(|b| *b == b'\n') {
        let line = line.split(|b| *b == b'#').next().unwrap_or_default();
        let mut words = words(line);
        let ip = words.next().and_then(address);
        if words.any(|word| word.eq_ignore_ascii_case(name.strip_suffix(b".").unwrap_or(name))) {
            found.extend(ip.filter(|ip| ip.is_ipv4() == (kind == A)));
        }
    }
    found
}

fn random() -> u16 {
    let mut bytes = [0u8; 2];
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    u16::from_ne_bytes(bytes)
}

/// Asks one server after the other until one answers: its verdict, and what it knows.
fn ask_all(servers: &[IpAddr], name: &[u8], kind: u16, deadline: Option<Mono>) -> Result<(u8, Addresses)> {
    let id = random();
    let query = question(id, name, kind).ok_or_else(|| usage(&["invalid domain name: ", shown(name)]))?;
    let (mut verdict, mut why) = (None, Errno::TIMEDOUT);
    for pause in [1, 3, 11, 45] {
        for server in servers {
            let until = clock::mono().after(Duration::from_secs(pause));
            match ask(*server, &query, kind, deadline.map_or(until, |at| at.min(until))) {
                // A server that fails, or will not, may be one of several.
                Ok((2 | 5, _)) => verdict = Some(2),
                Ok(answer) => return Ok(answer),
                Err(errno) => why = errno,
            }
            if deadline.is_some_and(|at| at <= clock::mono()) {
                return Err(silent(name, Errno::TIMEDOUT));
            }
        }
        match verdict {
            Some(verdict) => return Ok((verdict, Vec::new())),
            // Nobody is there: that will not be otherwise soon.
            None if why != Errno::TIMEDOUT => break,
            None => {}
        }
    }
    Err(silent(name, why))
}

/// No server says anything.
fn silent(name: &[u8], why: Errno) -> crate::diag::Error {
    let code = if why == Errno::TIMEDOUT { code::TIMED_OUT } else { NOT_RESOLVED };
    failed(code, &["unable to resolve ", shown(name), ": ", crate::diag::reason(why)])
}

/// Asks one server.
fn ask(server: IpAddr, query: &[u8], kind: u16, until: Mono) -> std::result::Result<(u8, Addresses), Errno> {
    let family = if server.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::DGRAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddr::new(server, 53))?;
    rustix::net::send(&socket, query, SendFlags::NOSIGNAL)?;
    let mut buffer = [0u8; 1500];
    loop {
        let left = until.since(clock::mono());
        let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        if poll(&mut [PollFd::new(&socket, PollFlags::IN)], Some(&left))? == 0 {
            return Err(Errno::TIMEDOUT);
        }
        let (got, _) = rustix::net::recv(&socket, &mut buffer, RecvFlags::empty())?;
        // What is no answer to this question is passed over.
        if let Some(answer) = buffer.get(..got).and_then(|message| read_answer(message, query, kind)) {
            return Ok(answer);
        }
    }
}

/// A question. `None`: this can be no name.
fn question(id: u16, name: &[u8], kind: u16) -> Option<Vec<u8>> {
    let mut query = id.to_be_bytes().to_vec();
    // Recursion is wanted; there is one question.
    query.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split(|b| *b == b'.') {
        query.push(u8::try_from(label.len()).ok().filter(|len| (1..64).contains(len))?);
        query.extend_from_slice(label);
    }
    query.push(0);
    query.extend([(kind >> 8) as u8, kind as u8, 0, 1]);
    (query.len() <= 12 + 255 + 4).then_some(query)
}

/// The verdict of an answer to the question, and the addresses in it. `None`: it is none.
fn read_answer(message: &[u8], query: &[u8], kind: u16) -> Option<(u8, Addresses)> {
    let header = message.get(..12)?;
    if header[..2] != query[..2] || header[2] & 0x80 == 0 {
        return None;
    }
    let verdict = header[3] & 15;
    let word = |at: usize| Some(usize::from(u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?)));
    let mut at = 12;
    for _ in 0..word(4)? {
        at = skip_name(message, at)? + 4;
    }
    let mut found = Vec::new();
    for _ in 0..word(6)? {
        // It ends where the datagram did.
        let Some(start) = skip_name(message, at) else { break };
        let (Some(is), Some(len)) = (word(start), word(start + 8)) else { break };
        let Some(data) = message.get(start + 10..start + 10 + len) else { break };
        if is == usize::from(kind) && word(start + 2) == Some(1) {
            let v4 = <[u8; 4]>::try_from(data).map(IpAddr::from);
            found.extend(v4.or_else(|_| <[u8; 16]>::try_from(data).map(IpAddr::from)));
        }
        at = start + 10 + len;
    }
    Some((verdict, found))
}

/// Where a name ends that begins at `at`.
fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            // The rest is elsewhere.
            192.. => return Some(at + 2),
            len => at += 1 + usize::from(len),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_as_the_standard_library_shows_them() {
        let texts = [
            "0.0.0.0",
            "255.1.20.0",
            "::",
            "::1",
            "1::",
            "1::2:0:0:3:4",
            "1:0:0:2::3",
            "0:1::",
            "fe80::1:0:abcd",
        ];
        let more = ["1:2:3:4:5:6:7:8", "1:0:2:3:4:5:6:7", "1:0:0:2:0:0:0:3", "2001:db8::ff00:42:8329"];
        for text in texts.iter().chain(&more) {
            let ip: IpAddr = text.parse().unwrap();
            let mut shown = Vec::new();
            show(ip, &mut shown);
            assert_eq!(String::from_utf8(shown).unwrap(), ip.to_string());
        }
    }

    #[test]
    fn answers_are_read_as_far_as_they_go() {
        let query = question(0x1234, b"a.example", A).unwrap();
        let mut message = query.clone();
        (message[2], message[7]) = (0x81, 3);
        // A name of its own, then the address of that, then one of another kind.
        message.extend(b"\xc0\x0c\0\x05\0\x01\0\0\0\x3c\0\x04\x01b\xc0\x0e");
        message.extend(b"\x01b\xc0\x0e\0\x01\0\x01\0\0\0\x3c\0\x04\x0a\0\0\x01");
        message.extend(b"\xc0\x0c\0\x1c\0\x01\0\0\0\x3c\0\x10ABCDEFGHIJKLMNOP");
        let ip = IpAddr::from([10, 0, 0, 1]);
        assert_eq!(read_answer(&message, &query, A), Some((0, vec![ip])));
        assert_eq!(read_answer(&message, &query, AAAA).unwrap().1.len(), 1);
        for end in 0..message.len() {
            let _ = read_answer(&message[..end], &query, A);
        }
        assert_eq!(read_answer(&message[..message.len() - 40], &query, A), Some((0, vec![])));
        message[0] = 0;
        assert_eq!(read_answer(&message, &query, A), None, "to another question");
        assert_eq!(question(1, &[b'a'; 64], A), None);
        assert_eq!(question(1, b"a..b", A), None);
    }
}
