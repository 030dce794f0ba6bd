//! The environment of the container as files, one for each variable, in `/run/s6/container_environment`.
//!
//! `/init` writes them when it boots, `with-contenv` makes an environment of them. In between they belong to
//! the image: scripts write `VAR` there, with a final newline or without, and expect that whatever starts
//! later has it.
//!
//! | bytes of the file | value |
//! |---|---|
//! | `text` newline, or `text` | `text`: one final newline is dropped, and no more |
//! | newline | empty |
//! | none | there is no such variable, not even the caller's |
//! | NUL anywhere | a newline there |
//!
//! Files whose names begin with a dot are no variables. All this is s6-overlay's since 3.2.2.0.
#![forbid(unsafe_code)]

use super::place;
use crate::diag::reason;
use crate::servicedir::replace_with_mode;
use crate::sys::{Errno, env};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, chmod, fstat, mkdir, openat};
use rustix::path::Arg;
use std::ffi::{CStr, CString, OsStr};
use std::fmt;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// Where it is in a container.
pub fn dir() -> String {
    place::below("/s6/container_environment")
}

/// The file in which a new value is written before it gets its name. No reader looks at it.
const TEMPORARY: &str = ".new";

/// For all to read, whatever the umask, as in s6-overlay. (What is to be secret is not in the environment.)
const DIR_MODE: Mode = Mode::from_raw_mode(0o755);
const FILE_MODE: Mode = Mode::from_raw_mode(0o644);

/// Whether the variable `S6_KEEP_ENV` says that there is no store, because everything in the container has
/// its environment anyway: it is a number, and not 0.
pub fn is_kept() -> bool {
    env::get("S6_KEEP_ENV").is_some_and(|value| is_other_than_0(value.as_bytes()))
}

fn is_other_than_0(number: &[u8]) -> bool {
    number.iter().all(u8::is_ascii_digit) && number.iter().any(|&digit| digit != b'0')
}

/// A variable that was passed over. The others are not the worse for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skipped<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// The reason.
    pub why: Why,
}

/// Why a variable is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// A file cannot have its name (empty, with `/`, or with a dot in front), or a variable not its file's
    /// (with `=`).
    Name,
    /// In its place is a directory, a FIFO …
    NotAFile,
    /// The system refused.
    Failed(Errno),
}

impl fmt::Display for Skipped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "skipping variable {:?}: ", String::from_utf8_lossy(self.name))?;
        match self.why {
            Why::Name => f.write_str("impossible name"),
            Why::NotAFile => f.write_str("not a regular file"),
            Why::Failed(errno) => f.write_str(reason(errno)),
        }
    }
}

impl From<Errno> for Why {
    fn from(errno: Errno) -> Why {
        Why::Failed(errno)
    }
}

/// An open store.
#[derive(Debug)]
pub struct Store {
    dir: OwnedFd,
}

impl Store {
    /// Makes the store, for all to read, and writes `variables` (`NAME=value`) into it. If a name comes
    /// twice, the last counts. In a store that is there already other variables stay. The directory that
    /// the store is in must be there.
    pub fn create<'v>(
        path: impl Arg + Copy,
        variables: impl IntoIterator<Item = &'v CStr>,
        mut complain: impl FnMut(Skipped<'_>),
    ) -> Result<Store, Errno> {
        let fresh = match mkdir(path, DIR_MODE) {
            Ok(()) => chmod(path, DIR_MODE).map(|()| true)?,
            Err(Errno::EXIST) => false,
            Err(e) => return Err(e),
        };
        let store = Store::open(path)?;
        let mut masked = None;
        for variable in variables {
            let (name, value) = split(variable.to_bytes());
            let written = match fresh {
                true => store.write_first(name, value, &mut masked),
                false => store.write(name, value),
            };
            if let Err(why) = written {
                complain(Skipped { name, why });
            }
        }
        Ok(store)
    }

