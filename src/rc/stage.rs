//! Writing definitions out: what supervision works with, wherever that lies.
//!
//! The same directory is a compiled database (`rc compile`), the part of a live directory that comes from the
//! sources, and what `rc apply` prepares beside that before anything is touched:
//!
//! | in it | |
//! |---|---|
//! | `graph` | names, edges and time limits, as text ([`super::live::to_text`]) |
//! | `digests` | for each file of a definition a digest, its name and the service's: `9f86d081884c7d65 run web` |
//! | `servicedirs/NAME` | service directory of a longrun |
//! | `oneshots/NAME` | `up` and `down` of a oneshot, each word ended by NUL; `outfit` leads to its `user` and so on |
//! | `conditions/NAME` | `up` runs the condition of the service |
//! | `reloads/NAME` | `up` is the `reload` of a oneshot |
//!
//! What is asked of the supervisor is always that a oneshot be brought up: conditions and reloads are oneshots
//! too. `servicedirs/s6rc-oneshot-runner` is the working directory of command lines; a script of one's own
//! (`run`, `condition`) runs in its directory.

use super::graph::{Graph, Kind};
use super::live;
use super::source::{Definition, Definitions, EXECUTED, Words};
use crate::diag::{Result, Unable};
use crate::init::settings;
use crate::ordered::Map;
use crate::ordered::sorted;
use crate::sys::{Errno, process};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, mkdirat, openat, symlinkat};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// Where command lines run, below `servicedirs`.
pub const ONESHOT_CWD: &str = "s6rc-oneshot-runner";

/// Files that say what the scripts of a oneshot are given.
pub const ONESHOT_OUTFIT: [&str; 7] = ["user", "env", "env-file", "umask", "limits", "nice", "oom-score"];

/// The directories of definitions. The last two are there if there is something to be in them.
pub const DIRS: [&str; 4] = ["servicedirs", "oneshots", "conditions", "reloads"];

/// Of each service the digests of its files, by the file's name.
pub type Digests = Map<String, Map<String, u64>>;

/// Writes all definitions of a graph into the directory `dir`, which is empty.
pub fn fill(dir: &str, definitions: &Definitions, graph: &Graph) -> Result<()> {
    for sub in ["servicedirs", "oneshots"] {
        make_dir(&format!("{dir}/{sub}"))?;
    }
    make_dir(&format!("{dir}/servicedirs/{ONESHOT_CWD}"))?;
    let (mut digests, labels) = (String::new(), labels());
    // Of one that is hidden nothing is asked, so nothing need be there.
    for service in graph.services.iter().filter(|s| !s.hidden) {
        let Some(definition) = definitions.get(&service.name) else { continue };
        let mut writer = Writer { dir, definition, digests: &mut digests, labels: labels.as_deref() };
        match definition.kind {
            Some(Kind::Longrun) => writer.longrun()?,
            _ => writer.oneshot()?,
        }
        if service.condition {
            writer.condition()?;
        }
    }
    write(&format!("{dir}/digests"), digests)?;
    write(&format!("{dir}/graph"), live::to_text(graph))
}

/// Writes one more oneshot into a directory that was written so.
pub fn add_oneshot(dir: &str, definition: &Definition) -> Result<()> {
    let path = format!("{dir}/digests");
    let mut digests = fs::read_to_string(&path).unable(format_args!("read {path}"))?;
    Writer { dir, definition, digests: &mut digests, labels: None }.oneshot()?;
    write(&path, digests)
}

/// `PERENNIAL_LABELS`: what a service without a logger writes to the container's output goes through one that
/// puts the service's name before each line. It has the output alone where `PERENNIAL_LABELS_STDERR` is 0: errors
/// go to the container's errors then, as they are. Where that logger is, if it is wanted.
fn labels() -> Option<String> {
    settings::text("PERENNIAL_LABELS").filter(|value| value != "0")?;
    process::sibling("svlog").map(|(svlog, _)| svlog.to_string_lossy().into_owned())
}

/// Makes that logger.
fn label(service: &str, svlog: &str) -> Result<()> {
    let dir = format!("{service}/log");
    make_dir(&dir)?;
    write(&format!("{dir}/run"), format!("#!{svlog} --labels\n"))?;
    let run = format!("{dir}/run");
    fs::set_permissions(&run, fs::Permissions::from_mode(0o755)).unable(format_args!("chmod {run}"))?;
    if settings::number("PERENNIAL_LABELS_STDERR") != Some(0) {
        write(&format!("{dir}/with-stderr"), "")?;
    }
    Ok(())
}

