//! The commands of execline, and the programs of s6 that change what a process is, against the originals:
//! the same output, the same exit code, and a message where the original has one.
//!
//! Scripts are in `tests/commands/`, one a line; more are made at random. Both sides run them in an empty
//! directory with the same environment and standard input. PERENNIAL_ORIGINALS names a directory of programs to
//! compare with instead of the ones that Debian installs. Without them the tests say so and pass.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

const PERENNIAL: &str = env!("CARGO_BIN_EXE_perennial");

/// What programs read.
const INPUT: &str = "one two\n\nthree  x\nlast";

/// A directory that is removed again.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("perennial-commands-{}-{n}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// One of the two that are compared.
struct Side {
    /// What PATH begins with.
    dirs: Vec<PathBuf>,
}

/// What came of a script.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    out: String,
    code: Option<i32>,
    signal: Option<i32>,
    /// Something was said.
    complained: bool,
}

impl Side {
    /// Ours: every program as a link.
    fn ours(links: &Scratch) -> Side {
        let output = Command::new(PERENNIAL).arg("list").output().unwrap();
        let list = String::from_utf8(output.stdout).unwrap();
        for name in list.lines() {
            symlink(PERENNIAL, links.0.join(name)).unwrap();
            if !name.starts_with("s6-") {
                let _ = symlink(PERENNIAL, links.0.join(format!("s6-{name}")));
            }
        }
        Side { dirs: vec![links.0.clone()] }
    }

    /// Theirs, if they are here.
    fn originals() -> Option<Side> {
        let dirs: Vec<PathBuf> = match std::env::var_os("PERENNIAL_ORIGINALS") {
            Some(dir) => vec![dir.into()],
            None => ["/usr/lib/execline/bin", "/usr/bin"].map(PathBuf::from).to_vec(),
        };
        let there = |name: &str| dirs.iter().any(|dir| dir.join(name).exists());
        let complete = there("execlineb") && there("importas") && there("s6-setuidgid");
        if !complete {
            println!("skipped: execline or s6 is not installed (Debian packages execline, s6)");
        }
        complete.then_some(Side { dirs })
    }

    fn path(&self) -> String {
        let dirs: Vec<&str> = self.dirs.iter().map(|dir| dir.to_str().unwrap()).collect();
        format!("{}:/usr/bin:/bin", dirs.join(":"))
    }

    fn program(&self, name: &str) -> PathBuf {
        let places = self.dirs.iter().map(|dir| dir.join(name));
        places
            .into_iter()
            .find(|path| path.exists())
            .unwrap_or_else(|| panic!("no {name} in {:?}", self.dirs))
    }

    fn run(&self, name: &str, args: &[&str], input: &str) -> Outcome {
        let place = Scratch::new();
        let mut child = Command::new(self.program(name))
            .args(args)
            .current_dir(&place.0)
            .env_clear()
            .envs([("PATH", &*self.path()), ("HOME", "/home"), ("LC_ALL", "C"), ("TZ", "UTC")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        let out = String::from_utf8_lossy(&output.stdout).replace(&self.path(), "PATH");
        Outcome {
            out: out.replace(place.0.to_str().unwrap(), "HERE"),
            code: output.status.code(),
            signal: output.status.signal(),
            complained: !output.stderr.is_empty(),
        }
    }
}

/// A line of a file of scripts, abbreviations written out.
fn written_out(line: &str) -> String {
    line.replace("@F", "redirfd -w 1 f echo \"env | sort | grep -v -e PATH= -e PWD=\"")
        .replace("@P", "printf \"<%s>\"")
        .replace("@E", "sh -c \"env | sort | grep -v -e ^PATH= -e ^PWD=\"")
}

fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().filter(|line| !line.is_empty() && !line.starts_with("# "))
}

/// What both make of it, if it is not the same.
fn difference(ours: &Outcome, theirs: &Outcome, what: &str) -> Option<String> {
    (ours != theirs).then(|| format!("{what}\n  ours:   {ours:?}\n  theirs: {theirs:?}\n"))
}

fn report(name: &str, count: usize, different: Vec<String>) {
    println!("{name}: {} of {count} the same", count - different.len());
    assert!(different.is_empty(), "{}{} of {count} different", different.concat(), different.len());
}

/// Whether the original of that name has what a script uses; those of older versions have not everything.
fn is_for(original: &Side, line: &str) -> bool {
    let newer = original.program("execlineb").parent().is_some_and(|dir| dir.join("export-array").exists());
    newer || !lines(include_str!("commands/newer")).any(|pattern| line.contains(pattern))
}

/// Runs all scripts of a file on both sides.
fn compare(name: &str, file: &'static str) {
    let Some(theirs) = Side::originals() else { return };
    let links = Scratch::new();
    let ours = Side::ours(&links);
    let skipped: Vec<&str> = lines(include_str!("commands/different")).collect();
    let scripts: Vec<&str> =
        lines(file).filter(|line| is_for(&theirs, line) && !skipped.contains(line)).collect();
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut different = Vec::new();
        while let Some(line) = scripts.get(next.fetch_add(1, Ordering::Relaxed)) {
            let script = written_out(line);
            let run = |side: &Side| side.run("execlineb", &["-P", "-c", &script], INPUT);
            different.extend(difference(&run(&ours), &run(&theirs), line));
        }
        different
    };
    let different = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    report(name, scripts.len(), different);
}

