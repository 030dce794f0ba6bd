//! What services execute, looked for before anything is started: interpreters, and the programs that scripts
//! name in their first line or, in `up` and `down`, as their first word.
//!
//! That need not be this machine's: [`Root`] is where an image's tree is unpacked, and links in it lead where
//! they would lead in the container. A tree without any program is a layer of an image: what it lacks may
//! come from another one.
//!
//! What is wrong with a longrun's `run` is an error. What may be mended before it is needed is a warning: a
//! script that another service writes, a program that another service installs.

use super::graph::Kind;
use super::source::{Definition, EXECUTED, Findings, Words};
use crate::diag::{Result, Unable};
use crate::servicedir::diagnose::{self, Fault};
use crate::sys::{Errno, env};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};
use std::cell::RefCell;
use std::os::fd::OwnedFd;

/// Programs that find the next word of a first line in PATH, without options of their own.
const CHAIN_LOADERS: [&str; 2] = ["env", "with-contenv"];

/// Where programs are looked for.
pub struct Root {
    /// The directory, and it open; None: `/`, as it is here.
    other: Option<(String, OwnedFd)>,
    path: String,
    /// It is only a part of what will be there.
    layer: bool,
    /// Programs that were looked at: many services have the same.
    known: Known<Fault>,
    /// Programs that command lines begin with.
    known_first: Known<String>,
}

/// What is wrong with the first programs that were looked at, by path.
type Known<T> = RefCell<Vec<(String, Option<T>)>>;

/// So many are remembered.
const MOST_KNOWN: usize = 32;

/// What is wrong with `path`, from memory if it was looked at before.
fn look_once<T: Clone>(known: &Known<T>, path: &str, look: impl FnOnce() -> Option<T>) -> Option<T> {
    if let Some((_, fault)) = known.borrow().iter().find(|(other, _)| other == path) {
        return fault.clone();
    }
    let fault = look();
    let mut known = known.borrow_mut();
    if known.len() < MOST_KNOWN {
        known.push((path.to_owned(), fault.clone()));
    }
    fault
}

impl Root {
    /// This machine, or this container.
    pub fn here() -> Root {
        let path = env::get("PATH").map(|path| path.to_string_lossy().into_owned());
        Root::new(None, search_path(path))
    }

    fn new(other: Option<(String, OwnedFd)>, path: String) -> Root {
        Root { other, path, layer: false, known: RefCell::default(), known_first: RefCell::default() }
    }

