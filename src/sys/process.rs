//! What the kernel says of a process: who it is, when it was born.

use super::{Errno, last_errno};
use crate::process::{Pid, Signal, WaitStatus};
use rustix::fs::{Mode, OFlags, open};
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// Clock ticks per second in `/proc/PID/stat`: USER_HZ, 100 on every architecture Rust has.
pub const TICK_NS: u64 = 10_000_000;

const PF_EXITING: u32 = 4;
const PF_FORKNOEXEC: u32 = 0x40;

/// What `/proc/PID/stat` says of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// `R`, `S`, `D`, `Z`, `T` …
    pub state: u8,
    /// It is on its way out, or dead (field 9, the kernel's PF_EXITING).
    pub exiting: bool,
    /// It has executed nothing since it was made (field 9, PF_FORKNOEXEC).
    pub unexecuted: bool,
    /// The parent.
    pub ppid: i32,
    /// The process group.
    pub pgrp: i32,
    /// The session.
    pub session: i32,
    /// When it was started, in nanoseconds since boot, rounded down to 10 ms (field 22).
    pub start: u64,
}

/// Reads `/proc/PID/stat`. `None`: no such process, or no `/proc`, or it cannot be read now.
pub fn stat(pid: Pid) -> Option<Stat> {
    try_stat(pid).ok().flatten()
}

/// The same, if it matters why it cannot be read.
pub fn try_stat(pid: Pid) -> Result<Option<Stat>, Errno> {
    let mut buf = [0u8; 1024];
    match read_stat(pid, &mut buf) {
        Err(Errno::NOENT | Errno::SRCH) => Ok(None),
        line => line.map(parse_stat),
    }
}

/// How a process ended that is dead and that nobody has reaped yet, whoever's child it is (field 52).
/// `None`: it is not dead, or the kernel does not tell us: it does so only for processes of our own user.
pub fn zombie_status(pid: Pid) -> Option<WaitStatus> {
    let mut buf = [0u8; 1024];
    let line = read_stat(pid, &mut buf).ok()?;
    let owner = rustix::fs::stat(format!("/proc/{pid}")).ok()?.st_uid;
    if parse_stat(line)?.state != b'Z' || owner != rustix::process::geteuid().as_raw() {
        return None;
    }
    let mut fields = line[line.iter().rposition(|&b| b == b')')? + 2..].split(u8::is_ascii_whitespace);
    let code: u32 = std::str::from_utf8(fields.nth(52 - 3)?).ok()?.parse().ok()?;
    Some(WaitStatus(code as u16))
}

fn read_stat(pid: Pid, buf: &mut [u8; 1024]) -> Result<&[u8], Errno> {
    let mut path = [0u8; 32];
    let left = {
        use std::io::Write;
        let mut cursor = &mut path[..];
        write!(cursor, "/proc/{pid}/stat").map_or(0, |()| cursor.len())
    };
    read_once(&path[..32 - left], buf)
}

fn read_once(path: impl rustix::path::Arg, buf: &mut [u8; 1024]) -> Result<&[u8], Errno> {
    let fd = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let got = rustix::io::read(&fd, &mut *buf)?;
    Ok(&buf[..got])
}

/// The command name stands in parentheses and may itself contain any byte: count from the last one.
fn parse_stat(line: &[u8]) -> Option<Stat> {
    let tail = &line[line.iter().rposition(|&b| b == b')')? + 2..];
    let mut fields = std::str::from_utf8(tail).ok()?.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    let ppid = fields.next()?.parse().ok()?;
    let pgrp = fields.next()?.parse().ok()?;
    let session = fields.next()?.parse().ok()?;
    let flags: u32 = fields.nth(9 - 7)?.parse().ok()?;
    let ticks: u64 = fields.nth(22 - 10)?.parse().ok()?;
    let (exiting, unexecuted) = (flags & PF_EXITING != 0, flags & PF_FORKNOEXEC != 0);
    Some(Stat { state, exiting, unexecuted, ppid, pgrp, session, start: ticks * TICK_NS })
}

/// What pids mean here: words that are different after a reboot and in another PID namespace. Zeros where there
/// is no `/proc`. An error: that cannot be known now, for want of descriptors or memory.
pub fn pid_world() -> Result<[u32; 6], Errno> {
    let mut world = [0; 6];
    let mut text = [0u8; 36];
    match open("/proc/sys/kernel/random/boot_id", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(file) if rustix::io::read(&file, &mut text)? == 36 => {
            let digits = text.iter().filter_map(|digit| (*digit as char).to_digit(16));
            digits.take(32).enumerate().for_each(|(i, digit)| world[i / 8] = world[i / 8] << 4 | digit);
        }
        Err(e) if crate::diag::is_exhausted(e) => return Err(e),
        _ => {}
    }
    world[4] = rustix::fs::stat("/proc/self/ns/pid").map_or(0, |namespace| namespace.st_ino as u32);
    // The number of a namespace may be used again; its first process was not made at the same time.
    let first = match Pid::from_raw(1).map(try_stat) {
        Some(Err(e)) if crate::diag::is_exhausted(e) => return Err(e),
        first => first.and_then(|stat| stat.ok().flatten()),
    };
    world[5] = first.map_or(0, |first| (first.start / TICK_NS) as u32);
    Ok(world)
}

