//! Scan directories: who comes and goes, loggers, signals, options.

use crate::support::interop::{Kit, World};
use crate::support::{SLEEP, is_alive, is_locked, kill, mkfifo, read, stat, until, until_eq};
use rustix::process::Signal;
use std::fs;

pub fn svscan_add_remove(w: &World) {
    let a = w.service("a", SLEEP);
    let svscan = w.svscan(&[]);
    let first = a.pid();
    let b = w.service("b", SLEEP);
    w.service(".hidden", SLEEP);
    fs::create_dir_all("scan/c").unwrap();
    fs::write("scan/file", "").unwrap();
    w.ok("svscanctl", &["-a", "scan"]);
    let second = b.pid();
    // Out of the scan directory it keeps running, and is not restarted any more.
    fs::rename("scan/b", "b").unwrap();
    let b = w.at("b");
    w.ok("svscanctl", &["-az", "scan"]);
    assert_eq!(w.code("svwait", &["-d", "-t", "500", "b"]), 99);
    assert!(is_alive(second) && b.is_supervised());
    // And back again it is the same.
    fs::rename("b", "scan/b").unwrap();
    w.ok("svscanctl", &["-an", "scan"]);
    let b = w.at("scan/b");
    w.ok("svwait", &["-u", "-t", "10000", &b.path]);
    assert_eq!(b.pid(), second);
    assert_eq!(a.pid(), first);
    assert!(!fs::exists("scan/.hidden/supervise").unwrap());
    drop(svscan);
}

pub fn svscan_prune(w: &World) {
    for name in ["a", "b", "c"] {
        w.service(name, SLEEP);
        w.service(&format!("{name}/log"), "exec cat");
    }
    let keep = w.service("keep", SLEEP);
    let _svscan = w.svscan(&[]);
    let kept = keep.pid();
    for (name, commands) in [("a", "-an"), ("b", "-h"), ("c", "-aN")] {
        let pid = w.at(&format!("scan/{name}")).pid();
        fs::rename(format!("scan/{name}"), name).unwrap();
        w.ok("svscanctl", &[commands, "scan"]);
        until(&format!("{name} has no supervisor after {commands}"), || {
            !w.at(name).is_supervised() && !w.at(&format!("{name}/log")).is_supervised()
        });
        assert!(!is_alive(pid));
    }
    assert_eq!(keep.pid(), kept);
}

/// Newer versions of s6 let one bad entry keep all others from being started. 2.11 does not, nor do we.
pub fn svscan_bad_entry(w: &World) {
    use std::os::unix::fs::symlink;
    symlink("nowhere", "scan/0").unwrap();
    symlink("1", "scan/1").unwrap();
    fs::write("scan/2", "").unwrap();
    mkfifo("scan/3");
    fs::create_dir("scan/4").unwrap();
    fs::create_dir_all("scan/5/run").unwrap();
    w.at("scan/6").file("run", "no program\n").file("supervise", "");
    w.at("scan/7").script("run", SLEEP).file("event", "");
    symlink("file/in/the/way", "scan/8").unwrap();
    // A logger that cannot be supervised, and the service before it.
    w.at("scan/9").script("run", SLEEP).script("log/run", SLEEP).file("log/supervise", "");
    let a = w.service("a", SLEEP);
    let z = w.service("z", SLEEP);
    let _svscan = w.svscan(&["-t", "300"]);
    a.pid();
    z.pid();
    // Ours waits for the logger, which would hear nothing of what is said before: it is the pipe's keeper.
    if w.daemons == Kit::S6 {
        w.at("scan/9").pid();
    }
    // Rescanned without being told.
    w.service("b", SLEEP).pid();
}

/// `-d`: a newline once commands are taken, and not before; then the descriptor is closed.
pub fn svscan_readiness(w: &World) {
    // One that cannot be read, so that the first scan takes its time.
    w.service("a", SLEEP);
    mkfifo("ready");
    let mut svscan = w.start_daemon_after("exec 7<>ready 5>ready;", "svscan", &["-d", "5", "scan"]);
    use std::io::Read;
    let mut told = [0u8; 2];
    let n = fs::File::open("ready").unwrap().read(&mut told).unwrap();
    assert_eq!(&told[..n], b"\n");
    assert!(is_locked("scan/.s6-svscan/lock"));
    w.ok("svscanctl", &["-a", "scan"]);
    let open = |fd: &str| fs::read_link(format!("/proc/{}/fd/{fd}", svscan.pid())).unwrap_or_default();
    let ready = w.base.join("ready");
    until("it has closed the descriptor", || open("5") != ready);
    assert!(svscan.is_running());
    w.at("scan/a").pid();
    w.ok("svscanctl", &["-t", "scan"]);
    assert_eq!(svscan.end().code, 0);
    // One that is not open is a mistake, and said before anything is begun.
    assert_eq!(w.run_of(w.daemons, "svscan", &["-d", "60", "scan"]).code, 100);
}

