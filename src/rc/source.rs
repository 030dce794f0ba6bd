//! Reading s6-rc source directories.
//!
//! A source directory has one directory per service: `type` says what it is, other files say the rest.
//! Several sources are merged, by file into a definition of another source too: an image's layers add
//! `dependencies.d/NAME` to services that another layer defines, and `user/contents.d/NAME` to a bundle whose
//! `type` nobody of them has written.
//!
//! Nothing is refused at the first mistake. Every one is noted with its file and line and what to do about
//! it, and reading goes on: whoever runs `rc check` wants to mend all of them in one go.

use super::graph::{Kind, nearest};
use super::ours;
use super::scripts::{self, Root};
use crate::diag::reason;
use crate::execline;
use crate::ordered::{Map, sorted, unique};
use crate::servicedir;
use crate::servicedir::definition::{READINESS, parse_kill_mode, parse_signal, parse_uint};
use crate::sys::Errno;
use rustix::fs::{FileType, Mode, OFlags, RawDir, openat};
use std::fmt;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

/// Something that is wrong, or looks wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file.
    pub path: String,
    /// The line, counted from 1, where that says more.
    pub line: Option<usize>,
    /// What, and what to do.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A name may contain anything; a problem is one line.
        let path: String = self.path.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        match self.line {
            Some(line) => write!(f, "{path}:{line}: {}", self.text),
            None => write!(f, "{path}: {}", self.text),
        }
    }
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// With one of these nothing is started.
    pub errors: Vec<Problem>,
    /// These are only said.
    pub warnings: Vec<Problem>,
    /// What is looked at is a layer of an image: names may be defined in another one.
    pub layer: bool,
}

impl Findings {
    /// In the order of files and lines, each once.
    pub fn sort(&mut self) {
        for list in [&mut self.errors, &mut self.warnings] {
            *list = unique(std::mem::take(list));
        }
    }

    /// Whether something is wrong with this file already.
    fn knows(&self, path: &str) -> bool {
        self.errors.iter().any(|e| e.path == path)
    }

    /// Notes an error.
    pub fn error(&mut self, path: &str, line: Option<usize>, text: impl Into<String>) {
        self.errors.push(Problem { path: path.to_owned(), line, text: text.into() });
    }

    /// Notes a warning.
    pub fn warn(&mut self, path: &str, line: Option<usize>, text: impl Into<String>) {
        self.warnings.push(Problem { path: path.to_owned(), line, text: text.into() });
    }
}

/// A name that one definition says of another, and where it says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The name.
    pub name: String,
    /// The file that has the name on a line of its own, or the directory that has an entry of this name.
    pub place: Rc<str>,
    /// The line, in a file.
    pub line: Option<usize>,
}

impl Reference {
    /// The file.
    pub fn path(&self) -> String {
        match self.line {
            Some(_) => self.place.to_string(),
            None => format!("{}/{}", self.place, self.name),
        }
    }
}

/// A word list: what a oneshot runs. Empty: nothing, with success.
pub type Words = Vec<Vec<u8>>;

/// One service or bundle as it is defined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// Its name.
    pub name: String,
    /// What it is; None until a `type` was read.
    pub kind: Option<Kind>,
    /// The directories it is read from, in order of the sources.
    pub dirs: Vec<String>,
    /// `dependencies.d`, `dependencies`
    pub dependencies: Vec<Reference>,
    /// `wants.d`
    pub wants: Vec<Reference>,
    /// `after.d`
    pub after: Vec<Reference>,
    /// `contents.d`, `contents`
    pub contents: Vec<Reference>,
    /// `contents` or `contents.d` is there, perhaps empty.
    pub has_contents: bool,
    /// `flag-essential`
    pub essential: bool,
    /// `flag-recommended`
    pub recommended: bool,
    /// `timeout-up`, milliseconds; 0 is none.
    pub timeout_up: u32,
    /// `timeout-down`, milliseconds; 0 is none.
    pub timeout_down: u32,
    /// `up` of a oneshot.
    pub up: Option<Words>,
    /// `down` of a oneshot.
    pub down: Option<Words>,
    /// `reload` of a oneshot.
    pub reload: Option<Words>,
    /// Files and directories that are copied into the live directory: name and path.
    pub files: Vec<(String, String)>,
    /// `producer-for`
    pub producer_for: Option<Reference>,
    /// `consumer-for`
    pub consumer_for: Vec<Reference>,
    /// `pipeline-name`
    pub pipeline_name: Option<Reference>,
    /// `notification-fd`, `lock-fd`
    pub descriptors: [Option<u32>; 2],
}