/// A process as people know it: `bash (pid 312)`, or the pid alone when nothing more can be known of it.
pub fn shown(pid: Pid) -> String {
    match std::fs::read(format!("/proc/{pid}/comm")) {
        Ok(name) => format!("{} (pid {pid})", String::from_utf8_lossy(&name).trim_end()),
        Err(_) => format!("pid {pid}"),
    }
}

/// Our parent. None: it is not in our PID namespace.
pub fn parent() -> Option<Pid> {
    // SAFETY: getppid touches no memory.
    Pid::from_raw(unsafe { libc::getppid() })
}

/// The leader of our session, dead or alive. None: it is not in our PID namespace.
pub fn session_leader() -> Option<Pid> {
    // SAFETY: getsid touches no memory.
    Pid::from_raw(unsafe { libc::getsid(0) })
}

/// Whether a process that `/proc` says was born at `start` can be the one we saw born at `boot`
/// (nanoseconds since boot, taken just before it was made). `/proc` counts in ticks; a pid does not come
/// round twice within two of them.
pub fn same_birth(boot: u64, start: u64) -> bool {
    start.abs_diff(boot / TICK_NS * TICK_NS) <= 2 * TICK_NS
}

/// The fields of the kernel's memory map of a process that `PR_SET_MM_MAP` sets, `struct prctl_mm_map`.
#[repr(C)]
struct MemoryMap {
    /// start_code end_code start_data end_data start_brk brk start_stack arg_start arg_end env_start env_end
    bounds: [u64; 11],
    auxv: u64,
    auxv_size: u32,
    exe_fd: u32,
}

/// What `ps` shows of this process: `name` as the command (at most 15 bytes are kept) and `words` as the
/// command line. The kernel is told where the new command line lies, which needs no privilege; where it
/// does not have that call the old one stays.
pub fn set_title(name: &str, words: &[&str]) {
    let mut comm = [0u8; 16];
    comm.iter_mut().zip(name.bytes().take(15)).for_each(|(to, from)| *to = from);
    // SAFETY: prctl reads at most 16 bytes, and the array ends with a NUL.
    unsafe { libc::prctl(libc::PR_SET_NAME, comm.as_ptr()) };
    let text: &'static [u8] = words.iter().flat_map(|w| w.bytes().chain([0])).collect::<Vec<u8>>().leak();
    show_arguments(text);
}

/// The command line that `ps` shows of this process from now on, as often as it changes: so much of `words` as
/// there is room for.
pub fn set_arguments<'w>(words: impl Iterator<Item = &'w str>) {
    const ROOM: usize = 8192;
    // The kernel shows no memory that belongs to a file, as that of a static does: it must be allocated.
    static ALLOCATED: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
    if ALLOCATED.load(Ordering::Relaxed).is_null() {
        ALLOCATED.store(vec![0; ROOM].leak().as_mut_ptr(), Ordering::Relaxed);
    }
    // SAFETY: it was allocated with this length and is never freed; programs of this crate have one thread, and
    // nobody else has the address but the kernel, which only reads.
    let room: &'static mut [u8] =
        unsafe { std::slice::from_raw_parts_mut(ALLOCATED.load(Ordering::Relaxed), ROOM) };
    let mut used = 0;
    for word in words {
        let Some(place) = room.get_mut(used..used + word.len() + 1) else { break };
        place[..word.len()].copy_from_slice(word.as_bytes());
        place[word.len()] = 0;
        used += word.len() + 1;
    }
    show_arguments(&room[..used]);
}

/// Tells the kernel where the command line lies: it stays there.
fn show_arguments(text: &'static [u8]) {
    let Some(mut bounds) = memory_bounds() else { return };
    bounds[7] = text.as_ptr() as u64;
    bounds[8] = bounds[7] + text.len() as u64;
    let map = MemoryMap { bounds, auxv: 0, auxv_size: 0, exe_fd: u32::MAX };
    // SAFETY: the kernel reads the structure and checks its addresses; the text is never freed.
    unsafe {
        libc::prctl(
            libc::PR_SET_MM,
            libc::PR_SET_MM_MAP,
            (&raw const map) as libc::c_ulong,
            size_of::<MemoryMap>() as libc::c_ulong,
            0 as libc::c_ulong,
        )
    };
}

