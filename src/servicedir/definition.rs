//! What the files of a service directory say: `timeout-kill`, `notification-fd`, `down-signal` …
//!
//! s6 reads each file at the moment it matters, so an edit counts from the next start or command on. The same
//! holds here, without looking for a dozen files that are not there each time: [`Reader`] lists the directory
//! when its modification time has changed and otherwise reads again only the files that it saw.

use super::feature::{self, Faulty, Features};
use crate::process::Signal;
use crate::sys::{Errno, clock};
use rustix::fs::{Mode, OFlags, RawDir, fstat, openat};
use std::cell::RefCell;
use std::fmt;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

/// The rules of one service, defaults where there is no file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// There is a `run`.
    pub run: bool,
    /// There is a `finish`.
    pub finish: bool,
    /// There is a `down`: it is not started on its own. Counts when supervision begins.
    pub down: bool,
    /// `notification-fd`: where run says that it is ready.
    pub notification_fd: Option<i32>,
    /// `lock-fd`: the number under which run holds a lock on `supervise/service-lock`.
    pub lock_fd: Option<i32>,
    /// `timeout-kill`: SIGKILL this long after a stop was asked for. None: never.
    pub timeout_kill: Option<Duration>,
    /// `timeout-finish`: SIGKILL to a finish script that takes longer. None: never.
    pub timeout_finish: Option<Duration>,
    /// `max-death-tally`: so many deaths are remembered.
    pub max_death_tally: usize,
    /// `down-signal`.
    pub down_signal: Signal,
    /// `reload-signal`.
    pub reload_signal: Signal,
    /// `flag-timeout-killpg`: SIGKILL goes to the whole process group.
    pub kill_group: bool,
    /// `kill-mode` is `tree`: whoever descends from run is stopped with it, and killed when it has ended.
    pub kill_tree: bool,
    /// A file of ours that does not say what it has to: run is not started.
    pub faulty: Option<Faulty>,
    /// `flag-newpidns`: run is pid 1 of a namespace of its own.
    pub new_pid_namespace: bool,
    /// `producer-for`: the service whose input is run's output (of rc; a `log` directory is another way).
    pub producer_for: Option<String>,
    /// `consumer-for`: run's input is the output of other services.
    pub consumer: bool,
    /// What files of ours say, if there is one.
    pub features: Option<Box<Features>>,
}

impl Default for Definition {
    fn default() -> Definition {
        Definition {
            run: false,
            finish: false,
            down: false,
            notification_fd: None,
            lock_fd: None,
            timeout_kill: None,
            timeout_finish: Some(Duration::from_millis(5000)),
            max_death_tally: 100,
            down_signal: Signal::TERM,
            reload_signal: Signal::HUP,
            kill_group: false,
            kill_tree: false,
            faulty: None,
            new_pid_namespace: false,
            producer_for: None,
            consumer: false,
            features: None,
        }
    }
}

/// The files we know, by the bit that says we saw one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum File {
    Run,
    Finish,
    Down,
    NotificationFd,
    LockFd,
    TimeoutKill,
    TimeoutFinish,
    MaxDeathTally,
    DownSignal,
    ReloadSignal,
    FlagTimeoutKillpg,
    FlagNewpidns,
    KillMode,
    ProducerFor,
    ConsumerFor,
}

const FILES: [(&str, File); 15] = [
    ("run", File::Run),
    ("finish", File::Finish),
    ("down", File::Down),
    ("notification-fd", File::NotificationFd),
    ("lock-fd", File::LockFd),
    ("timeout-kill", File::TimeoutKill),
    ("timeout-finish", File::TimeoutFinish),
    ("max-death-tally", File::MaxDeathTally),
    ("down-signal", File::DownSignal),
    ("reload-signal", File::ReloadSignal),
    ("flag-timeout-killpg", File::FlagTimeoutKillpg),
    ("flag-newpidns", File::FlagNewpidns),
    ("kill-mode", File::KillMode),
    ("producer-for", File::ProducerFor),
    ("consumer-for", File::ConsumerFor),
];

/// A file whose content means nothing; its default is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalid(pub &'static str);

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid {}: using the default", self.0)
    }
}