impl Definition {
    /// One of which nothing is known yet.
    pub fn new(name: &str) -> Definition {
        Definition {
            name: name.to_owned(),
            kind: None,
            dirs: Vec::new(),
            dependencies: Vec::new(),
            wants: Vec::new(),
            after: Vec::new(),
            contents: Vec::new(),
            has_contents: false,
            essential: false,
            recommended: false,
            timeout_up: 0,
            timeout_down: 0,
            up: None,
            down: None,
            reload: None,
            files: Vec::new(),
            producer_for: None,
            consumer_for: Vec::new(),
            pipeline_name: None,
            descriptors: [None; 2],
        }
    }

    /// A bundle that is built in.
    pub fn bundle(name: &str, contents: &[&str]) -> Definition {
        let place = Rc::from(format!("built-in definition {name}"));
        let built_in =
            |member: &&str| Reference { name: (*member).to_owned(), place: Rc::clone(&place), line: None };
        Definition {
            kind: Some(Kind::Bundle),
            contents: contents.iter().map(built_in).collect(),
            has_contents: true,
            ..Definition::new(name)
        }
    }

    /// Takes over what a built-in definition of the same name says.
    fn extend_from(&mut self, base: Definition) {
        self.kind = base.kind;
        self.dependencies.extend(base.dependencies);
        self.contents.extend(base.contents);
        self.has_contents |= base.has_contents;
        self.up = self.up.take().or(base.up);
        self.down = self.down.take().or(base.down);
        self.essential |= base.essential;
    }

    /// A oneshot that is built in.
    pub fn oneshot(name: &str, dependencies: &[&str], up: Words, down: Words) -> Definition {
        let bundle = Definition::bundle(name, dependencies);
        Definition {
            kind: Some(Kind::Oneshot),
            dependencies: bundle.contents,
            up: Some(up),
            down: Some(down),
            ..Definition::new(name)
        }
    }

    /// The path that stands for it in messages.
    pub fn path(&self) -> &str {
        self.dirs.first().map_or("built-in definition", String::as_str)
    }

    /// Whether no source says anything of it.
    pub fn is_built_in(&self) -> bool {
        self.dirs.is_empty()
    }

    /// Whether it is a oneshot with nothing to run: it only orders others.
    pub fn does_nothing(&self) -> bool {
        let empty = |script: &Option<Words>| script.as_ref().is_none_or(|words| words.is_empty());
        self.kind == Some(Kind::Oneshot) && empty(&self.up) && empty(&self.down)
    }

    /// Whether its run can say that it is ready.
    pub fn notifies(&self) -> bool {
        READINESS.iter().any(|file| self.has_file(file))
    }

    /// Whether there is such a file, of those that are copied.
    pub fn has_file(&self, name: &str) -> bool {
        self.files.iter().any(|(file, _)| file == name)
    }

    /// Whether it is a oneshot that is brought up by a script `run` of its own, and not by a command line.
    pub fn runs_script(&self) -> bool {
        self.kind == Some(Kind::Oneshot) && self.up.is_none() && self.has_file("run")
    }
}

/// All definitions by name.
pub type Definitions = Map<String, Definition>;

/// Names that begin like this are taken.
const RESERVED: [&str; 2] = ["s6rc-", "s6-rc-"];

/// Files that go into the live directory as they are: of a longrun into its service directory.
const SERVICE_FILES: [&str; 39] = [
    "run",
    "finish",
    "notification-fd",
    "lock-fd",
    "timeout-kill",
    "timeout-finish",
    "max-death-tally",
    "down-signal",
    "reload-signal",
    "flag-timeout-killpg",
    "flag-newpidns",
    "kill-mode",
    "condition",
    "validate",
    "timeout-validate",
    "fallback",
    "check",
    "check-interval",
    "timeout-check",
    "notify-socket",
    "health",
    "health-interval",
    "health-timeout",
    "health-retries",
    "watchdog",
    "restart",
    "restart-delay",
    "give-up",
    "on-give-up",
    "on-exit",
    "forking",
    "pid-file",
    "user",
    "env-file",
    "umask",
    "limits",
    "nice",
    "oom-score",
    "control-group",
];

