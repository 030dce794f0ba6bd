//! Commands, clients, and stopping.

use crate::support::{
    SLEEP, Service, World, chmod, is_alive, kill, mkfifo, parent, read, stat, until, until_eq,
};
use rustix::process::Signal;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

/// A number that is another one each time, and the same ones each run.
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// A restart is obeyed, and soon: somebody is at work there.
pub fn answers(w: &World, service: &Service) {
    let pid = service.pid();
    w.ok("svc", &["-wr", "-T", "30000", "-k", &service.path]);
    assert_ne!(service.pid(), pid);
}

/// Rubbish of any length to what svscan and supervise read: nobody dies, and the next command is obeyed.
pub fn a003_rubbish_to_a_scanner(w: &World) {
    let a = w.service("a", SLEEP);
    let mut svscan = w.svscan(&[]);
    a.pid();
    let mut dice = Dice(3);
    let mut control = OpenOptions::new().write(true).open("scan/.s6-svscan/control").unwrap();
    // All but what ends or upgrades it.
    let bytes: Vec<u8> = (0..=255u8).filter(|byte| !byte.is_ascii_alphabetic()).collect();
    for _ in 0..2000 {
        let len = dice.next() % 100;
        let rubbish: Vec<u8> = (0..len).map(|_| bytes[dice.next() as usize % bytes.len()]).collect();
        control.write_all(&rubbish).unwrap();
    }
    let w_ = std::os::unix::net::UnixDatagram::unbound().unwrap();
    let _ = w_.send_to(&[0xff; 1000], "scan/.s6-svscan/socket");
    for text in [&b""[..], &[0; 65536], b"\xff\xfe\xfd"] {
        let address = rustix::net::SocketAddrUnix::new("scan/.s6-svscan/socket").unwrap();
        let kind = rustix::net::SocketType::SEQPACKET;
        let socket = rustix::net::socket(rustix::net::AddressFamily::UNIX, kind, None).unwrap();
        if rustix::net::connect(&socket, &address).is_ok() {
            for _ in 0..100 {
                let _ = rustix::net::send(
                    &socket,
                    text,
                    rustix::net::SendFlags::DONTWAIT | rustix::net::SendFlags::NOSIGNAL,
                );
            }
        }
    }
    answers(w, &a);
    assert!(svscan.is_running());
    assert!(svscan.said().len() < 20_000, "said once, not two thousand times: {} bytes", svscan.said().len());
    w.service("b", SLEEP).pid();
    w.ok("svscanctl", &["-t", "scan"]);
    assert_eq!(svscan.end().code, 0);
}

/// One service that is ready all the time, one that is told the same a thousand times: the third is answered.
pub fn a006_floods(w: &World) {
    let a = w.service("a", "while :; do echo; done >&3");
    a.file("notification-fd", "3\n");
    let b = w.service(
        "b",
        "trap : HUP; while echo ccccccccccccccccccccccccccccccccccccccccccc; do sleep 0.001; done >supervise/control",
    );
    let c = w.service("c", SLEEP);
    let _svscan = w.svscan(&[]);
    a.pid();
    b.pid();
    for _ in 0..5 {
        answers(w, &c);
        assert!(w.ok("svstat", &["-u", &c.path]) == "true\n");
    }
    for service in [&a, &b] {
        w.ok("svc", &["-wD", "-T", "30000", "-dk", &service.path]);
    }
}

/// A client that waits ends when it is told to, and what it left is removed at the next event at the latest.
pub fn a016_clients_that_are_ended(w: &World) {
    let a = w.service("a", SLEEP);
    a.file("notification-fd", "3\n");
    let _svscan = w.svscan(&[]);
    a.pid();
    for signal in [Signal::INT, Signal::TERM, Signal::KILL] {
        let waiting = w.start("svc", &["-wU", &a.path]);
        until_eq(1, || a.listeners());
        kill(waiting.pid(), signal);
        assert_eq!(waiting.end().code, -signal.as_raw());
        w.ok("svc", &["-wr", "-T", "30000", "-r", &a.path]);
        until_eq(0, || a.listeners());
    }
}

