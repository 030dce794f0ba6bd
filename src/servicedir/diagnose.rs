//! Why a script cannot be executed, in one line.
//!
//! "No such file or directory" for a script that is there means that its interpreter is not; a carriage
//! return at the end of `#!/bin/sh` makes the interpreter one that nobody has. The kernel does not say so.

use crate::diag::reason;
use crate::sys::Errno;
use rustix::fs::{
    Access, AtFlags, CWD, FileType, Mode, OFlags, StatVfsMountFlags, accessat, fstat, fstatvfs, openat,
};
use std::os::fd::AsFd;

/// What is wrong with a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is not there.
    Missing,
    /// It is a directory, a FIFO …
    NotAFile,
    /// It may not be executed: no execute bit.
    NotExecutable,
    /// The file system that it is on lets nothing be executed.
    NoExec,
    /// It has no `#!` and is no program.
    NoInterpreter,
    /// It begins with `#!`, and nothing follows.
    NothingAfterHashbang,
    /// It begins with a byte order mark, so not with `#!`.
    ByteOrderMark,
    /// It is empty.
    Empty,
    /// Its first line ends with a carriage return.
    CarriageReturn,
    /// The interpreter it names is not there.
    InterpreterMissing(String),
    /// The interpreter it names may not be executed.
    InterpreterNotExecutable(String),
    /// It is a program whose loader is not there: made for another C library, or another distribution.
    LoaderMissing(String),
    /// None of these; the kernel's word for it.
    Other(Errno),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Fault::Missing => write!(f, "no such file"),
            Fault::NotAFile => write!(f, "not a regular file"),
            Fault::NotExecutable => write!(f, "not executable (chmod +x it)"),
            Fault::NoExec => {
                write!(f, "its file system is mounted noexec (mount it without that: --tmpfs /run:exec)")
            }
            Fault::NoInterpreter => write!(f, "no interpreter: the first line must begin with #!"),
            Fault::NothingAfterHashbang => write!(f, "the first line names no interpreter"),
            Fault::ByteOrderMark => {
                write!(f, "the file begins with a byte order mark (save it as UTF-8 without one)")
            }
            Fault::Empty => write!(f, "the file is empty"),
            Fault::CarriageReturn => {
                write!(f, "the first line ends with a carriage return (save it with LF line ends, not CR LF)")
            }
            Fault::InterpreterMissing(name) => write!(f, "interpreter {name} not found"),
            Fault::InterpreterNotExecutable(name) => write!(f, "interpreter {name} is not executable"),
            Fault::LoaderMissing(name) => {
                write!(f, "its loader {name} is not here (it was built for another C library)")
            }
            Fault::Other(errno) => f.write_str(reason(*errno)),
        }
    }
}

/// Looks at the script `path` (relative to `dir`), that failed to be executed with `errno`.
pub fn exec_failure(dir: impl AsFd, path: &str, errno: Errno) -> Fault {
    match errno {
        Errno::NOENT | Errno::ACCESS | Errno::NOEXEC | Errno::INVAL | Errno::PERM => {
            script(dir, path, true).unwrap_or(Fault::Other(errno))
        }
        _ => Fault::Other(errno),
    }
}

/// Looks for a fault of the script `path` (relative to `dir`) before anybody executes it. With `executable`
/// its execute bit counts.
pub fn script(dir: impl AsFd, path: &str, executable: bool) -> Option<Fault> {
    let file = match openat(&dir, path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Some(Fault::Missing),
        Err(_) => {
            // Executable files need not be readable.
            let bad = executable && accessat(&dir, path, Access::EXEC_OK, AtFlags::empty()).is_err();
            return bad.then_some(Fault::NotExecutable);
        }
    };
    if !fstat(&file).is_ok_and(|st| FileType::from_raw_mode(st.st_mode).is_file()) {
        return Some(Fault::NotAFile);
    }
    if executable && accessat(&dir, path, Access::EXEC_OK, AtFlags::empty()).is_err() {
        let noexec = fstatvfs(&file).is_ok_and(|fs| fs.f_flag.contains(StatVfsMountFlags::NOEXEC));
        return Some(if noexec { Fault::NoExec } else { Fault::NotExecutable });
    }
    let mut head = [0u8; 256];
    let n = rustix::io::read(&file, &mut head).ok()?;
    if let Some(fault) = first_line(&head[..n]) {
        return Some(fault);
    }
    if let Some(loader) = loader(&file, &head[..n]) {
        let missing = matches!(accessat(CWD, &loader, Access::EXISTS, AtFlags::empty()), Err(Errno::NOENT));
        return missing.then_some(Fault::LoaderMissing(loader));
    }
    let interpreter = interpreter(&head[..n])?;
    match accessat(CWD, &interpreter, Access::EXEC_OK, AtFlags::empty()) {
        Err(Errno::NOENT | Errno::NOTDIR) => Some(Fault::InterpreterMissing(interpreter)),
        Err(Errno::ACCESS) => Some(Fault::InterpreterNotExecutable(interpreter)),
        _ => None,
    }
}

