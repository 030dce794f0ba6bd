//! What programs of ours say to a supervisor of many services, and what it answers.
//!
//! The socket is `.s6-svscan/socket`: local, whole messages. svscan says which entries of its directory are
//! services; rc asks for oneshots to be run and for services to be up or down, and hears when they are. The
//! files of a service directory stay what s6's clients use; nothing that they can do needs this.
//!
//! A message is one byte that says what it is, then its fields: numbers of 32 bits in native byte order, one
//! text at the end, or texts separated by NUL.
#![forbid(unsafe_code)]

use super::oneshot::Script;
use crate::process::WaitStatus;
use std::time::Duration;

/// Where the socket is, relative to the scan directory.
pub const SOCKET: &str = ".s6-svscan/socket";

/// In a tag of [`Request::After`]: any answer will do.
pub const SOFT: u32 = 1 << 31;

/// Names of one [`Request::Add`] are sent in messages of about this many bytes.
pub const BATCH_BYTES: usize = 4000;

/// How all supervision is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// Services are stopped; loggers see the end of their input and end by themselves.
    Stop,
    /// Services and loggers are stopped.
    StopAll,
    /// Everything is left as it is.
    Abandon,
}

/// What a supervisor is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// svscan is here. Descriptors come with it: the socket to the keeper, the reaper's pipe, and if there is
    /// one the console for the catch-all logger.
    Hello,
    /// A complete list of entries begins.
    Begin,
    /// It is complete: services that were not in it are gone from the directory.
    End,
    /// These entries are there.
    Add(Vec<String>),
    /// These are not there any more.
    Gone(Vec<String>),
    /// Look after what may have been damaged, and try again what could not be done.
    Check,
    /// End the supervision of what is gone from the directory; with `true` of loggers as of services. Answered
    /// by [`Reply::Pruned`] when that is remembered: until then whoever asks must ask a successor again.
    Prune(bool),
    /// Everything is about to end: what dies from here on is not started again by itself.
    NoRestarts,
    /// End all supervision.
    Finish(Finish),
    /// Become the program that is on disk now.
    Upgrade,
    /// Run a script of the oneshot whose directory is `path`, and say when that is done.
    Ask {
        /// Comes back with the answer.
        tag: u32,
        /// Which script.
        script: Script,
        /// Its time.
        limit: Option<Duration>,
        /// The directory.
        path: String,
    },
    /// Nobody needs the script any longer that runs for the oneshot `path`.
    Cancel(String),
    /// Forget the oneshot `path`.
    Forget(String),
    /// What is up, what is down? Answered by [`Reply::States`] with all services and oneshots, as many as
    /// it takes, then [`Reply::StatesEnd`].
    States,
    /// Answered by [`Reply::StatesEnd`] when all that was asked before is dealt with.
    Sync,
    /// A change begins on this line: nothing is waited for any longer that was asked with [`Request::After`].
    BeginChange,
    /// Do that when all of these requests are settled: those without [`SOFT`] as asked, or it is not done.
    After(Vec<u32>, Box<Request>),
    /// Want the service `name` up or down, and say when it is (ready, if it can tell).
    Bring {
        /// Comes back with the answer.
        tag: u32,
        /// Up, or down.
        up: bool,
        /// Its name in the scan directory.
        name: String,
    },
}

/// What a service is, as far as bringing it up or down is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Down, and not on its way up.
    Down,
    /// Up, and ready if it can say so.
    Up,
    /// Between the two, or not as it is wanted: a step must be made either way.
    Between,
}

/// What a supervisor answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A request is settled.
    Settled(Settled),
    /// What some of the services are, by name, or by path for oneshots.
    States(Vec<(String, Standing)>),
    /// That was all of them.
    StatesEnd,
    /// What is gone from the directory is told to end, or has ended.
    Pruned,
    /// There was no room for the descriptors that came with [`Request::Hello`]: they are to come again.
    HelloAgain,
}