/// Reads a definition again and again, with as little work as can be.
#[derive(Debug, Default)]
pub struct Reader {
    current: Rc<Definition>,
    present: u32,
    /// The same of [`feature::names`].
    ours: u32,
    /// Modification time of the directory at the last listing, if that was long enough after it.
    listed: Option<(i64, i64)>,
    complained: u32,
    /// Why the last reading came to nothing.
    unread: Option<Errno>,
}

/// How long a service has to end, once it is told to, whose directory is deleted and that had no
/// `timeout-kill`: nobody can ask for it any more.
pub const LAST_GRACE: Duration = Duration::from_secs(10);

/// A directory modified less than this before it was listed may be modified again without its time showing
/// it: file systems count in ticks of 4 to 10 ms.
const SETTLED: Duration = Duration::from_millis(50);

impl Reader {
    /// Reads what has changed. New complaints go to `complain`; each is made once until its file is good. What
    /// cannot be read because something is exhausted stays as it was.
    pub fn read(&mut self, dir: impl AsFd, complain: impl FnMut(Invalid)) -> &Definition {
        let st = fstat(&dir).ok();
        if st.is_some_and(|st| st.st_nlink == 0) {
            self.lose();
            return &self.current;
        }
        self.unread = None;
        let time = st.map(|st| (st.st_mtime, st.st_mtime_nsec as i64));
        if time.is_none() || time != self.listed {
            match list(&dir) {
                Ok((present, ours)) => {
                    let settled = time.is_some_and(|(secs, nanos)| {
                        let modified = crate::time::Tai64n { secs, nanos: nanos as u32 };
                        modified.age(clock::wall()) > SETTLED
                    });
                    (self.present, self.ours) = (present, ours);
                    self.listed = time.filter(|_| settled);
                }
                Err(e) => self.unread = Some(e),
            }
        }
        if self.unread.is_none()
            && let Err(e) = self.read_files(dir, complain)
        {
            self.unread = Some(e);
        }
        &self.current
    }

    /// Why the last reading came to nothing.
    pub fn unread(&self) -> Option<Errno> {
        self.unread
    }

    /// The directory is deleted: what was known stays, but a stop has a deadline from now on.
    pub fn lose(&mut self) {
        let mut left = Definition { run: false, finish: false, ..(*self.current).clone() };
        left.timeout_kill.get_or_insert(LAST_GRACE);
        self.current = shared(left);
        self.unread = None;
    }

    /// What was read last.
    pub fn last(&self) -> &Definition {
        &self.current
    }

    fn read_files(&mut self, dir: impl AsFd, mut complain: impl FnMut(Invalid)) -> Result<(), Errno> {
        let mut new = Definition::default();
        for (name, file) in FILES.iter().filter(|(_, file)| self.present >> *file as u32 & 1 != 0) {
            let bit = 1 << *file as u32;
            if new.take(&dir, name, *file)? {
                self.complained &= !bit;
            } else if self.complained & bit == 0 {
                self.complained |= bit;
                complain(Invalid(name));
            }
        }
        if self.ours != 0 {
            new.take_features(dir, self.ours)?;
            // Whoever leaves its children behind is not stopped alone, unless that is said.
            new.kill_tree |= new.is_forking() && self.present >> File::KillMode as u32 & 1 == 0;
        }
        if *self.current != new {
            self.current = shared(new);
        }
        Ok(())
    }
}

/// Most services say nothing special: a definition that is equal to the last new one is the same in memory.
fn shared(definition: Definition) -> Rc<Definition> {
    thread_local! {
        static LAST: RefCell<Rc<Definition>> = RefCell::default();
    }
    LAST.with_borrow_mut(|last| {
        if **last != definition {
            *last = Rc::new(definition);
        }
        Rc::clone(last)
    })
}

/// Files of which one makes that a service can be ready, and not only up.
pub const READINESS: [&str; 4] = ["notification-fd", "check", "forking", "notify-socket"];

/// Whether the service in `dir` can be ready, and not only up.
pub fn tells_ready(dir: impl AsFd) -> bool {
    use rustix::fs::{Access, AtFlags, accessat};
    READINESS.iter().any(|file| accessat(&dir, *file, Access::EXISTS, AtFlags::empty()).is_ok())
}

impl Definition {
    /// Whether it can be ready, and not only up.
    pub fn tells_ready(&self) -> bool {
        self.says_ready() || self.is_forking()
    }

