//! What the services of a chaos run consist of: the test program itself, called `run` or `finish` by a link in
//! a service directory, or `oneshot` by an argument.
//!
//! Whatever it does it writes down first, where no fault reaches: that it began, how it is about to end, how it
//! was told that a run ended. So what the supervisor says can be held against what was.

use perennial::process::{Pid, Signal};
use perennial::sys::map::{Shared, read_into};
use perennial::sys::signal::{SignalFd, Target, allow, block_all, send, set_default};
use perennial::sys::wait;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FlockOperation, fcntl_lock};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// The configuration in a service directory (rc copies `data`): kind, number, directory of the records.
pub const CONFIG: &str = "data/chaos";

/// Bytes of a log line, newline included: a divisor of a page, so that no read ends inside of one.
pub const LINE: usize = 32;

/// Room for a logger's lines.
pub const LOG_BYTES: usize = 16 << 20;

/// Room for the counts of a service: how often it began, and how many lines each of its lives has written.
pub const COUNT_BYTES: usize = 1 << 16;

/// Where the counts of lines begin, in words.
pub const FIRST_COUNT: usize = 16;

/// How long a logged service waits between lines.
const LINE_PAUSE: Duration = Duration::from_millis(10);

/// What kind of service it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Runs until it is told to end.
    Plain,
    /// Ends by itself, soon.
    Fast,
    /// Its finish script takes its time.
    SlowFinish,
    /// Tells that it is ready, after a while.
    Notifying,
    /// Never tells.
    Mute,
    /// Writes lines to a logger.
    Logged,
    /// Reads them.
    Logger,
    /// Ignores TERM.
    Stubborn,
    /// Has children, which it leaves behind.
    Forker,
    /// Ends soon, and remembers only so many deaths.
    Tally,
}

impl Kind {
    /// Those that are made directly; a logger comes with its service.
    pub const ALL: [Kind; 9] = [
        Kind::Plain,
        Kind::Fast,
        Kind::SlowFinish,
        Kind::Notifying,
        Kind::Mute,
        Kind::Logged,
        Kind::Stubborn,
        Kind::Forker,
        Kind::Tally,
    ];

    /// It does not stay up.
    pub fn is_restless(self) -> bool {
        matches!(self, Kind::Fast | Kind::Tally)
    }

    fn parse(text: &str) -> Option<Kind> {
        Kind::ALL.into_iter().chain([Kind::Logger]).find(|kind| format!("{kind:?}") == text)
    }

    /// Whether it has a finish script.
    pub fn finishes(self) -> bool {
        !matches!(self, Kind::Plain | Kind::Mute)
    }
}

/// Pseudo-random numbers (splitmix64): the same from the same seed.
pub struct Random(pub u64);

impl Random {
    /// The next.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }

    /// So many milliseconds, or fewer.
    pub fn millis(&mut self, most: u64) -> Duration {
        Duration::from_millis(self.below(most + 1))
    }
}

/// The records of one service.
struct Records {
    dir: PathBuf,
    kind: Kind,
    seed: u64,
    file: File,
}

impl Records {
    fn open(config: &str) -> Records {
        let words: Vec<&str> = config.split_whitespace().collect();
        let dir = PathBuf::from(words[2]);
        let file = OpenOptions::new().append(true).create(true).open(dir.join("records")).expect("records");
        Records {
            kind: Kind::parse(words[0]).expect("a kind"),
            seed: words[1].parse().expect("a seed"),
            dir,
            file,
        }
    }

    /// One line, in one write.
    fn note(&self, line: &str) {
        (&self.file).write_all(format!("{line}\n").as_bytes()).expect("write records");
    }

    fn map(&self, name: &str, bytes: usize) -> Shared {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(self.dir.join(name));
        Shared::file(file.expect(name), 0, bytes).expect("map")
    }
}

/// Plays a role, if the test program was called for one.
pub fn role() -> Option<ExitCode> {
    let words: Vec<String> = std::env::args().collect();
    let code = match words[0].rsplit('/').next()? {
        "run" => run(),
        "finish" => finish(&words),
        // rc copies what `run` is, and this program is large: there it is a script.
        _ if words.get(1)? == "run" => run(),
        _ if words.get(1)? == "finish" => finish(&words[1..]),
        _ if words.get(1)? == "oneshot" => oneshot(&words[2], &words[3]),
        _ => return None,
    };
    Some(ExitCode::from(code))
}

