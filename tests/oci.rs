//! `init` in containers as engines make them: who it is, where it may write, what it has.

#[path = "support/oci.rs"]
#[allow(dead_code)]
mod support;

use std::io::Write as _;
use support::Image;

/// One service of each kind.
fn services(image: &Image) {
    image.file("etc/cont-init.d/10-init", "#!/usr/bin/with-contenv bash\necho \"init says $GREETING\"\n");
    image.file("etc/cont-finish.d/10-end", "#!/bin/sh\necho finished\n");
    image.file("etc/services.d/old/run", "#!/bin/sh\necho old runs; echo >&3; exec sleep 1000\n");
    image.file("etc/services.d/old/notification-fd", "3\n");
    let rc = "etc/s6-overlay/s6-rc.d";
    image.file(&format!("{rc}/prepare/type"), "oneshot\n");
    image.file(&format!("{rc}/prepare/up"), &format!("/{rc}/prepare/run\n"));
    image.file(
        &format!("{rc}/prepare/run"),
        "#!/command/with-contenv bash\necho prepared as $(id -u):$(id -g)\n",
    );
    image.file(&format!("{rc}/prepare/dependencies.d/base"), "");
    image.file(&format!("{rc}/web/type"), "longrun\n");
    image.file(&format!("{rc}/web/notification-fd"), "3");
    image.file(&format!("{rc}/web/run"), "#!/command/with-contenv bash\necho >&3; exec sleep 1000\n");
    image.file(&format!("{rc}/web/finish"), "#!/bin/sh\necho web ends $1 $2\n");
    image.file(&format!("{rc}/web/dependencies.d/prepare"), "");
    image.file(&format!("{rc}/user/contents.d/web"), "");
}

/// How `/run` is: of the image, or mounted, as engines do it by default and as they are asked to.
const PLACES: [(&str, bool, Option<&str>); 4] = [
    ("in the image", false, None),
    ("read-only root, tmpfs of the engine's default options", true, Some("nosuid,nodev,noexec,mode=1777")),
    ("read-only root, tmpfs that may be executed from", true, Some("nosuid,nodev,exec,mode=755")),
    ("read-only root and nothing else", true, None),
];

/// Who it is: root, `USER 1000`, a random user as OpenShift has them.
const USERS: [(u32, u32); 3] = [(0, 0), (1000, 1000), (1_000_650_000, 0)];

#[test]
fn it_boots_for_everybody_everywhere() {
    for (what, read_only, run_options) in PLACES {
        for (uid, gid) in USERS {
            for command in [&["sh", "-c", "with-contenv sh -c 'echo greeting $GREETING'; exit 6"][..], &[]] {
                let Some(mut image) = Image::new() else { return };
                services(&image);
                (image.read_only, image.run_options) = (read_only, run_options);
                let mut container = image.user(uid, gid).boot(command);
                container.wait_for(" services up in ");
                let (code, said) = match command {
                    [] => container.stop(),
                    _ => container.end(),
                };
                let case = format!("{what}, {uid}:{gid}, {command:?}; printed:\n{said}");
                assert_eq!(code, if command.is_empty() { 0 } else { 6 }, "{case}");
                for text in [
                    "init says hello\n",
                    &format!("prepared as {uid}:{gid}\n"),
                    "old runs\n",
                    "web ends 256 15\n",
                    "finished\n",
                    "web successfully stopped",
                ] {
                    assert!(said.contains(text), "{text:?} is missing: {case}");
                }
                assert_eq!(said.contains("greeting hello\n"), !command.is_empty(), "{case}");
                assert!(!said.contains("fatal:") && !said.contains("unable to start"), "{case}");
                let nowhere = read_only && run_options.is_none() || uid == 1000 && run_options.is_none();
                assert!(!nowhere || said.contains("unable to use /run: "), "{case}");
            }
        }
    }
}

#[test]
fn the_command_has_the_terminal() {
    let Some(mut image) = Image::new() else { return };
    services(&image);
    image.terminal = true;
    let check = "tty; ps -o stat= -p $$ 2>/dev/null; test -t 0 && test -t 1 && echo on a terminal; stty -a </dev/tty | head -n 1";
    let (code, said) = image.boot(&["bash", "-c", check]).end();
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("/dev/pts/0\n") && said.contains("on a terminal\n") && said.contains("speed "),
        "{said}"
    );
    assert!(!said.contains("No such device") && said.contains("web ends 256 15\n"), "{said}");
}

#[test]
fn what_is_typed_reaches_the_command() {
    let Some(mut image) = Image::new() else { return };
    services(&image);
    image.terminal = true;
    // Its output is the terminal's though there is a logger.
    image.environment.extend(["S6_LOGGING=2", "S6_CMD_USE_TERMINAL=1"].map(str::to_owned));
    let command = "trap 'echo interrupted; exit 4' INT; read -r line; echo \"read: $line\"; while :; do sleep 0.1; done";
    let mut container = image.boot(&["bash", "-c", command]);
    let mut terminal = container.child.stdin.take().unwrap();
    terminal.write_all(b"a line\n").unwrap();
    container.wait_for("read: a line\n");
    terminal.write_all(b"\x03").unwrap();
    let (code, said) = container.end();
    assert!(code == 4 && said.contains("interrupted\n"), "{code}: {said}");
}

#[test]
fn programs_work_when_executed_from_outside() {
    let Some(image) = Image::new() else { return };
    services(&image);
    let mut container = image.boot(&[]);
    container.wait_for(" services up in ");
    let status = container.shows(&["grep", "-E", "^(NoNewPrivs|Seccomp|CapEff):", "/proc/1/status"]);
    assert_eq!(status, "CapEff:\t00000000a80425fb\nNoNewPrivs:\t1\nSeccomp:\t2\n");
    assert!(container.shows(&["/command/svstat"]).contains("web   up"));
    assert_eq!(container.shows(&["/usr/bin/s6-svstat", "-u", "/run/service/old"]), "true\n");
    assert_eq!(container.shows(&["with-contenv", "sh", "-c", "echo $GREETING"]), "hello\n");
    assert_eq!(container.shows(&["/run/s6/basedir/bin/halt"]), "");
    let (code, said) = container.end();
    assert!(code == 0 && said.contains("stopping: halt"), "{code}: {said}");
}