/// Those of them that are executed, so they are executable when they are copied, whatever they were.
pub const EXECUTED: [&str; 7] = ["run", "finish", "condition", "validate", "fallback", "check", "health"];

/// Files of a longrun that name something.
const LABELS: [&str; 1] = ["log-label"];

/// Directories of a longrun that go into its service directory with all that is in them.
const SERVICE_DIRS: [&str; 3] = ["data", "env", "template"];

/// Whether a file or directory of this name is copied into the live directory.
pub fn is_copied(name: &str) -> bool {
    SERVICE_FILES.contains(&name) || SERVICE_DIRS.contains(&name) || LABELS.contains(&name)
}

/// Files that hold the number of a descriptor.
const DESCRIPTORS: [&str; 2] = ["notification-fd", "lock-fd"];

/// What else is read of a definition.
const OTHER_FILES: [&str; 17] = [
    "type",
    "up",
    "down",
    "contents",
    "contents.d",
    "dependencies",
    "dependencies.d",
    "wants.d",
    "after.d",
    "flag-essential",
    "flag-recommended",
    "timeout-up",
    "timeout-down",
    "producer-for",
    "consumer-for",
    "pipeline-name",
    "reload",
];

/// Reads sources and puts definitions together with those that are built in. A built-in one is there if a
/// source adds to it, if somebody refers to it, or if it is one of `roots`; a source that defines the name
/// itself has its way.
pub fn read(
    sources: &[String],
    built_in: Definitions,
    roots: &[&str],
    findings: &mut Findings,
) -> Definitions {
    read_below(&Root::here(), sources, built_in, roots, findings)
}

/// The same for an image's tree; the paths of the sources are those of this machine.
pub fn read_below(
    root: &Root,
    sources: &[String],
    built_in: Definitions,
    roots: &[&str],
    findings: &mut Findings,
) -> Definitions {
    findings.layer = root.is_layer();
    let mut definitions = Definitions::new();
    for source in sources {
        match entries_of(rustix::fs::CWD, source) {
            Ok(entries) => read_source(source, entries, &mut definitions, findings),
            Err(e) => findings.error(source, None, format!("unable to list this source: {}", reason(e))),
        }
    }
    add_built_in(&mut definitions, built_in, roots);
    for definition in definitions.values() {
        let known = findings.errors.len();
        complete(definition, findings);
        if findings.layer {
            // Another layer may have the rest.
            findings.errors.truncate(known);
        }
        scripts::check(definition, root, findings);
        ours::check(definition, root, findings);
    }
    definitions
}

fn add_built_in(definitions: &mut Definitions, mut built_in: Definitions, roots: &[&str]) {
    let references = |d: &Definition| -> Vec<String> {
        let all = d.dependencies.iter().chain(&d.wants).chain(&d.after).chain(&d.contents);
        all.map(|r| r.name.clone()).collect()
    };
    let mut queue: Vec<String> = definitions.values().flat_map(references).collect();
    queue.extend(definitions.values().filter(|d| d.kind.is_none()).map(|d| d.name.clone()));
    queue.extend(roots.iter().map(|root| (*root).to_owned()));
    while let Some(name) = queue.pop() {
        let Some(base) = built_in.remove(&name) else { continue };
        let added = definitions.entry(name).or_insert_with_key(|name| Definition::new(name));
        if added.kind.is_none() {
            added.extend_from(base);
            queue.extend(references(added));
        }
    }
}

/// A name, and what it is the name of: a raw [`FileType`].
type Entry = (String, u32);

