//! The logger, its readers, and what they promise: nothing lost, nothing doubled.
//!
//! `cargo test --test svlog`, with words after `--` to run only scenarios that contain one of them.
//! SVLOG_KILLS says how often the logger is killed at random (1000 and more for a long run), SVLOG_ALL that it
//! is killed at each of its system calls, not only at as many as there is time for. PERENNIAL names another
//! executable to try than the one just built.

mod support;

use perennial::log::archive;
use perennial::sys::wait;
use rustix::fs::{Mode, OFlags};
use rustix::process::Signal;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use support::killer::{self, Killer};
use support::runner::{self, Scenario};
use support::{Programs, Running, World, kill, mkfifo, mode, read, until, until_eq};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().map(String::as_str) == Some(killer::WORD) {
        return killer::main(&args[1..]);
    }
    let shipped = std::env::var("PERENNIAL").ok();
    let executable = shipped.as_deref().unwrap_or(env!("CARGO_BIN_EXE_perennial"));
    let scenarios = SCENARIOS.iter().map(|(name, run)| Scenario::new(*name, run));
    let patience = if std::env::var_os("SVLOG_ALL").is_some() { 7200 } else { 300 };
    runner::run_patiently("svlog", &scenarios.collect::<Vec<_>>(), Duration::from_secs(patience), || {
        Programs::link(executable, programs().dir, "");
    })
}

const SCENARIOS: &[(&str, fn())] = &[
    ("scripts do what s6-log's do", as_s6),
    ("a directory goes from one logger to the other", takeover),
    ("lines that are long, cut, or have no end", long_lines),
    ("signals", signals),
    ("stamps", stamps),
    ("labels", labels),
    ("a rate limit", rate),
    ("rotation by size, count and total", rotation),
    ("a processor", processor),
    ("a processor that fails, and is killed", processor_fails),
    ("what an interrupted rotation left", leftovers),
    ("two loggers on one directory", two_loggers),
    ("current and its directory are removed", removed),
    ("a directory that cannot be written", read_only),
    ("the disk is full, and lines wait", disk_full),
    ("the disk is full, and lines are dropped", disk_full_drop),
    ("svtail shows logs by time", tail),
    ("svtail follows rotation", follow),
    ("svstat -v shows last words", last_words),
    ("logutil-service", logutil),
    ("a slow reader of standard output", slow_output),
    ("standard output is closed", closed_output),
    ("nothing is done when idle, and a line is there at once", idle),
    ("killed at random while rotating", || killed_at_random(&["s4096", "l100"], false)),
    ("killed at random with a processor", || {
        killed_at_random(&["s9000", "l100", "?cat; cat <&4 >&5; echo x >&5"], false)
    }),
    ("killed at random with two directories", || {
        killed_at_random(&["s4096", "l0", "-^[0-9]*7 ", "./but7", "+", "s5000"], true);
    }),
    ("killed at each system call", || killed_everywhere(&["s4096", "l0"], false)),
    ("killed at each system call, with a processor", || {
        killed_everywhere(&["s4096", "l0", "?cat; cat <&4 >&5; echo x >&5"], false);
    }),
    ("killed at each system call, and its successor as well", || killed_everywhere(&["s4096", "l0"], true)),
    ("under supervise: logger, service and supervisor are killed", supervised),
];

fn programs() -> Programs {
    Programs { dir: runner::shared_dir().join("programs"), prefix: "" }
}

fn world() -> World {
    World::new(programs(), programs())
}

// ---------------------------------------------------------------------------------------------- helpers

/// A pipe with a name, and our ends of it, so that it keeps what is in it whoever dies.
struct Input {
    path: String,
    writer: Option<File>,
    keeper: Option<OwnedFd>,
}

impl Input {
    fn new(path: &str) -> Input {
        mkfifo(path);
        let keeper = rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let writer = File::options().write(true).open(path).unwrap();
        Input { path: path.to_owned(), writer: Some(writer), keeper: Some(keeper) }
    }

    fn write(&mut self, text: impl AsRef<[u8]>) {
        self.writer.as_mut().unwrap().write_all(text.as_ref()).unwrap();
    }

    /// Another reading end.
    fn reader(&self) -> File {
        File::open(&self.path).unwrap()
    }

    /// The logger sees the end.
    fn close(&mut self) {
        self.writer = None;
        self.keeper = None;
    }
}

/// Starts `program` (of ours, or s6-log) with this script, on this input.
fn start(program: &str, script: &[&str], input: &Input) -> Running {
    let path = if program == "s6-log" { program.into() } else { programs().path(program) };
    let mut command = Command::new(path);
    command.args(script).stdin(input.reader());
    Running::new(command, format!("{program} {script:?}"))
}

/// Runs a logger to its end; what it wrote to standard output and error.
fn log(program: &str, script: &[&str], text: &[u8]) -> support::Ran {
    let mut input = Input::new("log-input");
    let running = start(program, script, &input);
    input.write(text);
    input.close();
    let ran = running.end();
    fs::remove_file("log-input").unwrap();
    ran
}

/// The names of the archives of a directory, oldest first.
fn archives(dir: &str) -> Vec<String> {
    let Ok(fd) = rustix::fs::open(dir, OFlags::DIRECTORY, Mode::empty()) else { return Vec::new() };
    archive::list(fd).unwrap().into_iter().map(|a| a.name).collect()
}

/// Everything in a directory, in order.
fn everything(dir: &str) -> Vec<u8> {
    let mut all = Vec::new();
    for name in archives(dir).iter().map(String::as_str).chain(["current"]) {
        all.extend(fs::read(format!("{dir}/{name}")).unwrap_or_default());
    }
    all
}

fn text(dir: &str) -> String {
    String::from_utf8_lossy(&everything(dir)).into_owned()
}

fn names(dir: &str) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn is_executable(path: &str) -> bool {
    mode(path) & 0o100 != 0
}

