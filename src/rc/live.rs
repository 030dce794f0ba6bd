//! The live directory: where supervision finds what was defined.
//!
//! `/run/s6-rc` is a link to the directory proper, so that a new one can take its place in one step:
//!
//! | in it | |
//! |---|---|
//! | `graph` | names, edges and time limits, as text ([`to_text`]) |
//! | `scandir` | link to the scan directory |
//! | `prefix` | what goes before the names in the scan directory |
//! | `lock` | held by whoever changes something |
//! | `timing` | when each service was asked for, started and ready ([`super::timing`]) |
//! | `servicedirs/NAME` | service directory of a longrun, and its working directory; `/run/service/NAME` links to it |
//! | `oneshots/NAME` | `up` and `down` of a oneshot, each word ended by NUL |
//!
//! `servicedirs/s6rc-oneshot-runner` is the working directory of oneshots: scripts know it by that name.

use super::graph::{Graph, Index, Kind, Service};
use super::source::{Definition, Definitions, Words};
use crate::diag::{Error, Result, Unable};
use crate::process::{Pid, Signal};
use crate::sys::signal::{self, Target};
use crate::sys::{Errno, lock};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, mkdirat, openat, symlinkat};
use std::fmt::Write as _;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;

/// Where oneshots run, below `servicedirs`.
const ONESHOT_CWD: &str = "s6rc-oneshot-runner";

/// The first line of `graph`: what it is, and the version of its form.
const HEADER: &str = "perennial-rc 1";

/// A live directory.
#[derive(Clone, Debug)]
pub struct Live {
    /// The link.
    pub path: String,
    /// Absolute path of the scan directory.
    pub scandir: String,
    /// Goes before names in the scan directory.
    pub prefix: String,
    /// What is defined.
    pub graph: Graph,
}

impl Live {
    /// Opens the live directory `path`.
    pub fn open(path: &str) -> Result<Live> {
        let text = fs::read_to_string(format!("{path}/graph")).unable(format_args!("read {path}/graph"))?;
        let graph = from_text(&text).ok_or_else(|| {
            Error::new(4, format!("unable to read {path}/graph: it is damaged, or of another version"))
        })?;
        let scandir = fs::read_link(format!("{path}/scandir")).unable(format_args!("read {path}/scandir"))?;
        let prefix = fs::read_to_string(format!("{path}/prefix")).unwrap_or_default();
        Ok(Live { path: path.to_owned(), scandir: scandir.to_string_lossy().into_owned(), prefix, graph })
    }

    /// Takes the lock against other changes, and writes who we are into it.
    pub fn lock(&self, busy: Busy) -> Result<OwnedFd> {
        let path = format!("{}/lock", self.path);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
        let file =
            openat(CWD, &*path, flags, Mode::from_raw_mode(0o644)).unable(format_args!("open {path}"))?;
        if !lock::try_lock(&file).unable(format_args!("lock {path}"))? {
            match busy {
                Busy::Refuse => {
                    return Err(Error::new(
                        crate::diag::code::SYSTEM,
                        format!("unable to lock {path}: another change is being made (-b waits for it)"),
                    ));
                }
                Busy::Wait => {}
                Busy::Interrupt => interrupt(&file),
            }
            lock::wait_lock(&file).unable(format_args!("lock {path}"))?;
        }
        let _ = rustix::fs::ftruncate(&file, 0);
        let _ = rustix::io::pwrite(&file, format!("{}\n", Pid::own()).as_bytes(), 0);
        Ok(file)
    }

    /// The name of a service in the scan directory.
    pub fn entry(&self, index: Index) -> String {
        format!("{}{}", self.prefix, self.graph.name(index))
    }

    /// The directory of a oneshot.
    pub fn oneshot(&self, index: Index) -> String {
        format!("{}/oneshots/{}", self.path, self.graph.name(index))
    }