/// For a script that may be executed but for its file system, which is mounted `noexec`: its interpreter, and
/// the one word that this is told.
pub fn interpreter_on_noexec(dir: impl AsFd, path: &str) -> Option<Vec<Vec<u8>>> {
    let file = openat(&dir, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let noexec = fstatvfs(&file).is_ok_and(|fs| fs.f_flag.contains(StatVfsMountFlags::NOEXEC));
    if !noexec || fstat(&file).ok()?.st_mode & 0o111 == 0 {
        return None;
    }
    let mut head = [0u8; 256];
    let n = rustix::io::read(&file, &mut head).ok()?;
    let line = head[..n].strip_prefix(b"#!")?.split(|&b| b == b'\n').next()?.trim_ascii();
    let end = line.iter().position(|b| b.is_ascii_whitespace()).unwrap_or(line.len());
    let words = [&line[..end], line[end..].trim_ascii()];
    Some(words.into_iter().filter(|word| !word.is_empty()).map(<[u8]>::to_vec).collect())
        .filter(|w: &Vec<_>| !w.is_empty())
}

/// What the first bytes of a script alone show to be wrong.
pub fn first_line(head: &[u8]) -> Option<Fault> {
    let line = head.split(|&b| b == b'\n').next().unwrap_or_default();
    if head.is_empty() {
        Some(Fault::Empty)
    } else if head.starts_with(b"\x7fELF") {
        None
    } else if head.starts_with("\u{feff}".as_bytes()) {
        Some(Fault::ByteOrderMark)
    } else if !head.starts_with(b"#!") {
        Some(Fault::NoInterpreter)
    } else if line.ends_with(b"\r") {
        Some(Fault::CarriageReturn)
    } else if interpreter(head).is_none() {
        Some(Fault::NothingAfterHashbang)
    } else {
        None
    }
}

/// The words of a script's first line: the interpreter, and what it is told.
pub fn first_words(head: &[u8]) -> Vec<String> {
    let line = head.strip_prefix(b"#!").and_then(|line| line.split(|&b| b == b'\n').next());
    let text = String::from_utf8_lossy(line.unwrap_or_default());
    text.split_ascii_whitespace().map(str::to_owned).collect()
}

/// The interpreter that a script's first line names.
pub fn interpreter(head: &[u8]) -> Option<String> {
    first_words(head).into_iter().next()
}

/// The loader that a dynamic program asks for, if its first bytes tell where the name is: the second of the
/// program headers, by all linkers' habit. (64 bits, little-endian; see elf(5).)
pub fn loader(file: impl AsFd, head: &[u8]) -> Option<String> {
    const PT_INTERP: u64 = 3;
    let number = |bytes: &[u8], at: usize, length: usize| {
        let digits = bytes.get(at..at + length)?.iter().rev();
        Some(digits.fold(0u64, |number, &byte| number << 8 | u64::from(byte)))
    };
    let headers = head.starts_with(b"\x7fELF\x02\x01").then(|| number(head, 32, 8))??;
    let header = head
        .get(headers as usize..)?
        .chunks_exact(56)
        .find(|header| number(header, 0, 4) == Some(PT_INTERP))?;
    let mut name = [0u8; 256];
    let length = (number(header, 32, 8)? as usize).min(name.len());
    let n = rustix::io::pread(file, &mut name[..length], number(header, 8, 8)?).ok()?;
    let name = name[..n].split(|&b| b == 0).next()?;
    Some(String::from_utf8_lossy(name).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_lines() {
        assert_eq!(first_line(b"#!/bin/sh\nexit 0\n"), None);
        assert_eq!(first_line(b"\x7fELF\x02"), None);
        assert_eq!(first_line(b""), Some(Fault::Empty));
        assert_eq!(first_line(b"echo hello\n"), Some(Fault::NoInterpreter));
        assert_eq!(first_line(b"#!/bin/sh\r\nexit 0\r\n"), Some(Fault::CarriageReturn));
        assert_eq!(interpreter(b"#! /usr/bin/env  bash\n").as_deref(), Some("/usr/bin/env"));
        assert_eq!(interpreter(b"#!/command/with-contenv bash").as_deref(), Some("/command/with-contenv"));
    }

    #[test]
    fn a_missing_interpreter_is_named() {
        let dir = std::env::temp_dir().join(format!("perennial-diagnose-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("run");
        std::fs::write(&path, "#!/no/such/interpreter -x\n").unwrap();
        let fault = script(CWD, path.to_str().unwrap(), false);
        assert_eq!(fault, Some(Fault::InterpreterMissing("/no/such/interpreter".into())));
        assert_eq!(script(CWD, dir.to_str().unwrap(), false), Some(Fault::NotAFile));
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(script(CWD, path.to_str().unwrap(), false), Some(Fault::Missing));
    }
    #[test]
    fn a_missing_loader_is_named() {
        let path = std::env::temp_dir().join(format!("perennial-loader-{}", std::process::id()));
        let path = path.to_str().unwrap();
        let mut program = std::fs::read("/bin/true").unwrap();
        std::fs::write(path, &program).unwrap();
        assert_eq!(script(CWD, path, false), None);
        // Only where /bin/true has a loader, and one of the usual name.
        if let Some(at) = program.windows(6).position(|bytes| bytes == b"/lib64") {
            program[at..at + 6].copy_from_slice(b"/lib99");
            std::fs::write(path, &program).unwrap();
            let fault = script(CWD, path, false);
            assert!(matches!(fault, Some(Fault::LoaderMissing(name)) if name.starts_with("/lib99/")));
        }
        std::fs::remove_file(path).unwrap();
    }
}