fn has_s6() -> bool {
    let there = Path::new("/usr/bin/s6-log").exists();
    if !there {
        println!("not tried: s6-log is not installed");
    }
    there
}

// ---------------------------------------------------------------------------------------------- language

fn as_s6() {
    if !has_s6() {
        return;
    }
    let lines = "debug: one\nerror: two\nwarn: three\nerror four\n\nfive\n";
    let long = format!("{}\nshort\n{}\n", "x".repeat(300), "y".repeat(260));
    let scripts: &[(&[&str], &str)] = &[
        (&["1"], lines),
        (&["-debug", "1"], lines),
        (&["-", "+^error", "1", "+two", "f", "./rest"], lines),
        (&["+x", "-e", "+^w", "1"], lines),
        (&["-^debug|^warn", "pweb", "1", "p", "1"], lines),
        (&["n2", "./a", "f", "1"], lines),
        (&["E5", "2", "E20", "2"], lines),
        (&["2"], &long),
        (&["E0", "2"], &long),
        (&["=status"], lines),
        (&["^5", "=status"], lines),
        (&["^0", "=status", "-four", "^0", "ppre", "=other"], lines),
        (&["-l", "100", "1"], &long),
        (&["-l", "1", "1"], &long),
        (&["-l", "0", "1"], &long),
        (&["1", "t"], lines),
        (&["--", "-error", "1"], lines),
        (&["x"], lines),
        (&["l60000", "./a"], lines),
        (&["t"], lines),
    ];
    for (script, lines) in scripts {
        let mut seen = Vec::new();
        for program in ["s6-log", "svlog"] {
            for dir in ["rest", "a"] {
                let _ = fs::remove_dir_all(dir);
            }
            for file in ["status", "other"] {
                let _ = fs::remove_file(file);
            }
            let ran = log(program, script, lines.as_bytes());
            let err = if ran.code == 0 { ran.err.replace("s6-log: ", "svlog: ") } else { String::new() };
            let err: Vec<String> = err.lines().filter(|l| l.contains("alert")).map(str::to_owned).collect();
            let dirs =
                ["rest", "a"].map(|dir| if Path::new(dir).exists() { text(dir) } else { String::new() });
            seen.push((ran.code, ran.out, err, dirs, read("status"), read("other")));
        }
        assert_eq!(seen[0], seen[1], "{script:?}");
    }
    // The same words in long. They differ in one thing on purpose: a NUL does not end a line.
    assert_eq!(log("svlog", &["1"], b"a\0b\n").out, "a\0b\n");
}

fn long_lines() {
    let long = "z".repeat(1_000_000);
    log("svlog", &["-l", "0", "s16777216", "./whole"], long.as_bytes());
    assert_eq!(text("whole"), format!("{long}\n"));
    log("svlog", &["s16777216", "./cut"], format!("{long}\nend\n").as_bytes());
    let lines: Vec<usize> = text("cut").lines().map(str::len).collect();
    assert_eq!(lines.iter().sum::<usize>(), 1_000_003);
    assert_eq!(lines, [vec![8192; 122], vec![1_000_000 - 122 * 8192, 3]].concat());
    log("svlog", &["-l", "48", "t", "./stamped"], b"\n\nx\n");
    assert_eq!(text("stamped").lines().map(str::len).collect::<Vec<_>>(), [26, 26, 27]);
    // More than a pipe holds, in one line, and slowly.
    let mut input = Input::new("slow");
    let logger = start("svlog", &["-l", "0", "s16777216", "./slowly"], &input);
    for _ in 0..20 {
        input.write(vec![b'a'; 10_000]);
    }
    input.write("\n");
    until("the line is there", || read("slowly/current").len() == 200_001);
    input.close();
    assert_eq!(logger.end().code, 0);
}

fn stamps() {
    let mut input = Input::new("in");
    let logger = start("svlog", &["t", "./tai", "T", "./iso", "t", "T", "px", "./both"], &input);
    let before = perennial::sys::clock::wall();
    for n in 0..50 {
        input.write(format!("line {n}\n"));
        until("it is there", || read("both/current").lines().count() == n + 1);
    }
    input.close();
    assert_eq!(logger.end().code, 0);
    let after = perennial::sys::clock::wall();
    let mut last = before;
    for (n, line) in text("tai").lines().enumerate() {
        let stamp = perennial::time::Tai64n::parse(&line.as_bytes()[..25]).unwrap();
        assert!(last <= stamp && stamp <= after, "{line}");
        assert_eq!(&line[25..], format!(" line {n}"));
        last = stamp;
    }
    for (iso, both) in text("iso").lines().zip(text("both").lines()) {
        assert_eq!(&iso[29..31], "  ", "{iso}");
        assert_eq!(both[26..], format!("{}  x {}", &iso[..29], &iso[31..]));
        assert!(iso.starts_with("20") && iso.as_bytes()[10] == b' ' && iso.as_bytes()[19] == b'.', "{iso}");
    }
    if has_s6() {
        log("s6-log", &["T", "./s6"], b"x\n");
        let (theirs, ours) = (text("s6"), text("iso"));
        assert_eq!(theirs[..16], ours.lines().last().unwrap()[..16], "the same minute, as a rule");
    }
}

fn labels() {
    let ran = log("svlog", &["label=web", "1", "stream=stderr", "instance=2", "pp", "1"], b"hello\n");
    assert_eq!(ran.out, "web | hello\nweb/2 stderr | p hello\n");
    let ran = log("svlog", &["--format", "json", "label=web", "1"], b"he\"llo\n");
    assert!(ran.out.starts_with("{\"time\":\"20"), "{ran:?}");
    assert!(ran.out.ends_with("Z\",\"service\":\"web\",\"line\":\"he\\\"llo\"}\n"), "{ran:?}");
    let ran = log("svlog", &["format=logfmt", "label=web", "stream=stdout", "1"], b"he llo\n");
    assert!(ran.out.ends_with("Z service=web stream=stdout line=\"he llo\"\n"), "{ran:?}");
}

