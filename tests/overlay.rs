//! What images made for s6-overlay find when `init` is in its place: each test is a line, or part of one, of
//! the list of checks that was made by running the original.

#[path = "support/boot.rs"]
mod support;

use rustix::process::Signal;
use support::Image;

/// A service that does nothing, until it is told to end.
const SLEEP: &str = "exec sleep 1000";

/// The texts come one after the other.
#[track_caller]
fn in_order(said: &str, texts: &[&str]) {
    let mut rest = said;
    for text in texts {
        match rest.find(text) {
            Some(at) => rest = &rest[at + text.len()..],
            None => panic!("{text:?} is not there, or too early; all that was printed:\n{said}"),
        }
    }
}

// ---------------------------------------------------------------------------------------- legacy directories

#[test]
fn scripts_of_cont_init_run_in_byte_order_one_after_the_other() {
    let Some(image) = Image::new() else { return };
    let image = image.etc_script("cont-init.d/A-up", "echo ran A");
    let image = image.etc_script("cont-init.d/9-z", "echo ran 9");
    let image = image.etc_script("cont-init.d/10-b", "echo ran 10; sleep 0.05; echo ended 10");
    let image = image.etc_script("cont-init.d/02 with space", "echo ran 02; pwd; umask; env");
    let image = image.etc_script("cont-init.d/.hidden", "echo not reached");
    let image =
        image.etc_script("cont-finish.d/1", "echo first end").etc_script("cont-finish.d/2", "echo last");
    let ended = image.says("web", "echo web runs", &["base"]).run(&["echo", "command"]);
    ended.exits(0).does_not_say("not reached");
    let said = &ended.said;
    in_order(said, &["ran 02", "ran 10", "ended 10", "ran 9", "ran A", "command", "first end", "last"]);
    in_order(said, &["ran A", "web runs"]);
    in_order(said, &["/servicedirs/s6rc-oneshot-runner\n", "0022\n"]);
    in_order(said, &["cont-init: info: running /etc/cont-init.d/02 with space\n", "0022", "exited 0\n"]);
    in_order(said, &["cont-finish: info: running /etc/cont-finish.d/1\n", "cont-finish.d/1 exited 0\n"]);
    assert!(!said.contains("TERM=") && !said.contains("HOME="), "{said}");
}

#[test]
fn a_script_of_cont_init_that_cannot_be_executed_says_why_and_the_next_one_runs() {
    let Some(image) = Image::new() else { return };
    let image =
        image.etc_file("cont-init.d/1", "#!/no/such/bash\n").etc_file("cont-init.d/2", "not executable");
    let image = image.etc_file("cont-init.d/3/x", "").etc_file("cont-init.d/4", "#!/bin/sh\r\n");
    let image = image.etc_script("cont-init.d/6", "echo the last one");
    let image = image.setup(
        "printf 'echo without interpreter; exit 5\\n' >/etc/cont-init.d/5; chmod +x /etc/cont-init.d/5",
    );
    let ended = image.run(&["echo", "command"]);
    ended.exits(0).says("unable to execute /etc/cont-init.d/1: interpreter /no/such/bash not found\n");
    ended.says("cont-init.d/1 exited 127\n").says("cont-init.d/2: not executable (chmod +x it)\n");
    ended
        .says("cont-init.d/2 exited 126\n")
        .says("cont-init.d/3: not a regular file\n")
        .says("3 exited 126\n");
    ended.says("cont-init.d/4: the first line ends with a carriage return").says("without interpreter\n");
    ended.says("cont-init.d/5 exited 5\n").says("the last one\n").says("command\n");
}

#[test]
fn a_failed_script_of_cont_init_means_what_the_variable_says() {
    for (behaviour, code) in [("0", 7), ("1", 7), ("2", 1), ("3", 1), ("yes", 7)] {
        let Some(image) = Image::new() else { return };
        let image = image.etc_script("cont-init.d/1", "exit 3").etc_script("cont-init.d/2", "echo went on");
        let image = image.etc_script("cont-finish.d/1", "echo finished").longrun("web", SLEEP, &["base"]);
        let image = image.env(&format!("S6_BEHAVIOUR_IF_STAGE2_FAILS={behaviour}"));
        let ended = image.run(&["sh", "-c", "echo command; exit 7"]);
        ended.exits(code).says("went on\n");
        match behaviour {
            "2" | "3" => {
                ended.does_not_say("command\n").does_not_say("web: starting").does_not_say("finished\n")
            }
            "1" => ended.says("cont-init: warning: something in /etc/cont-init.d failed").says("command\n"),
            _ => ended.does_not_say("warning: something").says("command\n").says("finished\n"),
        };
    }
}

#[test]
fn what_cont_init_writes_to_the_environment_store_is_heeded() {
    let Some(image) = Image::new() else { return };
    let store = "/run/s6/container_environment";
    let script = format!("printf 2 >{store}/S6_BEHAVIOUR_IF_STAGE2_FAILS; echo 1 >{store}/S6_VERBOSITY");
    let image = image.etc_script("cont-init.d/1", &script).oneshot("broken", "exit 5", &["base"]);
    image.run(&["echo", "command"]).exits(1).does_not_say("command\n");
}

#[test]
fn a_script_of_cont_finish_has_limited_time() {
    let Some(image) = Image::new() else { return };
    let image =
        image.etc_script("cont-finish.d/1", "exec sleep 1000").etc_script("cont-finish.d/2", "echo next");
    let ended = image.env("S6_KILL_FINISH_MAXTIME=100").run(&["true"]);
    ended
        .exits(0)
        .says("cont-finish.d/1 did not end in time: killing it")
        .says("1 exited 137\n")
        .says("next\n");
}