/// The present bounds, from `/proc/self/stat`, in the order of [`MemoryMap`].
fn memory_bounds() -> Option<[u64; 11]> {
    let mut buf = [0u8; 1024];
    let line = read_once("/proc/self/stat", &mut buf).ok()?;
    let tail = std::str::from_utf8(&line[line.iter().rposition(|&b| b == b')')? + 2..]).ok()?;
    let fields: Vec<u64> = tail.split_ascii_whitespace().map(|f| f.parse().unwrap_or(0)).collect();
    // Field 3 is the first after the name.
    let field = |n: usize| fields.get(n - 3).copied();
    // SAFETY: sbrk(0) only tells.
    let brk = unsafe { libc::sbrk(0) } as u64;
    Some([
        field(26)?,
        field(27)?,
        field(45)?,
        field(46)?,
        field(47)?,
        brk,
        field(28)?,
        field(48)?,
        field(49)?,
        field(50)?,
        field(51)?,
    ])
}

/// Set by the executable that is all programs in one.
static ALL_IN_ONE: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// This executable can be any program, by the name it is called with.
pub fn is_all_in_one() {
    ALL_IN_ONE.store(true, std::sync::atomic::Ordering::Relaxed);
}

/// The path of this executable.
pub fn executable() -> Option<std::ffi::CString> {
    let link = rustix::fs::readlink("/proc/self/exe", Vec::new()).ok()?;
    // One that was replaced since is shown like this; its successor has its name.
    let path = link.to_bytes();
    std::ffi::CString::new(path.strip_suffix(b" (deleted)").unwrap_or(path)).ok()
}

/// Sets the supplementary groups of this process, which has one thread.
pub fn set_groups(groups: &[u32]) -> Result<(), Errno> {
    // SAFETY: the kernel reads as many numbers as we say.
    let ret = unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
    super::check(ret as libc::c_int).map(drop)
}

/// Sets real, effective and saved group (as root) of this process, which has one thread.
pub fn set_gid(gid: u32) -> Result<(), Errno> {
    // SAFETY: one integer.
    super::check(unsafe { libc::syscall(libc::SYS_setgid, gid) } as libc::c_int).map(drop)
}

/// Sets real, effective and saved user (as root) of this process, which has one thread.
pub fn set_uid(uid: u32) -> Result<(), Errno> {
    // SAFETY: one integer.
    super::check(unsafe { libc::syscall(libc::SYS_setuid, uid) } as libc::c_int).map(drop)
}

/// Gives up the controlling terminal, if we have one: it will be somebody else's.
pub fn give_up_terminal() {
    // SAFETY: this request takes no argument.
    unsafe { libc::ioctl(0, libc::TIOCNOTTY as _) };
}

/// All processes but us and the kernel's own that `/proc` shows and that are not dead.
pub fn others() -> Vec<Pid> {
    let lives =
        |pid: &Pid| stat(*pid).is_some_and(|stat| !matches!(stat.state, b'Z' | b'X') && stat.session > 0);
    all().filter(|pid| *pid != Pid::own()).filter(lives).collect()
}

/// Whether `/proc` shows no other process in our PID namespace. `None`: there is no `/proc`, or it is that of
/// another namespace.
pub fn alone() -> Option<bool> {
    let own = rustix::fs::readlink("/proc/self", Vec::new()).ok()?;
    if own.to_bytes() != Pid::own().to_string().as_bytes() {
        return None;
    }
    let dir = open("/proc", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut space = [std::mem::MaybeUninit::uninit(); 4096];
    let mut entries = rustix::fs::RawDir::new(&dir, &mut space);
    while let Some(entry) = entries.next() {
        let entry = entry.ok()?;
        let name = entry.file_name().to_bytes();
        if name.first().is_some_and(u8::is_ascii_digit) && name != own.to_bytes() {
            return Some(false);
        }
    }
    Some(true)
}

fn all() -> impl Iterator<Item = Pid> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
}

/// All processes that `/proc` shows, each with what it says of it.
pub fn snapshot() -> Vec<(Pid, Stat)> {
    all().filter_map(|pid| Some((pid, stat(pid)?))).collect()
}

/// All descendants of a process that `/proc` shows.
pub fn descendants(of: Pid) -> Vec<Pid> {
    let parents: Vec<(Pid, i32)> = all().filter_map(|p| Some((p, stat(p)?.ppid))).collect();
    let mut found = vec![of];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(parents.iter().filter(|(_, ppid)| *ppid == parent.raw()).map(|(pid, _)| *pid));
        next += 1;
    }
    found.split_off(1)
}