/// Commands in any order do what they do one by one. (The whole of it is in the machine's properties.)
pub fn a026_any_commands(w: &World) {
    let a = w.service("a", SLEEP);
    let _svscan = w.svscan(&[]);
    a.pid();
    let letters = b"abqhkti12pcyrlPCKoduDUOQ";
    let mut dice = Dice(26);
    let mut control = OpenOptions::new().write(true).open("scan/a/supervise/control").unwrap();
    let mut sent = Vec::new();
    for _ in 0..300 {
        let len = dice.next() % 8 + 1;
        let some: Vec<u8> = (0..len).map(|_| letters[dice.next() as usize % letters.len()]).collect();
        control.write_all(&some).unwrap();
        sent.extend(some);
    }
    let last = |of: &[u8]| sent.iter().copied().rfind(|letter| of.contains(letter)).unwrap();
    let wanted = b"uU".contains(&last(b"uUdDoOQ"));
    let down = last(b"UDQ") != b'U';
    w.ok("svc", &["-c", &a.path]);
    until_eq(wanted, || a.status().wanted());
    until_eq(down, || a.has("down"));
    w.ok("svc", &["-wu", "-T", "30000", "-U", &a.path]);
    until_eq((true, false), || (a.status().wanted(), a.has("down")));
    answers(w, &a);
}

/// What a service is told its logger is not.
pub fn a029_a_logger_is_no_target(w: &World) {
    let a = w.service("a", "trap '' ALRM ABRT QUIT HUP TERM INT USR1 USR2; while :; do sleep 0.05; done");
    let log = w.service("a/log", "exec cat >/dev/null");
    let _svscan = w.svscan(&[]);
    a.pid();
    let before = (log.pid(), log.status());
    for letter in "abqhti12yrlpcPCk".chars() {
        w.ok("svc", &[&format!("-{letter}"), &a.path]);
    }
    w.ok("svc", &["-wD", "-T", "30000", "-Dk", &a.path]);
    assert_eq!((log.pid(), log.status()), before);
    assert!(is_alive(before.0) && !log.has("down"));
    w.ok("svc", &["-wu", "-T", "30000", "-U", &a.path]);
}

/// A supervisor that reads nothing: a client says so and does not wait for it, and what was accepted is obeyed.
pub fn a030_a_full_control_fifo(w: &World) {
    let a = w.service("a", SLEEP);
    let _svscan = w.svscan(&[]);
    let pid = a.pid();
    let supervisor = parent(pid);
    kill(supervisor, Signal::STOP);
    until_eq(Some("T".to_owned()), || stat(supervisor, 3));
    let mut control = OpenOptions::new()
        .write(true)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32)
        .open("scan/a/supervise/control")
        .unwrap();
    control.write_all(b"d").unwrap();
    while control.write(&[b'y'; 4096]).is_ok() {}
    while control.write(b"y").is_ok() {}
    for args in [&["-u", "scan/a"][..], &["-wu", "-T", "500", "-u", "scan/a"]] {
        let asked = Instant::now();
        let ran = w.run("svc", args);
        assert_eq!(ran.code, 111, "{ran:?}");
        assert!(asked.elapsed() < Duration::from_secs(20));
    }
    kill(supervisor, Signal::CONT);
    until("what was accepted is obeyed", || !is_alive(pid) && a.status().is_down());
    w.ok("svc", &["-wu", "-T", "30000", "-u", &a.path]);
}

/// Clients that are killed at any moment leave nothing that others would notice.
pub fn a031_clients_that_are_killed(w: &World) {
    let a = w.service("a", "trap '' TERM; touch trapped; while :; do sleep 0.1; done");
    let _svscan = w.svscan(&[]);
    until("a ignores SIGTERM", || a.has("trapped"));
    let supervisor = parent(a.pid());
    let open = || fs::read_dir(format!("/proc/{supervisor}/fd")).unwrap().count();
    let before = open();
    let mut dice = Dice(31);
    for _ in 0..60 {
        let mut waiting = w.start("svc", &["-wD", "-T", "30000", "-d", &a.path]);
        std::thread::sleep(Duration::from_micros(dice.next() % 5000));
        kill(waiting.pid(), Signal::KILL);
        let _ = waiting.is_running();
    }
    w.ok("svc", &["-wD", "-T", "30000", "-dk", &a.path]);
    assert_eq!(w.ok("svstat", &["-u", &a.path]), "false\n");
    w.ok("svc", &["-wu", "-T", "30000", "-u", &a.path]);
    until_eq(0, || a.listeners());
    until_eq(before, open);
    let left = fs::read_dir("scan/a/event").unwrap().count();
    assert!(left < 60, "{left} hidden FIFOs of clients that were killed");
}