#[test]
fn a_stop_interrupts_a_slow_cont_init() {
    let Some(image) = Image::new() else { return };
    let image = image.etc_script("cont-init.d/1", "echo begun; sleep 1000; echo not reached");
    let image = image.etc_script("cont-init.d/2", "echo not reached");
    let container = image.etc_script("cont-finish.d/1", "echo not reached").boot(&["echo", "not reached"]);
    container.wait_for("begun\n");
    let ended = container.stop();
    ended
        .exits(0)
        .does_not_say("not reached")
        .says("unable to start service legacy-cont-init: interrupted (");
    ended.does_not_say("killing");
}

#[test]
fn owners_and_modes_are_fixed_before_anything_else() {
    let Some(image) = Image::new() else { return };
    let lines = "# comment\n/run/d* true nobody-here,4:5 0640 0750\n/run/none false 1 0600 0700\n/run/f false no,6:7 0604 0700\n";
    let image = image.etc_file("fix-attrs.d/01", lines).setup(
        "mkdir -p /run/d1/sub/.hid /run/d2; echo >/run/d1/sub/x; echo >/run/d1/sub/y; echo >/run/f; ln -s /run/f /run/d1/l;",
    );
    let look =
        "cd /run; for f in d1 d1/sub d1/sub/x d1/sub/y d1/sub/.hid d2 f; do stat -c '%n %u:%g %a' $f; done";
    let image = image.etc_script("cont-init.d/1", look);
    let ended = image.run(&["true"]);
    ended.exits(0).says("fix-attrs: info: applying /etc/fix-attrs.d/01\n");
    ended.says("d1 4:5 750\nd1/sub 4:5 750\nd1/sub/x 4:5 640\nd1/sub/y 4:5 640\nd1/sub/.hid 0:0 755\n");
    ended
        .says("d2 4:5 750\nf 6:7 604\n")
        .says("/etc/fix-attrs.d/01:3: /run/none: No such file or directory\n");
}

#[test]
fn hidden_files_are_fixed_if_asked_for() {
    let Some(image) = Image::new() else { return };
    let image = image.etc_file("fix-attrs.d/01", "/run/d true 4:5 0640 0750\n").env("S6_FIX_ATTRS_HIDDEN=1");
    let image = image.setup("mkdir -p /run/d/.hid;");
    image.run(&["stat", "-c", "%n %u:%g %a", "/run/d/.hid"]).exits(0).says("/run/d/.hid 4:5 750\n");
}

// ---------------------------------------------------------------------------------------- services.d

#[test]
fn services_of_older_images_run_from_their_copies_with_loggers() {
    let Some(image) = Image::new() else { return };
    let image = image.etc_script("services.d/web/run", "pwd; echo name $1; umask; exec sleep 1000");
    let image = image
        .etc_script("services.d/web/log/run", "while read -r x; do echo \"log: $x\"; done; echo logger ends");
    let image =
        image.etc_script("services.d/web/finish", "echo finish \"$@\"").etc_file("services.d/README", "x");
    let image =
        image.etc_script("services.d/off/run", "echo not reached").etc_file("services.d/off/down", "");
    let image = image.oneshot("late", "echo late oneshot", &["base"]);
    let container = image.env("S6_CMD_WAIT_FOR_SERVICES=1").boot(&[]);
    container.wait_for("log: 0022\n");
    container.wait_for("services up in ");
    assert_eq!(
        container.shows("cd /run/service; ls; readlink web"),
        "off\nweb\n/run/s6/legacy-services/web\n"
    );
    let status =
        container.shows("svstat -u /run/service/off; svstat -o up,wantedup /run/s6/legacy-services/web");
    assert!(status.contains("false") && status.contains("true true"), "{status}");
    let ended = container.stop();
    ended.exits(0).says("log: /run/s6/legacy-services/web\nlog: name web\n").does_not_say("not reached");
    in_order(&ended.said, &["late oneshot", "log: name web", "service legacy-services: stopping"]);
    in_order(&ended.said, &["stopping", "log: finish 256 15 web", "logger ends", "successfully stopped"]);
    in_order(&ended.said, &["legacy-services successfully stopped", "late: stopping"]);
}

#[test]
fn services_that_are_made_while_it_boots_are_found() {
    // By a script of cont-init.d, and by a oneshot where there is no such script.
    let make = "mkdir -p /etc/services.d/new; printf '#!/bin/sh\\necho new runs; exec sleep 1000\\n' >/etc/services.d/new/run
                chmod +x /etc/services.d/new/run";
    for by_script in [true, false] {
        let Some(image) = Image::new() else { return };
        let image = match by_script {
            true => image.etc_script("cont-init.d/1", make),
            false => image.oneshot("maker", make, &["base"]),
        };
        let container = image.boot(&[]);
        container.wait_for("new runs\n");
        container.wait_for(" up in ");
        let listed = container.shows("rc list --up");
        assert!(listed.contains("legacy-services\n"), "{listed}");
        let ended = container.stop();
        ended.exits(0).says("services-up: info: service new added\n");
        in_order(&ended.said, &["legacy-services: stopping", "legacy-services successfully stopped"]);
    }
}

