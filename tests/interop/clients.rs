//! What clients say, wait for, and exit with.

use crate::support::interop::{Kit, World};
use crate::support::{SLEEP, kill, mkfifo, read, stat, until, until_eq};
use rustix::process::Signal;
use std::fs;

pub fn svc_codes(w: &World) {
    let a = w.service_at("a", SLEEP);
    assert_eq!(w.code("svc", &["-u", "a"]), 100, "never supervised");
    assert_eq!(w.code("svc", &["-u", "nowhere"]), 111);
    assert_eq!(w.code("svc", &[]), 100);
    assert_eq!(w.code("svc", &["-wx", "a"]), 100);
    assert_eq!(w.code("svc", &["-Z", "a"]), 100);
    let many = format!("-{}", "u".repeat(63));
    assert_eq!(w.code("svc", &[&many, "a"]), 100);
    let supervisor = w.supervise(&a);
    a.pid();
    w.ok("svc", &["-wD", "-T", "10000", "-dx", "a"]);
    assert_eq!(supervisor.end().code, 0);
    // A supervisor that is not there any more has a code of its own since s6 2.14.
    let gone = if w.clients == Kit::S6 { 100 } else { 102 };
    assert_eq!(w.code("svc", &["-u", "a"]), gone);
}

pub fn svc_waits(w: &World) {
    let a = w.service("a", "read x <gate; exec sleep 1000");
    a.file("down", "");
    mkfifo("scan/a/gate");
    let _svscan = w.svscan(&[]);
    assert_eq!(w.code("svc", &["-wu", "-T", "300", &a.path]), 99);
    w.ok("svc", &["-wd", "-T", "10000", &a.path]);
    w.ok("svc", &["-wD", "-T", "10000", "-d", &a.path]);
    w.ok("svc", &["-wr", "-T", "10000", "-u", &a.path]);
    let first = a.pid();
    w.ok("svc", &["-wr", "-T", "10000", "-r", &a.path]);
    assert_ne!(a.pid(), first);
    assert_eq!(w.code("svc", &["-wD", "-T", "300", &a.path]), 99);
}

/// A service between two lives is down, and soon up again. A supervisor that has not taken a command in has stopped
/// nothing: s6's svc says that it is done, ours waits until that is so.
pub fn svc_waits_for_an_answer(w: &World) {
    let a = w.service_at("a", "exit 1");
    // s6 takes a second for it. Ours tries what it cannot execute after one, two, four seconds.
    let supervisor = w.supervise(&a);
    until("it died", || !a.deaths().is_empty());
    until("it waits", || a.status().is_down() && a.status().wanted());
    kill(supervisor.pid(), Signal::STOP);
    until_eq(Some("T".to_owned()), || stat(supervisor.pid(), 3));
    // It may have been started meanwhile, and there is nobody who could have seen it die.
    let down = a.status().is_down();
    let code = w.code("svc", &["-wD", "-T", "500", "-d", "a"]);
    assert_eq!(code, if down && w.clients == Kit::S6 { 0 } else { 99 });
    let waiting = w.start("svc", &["-wD", "-T", "20000", "-d", "a"]);
    kill(supervisor.pid(), Signal::CONT);
    assert_eq!(waiting.end().code, 0);
    if w.clients == Kit::Ours {
        assert!(a.status().is_down() && !a.status().wanted(), "{:?}", a.status());
    }
    until("it is not wanted", || a.status().is_down() && !a.status().wanted());
    w.ok("svc", &["-x", "a"]);
    assert_eq!(supervisor.end().code, 0);
}