fn rate() {
    let mut input = Input::new("in");
    let logger = start("svlog", &["rate=3/1h", "./limited", "rate=0", "./all"], &input);
    input.write("1\n2\n3\n4\n5\n");
    until("all are there", || read("all/current").lines().count() == 5);
    assert_eq!(read("limited/current"), "1\n2\n3\n");
    input.close();
    assert_eq!(logger.end().code, 0);
    assert_eq!(text("limited"), "1\n2\n3\nsvlog: 2 lines dropped (more than 3 in 3600s)\n");
    // It is said when the time is over, though nothing more is logged; and then others may.
    let mut input = Input::new("in2");
    let logger = start("svlog", &["rate=2/200ms", "./soon"], &input);
    input.write("1\n2\n3\n4\n");
    until("it is said", || read("soon/current").ends_with("svlog: 2 lines dropped (more than 2 in 200ms)\n"));
    input.write("5\n");
    until("another may", || read("soon/current").ends_with(")\n5\n"));
    input.close();
    assert_eq!(logger.end().code, 0);
}

// --------------------------------------------------------------------------------------------- directory

fn takeover() {
    if !has_s6() {
        return;
    }
    let mut input = Input::new("in");
    let mut expected = String::new();
    let mut number = 0;
    for round in 0..24 {
        let program = ["s6-log", "svlog"][round % 2];
        let by_kill = round / 2 % 3 == 1;
        let logger = start(program, &["n1000", "s4096", "l100", "./dir"], &input);
        let until_here = number + 150;
        while number < until_here {
            let line = format!("{number} by {program} in round {round}\n");
            input.write(&line);
            expected.push_str(&line);
            number += 1;
        }
        until(&format!("{program} has written {number}"), || text("dir").lines().count() == number);
        if by_kill {
            kill(logger.pid(), Signal::KILL);
            logger.end();
        } else {
            kill(logger.pid(), Signal::HUP);
            assert_eq!(logger.end().code, 0);
            assert!(is_executable("dir/current"), "{program}");
        }
        assert_eq!(text("dir"), expected);
    }
    let unclean = archives("dir").iter().filter(|name| name.ends_with(".u")).count();
    assert!(unclean > 0, "a kill leaves .u archives when the other takes over");
}

fn rotation() {
    let line = |n: u32| format!("{n:09}\n");
    let all: String = (0..5000).map(line).collect();
    log("svlog", &["n3", "s5000", "l0", "./count"], all.as_bytes());
    let kept = archives("count");
    assert_eq!(kept.len(), 3);
    for name in &kept {
        assert_eq!(fs::metadata(format!("count/{name}")).unwrap().size(), 5000);
        assert!(name.ends_with(".s") && is_executable(&format!("count/{name}")));
    }
    assert!(all.ends_with(&text("count")));
    log("svlog", &["n100", "S12000", "s5000", "l0", "./total"], all.as_bytes());
    assert_eq!(archives("total").len(), 2);
    log("svlog", &["n0", "s5000", "l0", "./none"], all.as_bytes());
    assert_eq!(archives("none").len(), 0);
    assert_eq!(mode("count") & 0o777, 0o700);
    assert_eq!(names("none"), ["current", "lock", "state"]);
    // By time; never of an empty file.
    let mut input = Input::new("in");
    let logger = start("svlog", &["R1", "./timed"], &input);
    input.write("now\n");
    until("it is an archive", || archives("timed").len() == 1);
    assert_eq!(read("timed/current"), "");
    input.close();
    assert_eq!(logger.end().code, 0);
    assert_eq!(archives("timed").len(), 1);
    // Hundreds of rotations leak nothing, and names stay in order.
    let mut input = Input::new("many-in");
    let logger = start("svlog", &["n5", "s4096", "l2048", "./many"], &input);
    let fds = || fs::read_dir(format!("/proc/{}/fd", logger.pid())).unwrap().count();
    input.write("begin\n");
    until("it is at work", || read("many/current") == "begin\n");
    let before = fds();
    for n in 0..300u32 {
        input.write(format!("{n:01000}\n").repeat(4));
    }
    until("all is read", || read("many/current").contains("299\n") || text("many").contains("299\n"));
    until_eq(before, fds);
    input.close();
    assert_eq!(logger.end().code, 0);
}

fn processor() {
    let all: String = (0..3000).map(|n| format!("{n:09}\n")).collect();
    let script = ["n100", "s5000", "l0", "?tr 0 o; read n <&4; echo $((n+1)) >&5", "./dir"];
    log("svlog", &script, all.as_bytes());
    let kept = archives("dir");
    assert_eq!(
        kept.len(),
        read("dir/state").trim().parse::<usize>().unwrap(),
        "each was told what the last said"
    );
    assert_eq!(names("dir").len(), kept.len() + 3, "{:?}", names("dir"));
    let processed: String = kept.iter().map(|name| read(&format!("dir/{name}"))).collect();
    let current = read("dir/current");
    assert_eq!(format!("{processed}{}", current.replace('0', "o")), all.replace('0', "o"));
    assert!(kept.iter().all(|name| name.ends_with(".s")));
    if Path::new("/usr/bin/execlineb").exists() {
        log("svlog", &["n100", "s5000", "l0", "!tr 0 e", "./dir2"], all.as_bytes());
        assert!(!read(&format!("dir2/{}", archives("dir2")[0])).contains('0'));
    }
}

