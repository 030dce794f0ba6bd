//! Variables for a service: `env/`, a file each, and `env-file`, a line each.
//!
//! | | |
//! |---|---|
//! | `env/NAME` | the value is what is in the file, less one newline at its end; NUL stands for a newline. An empty file takes the variable away |
//! | `env-file` | `NAME=value` lines; a value in quotes of either kind is what is between them. Empty lines and lines that begin with # count for nothing |
//!
//! `env/` has the last word.

use super::feature::Faulty;
use crate::diag::reason;
use crate::sys::Errno;
use rustix::fs::{Mode, OFlags, RawDir, openat};
use std::ffi::CString;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;

/// An environment that is being put together.
#[derive(Default)]
pub struct Environment(Vec<CString>);

impl Environment {
    /// Beginning with these.
    pub fn new(strings: Vec<CString>) -> Environment {
        Environment(strings)
    }

    /// Gives a variable a value, or takes it away. Neither has a NUL in it.
    pub fn set(&mut self, name: &[u8], value: Option<&[u8]>) {
        let is_it = |s: &CString| s.to_bytes().strip_prefix(name).is_some_and(|rest| rest.starts_with(b"="));
        self.0.retain(|string| !is_it(string));
        if let Some(Ok(string)) = value.map(|value| CString::new([name, b"=", value].concat())) {
            self.0.push(string);
        }
    }

    /// The strings, `NAME=value`.
    pub fn into_strings(self) -> Vec<CString> {
        self.0
    }

    /// Takes in the lines of an `env-file`.
    pub fn add_file(&mut self, bytes: &[u8]) -> Result<(), Faulty> {
        for (n, line) in bytes.split(|&b| b == b'\n').enumerate() {
            let line = line.strip_suffix(b"\r").unwrap_or(line).trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let at = |why: &str| Faulty { file: "env-file", why: format!("line {}: {why}", n + 1) };
            let Some(sign) = line.iter().position(|&b| b == b'=') else {
                return Err(at("there is no = in it: write NAME=value"));
            };
            let (name, value) = (&line[..sign], &line[sign + 1..]);
            if name.is_empty() || name.iter().any(|b| b.is_ascii_whitespace() || *b == 0) {
                return Err(at("what is before the = is no name of a variable"));
            }
            if value.contains(&0) {
                return Err(at("there is a NUL in it"));
            }
            self.set(name, Some(unquoted(value)));
        }
        Ok(())
    }

    /// Takes in the directory `env` of `dir`.
    pub fn add_dir(&mut self, dir: impl AsFd) -> Result<(), Faulty> {
        let fail = |why| Faulty { file: "env", why };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let env = openat(dir, c"env", flags, Mode::empty()).map_err(|e| match e {
            Errno::NOTDIR => {
                fail("is not a directory: make it one, with a file for each variable".to_owned())
            }
            e => fail(format!("unable to open it: {}", reason(e))),
        })?;
        let mut space = [MaybeUninit::uninit(); 2048];
        let mut entries = RawDir::new(&env, &mut space);
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(|e| fail(format!("unable to list it: {}", reason(e))))?;
            let name = entry.file_name().to_bytes();
            if name.starts_with(b".") {
                continue;
            }
            let shown = || String::from_utf8_lossy(name).into_owned();
            if name.contains(&b'=') {
                return Err(fail(format!("{} is no name of a variable: there is a = in it", shown())));
            }
            match super::read_file(&env, entry.file_name()) {
                Ok(bytes) if bytes.is_empty() => self.set(name, None),
                Ok(bytes) => {
                    let value = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
                    let value: Vec<u8> = value.iter().map(|&b| if b == 0 { b'\n' } else { b }).collect();
                    self.set(name, Some(&value));
                }
                // It was removed since it was listed, or is no file.
                Err(Errno::NOENT | Errno::ISDIR) => {}
                Err(e) => return Err(fail(format!("unable to read {}: {}", shown(), reason(e)))),
            }
        }
        Ok(())
    }
}

fn unquoted(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inner @ .., b'"'] | [b'\'', inner @ .., b'\''] => inner,
        value => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(environment: Environment) -> Vec<String> {
        environment.into_strings().into_iter().map(|s| s.into_string().unwrap()).collect()
    }

    fn inherited() -> Environment {
        Environment::new(["A=1", "AB=2", "B="].map(|s| CString::new(s).unwrap()).into())
    }

    #[test]
    fn lines_of_a_file() {
        let mut environment = inherited();
        let text = "# comment\n\nA=x=y \n B=\"two  words\"\r\nC='\nD=\n'E'=q\nF=''\n";
        environment.add_file(text.as_bytes()).unwrap();
        assert_eq!(strings(environment), ["AB=2", "A=x=y", "B=two  words", "C='", "D=", "'E'=q", "F="]);
        for (bad, message) in [
            ("A=1\nB\n", "env-file: line 2: there is no = in it: write NAME=value"),
            ("=1", "env-file: line 1: what is before the = is no name of a variable"),
            ("export A=1", "env-file: line 1: what is before the = is no name of a variable"),
            ("A=1\0", "env-file: line 1: there is a NUL in it"),
        ] {
            assert_eq!(inherited().add_file(bad.as_bytes()).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn files_of_a_directory() {
        let dir = std::env::temp_dir().join(format!("perennial-environment-{}", std::process::id()));
        let env = dir.join("env");
        std::fs::create_dir_all(env.join("directory")).unwrap();
        for (name, text) in [("A", "one\0two\n\n"), ("AB", ""), (".hidden", "x"), ("NEW", "x")] {
            std::fs::write(env.join(name), text).unwrap();
        }
        let open = || super::super::open(rustix::fs::CWD, dir.as_path()).unwrap();
        let mut environment = inherited();
        environment.add_dir(open()).unwrap();
        let mut found = strings(environment);
        found.sort();
        assert_eq!(found, ["A=one\ntwo\n", "B=", "NEW=x"]);
        std::fs::write(env.join("X=Y"), "").unwrap();
        let error = inherited().add_dir(open()).unwrap_err();
        assert_eq!(error.to_string(), "env: X=Y is no name of a variable: there is a = in it");
        std::fs::remove_dir_all(&env).unwrap();
        std::fs::write(&env, "").unwrap();
        assert_eq!(
            inherited().add_dir(open()).unwrap_err().to_string(),
            "env: is not a directory: make it one, with a file for each variable"
        );
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