/// Where the two kits' clients may differ: since a later version of s6, or on purpose.
#[rustfmt::skip]
const OTHER_CODES: &[(&str, i32, i32, &str)] = &[
    // program and arguments, s6 2.11, ours, why
    ("svok -Z", 1, 100, "no option is the name of a directory"),
    ("svok a extra", 0, 100, "an argument too many is a mistake"),
    ("svok b extra", 1, 100, "an argument too many is a mistake"),
    ("svc dead", 100, 102, "since s6 2.14"),
    ("svc -c dead", 100, 102, "since s6 2.14"),
    ("svc -wu -T 2000 -c dead", 99, 102, "since s6 2.14, and at once"),
    ("svc -wu -T 2000 -c b", 111, 100, "the same with -w and without"),
    ("svc -wu -T 2000 -c odd", 111, 100, "the same with -w and without"),
    ("svc -wu -T 2000 -c .", 111, 100, "the same with -w and without"),
    ("svc -c a b", 0, 100, "several services, since s6 2.14"),
    ("svc -wuU a", 0, 100, "a goal is one letter"),
    ("svstat -S nowhere", 100, 111, "there is no scan directory"),
    ("svstat -o up, a", 0, 100, "names of fields, complete since s6 2.13"),
    ("svstat -o up,up,up,up,up,up,up,up,up,up,up,up,up,up,up,up,up a", 100, 0, "as many as you like"),
    ("svstat a b", 0, 1, "several services"),
    ("svwait", 100, 0, "since s6 2.12"),
    ("svlisten -u @ true", 100, 0, "since s6 2.12"),
    ("svdt-clear -Z", 111, 100, "no option is the name of a directory"),
    ("cleanfifodir -Z", 111, 100, "no option is the name of a directory"),
    ("ftrig-notify -Z a", 111, 100, "no option is the name of a directory"),
    ("ftrig-notify a/event x y", 0, 100, "an argument too many is a mistake"),
    ("ftrig-wait -t 2000 a/event x", 1, 99, "since s6 2.15"),
    ("ftrig-wait -t 2000 b x", 1, 99, "since s6 2.15"),
    ("permafailon 60 2 1", 0, 100, "there is no program to go on with"),
    ("permafailon 60 1 ,1 true", 100, 0, "separators may stand at the beginning"),
    ("svunlink scan a/b", 0, 100, "a name is no path"),
    ("svunlink nowhere b", 0, 111, "there is no scan directory"),
    ("mkfifodir -g 4294967295 new", 0, 100, "that is no group"),
];

