//! `init` as pid 1 with real services: what a container prints, how it ends.

#[path = "support/boot.rs"]
mod support;

use rustix::process::Signal;
use support::Image;

/// A service that does nothing, until it is told to end.
const SLEEP: &str = "exec sleep 1000";

// ---------------------------------------------------------------------------------------- what is shown

#[test]
fn only_services_that_somebody_wrote_are_shown() {
    let Some(image) = Image::new() else { return };
    let image = image.oneshot("prepare", "true", &["base"]).longrun("web", SLEEP, &["prepare"]);
    let container = image.file("spare/type", "oneshot\n").file("spare/up", "").boot(&[]);
    container.wait_for("2 services up in ");
    assert_eq!(
        container.shows("rc graph"),
        "user (bundle)\n└─ web (longrun)\n   └─ prepare (oneshot)\nnot started at boot: spare\n"
    );
    assert_eq!(container.shows("rc list"), "prepare\nspare\nweb\n");
    assert_eq!(container.shows("rc list --up"), "prepare\nweb\n");
    let status = container.shows("rc status");
    assert_eq!(status.lines().count(), 4, "{status}");
    assert!(container.shows("rc check").starts_with("1 longrun, 2 oneshots, 1 bundle:"));
    let ended = container.stop();
    ended.exits(0).says("service web successfully stopped").says("service prepare successfully stopped");
    ended.does_not_say("fix-attrs").does_not_say("legacy");
}

#[test]
fn built_in_services_that_somebody_adds_to_are_shown() {
    let Some(image) = Image::new() else { return };
    let image = image.oneshot("early", "true", &[]).file("fix-attrs/dependencies.d/early", "");
    let image = image.file("late/type", "oneshot").file("late/up", "true").file("user2/contents.d/late", "");
    let container = image.file("late/dependencies.d/legacy-services", "").boot(&[]);
    container.wait_for("3 services up in ");
    assert_eq!(
        container.shows("rc graph"),
        "user (bundle)\n└─ early (oneshot)\nuser2 (bundle)\n└─ late (oneshot)\n   ├─ early (oneshot)\n   \
         └─ fix-attrs (oneshot)\n      └─ early (oneshot)\n"
    );
    let status = container.shows("rc status fix-attrs");
    assert!(status.contains("fix-attrs  oneshot  up"), "{status}");
    container.stop().exits(0);
}

#[test]
fn whoever_takes_the_place_of_the_killed_looks_the_same() {
    let Some(image) = Image::new() else { return };
    let container = image.longrun("web", SLEEP, &[]).boot(&[]);
    container.wait_for("1 service up in ");
    let look =
        || container.shows("ps -e -o pid,comm,args | grep -E '(svscan|supervise)( |$)' | grep -v grep");
    let pids = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split_whitespace().next().unwrap().to_owned()).collect()
    };
    let names = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")).collect()
    };
    container.wait_until("the service is in its command line", || look().contains("s6-supervise web"));
    let first = look();
    let is = ["svscan svscan /run/service", "supervise supervise --listen . s6-supervise web"];
    assert_eq!(names(&first), is);
    container.inside(&format!("kill -9 {}", pids(&first).join(" ")));
    container.wait_until("both are there again", || {
        let now = look();
        let mut names = (names(&now), names(&first));
        names.0.sort();
        names.1.sort();
        names.0 == names.1 && pids(&now).iter().all(|pid| !pids(&first).contains(pid))
    });
    container.stop().exits(0);
}

#[test]
fn svc_says_for_which_service_the_time_is_up() {
    let Some(image) = Image::new() else { return };
    let deaf = "trap '' TERM; echo deaf; while :; do sleep 0.01; done";
    let image = image.longrun("deaf", deaf, &[]).file("deaf/timeout-kill", "2000");
    let container = image.longrun("web", SLEEP, &[]).boot(&[]);
    container.wait_for("2 services up in ");
    container.wait_for("deaf\n");
    assert_eq!(
        container.shows("svc -wD -T 100 -d /run/service/deaf; echo $?"),
        "99\nsvc: fatal: timed out: /run/service/deaf is up, not down\n"
    );
    container.stop().exits(0);
}