/// A request that is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The tag of the request.
    pub tag: u32,
    /// What came of it.
    pub outcome: Outcome,
    /// How the process ended that decided it, if one did.
    pub wait: WaitStatus,
}

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is as asked.
    Done = 0,
    /// It failed.
    Failed = 1,
    /// Its time was up.
    TimedOut = 2,
    /// There is no such service.
    Unknown = 3,
    /// Somebody wanted the opposite meanwhile.
    Overtaken = 4,
}

impl Request {
    /// As a message.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Request::Hello => vec![b'K'],
            Request::Begin => vec![b'['],
            Request::End => vec![b']'],
            Request::Add(names) => texts(b'+', names),
            Request::Gone(names) => texts(b'-', names),
            Request::Check => vec![b'!'],
            Request::Prune(all) => vec![if *all { b'N' } else { b'n' }],
            Request::NoRestarts => vec![b'0'],
            Request::Finish(how) => vec![match how {
                Finish::Stop => b't',
                Finish::StopAll => b'q',
                Finish::Abandon => b'b',
            }],
            Request::Upgrade => vec![b'E'],
            Request::Ask { tag, script, limit, path } => {
                let op = if *script == Script::Up { b'U' } else { b'D' };
                let millis = limit.map_or(0, |d| (d.as_millis() as u32).max(1));
                numbers(op, &[*tag, millis], path)
            }
            Request::Cancel(path) => numbers(b'c', &[], path),
            Request::Forget(path) => numbers(b'f', &[], path),
            Request::States => vec![b's'],
            Request::Sync => vec![b'y'],
            Request::BeginChange => vec![b'z'],
            Request::After(tags, request) => {
                let mut out = numbers(b'&', &[tags.len() as u32], "");
                tags.iter().for_each(|tag| out.extend(tag.to_ne_bytes()));
                out.extend(request.encode());
                out
            }
            Request::Bring { tag, up, name } => numbers(if *up { b'u' } else { b'd' }, &[*tag], name),
        }
    }

    /// From a message; `None` if it is none.
    pub fn decode(message: &[u8]) -> Option<Request> {
        let (op, rest) = message.split_first()?;
        let text = |at: usize| Some(std::str::from_utf8(rest.get(at..)?).ok()?.to_owned());
        let number = |at: usize| Some(u32::from_ne_bytes(rest.get(at..at + 4)?.try_into().ok()?));
        Some(match op {
            b'K' => Request::Hello,
            b'[' => Request::Begin,
            b']' => Request::End,
            b'+' => Request::Add(split(&text(0)?)),
            b'-' => Request::Gone(split(&text(0)?)),
            b'!' => Request::Check,
            b'n' => Request::Prune(false),
            b'N' => Request::Prune(true),
            b'0' => Request::NoRestarts,
            b't' => Request::Finish(Finish::Stop),
            b'q' => Request::Finish(Finish::StopAll),
            b'b' => Request::Finish(Finish::Abandon),
            b'E' => Request::Upgrade,
            b'U' | b'D' => Request::Ask {
                tag: number(0)?,
                script: if *op == b'U' { Script::Up } else { Script::Down },
                limit: Some(number(4)?).filter(|ms| *ms > 0).map(|ms| Duration::from_millis(ms.into())),
                path: text(8)?,
            },
            b'c' => Request::Cancel(text(0)?),
            b'f' => Request::Forget(text(0)?),
            b's' => Request::States,
            b'y' => Request::Sync,
            b'z' => Request::BeginChange,
            b'&' => {
                let end = (number(0)? as usize).checked_mul(4)?.checked_add(4)?;
                let tags =
                    rest.get(4..end)?.chunks_exact(4).map(|t| u32::from_ne_bytes([t[0], t[1], t[2], t[3]]));
                // One in another has no meaning, and no end.
                let inner = rest.get(end..).filter(|inner| inner.first() != Some(&b'&'))?;
                Request::After(tags.collect(), Box::new(Request::decode(inner)?))
            }
            b'u' | b'd' => Request::Bring { tag: number(0)?, up: *op == b'u', name: text(4)? },
            _ => return None,
        })
    }
}

/// The first byte of a message that holds several, each with its length before it.
const SEVERAL: u8 = b'*';