    /// Whether it says so itself, or is asked: then that it is in the background is not enough.
    pub fn says_ready(&self) -> bool {
        let asked = |features: &Features| features.check || features.notify_socket;
        self.notification_fd.is_some() || self.features.as_deref().is_some_and(asked)
    }

    /// Whether run puts itself in the background.
    pub fn is_forking(&self) -> bool {
        self.features.as_ref().is_some_and(|features| features.forking)
    }

    /// Reads one file into its place; false if its content means nothing. An error says that something is
    /// exhausted: nothing is known of the file.
    fn take(&mut self, dir: impl AsFd, name: &str, file: File) -> Result<bool, Errno> {
        let head = || match try_read_head(&dir, name) {
            Err(e) if crate::diag::is_exhausted(e) => Err(e),
            read => Ok(read.ok()),
        };
        match file {
            File::Run => self.run = true,
            File::Finish => self.finish = true,
            File::Down => self.down = true,
            File::FlagTimeoutKillpg => self.kill_group = true,
            File::FlagNewpidns => self.new_pid_namespace = true,
            File::ConsumerFor => self.consumer = true,
            File::KillMode => match parse_kill_mode(&head()?.unwrap_or_default()) {
                Ok(tree) => self.kill_tree = tree,
                Err(why) => self.faulty = Some(Faulty { file: "kill-mode", why }),
            },
            File::ProducerFor => {
                let text = match super::read_file(&dir, name) {
                    Err(e) if crate::diag::is_exhausted(e) => return Err(e),
                    text => text.unwrap_or_default(),
                };
                let name = String::from_utf8_lossy(text.strip_suffix(b"\n").unwrap_or(&text)).into_owned();
                self.producer_for = Some(name).filter(|name| !name.is_empty());
                return Ok(self.producer_for.is_some());
            }
            File::DownSignal | File::ReloadSignal => {
                let Some(signal) = head()?.and_then(|text| parse_signal(&text)) else { return Ok(false) };
                match file {
                    File::DownSignal => self.down_signal = signal,
                    _ => self.reload_signal = signal,
                }
            }
            _ => {
                let Some(number) = head()?.and_then(|text| parse_uint(&text)) else { return Ok(false) };
                let limit = (number > 0).then(|| Duration::from_millis(number.into()));
                match file {
                    File::TimeoutKill => self.timeout_kill = limit,
                    File::TimeoutFinish => self.timeout_finish = limit,
                    File::MaxDeathTally => self.max_death_tally = number as usize,
                    File::NotificationFd => self.notification_fd = Some(number as i32),
                    _ => self.lock_fd = Some(number as i32),
                }
                let is_fd = matches!(file, File::NotificationFd | File::LockFd);
                return Ok(!is_fd || self.usable_fd(file, number));
            }
        }
        Ok(true)
    }

    /// Reads the files of ours that are there. The first that is faulty is the one that is told of.
    fn take_features(&mut self, dir: impl AsFd, ours: u32) -> Result<(), Errno> {
        let mut features = Box::new(Features::default());
        for (bit, name) in feature::names().enumerate() {
            if ours >> bit & 1 == 0 {
                continue;
            }
            let bytes = match feature::VALUES.contains(&name) {
                false => Ok(Vec::new()),
                true => match try_read_at_most::<{ feature::MOST }>(&dir, name) {
                    Err(e) if crate::diag::is_exhausted(e) => return Err(e),
                    // It was removed since it was listed.
                    Err(Errno::NOENT) => continue,
                    read => read,
                },
            };
            let taken = match bytes {
                Ok(_) if feature::PROGRAMS.contains(&name) && !is_executable(&dir, name) => {
                    Err(Faulty { file: name, why: "is not executable (chmod +x it)".to_owned() })
                }
                Ok(bytes) => features.take(name, &bytes),
                Err(e) => {
                    Err(Faulty { file: name, why: format!("unable to read it: {}", crate::diag::reason(e)) })
                }
            };
            if let Err(faulty) = taken {
                self.faulty.get_or_insert(faulty);
            }
        }
        if let Some(faulty) = features.contradiction(self.new_pid_namespace) {
            self.faulty.get_or_insert(faulty);
        }
        self.features = Some(features);
        Ok(())
    }