// ---------------------------------------------------------------------------------------- why it stops

#[test]
fn a_stop_says_who_wanted_it_how_long_it_took_and_the_exit_code() {
    let Some(image) = Image::new() else { return };
    let ended = image.run(&["sh", "-c", "exit 3"]);
    ended.exits(3).says("init: warning: stopping: the command ended with exit code 3\n");
    ended.says("init: info: stopped in ").says(": exit code 3\n");

    let container = Image::new().unwrap().longrun("web", SLEEP, &[]).boot(&[]);
    container.wait_for("1 service up in ");
    container.stop().exits(0).says("init: info: stopping: SIGTERM received\n").says(": exit code 0\n");

    let container = Image::new().unwrap().boot(&["sh", "-c", "kill -INT 1; sleep 1000"]);
    container.end().exits(143).says("init: info: stopping: SIGINT from sh (pid ");

    let finish = "/run/s6/basedir/bin/halt";
    let image = Image::new().unwrap().longrun("web", "exit 4", &[]).script("web/finish", finish);
    image
        .boot(&[])
        .end()
        .exits(0)
        .says("init: info: stopping: halt, called by finish (pid ")
        .says(", service web\n");
}

#[test]
fn verbosity_1_says_only_what_nobody_wanted_and_0_nothing() {
    for (verbosity, code, said) in
        [(1, 0, ""), (1, 7, "init: warning: stopping: the command ended with exit code 7\n"), (0, 7, "")]
    {
        let Some(image) = Image::new() else { return };
        let image = image.oneshot("prepare", "true", &["base"]).env(&format!("S6_VERBOSITY={verbosity}"));
        let ended = image.run(&["sh", "-c", &format!("exit {code}")]);
        assert_eq!(ended.exits(code).said, said, "{verbosity}");
    }
}

#[test]
fn what_holds_a_stop_up_is_named() {
    let Some(image) = Image::new() else { return };
    let slow = "trap 'sleep 0.6; exit' TERM; echo trapped; while :; do sleep 0.01; done";
    let container = image.longrun("web", SLEEP, &[]).longrun("slow", slow, &[]).boot(&[]);
    container.wait_for("2 services up in ");
    container.wait_for("trapped");
    let ended = container.stop();
    ended.exits(0).says("; what took longest: slow (").says(" (services ");
}

#[test]
fn a_service_that_does_not_end_is_named_with_what_helps() {
    let Some(image) = Image::new() else { return };
    let deaf = "trap '' TERM; echo deaf; while :; do sleep 0.01; done";
    let image = image.longrun("web", SLEEP, &[]).longrun("deaf", deaf, &["web"]);
    let container = image.env("PERENNIAL_STOP_TIME=900ms").boot(&[]);
    container.wait_for("2 services up in ");
    container.wait_for("deaf\n");
    let ended = container.stop();
    ended.exits(0).says("unable to stop service deaf: timed out (").says("): run (pid ");
    ended
        .says("does not end (a file timeout-kill, in milliseconds, limits that): killing it")
        .says("service web successfully stopped");
}

#[test]
fn the_time_for_a_stop_is_split_over_the_levels_of_dependencies() {
    let deaf = "trap '' TERM; echo deaf; while :; do sleep 0.01; done";
    let Some(image) = Image::new() else { return };
    // What each needs gets its turn, whatever the others do.
    let image = image.longrun("db", "trap 'echo db ends; exit' TERM; while :; do sleep 0.01; done", &["net"]);
    let image = image.oneshot("net", "true", &[]).down("net", "echo net ends; exit 3");
    let image = image.oneshot("hung", "true", &["db"]).down("hung", "echo hangs; exec sleep 1000");
    let image = image.longrun("web", deaf, &["hung"]).longrun("other", SLEEP, &["base"]);
    let container = image.env("PERENNIAL_STOP_TIME=3s").boot(&[]);
    container.wait_for("up in ");
    container.wait_for("deaf\n");
    let ended = container.stop();
    ended
        .exits(0)
        .says("unable to stop service web: timed out (")
        .says("unable to stop service hung: timed out (");
    ended.says("hangs\n").says("db ends\n").says("net ends\n").says("unable to stop service net: exit 3");
    ended.says("service other successfully stopped").says("service db successfully stopped");
}