/// Where the program `name` of the same installation is: path, and the name to call it with. Looked for
/// anew each time, so that a replaced executable is found.
pub fn sibling(name: &str) -> Option<(std::ffi::CString, std::ffi::CString)> {
    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt;
    let link = executable()?;
    let path = link.to_bytes();
    let slash = path.iter().rposition(|&b| b == b'/')?;
    let beside = [&path[..=slash], name.as_bytes()].concat();
    let argv0 = CString::new(name).ok()?;
    let executable =
        |p: &[u8]| rustix::fs::access(std::ffi::OsStr::from_bytes(p), rustix::fs::Access::EXEC_OK).is_ok();
    if executable(&beside) {
        return Some((CString::new(beside).ok()?, argv0));
    }
    let all_in_one = ALL_IN_ONE.load(std::sync::atomic::Ordering::Relaxed);
    (all_in_one && executable(path)).then(|| Some((CString::new(path).ok()?, argv0)))?
}

/// What we say from now on goes to `to`, or nowhere: whoever reads what we said until now may see its end.
pub fn speak_to(to: Option<&std::os::fd::OwnedFd>) {
    let null = || open("/dev/null", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).ok();
    let opened = if to.is_none() { null() } else { None };
    if let Some(fd) = to.or(opened.as_ref()) {
        let _ = rustix::stdio::dup2_stdout(fd);
        let _ = rustix::stdio::dup2_stderr(fd);
    }
}

/// Asks to get `signal` when the parent dies.
pub fn die_with_parent(signal: Signal) -> Result<(), Errno> {
    // SAFETY: this prctl takes one integer and touches no memory.
    match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal.0 as libc::c_ulong, 0, 0, 0) } {
        0 => Ok(()),
        _ => Err(last_errno()),
    }
}

/// The limits of open files that we were given, soft and hard, once we have raised ours.
static GIVEN_NOFILE: [AtomicU64; 2] = [AtomicU64::new(NOT_RAISED), AtomicU64::new(0)];

const NOT_RAISED: u64 = u64::MAX - 1;

/// Raises our soft limit of open files to the hard one. What we execute gets the one that we were given
/// ([`give_back_nofile`]); a process that we fork keeps ours and knows it.
pub fn raise_nofile() {
    let [soft, hard] = &GIVEN_NOFILE;
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls only read or write the structure they are given.
    unsafe {
        if soft.load(Ordering::Relaxed) == NOT_RAISED && libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0
        {
            soft.store(limit.rlim_cur, Ordering::Relaxed);
            hard.store(limit.rlim_max, Ordering::Relaxed);
        }
    }
    // Also in a process that was forked by one whose limit somebody has lowered meanwhile.
    raise_nofile_again();
}

/// Undoes [`give_back_nofile`]: we did not become another program.
pub fn raise_nofile_again() {
    let [soft, hard] = GIVEN_NOFILE.each_ref().map(|limit| limit.load(Ordering::Relaxed));
    if soft != NOT_RAISED {
        // SAFETY: the call only reads the structure it is given.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &libc::rlimit { rlim_cur: hard, rlim_max: hard }) };
    }
}

/// What the kernel counts memory in, in bytes.
pub fn page_size() -> u64 {
    // SAFETY: the call only returns a number.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(size).unwrap_or(4096)
}

/// How many descriptors we may have at present.
pub fn nofile() -> i32 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current.and_then(|n| i32::try_from(n).ok()).unwrap_or(i32::MAX)
}

/// Takes [`raise_nofile`] back, in a process that is about to execute another program. Only a system call:
/// its memory may be its parent's.
pub fn give_back_nofile() {
    let [rlim_cur, rlim_max] = GIVEN_NOFILE.each_ref().map(|limit| limit.load(Ordering::Relaxed));
    if rlim_cur != NOT_RAISED {
        let limit = libc::rlimit64 { rlim_cur, rlim_max };
        let arguments = [0, libc::RLIMIT_NOFILE as usize, (&raw const limit).expose_provenance(), 0, 0];
        // SAFETY: the call only reads the structure it is given, and we are 0, ourselves. It may be refused.
        let _ = unsafe { super::raw::call(libc::SYS_prlimit64, arguments) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let line = b"12 (a) S 9 (b)) Z 34 5 6 0 -1 4194628 0 0 0 0 0 0 0 0 20 0 1 0 777 0 0\n";
        let stat = parse_stat(line).unwrap();
        assert_eq!((stat.state, stat.ppid, stat.pgrp, stat.session), (b'Z', 34, 5, 6));
        assert_eq!((stat.start, stat.exiting, stat.unexecuted), (7_770_000_000, true, true));
    }

    #[test]
    fn we_can_tell_our_own_birth() {
        let me = stat(Pid::own()).unwrap();
        assert!(me.start <= crate::sys::clock::boot());
        assert!(same_birth(me.start + 9_999_999, me.start));
        assert!(!same_birth(me.start + 50_000_000, me.start));
    }
}