    /// An image's tree at `dir`.
    pub fn at(dir: &str) -> Result<Root> {
        let dir = dir.trim_end_matches('/');
        let shown = if dir.is_empty() { "/" } else { dir };
        let open = crate::servicedir::open(CWD, shown).unable(format_args!("open {shown}"))?;
        let path =
            search_path(Some("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()));
        Ok(Root::new(Some((dir.to_owned(), open)), path))
    }

    /// The same, known to be only a layer of an image.
    pub fn as_layer(self) -> Root {
        Root { layer: true, ..self }
    }

    /// What stands before a path of the image to make it one of this machine.
    pub fn prefix(&self) -> &str {
        self.other.as_ref().map_or("", |(dir, _)| dir)
    }

    /// Whether it is only a layer of an image: it has no place for programs.
    pub fn is_layer(&self) -> bool {
        let lacks = |dir: &&str| matches!(self.open(dir, OFlags::PATH), Err(Fault::Missing));
        self.layer || self.other.is_some() && ["/bin", "/usr/bin"].iter().all(lacks)
    }

    /// Opens a path of the image.
    fn open(&self, path: &str, flags: OFlags) -> std::result::Result<OwnedFd, Fault> {
        let flags = flags | OFlags::CLOEXEC;
        let opened = match &self.other {
            None => openat(CWD, path, flags, Mode::empty()),
            Some((dir, fd)) => match openat2(fd, path, flags, Mode::empty(), ResolveFlags::IN_ROOT) {
                // Before Linux 5.6: absolute links lead out of the tree.
                Err(Errno::NOSYS) => openat(CWD, format!("{dir}{path}"), flags, Mode::empty()),
                other => other,
            },
        };
        opened.map_err(|e| match e {
            Errno::NOENT | Errno::NOTDIR => Fault::Missing,
            e => Fault::Other(e),
        })
    }

    /// Opens a script of the image, and sees that it is a file.
    fn open_script(&self, path: &str) -> std::result::Result<OwnedFd, Fault> {
        let file = self.open(path, OFlags::RDONLY | OFlags::NONBLOCK)?;
        let kind = fstat(&file).map(|st| FileType::from_raw_mode(st.st_mode));
        if kind.is_ok_and(|kind| kind.is_file()) { Ok(file) } else { Err(Fault::NotAFile) }
    }

    /// What is wrong with the program `path` as far as executing it goes.
    fn program(&self, path: &str) -> Option<Fault> {
        look_once(&self.known, path, || self.look_at_program(path))
    }

    fn look_at_program(&self, path: &str) -> Option<Fault> {
        let file = match self.open(path, OFlags::PATH) {
            Ok(file) => file,
            Err(fault) => return Some(fault),
        };
        let mode = fstat(&file).ok()?.st_mode;
        match (FileType::from_raw_mode(mode).is_file(), mode & 0o111) {
            (false, _) => Some(Fault::NotAFile),
            (true, 0) => Some(Fault::NotExecutable),
            (true, _) => None,
        }
    }

    /// What is wrong with a script that is open, as far as its first line tells.
    fn script(&self, file: &OwnedFd) -> Option<Finding> {
        let mut head = [0u8; 256];
        let n = rustix::io::pread(file, &mut head, 0).ok()?;
        let head = &head[..n];
        if let Some(fault) = diagnose::first_line(head) {
            return Some(Finding::error(&fault));
        }
        if self.is_layer() {
            return None;
        }
        if let Some(loader) = diagnose::loader(file, head) {
            let missing = self.program(&loader) == Some(Fault::Missing);
            return missing.then(|| Finding::error(&Fault::LoaderMissing(loader)));
        }
        let words = diagnose::first_words(head);
        let interpreter = words.first()?;
        match self.program(interpreter) {
            None => self.chain(interpreter, words.get(1)?),
            Some(Fault::NotExecutable) => {
                Some(Finding::error(&Fault::InterpreterNotExecutable(interpreter.clone())))
            }
            Some(_) => Some(Finding::error(&Fault::InterpreterMissing(interpreter.clone()))),
        }
    }

    /// `#!/usr/bin/env NAME`, `#!/command/with-contenv NAME`: whether there is a program NAME.
    fn chain(&self, interpreter: &str, name: &str) -> Option<Finding> {
        let first = interpreter.rsplit('/').next().unwrap_or_default();
        if !CHAIN_LOADERS.contains(&first) || name.starts_with('-') || name.contains('=') {
            return None;
        }
        let found = match name.contains('/') {
            true => self.program(name).is_none(),
            false => self.path.split(':').any(|dir| self.program(&format!("{dir}/{name}")).is_none()),
        };
        let text = format!("{first} finds no program {name} in PATH: install it, or correct the first line");
        (!found).then_some(Finding { fatal: false, text })
    }
}

/// What is wrong with something that is to be executed.
struct Finding {
    /// It will not come true of itself before it is needed.
    fatal: bool,
    text: String,
}

impl Finding {
    fn error(fault: &Fault) -> Finding {
        let remedy = match fault {
            Fault::InterpreterMissing(_) => ": install it, or correct the first line",
            Fault::InterpreterNotExecutable(_) => ": chmod +x it, or correct the first line",
            Fault::Empty => ": write a script that ends in the program to run",
            Fault::NotAFile => ": put a file in its place",
            Fault::Missing => ": this link leads nowhere",
            Fault::Other(_) => return Finding { fatal: true, text: format!("unable to read: {fault}") },
            _ => "",
        };
        Finding { fatal: true, text: format!("{fault}{remedy}") }
    }
}

/// `/command`, `/usr/bin` and `/bin` are on it, the first of them first, unless they were already.
pub fn search_path(given: Option<String>) -> String {
    let mut path = given.filter(|p| !p.is_empty()).unwrap_or_else(|| "/bin".to_owned());
    for dir in ["/bin", "/usr/bin", "/command"] {
        if !path.split(':').any(|d| d == dir) {
            path = format!("{dir}:{path}");
        }
    }
    path
}

/// Looks at all that a definition would execute.
pub fn check(definition: &Definition, root: &Root, findings: &mut Findings) {
    match definition.kind {
        Some(Kind::Longrun) => {
            let scripts = definition.files.iter().filter(|(name, _)| EXECUTED.contains(&&**name));
            scripts.for_each(|(_, path)| check_script(path, root, findings));
        }
        Some(Kind::Oneshot) => {
            // A `run` beside `up` is a file of the author's.
            let executed = |name: &str| name == "condition" || name == "run" && definition.runs_script();
            let scripts = definition.files.iter().filter(|(name, _)| executed(name));
            scripts.for_each(|(_, path)| check_script(path, root, findings));
            let scripts =
                [("up", &definition.up), ("down", &definition.down), ("reload", &definition.reload)];
            for (file, words) in scripts {
                let Some(dir) = definition.dirs.last() else { continue };
                check_words(&format!("{dir}/{file}"), words.as_ref(), root, findings);
            }
        }
        _ => {}
    }
}

/// A script that is copied and made executable.
fn check_script(path: &str, root: &Root, findings: &mut Findings) {
    let inside = path.strip_prefix(root.prefix()).unwrap_or(path);
    let found = match root.open_script(inside) {
        Ok(file) => root.script(&file),
        // Its target may be in another layer.
        Err(Fault::Missing) if root.is_layer() => None,
        Err(fault) => Some(Finding::error(&fault)),
    };
    match found {
        Some(Finding { fatal: true, text }) => findings.error(path, Some(1), text),
        Some(Finding { fatal: false, text }) => findings.warn(path, Some(1), text),
        None => {}
    }
}

/// `up` and `down`: the script that the command line begins with. Other words may be of the language.
fn check_words(path: &str, words: Option<&Words>, root: &Root, findings: &mut Findings) {
    let Some(first) = words.and_then(|words| words.first()).filter(|word| word.starts_with(b"/")) else {
        return;
    };
    let script = String::from_utf8_lossy(first);
    let look = || match root.program(&script) {
        Some(Fault::Missing) if root.is_layer() => None,
        Some(fault) => Some(fault.to_string()),
        None => root.open_script(&script).ok().and_then(|file| root.script(&file)).map(|found| found.text),
    };
    let text = look_once(&root.known_first, &script, look);
    // Where the file is not, it is a built-in definition that says what to run.
    if let Some(text) = text.filter(|_| rustix::fs::lstat(path).is_ok()) {
        findings.warn(path, None, format!("{script}: {text}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    /// A tree with `/bin/sh`, `/command/with-contenv` and `/bin/env`, which nobody will execute.
    fn tree(name: &str) -> String {
        let dir = std::env::temp_dir().join(format!("perennial-root-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        for path in ["usr/bin/sh", "usr/bin/env", "command/with-contenv", "data"] {
            let path = dir.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "program").unwrap();
            let mode = if path.ends_with("data") { 0o644 } else { 0o755 };
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        symlink("/usr/bin", dir.join("bin")).unwrap();
        dir.to_str().unwrap().to_owned()
    }

    fn found(root: &Root, text: &str) -> Option<(bool, String)> {
        let path = format!("{}/script", root.prefix());
        fs::write(&path, text).unwrap();
        let mut findings = Findings::default();
        check_script(&path, root, &mut findings);
        let list = [(true, findings.errors), (false, findings.warnings)];
        list.into_iter().find_map(|(fatal, list)| Some((fatal, list.first()?.text.clone())))
    }

    #[test]
    fn interpreters_are_looked_for_below_the_root() {
        let dir = tree("whole");
        let root = Root::at(&format!("{dir}/")).unwrap();
        assert!(!root.is_layer());
        for good in
            ["#!/bin/sh\n", "#!/usr/bin/env sh\n", "#!/command/with-contenv sh\n", "#!/usr/bin/env -S x\n"]
        {
            assert_eq!(found(&root, good), None, "{good}");
        }
        for (bad, fatal, text) in [
            ("#!/bin/bash\n", true, "interpreter /bin/bash not found"),
            ("#!/data\n", true, "interpreter /data is not executable"),
            ("#!/bin\n", true, "interpreter /bin not found"),
            ("#!\n", true, "the first line names no interpreter"),
            ("\u{feff}#!/bin/sh\n", true, "byte order mark"),
            ("#!/usr/bin/env bash\n", false, "env finds no program bash in PATH"),
            ("#!/command/with-contenv bash\n", false, "with-contenv finds no program bash in"),
        ] {
            let (is_fatal, said) = found(&root, bad).expect(bad);
            assert!(is_fatal == fatal && said.contains(text), "{bad}: {said}");
        }
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn of_a_layer_interpreters_are_not_asked_for() {
        let dir = tree("layer");
        fs::remove_dir_all(format!("{dir}/usr")).unwrap();
        fs::remove_file(format!("{dir}/bin")).unwrap();
        let root = Root::at(&dir).unwrap();
        assert!(root.is_layer());
        assert_eq!(found(&root, "#!/bin/bash\n"), None);
        assert!(found(&root, "#!/bin/bash\r\n").is_some());
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn the_search_path_has_what_it_needs() {
        let path = |p: &str| search_path(Some(p.to_owned()));
        assert_eq!(search_path(None), "/command:/usr/bin:/bin");
        assert_eq!(path("/usr/local/bin:/usr/bin:/bin"), "/command:/usr/local/bin:/usr/bin:/bin");
        assert_eq!(path("/command:/x"), "/usr/bin:/bin:/command:/x");
    }
}