    /// Opens a store that is there.
    pub fn open(path: impl Arg) -> Result<Store, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty()).map(|dir| Store { dir })
    }

    fn write(&self, name: &[u8], value: &[u8]) -> Result<(), Why> {
        if !is_name(name) {
            return Err(Why::Name);
        }
        let (name, contents) = (OsStr::from_bytes(name), [value, b"\n"].concat());
        Ok(replace_with_mode(&self.dir, name, TEMPORARY, &contents, Some(FILE_MODE))?)
    }

    /// The same in a store that nobody knows yet: nobody sees a file that is not complete. `masked`: whether the
    /// umask takes something from the mode that is asked for; the first file tells.
    fn write_first(&self, name: &[u8], value: &[u8], masked: &mut Option<bool>) -> Result<(), Why> {
        if !is_name(name) {
            return Err(Why::Name);
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let file = openat(&self.dir, OsStr::from_bytes(name), flags, FILE_MODE)?;
        let is_masked = match *masked {
            Some(known) => known,
            None => *masked.insert(Mode::from_raw_mode(fstat(&file)?.st_mode) != FILE_MODE),
        };
        if is_masked {
            rustix::fs::fchmod(&file, FILE_MODE)?;
        }
        let contents = [value, b"\n"].concat();
        let mut left = &contents[..];
        while !left.is_empty() {
            match rustix::io::write(&file, left) {
                Ok(n) => left = &left[n..],
                Err(Errno::INTR) => {}
                Err(e) => {
                    // Part of a value is worse than none.
                    let _ = rustix::fs::unlinkat(&self.dir, OsStr::from_bytes(name), AtFlags::empty());
                    return Err(e.into());
                }
            }
        }
        Ok(())
    }

    /// The value of one variable; `None` if it has no file. Of an empty file it is empty.
    pub fn get(&self, name: &[u8]) -> Result<Option<Vec<u8>>, Why> {
        if !is_name(name) {
            return Ok(None);
        }
        let mut contents = Vec::new();
        match read(&self.dir, OsStr::from_bytes(name), FileType::Unknown, &mut contents) {
            Ok(()) => {}
            Err(Why::Failed(Errno::NOENT | Errno::NAMETOOLONG)) => return Ok(None),
            Err(why) => return Err(why),
        }
        let value = value(&contents).to_vec();
        Ok(Some(value.into_iter().map(without_nul).collect()))
    }

    /// The environment that the store makes: all its variables, and `path` (`PATH=…`) unless the store has
    /// one of its own. What cannot be read is passed over.
    pub fn environment(
        &self,
        path: Option<&CStr>,
        mut complain: impl FnMut(Skipped<'_>),
    ) -> Result<Vec<CString>, Errno> {
        let mut strings = Vec::with_capacity(64);
        let mut contents = Vec::new();
        let mut path = path;
        let mut space = [MaybeUninit::uninit(); 4096];
        let mut entries = RawDir::new(&self.dir, &mut space);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name.starts_with(b".") {
                continue;
            }
            if name.contains(&b'=') {
                complain(Skipped { name, why: Why::Name });
                continue;
            }
            contents.clear();
            match read(&self.dir, entry.file_name(), entry.file_type(), &mut contents) {
                Ok(()) => {}
                // It was removed since it was listed.
                Err(Why::Failed(Errno::NOENT)) => continue,
                Err(why) => {
                    complain(Skipped { name, why });
                    continue;
                }
            }
            if name == b"PATH" {
                path = None;
            }
            if !contents.is_empty() {
                strings.push(variable(name, value(&contents)));
            }
        }
        strings.extend(path.map(CStr::to_owned));
        Ok(strings)
    }
}

/// `NAME=value` → name and value.
fn split(variable: &[u8]) -> (&[u8], &[u8]) {
    let end = variable.iter().position(|&b| b == b'=').unwrap_or(variable.len());
    (&variable[..end], variable.get(end + 1..).unwrap_or_default())
}

/// Whether a file of the store can have this name.
fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && !name.starts_with(b".") && !name.contains(&b'/')
}

/// Values are hardly ever longer than this many bytes, so that one `read` gets them.
const PORTION: usize = 4096;