#[test]
fn the_command_waits_for_services_if_asked_to() {
    for (wait, first) in [(true, "ready now\n"), (false, "command\n")] {
        let Some(image) = Image::new() else { return };
        // It does not become ready before the command says so, or somebody waits for it.
        let gate = if wait { "true" } else { "read x </run/gate" };
        let run = format!("{gate}; echo ready now; echo >&3; exec sleep 1000");
        let image =
            image.etc_script("services.d/slow/run", &run).etc_file("services.d/slow/notification-fd", "3\n");
        let image = image.etc_script("services.d/plain/run", SLEEP).setup("mkfifo /run/gate;");
        let image = image.env(&format!("S6_CMD_WAIT_FOR_SERVICES={}", u8::from(wait)));
        let command = if wait { "echo command" } else { "echo command; echo >/run/gate; sleep 0.1" };
        let ended = image.run(&["sh", "-c", command]);
        let second = if wait { "command\n" } else { "ready now\n" };
        ended.exits(0);
        in_order(&ended.said, &[first, second]);
    }
}

#[test]
fn services_that_do_not_become_ready_in_time_count_as_the_variable_says() {
    for (behaviour, code) in [(0, 0), (2, 2)] {
        let Some(image) = Image::new() else { return };
        let image =
            image.etc_script("services.d/slow/run", SLEEP).etc_file("services.d/slow/notification-fd", "3\n");
        let image = image.env("S6_CMD_WAIT_FOR_SERVICES=1").env("S6_CMD_WAIT_FOR_SERVICES_MAXTIME=300");
        let ended = image.env(&format!("S6_BEHAVIOUR_IF_STAGE2_FAILS={behaviour}")).run(&["echo", "command"]);
        ended.exits(code).says("legacy-services");
        match behaviour {
            0 => ended.says("command\n"),
            _ => ended.does_not_say("command\n"),
        };
    }
}

#[test]
fn a_service_of_an_older_image_that_does_not_stop_has_its_grace_time() {
    let Some(image) = Image::new() else { return };
    let image =
        image.etc_script("services.d/deaf/run", "trap '' TERM; echo deaf; while :; do sleep 0.01; done");
    let container = image.env("S6_SERVICES_GRACETIME=200").env("S6_KILL_GRACETIME=100").boot(&[]);
    container.wait_for("deaf\n");
    container.wait_for("up in ");
    container.stop().exits(0).says("services-down: warning: the time is up: deaf is up, not down\n");
}

#[test]
fn a_name_that_both_kinds_of_services_have_is_told() {
    let Some(image) = Image::new() else { return };
    let image = image.longrun("web", SLEEP, &["base"]).etc_script("services.d/web/run", "echo not reached");
    let ended = image.run(&["true"]);
    ended
        .exits(0)
        .says("unable to add service web: another service has this name")
        .does_not_say("not reached");
}

// ---------------------------------------------------------------------------------------- the command

#[test]
fn words_are_put_before_the_command() {
    let Some(image) = Image::new() else { return };
    let image = image.env("S6_CMD_ARG0=env -i sh -c '").env("A=1");
    // Quotes mean nothing.
    image.run(&["true"]).exits(2);
    let Some(image) = Image::new() else { return };
    let store = "/run/s6/container_environment";
    let image = image.etc_script("cont-init.d/1", &format!("echo env ADDED=1 >{store}/S6_CMD_ARG0"));
    image.run(&["env"]).exits(0).says("ADDED=1\n");
    let Some(image) = Image::new() else { return };
    let container = image.env("S6_CMD_ARG0=echo not reached").longrun("web", SLEEP, &[]).boot(&[]);
    container.wait_for(" up in ");
    container.stop().exits(0).does_not_say("not reached");
}

#[test]
fn the_command_runs_where_the_container_was_started_and_without_its_environment() {
    let Some(image) = Image::new() else { return };
    let ended = image.env("SECRET=1").setup("mkdir -p /run/here; cd /run/here;").run(&[
        "sh",
        "-c",
        "pwd; env; umask",
    ]);
    ended
        .exits(0)
        .says("/run/here\n")
        .says("PATH=/command:/usr/bin:/bin\n")
        .does_not_say("SECRET")
        .says("0022\n");
    let Some(image) = Image::new() else { return };
    let keep = image.env("SECRET=1").env("S6_KEEP_ENV=1").says("web", "env", &[]);
    let ended = keep.run(&["sh", "-c", "ls -d /run/s6/container_environment"]);
    ended.exits(2).says("SECRET=1\n");
}

#[test]
fn the_command_receives_signals_if_asked_to() {
    // A shell alone would have it in the background: no standard input, and SIGINT and SIGQUIT ignored.
    let command = "grep -E '^(SigIgn|SigBlk)' /proc/self/status; read -r line; echo \"input: $line\"
        trap 'echo got INT' INT; trap 'echo got USR1' USR1; trap 'echo got TERM; exit 5' TERM
        until [ -s /run/s6/cmdpid ]; do :; done; cat /run/s6/cmdpid; echo $$; echo trapped; while :; do sleep 0.01; done";
    let Some(image) = Image::new() else { return };
    let image = image.env("S6_CMD_RECEIVE_SIGNALS=1").longrun("web", SLEEP, &[]);
    let image = image.setup("printf 'a line\\n' >/run-input; exec </run-input; rm /run-input;");
    let container = image.boot(&["sh", "-c", command]);
    container.wait_for("trapped\n");
    for (signal, text) in [(Signal::INT, "got INT\n"), (Signal::USR1, "got USR1\n")] {
        container.signal(signal);
        container.wait_for(text);
    }
    let ended = container.stop();
    ended.exits(5).says("got TERM\n").says("input: a line\n").says("the command ended with exit code 5");
    ended.says("SigBlk:\t0000000000000000\n").says("web successfully stopped");
    let ignored = ended.said.lines().find_map(|line| line.strip_prefix("SigIgn:\t")).unwrap();
    // The numbers above 31 may have been ignored by whoever started us.
    assert_eq!(u64::from_str_radix(ignored, 16).unwrap() & 0x7fff_ffff, 0, "{ignored}");
    let pids: Vec<&str> = ended.said.lines().filter(|line| line.parse::<u32>().is_ok()).collect();
    assert!(pids.len() == 2 && pids[0] == pids[1], "{pids:?}");
}