/// Adds a message to one that holds several; the first stays as it is until there is another.
fn gather(all: &mut Vec<u8>, message: &[u8]) {
    if all.is_empty() {
        return all.extend(message);
    }
    if all[0] != SEVERAL {
        let first = std::mem::replace(all, vec![SEVERAL]);
        all.extend((first.len() as u16).to_ne_bytes());
        all.extend(first);
    }
    all.extend((message.len() as u16).to_ne_bytes());
    all.extend(message);
}

/// The messages in one that holds several, or that one; `None` where there is a part of one.
fn parts(message: &[u8]) -> Vec<Option<&[u8]>> {
    let Some(mut rest) = message.strip_prefix(&[SEVERAL]) else { return vec![Some(message)] };
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let cut = rest.split_at_checked(2).and_then(|(length, rest)| {
            rest.split_at_checked(u16::from_ne_bytes([length[0], length[1]]).into())
        });
        parts.push(cut.map(|(part, _)| part));
        rest = cut.map_or(&[], |(_, rest)| rest);
    }
    parts
}

impl Request {
    /// Adds an encoded request to a message of several.
    pub fn gather(all: &mut Vec<u8>, message: &[u8]) {
        gather(all, message);
    }

    /// The requests of a message, of one or of several; `None` for what is none.
    pub fn decode_all(message: &[u8]) -> Vec<Option<Request>> {
        parts(message).into_iter().map(|part| Request::decode(part?)).collect()
    }
}

impl Reply {
    /// Adds an encoded reply to a message of several.
    pub fn gather(all: &mut Vec<u8>, message: &[u8]) {
        gather(all, message);
    }

    /// Tells of each reply of a message, of one or of several. What makes no sense is passed over.
    pub fn decode_all(message: &[u8], mut hear: impl FnMut(Reply)) {
        parts(message).into_iter().filter_map(|part| Reply::decode(part?)).for_each(&mut hear);
    }

    /// As a message.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Reply::Settled(s) => numbers(b'=', &[s.tag, s.outcome as u32, s.wait.0.into()], ""),
            Reply::States(list) => {
                let lines: Vec<String> = list
                    .iter()
                    .map(|(name, standing)| match standing {
                        Standing::Down => format!("d{name}"),
                        Standing::Up => format!("u{name}"),
                        Standing::Between => format!("b{name}"),
                    })
                    .collect();
                texts(b'i', &lines)
            }
            Reply::StatesEnd => vec![b'.'],
            Reply::Pruned => vec![b'p'],
            Reply::HelloAgain => vec![b'h'],
        }
    }

    /// From a message; `None` if it is none.
    pub fn decode(message: &[u8]) -> Option<Reply> {
        let (op, rest) = message.split_first()?;
        let number = |at: usize| Some(u32::from_ne_bytes(rest.get(at..at + 4)?.try_into().ok()?));
        Some(match op {
            b'=' => Reply::Settled(Settled {
                tag: number(0)?,
                outcome: Outcome::from_number(number(4)?)?,
                wait: WaitStatus(number(8)? as u16),
            }),
            b'i' => {
                let standing = |line: String| {
                    let (letter, name) = line.split_at_checked(1)?;
                    let standing = match letter {
                        "d" => Standing::Down,
                        "u" => Standing::Up,
                        "b" => Standing::Between,
                        _ => return None,
                    };
                    Some((name.to_owned(), standing))
                };
                let text = std::str::from_utf8(rest).ok()?;
                Reply::States(split(text).into_iter().map(standing).collect::<Option<Vec<_>>>()?)
            }
            b'.' => Reply::StatesEnd,
            b'p' => Reply::Pruned,
            b'h' => Reply::HelloAgain,
            _ => return None,
        })
    }
}

impl Outcome {
    fn from_number(n: u32) -> Option<Outcome> {
        [Outcome::Done, Outcome::Failed, Outcome::TimedOut, Outcome::Unknown, Outcome::Overtaken]
            .into_iter()
            .find(|outcome| *outcome as u32 == n)
    }
}

/// Cuts a list of names into requests that fit a message each.
pub fn batches(names: Vec<String>, request: fn(Vec<String>) -> Request) -> Vec<Request> {
    chunks(names, String::len).into_iter().map(request).collect()
}