/// Who asks for an end and gets it is told so, although whoever does it is gone then.
pub fn a032_told_and_gone(w: &World) {
    for _ in 0..30 {
        let a = w.service_at("a", SLEEP);
        let supervisor = w.supervise(&a);
        a.pid();
        w.ok("svc", &["-wD", "-T", "30000", "-dx", "a"]);
        assert_eq!(supervisor.end().code, 0);
        assert!(!a.is_supervised());
    }
    let a = w.service("b", SLEEP);
    for _ in 0..10 {
        let svscan = w.svscan(&[]);
        a.pid();
        let mut stopping = w.start("svc", &["-wD", "-T", "30000", "-d", &a.path]);
        until("it listens, or is done", || a.listeners() == 1 || !stopping.is_running());
        w.ok("svscanctl", &["-t", "scan"]);
        assert_eq!(svscan.end().code, 0);
        assert_eq!(stopping.end().code, 0);
    }
}

/// Thirty restarts at any moment: each is one that was asked for, and none is the last.
pub fn a050_restarts_at_any_moment(w: &World) {
    let a = w.service("a", "echo >>lives; trap 'exit 0' TERM; while :; do sleep 0.01; done");
    a.script("finish", "sleep 0.03");
    let _svscan = w.svscan(&[]);
    let mut dice = Dice(50);
    a.pid();
    for _ in 0..30 {
        w.ok("svc", &["-r", &a.path]);
        std::thread::sleep(Duration::from_micros(dice.next() % 60_000));
    }
    until("it is up", || a.status().is_up());
    answers(w, &a);
    assert!(a.read("lives").lines().count() <= 33);
}

/// The time is up for one that does not listen, and again, and again.
pub fn a051_killed_again_and_again(w: &World) {
    let a = w.service("a", "trap '' TERM; : >trapped; while :; do sleep 0.05; done");
    a.file("timeout-kill", "50\n").file("down", "");
    let _svscan = w.svscan(&[]);
    for _ in 0..20 {
        w.ok("svc", &["-wu", "-T", "30000", "-u", &a.path]);
        until("it ignores SIGTERM", || a.has("trapped"));
        w.ok("svc", &["-wD", "-T", "30000", "-d", &a.path]);
        assert_eq!(w.ok("svstat", &["-s", &a.path]), "SIGKILL\n");
        fs::remove_file("scan/a/trapped").unwrap();
    }
    assert_eq!(a.deaths().len(), 20);
}

/// Signals to what is dead already, or not yet there, reach nobody.
pub fn a052_signals_to_the_short_lived(w: &World) {
    let a = w.service("a", "exit 0");
    let b = w.service("b", SLEEP);
    let svscan = w.svscan(&[]);
    let pid = b.pid();
    for n in 0..100 {
        let letter = ["-k", "-t", "-d", "-i", "-u", "-o", "-K", "-r"][n % 8];
        w.ok("svc", &[letter, &a.path]);
    }
    w.ok("svc", &["-wD", "-T", "30000", "-d", &a.path]);
    assert_eq!((b.status().pid, is_alive(pid)), (pid, true));
    assert_eq!(svscan.said(), "");
}

/// A logger ends when its service has, in whatever order they are told.
pub fn a053_a_logger_ends_with_its_service(w: &World) {
    for letters in ["xxd", "xdx", "dxx", "dd", "xd", "d"] {
        let a = w.service(&format!("a-{letters}"), "echo here; exec sleep 1000");
        let log = w.service(&format!("a-{letters}/log"), "cat >>all; echo end >>all");
        let svscan = w.svscan(&[]);
        a.pid();
        until("it is logged", || log.read("all").contains("here"));
        w.ok("svc", &[&format!("-{letters}"), &a.path]);
        w.ok("svscanctl", &["-t", "scan"]);
        assert_eq!(svscan.end().code, 0, "{letters}");
        assert!(log.read("all").ends_with("end\n"), "{letters}");
        fs::rename("scan", format!("scan-{letters}")).unwrap();
        fs::create_dir("scan").unwrap();
        w.forget_services();
    }
}