    /// Puts links to all service directories into the scan directory. The names that were linked.
    pub fn link(&self) -> Result<Vec<String>> {
        let real = fs::canonicalize(&self.path).unable(format_args!("resolve {}", self.path))?;
        let mut names = Vec::new();
        for service in self.graph.services.iter().filter(|s| s.longrun) {
            let name = format!("{}{}", self.prefix, service.name);
            let target = format!("{}/servicedirs/{}", real.display(), service.name);
            let path = format!("{}/{name}", self.scandir);
            match symlinkat(&*target, CWD, &*path) {
                Ok(()) => {}
                Err(Errno::EXIST) if fs::read_link(&path).is_ok_and(|t| t.as_os_str() == &*target) => {}
                Err(e) => return Err(Error::unable(format_args!("link {path}"), e)),
            }
            names.push(name);
        }
        Ok(names)
    }
}

/// What to do when somebody else is making a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Busy {
    /// Say so, and do nothing.
    Refuse,
    /// Wait until it is made.
    Wait,
    /// Tell it to end: it leaves things as they are then.
    Interrupt,
}

/// Tells whoever holds the lock to end. The file says who that is, and it is alive, or there were no lock.
fn interrupt(file: &OwnedFd) {
    let mut buf = [0u8; 16];
    let n = rustix::io::pread(file, &mut buf, 0).unwrap_or(0);
    let pid = std::str::from_utf8(&buf[..n]).ok().and_then(|text| text.trim_end().parse().ok());
    if let Some(pid) = pid.and_then(Pid::from_raw) {
        let _ = signal::send(Target::Process(pid), Signal::TERM);
        let _ = signal::send(Target::Process(pid), Signal::CONT);
    }
}

/// Makes a live directory at `path` (a link to a new directory beside it) for what is defined.
pub fn create(
    path: &str,
    scandir: &str,
    prefix: &str,
    definitions: &Definitions,
    graph: Graph,
) -> Result<Live> {
    let real = new_directory(path)?;
    fill(&real, definitions, &graph).and_then(|()| finish(path, &real, scandir, prefix)).inspect_err(
        |_| {
            // Half of it helps nobody.
            let _ = fs::remove_dir_all(&real);
        },
    )?;
    Ok(Live { path: path.to_owned(), scandir: scandir.to_owned(), prefix: prefix.to_owned(), graph })
}

/// Makes a live directory at `path` from a compiled one.
pub fn create_from(path: &str, scandir: &str, prefix: &str, compiled: &str) -> Result<Live> {
    let real = new_directory(path)?;
    copy_tree(compiled, &real).and_then(|()| finish(path, &real, scandir, prefix)).inspect_err(|_| {
        let _ = fs::remove_dir_all(&real);
    })?;
    Live::open(path)
}

fn new_directory(path: &str) -> Result<String> {
    if fs::symlink_metadata(path).is_ok() {
        return Err(Error::unable(format_args!("make {path}"), Errno::EXIST));
    }
    for n in 0..1000u32 {
        let real = format!("{path}:{}.{n}", Pid::own());
        match mkdirat(CWD, &*real, Mode::from_raw_mode(0o755)) {
            Ok(()) => return Ok(real),
            Err(Errno::EXIST) => {}
            Err(e) => return Err(Error::unable(format_args!("make {real}"), e)),
        }
    }
    Err(Error::unable(format_args!("make {path}"), Errno::EXIST))
}

/// The last step: what depends on where it is, and the link that makes it count.
fn finish(path: &str, real: &str, scandir: &str, prefix: &str) -> Result<()> {
    symlinkat(scandir, CWD, &*format!("{real}/scandir")).unable(format_args!("make {real}/scandir"))?;
    fs::write(format!("{real}/prefix"), prefix).unable(format_args!("write {real}/prefix"))?;
    let target = real.rsplit('/').next().unwrap_or(real);
    symlinkat(target, CWD, path).unable(format_args!("make {path}"))
}