/// Reads the digests of a directory that was written so. None of what cannot be read.
pub fn digests(dir: &str) -> Digests {
    let text = fs::read_to_string(format!("{dir}/digests")).unwrap_or_default();
    let mut all = Digests::new();
    for line in text.lines() {
        let mut fields = line.splitn(3, ' ');
        if let (Some(digest), Some(file), Some(name)) = (fields.next(), fields.next(), fields.next())
            && let Ok(digest) = u64::from_str_radix(digest, 16)
        {
            all.entry(name.to_owned()).or_default().insert(file.to_owned(), digest);
        }
    }
    all
}

/// Writes one definition out.
struct Writer<'a> {
    dir: &'a str,
    definition: &'a Definition,
    digests: &'a mut String,
    /// The logger that puts labels before lines, if services are to have one.
    labels: Option<&'a str>,
}

impl Writer<'_> {
    fn place(&self, kind: &str) -> String {
        format!("{}/{kind}/{}", self.dir, self.definition.name)
    }

    /// Makes a directory where there is hardly ever any.
    fn rare_dir(&self, kind: &str) -> Result<String> {
        make_if_missing(&format!("{}/{kind}", self.dir))?;
        let dir = self.place(kind);
        make_dir(&dir).map(|()| dir)
    }

    fn note(&mut self, file: &str, digest: Digest) {
        let _ = writeln!(self.digests, "{:x} {file} {}", digest.0, self.definition.name);
    }

    /// A service directory: its files, those that are executed executable whatever they were, and `down`, so
    /// that it is started when it is its turn.
    fn longrun(&mut self) -> Result<()> {
        let dir = self.place("servicedirs");
        make_dir(&dir)?;
        self.copy_files(&dir, |file| file != "condition")?;
        if self.definition.has_file("template") {
            make_dir(&format!("{dir}/instance"))?;
            make_dir(&format!("{dir}/instances"))?;
        }
        let definition = self.definition;
        if let Some(consumer) = &definition.producer_for {
            self.made_file(&dir, "producer-for", format!("{}\n", consumer.name).as_bytes())?;
        }
        if definition.has_file("notify-socket") && definition.timeout_up > 0 {
            // What it says moves its supervisor's deadline, whoever starts it.
            self.made_file(&dir, "timeout-up", format!("{}\n", definition.timeout_up).as_bytes())?;
        }
        if !definition.consumer_for.is_empty() {
            let names: String = definition.consumer_for.iter().map(|r| format!("{}\n", r.name)).collect();
            self.made_file(&dir, "consumer-for", names.as_bytes())?;
        }
        let has_logger = definition.producer_for.is_some() || !definition.consumer_for.is_empty();
        if let Some(svlog) = self.labels.filter(|_| !has_logger) {
            label(&dir, svlog)?;
        }
        write(&format!("{dir}/down"), "")
    }

    fn oneshot(&mut self) -> Result<()> {
        let dir = self.place("oneshots");
        make_dir(&dir)?;
        let definition = self.definition;
        let runner = format!("../../servicedirs/{ONESHOT_CWD}");
        let mut place = runner.clone();
        let outfit = definition.files.iter().any(|(file, _)| ONESHOT_OUTFIT.contains(&&**file));
        if outfit {
            self.copy_files(&dir, |file| ONESHOT_OUTFIT.contains(&file))?;
            link(".", &format!("{dir}/outfit"))?;
        }
        if definition.runs_script() {
            self.copy_files(&dir, |file| matches!(file, "run" | "data"))?;
            self.made_file(&dir, "up", b"./run\0")?;
            place = format!("../../oneshots/{}", definition.name);
        } else {
            link(&runner, &format!("{dir}/cwd"))?;
        }
        for (file, words) in [("up", &definition.up), ("down", &definition.down)] {
            let Some(words) = words else { continue };
            self.made_file(&dir, file, &joined(words))?;
        }
        if let Some(words) = &definition.reload {
            let dir = self.rare_dir("reloads")?;
            link(&place, &format!("{dir}/cwd"))?;
            if outfit {
                link(&format!("../../oneshots/{}", definition.name), &format!("{dir}/outfit"))?;
            }
            write(&format!("{dir}/up"), joined(words))?;
            self.note("reload", Digest::of(&joined(words)));
        }
        Ok(())
    }

    fn condition(&mut self) -> Result<()> {
        let dir = self.rare_dir("conditions")?;
        write(&format!("{dir}/up"), "./condition\0")?;
        self.copy_files(&dir, |file| file == "condition")
    }

    fn made_file(&mut self, dir: &str, file: &str, bytes: &[u8]) -> Result<()> {
        self.note(file, Digest::of(bytes));
        write(&format!("{dir}/{file}"), bytes)
    }

    fn copy_files(&mut self, dir: &str, wanted: impl Fn(&str) -> bool) -> Result<()> {
        let definition = self.definition;
        for (file, from) in definition.files.iter().filter(|(file, _)| wanted(file)) {
            let to = format!("{dir}/{file}");
            let mut digest = Digest::default();
            if fs::metadata(from).is_ok_and(|m| m.is_dir()) {
                copy_tree(from, &to, &mut digest)?;
            } else {
                let mode = if EXECUTED.contains(&&**file) { 0o755 } else { 0o644 };
                copy_file(from, &to, mode, &mut digest)?;
            }
            self.note(file, digest);
        }
        Ok(())
    }
}