#[test]
fn execline_scripts_do_the_same() {
    compare("execline scripts", include_str!("commands/execline.scripts"));
}

#[test]
fn s6_programs_do_the_same() {
    let root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    if root {
        compare("s6 programs", include_str!("commands/s6.scripts"));
    } else {
        println!("skipped: only root can become somebody else");
    }
}

#[test]
fn portable_utilities_do_the_same() {
    match Side::originals() {
        Some(side) if side.dirs[0].join("s6-echo").exists() => {
            compare("portable utilities", include_str!("commands/portable.scripts"));
        }
        _ => println!("skipped: s6-portable-utils is not installed"),
    }
}

/// A server of names on an address of its own: one answers, one is not there, one has no address, others get no
/// answer.
#[test]
fn addresses_come_from_dns() {
    use std::net::UdpSocket;
    let ip = format!("127.77.{}.{}", std::process::id() / 250 % 250, std::process::id() % 250 + 1);
    let Ok(server) = UdpSocket::bind((ip.as_str(), 53)) else {
        return println!("skipped: only root can be a server of names");
    };
    let answers = std::thread::spawn(move || {
        let mut buffer = [0u8; 512];
        loop {
            let (got, from) = server.recv_from(&mut buffer).unwrap();
            let mut message = buffer[..got].to_vec();
            let asks = |name: &[u8]| message[12..].starts_with(name);
            let records: Vec<(u16, Vec<u8>)> = match () {
                () if asks(b"\x05there\x04test\0\0\x01") => {
                    vec![(1, vec![10, 0, 0, 1]), (1, vec![10, 0, 0, 2])]
                }
                () if asks(b"\x05there\x04test\0\0\x1c") => vec![(28, vec![0xfd; 16])],
                () if asks(b"\x05empty") => vec![],
                () if asks(b"\x04slow") => continue,
                () if asks(b"\x04over") => return,
                () => {
                    message[3] = 3;
                    vec![]
                }
            };
            (message[2], message[7]) = (0x81, records.len() as u8);
            for (kind, data) in records {
                message.extend(b"\xc0\x0c\0");
                message.extend([kind as u8, 0, 1, 0, 0, 0, 60, 0, data.len() as u8]);
                message.extend(data);
            }
            server.send_to(&message, from).unwrap();
        }
    });
    let ask = |program: &str, words: &[&str]| {
        let mut command = Command::new(PERENNIAL);
        let output =
            command.arg(program).args(words).env("DNSCACHEIP", &ip).env("DNSQUALIFY", "nowhere test");
        let output = output.output().unwrap();
        (String::from_utf8(output.stdout).unwrap(), output.status.code().unwrap(), !output.stderr.is_empty())
    };
    let said = |text: &str, code: i32, complained: bool| (text.to_owned(), code, complained);
    assert_eq!(ask("s6-dnsip4", &["there.test"]), said("10.0.0.1\n10.0.0.2\n", 0, false));
    assert_eq!(ask("s6-dnsip4", &["-q", "there"]), said("10.0.0.1\n10.0.0.2\n", 0, false));
    let v6 = "fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd\n";
    assert_eq!(ask("s6-dnsip6", &["-r", "there.test."]), said(v6, 0, false));
    assert_eq!(ask("s6-dnsip4", &["empty.test"]), said("", 1, false));
    assert_eq!(ask("s6-dnsip4", &["there"]), said("", 2, true));
    assert_eq!(ask("s6-dnsip4", &["-t", "100", "slow.test"]), said("", 99, true));
    assert_eq!(ask("s6-dnsip4", &["a..b"]), said("", 100, true));
    assert_eq!(ask("s6-dnsip4", &["-h", "localhost"]), said("127.0.0.1\n", 0, false));
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.send_to(b"............\x04over", (ip.as_str(), 53)).unwrap();
    answers.join().unwrap();
    assert_eq!(ask("s6-dnsip4", &["there.test"]), said("", 2, true), "nobody is there");
}