/// Writes the part of a live directory that is the same wherever it is: what `rc compile` makes.
pub fn fill(dir: &str, definitions: &Definitions, graph: &Graph) -> Result<()> {
    fs::write(format!("{dir}/graph"), to_text(graph)).unable(format_args!("write {dir}/graph"))?;
    for sub in ["servicedirs", "oneshots", &format!("servicedirs/{ONESHOT_CWD}")] {
        make_dir(&format!("{dir}/{sub}"))?;
    }
    // Of one that is hidden nothing is asked, so nothing need be there.
    for service in graph.services.iter().filter(|s| !s.hidden) {
        let Some(definition) = definitions.get(&service.name) else { continue };
        match definition.kind {
            Some(Kind::Longrun) => longrun(&format!("{dir}/servicedirs/{}", service.name), definition)?,
            _ => oneshot(&format!("{dir}/oneshots/{}", service.name), definition)?,
        }
    }
    Ok(())
}

fn make_dir(path: &str) -> Result<()> {
    mkdirat(CWD, path, Mode::from_raw_mode(0o755)).unable(format_args!("make {path}"))
}

/// A service directory: its files, `run` and `finish` executable whatever they were, and `down`, so that it
/// is started when it is its turn.
fn longrun(dir: &str, definition: &Definition) -> Result<()> {
    make_dir(dir)?;
    for (file, from) in &definition.files {
        let to = format!("{dir}/{file}");
        if fs::metadata(from).is_ok_and(|m| m.is_dir()) {
            copy_tree(from, &to)?;
            continue;
        }
        let mode = if matches!(file.as_str(), "run" | "finish") { 0o755 } else { 0o644 };
        copy_file(from, &to, mode)?;
    }
    if definition.files.iter().any(|(file, _)| file == "template") {
        make_dir(&format!("{dir}/instance"))?;
        make_dir(&format!("{dir}/instances"))?;
    }
    if let Some(consumer) = &definition.producer_for {
        let path = format!("{dir}/producer-for");
        fs::write(&path, format!("{}\n", consumer.name)).unable(format_args!("write {path}"))?;
    }
    if !definition.consumer_for.is_empty() {
        let path = format!("{dir}/consumer-for");
        let names: String = definition.consumer_for.iter().map(|r| format!("{}\n", r.name)).collect();
        fs::write(&path, names).unable(format_args!("write {path}"))?;
    }
    let down = format!("{dir}/down");
    fs::write(&down, "").unable(format_args!("write {down}"))
}

fn oneshot(dir: &str, definition: &Definition) -> Result<()> {
    make_dir(dir)?;
    for (file, words) in [("up", &definition.up), ("down", &definition.down)] {
        let Some(words) = words else { continue };
        let path = format!("{dir}/{file}");
        fs::write(&path, joined(words)).unable(format_args!("write {path}"))?;
    }
    let target = format!("../../servicedirs/{ONESHOT_CWD}");
    symlinkat(&*target, CWD, &*format!("{dir}/cwd")).unable(format_args!("make {dir}/cwd"))
}

fn joined(words: &Words) -> Vec<u8> {
    words.iter().flat_map(|word| word.iter().copied().chain([0])).collect()
}

fn copy_file(from: &str, to: &str, mode: u32) -> Result<()> {
    let bytes = fs::read(from).unable(format_args!("read {from}"))?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = openat(CWD, to, flags, Mode::from_raw_mode(mode)).unable(format_args!("make {to}"))?;
    let mut file = fs::File::from(file);
    std::io::Write::write_all(&mut file, &bytes).unable(format_args!("write {to}"))?;
    // Whatever the umask.
    file.set_permissions(fs::Permissions::from_mode(mode)).unable(format_args!("chmod {to}"))
}

/// Copies a directory with all that is in it; links stay links, modes stay.
fn copy_tree(from: &str, to: &str) -> Result<()> {
    if rustix::fs::accessat(CWD, to, rustix::fs::Access::EXISTS, AtFlags::empty()).is_err() {
        make_dir(to)?;
    }
    for entry in fs::read_dir(from).unable(format_args!("list {from}"))? {
        let entry = entry.unable(format_args!("list {from}"))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let (from, to) = (format!("{from}/{name}"), format!("{to}/{name}"));
        let meta = fs::symlink_metadata(&from).unable(format_args!("look at {from}"))?;
        if meta.is_symlink() {
            let target = fs::read_link(&from).unable(format_args!("read {from}"))?;
            symlinkat(&target, CWD, &*to).unable(format_args!("make {to}"))?;
        } else if meta.is_dir() {
            copy_tree(&from, &to)?;
        } else if meta.is_file() {
            copy_file(&from, &to, meta.permissions().mode() & 0o7777)?;
        }
    }
    Ok(())
}