#[test]
fn who_asks_for_time_to_stop_has_it() {
    let Some(image) = Image::new() else { return };
    // Both take longer than their share of the usual time would be.
    let slow = "trap 'sleep 5; echo ends; exit' TERM; echo ready; while :; do sleep 0.01; done";
    let image = image.longrun("web", slow, &["db"]).file("web/timeout-kill", "20000\n").longrun(
        "db",
        SLEEP,
        &["net"],
    );
    let container = image.longrun("net", SLEEP, &[]).boot(&[]);
    container.wait_for("up in ");
    container.wait_for("ready\n");
    let ended = container.stop();
    ended.exits(0).says("ends\n").says("service net successfully stopped").does_not_say("killing");
}

// ---------------------------------------------------------------------------------------- a boot that fails

#[test]
fn a_boot_that_fails_and_goes_on_says_without_what() {
    let Some(image) = Image::new() else { return };
    let image = image.oneshot("broken", "exit 5", &[]).longrun("web", SLEEP, &["broken"]);
    let ended = image.longrun("other", SLEEP, &[]).run(&["true"]);
    ended
        .exits(0)
        .says("unable to start service broken: exit 5 (")
        .says("because of that: not started: web\n");
    ended.says("the boot failed, and the container goes on without: broken web (");
}

#[test]
fn a_boot_that_fails_and_stops_says_so() {
    let Some(image) = Image::new() else { return };
    let image = image.oneshot("broken", "exit 5", &[]).env("S6_BEHAVIOUR_IF_STAGE2_FAILS=2");
    let ended = image.run(&["echo", "not reached"]);
    ended.exits(1).says("unable to start service broken: exit 5 (").does_not_say("not reached");
    ended.says("init: warning: stopping: the boot failed\n").does_not_say("goes on");
}

#[test]
fn a_oneshot_that_a_stop_interrupts_is_named() {
    let Some(image) = Image::new() else { return };
    let image = image.oneshot("slow", "echo begun; exec sleep 1000", &[]).longrun("web", SLEEP, &["slow"]);
    let container = image.boot(&["echo", "not reached"]);
    container.wait_for("begun\n");
    let ended = container.stop();
    ended.exits(0).says("unable to start service slow: interrupted (").does_not_say("not reached");
}

#[test]
fn a_boot_for_which_the_time_is_up_says_what_it_waited_for() {
    let Some(image) = Image::new() else { return };
    let image =
        image.longrun("web", SLEEP, &[]).file("web/notification-fd", "3\n").longrun("b", SLEEP, &["web"]);
    let image = image.env("S6_CMD_WAIT_FOR_SERVICES_MAXTIME=300").env("S6_BEHAVIOUR_IF_STAGE2_FAILS=2");
    let ended = image.run(&["true"]);
    ended.exits(2).says("unable to start service web: timed out (").says("the time is up: not started: b\n");
}

#[test]
fn signals_that_end_a_container() {
    for signal in [Signal::QUIT, Signal::USR1, Signal::USR2, Signal::POWER, Signal::WINCH] {
        let Some(image) = Image::new() else { return };
        let container = image.longrun("web", SLEEP, &[]).boot(&[]);
        container.wait_for("1 service up in ");
        container.signal(signal);
        container.end().exits(0).says(" received\n").says("service web successfully stopped");
    }
}

// ---------------------------------------------------------------------------------------- bad definitions

