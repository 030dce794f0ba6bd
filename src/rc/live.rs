//! The live directory: where supervision finds what was defined.
//!
//! `/run/s6-rc` is a link to the directory proper, so that a new one can take its place in one step:
//!
//! | in it | |
//! |---|---|
//! | `graph`, `digests`, `servicedirs`, `oneshots`, `conditions`, `reloads` | the definitions ([`super::stage`]) |
//! | `origin` | where they come from ([`Origin`]) |
//! | `scandir` | link to the scan directory |
//! | `prefix` | what goes before the names in the scan directory, if anything does |
//! | `lock` | held by whoever changes something |
//! | `next`, `commit`, `previous` | while definitions are applied ([`super::apply`]) |
//! | `timing` | when each service was asked for, started and ready ([`super::timing`]) |
//!
//! `servicedirs/NAME` is the working directory of a longrun, and `/run/service/NAME` links to it.

use super::graph::{Graph, Index, Service};
use super::source::{Definition, Definitions};
use super::{apply, stage};
use crate::diag::{self, Error, Result, Unable, code};
use crate::ordered::Set;
use crate::process::{Pid, Signal};
use crate::servicedir;
use crate::servicedir::state::State;
use crate::sys::signal::{self, Target};
use crate::sys::{Errno, clock, env, lock};
use crate::time::Mono;
use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat, symlinkat};
use std::fmt::Write as _;
use std::fs;
use std::os::fd::OwnedFd;
use std::time::Duration;

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
    /// What there is to say of a longrun.
    pub fn state(&self, name: &str) -> State {
        let path = format!("{}/servicedirs/{name}/supervise/state", self.path);
        State::parse(&servicedir::read_file(CWD, path).unwrap_or_default())
    }

    /// Opens the live directory `path`.
    pub fn open(path: &str) -> Result<Live> {
        let graph = read_graph(path)?;
        let scandir = fs::read_link(format!("{path}/scandir")).unable(format_args!("read {path}/scandir"))?;
        let prefix = fs::read_to_string(format!("{path}/prefix")).unwrap_or_default();
        Ok(Live { path: path.to_owned(), scandir: scandir.to_string_lossy().into_owned(), prefix, graph })
    }

    /// Takes the lock against other changes, and writes who we are into it. Whoever interrupts takes things
    /// down, whoever does not brings them up.
    pub fn lock(&self, busy: Busy) -> Result<OwnedFd> {
        self.lock_for(busy, if busy == Busy::Interrupt { "down" } else { "up" }, None)
    }

    /// The same for a change called `what` (`up`, `down`, `restart`, `apply`), until `deadline`.
    ///
    /// # Errors
    ///
    /// Code 2: the time was up. 111: somebody else makes a change, and that is to be refused; or a oneshot
    /// asks, in which case somebody waits for its end.
    pub fn lock_for(&self, busy: Busy, what: &str, deadline: Option<Mono>) -> Result<OwnedFd> {
        let path = format!("{}/lock", self.path);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
        let file =
            openat(CWD, &*path, flags, Mode::from_raw_mode(0o644)).unable(format_args!("open {path}"))?;
        let mut waited = 0u32;
        while !lock::try_lock(&file).unable(format_args!("lock {path}"))? {
            let refuse = |why: &str| Err(Error::new(code::SYSTEM, format!("unable to lock {path}: {why}")));
            if busy == Busy::Refuse {
                return refuse("another change is being made (-b waits for it)");
            }
            if env::get("RC_NAME").is_some() {
                return refuse("the change that runs this oneshot waits for it to end");
            }
            if deadline.is_some_and(|at| at <= clock::mono()) {
                return Err(Error::new(2, format!("unable to lock {path}: the time is up")));
            }
            // The holder may have written its number only now, so it is told again after a while.
            if waited.is_multiple_of(100) {
                let held = holder(&file);
                let opposite = |(_, theirs): &(Pid, String)| theirs != what;
                if busy == Busy::Interrupt || busy == Busy::Overtake && held.as_ref().is_some_and(opposite) {
                    held.iter().for_each(|(pid, _)| interrupt(*pid));
                } else if waited == 0 && busy == Busy::Overtake {
                    diag::warn("waiting for another change that is being made");
                }
            }
            waited += 1;
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = rustix::fs::ftruncate(&file, 0);
        let _ = rustix::io::pwrite(&file, format!("{} {what}\n", Pid::own()).as_bytes(), 0);
        apply::mend(&self.path)?;
        Ok(file)
    }

    /// Writes down where the definitions come from.
    pub fn note_origin(&self, origin: &Origin) -> Result<()> {
        stage::write(&format!("{}/origin", self.path), origin.to_text())
    }

    /// Where the definitions come from.
    pub fn origin(&self) -> Origin {
        Origin::from_text(&fs::read_to_string(format!("{}/origin", self.path)).unwrap_or_default())
    }

    /// The directory of the condition of a service: a oneshot.
    pub fn condition(&self, index: Index) -> String {
        format!("{}/conditions/{}", self.path, self.graph.name(index))
    }

    /// The directory of what reloads a oneshot: a oneshot.
    pub fn reload(&self, index: Index) -> String {
        format!("{}/reloads/{}", self.path, self.graph.name(index))
    }

    /// Whether the last time that a service was to be brought up its condition was not so.
    pub fn was_skipped(&self, index: Index) -> bool {
        let state = || servicedir::read_file(CWD, format!("{}/supervise/state", self.condition(index)));
        self.graph.services[index].condition
            && state().is_ok_and(|text| State::parse(&text).oneshot.as_deref() == Some("failed"))
    }

    /// The name of a service in the scan directory.
    pub fn entry(&self, index: Index) -> String {
        format!("{}{}", self.prefix, self.graph.name(index))
    }

    /// The directory of a oneshot.
    pub fn oneshot(&self, index: Index) -> String {
        format!("{}/oneshots/{}", self.path, self.graph.name(index))
    }

    /// For a hidden oneshot there is something to do by now: it is a service like any other from here on.
    pub fn reveal(&self, index: Index, definition: &Definition) -> Result<()> {
        let mut graph = self.graph.clone();
        graph.services[index].hidden = false;
        stage::add_oneshot(&self.path, definition)?;
        let (path, beside) = (format!("{}/graph", self.path), format!("{}/graph.new", self.path));
        fs::write(&beside, to_text(&graph)).unable(format_args!("write {beside}"))?;
        fs::rename(&beside, &path).unable(format_args!("rename {beside}"))
    }

    /// Puts links to all service directories into the scan directory. The names that were linked, and those of loggers
    /// in them before their services'.
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
            // A service that is started before its logger is known writes past it.
            let logs = fs::metadata(format!("{target}/log")).is_ok_and(|log| log.is_dir());
            names.extend(logs.then(|| format!("{name}/log")));
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
    /// Wait for one of the same kind, and interrupt any other: whoever brings up what somebody takes down
    /// knows what he does.
    Overtake,
}