/// The graph as text: a header, then a line for each service (kind, flags, limits, edges as numbers of
/// lines, and at the end the name, which may hold blanks) and for each bundle.
pub fn to_text(graph: &Graph) -> String {
    let list = |edges: &[Index]| -> String {
        let numbers: Vec<String> = edges.iter().map(Index::to_string).collect();
        if numbers.is_empty() { "-".to_owned() } else { numbers.join(",") }
    };
    let mut text = format!("{HEADER}\n");
    for s in &graph.services {
        let kind = if s.longrun { "longrun" } else { "oneshot" };
        let flags = s.essential as u8 | (s.notifies as u8) << 1 | (s.hidden as u8) << 2;
        let _ = writeln!(
            text,
            "{kind} {flags} {} {} {} {} {} {}",
            s.timeout_up,
            s.timeout_down,
            list(&s.needs),
            list(&s.wants),
            list(&s.after),
            s.name
        );
    }
    for (name, members) in &graph.bundles {
        let _ = writeln!(text, "bundle {} {name}", list(members));
    }
    text
}

/// Reads such text; `None` if it is none.
pub fn from_text(text: &str) -> Option<Graph> {
    let mut lines = text.lines();
    if lines.next() != Some(HEADER) {
        return None;
    }
    let mut graph = Graph::default();
    for line in lines {
        let (kind, rest) = line.split_once(' ')?;
        match kind {
            "bundle" => {
                let (members, name) = rest.split_once(' ')?;
                graph.bundles.insert(name.to_owned(), numbers(members)?);
            }
            "longrun" | "oneshot" => graph.services.push(service(kind == "longrun", rest)?),
            _ => return None,
        }
    }
    let count = graph.services.len();
    let edges = graph.services.iter().flat_map(|s| s.needs.iter().chain(&s.wants).chain(&s.after));
    if edges.chain(graph.bundles.values().flatten()).any(|to| *to >= count) {
        return None;
    }
    graph.link_back();
    Some(graph)
}

fn service(longrun: bool, rest: &str) -> Option<Service> {
    let mut fields = rest.splitn(7, ' ');
    let flags: u8 = fields.next()?.parse().ok()?;
    Some(Service {
        longrun,
        essential: flags & 1 != 0,
        notifies: flags & 2 != 0,
        hidden: flags & 4 != 0,
        timeout_up: fields.next()?.parse().ok()?,
        timeout_down: fields.next()?.parse().ok()?,
        needs: numbers(fields.next()?)?,
        wants: numbers(fields.next()?)?,
        after: numbers(fields.next()?)?,
        name: fields.next()?.to_owned(),
        needed_by: Vec::new(),
        preferred_by: Vec::new(),
    })
}

fn numbers(list: &str) -> Option<Vec<Index>> {
    if list == "-" {
        return Some(Vec::new());
    }
    list.split(',').map(|n| n.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::graph::tests::graph;
    use super::*;

    #[test]
    fn graphs_are_read_as_they_were_written() {
        let mut g = graph(&["a oneshot", "b longrun a", "c longrun a b", "all bundle b c", "none bundle"]);
        g.services[1].name = "b with blanks".into();
        g.services[1].notifies = true;
        g.services[2].essential = true;
        g.services[2].timeout_up = u32::MAX;
        g.services[2].after = vec![1];
        g.services[1].preferred_by = vec![2];
        assert_eq!(from_text(&to_text(&g)), Some(g));
    }

    #[test]
    fn damaged_text_is_refused() {
        for text in
            ["", "perennial-rc 2\n", "perennial-rc 1\nlongrun\n", "perennial-rc 1\noneshot 0 0 0 7 - - a\n"]
        {
            assert_eq!(from_text(text), None, "{text:?}");
        }
    }
}
