//! `with-contenv` and `printcontenv` with a `/run` of their own: each scenario has a mount namespace with an
//! empty file system there. Where that is not allowed the tests say so and pass.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};

const WITH_CONTENV: &str = env!("CARGO_BIN_EXE_with-contenv");
const PERENNIAL: &str = env!("CARGO_BIN_EXE_perennial");

/// What the programs are called with unless a test says something else.
const CALLER: &[&str] = &["PATH=/usr/bin:/bin", "LEAK=1"];

/// How `unshare` gets a mount namespace here; `None`: it does not.
fn namespace() -> Option<&'static [&'static str]> {
    let ways: [&[&str]; 2] = [&["-m"], &["-r", "-m"]];
    let works = |way: &&&[&str]| {
        let mount = ["sh", "-c", "mount -t tmpfs tmpfs /run"];
        let command = Command::new("unshare").args(**way).args(mount).stderr(Stdio::null()).status();
        command.is_ok_and(|status| status.success())
    };
    let way = ways.iter().find(works).copied();
    if way.is_none() {
        println!("skipped: no mount namespace can be had here");
    }
    way
}

/// A container: a shell script has filled its `/run`.
struct Container {
    way: &'static [&'static str],
    setup: String,
}

impl Container {
    /// With a store; `setup` runs in it.
    fn with_store(setup: &str) -> Option<Container> {
        Container::without_store(&format!(
            "mkdir -p /run/s6/container_environment; cd /run/s6/container_environment; {setup}"
        ))
    }

    fn without_store(setup: &str) -> Option<Container> {
        Some(Container { way: namespace()?, setup: setup.to_owned() })
    }

    /// Runs `argv` in it, with exactly the environment `caller`.
    fn run(&self, caller: &[&str], argv: &[&str]) -> Output {
        let script = format!("set -e; mount -t tmpfs tmpfs /run; {}\ncd /; exec \"$@\"", self.setup);
        Command::new("unshare")
            .args(self.way)
            .args(["sh", "-c", &script, "sh", "env", "-i"])
            .args(caller)
            .args(argv)
            .stdin(Stdio::null())
            .output()
            .expect("unshare worked a moment ago")
    }
}

/// The variables that `env -0` printed, sorted.
fn variables(output: &Output) -> Vec<String> {
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let mut variables: Vec<String> = text.split_terminator('\0').map(str::to_owned).collect();
    variables.sort();
    variables
}

/// Exit code, and what was said.
fn said(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8(output.stderr.clone()).unwrap())
}

#[test]
fn a_program_gets_path_and_the_store_and_nothing_else() {
    let setup = "echo a > A; printf b > B; printf 'l\\nm\\n\\n' > LINES; : > GONE; echo > EMPTY; echo h > .h";
    let Some(container) = Container::with_store(setup) else { return };
    let caller = [CALLER, &["GONE=1", "A=other"]].concat();
    let output = container.run(&caller, &[WITH_CONTENV, "env", "-0"]);
    assert_eq!(variables(&output), ["A=a", "B=b", "EMPTY=", "LINES=l\nm\n", "PATH=/usr/bin:/bin"]);
    assert!(output.stderr.is_empty());
}

#[test]
fn programs_are_looked_for_along_the_stored_path() {
    let setup = "echo /run/bin:/bin > PATH; mkdir /run/bin; printf '#!/bin/sh\\necho $PATH' > /run/bin/here
                 chmod +x /run/bin/here";
    let Some(container) = Container::with_store(setup) else { return };
    let output = container.run(CALLER, &[WITH_CONTENV, "here"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "/run/bin:/bin\n");
    // Nothing is kept where nothing was, and there is a default.
    let Some(container) = Container::with_store(": > PATH") else { return };
    let output = container.run(&["PATH=/nowhere"], &[WITH_CONTENV, "env", "-0"]);
    assert_eq!(variables(&output), Vec::<String>::new());
}

#[test]
fn it_is_an_interpreter_under_its_own_name_and_in_perennial() {
    for (program, name) in [(WITH_CONTENV, "anything"), (PERENNIAL, "with-contenv")] {
        let setup = format!(
            "echo a > A; ln -s {program} /run/{name}; printf '#!/run/{name} sh\\necho $A $LEAK- $0 \"$@\"' > /run/it
             chmod +x /run/it"
        );
        let Some(container) = Container::with_store(&setup) else { return };
        let output = container.run(CALLER, &["/run/it", "one", "two  three"]);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "a - /run/it one two  three\n", "{output:?}");
    }
}