/// A service is its directory, not its name: under another one it is the same.
pub fn svscan_rename(w: &World) {
    let a = w.service("a", SLEEP);
    let _svscan = w.svscan(&[]);
    let pid = a.pid();
    fs::rename("scan/a", "scan/b").unwrap();
    w.ok("svscanctl", &["-an", "scan"]);
    let b = w.service("c", SLEEP);
    w.ok("svscanctl", &["-an", "scan"]);
    b.pid();
    let b = w.at("scan/b");
    // A supervisor of its own is known by the name: with one, the service is pruned under the old name and begun
    // under the new.
    if std::env::var("PERENNIAL_SVSCAN_OPTIONS").is_ok_and(|options| options.contains("-i")) {
        return until("it runs under its new name", || {
            b.status().is_up() && b.status().pid != pid && !is_alive(pid)
        });
    }
    assert_eq!((b.pid(), b.is_supervised()), (pid, true));
    w.ok("svc", &["-wr", "-T", "10000", "-r", "scan/b"]);
    assert_ne!(b.pid(), pid);
}

/// A scanner that comes after one that was told to abandon everything finds what is supervised, and leaves it so.
pub fn svscan_again(w: &World) {
    let a = w.service("a", SLEEP);
    let first = w.svscan(&[]);
    let pid = a.pid();
    w.ok("svscanctl", &["-b", "scan"]);
    assert_eq!(first.end().code, 0);
    let second = w.svscan(&[]);
    let b = w.service("b", SLEEP);
    w.ok("svscanctl", &["-a", "scan"]);
    b.pid();
    assert_eq!((a.pid(), is_alive(pid)), (pid, true));
    // The old supervisor goes with its life, and another comes in its place.
    w.ok("svc", &["-dx", &a.path]);
    until("it runs anew", || a.is_supervised() && a.status().is_up() && a.status().pid != pid);
    w.ok("svscanctl", &["-t", "scan"]);
    assert_eq!(second.end().code, 0);
}

pub fn svscan_terminate(w: &World) {
    for (scan, letter) in [("scan", "-t"), ("scan2", "-i")] {
        if scan != "scan" {
            let _ = fs::remove_dir_all("scan");
            fs::create_dir("scan").unwrap();
        }
        let a = w
            .service("a", "echo up; trap 'echo bye; exit' TERM; touch trapped; while :; do sleep 0.05; done");
        // Gets a SIGTERM never: it ends when its input has ended.
        let log = w.service("a/log", "trap '' TERM; cat >all; echo end >>all");
        w.at("scan/.s6-svscan").script("finish", "pwd -P >../finished; exit 5");
        let svscan = w.svscan(&[]);
        log.pid();
        until("a has set its trap", || a.has("trapped"));
        w.ok("svscanctl", &[letter, "scan"]);
        assert_eq!(svscan.end().code, 5, "finish has become the scanner");
        assert_eq!(log.read("all"), "up\nbye\nend\n");
        assert_eq!(read("finished").trim(), w.base.join("scan").to_str().unwrap());
        assert!(!a.is_supervised() && !log.is_supervised() && !is_locked("scan/.s6-svscan/lock"));
    }
}

pub fn svscan_quit(w: &World) {
    let a = w.service("a", SLEEP);
    // It would wait for the end of its input for ever: another process has it open.
    let log = w.service("a/log", "exec sleep 1000");
    let svscan = w.svscan(&[]);
    let pids = [a.pid(), log.pid()];
    w.ok("svscanctl", &["-q", "scan"]);
    assert_eq!(svscan.end().code, 0);
    assert!(pids.iter().all(|pid| !is_alive(*pid)));
}

pub fn svscan_abort(w: &World) {
    let a = w.service("a", SLEEP);
    let svscan = w.svscan(&[]);
    let pid = a.pid();
    w.ok("svscanctl", &["-b", "scan"]);
    assert_eq!(svscan.end().code, 0);
    assert!(is_alive(pid), "nobody is killed");
    assert!(a.is_supervised(), "nor is it left alone");
    w.ok("svc", &["-wD", "-T", "10000", "-d", &a.path]);
}