#[test]
fn a_signal_without_a_command_that_receives_it_stops_the_container() {
    let Some(image) = Image::new() else { return };
    let container =
        image.env("S6_CMD_RECEIVE_SIGNALS=1").oneshot("slow", "echo begun; sleep 1000", &[]).boot(&["true"]);
    container.wait_for("begun\n");
    container.stop().exits(0).says("stopping: SIGTERM received\n");
}

// ---------------------------------------------------------------------------------------- logging

#[test]
fn the_catch_all_logger_has_all_output() {
    for (logging, on_console) in [("1", true), ("2", false)] {
        let Some(image) = Image::new() else { return };
        let image =
            image.env(&format!("S6_LOGGING={logging}")).longrun("web", "echo from web; exec sleep 9", &[]);
        let logs = "/run/uncaught-logs";
        let look = format!(
            "until grep -q 'from web' {logs}/current; do sleep 0.01; done; stat -c %a {logs}; cat {logs}/current >/etc/seen; echo last"
        );
        let container = image.boot(&["sh", "-c", &look]);
        let ended = container.end();
        ended.exits(0);
        if on_console {
            ended.says("from web\n").says("2750\n").says("last\n").says("web: starting");
        } else {
            ended.does_not_say("from web").does_not_say("last");
        }
    }
}

#[test]
fn the_catch_all_logger_stamps_lines_unless_told_otherwise() {
    for (script, stamped) in [(None, true), (Some("n20"), false), (Some("n3 t"), true)] {
        let Some(image) = Image::new() else { return };
        let image = image.env("S6_LOGGING=2").env("S6_CATCHALL_USER=nobody");
        let image = script.iter().fold(image, |image, s| image.env(&format!("S6_LOGGING_SCRIPT={s}")));
        let image = image.setup("echo nobody:x:65534:65534:n:/:/bin/sh >>/etc/passwd; exec 9>&1;");
        let look = "until grep -q 'service' /run/uncaught-logs/current; do sleep 0.01; done; stat -c 'owner %u' /run/uncaught-logs/current >/etc/seen; head -n 1 /run/uncaught-logs/current >>/etc/seen";
        let image = image.oneshot("a", "true", &[]);
        let container =
            image.boot(&["sh", "-c", &format!("{look}; cat /etc/seen >/dev/tty || :; exec sleep 1000")]);
        container.wait_until("it is logged", || {
            !container.shows("cat /etc/seen 2>/dev/null | grep service").is_empty()
        });
        let seen = container.shows("cat /etc/seen");
        assert!(seen.starts_with("owner 65534\n"), "{seen}");
        assert_eq!(seen.lines().nth(1).unwrap().starts_with("s6-rc: "), !stamped, "{seen}");
        container.stop().exits(143);
    }
}

#[test]
fn an_unknown_user_of_the_catch_all_logger_is_an_error() {
    let Some(image) = Image::new() else { return };
    let ended = image.env("S6_LOGGING=1").env("S6_CATCHALL_USER=nosuch").run(&["true"]);
    ended.exits(100).says("init: fatal: S6_CATCHALL_USER=nosuch: no such user\n");
}

// ---------------------------------------------------------------------------------------- stopping

#[test]
fn s6_svscanctl_under_the_name_of_version_2_ends_the_container() {
    for dir in ["/run/s6/services", "/run/service"] {
        let Some(image) = Image::new() else { return };
        let image = image.longrun("db", SLEEP, &[]).longrun("web", SLEEP, &["db"]);
        let container = image.boot(&[]);
        container.wait_for("2 services up in ");
        assert_eq!(container.shows("svstat -u /run/s6/services/web"), "true\n");
        container.inside(&format!("perennial svscanctl -t {dir}"));
        let ended = container.end();
        ended.exits(0).says("init: info: stopping: halt, called by svscanctl\n");
        in_order(
            &ended.said,
            &["web: stopping", "web successfully stopped", "db: stopping", "db successfully"],
        );
    }
}

#[test]
fn the_start_waits_for_a_descriptor_to_be_closed_if_asked_to() {
    let Some(image) = Image::new() else { return };
    let image = image
        .env("S6_WAIT_FOR_CLOSING_FD=5")
        .setup("mkfifo /run/gate; exec 5<>/run/gate; (sleep 0.1; echo x >/run/gate) &");
    image.run(&["true"]).exits(0).says("descriptor 5 was written to, not closed: going on\n");
    let Some(image) = Image::new() else { return };
    image.env("S6_WAIT_FOR_CLOSING_FD=7").run(&["true"]).exits(0);
}

// ---------------------------------------------------------------------------------------- where it runs