#[test]
fn every_program_has_a_page() {
    let pages = Path::new(env!("CARGO_MANIFEST_DIR")).join("man");
    let mut names = Vec::new();
    for page in fs::read_dir(pages).unwrap() {
        let text = fs::read_to_string(page.unwrap().path()).unwrap();
        let section =
            text.split(".Sh ").find(|section| section.starts_with("NAME")).unwrap_or_default().to_owned();
        names.extend(
            section.lines().filter_map(|line| line.strip_prefix(".Nm ")).map(|n| n.replace(" ,", "")),
        );
    }
    let output = Command::new(PERENNIAL).arg("list").output().unwrap();
    let list = String::from_utf8(output.stdout).unwrap();
    let missing: Vec<&str> = list.lines().filter(|name| !names.contains(&(*name).to_owned())).collect();
    assert!(missing.is_empty(), "no page for {missing:?}");
}

/// Another program of the same name that stands earlier in PATH is the one that runs; without any link the
/// commands find each other all the same.
#[test]
fn path_decides_which_program_runs() {
    let (links, place) = (Scratch::new(), Scratch::new());
    let ours = Side::ours(&links);
    let foreign = place.0.join("importas");
    fs::write(&foreign, "#!/bin/sh\necho foreign \"$@\"\n").unwrap();
    fs::set_permissions(&foreign, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let run = |path: &str| {
        let script = "if { s6-true } export A b importas A A s6-echo $A";
        let output =
            Command::new(ours.program("execlineb")).args(["-Pc", script]).env("PATH", path).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let (theirs, own) = (place.0.to_str().unwrap(), ours.path());
    assert_eq!(run(&own), "b\n");
    assert_eq!(run(&format!("{theirs}:{own}")), "foreign A A s6-echo $A\n");
    assert_eq!(run(&format!("{own}:{theirs}")), "b\n");
    assert_eq!(run("/nonexistent"), "b\n");
}

/// A script, as a random tree of commands.
fn script() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        6 => "[ab]{0,2}(\\$|\\\\\\$|\\\\\\\\\\$)?(A|B|C|\\{A\\}|\\{B\\}|\\{C\\})[-}{$ab]?(\\$A|\\$\\{B\\})?",
        3 => "[a-c 1-3]{0,6}",
        1 => Just("{".to_owned()),
        1 => Just("}".to_owned()),
    ];
    let word = word.prop_map(|word| String::from_utf8(perennial::execline::quote(word.as_bytes())).unwrap());
    let words = prop::collection::vec(word.clone(), 1..4).prop_map(|words| words.join(" "));
    let leaf = prop_oneof![
        6 => words.clone().prop_map(|words| format!("@P {words}")),
        2 => (0u8..4).prop_map(|code| format!("exit {code}")),
        1 => Just("sh -c \"kill -9 $$\"".to_owned()),
        1 => Just("@E".to_owned()),
        1 => Just("cat".to_owned()),
        1 => Just("importas -D none Q ? @P $Q".to_owned()),
    ];
    let name = prop::sample::select(vec!["A", "B", "C"]);
    let transform =
        "(-[sCcnN]{1,3} )?(-d [ :a] )?".prop_map(|options: String| options.replace("-d  ", "-d \" \" "));
    leaf.prop_recursive(5, 24, 3, move |inner| {
        let c = || inner.clone();
        prop_oneof![
            (c(), c()).prop_map(|(a, b)| format!("foreground {{ {a} }} {b}")),
            ("(-[nXt]{1,2} )?(-x [0-3] )?", c(), c()).prop_map(|(o, a, b)| format!("if {o}{{ {a} }} {b}")),
            ("(-[nX]{1,2} )?", c(), c(), c())
                .prop_map(|(o, a, b, d)| format!("ifelse {o}{{ {a} }} {{ {b} }} {d}")),
            ("(-X )?", c(), c(), c(), c())
                .prop_map(|(o, a, b, d, e)| format!("ifthenelse {o}{{ {a} }} {{ {b} }} {{ {d} }} {e}")),
            ("(-[nX]{1,2} )?", c(), c(), c())
                .prop_map(|(o, a, b, d)| format!("ifte {o}{{ {a} }} {{ {b} }} {d}")),
            (transform.clone(), name.clone(), word.clone(), c())
                .prop_map(|(o, k, v, a)| format!("define {o}{k} {v} {a}")),
            ("(-[usi]{1,2} )?(-D d )?", name.clone(), name.clone(), c())
                .prop_map(|(o, k, v, a)| format!("importas {o}{k} {v} {a}")),
            (name.clone(), word.clone(), c()).prop_map(|(k, v, a)| format!("export {k} {v} {a}")),
            (name.clone(), c()).prop_map(|(k, a)| format!("unexport {k} {a}")),
            ("(-[EN]{1,2} )?", name.clone(), c(), c())
                .prop_map(|(o, k, a, b)| format!("backtick {o}{k} {{ {a} }} {b}")),
            ("(-E )?(-[ox] [0-2] )?", name.clone(), words.clone(), c())
                .prop_map(|(o, k, w, a)| format!("forx {o}{k} {{ {w} }} {a}")),
            ("(-[ENC]{1,2} )?(-d [ab1] )?", name.clone(), c(), c())
                .prop_map(|(o, k, a, b)| format!("forbacktickx {o}{k} {{ {a} }} {b}")),
            (c(), c()).prop_map(|(a, b)| format!("pipeline {{ {a} }} {b}")),
            (word.clone(), c()).prop_map(|(v, a)| format!("multidefine {v} {{ A B C }} {a}")),
            (word.clone(), word.clone(), c()).prop_map(|(v, w, a)| format!(
                "multisubstitute {{ define -s A {v} importas B B define C {w} }} {a}"
            )),
            words.clone().prop_map(|words| format!("execlineb -S2 -c \"@PP $# $1 $@\" {words}")),
            c().prop_map(|a| format!("emptyenv -p {a}")),
            c().prop_map(|a| format!("exec {a}")),
        ]
    })
}

/// Whatever is run beside something else may or may not have said something before it was over, so only
/// what is asked for counts: output and exit code.
#[test]
fn random_scripts_do_the_same() {
    let Some(theirs) = Side::originals() else { return };
    let links = Scratch::new();
    let ours = Side::ours(&links);
    // The same scripts each time; PROPTEST_CASES asks for so many others.
    let config = Config { failure_persistence: None, ..Config::default() };
    let mut runner = match std::env::var_os("PROPTEST_CASES") {
        Some(_) => TestRunner::new(config),
        None => TestRunner::new_with_rng(
            Config { cases: 96, ..config },
            TestRng::deterministic_rng(RngAlgorithm::ChaCha),
        ),
    };
    let outcome = runner.run(&script(), |line| {
        let script = written_out(&line.replace("@PP", "printf <%s>"));
        let run = |side: &Side| {
            let outcome = side.run("execlineb", &["-P", "-c", &script], "");
            (outcome.out, outcome.code, outcome.signal)
        };
        prop_assert_eq!(run(&ours), run(&theirs), "{}", line);
        Ok(())
    });
    outcome.unwrap_or_else(|e| panic!("{e}"));
}
