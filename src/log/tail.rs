//! Many logs as one: merged by time, shown with names and local times, and followed.

use super::dress;
use super::read::{Line, Reader};
use crate::diag::{self, Error, Result, Unable, code};
use crate::sys::clock;
use crate::time::Tai64n;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// A log to be shown.
pub struct Source {
    name: String,
    path: String,
    reader: Reader,
    next: Option<Line>,
}

impl Source {
    /// The log directory `path`, under this name.
    pub fn open(name: &str, path: &str) -> Result<Source> {
        let reader = Reader::open(path).unable(format_args!("read {path}"))?;
        Ok(Source { name: name.to_owned(), path: path.to_owned(), reader, next: None })
    }
}

/// What is shown.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// No more than the last lines.
    pub count: Option<usize>,
    /// Nothing that is older.
    pub since: Option<Tai64n>,
    /// Go on when there is more.
    pub follow: bool,
    /// Names in colour.
    pub colour: bool,
}

/// Shows the logs.
pub fn show(mut sources: Vec<Source>, options: &Options) -> Result<u8> {
    for source in &mut sources {
        if let Some(time) = options.since {
            source.reader.skip_before(time);
        } else if let Some(count) = options.count {
            let doing = format!("read {}", source.path);
            source.reader.skip_to_last(count).unable(doing)?;
        }
    }
    let watch = if options.follow { watch(&sources) } else { None };
    let width = sources.iter().map(|source| source.name.len()).max().unwrap_or(0);
    let width = if sources.len() > 1 { Some(width) } else { None };
    let mut kept = VecDeque::new();
    let mut out = Vec::new();
    while let Some((n, line)) = next(&mut sources)? {
        if options.since.is_some_and(|since| line.at < since) {
            continue;
        }
        match options.count {
            None => format_line(&mut out, &sources[n].name, n, width, options.colour, &line),
            Some(count) => {
                kept.push_back((n, line));
                if kept.len() > count {
                    kept.pop_front();
                }
            }
        }
        if out.len() > 32 * 1024 && !print(&mut out)? {
            return Ok(code::OK);
        }
    }
    for (n, line) in kept {
        format_line(&mut out, &sources[n].name, n, width, options.colour, &line);
    }
    if !print(&mut out)? || !options.follow {
        return Ok(code::OK);
    }
    loop {
        wait(watch.as_ref());
        while let Some((n, line)) = next(&mut sources)? {
            format_line(&mut out, &sources[n].name, n, width, options.colour, &line);
        }
        if !print(&mut out)? {
            return Ok(code::OK);
        }
    }
}

/// The oldest of what the logs have next, and whose it is.
fn next(sources: &mut [Source]) -> Result<Option<(usize, Line)>> {
    for source in sources.iter_mut().filter(|source| source.next.is_none()) {
        source.next = source.reader.next_line().unable(format_args!("read {}", source.path))?;
    }
    let times = sources.iter().enumerate().filter_map(|(n, source)| Some((source.next.as_ref()?.at, n)));
    let Some((_, n)) = times.min() else { return Ok(None) };
    Ok(sources[n].next.take().map(|line| (n, line)))
}

fn format_line(out: &mut Vec<u8>, name: &str, n: usize, width: Option<usize>, colour: bool, line: &Line) {
    if line.stamped {
        dress::iso(line.at, 3, out);
        out.push(b' ');
    }
    if let Some(width) = width {
        // Six colours that can be read on black and on white.
        let (before, after) = match colour {
            true => (format!("\x1b[{}m", 31 + n % 6), "\x1b[0m"),
            false => (String::new(), ""),
        };
        out.extend_from_slice(before.as_bytes());
        out.extend_from_slice(name.as_bytes());
        out.resize(out.len() + width - name.len(), b' ');
        out.extend_from_slice(after.as_bytes());
        out.extend_from_slice(b" | ");
    }
    out.extend_from_slice(&line.text);
    out.push(b'\n');
}

/// False: nobody reads any more.
fn print(out: &mut Vec<u8>) -> Result<bool> {
    let done = diag::put(1, out);
    out.clear();
    Ok(done)
}

fn watch(sources: &[Source]) -> Option<OwnedFd> {
    let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).ok()?;
    let what = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
    for source in sources {
        inotify::add_watch(&fd, &*source.path, what).ok()?;
    }
    Some(fd)
}

/// Waits until something may have been written. Where nothing tells, some times in a second.
fn wait(watch: Option<&OwnedFd>) {
    let Some(fd) = watch else { return std::thread::sleep(Duration::from_millis(250)) };
    // A reader of ours that goes away is no news from a log.
    let mut fds = [
        PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN),
        PollFd::from_borrowed_fd(rustix::stdio::stdout(), PollFlags::empty()),
    ];
    let _ = poll(&mut fds, None::<&Timespec>);
    if !fds[1].revents().is_empty() {
        std::process::exit(code::OK.into());
    }
    let mut buf = [0u8; 4096];
    while rustix::io::read(fd, &mut buf).is_ok_and(|n| n > 0) {}
}

/// A time given to `--since`.
pub fn since(text: &str) -> Result<Tai64n> {
    super::read::parse_time(text, clock::wall()).ok_or_else(|| {
        Error::usage(format!(
            "invalid time {text:?} (10m, 2h, 1d, 18:23, 2026-11-21, \"2026-11-21 18:23:16\" or @TAI64N)"
        ))
    })
}