#[test]
fn without_a_store_that_is_meant_to_be_it_only_executes() {
    let Some(container) = Container::without_store("") else { return };
    for keep in ["S6_KEEP_ENV=1", "S6_KEEP_ENV=02"] {
        let output = container.run(&[CALLER, &[keep]].concat(), &[WITH_CONTENV, "env", "-0"]);
        assert_eq!(variables(&output), ["LEAK=1", "PATH=/usr/bin:/bin", keep]);
    }
    for keep in ["S6_KEEP_ENV=0", "S6_KEEP_ENV=", "S6_KEEP_ENV=yes"] {
        let output = container.run(&[CALLER, &[keep]].concat(), &[WITH_CONTENV, "env", "-0"]);
        let expected = "with-contenv: fatal: unable to read /run/s6/container_environment: \
                        No such file or directory (/init makes it when it boots)\n";
        assert_eq!(said(&output), (Some(111), expected.to_owned()));
    }
}

#[test]
fn what_cannot_be_executed_is_explained() {
    let setup = "mkdir /run/bin; cd /run/bin; echo /run/bin:/bin > /run/s6/container_environment/PATH
                 printf '#!/bin/sh\\n' > plain; printf '#!/no/sh\\n' > nosh; printf '#!/bin/sh\\r\\n' > crlf
                 echo true > bare; chmod +x nosh crlf bare; mkdir dir";
    let Some(container) = Container::with_store(setup) else { return };
    let fatal = "with-contenv: fatal: unable to execute";
    for (program, code, why) in [
        ("none", 127, "none: not found in /run/bin:/bin"),
        ("/run/bin/none", 127, "/run/bin/none: no such file"),
        ("", 127, "\"\": not found in /run/bin:/bin"),
        ("plain", 126, "plain: /run/bin/plain: not executable (chmod +x it)"),
        ("/run/bin/plain", 126, "/run/bin/plain: not executable (chmod +x it)"),
        ("nosh", 127, "nosh: /run/bin/nosh: interpreter /no/sh not found"),
        ("/run/bin/nosh", 127, "/run/bin/nosh: interpreter /no/sh not found"),
        ("bare", 126, "bare: /run/bin/bare: no interpreter: the first line must begin with #!"),
        ("/run/bin/dir", 126, "/run/bin/dir: not a regular file"),
        (
            "crlf",
            127,
            "crlf: /run/bin/crlf: the first line ends with a carriage return \
             (save it with LF line ends, not CR LF)",
        ),
        (
            "bash -e",
            127,
            "bash -e: not found in /run/bin:/bin \
             (it is one word: all that follows the interpreter in a #! line is)",
        ),
    ] {
        let output = container.run(CALLER, &[WITH_CONTENV, program]);
        assert_eq!(said(&output), (Some(code), format!("{fatal} {why}\n")), "{program:?}");
    }
}

#[test]
fn a_variable_that_is_too_long_is_named() {
    let Some(container) = Container::with_store("head -c 200000 /dev/zero | tr '\\0' x > LONG") else {
        return;
    };
    let output = container.run(CALLER, &[WITH_CONTENV, "/bin/true"]);
    let expected = "with-contenv: fatal: unable to execute /bin/true: \
                    variable LONG has 200005 bytes, the kernel takes 131072\n";
    assert_eq!(said(&output), (Some(126), expected.to_owned()));
}