/// What clients are asked, a line each; `@` is an empty argument, `DIR` each of several directories, `NUMBER` each
/// of several things that may or may not be numbers.
const ASKED: &str = "\
svok|svok -Z|svok DIR|svok a extra|svok b extra|svc|svc -Z a|svc DIR|svc -c DIR|svc -wu -T 2000 -c DIR|svc -c a b
svc -wx a|svc -w|svc -T|svc -wuU a|svc -cc a|svc -T NUMBER -wu -c a|svc -s SIGFOO a|svc -wD -T 2000 a|svc -wd -T 2000 a
svc -wR -T 2000 a|svc -cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc a|svc -- a|svc -wU -T 2000 -c a
svc -ccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc a
svstat -S nowhere|svstat -Z a|svstat DIR|svstat -u DIR|svstat -o pid,up a|svstat -o nope a|svstat -o up, a|svstat -n a|svstat a b
svstat -o up,up,up,up,up,up,up,up,up,up,up,up,up,up,up,up,up a|svstat -uwNrpest a|svstat -ux a
svwait|svwait -Z a|svwait -t 2000 DIR|svwait -U -t 2000 a|svwait -d -t 2000 DIR|svwait -R -t 2000 a|svwait -t NUMBER a
svwait -o -t 2000 a DIR|svwait -a -t 2000 a DIR|svwait -D -t 2000 -- a
svlisten1|svlisten1 -Z a true|svlisten1 -t 2000 DIR true|svlisten1 -D -t 2000 DIR true|svlisten1 -t NUMBER a true
svlisten1 a|svlisten1 a /nowhere|svlisten1 -r -t 2000 a false
svlisten|svlisten -Z a @ true|svlisten -t 2000 DIR @ true|svlisten -d -o -t 2000 a b @ true|svlisten -t NUMBER a @ true
svlisten a true|svlisten a @|svlisten a @ /nowhere|svlisten -u @ true
svscanctl|svscanctl -Z scan|svscanctl DIR|svscanctl -z DIR|svscanctl -z scan|svscanctl scan
svdt|svdt -Z a|svdt DIR|svdt -n NUMBER a|svdt -s -S a|svdt-clear|svdt-clear -Z|svdt-clear DIR
permafailon|permafailon 60|permafailon 60 2|permafailon 60 2 1|permafailon NUMBER 2 1 true|permafailon 60 NUMBER 1 true
permafailon 60 1 SIGFOO true|permafailon 60 1 5-1 true|permafailon 60 1 256 true|permafailon 60 1 @ true
permafailon 60 1 1- true|permafailon 60 1 1,2;SIGTERM,5-9 true|permafailon 60 1 ,1 true|permafailon 60 5000 1 true
svperms|svperms -Z a|svperms DIR|svperms -v DIR|svperms -u DIR|svperms -g none-such a|svperms -g :x a|svperms -g @ a
svlink|svlink -Z scan b|svlink scan|svlink DIR b|svlink scan b .b|svlink scan file|svlink scan empty|svlink -t NUMBER scan empty
svlink scan odd|svunlink|svunlink -Z scan b|svunlink scan|svunlink scan nowhere|svunlink scan .a|svunlink -t NUMBER scan nowhere
svunlink scan a/b|svunlink nowhere b|svunlink empty nowhere
mkfifodir|mkfifodir -Z new|mkfifodir file|mkfifodir fifo|mkfifodir nowhere/x|mkfifodir -g x new|mkfifodir -g NUMBER new
mkfifodir -g 4294967295 new|cleanfifodir|cleanfifodir -Z|cleanfifodir DIR|ftrig-notify|ftrig-notify -Z a|ftrig-notify DIR x
ftrig-notify a/event x y|ftrig-notify a/event|ftrig-notify a/event x|ftrig-wait|ftrig-wait -Z a x|ftrig-wait a
ftrig-wait -t 2000 a/event x|ftrig-wait -t 2000 a/event (|ftrig-wait -t 2000 b x|ftrig-wait nowhere x|ftrig-wait file x|ftrig-wait -t NUMBER nowhere x
notifyoncheck|notifyoncheck -Z true|notifyoncheck -n NUMBER true|notifyoncheck -t NUMBER true|notifyoncheck -d true
notifyoncheck -w NUMBER true|notifyoncheck -s NUMBER true|notifyoncheck -T NUMBER true
instance-create|instance-create -Z a i|instance-create a|instance-create DIR i|instance-create -t NUMBER empty i
instance-create a @|instance-create a .i|instance-delete|instance-delete -Z a i|instance-delete a|instance-delete DIR i
instance-delete a .i|instance-control|instance-control -c DIR i|instance-control -c a .i|instance-control -c a
instance-status|instance-status DIR i|instance-status a .i|instance-list|instance-list -Z|instance-list DIR";

/// Both kits' clients, asked the same, answer with the same code.
pub fn same_codes(w: &World) {
    if (w.clients, w.daemons) != (Kit::Ours, Kit::Ours) || !Kit::S6.is_installed() {
        return;
    }
    let a = w.service("a", SLEEP);
    std::os::unix::fs::symlink("scan/a", "a").unwrap();
    w.service_at("b", SLEEP);
    let dead = w.service_at("dead", SLEEP);
    dead.file("down", "");
    let supervisor = w.supervise(&dead);
    w.ok("svc", &["-x", "dead"]);
    assert_eq!(supervisor.end().code, 0);
    w.at("odd").file("supervise", "");
    fs::create_dir("empty").unwrap();
    fs::write("file", "").unwrap();
    mkfifo("fifo");
    let _svscan = w.svscan(&[]);
    a.pid();
    const DIRS: [&str; 10] = ["a", "a/", "scan/../a", "b", "dead", "odd", "nowhere", "file", "fifo", "."];
    const NUMBERS: [&str; 10] =
        ["x", "@", "-1", "5x", "0x5", "-0", "5.0", "1e3", "4294967296", "99999999999999999999"];
    let mut lines = Vec::new();
    for line in ASKED.split(['|', '\n']) {
        let many = [("NUMBER", NUMBERS), ("DIR", DIRS)].into_iter().find(|(word, _)| line.contains(word));
        match many {
            Some((word, values)) => lines.extend(values.map(|value| line.replace(word, value))),
            None => lines.push(line.to_owned()),
        }
    }
    let mut other = Vec::new();
    // Many wait for their time to be up: so many are asked at once.
    for lines in lines.chunks(64) {
        let asked: Vec<_> =
            lines.iter().map(|line| [Kit::S6, Kit::Ours].map(|kit| ask(w, kit, line))).collect();
        for (line, answers) in lines.iter().zip(asked) {
            let [s6, ours] = answers.map(|running| running.end().code);
            let expected = OTHER_CODES.iter().find(|(known, ..)| known == line);
            if expected.map_or(s6 != ours, |(_, theirs, own, _)| (s6, ours) != (*theirs, *own)) {
                other.push(format!("{line}: s6 {s6}, ours {ours}, expected {expected:?}"));
            }
        }
    }
    assert!(other.is_empty(), "{other:#?}");
}

/// Starts what a line says.
fn ask(w: &World, kit: Kit, line: &str) -> crate::support::Running {
    let (program, rest) = line.split_once(' ').unwrap_or((line, ""));
    let args = rest.split(' ').filter(|word| !word.is_empty());
    let args: Vec<&str> = args.map(|word| if word == "@" { "" } else { word }).collect();
    w.start_with(kit, program, &args)
}

pub fn svstat(w: &World) {
    let a = w.service("a", SLEEP);
    a.file("down", "");
    let _svscan = w.svscan(&[]);
    w.ok("svc", &["-wu", "-T", "10000", "-o", &a.path]);
    let pid = a.pid().to_string();
    let fields = "up,wantedup,normallyup,ready,paused,pid,exitcode,signal,signum";
    let up = format!("true false false false false {pid} -1 NA -1\n");
    assert_eq!(w.ok("svstat", &["-o", fields, &a.path]), up);
    assert_eq!(w.ok("svstat", &["-upe", &a.path]), format!("true {pid} -1\n"));
    assert!(w.ok("svstat", &[&a.path]).contains(" seconds, normally down, want down"));
    w.ok("svc", &["-wD", "-T", "10000", "-k", &a.path]);
    assert_eq!(w.ok("svstat", &["-o", fields, &a.path]), "false false false false false -1 -1 SIGKILL 9\n");
    assert_eq!(w.ok("svstat", &["-es", &a.path]), "-1 SIGKILL\n");
    assert!(w.ok("svstat", &["-n", &a.path]).starts_with("down (signal 9) "));
    assert!(w.ok("svstat", &["-t", &a.path]).trim().parse::<u32>().unwrap() < 60);
    let since = w.ok("svstat", &["-o", "updownsince,readysince", &a.path]);
    assert!(since.trim().split(' ').all(|s| s.len() == 25 && s.starts_with("@40000000")), "{since}");
    let age = w.ok("svstat", &["-o", "updownfor,readyfor", &a.path]);
    assert!(age.trim().split(' ').all(|s| s.parse::<u32>().unwrap() < 60), "{age}");
    assert_eq!(w.code("svstat", &["nowhere"]), 1);
    assert_eq!(w.code("svstat", &["scan"]), 1);
    assert_eq!(w.code("svstat", &["-o", "colour", &a.path]), 100);
}

pub fn svwait(w: &World) {
    let a = w.service("a", "echo >&3; exec sleep 1000");
    a.file("down", "").file("notification-fd", "3");
    let b = w.service("b", SLEEP);
    b.file("down", "");
    let _svscan = w.svscan(&[]);
    let both = [a.path.as_str(), b.path.as_str()];
    // Under load s6's helper is not ready in less.
    let limit = if w.clients == Kit::S6 { "2000" } else { "300" };
    let wait = |options: &[&str]| w.code("svwait", &[&["-t", limit], options, &both].concat());
    assert_eq!((wait(&["-d"]), wait(&["-D"]), wait(&["-u"]), wait(&["-u", "-o"])), (0, 0, 99, 99));
    let waiting = w.start("svwait", &["-U", "-t", "10000", &a.path]);
    until_eq(1, || a.listeners());
    w.ok("svc", &["-u", &a.path]);
    assert_eq!(waiting.end().code, 0);
    assert_eq!((wait(&["-u"]), wait(&["-a"]), wait(&["-o"]), wait(&["-oU"])), (99, 99, 0, 0));
    assert_eq!((wait(&["-d"]), wait(&["-do"])), (99, 0));
    let waiting = w.start("svwait", &["-t", "10000", &a.path, &b.path]);
    until_eq(1, || b.listeners());
    w.ok("svc", &["-u", &b.path]);
    assert_eq!(waiting.end().code, 0);
    assert_eq!((wait(&[]), wait(&["-U"]), wait(&["-D"])), (0, 99, 99));
    until_eq(0, || a.listeners() + b.listeners());
    assert_eq!(w.code("svwait", &["nowhere"]), 111);
    assert_eq!(w.code("svwait", &["-x", &a.path]), 100);
    // Nothing to wait for is an error up to s6 2.11, and done since.
    assert_eq!(w.code("svwait", &[]), if w.clients == Kit::S6 { 100 } else { 0 });
}

pub fn svwait_restart(w: &World) {
    let a = w.service("a", "echo >&3; exec sleep 1000");
    a.file("notification-fd", "3");
    let _svscan = w.svscan(&[]);
    for goal in ["-r", "-R"] {
        let pid = a.pid();
        let waiting = w.start("svwait", &[goal, "-t", "10000", &a.path]);
        until_eq(1, || a.listeners());
        w.ok("svc", &["-r", &a.path]);
        assert_eq!(waiting.end().code, 0, "{goal}");
        assert_ne!(a.pid(), pid);
        until_eq(0, || a.listeners());
    }
    assert_eq!(w.code("svwait", &["-r", "-t", "300", &a.path]), 99);
}

pub fn svwait_failures(w: &World) {
    let services = ["a", "b"].map(|name| {
        let service = w.service_at(name, SLEEP);
        service.file("down", "");
        let supervisor = w.supervise(&service);
        (service, supervisor)
    });
    let waiting = w.start("svwait", &["-u", "-t", "10000", "a", "b"]);
    until_eq(1, || services[1].0.listeners());
    for (service, supervisor) in services {
        w.ok("svc", &["-x", &service.path]);
        assert_eq!(supervisor.end().code, 0);
    }
    assert_eq!(waiting.end().code, 2, "as many as have lost their supervisor");
}

pub fn svlisten1(w: &World) {
    let a = w.service("a", "echo >&3; exec sleep 1000");
    a.file("down", "").file("notification-fd", "3");
    let _svscan = w.svscan(&[]);
    let svc = w.client("svc");
    let listen = |goal: &str, program: &[&str]| {
        w.code("svlisten1", &[&[goal, "-t", "5000", &a.path], program].concat())
    };
    assert_eq!(listen("-u", &[&svc, "-u", &a.path]), 0);
    assert_eq!(listen("-d", &[&svc, "-d", &a.path]), 0);
    assert_eq!(listen("-U", &[&svc, "-u", &a.path]), 0);
    assert_eq!(listen("-D", &[&svc, "-d", &a.path]), 0);
    assert_eq!(w.code("svlisten1", &["-t", "300", &a.path, "false"]), 99, "its exit code is ignored");
    assert_eq!(listen("-u", &["/nowhere/to/be/found"]), 111);
    assert_eq!(w.code("svlisten1", &["nowhere", "true"]), 111);
    assert_eq!(w.code("svlisten1", &["-u", &a.path]), 100);
    assert_eq!(w.code("svlisten1", &["-Z", &a.path, "true"]), 100);
    // The program runs although the goal is reached already, in our directory, with our descriptors.
    assert_eq!(listen("-D", &["sh", "-c", "pwd >told"]), 0);
    until_eq(format!("{}\n", w.base.display()), || read("told"));
    until_eq(0, || a.listeners());
}

pub fn svlisten1_restart(w: &World) {
    let a = w.service("a", "echo >&3; exec sleep 1000");
    a.file("notification-fd", "3");
    let _svscan = w.svscan(&[]);
    let svc = w.client("svc");
    for goal in ["-r", "-R"] {
        let pid = a.pid();
        w.ok("svlisten1", &[goal, "-t", "10000", &a.path, &svc, "-r", &a.path]);
        assert_ne!(a.pid(), pid, "{goal}");
    }
    w.ok("svc", &["-wD", "-T", "10000", "-d", &a.path]);
    // From down it is only the way up.
    w.ok("svlisten1", &["-r", "-t", "10000", &a.path, &svc, "-u", &a.path]);
}

pub fn svlisten(w: &World) {
    let a = w.service("a", SLEEP);
    let b = w.service("b", SLEEP);
    for service in [&a, &b] {
        service.file("down", "");
    }
    let _svscan = w.svscan(&[]);
    let svc = w.client("svc");
    let tell = |letter: &str| format!("{svc} {letter} {}; {svc} {letter} {}", a.path, b.path);
    let (quoted_a, quoted_b) = (format!(" {}", a.path), format!(" {}", b.path));
    w.ok("svlisten", &["-u", "-t", "10000", &quoted_a, &quoted_b, "", "sh", "-c", &tell("-u")]);
    w.ok("svlisten", &["-D", "-t", "10000", &a.path, &b.path, "", "sh", "-c", &tell("-d")]);
    w.ok("svlisten", &["-o", "-u", "-t", "10000", &a.path, &b.path, "", &svc, "-u", &b.path]);
    assert!(a.status().is_down());
    // In s6 all must be down at the same time once, which ours, that restart at once, need not be.
    w.ok("svc", &["-wu", "-T", "10000", "-u", &a.path]);
    let (both, one) = ([&*a.path, &*b.path, ""], [&*a.path, ""]);
    let (block, script) = match w.clients {
        Kit::S6 => (&one[..], format!("{svc} -r {}", a.path)),
        Kit::Ours => (&both[..], tell("-r")),
    };
    w.ok("svlisten", &[&["-r", "-t", "10000"], block, &["sh", "-c", &script]].concat());
    assert_eq!(w.code("svlisten", &["-d", "-t", "300", &a.path, "", "true"]), 99);
    assert_eq!(w.code("svlisten", &[&a.path, &b.path, "true"]), 100, "the block does not end");
    assert_eq!(w.code("svlisten", &[&a.path, ""]), 100);
}