/// Every signal that a script may take the place of, and three that none may: these are commands.
pub fn svscan_scripts(w: &World) {
    let a = w.service("a", SLEEP);
    let scripted = [
        (Signal::HUP, "SIGHUP"),
        (Signal::INT, "SIGINT"),
        (Signal::TERM, "SIGTERM"),
        (Signal::QUIT, "SIGQUIT"),
        (Signal::USR1, "SIGUSR1"),
        (Signal::USR2, "SIGUSR2"),
        (Signal::POWER, "SIGPWR"),
        (Signal::WINCH, "SIGWINCH"),
    ];
    let names = scripted.iter().map(|(_, name)| *name).chain(["SIGALRM", "SIGCHLD", "SIGABRT"]);
    for signal in names {
        let script = r#"
            { pwd -P; echo "$0 $#"; echo "$BASE"; cut -d" " -f5 /proc/$PPID/stat /proc/$$/stat | uniq | wc -l
            while read -r name value; do [ $name = SigBlk: ] && echo $value; done </proc/$$/status
            } >../told.new; mv ../told.new ../"#;
        w.at("scan/.s6-svscan").script(signal, &format!("{script}{signal}"));
    }
    let mut svscan = w.svscan(&[]);
    let pid = a.pid();
    for (signal, name) in scripted {
        kill(svscan.pid(), signal);
        until(&format!("{name} was run"), || fs::exists(name).unwrap());
        let (base, told) = (w.base.display(), read(name));
        assert_eq!(told, format!("{base}/scan\n.s6-svscan/{name} 0\n{base}\n1\n{:016}\n", 0));
    }
    let b = w.service_at("b", SLEEP);
    std::os::unix::fs::symlink("../b", "scan/b").unwrap();
    kill(svscan.pid(), Signal::ALARM);
    kill(svscan.pid(), Signal::CHILD);
    b.pid();
    w.ok("svscanctl", &["-z", "scan"]);
    assert!(svscan.is_running(), "a script takes the place of what the signal does");
    kill(svscan.pid(), Signal::ABORT);
    assert_eq!(svscan.end().code, 0);
    assert!(is_alive(pid));
    for name in ["SIGALRM", "SIGCHLD", "SIGABRT"] {
        assert!(!fs::exists(name).unwrap(), "{name} is no script's");
    }
}

/// A script for a signal is no script for the command; without one, most signals mean nothing.
pub fn svscan_signals(w: &World) {
    let a = w.service("a", SLEEP);
    w.at("scan/.s6-svscan").script("SIGTERM", ":").script("finish", "exit 5");
    let mut svscan = w.svscan(&[]);
    let pid = a.pid();
    for signal in [Signal::USR1, Signal::USR2, Signal::POWER, Signal::WINCH, Signal::PIPE, Signal::TERM] {
        kill(svscan.pid(), signal);
    }
    w.ok("svscanctl", &["-z", "scan"]);
    w.ok("svc", &["-wr", "-T", "10000", "-r", &a.path]);
    assert!(svscan.is_running());
    // A byte that is no command is one that somebody should know of.
    fs::write("scan/.s6-svscan/control", "?").unwrap();
    until("it has warned", || svscan.said().contains("warning"));
    assert!(svscan.is_running());
    assert_ne!(a.pid(), pid);
    w.ok("svscanctl", &["-t", "scan"]);
    assert_eq!(svscan.end().code, 5, "nothing that came for the scanner comes for its finish script");
}

/// What makes a scanner unable to go on: the kernel will not wait for more descriptors than a limit allows.
pub fn svscan_crash(w: &World) {
    let a = w.service("a", SLEEP);
    w.at("scan/.s6-svscan").script("crash", "echo \"$# $$ $(pwd -P)\" >../crashed; exit 3");
    let svscan = w.svscan(&[]);
    let (pid, scanner) = (a.pid(), svscan.pid());
    if w.daemons == Kit::S6 {
        // No script could be run under such a limit, and s6 does not take it back.
        return;
    }
    let limit = std::process::Command::new("prlimit")
        .args([&format!("--pid={scanner}"), "--nofile=1:"])
        .status()
        .expect("util-linux is installed");
    assert!(limit.success());
    // Whatever wakes it; it may have been awake already, and be gone.
    assert!(matches!(w.code("svscanctl", &["-z", "scan"]), 0 | 100));
    let ran = svscan.end();
    assert_eq!(ran.code, 3, "{ran:?}");
    assert_eq!(read("crashed"), format!("0 {scanner} {}\n", w.base.join("scan").display()));
    assert!(ran.err.contains("svscan: fatal: unable to wait for events"), "{ran:?}");
    // As after kill -9: services and their supervisor go on.
    assert!(is_alive(pid) && a.is_supervised());
    w.ok("svc", &["-wD", "-T", "10000", "-d", &a.path]);
}