    /// A descriptor number must be one that a process can have.
    fn usable_fd(&mut self, file: File, number: u32) -> bool {
        let usable = number < 1 << 20;
        if !usable {
            match file {
                File::NotificationFd => self.notification_fd = None,
                _ => self.lock_fd = None,
            }
        }
        usable
    }
}

/// Whether the mode of a file says so, whatever its file system does. What cannot be looked at is not judged.
fn is_executable(dir: impl AsFd, name: &str) -> bool {
    let st = rustix::fs::statat(dir, name, rustix::fs::AtFlags::empty());
    st.is_ok_and(|st| st.st_mode & 0o111 != 0) || st.is_err()
}

/// Which of the files that we know are there, and which of ours.
fn list(dir: impl AsFd) -> Result<(u32, u32), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = openat(dir, c".", flags, Mode::empty())?;
    let mut space = [MaybeUninit::uninit(); 2048];
    let mut entries = RawDir::new(&dir, &mut space);
    let (mut present, mut ours) = (0, 0);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if let Some((_, file)) = FILES.iter().find(|(known, _)| known.as_bytes() == name) {
            present |= 1 << *file as u32;
        } else if let Some(bit) = feature::names().position(|known| known.as_bytes() == name) {
            ours |= 1 << bit;
        }
    }
    Ok((present, ours))
}

/// The first bytes of a small file; `None` if it cannot be read. Never waits: a FIFO in place of a file
/// reads as empty.
pub fn read_head(dir: impl AsFd, name: &str) -> Option<Vec<u8>> {
    try_read_head(dir, name).ok()
}

fn try_read_head(dir: impl AsFd, name: &str) -> Result<Vec<u8>, Errno> {
    try_read_at_most::<64>(dir, name)
}

fn try_read_at_most<const N: usize>(dir: impl AsFd, name: &str) -> Result<Vec<u8>, Errno> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = openat(dir, name, flags, Mode::empty())?;
    let mut buf = [0u8; N];
    let n = rustix::io::read(&fd, &mut buf)?;
    Ok(buf[..n].to_vec())
}

/// The number in a scalar file, as s6 reads it: of the first 11 bytes, what is before the first newline must
/// be decimal digits and nothing else, and fit 32 bits.
pub fn parse_uint(text: &[u8]) -> Option<u32> {
    let text = &text[..text.len().min(11)];
    let line = text.split(|&b| b == b'\n').next()?;
    if line.is_empty() || !line.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(line).ok()?.parse().ok()
}

/// The signal in `down-signal`: at most 15 bytes to the first newline.
pub fn parse_signal(text: &[u8]) -> Option<Signal> {
    let text = &text[..text.len().min(15)];
    let line = text.split(|&b| b == b'\n').next()?;
    std::str::from_utf8(line).ok()?.parse().ok()
}

/// Whether `kill-mode` says `tree`. One word and at most one newline after it; or what is wrong with it.
pub fn parse_kill_mode(text: &[u8]) -> Result<bool, String> {
    match text.strip_suffix(b"\n").unwrap_or(text) {
        b"process" => Ok(false),
        b"tree" => Ok(true),
        other => Err(format!("{:?} is none of: process, tree", String::from_utf8_lossy(other))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kill_mode_is_one_of_two_words() {
        assert_eq!(parse_kill_mode(b"tree\n"), Ok(true));
        assert_eq!(parse_kill_mode(b"process"), Ok(false));
        for bad in ["", "\n", "Tree", "tree ", "trees", "tree\nprocess", "1"] {
            assert!(parse_kill_mode(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn numbers_as_s6_reads_them() {
        assert_eq!(parse_uint(b"3000"), Some(3000));
        assert_eq!(parse_uint(b"3\nrubbish"), Some(3));
        assert_eq!(parse_uint(b"4294967295\n"), Some(u32::MAX));
        for bad in [&b"3x"[..], b"3 ", b" 3", b"-3", b"+3", b"", b"\n", b"4294967296", b"12345678901"] {
            assert_eq!(parse_uint(bad), None, "{:?}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn signals_as_s6_reads_them() {
        assert_eq!(parse_signal(b"SIGINT\n"), Some(Signal::INT));
        assert_eq!(parse_signal(b"quit"), Some(Signal::QUIT));
        assert_eq!(parse_signal(b"2\nx"), Some(Signal::INT));
        assert_eq!(parse_signal(b"SIGINT \n"), None);
        assert_eq!(parse_signal(b""), None);
    }
}