/// Appends the contents of a file. `kind` is what the directory says of it, if it says anything.
fn read(dir: impl AsFd, name: impl Arg, kind: FileType, contents: &mut Vec<u8>) -> Result<(), Why> {
    match kind {
        FileType::RegularFile | FileType::Symlink | FileType::Unknown => {}
        _ => return Err(Why::NotAFile),
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = openat(dir, name, flags, Mode::empty())?;
    if kind != FileType::RegularFile && !FileType::from_raw_mode(fstat(&file)?.st_mode).is_file() {
        return Err(Why::NotAFile);
    }
    let mut portion = [MaybeUninit::uninit(); PORTION];
    loop {
        match rustix::io::read(&file, &mut portion) {
            Ok((bytes, room)) => {
                contents.extend_from_slice(bytes);
                // Less than there was room for: of a regular file, that was the end.
                if !room.is_empty() {
                    return Ok(());
                }
            }
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// The value that the contents of a file stand for, NULs aside.
fn value(contents: &[u8]) -> &[u8] {
    contents.strip_suffix(b"\n").unwrap_or(contents)
}

fn without_nul(byte: u8) -> u8 {
    if byte == 0 { b'\n' } else { byte }
}

fn variable(name: &[u8], value: &[u8]) -> CString {
    let mut string = Vec::with_capacity(name.len() + value.len() + 2);
    string.extend_from_slice(name);
    string.push(b'=');
    string.extend(value.iter().copied().map(without_nul));
    CString::new(string).expect("no NUL is left")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ordered::Map;
    use proptest::prelude::*;
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A directory that goes away.
    struct Dir(PathBuf);

    impl Dir {
        fn new() -> Dir {
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let name =
                format!("perennial-env-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
            let path = std::env::temp_dir().join(name);
            std::fs::create_dir(&path).unwrap();
            Dir(path)
        }

        fn file(&self, name: &str, contents: impl AsRef<[u8]>) {
            std::fs::write(self.0.join(name), contents).unwrap();
        }

        /// The variables, sorted, and what was complained of.
        fn environment(&self, path: Option<&CStr>) -> (Vec<String>, Vec<String>) {
            let mut complaints = Vec::new();
            let store = Store::open(&self.0).unwrap();
            let strings = store.environment(path, |skipped| complaints.push(skipped.to_string())).unwrap();
            let mut strings: Vec<String> = strings.into_iter().map(|s| s.into_string().unwrap()).collect();
            strings.sort();
            (strings, complaints)
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn create(dir: &Dir, variables: &[CString]) -> Vec<String> {
        let mut complaints = Vec::new();
        let variables = variables.iter().map(CString::as_c_str);
        Store::create(&dir.0, variables, |skipped| complaints.push(skipped.to_string())).unwrap();
        complaints
    }

    #[test]
    fn what_scripts_write_is_read() {
        let dir = Dir::new();
        dir.file("PRINTF", "a b");
        dir.file("ECHO", "a b\n");
        dir.file("LINES", "a\nb\n\n");
        dir.file("BLANKS", " a \t\r\n");
        dir.file("EMPTY", "\n");
        dir.file("UNSET", "");
        dir.file("NULS", "a\0b\0");
        dir.file("NUL_LINE", "a\0\n");
        dir.file(".hidden", "x");
        dir.file("odd name", "x");
        symlink("ECHO", dir.0.join("LINK")).unwrap();
        let expected = [
            "BLANKS= a \t\r",
            "ECHO=a b",
            "EMPTY=",
            "LINES=a\nb\n",
            "LINK=a b",
            "NULS=a\nb\n",
            "NUL_LINE=a\n",
            "PRINTF=a b",
            "odd name=x",
        ];
        assert_eq!(dir.environment(None), (expected.map(String::from).to_vec(), vec![]));
        let get = |name: &str| Store::open(&dir.0).unwrap().get(name.as_bytes()).unwrap();
        assert_eq!(get("ECHO").as_deref(), Some(&b"a b"[..]));
        assert_eq!(get("NULS").as_deref(), Some(&b"a\nb\n"[..]));
        assert_eq!(get("UNSET").as_deref(), Some(&b""[..]));
        for absent in ["MISSING", ".hidden", "", ".", "..", "../x", &"x".repeat(300)] {
            assert_eq!(get(absent), None, "{absent}");
        }
    }

    #[test]
    fn a_stored_path_wins() {
        let dir = Dir::new();
        let path = |dir: &Dir| dir.environment(Some(c"PATH=/kept")).0;
        assert_eq!(path(&dir), ["PATH=/kept"]);
        dir.file("PATH", "/stored\n");
        assert_eq!(path(&dir), ["PATH=/stored"]);
        dir.file("PATH", "");
        assert!(path(&dir).is_empty());
    }

    #[test]
    fn what_is_no_file_is_passed_over() {
        let dir = Dir::new();
        dir.file("A", "a");
        dir.file("B=C", "x");
        std::fs::create_dir(dir.0.join("D")).unwrap();
        symlink("D", dir.0.join("E")).unwrap();
        symlink("nowhere", dir.0.join("F")).unwrap();
        symlink("G", dir.0.join("G")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, dir.0.join("H"), FileType::Fifo, Mode::from_raw_mode(0o600), 0)
            .unwrap();
        let (strings, mut complaints) = dir.environment(None);
        complaints.sort();
        assert_eq!(strings, ["A=a"]);
        let expected = [
            "skipping variable \"B=C\": impossible name",
            "skipping variable \"D\": not a regular file",
            "skipping variable \"E\": not a regular file",
            "skipping variable \"G\": Too many symbolic links encountered",
            "skipping variable \"H\": not a regular file",
        ];
        assert_eq!(complaints, expected);
        assert_eq!(Store::open(&dir.0).unwrap().get(b"H"), Err(Why::NotAFile));
    }

    #[test]
    fn files_are_for_all_to_read_and_end_with_a_newline() {
        let dir = Dir::new();
        let store = Dir(dir.0.join("store"));
        assert!(create(&store, &[c"A=a=b".into(), c"B=".into(), c"C".into(), c"A=last".into()]).is_empty());
        let mode = |path: &PathBuf| std::fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!((mode(&store.0), mode(&store.0.join("A"))), (0o755, 0o644));
        assert_eq!(std::fs::read(store.0.join("A")).unwrap(), b"last\n");
        assert_eq!(std::fs::read(store.0.join("B")).unwrap(), b"\n");
        assert_eq!(std::fs::read_dir(&store.0).unwrap().count(), 3);
    }

    #[test]
    fn a_bad_name_does_not_keep_the_others_out() {
        let dir = Dir::new();
        std::fs::create_dir(dir.0.join("DIR")).unwrap();
        dir.file(TEMPORARY, "what a killed writer left");
        let long = CString::new(format!("{}=x", "L".repeat(256))).unwrap();
        let names = ["A=1", "B/C=2", "=3", ".D=4", "..=5", "DIR=6", "BASH_FUNC_f%%=() { :; }", "E=7"];
        let mut variables: Vec<CString> = names.iter().map(|name| CString::new(*name).unwrap()).collect();
        variables.push(long);
        let complaints = create(&dir, &variables);
        let of = [
            "\"B/C\": impossible",
            "\"\": imp",
            "\".D\": imp",
            "\"..\": imp",
            "\"DIR\": Is a d",
            "L\": File name",
        ];
        assert_eq!(complaints.len(), of.len(), "{complaints:?}");
        assert!(
            complaints.iter().zip(of).all(|(complaint, part)| complaint.contains(part)),
            "{complaints:?}"
        );
        assert_eq!(dir.environment(None).0, ["A=1", "BASH_FUNC_f%%=() { :; }", "E=7"]);
        assert!(!dir.0.join(TEMPORARY).exists());
    }

    #[test]
    fn large_and_many() {
        let dir = Dir::new();
        let sizes = [0, 1, PORTION - 2, PORTION - 1, PORTION, PORTION + 1, 3 * PORTION, 1 << 20];
        let large = sizes.map(|size| CString::new(format!("S{size}={}", "x".repeat(size))).unwrap());
        let many = (0..2000).map(|n| CString::new(format!("N{n}={n}")).unwrap());
        let mut variables: Vec<CString> = large.into_iter().chain(many).collect();
        assert!(create(&dir, &variables).is_empty());
        variables.sort();
        let expected: Vec<String> = variables.into_iter().map(|v| v.into_string().unwrap()).collect();
        assert_eq!(dir.environment(None), (expected, vec![]));
    }

    #[test]
    fn a_store_that_cannot_be_made_is_an_error() {
        let dir = Dir::new();
        dir.file("file", "");
        let make = |path: &str| Store::create(&dir.0.join(path), [], |_| {}).map(drop);
        assert_eq!(make("file"), Err(Errno::NOTDIR));
        assert_eq!(make("no/parent"), Err(Errno::NOENT));
        assert_eq!(Store::open(dir.0.join("none")).map(drop), Err(Errno::NOENT));
    }

    #[test]
    fn numbers_that_keep_the_environment() {
        for (text, kept) in
            [("1", true), ("01", true), ("99999999999999999999", true), ("0", false), ("00", false)]
        {
            assert_eq!(is_other_than_0(text.as_bytes()), kept, "{text}");
        }
        for text in ["", "yes", "1x", "-1", " 1"] {
            assert!(!is_other_than_0(text.as_bytes()), "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_is_written_is_read(
            variables in prop::collection::btree_map(r"[^=\x00/.][^=\x00/]{0,8}", prop::collection::vec(1u8.., 0..20), 0..20),
        ) {
            let (dir, variables) = (Dir::new(), crate::ordered::map(variables));
            let strings = |variables: &Map<String, Vec<u8>>| -> Vec<CString> {
                let joined = variables.iter().map(|(name, value)| [name.as_bytes(), b"=", value].concat());
                joined.map(|string| CString::new(string).unwrap()).collect()
            };
            let mut expected = strings(&variables);
            prop_assert!(create(&dir, &expected).is_empty());
            let mut read = Store::open(&dir.0).unwrap().environment(None, |_| {}).unwrap();
            expected.sort();
            read.sort();
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn any_bytes_make_a_variable(contents: Vec<u8>, name in r"[^=\x00/.][^=\x00/]{0,8}") {
            let dir = Dir::new();
            dir.file(&name, &contents);
            let read = Store::open(&dir.0).unwrap().environment(None, |_| {}).unwrap();
            prop_assert_eq!(read.is_empty(), contents.is_empty());
            for string in read {
                let length = contents.len() - usize::from(contents.ends_with(b"\n"));
                prop_assert_eq!(string.as_bytes().len(), name.len() + 1 + length);
            }
        }
    }
}