fn open_dir(at: impl AsFd, path: &str) -> Result<OwnedFd, Errno> {
    openat(at, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// The names in the directory `path` (relative to `at`).
fn entries_of(at: impl AsFd, path: &str) -> Result<Vec<Entry>, Errno> {
    entries(&open_dir(at, path)?)
}

/// The names in a directory, sorted as bytes, without those that begin with a dot.
fn entries(dir: &OwnedFd) -> Result<Vec<Entry>, Errno> {
    let mut space = [MaybeUninit::uninit(); 4096];
    let mut raw = RawDir::new(dir, &mut space);
    let mut out = Vec::new();
    while let Some(entry) = raw.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !name.starts_with(b".") {
            out.push((String::from_utf8_lossy(name).into_owned(), entry.file_type().as_raw_mode()));
        }
    }
    Ok(sorted(out))
}

fn read_source(source: &str, entries: Vec<Entry>, definitions: &mut Definitions, findings: &mut Findings) {
    for (name, kind) in entries {
        let path = format!("{source}/{name}");
        if RESERVED.iter().any(|prefix| name.starts_with(prefix)) {
            findings.error(&path, None, "names that begin with s6rc- or s6-rc- are reserved: rename it");
            continue;
        }
        if name.contains('\n') {
            findings.error(&path, None, "a service name cannot contain a newline: rename it");
            continue;
        }
        let kind = FileType::from_raw_mode(kind);
        if !matches!(kind, FileType::Directory | FileType::Symlink | FileType::Unknown) {
            continue;
        }
        match open_dir(rustix::fs::CWD, &path) {
            Ok(dir) => {
                let definition = definitions.entry(name.clone()).or_insert_with(|| Definition::new(&name));
                definition.dirs.push(path.clone());
                Reader { dir, path, findings }.read(definition);
            }
            Err(Errno::NOTDIR) => {}
            Err(Errno::NOENT) => findings.error(&path, None, "this link leads nowhere: mend or remove it"),
            Err(e) => findings.error(&path, None, format!("unable to open: {}", reason(e))),
        }
    }
}

/// Reads one directory of a definition.
struct Reader<'a> {
    dir: OwnedFd,
    path: String,
    findings: &'a mut Findings,
}