/// Tells contents apart (FNV-1a). Nobody who could make two that are alike would gain by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Digest(u64);

impl Default for Digest {
    fn default() -> Digest {
        Digest(0xcbf2_9ce4_8422_2325)
    }
}

impl Digest {
    fn of(bytes: &[u8]) -> Digest {
        let mut digest = Digest::default();
        digest.add(bytes);
        digest
    }

    /// The bytes, and where they end.
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes.iter().copied().chain((bytes.len() as u32).to_ne_bytes()) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// Makes a directory.
pub fn make_dir(path: &str) -> Result<()> {
    mkdirat(CWD, path, Mode::from_raw_mode(0o755)).unable(format_args!("make {path}"))
}

/// Makes a directory that may be there.
pub fn make_if_missing(path: &str) -> Result<()> {
    match mkdirat(CWD, path, Mode::from_raw_mode(0o755)) {
        Err(Errno::EXIST) => Ok(()),
        made => made.unable(format_args!("make {path}")),
    }
}

fn link(target: &str, path: &str) -> Result<()> {
    symlinkat(target, CWD, path).unable(format_args!("make {path}"))
}

/// Writes a file whole.
pub fn write(path: &str, bytes: impl AsRef<[u8]>) -> Result<()> {
    fs::write(path, bytes).unable(format_args!("write {path}"))
}

fn joined(words: &Words) -> Vec<u8> {
    words.iter().flat_map(|word| word.iter().copied().chain([0])).collect()
}

fn copy_file(from: &str, to: &str, mode: u32, digest: &mut Digest) -> Result<()> {
    let bytes = fs::read(from).unable(format_args!("read {from}"))?;
    digest.add(&bytes);
    digest.add(&mode.to_ne_bytes());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = openat(CWD, to, flags, Mode::from_raw_mode(mode)).unable(format_args!("make {to}"))?;
    let mut file = fs::File::from(file);
    std::io::Write::write_all(&mut file, &bytes).unable(format_args!("write {to}"))?;
    // Whatever the umask.
    file.set_permissions(fs::Permissions::from_mode(mode)).unable(format_args!("chmod {to}"))
}

/// Copies a directory with all that is in it; links stay links, modes stay.
pub fn copy(from: &str, to: &str) -> Result<()> {
    copy_tree(from, to, &mut Digest::default())
}

fn copy_tree(from: &str, to: &str, digest: &mut Digest) -> Result<()> {
    if rustix::fs::accessat(CWD, to, rustix::fs::Access::EXISTS, AtFlags::empty()).is_err() {
        make_dir(to)?;
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(from).unable(format_args!("list {from}"))? {
        let entry = entry.unable(format_args!("list {from}"))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    for name in sorted(names) {
        let (from, to) = (format!("{from}/{name}"), format!("{to}/{name}"));
        digest.add(name.as_bytes());
        let meta = fs::symlink_metadata(&from).unable(format_args!("look at {from}"))?;
        if meta.is_symlink() {
            let target = fs::read_link(&from).unable(format_args!("read {from}"))?;
            digest.add(target.as_os_str().as_encoded_bytes());
            symlinkat(&target, CWD, &*to).unable(format_args!("make {to}"))?;
        } else if meta.is_dir() {
            copy_tree(&from, &to, digest)?;
        } else if meta.is_file() {
            copy_file(&from, &to, meta.permissions().mode() & 0o7777, digest)?;
        }
    }
    Ok(())
}