#[test]
fn what_cannot_be_read_is_passed_over() {
    let Some(container) = Container::with_store("echo a > A; mkdir D; ln -s L L; mkfifo F") else { return };
    let output = container.run(CALLER, &[WITH_CONTENV, "env", "-0"]);
    assert_eq!(variables(&output), ["A=a", "PATH=/usr/bin:/bin"]);
    let (_, text) = said(&output);
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort();
    let expected = [
        "with-contenv: warning: skipping variable \"D\": not a regular file",
        "with-contenv: warning: skipping variable \"F\": not a regular file",
        "with-contenv: warning: skipping variable \"L\": Too many symbolic links encountered",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn sigpipe_is_not_ignored_in_the_program() {
    let Some(container) = Container::with_store("") else { return };
    let output = container.run(CALLER, &[WITH_CONTENV, "sh", "-c", "kill -PIPE $$; echo alive"]);
    assert_eq!((output.status.signal(), &output.stdout[..]), (Some(13), &b""[..]), "{output:?}");
}

#[test]
fn usage_is_100() {
    let Some(container) = Container::with_store("") else { return };
    for argv in [&[WITH_CONTENV][..], &[WITH_CONTENV, "-x"], &[PERENNIAL, "printcontenv"]] {
        let (code, text) = said(&container.run(CALLER, argv));
        assert_eq!(code, Some(100), "{argv:?}: {text}");
    }
    let output = container.run(CALLER, &[WITH_CONTENV, "--help"]);
    assert_eq!(output.stdout, b"usage: with-contenv prog [ argument... ]\n");
    // What follows the program is its own.
    let output = container.run(CALLER, &[WITH_CONTENV, "--", "printf", "%s", "--help"]);
    assert_eq!(output.stdout, b"--help");
}

#[test]
fn printcontenv_prints_one_variable() {
    let setup = "echo 'a b' > A; printf 'l\\nm' > B; : > GONE; echo > EMPTY; echo h > .h; mkdir D";
    let Some(container) = Container::with_store(setup) else { return };
    for (name, code, text) in [
        ("A", 0, "a b\n"),
        ("B", 0, "l\nm\n"),
        ("GONE", 0, "\n"),
        ("EMPTY", 0, "\n"),
        ("LEAK", 1, ""),
        (".h", 1, ""),
        ("../container_environment/A", 1, ""),
        ("", 1, ""),
        ("D", 111, ""),
    ] {
        let output = container.run(CALLER, &[PERENNIAL, "printcontenv", name]);
        let printed = String::from_utf8(output.stdout).unwrap();
        assert_eq!((output.status.code(), &*printed), (Some(code), text), "{name:?}");
    }
    // The process environment counts where there is no store on purpose.
    let caller = [CALLER, &["S6_KEEP_ENV=1", "NONE="]].concat();
    for (name, code, text) in [("LEAK", 0, "1\n"), ("A", 1, ""), ("NONE", 1, "")] {
        let output = container.run(&caller, &[PERENNIAL, "printcontenv", name]);
        let printed = String::from_utf8(output.stdout).unwrap();
        assert_eq!((output.status.code(), &*printed), (Some(code), text), "{name:?}");
    }
    let Some(container) = Container::without_store("") else { return };
    assert_eq!(said(&container.run(CALLER, &[PERENNIAL, "printcontenv", "A"])), (Some(1), String::new()));
}

/// s6-overlay's `with-contenv` loads the store with s6-envdir, which is the reference for its contents.
#[test]
fn the_store_means_what_it_means_to_s6() {
    if Command::new("s6-envdir").stderr(Stdio::null()).status().is_err() {
        return println!("skipped: s6-envdir is not installed (Debian package s6)");
    }
    let setup = "echo a > A; printf b > B; printf 'l\\nm\\n\\n' > LINES; : > GONE; echo > EMPTY; echo h > .h
                 printf 'n\\0o\\0' > NULS; printf 'n\\0\\n' > NUL; printf ' x \\t\\r\\n' > BLANKS; echo x > 'O DD'
                 echo e > A=B; ln -s A LINK; head -c 70000 /dev/zero | tr '\\0' x > LONG; echo /bin > PATH";
    let Some(container) = Container::with_store(setup) else { return };
    let caller = ["PATH=/usr/bin:/bin", "GONE=1"];
    let store = "/run/s6/container_environment";
    let theirs = container.run(&caller, &["s6-envdir", "-fL", store, "env", "-0"]);
    let ours = container.run(&caller, &[WITH_CONTENV, "env", "-0"]);
    assert_eq!(variables(&ours), variables(&theirs));
}