impl Reader<'_> {
    fn read(&mut self, definition: &mut Definition) {
        let entries = match entries(&self.dir) {
            Ok(entries) => entries,
            Err(e) => {
                self.findings.error(&self.path, None, format!("unable to list: {}", reason(e)));
                return;
            }
        };
        let has = |name: &str| entries.iter().any(|(entry, _)| entry == name);
        if has("type") {
            self.read_type(definition);
        }
        // The .d form wins: the old one is not even looked at.
        for (list, directory) in [("dependencies", "dependencies.d"), ("contents", "contents.d")] {
            let names = match (has(directory), has(list)) {
                (true, _) => self.names_in_directory(directory),
                (false, true) => self.names_in_file(list),
                (false, false) => continue,
            };
            match list {
                "contents" => {
                    definition.has_contents = true;
                    definition.contents.extend(names);
                }
                _ => definition.dependencies.extend(names),
            }
        }
        for (directory, soft) in [("wants.d", true), ("after.d", false)] {
            if has(directory) {
                let names = self.names_in_directory(directory);
                if soft { &mut definition.wants } else { &mut definition.after }.extend(names);
            }
        }
        for (name, kind) in &entries {
            self.read_file(definition, name, FileType::from_raw_mode(*kind));
        }
    }

    fn file_path(&self, file: &str) -> String {
        format!("{}/{file}", self.path)
    }

    fn error(&mut self, file: &str, line: Option<usize>, text: impl Into<String>) {
        let path = self.file_path(file);
        self.findings.error(&path, line, text);
    }

    fn bytes(&mut self, file: &str) -> Option<Vec<u8>> {
        match servicedir::read_on_disk(&self.dir, file) {
            Ok(bytes) => Some(bytes),
            Err(e) => {
                self.error(file, None, format!("unable to read: {}", reason(e)));
                None
            }
        }
    }

    /// `type`: one word, with or without a newline.
    fn read_type(&mut self, definition: &mut Definition) {
        let Some(bytes) = self.bytes("type") else { return };
        let word = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let kind = match word {
            b"oneshot" => Kind::Oneshot,
            b"longrun" => Kind::Longrun,
            b"bundle" => Kind::Bundle,
            _ => {
                let text = match word.strip_suffix(b"\r") {
                    Some(_) => {
                        "the line ends with a carriage return: save it with LF line ends, not CR LF".into()
                    }
                    None if word.starts_with("\u{feff}".as_bytes()) => {
                        "the file begins with a byte order mark: save it as UTF-8 without one".into()
                    }
                    None => format!(
                        "invalid type {:?}: write oneshot, longrun or bundle, and nothing else",
                        String::from_utf8_lossy(word)
                    ),
                };
                return self.error("type", Some(1), text);
            }
        };
        match definition.kind {
            Some(old) if old != kind => {
                let text = format!(
                    "another source says that {} is a {}: one of them is wrong",
                    definition.name, old
                );
                self.error("type", Some(1), text);
            }
            _ => definition.kind = Some(kind),
        }
    }

    /// One name per line: leading blanks are removed, empty lines and those that begin with # skipped, and
    /// the rest of the line is the name, as in s6-rc.
    fn names_in_file(&mut self, file: &str) -> Vec<Reference> {
        let Some(bytes) = self.bytes(file) else { return Vec::new() };
        let (mut names, place) = (Vec::new(), Rc::from(self.file_path(file)));
        for (number, line) in bytes.split(|&b| b == b'\n').enumerate() {
            let text = String::from_utf8_lossy(line);
            let name = text.trim_start_matches([' ', '\t']);
            if name.is_empty() || name.starts_with('#') {
                continue;
            }
            let line = Some(number + 1);
            if name.ends_with('\r') {
                self.error(
                    file,
                    line,
                    "the line ends with a carriage return: save it with LF line ends, not CR LF",
                );
            } else if name.ends_with([' ', '\t']) || name.contains(" #") {
                self.error(
                    file,
                    line,
                    format!("{name:?}: blanks and comments after a name count as part of it: remove them"),
                );
            } else {
                names.push(self.reference(&place, line, name));
            }
        }
        names
    }

    fn names_in_directory(&mut self, directory: &str) -> Vec<Reference> {
        let (listed, place) = (entries_of(&self.dir, directory), Rc::from(self.file_path(directory)));
        match listed {
            Ok(entries) => entries.iter().map(|(name, _)| self.reference(&place, None, name)).collect(),
            Err(e) => {
                self.error(directory, None, format!("unable to list: {}", reason(e)));
                Vec::new()
            }
        }
    }

    fn reference(&mut self, place: &Rc<str>, line: Option<usize>, name: &str) -> Reference {
        let reference = Reference { name: name.to_owned(), place: Rc::clone(place), line };
        if RESERVED.iter().any(|prefix| name.starts_with(prefix)) {
            let text = format!("{name} is an internal name of s6-rc: remove it");
            self.findings.error(&reference.path(), line, text);
        }
        reference
    }

    fn read_file(&mut self, definition: &mut Definition, name: &str, kind: FileType) {
        match name {
            "flag-essential" => definition.essential = true,
            "flag-recommended" => definition.recommended = true,
            "timeout-up" => definition.timeout_up = self.milliseconds(name),
            "timeout-down" => definition.timeout_down = self.milliseconds(name),
            "up" => definition.up = self.script(name).or(definition.up.take()),
            "down" if definition.kind != Some(Kind::Longrun) => {
                definition.down = self.script(name).or(definition.down.take());
            }
            "reload" if definition.kind != Some(Kind::Longrun) => {
                definition.reload = self.script(name).or(definition.reload.take());
            }
            "producer-for" => definition.producer_for = self.one_name(name),
            "consumer-for" => {
                definition.consumer_for = self.names_in_file(name);
                if definition.consumer_for.is_empty() {
                    self.error(name, None, "write the names of its producers into it, or remove it");
                }
            }
            "pipeline-name" => definition.pipeline_name = self.one_name(name),
            _ if is_copied(name) => {
                self.service_file(definition, name, kind);
            }
            _ if OTHER_FILES.contains(&name) => {}
            _ => self.unknown_file(name),
        }
    }

    /// A file that holds one name.
    fn one_name(&mut self, file: &str) -> Option<Reference> {
        let mut names = self.names_in_file(file).into_iter();
        let first = names.next();
        if first.is_none() || names.next().is_some() {
            self.error(file, None, "one name is to be in it, and no more");
        }
        first
    }

    /// A file that nobody reads, with a name that is nearly one that is read.
    fn unknown_file(&mut self, name: &str) {
        if name == "isolate" {
            let path = self.file_path(name);
            let text = "nobody reads this file: services of rc have one supervisor, and cannot be isolated";
            return self.findings.warn(&path, None, text);
        }
        let known = SERVICE_FILES.iter().chain(&LABELS).chain(&SERVICE_DIRS).chain(&OTHER_FILES).copied();
        if let Some(near) = nearest(name, 1, known) {
            let path = self.file_path(name);
            self.findings.warn(&path, None, format!("nobody reads this file: did you mean {near}?"));
        }
    }

    fn service_file(&mut self, definition: &mut Definition, name: &str, kind: FileType) {
        let path = self.file_path(name);
        let is_dir = SERVICE_DIRS.contains(&name);
        if is_dir != (kind == FileType::Directory) && kind != FileType::Symlink && kind != FileType::Unknown {
            let text = if is_dir { "must be a directory" } else { "must be a regular file" };
            return self.error(name, None, text);
        }
        if let Some((_, other)) = definition.files.iter().find(|(file, _)| file == name) {
            let text = format!("{other} says the same thing: two sources define {name}, remove one");
            return self.error(name, None, text);
        }
        if definition.kind != Some(Kind::Oneshot) {
            self.check_value(definition, name);
        }
        definition.files.push((name.to_owned(), path));
    }

    /// Files that hold one value.
    fn check_value(&mut self, definition: &mut Definition, name: &str) {
        let number = matches!(
            name,
            "notification-fd" | "lock-fd" | "timeout-kill" | "timeout-finish" | "max-death-tally"
        );
        let signal = matches!(name, "down-signal" | "reload-signal");
        if name == "kill-mode"
            && let Some(Err(why)) = self.bytes(name).map(|bytes| parse_kill_mode(&bytes))
        {
            self.error(name, Some(1), why);
        }
        if !number && !signal {
            return;
        }
        let Some(bytes) = self.bytes(name) else { return };
        let shown =
            String::from_utf8_lossy(bytes.split(|&b| b == b'\n').next().unwrap_or_default()).into_owned();
        let value = parse_uint(&bytes);
        if let Some(place) = DESCRIPTORS.iter().position(|file| *file == name) {
            definition.descriptors[place] = value;
        }
        if number && value.is_none() {
            self.error(name, Some(1), format!("{shown:?} is no number: write digits only"));
        }
        if signal && parse_signal(&bytes).is_none() {
            self.error(
                name,
                Some(1),
                format!("{shown:?} is no signal: write a name such as SIGINT, or a number"),
            );
        }
    }

    fn milliseconds(&mut self, file: &str) -> u32 {
        let Some(bytes) = self.bytes(file) else { return 0 };
        let text = String::from_utf8_lossy(&bytes);
        let digits = text.trim_end_matches('\n');
        match digits.parse::<u32>() {
            Ok(n) if digits.bytes().all(|b| b.is_ascii_digit()) => n,
            _ => {
                self.error(
                    file,
                    Some(1),
                    format!("{digits:?} is no number of milliseconds: write digits only"),
                );
                0
            }
        }
    }

    /// `up`, `down` and `reload`: execline, whatever the first line says.
    fn script(&mut self, file: &str) -> Option<Words> {
        let bytes = self.bytes(file)?;
        if let Some(line) = bytes.split(|&b| b == b'\n').position(|line| line.ends_with(b"\r")) {
            let text = "the line ends with a carriage return: save it with LF line ends, not CR LF";
            self.error(file, Some(line + 1), text);
            return None;
        }
        match execline::parse(&bytes) {
            Ok(words) => {
                if let Some(hint) = execline::looks_like_shell(&bytes) {
                    let path = self.file_path(file);
                    self.findings.warn(&path, Some(hint.line), hint.sign.to_string());
                }
                Some(words)
            }
            Err(e) => {
                self.error(file, Some(e.at.line), format!("column {}: {}", e.at.column, e.fault));
                None
            }
        }
    }
}