fn processor_fails() {
    let mut input = Input::new("in");
    let script = [
        "r20",
        "s4096",
        "l0",
        "?test -e ../good || exit 3; echo $$ >../pid; cat <../wait >/dev/null; cat",
        "./dir",
    ];
    mkfifo("wait");
    let logger = start("svlog", &script, &input);
    let lines: String = (0..600).map(|n| format!("{n:09}\n")).collect();
    input.write(&lines);
    until("it failed", || logger.said().contains("exit 3"));
    until("everything else goes on", || text("dir").ends_with("000000599\n"));
    assert_eq!(logger.said().lines().count(), 1, "said once: {}", logger.said());
    fs::write("good", "").unwrap();
    until("it runs", || !read("pid").trim().is_empty());
    kill(read("pid").trim().parse().unwrap(), Signal::KILL);
    fs::remove_file("pid").unwrap();
    until("it runs again", || !read("pid").trim().is_empty());
    fs::write("wait", "").unwrap();
    until("it is done", || archives("dir").len() == 1);
    assert_eq!(text("dir"), lines);
    // A logger that is told to leave waits for it.
    input.write(&lines);
    until("it runs once more", || Path::new("dir/previous").exists());
    fs::write("wait", "").unwrap();
    input.close();
    let ran = logger.end();
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(text("dir"), format!("{lines}{lines}"));
}

fn leftovers() {
    let make = |dir: &str, files: &[(&str, &str, bool)]| {
        fs::create_dir(dir).unwrap();
        for (name, text, closed) in files {
            let path = format!("{dir}/{name}");
            fs::write(&path, text).unwrap();
            let mode = if *closed { 0o744 } else { 0o644 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str, bool)], &'a str);
    let cases: &[Case<'_>] = &[
        ("unclean", &[("current", "a\n", false)], "a\n"),
        ("clean", &[("current", "a\n", true)], "a\n"),
        ("before-processor", &[("previous", "a\n", true), ("current", "b\n", false)], "a\nb\n"),
        (
            "in-processor",
            &[
                ("previous", "a\n", true),
                ("processed", "x", false),
                ("newstate", "y", false),
                ("current", "b\n", false),
            ],
            "a\nb\n",
        ),
        (
            "after-processor",
            &[
                ("previous", "a\n", true),
                ("processed", "A\n", true),
                ("newstate", "y", false),
                ("current", "b\n", false),
            ],
            "A\nb\n",
        ),
        ("strangers", &[("current", "", false), ("README", "hi", false), ("@x.s", "hi", false)], ""),
    ];
    for (name, files, expected) in cases {
        make(name, files);
        let all = log("svlog", &[&format!("./{name}")], b"new\n");
        assert_eq!(all.code, 0, "{name}: {all:?}");
        assert_eq!(text(name), format!("{expected}new\n"), "{name}");
        // (s6-log 2.11 gives both `.u` archives one name, and ends.)
        let two = files.iter().filter(|(name, ..)| matches!(*name, "previous" | "current")).count() == 2;
        let closed = files.iter().any(|(name, _, closed)| *name == "processed" && *closed);
        if has_s6() && *name != "strangers" && (!two || closed) {
            let like = format!("{name}-s6");
            make(&like, files);
            log("s6-log", &[&format!("./{like}")], b"new\n");
            assert_eq!(text(&like), text(name), "{name}");
            let kinds = |dir: &str| archives(dir).iter().map(|n| n[25..].to_owned()).collect::<Vec<_>>();
            assert_eq!(kinds(&like), kinds(name), "{name}");
        }
    }
    assert_eq!(names("strangers"), ["@x.s", "README", "current", "lock", "state"]);
    // An archive of the future stays older than what comes after it.
    make("future", &[("@4100000000000000000000ff.s", "first\n", true), ("current", "second\n", false)]);
    log("svlog", &["./future"], b"third\n");
    assert_eq!(text("future"), "first\nsecond\nthird\n");
}

fn two_loggers() {
    let mut input = Input::new("in");
    let mut logger = start("svlog", &["./dir"], &input);
    input.write("one\n");
    until("it is there", || read("dir/current") == "one\n");
    let second = log("svlog", &["./dir"], b"two\n");
    assert_eq!(second.code, 111, "{second:?}");
    assert!(second.err.contains("in use"), "{second:?}");
    if has_s6() {
        assert_eq!(log("s6-log", &["./dir"], b"two\n").code, 111);
    }
    assert!(logger.is_running());
    input.close();
    assert_eq!(logger.end().code, 0);
    assert_eq!(text("dir"), "one\n");
    fs::write("file", "").unwrap();
    let ran = log("svlog", &["./file"], b"x\n");
    assert_eq!((ran.code, ran.err.lines().count()), (111, 1), "{ran:?}");
}

fn removed() {
    let mut input = Input::new("in");
    let logger = start("svlog", &["./dir"], &input);
    input.write("one\n");
    until("it is there", || read("dir/current") == "one\n");
    fs::remove_file("dir/current").unwrap();
    input.write("two\n");
    until("a new one is made", || read("dir/current") == "two\n");
    assert!(logger.said().contains("dir/current was removed"), "{}", logger.said());
    fs::remove_dir_all("dir").unwrap();
    input.write("three\nfo");
    until("a new directory is made", || read("dir/current") == "three\n");
    kill(logger.pid(), Signal::KILL);
    logger.end();
    // Part of a line is safe in the new one too.
    let second = start("svlog", &["./dir"], &input);
    input.write("ur\n");
    until("the rest is there", || read("dir/current") == "three\nfour\n");
    input.close();
    assert_eq!(second.end().code, 0);
}

fn read_only() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    fs::create_dir("mounted").unwrap();
    let script = "mount -t tmpfs -o size=1m tmpfs mounted; mkdir mounted/dir; mount -o remount,ro mounted; exec \"$@\"";
    let mut input = Input::new("in");
    let mut command = Command::new("unshare");
    command.args(["-m", "--propagation", "private", "sh", "-c", script, "sh"]);
    command.arg(programs().path("svlog")).arg("./mounted/dir").stdin(input.reader());
    let ran = Running::new(command, "read-only".into()).end();
    assert_eq!((ran.code, ran.err.lines().count()), (111, 1), "{ran:?}");
    assert!(ran.err.contains("Read-only file system"), "{ran:?}");
    input.close();
}