/// `None`: the service's directory was deleted before we could look.
fn own_config() -> Option<Records> {
    Some(Records::open(&fs::read_to_string(CONFIG).ok()?))
}

/// Takes the lock that only one may have, or writes down that there are two of us.
fn lock(records: &Records) -> File {
    let path = records.dir.join("lock");
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).expect("lock");
    let me = std::process::id();
    // A lock of this kind is the process's own: it is not inherited, and is gone before its parent can know
    // that it died.
    if fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut holder = String::new();
        let _ = file.read_to_string(&mut holder);
        records.note(&format!("VIOLATION second-instance {me} beside {}", holder.trim()));
        fcntl_lock(&file, FlockOperation::LockExclusive).expect("lock");
    }
    file.set_len(0).expect("lock");
    file.write_all(format!("{me}\n").as_bytes()).expect("lock");
    file
}

fn run() -> u8 {
    let Some(records) = own_config() else { return 0 };
    let signals = SignalFd::open(block_all()).expect("signalfd");
    let lock = lock(&records);
    let counts = records.map("counts", COUNT_BYTES);
    let life = counts[0].fetch_add(1, Ordering::Relaxed) + 1;
    let me = std::process::id();
    records.note(&format!("start {life} {me}"));
    let mut random = Random(records.seed << 32 | u64::from(life));
    let end = match records.kind {
        Kind::Logger => log(&records, &signals, &mut random),
        _ => live(&records, &signals, life, &counts, &mut random),
    };
    let code = match end {
        // Dies of the signal that it got, as most programs do.
        End::Signal(signal) => {
            records.note(&format!("end {life} {me} signal {}", signal.0));
            // A shell that starts us in the background has it ignored.
            set_default(signal);
            let _ = send(Target::Process(Pid::own()), signal);
            allow(signal);
            101
        }
        End::Code(code) => {
            records.note(&format!("end {life} {me} code {code}"));
            code
        }
    };
    drop(lock);
    code
}

enum End {
    Code(u8),
    Signal(Signal),
}

/// An exit code that says something: not 255, which is what nobody knows.
fn some_code(random: &mut Random) -> End {
    End::Code(random.below(255) as u8)
}

fn on_signal(signal: Signal, kind: Kind, random: &mut Random) -> Option<End> {
    match signal {
        Signal::TERM if kind == Kind::Stubborn => None,
        Signal::TERM | Signal::INT | Signal::HUP if random.below(3) == 0 => Some(End::Signal(signal)),
        Signal::TERM | Signal::INT | Signal::HUP | Signal::QUIT | Signal::ALRM => Some(some_code(random)),
        _ => None,
    }
}

/// All kinds but loggers: wait for a signal or the end of our time, with a line now and then.
fn live(records: &Records, signals: &SignalFd, life: u32, counts: &Shared, random: &mut Random) -> End {
    let begin = Instant::now();
    let ends = records.kind.is_restless().then(|| begin + random.millis(400));
    let mut ready = (records.kind == Kind::Notifying).then(|| begin + random.millis(400));
    let name = records.dir.file_name().expect("a name").to_string_lossy().into_owned();
    let mut next_line = (records.kind == Kind::Logged).then_some(begin);
    let (mut line, out) = (0u32, rustix::stdio::stdout());
    if records.kind == Kind::Forker {
        for _ in 0..random.below(3) {
            let mut child = Command::new("sleep");
            child.arg("1").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let _ = child.spawn();
        }
    }
    loop {
        while let Some(signal) = signals.next() {
            while signal == Signal::CHLD && wait::reap().is_some() {}
            if let Some(end) = on_signal(signal, records.kind, random) {
                return end;
            }
        }
        let now = Instant::now();
        if ends.is_some_and(|at| at <= now) {
            return some_code(random);
        }
        if ready.take_if(|at| *at <= now).is_some() {
            records.note(&format!("ready {life}"));
            // In two pieces, as some do.
            let mut fd =
                File::options().write(true).open("/proc/self/fd/5").expect("notification descriptor");
            fd.write_all(b"so ").and_then(|()| fd.write_all(b"far\n")).expect("notify");
        }
        if next_line.is_some_and(|at| at <= now) {
            let text = format!("{name} {life} {line}");
            let text = format!("{text:<width$}\n", width = LINE - 1);
            let room = poll(&mut [PollFd::new(&out, PollFlags::OUT)], Some(&Default::default()));
            if room == Ok(1) {
                match rustix::io::write(out, text.as_bytes()) {
                    Ok(LINE) => line += 1,
                    other => records.note(&format!("VIOLATION write-to-logger {life} {line}: {other:?}")),
                }
                if let Some(count) = counts.get(FIRST_COUNT + life as usize) {
                    count.store(line, Ordering::Relaxed);
                }
            }
            next_line = Some(now + LINE_PAUSE);
        }
        let next = [ends, ready, next_line].into_iter().flatten().min();
        wait_for(signals, None, next);
    }
}