/// Where definitions come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The bundle that a boot brings up. None: everything.
    pub top: Option<String>,
    /// Source directories; none: those of the image.
    pub sources: Vec<String>,
    /// A compiled database.
    pub compiled: Option<String>,
}

impl Origin {
    /// A line for each, with its word before it.
    pub fn to_text(&self) -> String {
        let line = |word: &str, value: &String| format!("{word} {value}\n");
        let sources = self.sources.iter().map(|path| line("source", path));
        let top = self.top.iter().map(|name| line("top", name));
        top.chain(sources).chain(self.compiled.iter().map(|path| line("compiled", path))).collect()
    }

    /// Reads such lines; what they do not say is not so.
    pub fn from_text(text: &str) -> Origin {
        let mut origin = Origin::default();
        for (word, value) in text.lines().filter_map(|line| line.split_once(' ')) {
            match word {
                "top" => origin.top = Some(value.to_owned()),
                "source" => origin.sources.push(value.to_owned()),
                "compiled" => origin.compiled = Some(value.to_owned()),
                _ => {}
            }
        }
        origin
    }

    /// What a boot brings up.
    pub fn wanted(&self, graph: &Graph) -> Set<Index> {
        let top = self.top.as_ref().and_then(|name| graph.atomics(name));
        graph.closure(top.unwrap_or_else(|| (0..graph.services.len()).collect()), false)
    }
}

/// Who holds the lock, and for what: the file says it.
fn holder(file: &OwnedFd) -> Option<(Pid, String)> {
    let mut buf = [0u8; 64];
    let n = rustix::io::pread(file, &mut buf, 0).unwrap_or(0);
    let text = std::str::from_utf8(&buf[..n]).ok()?;
    let (pid, what) = text.strip_suffix('\n')?.split_once(' ')?;
    Some((Pid::from_raw(pid.parse().ok()?)?, what.to_owned()))
}

/// Tells a process that makes a change to end. Who holds the lock may not have written its number yet, and the
/// one that stands there be another's by now.
fn interrupt(pid: Pid) {
    let comm = servicedir::read_file(CWD, format!("/proc/{pid}/comm")).unwrap_or_default();
    let ours = [&b"rc"[..], b"s6-rc", b"init", b"perennial"];
    if comm.is_empty() || ours.iter().any(|name| comm.starts_with(name)) {
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
    stage::fill(&real, definitions, &graph).and_then(|()| finish(path, &real, scandir, prefix)).inspect_err(
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
    stage::copy(compiled, &real).and_then(|()| finish(path, &real, scandir, prefix)).inspect_err(|_| {
        let _ = fs::remove_dir_all(&real);
    })?;
    let live = Live::open(path)?;
    live.note_origin(&Origin { compiled: Some(compiled.to_owned()), ..Origin::default() })?;
    Ok(live)
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
    if !prefix.is_empty() {
        stage::write(&format!("{real}/prefix"), prefix)?;
    }
    let target = real.rsplit('/').next().unwrap_or(real);
    symlinkat(target, CWD, path).unable(format_args!("make {path}"))
}

/// Reads the graph of a directory of definitions.
///
/// # Errors
///
/// Code 4: it is no graph.
pub fn read_graph(dir: &str) -> Result<Graph> {
    let text = fs::read_to_string(format!("{dir}/graph")).unable(format_args!("read {dir}/graph"))?;
    from_text(&text).ok_or_else(|| {
        Error::new(4, format!("unable to read {dir}/graph: it is damaged, or of another version"))
    })
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
        let flags = [s.essential, s.notifies, s.hidden, s.condition, s.reload, s.recommended];
        let flags = flags.iter().rev().fold(0, |bits, flag| bits << 1 | u8::from(*flag));
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
        condition: flags & 8 != 0,
        reload: flags & 16 != 0,
        recommended: flags & 32 != 0,
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
        g.services[2].reload = true;
        g.services[0].condition = true;
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