/// A stop that is asked for twice is one stop: finish runs once.
pub fn a054_finish_runs_once(w: &World) {
    let a = w.service("a", SLEEP);
    a.script("finish", "echo >>finished");
    let _svscan = w.svscan(&[]);
    a.pid();
    for life in 1..=30 {
        w.ok("svc", &["-d", &a.path]);
        w.ok("svc", &["-wD", "-T", "30000", "-d", &a.path]);
        assert_eq!(a.read("finished").lines().count(), life);
        w.ok("svc", &["-wu", "-T", "30000", "-u", &a.path]);
    }
}

/// With `timeout-kill` the end has an end; without it, QUIT to the scanner is no help, but SIGKILL is.
pub fn a055_a_stubborn_service(w: &World) {
    let stubborn = "trap '' TERM; : >trapped; while :; do sleep 0.1; done";
    let a = w.service("a", stubborn);
    a.file("timeout-kill", "200\n");
    let svscan = w.svscan(&[]);
    until("a ignores SIGTERM", || a.has("trapped"));
    w.ok("svscanctl", &["-t", "scan"]);
    assert_eq!(svscan.end().code, 0);
    let b = w.service("b", stubborn);
    let mut svscan = w.svscan(&[]);
    until("b ignores SIGTERM", || b.has("trapped"));
    let pid = b.pid();
    w.ok("svscanctl", &["-t", "scan"]);
    w.ok("svscanctl", &["-t", "scan"]);
    assert!(svscan.is_running() && is_alive(pid), "as is documented");
    kill(pid, Signal::KILL);
    assert_eq!(svscan.end().code, 0);
}

/// All of a group or nobody, also a moment after its beginning.
pub fn a056_signals_to_groups(w: &World) {
    let a = w.service("a", "for i in 1 2 3; do sleep 1000 & echo $! >>children; done; wait");
    let b = w.service("b", SLEEP);
    let _svscan = w.svscan(&[]);
    let other = b.pid();
    until("it has three children", || a.read("children").lines().count() == 3);
    let children: Vec<i32> = a.read("children").lines().map(|line| line.parse().unwrap()).collect();
    for (letter, state) in [("-P", "T"), ("-C", "S")] {
        w.ok("svc", &[letter, &a.path]);
        children.iter().for_each(|pid| until_eq(Some(state.to_owned()), || stat(*pid, 3)));
    }
    w.ok("svc", &["-OK", &a.path]);
    children.iter().for_each(|pid| until("the group is dead", || !is_alive(*pid)));
    for _ in 0..50 {
        w.ok("svc", &["-oK", &a.path]);
    }
    w.ok("svc", &["-wD", "-T", "30000", "-dK", &a.path]);
    until("nobody is left of it", || {
        let all = a.read("children");
        all.lines().filter_map(|line| line.parse().ok()).all(|pid: i32| !is_alive(pid))
    });
    assert_eq!((b.status().pid, is_alive(other)), (other, true));
}

/// Services that are down do not hold the end up.
pub fn a108_services_that_are_down(w: &World) {
    for n in 0..20 {
        w.service(&format!("down{n}"), SLEEP).file("down", "");
    }
    let up: Vec<Service> = (0..5).map(|n| w.service(&format!("up{n}"), SLEEP)).collect();
    mkfifo("unused");
    chmod("unused", 0o600);
    let svscan = w.svscan(&[]);
    let pids: Vec<i32> = up.iter().map(Service::pid).collect();
    // Asked twice, and with a finish script that asks a third time.
    w.at("scan/.s6-svscan").script("finish", "svscanctl -t . 2>/dev/null; echo over >../over");
    kill(svscan.pid(), Signal::TERM);
    kill(svscan.pid(), Signal::TERM);
    assert_eq!(svscan.end().code, 0);
    assert_eq!(read("over"), "over\n");
    assert!(!pids.iter().any(|pid| is_alive(*pid)));
}