#[test]
fn half_a_tree_is_refused_and_every_mistake_is_named() {
    type Case = (&'static str, &'static str, &'static str);
    let cases: [Case; 9] = [
        (
            "web/dependencies.d/databse",
            "",
            "web/dependencies.d/databse: there is no service named databse: did you mean database?",
        ),
        (
            "database/dependencies.d/web",
            "",
            "database/dependencies.d/web: dependency cycle: database needs web needs database",
        ),
        ("web/type", "longrun \n", "web/type:1: invalid type \"longrun \": write oneshot, longrun or bundle"),
        ("web/type", "longrun\r\n", "web/type:1: the line ends with a carriage return: save it with LF"),
        ("web/run", "#!/no/such/shell\n", "web/run:1: interpreter /no/such/shell not found: install it"),
        ("web/run", "#!/bin/sh\r\nexec sleep 9\r\n", "web/run:1: the first line ends with a carriage return"),
        ("web/run", "exec sleep 9\n", "web/run:1: no interpreter: the first line must begin with #!"),
        ("database/up", "echo \"open\n", "database/up:1: column 6: this string does not end"),
        ("spare/run", "#!/bin/sh\n", "spare: there is no file type in it"),
    ];
    let good = || {
        let image = Image::new()?.oneshot("database", "true", &[]);
        Some(image.longrun("web", SLEEP, &["database"]))
    };
    for (path, text, said) in cases {
        let Some(image) = good() else { return };
        let ended = image.file(path, text).env("S6_VERBOSITY=0").run(&["echo", "not reached"]);
        ended.exits(1).says(said).does_not_say("not reached").does_not_say("starting");
        ended.says("init: fatal: 1 error in the service definitions: nothing is started\n");
    }
    let image = good().unwrap().file("web/run", "").file("web/type", "lnogrun").file("x/type", "bundle");
    let ended = image.env("PERENNIAL_STOP_TIME=9s").run(&["echo", "not reached"]);
    ended.exits(1).says("web/type:1: ").says("x: a bundle needs contents.d").says("2 errors in the service");
}

#[test]
fn rc_check_looks_at_an_image_from_outside() {
    let Some(image) = Image::new() else { return };
    let container = image.longrun("web", SLEEP, &["base"]).boot(&[]);
    container.wait_for("1 service up in ");
    let make = "mkdir -p /run/image/usr/bin; cp /bin/sh /run/image/usr/bin; ln -s usr/bin /run/image/bin; \
                mkdir /run/image/etc; cp -r /etc/s6-overlay /run/image/etc/; cd /run; ";
    let good = container.shows(&format!("{make} rc check --root image; echo $?"));
    assert_eq!(good, "1 longrun, 0 oneshots, 1 bundle: 0 errors, 0 warnings\n0\n");
    let bad =
        container.shows("cd /run; mv image/usr/bin/sh image/usr/bin/bash; rc check --root image/; echo $?");
    assert!(
        bad.starts_with("error: image/etc/s6-overlay/s6-rc.d/web/run:1: interpreter /bin/sh not found: ")
            && bad.ends_with("1 error, 0 warnings\n1\n"),
        "{bad}"
    );
    let layer =
        "cd /run; rm -r image/usr image/bin; touch image/etc/s6-overlay/s6-rc.d/web/dependencies.d/x; ";
    let layer = container.shows(&format!("{layer} rc check --root image; echo $?"));
    assert!(
        layer.contains("warning: image/etc/s6-overlay/s6-rc.d/web/dependencies.d/x: x is not defined here")
    );
    assert!(layer.ends_with("interpreters were not looked for\n0\n"), "{layer}");
    container.stop().exits(0);
}

// ---------------------------------------------------------------------------------------- how it ends

#[test]
fn the_exit_code_is_the_commands() {
    for (command, code, said) in [
        (&["true"][..], 0, ""),
        (&["sh", "-c", "exit 1"], 1, ""),
        (&["sh", "-c", "exit 128"], 128, ""),
        (&["sh", "-c", "exit 255"], 255, ""),
        (&["sh", "-c", "kill -KILL $$"], 137, "the command was ended by signal SIGKILL"),
        (&["sh", "-c", "kill -SEGV $$"], 139, "the command was ended by signal SIGSEGV"),
        (&["no-such-program"], 127, "init: fatal: unable to execute no-such-program: not found in PATH ("),
        (&["/no/such/program"], 127, "init: fatal: unable to execute /no/such/program: no such file\n"),
        (&["/etc/passwd"], 126, "init: fatal: unable to execute /etc/passwd: not executable (chmod +x it)\n"),
        (&["/etc"], 126, "init: fatal: unable to execute /etc: not a regular file\n"),
    ] {
        let Some(image) = Image::new() else { return };
        image.run(command).exits(code).says(said);
    }
}

#[test]
fn the_exit_code_is_what_a_service_wrote_before_it_asked_for_the_end() {
    // As finish scripts of many images do it; the command is told to end then, and dies of that.
    for code in [0, 44] {
        let Some(image) = Image::new() else { return };
        let results = "/run/s6-linux-init-container-results/exitcode";
        let finish = format!("echo {code} >{results}; exec /run/s6/basedir/bin/halt");
        let image = image.longrun("web", "exit 4", &[]).script("web/finish", &finish);
        image.run(&["sleep", "1000"]).exits(code).says("stopping: halt, called by ");
    }
    let halt = Image::new().unwrap().run(&["sh", "-c", "/run/s6/basedir/bin/halt; exec sleep 1000"]);
    halt.exits(143).says("init: info: stopping: halt, called by sh (pid ");
}

#[test]
fn where_nothing_can_be_written_it_is_refused_with_what_to_do() {
    // The programs under test may lie below one of them.
    let nowhere = "for dir in /dev/shm /tmp /var/tmp; do
        mount --bind $dir $dir; mount -o remount,bind,ro $dir; done;";
    let Some(image) = Image::new() else { return };
    let ended = image.setup(&format!("mount -o remount,ro /run; {nowhere}")).run(&["true"]);
    ended
        .exits(111)
        .says("init: fatal: unable to make /run/s6: Read-only file system: /run must be there and");
    ended.says("--tmpfs /run:exec");

    let image = Image::new().unwrap().setup("chmod 700 /run; drop='setpriv --reuid 65534 --clear-groups';");
    let ended = image.setup(nowhere).run(&["true"]);
    // In a user namespace of one account there is nobody else to become.
    if !ended.said.contains("setpriv: ") {
        ended
            .exits(111)
            .says("/run must be there and writable: mount a tmpfs there, --tmpfs /run:exec,uid=65534");
    }
}

#[test]
fn a_stop_ends_whatever_hangs() {
    let deaf = "trap '' TERM; echo deaf; while :; do sleep 0.01; done";
    // Each with what is waited for before the stop, and what must be said.
    type Case = (&'static str, fn(Image, &str) -> Image, &'static [&'static str], &'static str, &'static str);
    let cases: [Case; 6] = [
        (
            "command",
            |i, deaf| i.script("deaf", deaf),
            &["/etc/s6-overlay/s6-rc.d/deaf"],
            "deaf\n",
            "the command, deaf (pid ",
        ),
        (
            "up",
            |i, deaf| i.oneshot("hangs", deaf, &[]),
            &[],
            "deaf\n",
            "unable to start service hangs: interrupted (",
        ),
        (
            "down",
            |i, deaf| i.oneshot("hangs", "true", &[]).down("hangs", deaf),
            &[],
            "1 service up",
            "unable to stop service hangs: timed out (",
        ),
        (
            "longrun",
            |i, deaf| i.longrun("hangs", deaf, &[]),
            &[],
            "deaf\n",
            "unable to stop service hangs: timed out (",
        ),
        (
            "finish",
            |i, deaf| i.longrun("hangs", "exec sleep 1000", &[]).script("hangs/finish", deaf),
            &[],
            "1 service up",
            "unable to stop service hangs: timed out (",
        ),
        (
            "orphan",
            |i, deaf| i.oneshot("leaves", &format!("({deaf}) &"), &[]),
            &[],
            "deaf\n",
            " of SIGTERM: script (pid ",
        ),
    ];
    for (what, make, command, before, said) in cases {
        let Some(image) = Image::new() else { return };
        let container = make(image, deaf).env("PERENNIAL_STOP_TIME=900ms").boot(command);
        container.wait_for(before);
        let ended = container.stop();
        println!("{what}: {ended:?}");
        ended.says(said).says("init: info: stopped in ");
    }
}
