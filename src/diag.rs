//! Messages and exit codes: every program says things the same way, and never dies of saying them.
//!
//! A message is one line on descriptor 2, `program: fatal: unable to X: reason`, written with one `write`,
//! so that lines of several programs do not mix, and any failure to write it is ignored: `eprintln!` would
//! panic. Exit codes say who must act.
#![forbid(unsafe_code)]

use crate::ordered::Map;
use rustix::io::Errno;
use std::cell::RefCell;
use std::fmt::{self, Write as _};

/// Exit codes that more than one program uses.
pub mod code {
    /// Done.
    pub const OK: u8 = 0;
    /// "No", or some of several failed.
    pub const NO: u8 = 1;
    /// Timed out.
    pub const TIMED_OUT: u8 = 99;
    /// The caller asked for something that cannot be.
    pub const USAGE: u8 = 100;
    /// Our bug.
    pub const BUG: u8 = 101;
    /// Not supervised.
    pub const NOT_SUPERVISED: u8 = 102;
    /// The system refused.
    pub const SYSTEM: u8 = 111;
    /// A program to execute is there but cannot be executed.
    pub const NOT_EXECUTABLE: u8 = 126;
    /// A program to execute is not there.
    pub const NOT_FOUND: u8 = 127;
}

/// What went wrong, as the finished sentence, and the exit code it stands for. One pointer: it travels through
/// every result there is, in a register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(Box<Told>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    message: String,
    code: u8,
    errno: Option<Errno>,
}

/// Results whose error can be shown as it is.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Any sentence with any code.
    pub fn new(code: u8, message: impl Into<String>) -> Error {
        Error::told(message.into(), code, None)
    }

    #[cold]
    #[inline(never)]
    fn told(message: String, code: u8, errno: Option<Errno>) -> Error {
        Error(Box::new(Told { message, code, errno }))
    }

    /// `unable to DOING: REASON`, the system's fault.
    pub fn unable(doing: impl fmt::Display, errno: Errno) -> Error {
        let message = format!("unable to {doing}: {}", reason(errno));
        Error::told(message, code::SYSTEM, Some(errno))
    }

    /// The caller's fault.
    pub fn usage(message: impl Into<String>) -> Error {
        Error::new(code::USAGE, message)
    }

    /// The exit code of a program that ends with this.
    pub fn code(&self) -> u8 {
        self.0.code
    }

    /// The sentence.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Why the system refused, if it did.
    pub fn errno(&self) -> Option<Errno> {
        self.0.errno
    }

    /// The same with another code.
    pub fn with_code(mut self, code: u8) -> Error {
        self.0.code = code;
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Error {}

impl From<lexopt::Error> for Error {
    fn from(e: lexopt::Error) -> Error {
        Error::usage(e.to_string())
    }
}

/// Gives a failed system call its sentence: `open(..).unable("open supervise/lock")?`.
pub trait Unable<T> {
    /// The sentence is "unable to DOING: reason".
    fn unable(self, doing: impl fmt::Display) -> Result<T>;
}

impl<T> Unable<T> for std::result::Result<T, Errno> {
    fn unable(self, doing: impl fmt::Display) -> Result<T> {
        self.map_err(|errno| Error::unable(doing, errno))
    }
}

impl<T> Unable<T> for std::io::Result<T> {
    fn unable(self, doing: impl fmt::Display) -> Result<T> {
        self.map_err(|e| Error::unable(doing, Errno::from_io_error(&e).unwrap_or(Errno::IO)))
    }
}

/// "Permission denied", without a number.
pub fn reason(errno: Errno) -> &'static str {
    nix::errno::Errno::from_raw(errno.raw_os_error()).desc()
}

/// Whether something of the machine's is exhausted, which is nobody's own fault and hits everybody.
pub fn is_exhausted(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::AGAIN
            | Errno::NOMEM
            | Errno::NOBUFS
            | Errno::MFILE
            | Errno::NFILE
            | Errno::NOSPC
            | Errno::DQUOT
            | Errno::ROFS
    )
}

/// Whether trying again later may help: something is exhausted, nothing is wrong.
pub fn is_temporary(errno: Errno) -> bool {
    is_exhausted(errno) || errno == Errno::TXTBSY
}

/// Says what cannot be done once while it lasts, and when it is over. For a loop that tries again and again.
#[derive(Default)]
pub struct Trouble(Map<&'static str, Error>);

impl Trouble {
    /// `what` could not be done, and is tried again as `again` says.
    pub fn note(&mut self, what: &'static str, error: Error, again: &str) {
        if self.0.get(what) != Some(&error) {
            warn(format_args!("{error} ({again})"));
            self.0.insert(what, error);
        }
    }

    /// It was done.
    pub fn over(&mut self, what: &'static str) {
        if let Some(error) = self.0.remove(what) {
            info(format_args!("over: {error}"));
        }
    }
}

thread_local! {
    static PROGRAM: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Sets the name that messages begin with.
pub fn set_program(name: impl Into<String>) {
    PROGRAM.with(|p| *p.borrow_mut() = name.into());
}

/// The name that messages begin with.
pub fn program() -> String {
    PROGRAM.with(|p| p.borrow().clone())
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The program ends.
    Fatal,
    /// Something is not as it should be; the program goes on.
    Warning,
    /// Worth knowing.
    Info,
}

/// Writes one message.
pub fn say(level: Level, text: impl fmt::Display) {
    say_as(&program(), level, text);
}

/// Writes one message in the name of somebody else: `supervise web`, `rc`.
pub fn say_as(who: &str, level: Level, text: impl fmt::Display) {
    let level = match level {
        Level::Fatal => "fatal",
        Level::Warning => "warning",
        Level::Info => "info",
    };
    let mut line = String::with_capacity(160);
    let _ = writeln!(line, "{who}: {level}: {text}");
    put(2, line.as_bytes());
}

/// Writes a warning.
pub fn warn(text: impl fmt::Display) {
    say(Level::Warning, text);
}

/// Writes an information.
pub fn info(text: impl fmt::Display) {
    say(Level::Info, text);
}

/// Writes all of `bytes` to descriptor 1 or 2, as far as it can be written. Whether it could is for callers
/// to whom the output is the job.
pub fn put(fd: i32, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        let wrote = match fd {
            1 => rustix::io::write(rustix::stdio::stdout(), bytes),
            _ => rustix::io::write(rustix::stdio::stderr(), bytes),
        };
        match wrote {
            Ok(n) if n > 0 => bytes = &bytes[n..],
            Err(Errno::INTR) => {}
            _ => return false,
        }
    }
    true
}

/// Writes the output that is a program's job; not being able to is an error.
pub fn print(text: impl AsRef<[u8]>) -> Result<u8> {
    if put(1, text.as_ref()) {
        Ok(code::OK)
    } else {
        Err(Error::new(code::SYSTEM, "unable to write to standard output"))
    }
}

/// The common end of a program: its code, or its error said and that error's code.
pub fn exit_code(outcome: Result<u8>) -> u8 {
    match outcome {
        Ok(code) => code,
        Err(e) => {
            say(Level::Fatal, &e);
            e.code()
        }
    }
}