/// What is to work wherever it runs: a service with a logger, one that is ready, a oneshot, the store, an end.
fn a_bit_of_everything(image: Image) -> Image {
    let image =
        image.longrun("web", "echo >&3; exec sleep 1000", &["prepare"]).file("web/notification-fd", "3\n");
    let image =
        image.script("web/finish", "echo finish $1 $2").oneshot("prepare", "echo prepared", &["base"]);
    let image = image.etc_script("cont-init.d/1", "echo initialised");
    let image = image.etc_script("services.d/old/run", "echo old runs; echo >&3; exec sleep 1000");
    let image = image.etc_file("services.d/old/notification-fd", "3\n");
    let image = image.env("GREETING=hello").env("S6_CMD_WAIT_FOR_SERVICES=1");
    image.says("other", "echo other $1", &["web"])
}

fn everything_worked(ended: &support::Ended) {
    ended
        .says("prepared\n")
        .says("initialised\n")
        .says("old runs\n")
        .says("other other\n")
        .says("finish 256 15\n");
    ended.says("greeting hello\n").does_not_say("warning: unable to st").does_not_say("fatal");
}

/// Prints a variable of the container's environment.
fn greet() -> String {
    let dir = std::path::Path::new(env!("CARGO_BIN_EXE_init")).parent().unwrap().display();
    format!("{dir}/with-contenv sh -c 'echo greeting $GREETING'; {dir}/svstat; exit 6")
}

#[test]
fn run_may_be_mounted_noexec() {
    let Some(image) = Image::new() else { return };
    let image = a_bit_of_everything(image).setup("mount -o remount,noexec /run;");
    // What is asked about a service is in the same place.
    let image = image.longrun("asked", "exec sleep 1000", &[]);
    let image =
        image.script("asked/validate", "echo asked validate >&2").script("asked/check", "touch /run/checked");
    let ended = image.run(&["sh", "-c", &format!("[ -e /run/checked ] && echo it was checked; {}", greet())]);
    ended.says("it was checked");
    everything_worked(ended.exits(6));
}

#[test]
fn it_runs_as_any_user_on_a_read_only_run_and_without_new_privileges() {
    if !rustix::process::geteuid().is_root() {
        return println!("skipped: who is not root cannot become somebody else");
    }
    for (user, why) in [
        ("--reuid 4711 --regid 4711", "chmod 755 /run;"),
        ("--reuid 1000650000 --regid 0", "mount -o remount,ro /run;"),
    ] {
        let Some(image) = Image::new() else { return };
        // The programs must be where everybody may look for them.
        let setup = format!(
            "{why} mount -t tmpfs tmpfs /dev/shm; chmod 1777 /dev/shm; drop='setpriv --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all {user}';"
        );
        let ended = a_bit_of_everything(image).setup(&setup).run(&["sh", "-c", &greet()]);
        everything_worked(ended.exits(6));
        ended.says("init: warning: unable to use /run: ").says(": using /dev/shm/perennial-");
    }
}

#[test]
fn it_need_not_be_the_first_process_and_ends_only_its_own() {
    let Some(image) = Image::new() else { return };
    let setup = "sleep 1000 & printf '#!/bin/sh\\n\"$@\"; echo ended $?; kill -0 %s && echo bystander lives\\n' $! >$0/outer
        chmod +x $0/outer; drop=$0/outer";
    let image = a_bit_of_everything(image).setup(setup);
    let container = image.boot(&["sh", "-c", &format!("(setsid sleep 1000 &) ; {}", greet())]);
    let ended = container.end();
    everything_worked(&ended);
    ended.says("ended 6\n").says("bystander lives\n");
}