/// Runs a shell script with a small file system at `./small`.
fn on_small_disk(script: &str, stdin: Stdio) -> support::Ran {
    fs::create_dir_all("small").unwrap();
    let mut command = Command::new("unshare");
    let all = format!("mount -t tmpfs -o size=256k tmpfs small; {script}");
    command.args(["-m", "--propagation", "private", "sh", "-c", &all]).stdin(stdin);
    command.env("SVLOG", programs().path("svlog"));
    Running::new(command, "on a small disk".into()).end()
}

fn disk_full() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let input = Input::new("in");
    let lines: String = (0..20_000).map(|n| format!("{n:09} {n:090}\n")).collect();
    fs::write("lines", &lines).unwrap();
    // 2 MB through 256 KiB: somebody moves archives away when nothing goes on, as often as it takes.
    let script = r#"
        "$SVLOG" -d 3 n1000 s16384 l200 r20 ./small/dir <in 3>ready 2>said & n=$!
        mkdir kept; cat lines >in & w=$!
        i=0
        until [ -n "$(tail -n 1 small/dir/current | grep ^000019999)" ]; do
            grep -q waits said && mv small/dir/@*.s kept/ 2>/dev/null
            sleep 0.02; i=$((i+1)); [ $i -lt 1500 ] || exit 9
        done
        wait $w; kill -HUP $n; wait $n; echo $?
        mv small/dir/@*.s kept/; cat kept/* small/dir/current >all"#;
    let ran = on_small_disk(script, Stdio::from(input.reader()));
    assert_eq!(ran.out, "0\n", "{ran:?} {}", read("said"));
    assert!(read("all") == lines, "nothing lost or doubled");
    let said = read("said");
    assert!(said.contains("No space left on device"), "{said}");
    assert!(said.lines().count() < 200, "{said}");
}

fn disk_full_drop() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let input = Input::new("in");
    let lines: String = (0..20_000).map(|n| format!("{n:09} {n:090}\n")).collect();
    fs::write("lines", &lines).unwrap();
    // It is never waited for, and the last lines arrive when there is room again.
    let script = r#"
        "$SVLOG" full=drop n1000 s16384 l200 r20 ./small/dir <in 2>said & n=$!
        cat lines >in
        rm small/dir/@*.s
        until grep -q 'lines dropped' small/dir/*; do echo again >in; sleep 0.02; done
        kill -HUP $n; wait $n; echo $?
        grep -h 'lines dropped' small/dir/*"#;
    let ran = on_small_disk(script, Stdio::from(input.reader()));
    assert!(ran.out.starts_with("0\n"), "{ran:?} {}", read("said"));
    assert!(read("said").contains("lines are dropped"), "{}", read("said"));
}

fn slow_output() {
    let mut input = Input::new("in");
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = Command::new(programs().path("svlog"));
    command.args(["1", "./dir"]).stdin(input.reader()).stdout(writer);
    let mut logger: Child = command.spawn().unwrap();
    drop(command);
    let lines: String = (0..30_000).map(|n| format!("{n:09}\n")).collect();
    let all = lines.clone();
    let feeder = std::thread::spawn(move || {
        input.write(all);
        input
    });
    until("it has begun", || !read("dir/current").is_empty());
    // Nobody reads: the logger waits, and does not eat memory; it still obeys.
    let mut out = String::new();
    let mut reader = reader;
    let mut half = vec![0; 100_000];
    reader.read_exact(&mut half).unwrap();
    out.push_str(&String::from_utf8(half).unwrap());
    let rest = std::thread::spawn(move || {
        reader.read_to_string(&mut out).unwrap();
        out
    });
    let mut input = feeder.join().unwrap();
    input.close();
    assert!(logger.wait().unwrap().success());
    assert!(rest.join().unwrap() == lines);
    assert!(text("dir") == lines);
}

fn closed_output() {
    let mut input = Input::new("in");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(programs().path("svlog"));
    command.args(["1", "./dir"]).stdin(input.reader()).stdout(writer).stderr(File::create("said").unwrap());
    let mut logger = command.spawn().unwrap();
    input.write("one\n");
    until("it is there", || text("dir") == "one\n");
    input.write("two\n");
    until("it goes on", || text("dir") == "one\ntwo\n");
    assert_eq!(read("said").lines().count(), 1, "{}", read("said"));
    input.close();
    assert!(logger.wait().unwrap().success());
}

fn idle() {
    let mut input = Input::new("in");
    let logger = start("svlog", &["t", "./dir"], &input);
    input.write("part of a li");
    until("it is there", || Path::new("dir/current").exists());
    let turns = || {
        let status = read(&format!("/proc/{}/status", logger.pid()));
        status
            .lines()
            .filter(|l| l.contains("ctxt_switches"))
            .map(|l| l.split('\t').nth(1).unwrap().trim().parse::<u64>().unwrap())
            .sum::<u64>()
    };
    until_eq("S".to_owned(), || support::stat(logger.pid(), 3).unwrap());
    let before = turns();
    std::thread::sleep(Duration::from_millis(700));
    assert!(turns() <= before + 1, "idle in the middle of a line");
    input.write("ne\n");
    // At once: the best of some tries, on a machine that does other things too.
    let mut best = Duration::MAX;
    for n in 2..40 {
        until("the last one is there", || read("dir/current").lines().count() == n - 1);
        let began = Instant::now();
        input.write("x\n");
        while read("dir/current").lines().count() < n {
            assert!(began.elapsed() < support::PATIENCE);
        }
        best = best.min(began.elapsed());
    }
    assert!(best < Duration::from_millis(5), "{best:?}");
    input.close();
    assert_eq!(logger.end().code, 0);
}

fn signals() {
    for (signal, protected, ends) in [
        (Signal::TERM, false, true),
        (Signal::HUP, false, true),
        (Signal::TERM, true, false),
        (Signal::HUP, true, true),
    ] {
        let name = format!("{}-{protected}", signal.as_raw());
        let mut input = Input::new(&format!("in-{name}"));
        let dir = format!("./dir-{name}");
        let option = if protected { "-p" } else { "--" };
        let mut logger = start("svlog", &[option, &dir], &input);
        input.write("whole\npart");
        until("the line is there", || read(&format!("{dir}/current")) == "whole\n");
        kill(logger.pid(), signal);
        input.write("ial\nunread\n");
        if ends {
            let ran = logger.end();
            assert_eq!(ran.code, 0, "{ran:?}");
            let seen = text(&dir);
            assert!(seen.starts_with("whole\npartial\n"), "{seen}");
            // What it left in the pipe is for the next one.
            let mut next = start("svlog", &[&dir], &input);
            until("the rest is there", || text(&dir) == "whole\npartial\nunread\n");
            assert!(next.is_running());
            input.close();
            assert_eq!(next.end().code, 0);
        } else {
            until("all is there", || text(&dir) == "whole\npartial\nunread\n");
            assert!(logger.is_running());
            input.close();
            assert_eq!(logger.end().code, 0);
        }
    }
    // The end of the line never comes.
    let mut input = Input::new("in-t");
    let logger = start("svlog", &["-t", "50", "./dir-t"], &input);
    input.write("one\npart");
    until("the line is there", || read("dir-t/current") == "one\n");
    kill(logger.pid(), Signal::TERM);
    assert_eq!(logger.end().code, 0);
    assert_eq!(text("dir-t"), "one\npart\n");
    // ALRM rotates, what is empty not; STOP and CONT lose nothing.
    let mut input = Input::new("in-a");
    let logger = start("svlog", &["./dir-a"], &input);
    input.write("one\n");
    until("it is there", || text("dir-a") == "one\n");
    for _ in 0..3 {
        kill(logger.pid(), Signal::ALARM);
    }
    until("it is an archive", || archives("dir-a").len() == 1);
    kill(logger.pid(), Signal::STOP);
    input.write("two\nthree\n");
    kill(logger.pid(), Signal::CONT);
    until("they are there", || text("dir-a") == "one\ntwo\nthree\n");
    assert_eq!(archives("dir-a").len(), 1);
    kill(logger.pid(), Signal::INT);
    assert_eq!(logger.end().code, -2);
}

// ----------------------------------------------------------------------------------------------- readers

fn svtail(args: &[&str]) -> String {
    let mut command = Command::new(programs().path("svtail"));
    command.args(args).env("TZ", "UTC").stdin(Stdio::null());
    let ran = Running::new(command, format!("svtail {args:?}")).end();
    assert_eq!(ran.code, 0, "{ran:?}");
    ran.out
}

/// What is behind the time of each line.
fn texts(shown: &str) -> Vec<&str> {
    shown.lines().map(|line| line.split_at(24).1).collect()
}

fn tail() {
    let lines: String = (0..500).map(|n| format!("line {n}\n")).collect();
    log("svlog", &["t", "s4096", "l0", "./a"], lines.as_bytes());
    if has_s6() {
        log("s6-log", &["T", "s4096", "l0", "./b"], lines.as_bytes());
    } else {
        log("svlog", &["T", "s4096", "l0", "./b"], lines.as_bytes());
    }
    assert!(archives("a").len() > 2 && !archives("b").is_empty());
    assert_eq!(texts(&svtail(&["-n", "3", "./a"])), ["line 497", "line 498", "line 499"]);
    let all = svtail(&["-n", "1000", "./a"]);
    assert_eq!(texts(&all), lines.lines().collect::<Vec<_>>());
    assert_eq!(svtail(&["--since", "1h", "./a"]), all);
    assert_eq!(svtail(&["--since", "2100-01-01", "./a"]), "");
    assert_eq!(svtail(&["-n", "300", "./a"]).lines().count(), 300, "over archives");
    // Ours was first, so theirs comes last; names are shown if there are two.
    let both = svtail(&["-n", "502", "./a", "./b"]);
    let both = texts(&both);
    assert_eq!((both[0], both[501]), ("./a | line 498", "./b | line 499"));
    // Each line has the time that its stamp says.
    let stamp = perennial::time::Tai64n::parse(&text("a").as_bytes()[..25]).unwrap();
    assert_eq!(svtail(&["--since", &stamp.to_string(), "./a"]).lines().count(), 500);
    assert!(all.starts_with("20") && all.as_bytes()[19] == b'.', "{}", &all[..40]);
    // Without stamps.
    log("svlog", &["./plain"], b"x\ny\n");
    assert_eq!(svtail(&["./plain"]), "x\ny\n");
    let ran = world().run("svtail", &["nothing"]);
    assert_eq!(ran.code, 111, "{ran:?}");
}

fn follow() {
    let mut input = Input::new("in");
    for script in [&["n1000", "s4096", "l0", "./dir"][..], &["n1000", "s4096", "l0", "?cat", "./processed"]] {
        let dir = script[script.len() - 1];
        let logger = start("svlog", script, &input);
        input.write("first\n");
        until("it is there", || text(dir) == "first\n");
        let mut command = Command::new(programs().path("svtail"));
        command.args(["-f", dir]).stdin(Stdio::null());
        let (reader, writer) = std::io::pipe().unwrap();
        command.stdout(writer);
        let mut tail = command.spawn().unwrap();
        drop(command);
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(reader));
        assert_eq!(lines.next().unwrap().unwrap(), "first");
        let watch = std::thread::spawn(move || lines.take(3000).map(Result::unwrap).collect::<Vec<_>>());
        for n in 0..3000 {
            input.write(format!("{n} {}\n", "z".repeat(n % 50)));
        }
        let seen = watch.join().unwrap();
        for (n, line) in seen.iter().enumerate() {
            assert_eq!(*line, format!("{n} {}", "z".repeat(n % 50)), "{dir}");
        }
        assert!(archives(dir).len() > 10 || dir == "./processed");
        tail.kill().unwrap();
        tail.wait().unwrap();
        kill(logger.pid(), Signal::HUP);
        assert_eq!(logger.end().code, 0);
    }
}

fn last_words() {
    let world = world();
    let service = world.service(
        "web",
        "echo begins; [ -e $BASE/again ] && exec sleep 1000; echo cannot find its socks; exit 3",
    );
    service.script("log/run", &format!("exec {} t $BASE/logs", programs().path("svlog").display()));
    let _svscan = world.svscan(&[]);
    until("it died", || !service.deaths().is_empty());
    fs::write("again", "").unwrap();
    until("it is up again", || service.status().is_up() && text("logs").ends_with("begins\n"));
    let out = || world.run("svstat", &["-v", &service.path]).out;
    until("its last words are shown", || {
        out().ends_with("  before it died:\n    begins\n    cannot find its socks\n")
            || out().contains("cannot find its socks\n")
    });
    let shown = world.run("svtail", &["-S", "scan", "web"]);
    assert!(shown.out.contains("cannot find its socks"), "{shown:?}");
    let shown = world.run("svtail", &["-S", "scan"]);
    assert!(shown.out.contains("cannot find its socks"), "{shown:?}");
}

fn logutil() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    // The user nobody must be able to reach it.
    let base = std::env::temp_dir().join(format!("perennial-logutil-{}", std::process::id()));
    let dir = base.join("a/b");
    let mut input = Input::new("in");
    let run = |script: Option<&str>, input: &Input| {
        let mut command = Command::new(programs().path("logutil-service"));
        command.env_clear().envs(script.map(|s| ("S6_LOGGING_SCRIPT", s))).arg(&dir).stdin(input.reader());
        Running::new(command, "logutil-service".into())
    };
    let path = dir.to_str().unwrap();
    let logger = run(None, &input);
    input.write("one\n");
    until("it is there", || text(path).ends_with("  one\n"));
    let current = fs::metadata(dir.join("current")).unwrap();
    assert_ne!(current.uid(), 0);
    assert_eq!(fs::metadata(&dir).unwrap().uid(), current.uid());
    assert_eq!(fs::read(format!("/proc/{}/environ", logger.pid())).map(|e| e.len()).unwrap_or(0), 0);
    kill(logger.pid(), Signal::HUP);
    assert_eq!(logger.end().code, 0);
    let logger = run(Some("n3  s4096 pX"), &input);
    input.write("two\n");
    until("it is there", || text(path).ends_with("X two\n"));
    input.close();
    assert_eq!(logger.end().code, 0);
    fs::remove_dir_all(base).unwrap();
}

// ------------------------------------------------------------------------------------------------- kills

/// Writes numbered lines for as long as it is let, and says how many they were.
fn feeder(path: &str, stop: std::sync::Arc<std::sync::atomic::AtomicBool>) -> std::thread::JoinHandle<u64> {
    use std::sync::atomic::Ordering;
    let mut pipe = File::options().write(true).open(path).unwrap();
    std::thread::spawn(move || {
        let mut n = 0u64;
        while !stop.load(Ordering::Relaxed) {
            // Now and then a burst, now and then half a line.
            let mut text = String::new();
            for _ in 0..1 + n * 7919 % 23 {
                text.push_str(&format!("{n} {}\n", "x".repeat((n * 31 % 97) as usize)));
                n += 1;
            }
            let half = text.len() / 2;
            pipe.write_all(&text.as_bytes()[..half]).unwrap();
            pipe.write_all(&text.as_bytes()[half..]).unwrap();
        }
        pipe.write_all(format!("{n} end\n").as_bytes()).unwrap();
        n + 1
    })
}

fn killed_at_random(script: &[&str], but_seven: bool) {
    let kills: u64 = std::env::var("SVLOG_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(40);
    let input = Input::new("in");
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let feeder = feeder("in", stop.clone());
    let script = [&["n1000000"], script, &["./dir"]].concat();
    let mut random = u64::from(std::process::id()) | 1;
    for _ in 0..kills {
        let logger = start("svlog", &script, &input);
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        std::thread::sleep(Duration::from_micros(random % 12_000));
        kill(logger.pid(), Signal::KILL);
        logger.end();
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let logger = start("svlog", &script, &input);
    let total = feeder.join().unwrap();
    let last = format!("{} end\n", total - 1);
    until("the last line is there", || read("dir/current").ends_with(&last) || text("dir").ends_with(&last));
    until("it heeds signals", || heeds_signals(logger.pid()));
    kill(logger.pid(), Signal::HUP);
    assert_eq!(logger.end().code, 0);
    let all = text("dir");
    let mut expected = 0;
    let mut selected = String::new();
    for line in all.lines() {
        let number: u64 = line.split(' ').next().unwrap().parse().unwrap();
        assert_eq!(number, expected, "after {kills} kills");
        let xs = if number + 1 == total { "end".to_owned() } else { "x".repeat((number * 31 % 97) as usize) };
        assert_eq!(line, format!("{number} {xs}"));
        expected += 1;
        if number % 10 != 7 {
            selected.push_str(&format!("{line}\n"));
        }
    }
    assert_eq!(expected, total);
    println!("{total} lines, {} archives, {kills} kills: none lost, none doubled", archives("dir").len());
    assert!(!but_seven || text("but7") == selected, "the other directory has what was selected");
}

/// One logger, killed at its stop `at`, while it takes lines that fill more than one file; and, if `twice`, its
/// successor at each of its first stops.
fn killed_everywhere(script: &[&str], twice: bool) {
    let began = Instant::now();
    let all = std::env::var_os("SVLOG_ALL").is_some();
    let total = kill_at(script, 0, 0).0;
    let mut places: Vec<u32> = (1..=total).collect();
    // Spread over all, so that as many as there is time for are not the first.
    places.sort_by_key(|n| (n.wrapping_mul(2_654_435_761)) % 1009);
    let (mut tried, mut killed) = (0, 0);
    'all: for at in &places {
        for second in if twice { 1..80 } else { 0..1 } {
            if !all && began.elapsed() > Duration::from_secs(6) {
                break 'all;
            }
            // Not every pair: each place of the first with one of the second, unless all are asked for.
            if twice && !all && (at + second) % 79 != 0 {
                continue;
            }
            tried += 1;
            killed += kill_at(script, *at, second).1;
        }
    }
    assert!(killed > 0);
    println!("{total} places; {tried} tried, {killed} kills: none lost, none doubled");
}

/// Whether a logger that was just started has got so far that a signal does not end it.
fn heeds_signals(pid: i32) -> bool {
    let status = read(&format!("/proc/{pid}/status"));
    let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
    blocked.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).unwrap() & 1 != 0)
}

/// Returns how many stops were seen, and how often somebody was killed.
fn kill_at(script: &[&str], at: u32, second: u32) -> (u32, u32) {
    for path in ["dir", "in", "killer"] {
        let _ = fs::remove_dir_all(path);
        let _ = fs::remove_file(path);
    }
    let mut input = Input::new("in");
    let script = [&["n1000"], script, &["./dir"]].concat();
    let logger = stopped(&script, &input);
    let killer = Killer::start(logger.pid(), &[], at, "killer");
    kill(logger.pid(), Signal::CONT);
    let mut expected = String::new();
    for n in 0..9 {
        let burst: String = (0..9).map(|m| format!("{n}.{m} {}\n", "y".repeat(60 + n * 3 + m))).collect();
        expected.push_str(&burst);
        let half = burst.len() - 40;
        input.write(&burst[..half]);
        input.write(&burst[half..]);
        // So that it is not all read at once: but a dead one reads nothing.
        until("it is written", || {
            everything_or_nothing().len() >= expected.len() || killer::Report::read("killer").killed.is_some()
        });
    }
    let mut killed = 0;
    let done = || text("dir") == expected;
    until("it is done or killed", || done() || killer::Report::read("killer").killed.is_some());
    let mut current = logger;
    let report = killer.end();
    // One that we end has perhaps killed and not said so yet.
    if report.killed.is_some() || !current.is_running() {
        killed += 1;
        current.end();
        if second > 0 {
            let successor = stopped(&script, &input);
            fs::remove_file("killer").unwrap();
            let killer = Killer::start(successor.pid(), &[], second, "killer");
            kill(successor.pid(), Signal::CONT);
            until("it is done or killed", || done() || killer::Report::read("killer").killed.is_some());
            killed += killer.end().killed.is_some() as u32;
            kill(successor.pid(), Signal::KILL);
            successor.end();
        }
        current = start("svlog", &script, &input);
    }
    let place = format!("killed {:?}, then {second}", report.killed);
    until(&format!("all lines are there, {place}: {:?}", names("dir")), || {
        text("dir").lines().count() >= expected.lines().count()
    });
    until("it heeds signals", || heeds_signals(current.pid()));
    kill(current.pid(), Signal::HUP);
    let ran = current.end();
    assert_eq!(ran.code, 0, "{place}: {ran:?}");
    assert_eq!(text("dir"), expected, "{place}");
    let leftover: Vec<String> = names("dir").into_iter().filter(|n| !n.starts_with('@')).collect();
    assert_eq!(leftover, ["current", "lock", "state"], "{place}");
    if script.iter().any(|word| word.starts_with('?')) {
        assert_eq!(
            read("dir/state").lines().count(),
            archives("dir").len(),
            "{place}: each was processed once"
        );
    }
    while wait::reap().is_some() {}
    (report.stops, killed)
}

fn everything_or_nothing() -> Vec<u8> {
    if Path::new("dir").exists() { everything("dir") } else { Vec::new() }
}

/// A logger that stops before it begins, for a killer to see all of it.
fn stopped(script: &[&str], input: &Input) -> Running {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "kill -STOP $$; exec \"$0\" \"$@\""]).arg(programs().path("svlog")).args(script);
    command.stdin(input.reader());
    let running = Running::new(command, "svlog".into());
    until("it has stopped", || {
        support::stat(running.pid(), 3).is_some_and(|state| state.starts_with(['T', 't']))
    });
    running
}

fn supervised() {
    let world = world();
    let service = world.service("web", "exec /bin/sh ../../produce");
    fs::write("produce", "n=$(cat $BASE/n 2>/dev/null || echo 0); while :; do echo line $n; n=$((n+1)); echo $n >$BASE/n.new; mv $BASE/n.new $BASE/n; [ -e $BASE/stop ] && exec sleep 1000; done").unwrap();
    service.script(
        "log/run",
        &format!("exec {} n10000 s4096 l100 $BASE/logs", programs().path("svlog").display()),
    );
    let _svscan = world.svscan(&[]);
    let logger = world.at("scan/web/log");
    let lines = || if Path::new("logs").exists() { text("logs").lines().count() } else { 0 };
    for round in 0..10 {
        let before = lines();
        until("lines come", || lines() > before + 10);
        match round % 3 {
            0 | 1 => kill(logger.pid(), Signal::KILL),
            _ => kill(supervisor_of("scan/web"), Signal::KILL),
        }
    }
    fs::write("stop", "").unwrap();
    let last = || read("n").trim().parse::<usize>().unwrap_or(0);
    until("all are there", || lines() == last() && lines() > 0);
    let all = text("logs");
    let expected: String = (0..last()).map(|n| format!("line {n}\n")).collect();
    assert_eq!(all, expected);
}

/// Who supervises a service: the parent of nothing in particular, but the holder of its lock.
fn supervisor_of(path: &str) -> i32 {
    let lock = fs::canonicalize(format!("{path}/supervise/lock")).unwrap();
    let holder = |pid: &i32| {
        let fds = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        fds.filter_map(|fd| fs::read_link(fd.path()).ok()).any(|to| to == lock)
    };
    let found = || support::descendants().into_iter().find(holder);
    until("somebody supervises it", || found().is_some());
    found().unwrap()
}