/// Looks for what a definition lacks, all its directories read.
fn complete(definition: &Definition, findings: &mut Findings) {
    let path = definition.path().to_owned();
    let Some(kind) = definition.kind else {
        if definition.dirs.iter().any(|dir| findings.knows(dir) || findings.knows(&format!("{dir}/type"))) {
            return;
        }
        let text = "there is no file type in it: write oneshot, longrun or bundle into one";
        return findings.error(&path, None, text);
    };
    match kind {
        Kind::Bundle if !definition.dependencies.is_empty() => {
            let reference = &definition.dependencies[0];
            let text = "dependencies of a bundle count for nothing: give them to the services in it";
            findings.warn(&reference.path(), reference.line, text);
        }
        Kind::Bundle if !definition.has_contents => {
            findings.error(
                &path,
                None,
                "a bundle needs contents.d: make the directory, one empty file per member",
            );
        }
        Kind::Oneshot if definition.up.is_none() && !definition.runs_script() => {
            if !definition.dirs.iter().any(|dir| findings.knows(&format!("{dir}/up"))) {
                let text = "a oneshot needs up, a command line that may be empty, or run, a script";
                findings.error(&path, None, text);
            }
        }
        Kind::Longrun => complete_longrun(definition, &path, findings),
        Kind::Bundle | Kind::Oneshot => {}
    }
}