#[test]
fn what_an_earlier_run_left_below_run_counts_for_nothing() {
    let Some(image) = Image::new() else { return };
    let left = "mkdir -p /run/s6/container_environment /run/service/old /run/s6-rc:s6-rc-init:x /run/uncaught-logs;
        ln -s s6-rc:s6-rc-init:x /run/s6-rc; echo 'touch /run/hooked' >/run/s6/container_environment/S6_STAGE2_HOOK;
        echo 0 >/run/s6/container_environment/S6_VERBOSITY; echo x >/run/s6/container_environment/OLD;
        printf '#!/bin/sh\\necho not reached\\n' >/run/service/old/run; chmod +x /run/service/old/run;
        mkdir -p /run/s6-rc:old/1/2;";
    let image = image.setup(left).longrun("web", SLEEP, &[]);
    let look = "n=0; while [ -e /run/s6-rc:old ] && [ $n -lt 3000 ]; do n=$((n+1)); sleep 0.01; done;
        ls -d /run/* /run/s6/container_environment/*; ls /run/service";
    let ended = image.run(&["sh", "-c", look]);
    ended.does_not_say("s6-rc:old");
    ended.exits(0).says("container_environment/PATH\n").does_not_say("OLD").does_not_say("hooked");
    ended
        .says("web: starting")
        .does_not_say("not reached")
        .does_not_say("uncaught")
        .does_not_say("s6-rc-init");
}

#[test]
fn only_the_command_is_run_if_asked_for() {
    let Some(image) = Image::new() else { return };
    let image = image.etc_script("cont-init.d/1", "echo not reached").longrun("web", "echo not reached", &[]);
    let image = image.env("PERENNIAL_ONLY_CMD=1").env("GREETING=hello");
    let ended = image.run(&["sh", "-c", &format!("ps -e -o comm; {}", greet())]);
    ended.exits(6).says("greeting hello\n").does_not_say("not reached").does_not_say("supervise");
    let Some(image) = Image::new() else { return };
    image.env("PERENNIAL_ONLY_CMD=1").run(&[]).exits(100).says("init: fatal: usage: ");
    // The other spelling; and in a container that runs.
    let perennial = std::path::Path::new(env!("CARGO_BIN_EXE_perennial"));
    let Some(image) = Image::new() else { return };
    let image = image.env("GREETING=hello").longrun("web", "echo not reached", &[]);
    let ended = image.boot_program(perennial, &["run", "sh", "-c", &greet()]).end();
    ended.exits(6).says("greeting hello\n").does_not_say("not reached");
    let Some(image) = Image::new() else { return };
    let container = image.env("GREETING=hello").longrun("web", SLEEP, &[]).boot(&[]);
    container.wait_for("up in ");
    assert_eq!(container.shows("perennial run sh -c 'echo greeting $GREETING'"), "greeting hello\n");
    container.stop().exits(0);
}

// ---------------------------------------------------------------------------------------- signals, exit codes

#[test]
fn every_stop_signal_ends_it_in_order_with_and_without_a_command() {
    let signals =
        [Signal::TERM, Signal::INT, Signal::QUIT, Signal::USR1, Signal::USR2, Signal::POWER, Signal::WINCH];
    for signal in signals {
        for command in
            [&["sh", "-c", "trap 'exit 9' TERM; echo trapped; while :; do sleep 0.01; done"][..], &[]]
        {
            let Some(image) = Image::new() else { return };
            let container = image.longrun("db", SLEEP, &[]).longrun("web", SLEEP, &["db"]).boot(command);
            container.wait_for(if command.is_empty() { "up in " } else { "trapped\n" });
            container.signal(signal);
            let ended = container.end();
            ended.exits(if command.is_empty() { 0 } else { 9 }).does_not_say("killing");
            in_order(
                &ended.said,
                &[" received\n", "web successfully stopped", "db: stopping", "db successfully"],
            );
        }
    }
}

#[test]
fn the_file_of_the_exit_code_is_read_as_before() {
    let file = "/run/s6-linux-init-container-results/exitcode";
    for (text, code) in
        [("300", 44), ("256", 0), ("7 \\nx", 7), ("-1", 100), ("x", 100), (" 3", 100), ("", 0)]
    {
        let Some(image) = Image::new() else { return };
        let image = image.oneshot("a", "true", &[]).down("a", &format!("printf %b '{text}' >{file}"));
        image.run(&["sh", "-c", "exit 5"]).exits(code);
    }
    let Some(image) = Image::new() else { return };
    image
        .oneshot("a", "true", &[])
        .down("a", &format!("cat {file}; rm {file}"))
        .run(&["sh", "-c", "exit 5"])
        .exits(0)
        .says("5\n");
}

#[test]
fn halt_ends_the_container_whenever_it_is_called() {
    let halt = "/run/s6/basedir/bin/halt";
    let results = "/run/s6-linux-init-container-results/exitcode";
    // From a finish script, as images do it, with a command and without.
    let finish =
        format!("if [ $1 -eq 256 ]; then e=$((128 + $2)); else e=$1; fi; echo $e >{results}; exec {halt}");
    for command in [&["sleep", "1000"][..], &[]] {
        let Some(image) = Image::new() else { return };
        let image = image.longrun("web", "sleep 0.05; kill -9 $$", &["base"]).script("web/finish", &finish);
        image.run(command).exits(137).says("stopping: halt, called by ");
    }
    // While it starts: from cont-init.d, and from a oneshot.
    let Some(image) = Image::new() else { return };
    let image = image.etc_script("cont-init.d/1", &format!("{halt}; exec sleep 1000")).longrun(
        "web",
        "echo not reached",
        &["base"],
    );
    image.run(&["echo", "not reached"]).exits(0).does_not_say("not reached");
    let Some(image) = Image::new() else { return };
    let image = image.oneshot("broken", &format!("echo 3 >{results}; {halt}; exec sleep 1000"), &["base"]);
    image.run(&["echo", "not reached"]).exits(3).does_not_say("not reached");
}

#[test]
fn a_failed_oneshot_means_what_the_variable_says_for_services_of_older_images_too() {
    for (behaviour, code) in [(0, 7), (1, 7), (2, 1)] {
        let Some(image) = Image::new() else { return };
        let image =
            image.oneshot("broken", "exit 4", &["base"]).etc_script("services.d/old/run", "echo not reached");
        let image = image
            .env(&format!("S6_BEHAVIOUR_IF_STAGE2_FAILS={behaviour}"))
            .etc_script("cont-finish.d/1", "echo finished");
        let ended = image.run(&["sh", "-c", "echo command; exit 7"]);
        ended
            .exits(code)
            .says("unable to start service broken: exit 4")
            .says("not started: legacy-services")
            .says("finished\n");
        ended.does_not_say("not reached");
        assert_eq!(ended.said.contains("command\n"), behaviour < 2, "{}", ended.said);
    }
}

#[test]
fn silence_is_silent() {
    let Some(image) = Image::new() else { return };
    let image = image.env("S6_VERBOSITY=0").oneshot("a", "true", &["base"]).longrun("web", SLEEP, &["a"]);
    let image = image.etc_script("cont-init.d/1", "exit 3").etc_script("cont-finish.d/1", "true");
    let image = image.etc_script("services.d/old/run", SLEEP).etc_script("../hook", "true");
    let ended = image.env("S6_STAGE2_HOOK=true").run(&["true"]);
    assert_eq!(ended.exits(0).said, "");
}

// ---------------------------------------------------------------------------------------- environment

#[test]
fn the_stored_environment_is_what_scripts_expect() {
    let Some(image) = Image::new() else { return };
    let store = "/run/s6/container_environment";
    let image = image
        .env("LINES_IN=a\nb\n")
        .env("EMPTY=")
        .env("BLANKS= x \t")
        .env("BASH_FUNC_f%%=() { :; }")
        .env("a.b=c")
        .env("x/y=1");
    let script = format!(
        "printf one >{store}/PRINTF; echo two >{store}/ECHO; : >{store}/GONE; printf '\\n' >{store}/NOTHING; mkdir {store}/DIR; echo h >{store}/.hidden
         cd {store}; od -c LINES_IN | head -n 1; od -c EMPTY | head -n 1; stat -c '%a %n' {store} {store}/EMPTY"
    );
    let image = image.etc_script("cont-init.d/1", &script).env("GONE=1");
    let dir = std::path::Path::new(env!("CARGO_BIN_EXE_init")).parent().unwrap().display().to_string();
    let image = image.longrun(
        "web",
        &format!("env; {dir}/with-contenv env -0 | tr '\\0' '|'; echo; echo >&3; exec sleep 9"),
        &["base"],
    );
    let image = image.file("web/notification-fd", "3");
    let print = format!(
        "for n in PRINTF NOTHING EMPTY MISSING GONE; do v=$({dir}/perennial printcontenv $n); echo \"$n [$v] $?\"; done"
    );
    let ended = image.env("S6_CMD_WAIT_FOR_SERVICES_MAXTIME=0").run(&["sh", "-c", &print]);
    ended
        .exits(0)
        .says("a  \\n   b  \\n  \\n\n")
        .says("755 /run/s6/container_environment\n644 /run/s6/container_environment/EMPTY\n");
    ended.says("skipping variable \"x/y\": impossible name\n");
    for line in ["PRINTF [one] 0\n", "NOTHING [] 0\n", "EMPTY [] 0\n", "MISSING [] 1\n"] {
        ended.says(line);
    }
    let line = ended.said.lines().find(|line| line.contains("PRINTF=one|")).map(str::to_owned);
    let all = ended.said.clone();
    for part in [
        "PRINTF=one|",
        "ECHO=two|",
        "NOTHING=|",
        "EMPTY=|",
        "BLANKS= x \t|",
        "a.b=c|",
        "BASH_FUNC_f%%=() { :; }|",
        "b\n|",
    ] {
        assert!(all.contains(part), "{part:?} is missing:\n{all}");
    }
    assert!(!line.unwrap_or_default().contains("GONE=") && !all.contains("hidden="), "{all}");
}

// ---------------------------------------------------------------------------------------- definitions

#[test]
fn bundles_are_read_from_both_places_and_nothing_is_written() {
    for read_only in [false, true] {
        let Some(image) = Image::new() else { return };
        let image = image.says("old", "echo old place", &["base"]);
        let image = image
            .file("new/type", "longrun")
            .file("new/notification-fd", "3")
            .file("new/run", "#!/bin/sh\necho new place; echo >&3; exec sleep 9\n");
        let image = image
            .etc_file("s6-overlay/user-bundles.d/user/contents.d/new", "")
            .etc_file("s6-overlay/user-bundles.d/user/type", "bundle\n");
        let image = image
            .file("last/type", "oneshot")
            .file("last/up", "echo last place")
            .file("last/dependencies.d/legacy-services", "");
        let image = image
            .etc_file("s6-overlay/user-bundles.d/user2/type", "bundle\n")
            .etc_file("s6-overlay/user-bundles.d/user2/contents.d/last", "");
        let image = match read_only {
            true => image.setup("mount -o remount,bind,ro /etc;"),
            false => image.setup("find /etc | sort >/run/before;"),
        };
        let ended = image.run(&["sh", "-c", "find /etc | sort | diff - /run/before && echo nothing written"]);
        ended.says("old place\n").says("new place\n").says("last place\n").does_not_say("fatal");
        assert_eq!(ended.said.contains("nothing written\n"), !read_only);
    }
}

#[test]
fn an_image_without_any_definition_just_runs_its_command() {
    let Some(image) = Image::new() else { return };
    image
        .setup("rm -r /etc/s6-overlay;")
        .run(&["echo", "command"])
        .exits(0)
        .says("command\n")
        .does_not_say("warning");
}

#[test]
fn a_hook_may_rewrite_the_definitions_and_the_environment() {
    let Some(image) = Image::new() else { return };
    let dir = "/etc/s6-overlay/s6-rc.d";
    let hook = format!(
        "pwd; env | sort; mkdir -p {dir}/custom-svc {dir}/user/contents.d; echo longrun >{dir}/custom-svc/type
         printf '#!/bin/sh\\necho custom runs\\nexec sleep 9\\n' >{dir}/custom-svc/run; touch {dir}/user/contents.d/custom-svc
         rm -r {dir}/web {dir}/user/contents.d/web; echo 2 >/run/s6/container_environment/S6_BEHAVIOUR_IF_STAGE2_FAILS
         mkdir -p /etc/cont-init.d; printf '#!/bin/sh\\necho made by the hook; exit 1\\n' >/etc/cont-init.d/1; chmod +x /etc/cont-init.d/1"
    );
    let image = image.longrun("web", "echo not reached", &[]).etc_script("hook", &hook).env("SECRET=1");
    let ended = image.env("S6_STAGE2_HOOK=/etc/ho*k").run(&["echo", "not reached"]);
    ended
        .exits(1)
        .says("/\nPATH=/command:/usr/bin:/bin\n")
        .says("made by the hook\n")
        .does_not_say("not reached");
    ended.does_not_say("SECRET").says("service custom-svc: starting");
}

#[test]
fn a_failed_hook_means_what_the_variable_says() {
    for (behaviour, code) in [(0, 0), (1, 0), (2, 33)] {
        let Some(image) = Image::new() else { return };
        let image = image.etc_script("hook", "exit 33").env("S6_STAGE2_HOOK=/etc/hook");
        let ended = image.env(&format!("S6_BEHAVIOUR_IF_STAGE2_FAILS={behaviour}")).run(&["echo", "command"]);
        ended.exits(code).says("init: warning: hook /etc/hook exited 33\n");
        assert_eq!(ended.said.contains("command\n"), behaviour < 2, "{}", ended.said);
    }
}

#[test]
fn a_profile_replaces_what_is_in_etc() {
    let Some(image) = Image::new() else { return };
    let image = image.longrun("web", "echo not reached", &[]).etc_script("cont-init.d/1", "echo not reached");
    let image = image.etc_script("cont-profile.d/test/cont-init.d/1", "echo of the profile");
    let image = image.etc_script(
        "cont-profile.d/test/services.d/old/run",
        "echo old of the profile; echo >&3; exec sleep 9",
    );
    let image = image
        .env("S6_CMD_WAIT_FOR_SERVICES=1")
        .etc_file("cont-profile.d/test/services.d/old/notification-fd", "3")
        .etc_file("cont-profile.d/test/s6-overlay/s6-rc.d/user/contents.d/.x", "");
    let ended = image.env("S6_RUNTIME_PROFILE=test").run(&["true"]);
    ended.exits(0).says("of the profile\n").says("old of the profile\n").does_not_say("not reached");
}

#[test]
fn scripts_find_themselves_where_they_expect_to() {
    let Some(image) = Image::new() else { return };
    let image = image.longrun("svc-web", "pwd -P; echo \"arguments: $*\"; sleep 0.02; exit 3", &["init-a"]);
    let image = image.script("svc-web/finish", "echo \"finish: $1 $2 $3 ${4:+group}\"; pwd -P; exit 125");
    let image = image.oneshot("init-a", "pwd -P; echo name $RC_NAME; readlink /proc/self/fd/0", &["base"]);
    let container = image.longrun("other", SLEEP, &[]).boot(&["sh", "-c", "echo command runs; sleep 1000"]);
    container.wait_for("finish: 3 0 svc-web group\n");
    container.wait_for("command runs\n");
    let ended = container.stop();
    ended.exits(143).says("/servicedirs/svc-web\narguments: svc-web\n");
    in_order(&ended.said, &["/servicedirs/s6rc-oneshot-runner\n", "name init-a\n", "/dev/null\n"]);
    let place = ended.said.lines().find(|line| line.ends_with("/servicedirs/svc-web")).unwrap();
    assert!(place.starts_with("/run/s6-rc:"), "{place}");
}

#[test]
fn all_forms_of_up_work() {
    let Some(image) = Image::new() else { return };
    let forms = [
        ("path", "/etc/s6-overlay/s6-rc.d/path/run"),
        ("shell", "#!/bin/sh\nexec /etc/s6-overlay/s6-rc.d/path/run\n"),
        ("comment", "# nothing to do here\n"),
        ("empty", ""),
        ("words", "echo \"two  words\" ${three}\n"),
        ("blanks", "  echo of words \n\n  on two lines  \n"),
    ];
    let execline = std::path::Path::new("/usr/bin/foreground").exists();
    let chain = ("chain", "foreground { echo from a block } if { true } echo after it");
    let mut image = image.script("path/run", "echo the script of $RC_NAME");
    for (name, up) in forms.into_iter().chain(execline.then_some(chain)) {
        image = image.file(&format!("{name}/type"), "oneshot").file(&format!("{name}/up"), up);
        image = image.file(&format!("user/contents.d/{name}"), "");
    }
    // `exec` is a program of execline.
    let ended = image.env("S6_BEHAVIOUR_IF_STAGE2_FAILS=0").run(&["true"]);
    ended.exits(0).says("the script of path\n").says("two  words ${three}\n").says("of words on two lines\n");
    if execline {
        ended.says("from a block\n").says("after it\n").says("the script of shell\n");
    }
    ended.says("comment successfully started").says("empty successfully started");
}

#[test]
fn supervised_services_are_in_the_list_of_processes() {
    let Some(image) = Image::new() else { return };
    let image = image.longrun("svc-nginx", SLEEP, &[]).longrun("svc-db", SLEEP, &[]);
    let container = image.etc_script("services.d/old/run", SLEEP).boot(&[]);
    let found = |name: &str| {
        !container.shows(&format!("pgrep -f '[s]6-supervise {name}$|[s]6-supervise {name} '")).is_empty()
    };
    container.wait_until("they are there", || found("svc-nginx") && found("svc-db") && found("old"));
    assert!(!found("svc"));
    container.inside("rm /run/service/old; perennial svscanctl -an /run/service");
    container.wait_until("one is gone", || !found("old"));
    assert!(found("svc-nginx"));
    container.stop().exits(0);
}