/// Waits for a signal, for input, or for a moment.
fn wait_for(signals: &SignalFd, input: Option<std::os::fd::BorrowedFd<'_>>, until: Option<Instant>) {
    let timeout = until.map(|at| {
        let left = at.saturating_duration_since(Instant::now());
        rustix::time::Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() }
    });
    let mut fds = vec![PollFd::new(signals, PollFlags::IN)];
    fds.extend(input.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
    let _ = poll(&mut fds, timeout.as_ref());
}

/// A logger: the kernel copies what is in the pipe straight into the file, so that a logger that is killed has
/// nothing in hand.
fn log(records: &Records, signals: &SignalFd, random: &mut Random) -> End {
    let log = records.map("log", LOG_BYTES);
    let words = LINE / 4;
    let mut at =
        log.chunks(words).position(|line| line[0].load(Ordering::Relaxed) == 0).expect("room") * words;
    let input = rustix::stdio::stdin();
    loop {
        while let Some(signal) = signals.next() {
            if let Some(end) = on_signal(signal, records.kind, random) {
                return end;
            }
        }
        wait_for(signals, Some(input), None);
        if poll(&mut [PollFd::new(&input, PollFlags::IN)], Some(&Default::default())) != Ok(1) {
            continue;
        }
        let end = (at + 1024).min(log.len());
        match read_into(input, &log[at..end]) {
            Ok(0) => {
                records.note("eof");
                return End::Code(0);
            }
            Ok(n) if n % LINE == 0 => at += n / 4,
            other => {
                records.note(&format!("VIOLATION torn-line: read {other:?}"));
                return End::Code(1);
            }
        }
    }
}

/// `finish CODE SIGNAL NAME PGID`
fn finish(words: &[String]) -> u8 {
    let Some(records) = own_config() else { return 0 };
    records.note(&format!("finish {} {} {}", words[4], words[1], words[2]));
    if records.kind == Kind::SlowFinish {
        let pid: u64 = words[4].parse().expect("a pid");
        std::thread::sleep(Random(pid).millis(1500));
    }
    0
}

/// A oneshot's script: takes a while, and never fails. Run twice at a time is once too often.
fn oneshot(dir: &str, step: &str) -> u8 {
    let records = Records::open(&format!("Plain 0 {dir}"));
    let lock = lock(&records);
    records.note(&format!("{step} {}", std::process::id()));
    std::thread::sleep(Random(std::process::id().into()).millis(200));
    drop(lock);
    0
}

/// The lines of a log, as `(name, life, number)`; `Err` is a line that is none.
pub fn log_lines(dir: &Path) -> Vec<Result<(String, u32, u32), String>> {
    let bytes = fs::read(dir.join("log")).unwrap_or_default();
    let lines = bytes.chunks(LINE).take_while(|line| line[0] != 0);
    lines
        .map(|line| {
            let text = String::from_utf8_lossy(line).into_owned();
            let words: Vec<&str> = text.split_whitespace().collect();
            match words[..] {
                [name, life, number] if text.ends_with('\n') => life
                    .parse()
                    .ok()
                    .zip(number.parse().ok())
                    .map(|(life, number)| (name.to_owned(), life, number)),
                _ => None,
            }
            .ok_or(text)
        })
        .collect()
}
