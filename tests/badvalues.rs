//! What is said of each file of ours that does not say what it has to: by `rc check`, before anything is started,
//! and by a supervisor, which does not start the service. Each names the file, the line where there are several,
//! and what to write instead.
//!
//! `cargo test --test badvalues` prints all of it as a table.

mod support;

use std::fs;
use std::process::ExitCode;
use support::runner::{self, Scenario};
use support::{Programs, SLEEP, World, chmod, until};

fn main() -> ExitCode {
    let executable =
        std::env::var("PERENNIAL").unwrap_or_else(|_| env!("CARGO_BIN_EXE_perennial").to_owned());
    let programs = || Programs { dir: runner::shared_dir().join("programs"), prefix: "" };
    let scenarios = [
        Scenario::new("bad_values", move || bad_values(&World::new(programs(), programs()))),
        Scenario::new("better_values", move || better_values(&World::new(programs(), programs()))),
    ];
    runner::run("badvalues", &scenarios, || drop(Programs::link(&executable, programs().dir, "")))
}

/// Files, what is in them, and what is said of that.
const VALUES: &[(&str, &str, &str)] = &[
    ("restart", "sometimes\n", r#""sometimes" is none of: always, on-failure, never"#),
    ("restart-delay", "soon\n", r#""soon" is no time: write 500ms, 30s, 2m"#),
    (
        "restart-delay",
        "2s 1s\n",
        r#""2s 1s": the longest delay is shorter than the first: write FIRST MAX, 1s 1m say"#,
    ),
    ("restart-delay", "1ms\n", r#""1ms" is too short: write 10ms or more"#),
    ("give-up", "5\n", r#""5" has no window: write N WINDOW, 5 1m say"#),
    ("give-up", "99 1m\n", r#""99" is none of the numbers 1 to 20"#),
    ("on-give-up", "stop\n", r#""stop" is none of: nothing, stop-container"#),
    ("on-exit", "reboot\n", r#""reboot" is none of: nothing, stop-container"#),
    ("timeout-validate", "10 s\n", r#""10 s" is no time: write 500ms, 30s, 2m"#),
    ("check-interval", "-1\n", r#""-1" is no time: write 500ms, 30s, 2m"#),
    ("timeout-check", "0\n", r#""0" is no time: write 500ms, 30s, 2m"#),
    ("health-interval", "often\n", r#""often" is no time: write 500ms, 30s, 2m"#),
    ("health-timeout", "1.5s\n", r#""1.5s" is no time: write 500ms, 30s, 2m"#),
    ("health-retries", "0\n", r#""0" is none of the numbers 1 to 1000"#),
    ("pid-file", "\n", r#""" is no path: write one line, run/it.pid say"#),
    ("pid-file", "a.pid\n", "means nothing without forking: make an empty file forking, or remove this"),
    ("kill-mode", "group\n", r#""group" is none of: process, tree"#),
    ("user", "a b\n", r#""a b" is no account: write NAME, NAME:GROUP or UID:GID"#),
    (
        "user",
        "nobody-of-that-name\n",
        "there is no account nobody-of-that-name in /etc/passwd: add it, or write UID:GID",
    ),
    ("env-file", "A=1\nB\n", "line 2: there is no = in it: write NAME=value"),
    ("env", "A=1\n", "a directory"),
    ("env/A=B", "x\n", "A=B"),
    ("umask", "9\n", r#""9" is no umask: write octal digits, 022 say"#),
    ("limits", "core 0\nfiles 5\n", r#"line 2: "files" is no limit: there are cpu, fsize, "#),
    ("limits", "core 0\nnofile\n", r#"line 2: "nofile" has no value: write NAME SOFT[:HARD]"#),
    ("limits", "nofile 10K\n", r#"line 1: "10K" is no value of nofile: write a number or unlimited"#),
    (
        "limits",
        "nofile 9:8\n",
        "line 1: the soft limit of nofile is higher than the hard one: write the lower one first",
    ),
    ("limits", "core 0\ncore 1\n", "line 2: core comes twice: remove one"),
    ("nice", "20\n", r#""20" is none of the numbers -20 to 19"#),
    ("oom-score", "low\n", r#""low" is none of the numbers -1000 to 1000"#),
    ("log-label", "a\tb\n", r#""a\tb" is no label: write one line of 1 to 64 characters"#),
    ("control-group", "a b\n", r#""a b" is no group: write its name or number"#),
    (
        "control-group",
        "nobody-of-that-name\n",
        "there is no group nobody-of-that-name in /etc/group: add it, or write its number",
    ),
];

/// Files that are executed, each not executable. Those of a definition `rc` makes executable.
const PROGRAMS: [&str; 5] = ["condition", "validate", "fallback", "check", "health"];

fn directory(n: usize) -> String {
    format!("s{n}")
}

fn bad_values(w: &World) {
    let make = |base: &str, n: usize| {
        let (file, text, _) = VALUES[n];
        let service = w.service_at(&format!("{base}/{}", directory(n)), SLEEP);
        service.file(file, text).file("type", "longrun\n");
    };
    for n in 0..VALUES.len() {
        make("source", n);
        make("scan", n);
    }
    for program in PROGRAMS {
        let service = w.service_at(&format!("scan/{program}"), SLEEP);
        service.file(program, "#!/bin/sh\nexit 0\n");
    }
    let alone = w.service_at("scan/forking", SLEEP);
    alone.file("forking", "").file("flag-newpidns", "");
    let alone = w.service_at("source/forking", SLEEP);
    alone.file("forking", "").file("flag-newpidns", "").file("type", "longrun\n");

    let checked = w.run("rc", &["check", "source"]);
    assert_eq!(checked.code, 1, "{checked:?}");
    let svscan = w.svscan(&[]);
    let mut table = vec![("file".to_owned(), "it says".to_owned(), "what is said".to_owned())];
    let mut wrong = Vec::new();
    for (n, (file, text, message)) in VALUES.iter().enumerate() {
        let name = directory(n);
        let start = format!("supervise {name}: warning: unable to start run: {file}: ");
        let starts = [start.clone(), start.replace("env/A=B: ", "env: ")];
        let said = || {
            let all = svscan.said();
            let line =
                all.lines().find_map(|line| starts.iter().find_map(|start| line.strip_prefix(&**start)));
            line.map(str::to_owned)
        };
        if file.starts_with("env/") {
            // One file of many: the others are read.
        } else {
            until(&format!("{name}, {file} {text:?}: it is refused"), || said().is_some() || is_up(w, &name));
        }
        let by_rc = checked.out.lines().find(|line| line.contains(&format!("source/{name}/")));
        for (who, line) in [("supervise", said()), ("rc check", by_rc.map(str::to_owned))] {
            if !line.as_ref().is_some_and(|line| line.contains(message)) {
                wrong.push(format!("{who} says of {file} {text:?}: {line:?}"));
            }
        }
        table.push(((*file).to_owned(), format!("{text:?}"), said().unwrap_or_default()));
    }
    for program in PROGRAMS {
        let text = format!(
            "supervise {program}: warning: unable to start run: {program}: is not executable (chmod +x it)"
        );
        until(&format!("{text:?} is said"), || svscan.said().contains(&text));
        table.push((program.to_owned(), "no x bit".to_owned(), "is not executable (chmod +x it)".to_owned()));
    }
    let both = "forking: what run leaves behind dies with it: remove this, or flag-newpidns";
    until(&format!("{both:?} is said"), || svscan.said().contains(both));
    assert!(
        checked.out.contains("source/forking/forking: what run leaves behind dies with it"),
        "{}",
        checked.out
    );
    table.push((
        "forking".to_owned(),
        "beside flag-newpidns".to_owned(),
        both["forking: ".len()..].to_owned(),
    ));
    for (file, text, said) in &table {
        println!("{file:17} {text:25} {}", said.trim_end_matches(" (retrying in 1 s)"));
    }
    assert!(wrong.is_empty(), "{}\n--- rc check\n{}", wrong.join("\n"), checked.out);
}

fn is_up(w: &World, name: &str) -> bool {
    w.at(&format!("scan/{name}")).status().is_up()
}

/// What is mended is seen at the next start.
fn better_values(w: &World) {
    let a = w.service("a", SLEEP);
    a.file("nice", "low\n").file("health", "#!/bin/sh\n");
    let svscan = w.svscan(&[]);
    until("one of them is named", || svscan.said().contains("nice: \"low\""));
    a.file("nice", "1\n");
    until("the other one is named", || svscan.said().contains("health: is not executable"));
    chmod("scan/a/health", 0o755);
    w.ok("svc", &["-wu", "-T", "30000", "-u", &a.path]);
    fs::remove_file("scan/a/health").unwrap();
}