fn complete_longrun(definition: &Definition, path: &str, findings: &mut Findings) {
    let file = |name: &str| definition.files.iter().find(|(file, _)| file == name).map(|(_, path)| path);
    if file("run").is_none() && !findings.knows(&format!("{path}/run")) {
        let text = "a longrun needs run: write a script that ends in the program to run";
        return findings.error(path, None, text);
    }
    let [notify, lock] = [0, 1].map(|n| Some((file(DESCRIPTORS[n])?, definition.descriptors[n]?)));
    for (path, number) in [notify, lock].into_iter().flatten().filter(|(_, n)| *n < 3) {
        findings.warn(path, Some(1), format!("descriptor {number} is standard input, output or error"));
    }
    if let (Some((path, a)), Some((_, b))) = (notify, lock)
        && a == b
    {
        findings.error(path, Some(1), format!("lock-fd says {b} too: choose different numbers"));
    }
}

#[cfg(test)]
mod tests {
    use super::super::graph::Graph;
    use super::*;
    use std::fs;
    use std::path::PathBuf;

    /// Sources in a directory of their own: files by path, which is the source's name and what is in it.
    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str, files: &[(&str, &str)]) -> Tree {
            let base = std::env::temp_dir().join(format!("perennial-source-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&base);
            for (path, text) in files {
                let path = base.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            Tree(base)
        }

        /// What is wrong, without the way to it, and the graph.
        fn read(&self, sources: &[&str]) -> (Vec<String>, Vec<String>, Definitions, Graph) {
            let path = |name: &&str| self.0.join(name).to_str().unwrap().to_owned();
            let sources: Vec<String> = sources.iter().map(path).collect();
            let mut findings = Findings::default();
            let definitions = read(&sources, Definitions::new(), &[], &mut findings);
            let graph = Graph::build(&definitions, &mut findings);
            let base = format!("{}/", self.0.display());
            let list = |list: Vec<Problem>| list.iter().map(|p| p.to_string().replace(&base, "")).collect();
            (list(findings.errors), list(findings.warnings), definitions, graph)
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    const RUN: &str = "#!/bin/sh\nexec sleep 1\n";

    #[test]
    fn all_that_is_wrong_is_said_at_once_with_file_and_line() {
        let tree = Tree::new(
            "wrong",
            &[
                ("s/a/type", "longrum\n"),
                ("s/b/type", "oneshot\n"),
                ("s/c/type", "bundle\n"),
                ("s/d/type", "longrun"),
                ("s/d/run", RUN),
                ("s/d/timeout-up", "1s\n"),
                ("s/d/notification-fd", "three"),
                ("s/d/dependencies", "# who\n  b\nb \nnobody\n"),
                ("s/d/producer-for", "b\nc\n"),
                ("s/e/type", "longrun"),
                ("s/e/run", RUN),
                ("s/e/consumer-for", "\n"),
                ("s/f/type", "oneshot"),
                ("s/f/up", "echo {\n"),
                ("s/s6rc-x/type", "oneshot"),
            ],
        );
        let (errors, warnings, ..) = tree.read(&["s"]);
        let starts = [
            "s/a/type:1: invalid type \"longrum\"",
            "s/b: a oneshot needs up",
            "s/c: a bundle needs contents.d",
            "s/d/dependencies:3: \"b \": blanks",
            "s/d/dependencies:4: there is no service named nobody",
            "s/d/notification-fd:1: \"three\" is no number",
            "s/d/producer-for: one name is to be in it",
            "s/d/producer-for:1: producers and consumers must be longruns",
            "s/d/timeout-up:1: \"1s\" is no number of milliseconds",
            "s/e/consumer-for: write the names",
            "s/f/up:1: column 6: this { has no }",
            "s/s6rc-x: names that begin with s6rc-",
        ];
        assert_eq!(errors.len(), starts.len(), "{errors:#?}");
        for (error, start) in errors.iter().zip(starts) {
            assert!(error.starts_with(start), "{error} is not {start}");
        }
        assert_eq!(warnings, Vec::<String>::new());
    }

    #[test]
    fn layers_add_files_to_each_others_definitions() {
        let tree = Tree::new(
            "layers",
            &[
                ("one/web/type", "longrun\n"),
                ("one/web/run", RUN),
                ("two/web/dependencies.d/db", ""),
                ("two/web/timeout-kill", "100"),
                ("two/db/type", "oneshot"),
                ("two/db/run", RUN),
                ("two/db/reload", "echo again\n"),
                ("two/db/dta/x", ""),
                ("three/web/condition", RUN),
                ("three/.hidden/type", "nonsense"),
                ("three/README", "no service"),
            ],
        );
        let (errors, warnings, definitions, graph) = tree.read(&["one", "two", "three"]);
        assert_eq!(errors, Vec::<String>::new());
        assert_eq!(warnings, ["two/db/dta: nobody reads this file: did you mean data?"]);
        assert!(definitions["db"].runs_script() && !definitions["web"].runs_script());
        let (db, web) = (graph.index("db").unwrap(), graph.index("web").unwrap());
        assert_eq!(graph.services[web].needs, [db]);
        assert!(graph.services[web].condition && graph.services[db].reload);
        assert_eq!(definitions["web"].files.len(), 3);
    }

    #[test]
    fn two_layers_that_say_the_same_thing_are_told() {
        let tree = Tree::new(
            "double",
            &[
                ("one/web/type", "longrun"),
                ("one/web/run", RUN),
                ("two/web/type", "oneshot"),
                ("two/web/run", RUN),
            ],
        );
        let (errors, ..) = tree.read(&["one", "two"]);
        assert!(errors[0].starts_with("two/web/run: ") && errors[0].contains("two sources define run"));
        assert!(errors[1].starts_with("two/web/type:1: another source says that web is a longrun"));
    }

    #[test]
    fn funnels_and_chains_have_one_name() {
        let tree = Tree::new(
            "pipes",
            &[
                ("s/p1/type", "longrun"),
                ("s/p1/run", RUN),
                ("s/p1/producer-for", "m\n"),
                ("s/p2/type", "longrun"),
                ("s/p2/run", RUN),
                ("s/p2/producer-for", "m\n"),
                ("s/m/type", "longrun"),
                ("s/m/run", RUN),
                ("s/m/consumer-for", "p1\np2\n"),
                ("s/m/producer-for", "l"),
                ("s/l/type", "longrun"),
                ("s/l/run", RUN),
                ("s/l/consumer-for", "m\n"),
                ("s/l/pipeline-name", "all\n"),
            ],
        );
        let (errors, _, _, graph) = tree.read(&["s"]);
        assert_eq!(errors, Vec::<String>::new());
        assert_eq!(graph.bundles["all"], [0, 1, 2, 3]);
        let index = |name: &str| graph.index(name).unwrap();
        assert_eq!(graph.services[index("p1")].needs, [index("m")]);
        assert_eq!(graph.services[index("m")].needs, [index("l")]);
    }
}