/// Cuts a list into parts of about [`BATCH_BYTES`].
pub fn chunks<T>(items: Vec<T>, bytes: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let mut out = Vec::new();
    let (mut chunk, mut size) = (Vec::new(), 0);
    for item in items {
        size += bytes(&item) + 2;
        chunk.push(item);
        if size > BATCH_BYTES {
            out.push(std::mem::take(&mut chunk));
            size = 0;
        }
    }
    if !chunk.is_empty() {
        out.push(chunk);
    }
    out
}

fn numbers(op: u8, numbers: &[u32], text: &str) -> Vec<u8> {
    let mut out = vec![op];
    numbers.iter().for_each(|n| out.extend(n.to_ne_bytes()));
    out.extend(text.as_bytes());
    out
}

fn texts(op: u8, texts: &[String]) -> Vec<u8> {
    numbers(op, &[], &texts.join("\0"))
}

fn split(text: &str) -> Vec<String> {
    text.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn round_trip() {
        let limit = Some(Duration::from_millis(1500));
        for request in [
            Request::Hello,
            Request::Begin,
            Request::End,
            Request::Add(vec!["a".into(), "b/log".into()]),
            Request::Gone(vec!["a".into()]),
            Request::Check,
            Request::Prune(true),
            Request::Prune(false),
            Request::NoRestarts,
            Request::Finish(Finish::Stop),
            Request::Finish(Finish::StopAll),
            Request::Finish(Finish::Abandon),
            Request::Upgrade,
            Request::Ask { tag: 7, script: Script::Up, limit, path: "/run/x".into() },
            Request::Ask { tag: 7, script: Script::Down, limit: None, path: "/run/x".into() },
            Request::Cancel("/run/x".into()),
            Request::Forget("/run/x".into()),
            Request::States,
            Request::Sync,
            Request::BeginChange,
            Request::After(vec![], Box::new(Request::States)),
            Request::After(
                vec![1, 7 | SOFT],
                Box::new(Request::Bring { tag: 9, up: true, name: "w".into() }),
            ),
            Request::Bring { tag: 9, up: true, name: "web".into() },
            Request::Bring { tag: 9, up: false, name: "web".into() },
        ] {
            assert_eq!(Request::decode(&request.encode()), Some(request));
        }
        for reply in [
            Reply::Settled(Settled { tag: 3, outcome: Outcome::TimedOut, wait: WaitStatus(15) }),
            Reply::States(vec![("web".into(), Standing::Between), ("/run/x".into(), Standing::Up)]),
            Reply::StatesEnd,
            Reply::Pruned,
            Reply::HelloAgain,
        ] {
            assert_eq!(Reply::decode(&reply.encode()), Some(reply));
        }
    }

    #[test]
    fn several_in_a_message() {
        let all = [Request::Check, Request::Gone(vec!["a".into()]), Request::States];
        let mut message = Vec::new();
        all.iter().for_each(|request| Request::gather(&mut message, &request.encode()));
        assert_eq!(Request::decode_all(&message), all.map(Some));
        assert_eq!(Request::decode_all(&Request::States.encode()), [Some(Request::States)]);
        message.pop();
        assert_eq!(Request::decode_all(&message).last(), Some(&None));
        let mut count = 0;
        Reply::decode_all(&Reply::StatesEnd.encode(), |_| count += 1);
        assert_eq!(count, 1);
    }

    #[test]
    fn batches_fit_messages_and_lose_nothing() {
        let names: Vec<String> = (0..1000).map(|n| format!("service-{n}")).collect();
        let requests = batches(names.clone(), Request::Add);
        assert!(requests.iter().all(|r| r.encode().len() <= crate::sys::socket::MAX_MESSAGE));
        let back: Vec<String> = requests
            .into_iter()
            .flat_map(|r| if let Request::Add(names) = r { names } else { Vec::new() })
            .collect();
        assert_eq!(back, names);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes: Vec<u8>) {
            let _ = Request::decode_all(&bytes);
            Reply::decode_all(&bytes, drop);
            let _ = Request::decode_all(&[&b"*"[..], &bytes].concat());
        }
    }
}