/// The service s6-svscan-log reads what all others say, and ends when all of them have.
pub fn svscan_catch_all(w: &World) {
    mkfifo("said");
    let a =
        w.service("a", "trap 'echo bye; exit' TERM; echo out; echo err >&2; while :; do sleep 0.05; done");
    let log = w.service("s6-svscan-log", "trap '' TERM; exec <../../said; echo here >&2; exec cat >all");
    let b = w.service("b", "exec echo with a logger");
    w.service("b/log", "exec cat >all");
    b.file("down", "");
    let svscan = w.svscan_after("exec 9<>said 4>console >said 2>&1; exec 9<&-;", &["-X", "4"]);
    until_eq("here\n".to_owned(), || read("console"));
    until_eq("out\nerr\n".to_owned(), || log.read("all"));
    a.pid();
    w.ok("svscanctl", &["-t", "scan"]);
    assert_eq!(svscan.end().code, 0);
    let all = log.read("all");
    assert!(all.starts_with("out\nerr\n") && all.lines().any(|line| line == "bye"), "{all}");
    assert!(!log.is_supervised());
}

/// What options say may be any number; what is too much or too little is as much as can be.
pub fn svscan_options(w: &World) {
    let [short, long] = [10, 12].map(|length| w.service(&"x".repeat(length), SLEEP));
    // -L came with s6 2.12.
    let name = if w.daemons == Kit::S6 { &[][..] } else { &["-L", "5000"] };
    let svscan = w.svscan(&[name, &["-t", "0", "-c", "1000"]].concat());
    short.pid();
    long.pid();
    drop(svscan);
    for bad in [&["-d", "2"][..], &["-X", "2"], &["-t", "x"], &["-L", ""], &["-c", "-1"], &["-y"]] {
        let ran = w.run_of(w.daemons, "svscan", &[bad, &["scan"]].concat());
        assert_eq!(ran.code, 100, "{bad:?}: {ran:?}");
    }
    assert_eq!(w.run_of(w.daemons, "svscan", &["nowhere"]).code, 111);
}

pub fn svscanctl_codes(w: &World) {
    let never = w.run("svscanctl", &["-a", "scan"]);
    assert_eq!(never.code, 100, "never scanned");
    assert!(never.err.contains("unable to control scan: supervisor not listening"), "{never:?}");
    assert_eq!(w.code("svscanctl", &["-a", "nowhere"]), 111);
    assert_eq!(w.code("svscanctl", &[]), 100);
    assert_eq!(w.code("svscanctl", &["-x", "scan"]), 100);
    let svscan = w.svscan(&[]);
    assert_eq!(w.code("svscanctl", &["-az", "scan"]), 0);
    w.ok("svscanctl", &["-t", "scan"]);
    assert_eq!(svscan.end().code, 0);
    assert_eq!(w.code("svscanctl", &["-a", "scan"]), 100, "not any more");
}

pub fn nested_logger(w: &World) {
    let a = w.service("a", "i=0; while :; do i=$((i+1)); echo $i; echo $i >last; sleep 0.02; done");
    let log = w.service("a/log", "exec cat >>all");
    let _svscan = w.svscan(&[]);
    let (first, logger) = (a.pid(), log.pid());
    let numbers = || log.read("all").lines().map(|l| l.parse::<u32>().unwrap_or(0)).collect::<Vec<_>>();
    until("ten lines are logged", || numbers().len() >= 10);
    // The logger goes on when its service restarts,
    w.ok("svc", &["-wr", "-T", "10000", "-r", &a.path]);
    assert_ne!(a.pid(), first);
    assert_eq!(log.pid(), logger);
    until("the new one logs", || numbers().iter().filter(|n| **n == 5).count() == 2);
    // and nothing is lost when the logger does.
    w.ok("svc", &["-p", &a.path]);
    until_eq(Some("T".to_owned()), || stat(a.pid(), 3));
    let said = a.read("last").trim().parse().unwrap_or(0);
    until("all is logged", || numbers().last().is_some_and(|logged| *logged >= said));
    w.ok("svc", &["-wd", "-T", "10000", "-k", &log.path]);
    w.ok("svc", &["-c", &a.path]);
    w.ok("svwait", &["-u", "-t", "10000", &log.path]);
    let so_far = numbers().len();
    until("more is logged", || numbers().len() > so_far + 5);
    let all = numbers();
    let second_life = &all[all.iter().rposition(|n| *n == 1).unwrap()..];
    assert!(second_life.windows(2).all(|pair| pair[1] == pair[0] + 1), "{second_life:?}");
}

pub fn logger_gets_everything(w: &World) {
    let a = w.service("a", "read x <gate; seq 1 10000; exec sleep 1000");
    let log = w.service("a/log", "exec cat >>all");
    mkfifo("scan/a/gate");
    let _svscan = w.svscan(&[]);
    log.pid();
    // While there is no logger its input waits in the pipe.
    w.ok("svc", &["-wD", "-T", "10000", "-d", &log.path]);
    a.pid();
    a.file("gate", "\n");
    w.ok("svc", &["-u", &log.path]);
    let expected: String = (1..=10000).map(|n| format!("{n}\n")).collect();
    until("all is logged", || log.read("all").len() == expected.len());
    assert_eq!(log.read("all"), expected);
}
