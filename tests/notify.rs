//! `notify-socket` and `watchdog`: what a service says of itself, tried with real programs.
//!
//! `cargo test --test notify`, with words after `--` to run only scenarios whose name contains one of them.
//! PERENNIAL names another executable to try than the one just built.

#[path = "support/boot.rs"]
mod boot;
mod support;

use boot::Image;
use rustix::process::Signal;
use std::fs;
use std::process::ExitCode;
use support::runner;
use support::{Running, SLEEP, Service, World, is_alive, kill, stat, until, until_eq};

fn main() -> ExitCode {
    runner::run_in_worlds("notify", SCENARIOS)
}

const SCENARIOS: &[runner::InWorld] = &[
    ("says_that_it_is_ready", says_that_it_is_ready),
    ("of_one_alone", of_one_alone),
    ("nothing_is_lost_with_supervisors", nothing_is_lost_with_supervisors),
    ("start_deadline_moves_with_progress", start_deadline_moves_with_progress),
    ("rc_waits_while_it_gets_on", rc_waits_while_it_gets_on),
    ("strangers_are_not_heard", strangers_are_not_heard),
    ("odd_datagrams", odd_datagrams),
    ("flood", flood),
    ("watchdog", watchdog),
    ("watchdog_counts_on", watchdog_counts_on),
    ("what_is_said_of_an_end", what_is_said_of_an_end),
    ("stop_waits_for_who_asks", stop_waits_for_who_asks),
    ("main_pid", main_pid),
    ("stored_descriptors", stored_descriptors),
    ("barrier", barrier),
    ("systemd_notify", systemd_notify),
    ("where_the_socket_is", where_the_socket_is),
    ("no_socket_no_difference", no_socket_no_difference),
];

/// Python that says something: `say(TEXT)`, and obeys the lines that are appended to the file `do`, one by one.
const OBEY: &str = r#"
import array, os, socket, sys, time
SAY = open('speaker.py').read().rsplit('def obey', 1)[0] if os.path.exists('speaker.py') else ''
def address(): return os.environ['NOTIFY_SOCKET'].replace('@', '\0', 1)
def say(text, *fds):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    data = text if isinstance(text, bytes) else text.encode()
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', fds))] if fds else []
    s.sendmsg([data], rights, 0, address())
    s.close()
def obey():
    done = 0
    while True:
        try: lines = open('do.%d' % os.getpid()).read().split('\n')[:-1]
        except FileNotFoundError: lines = []
        for line in lines[done:]:
            try: exec(line, globals()); result = 'done'
            except Exception as e: result = repr(e)
            done += 1
            open('did.%d' % os.getpid(), 'a').write('%d %s\n' % (done, result))
        time.sleep(0.005)
"#;

/// A service that says what it is told to say.
struct Speaker {
    service: Service,
    told: std::cell::Cell<usize>,
    /// Who was told: another process may be the main one by the time that it is done.
    who: std::cell::Cell<i32>,
}

impl Speaker {
    fn new(w: &World, name: &str) -> Speaker {
        Speaker::of(w.service(name, ""))
    }

    fn of(service: Service) -> Speaker {
        service.file("notify-socket", "").file("speaker.py", &format!("{OBEY}\nobey()\n"));
        service.script("run", "exec python3 -S speaker.py");
        Speaker { service, told: Default::default(), who: Default::default() }
    }

    /// Waits for a new life.
    fn is_new(&self) {
        self.told.set(0);
    }

    /// Has it do something, not waiting until that is done.
    fn tell(&self, line: &str) {
        use std::io::Write;
        self.who.set(self.service.pid());
        let path = format!("{}/do.{}", self.service.path, self.who.get());
        let mut file = fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        writeln!(file, "{line}").unwrap();
        self.told.set(self.told.get() + 1);
    }

    /// Waits until it has done all.
    fn done(&self) {
        let expected = self.told.get();
        let did = || self.service.read(&format!("did.{}", self.who.get()));
        until("it has done it", || did().lines().count() >= expected);
        let did = did();
        let bad = did.lines().find(|line| !line.ends_with(" done"));
        assert_eq!(bad, None, "{did}");
    }

    /// Has it do something.
    fn run(&self, line: &str) {
        self.tell(line);
        self.done();
    }

    /// Has it send a datagram.
    fn says(&self, text: &str) {
        self.run(&format!("say({text:?})"));
    }

    fn status(&self) -> Option<String> {
        self.service.state().status
    }

    fn is_ready(&self) -> bool {
        self.service.status().flags & 8 != 0 && self.service.status().is_up()
    }
}

// ------------------------------------------------------------------------------------------------ said and shown

fn says_that_it_is_ready(w: &World) {
    let a = Speaker::new(w, "a");
    let _svscan = w.svscan(&[]);
    let events = a.service.listen();
    let pid = a.service.pid();
    let waiting = w.start("svc", &["-uwU", "-T", "60000", &a.service.path]);
    a.says("STATUS=loading weights 1/5");
    until_eq(Some("loading weights 1/5".to_owned()), || a.status());
    let shown = w.run("svstat", &[&a.service.path]).out;
    assert!(shown.contains(", status: loading weights 1/5"), "{shown}");
    until("it is seen", || events.heard().contains('p'));
    a.says("STATUS=loading weights 2/5\nX_ELSE=what");
    until_eq(Some("loading weights 2/5".to_owned()), || a.status());
    assert!(!a.is_ready());
    a.says("READY=1\nSTATUS=serving");
    let ran = waiting.end();
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("scan/a: loading weights 2/5\n"), "{ran:?}");
    assert!(a.is_ready() && a.service.pid() == pid);
    assert_eq!(events.heard().matches('U').count(), 1);
    until_eq(Some("serving".to_owned()), || a.status());
    let json = w.ok("svstat", &["--json", &a.service.path]);
    assert!(json.contains("\"status\":\"serving\""), "{json}");
    a.says("RELOADING=1\nMONOTONIC_USEC=5");
    until_eq(Some("reloading".to_owned()), || a.service.state().mode);
    a.says("READY=1");
    until_eq(None, || a.service.state().mode);
    a.says("STOPPING=1\nSTATUS=saving");
    until_eq(Some("stopping".to_owned()), || a.service.state().mode);
    // Another life begins with nothing.
    kill(pid, Signal::KILL);
    a.is_new();
    until("it lives again", || a.service.status().is_up() && a.service.status().pid != pid);
    until_eq((None, None), || (a.service.state().mode, a.status()));
    assert!(!a.is_ready());
    assert_eq!(a.service.state().why.as_deref(), Some("last status: serving"));
}

/// A supervisor of one service has it too.
fn of_one_alone(w: &World) {
    let a = Speaker::of(w.service_at("a", ""));
    let supervise = w.supervise(&a.service);
    a.service.pid();
    a.says("READY=1\nSTATUS=one");
    until("it is ready", || a.is_ready());
    let pid = a.service.pid();
    drop(supervise);
    until("nobody supervises it", || !a.service.is_supervised());
    let _another = w.supervise(&a.service);
    until_eq(1, || a.service.state().adopted);
    assert_eq!(a.service.pid(), pid);
    assert_eq!(a.status().as_deref(), Some("one"));
    // The name is bound again. What was sent in between is refused to its sender.
    a.says("STATUS=two");
    until_eq(Some("two".to_owned()), || a.status());
    w.ok("svc", &["-wD", "-T", "30000", "-d", &a.service.path]);
}

/// Everything that is not pid 1 dies, before and after something is said, and while nobody is there to hear it. (At
/// every place where a process can be killed: tests/survive.rs.)
fn nothing_is_lost_with_supervisors(_: &World) {
    let Some(image) = Image::new() else { return };
    let script = format!("{OBEY}\nobey()\n");
    // The environment is the container's, and what the supervisor tells.
    let path = std::path::Path::new(boot::INIT).with_file_name("with-contenv");
    let run = format!("cd /run; exec {} python3 -S /run/service/web/data/speaker.py", path.display());
    let image = image.longrun("web", &run, &[]);
    let image = image.file("web/notify-socket", "").file("web/data/speaker.py", script);
    let container = image.boot(&["sleep", "1000"]);
    container.wait_for("service web: starting");
    let script = r#"
        n=0
        cd /run
        tell() { printf '%s\n' "$1" >>do.$pid; n=$((n + 1)); }
        done_() { until [ "$(cat did.$pid 2>/dev/null | wc -l)" = $n ]; do sleep 0.01; done; }
        status() { sed -n 's/^status=//p' /run/service/web/supervise/state 2>/dev/null; }
        is() { i=0; until [ "$(status)" = "$1" ]; do sleep 0.02; i=$((i + 1)); [ $i -lt 1500 ] || { echo "status is $(status), not $1"; exit 1; }; done; }
        find() { for p in /proc/[0-9]*; do [ "$(cat $p/comm 2>/dev/null)" = $1 ] && echo ${p#/proc/}; done; }
        until [ "$(svstat -o up /run/service/web 2>/dev/null)" = true ]; do sleep 0.01; done
        pid=$(svstat -o pid /run/service/web)
        tell "say('STATUS=one')"; done_; is one
        for victim in supervise svscan "svscan supervise"; do
            # What was said is known after a kill,
            tell "say('STATUS=before $victim')"; done_
            for v in $victim; do kill -9 $(find $v); done
            is "before $victim"
            # and so is what is said while nobody listens.
            kill -STOP $(find svscan) $(find supervise)
            tell "say('STATUS=while $victim')"; done_
            for v in $victim; do kill -9 $(find $v); done
            kill -CONT $(find svscan) $(find supervise) 2>/dev/null
            is "while $victim"
            echo "$victim"
        done
        [ $(svstat -o pid /run/service/web) = $pid ] || echo restarted
        kill -9 $(find svscan) $(find supervise)
        tell "say('READY=1\nSTATUS=ready')"; done_
        svc -wU -T 30000 /run/service/web >/dev/null
        is ready
        [ $(svstat -o pid,ready /run/service/web | tr ' ' -) = $pid-true ] || svstat /run/service/web
    "#;
    assert_eq!(container.shows(script), "supervise\nsvscan\nsvscan supervise\n", "{}", container.said());
    container.stop();
}

// ------------------------------------------------------------------------------------------------ deadlines

fn start_deadline_moves_with_progress(w: &World) {
    let a = Speaker::new(w, "a");
    a.service.file("timeout-up", "1500ms");
    let svscan = w.svscan(&[]);
    let pid = a.service.pid();
    for step in 1..=6 {
        a.says(&format!("STATUS=step {step}"));
        std::thread::sleep(std::time::Duration::from_millis(400));
    }
    assert_eq!(a.service.status().pid, pid, "it has taken longer than timeout-up, and has got on");
    // One that repeats itself does not get on.
    a.tell("while True: say('STATUS=step 6'); time.sleep(0.1)");
    until("it is ended", || a.service.status().pid != pid);
    until_eq(Some("not-ready".to_owned()), || a.service.state().cause);
    let why = a.service.state().why.unwrap();
    assert!(why.starts_with("start timed out after ") && why.ends_with(": last status: step 6"), "{why}");
    assert!(svscan.said().contains(": last status: step 6: ended"), "{}", svscan.said());
    let shown = w.ok("svstat", &["--json", &a.service.path]);
    assert!(shown.contains("last status: step 6"), "{shown}");
    // One that asks for time gets it.
    a.is_new();
    let pid = a.service.pid();
    a.says("EXTEND_TIMEOUT_USEC=60000000");
    std::thread::sleep(std::time::Duration::from_millis(2500));
    assert_eq!(a.service.status().pid, pid);
    a.says("READY=1");
    until("it is ready", || a.is_ready());
}

/// In a definition of rc `timeout-up` is rc's, and moves in the same way; it shows what is said.
fn rc_waits_while_it_gets_on(_: &World) {
    let Some(image) = Image::new() else { return };
    let run = "exec python3 -S -c \"$(cat /run/service/$1/data/say)\nfor n in range(int(sys.argv[1])): \
         say('STATUS=step %d' % n); time.sleep(0.3)\ntime.sleep(1000 if len(sys.argv) > 2 else 0); \
         say('READY=1'); time.sleep(1000)\"";
    let image = image
        .longrun("moves", &format!("{run} 8"), &[])
        .file("moves/notify-socket", "")
        .file("moves/data/say", OBEY)
        .file("moves/timeout-up", "1000\n");
    let image = image
        .longrun("stalls", &format!("{run} 3 stall"), &[])
        .file("stalls/notify-socket", "")
        .file("stalls/data/say", OBEY)
        .file("stalls/timeout-up", "1000\n");
    let container = image.boot(&[]);
    container.wait_until("it is said where it was", || {
        let said = container.said();
        let lines =
            said.lines().filter(|line| line.contains("stalls") && line.ends_with("last status: step 2"));
        lines.count() > 0
    });
    container.wait_for("unable to start service stalls: timed out");
    container.wait_for("service moves successfully started");
    let why = container.shows("rc status; rc why moves; svstat --json /run/service/moves");
    assert!(why.contains("step 7"), "{why}");
    container.stop();
}

// ------------------------------------------------------------------------------------------------ who, what

/// Somebody who is none of the service's processes is not heard; its children's children are.
fn strangers_are_not_heard(w: &World) {
    let a = Speaker::new(w, "a");
    let svscan = w.svscan(&[]);
    a.service.pid();
    let path = fs::canonicalize("scan/a").unwrap().join("notify.sock");
    until("there is a socket", || path.exists());
    let code = format!("{OBEY}\nsay('READY=1\\nSTATUS=stranger'); time.sleep(1000)");
    let mut stranger = std::process::Command::new("python3");
    stranger.args(["-S", "-c", &code]).env("NOTIFY_SOCKET", &path);
    let stranger = Running::new(stranger, "a stranger".to_owned());
    let text = format!(" (pid {}) sent is not heard: it is none of the service's processes", stranger.pid());
    until("that is said", || {
        svscan.said().contains("supervise a: warning: notify-socket: what ") && svscan.said().contains(&text)
    });
    assert!(!a.is_ready() && a.status().is_none());
    // A child in a session of its own.
    a.run("import subprocess; subprocess.run([sys.executable, '-S', '-c', SAY + \"say('STATUS=child')\"], start_new_session=True)");
    until_eq(Some("child".to_owned()), || a.status());
    // One that is dead before anybody looks.
    let supervise = svscan.supervisor();
    kill(supervise, Signal::STOP);
    a.run(
        "subprocess.run([sys.executable, '-S', '-c', SAY + \"say('STATUS=dead')\"], start_new_session=True)",
    );
    kill(supervise, Signal::CONT);
    until_eq(Some("dead".to_owned()), || a.status());
    // A dead stranger of another user.
    if rustix::process::geteuid().is_root() {
        kill(supervise, Signal::STOP);
        let above: Vec<_> = w.base.ancestors().take(2).collect();
        above.iter().for_each(|path| support::chmod(path.to_str().unwrap(), 0o755));
        let code = format!("{OBEY}\nos.setuid(4711); say('STATUS=stranger')");
        let mut stranger = std::process::Command::new("python3");
        stranger.args(["-S", "-c", &code]).env("NOTIFY_SOCKET", &path);
        let ran = Running::new(stranger, "another stranger".to_owned()).end();
        assert_eq!(ran.code, 0, "{ran:?}");
        kill(supervise, Signal::CONT);
        a.says("STATUS=afterwards");
        until_eq(Some("afterwards".to_owned()), || a.status());
    }
    drop(stranger);
}

/// They do no harm, and what comes after them is heard.
fn odd_datagrams(w: &World) {
    let a = Speaker::new(w, "a");
    let svscan = w.svscan(&[]);
    let pid = a.service.pid();
    for odd in [
        "b''",
        "b'READY'",
        "b'READY=yes'",
        "b'\\n' * 100",
        "b'READY=1\\0'* 2",
        "b'\\xff\\xfe\\x00'",
        "b'STATUS=' + b'x' * 65536",
        "b'READY=1\\n' + b'x' * 4096",
        "b'EXTEND_TIMEOUT_USEC=-1\\nWATCHDOG_USEC=99999999999999999999\\nMAINPID=no\\nERRNO=\\nEXIT_STATUS=-1'",
        "b'FDSTORE=1'",
        "b'FDSTOREREMOVE=1\\nFDNAME=nothing'",
        "b'MAINPID=1\\nWATCHDOG=1\\nBARRIER=1'",
    ] {
        a.run(&format!("say({odd})"));
    }
    a.run("say(b'STATUS=' + b'\\xff\\x1b[31m' + b'x' * 1000)");
    until("it is heard", || {
        a.status().is_some_and(|text| text.starts_with("\u{fffd} [31mxxx") && text.len() <= 200)
    });
    assert!(!a.is_ready());
    assert_eq!(a.service.status().pid, pid);
    let said = svscan.said();
    assert_eq!(said.matches("it is longer than 4096 bytes").count(), 1, "{said}");
    a.says("READY=1");
    until("it is ready", || a.is_ready());
}

/// Who says a hundred thousand things gets an answer to none, and nobody else waits for that.
fn flood(w: &World) {
    let a = Speaker::new(w, "a");
    let b = w.service("b", SLEEP);
    let svscan = w.svscan(&[]);
    a.service.pid();
    b.pid();
    let supervise = svscan.supervisor();
    let memory = || {
        let status = fs::read_to_string(format!("/proc/{supervise}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap()
    };
    a.says("STATUS=before");
    until_eq(Some("before".to_owned()), || a.status());
    let before = memory();
    a.tell("s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.connect(address())");
    a.tell("for n in range(100000): s.send(b'STATUS=%d' % n)");
    until("it has begun", || a.status().is_some_and(|text| text != "before"));
    for _ in 0..10 {
        let began = std::time::Instant::now();
        w.ok("svc", &["-wr", "-T", "30000", "-t", &b.path]);
        assert!(began.elapsed().as_secs() < 10, "another service has to wait");
    }
    a.done();
    until_eq(Some("99999".to_owned()), || a.status());
    assert!(memory() < before + 2000, "{before} KiB and then {} KiB", memory());
    assert_eq!(svscan.supervisor(), supervise);
}

// ------------------------------------------------------------------------------------------------ liveness

fn watchdog(w: &World) {
    let a = Speaker::new(w, "a");
    a.service.file("watchdog", "700ms\n");
    let svscan = w.svscan(&[]);
    let pid = a.service.pid();
    a.run("open('seen', 'w').write(os.environ['WATCHDOG_USEC'] + ' ' + os.environ['WATCHDOG_PID'])");
    assert_eq!(a.service.read("seen"), format!("700000 {pid}"));
    // Nothing is asked of it before it is ready.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert_eq!(a.service.status().pid, pid);
    a.says("READY=1");
    a.run("for n in range(15): say('WATCHDOG=1'); time.sleep(0.1)");
    assert_eq!(a.service.status().pid, pid, "it gives signs of life");
    until("it is ended", || a.service.status().pid != pid);
    until_eq(Some("watchdog".to_owned()), || a.service.state().cause);
    assert_eq!(a.service.status().wait & 127, 6, "by SIGABRT");
    assert_eq!(a.service.state().why.as_deref(), Some("no WATCHDOG=1 within 700 ms"));
    assert!(svscan.said().contains("supervise a: warning: no WATCHDOG=1 within 700 ms (watchdog): ended"));
    // It may change the time, do without it, and ask for its end.
    a.is_new();
    let pid = a.service.pid();
    a.says("WATCHDOG_USEC=0\nREADY=1");
    std::thread::sleep(std::time::Duration::from_millis(1200));
    assert_eq!(a.service.status().pid, pid);
    a.tell("say('WATCHDOG=trigger')");
    until("it is ended", || a.service.status().pid != pid);
    until_eq(Some("WATCHDOG=trigger".to_owned()), || a.service.state().why);
    // Alone it means nothing, and that is said.
    let b = w.service("b", SLEEP);
    b.file("watchdog", "1s");
    w.ok("svscanctl", &["-a", "scan"]);
    let text = "supervise b: warning: unable to start run: watchdog: means nothing without notify-socket: make an empty file notify-socket, or remove this";
    until("it is said", || svscan.said().contains(text));
}

/// A takeover gives no time, and takes none: what was said in time counts.
fn watchdog_counts_on(w: &World) {
    let a = Speaker::new(w, "a");
    a.service.file("watchdog", "3s\n");
    let svscan = w.svscan(&[]);
    let pid = a.service.pid();
    a.says("READY=1");
    until("it is ready", || a.is_ready());
    let ready = std::time::Instant::now();
    while a.service.status().pid == pid {
        svscan.kill_supervisor(&[&a.service]);
        std::thread::sleep(std::time::Duration::from_millis(100));
        assert!(ready.elapsed().as_secs() < 30, "takeovers put the deadline off");
    }
    until_eq(Some("watchdog".to_owned()), || a.service.state().cause);
    a.is_new();
    let pid = a.service.pid();
    a.says("READY=1\nWATCHDOG_USEC=1000000");
    // The supervisor sleeps longer than that; the signs of life have come.
    let supervise = svscan.supervisor();
    kill(supervise, Signal::STOP);
    a.run("for n in range(5): say('WATCHDOG=1'); time.sleep(0.4)");
    a.tell("while True: say('WATCHDOG=1'); time.sleep(0.05)");
    kill(supervise, Signal::KILL);
    until("there is another", || svscan.supervisor() != supervise);
    a.service.wait_supervised();
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(a.service.status().pid, pid);
}

fn what_is_said_of_an_end(w: &World) {
    let a = Speaker::new(w, "a");
    let svscan = w.svscan(&[]);
    let pid = a.service.pid();
    // It is heard although it is the last thing that is done, and nobody listens just then.
    let supervise = svscan.supervisor();
    kill(supervise, Signal::STOP);
    a.tell("say('ERRNO=2\\nEXIT_STATUS=7\\nSTATUS=giving up'); os._exit(7)");
    until("it has ended", || stat(pid, 3).is_none_or(|state| state == "Z"));
    kill(supervise, Signal::KILL);
    let text = "No such file or directory (ERRNO=2): EXIT_STATUS=7: last status: giving up";
    until_eq(Some(text.to_owned()), || a.service.state().why);
    until("it is up again", || a.service.status().is_up());
    assert_eq!(a.service.status().wait, 0x700);
    assert_eq!(a.status(), None);
    // A takeover forgets none of it.
    svscan.kill_supervisor(&[&a.service]);
    until_eq(Some(text.to_owned()), || a.service.state().why);
}

/// Who was told to stop and asks for time gets it.
fn stop_waits_for_who_asks(w: &World) {
    let a = Speaker::new(w, "a");
    a.service.file("timeout-kill", "500");
    let _svscan = w.svscan(&[]);
    a.service.pid();
    a.run("import signal; signal.signal(signal.SIGTERM, lambda *_: say('EXTEND_TIMEOUT_USEC=60000000\\nSTOPPING=1'))");
    w.ok("svc", &["-d", &a.service.path]);
    until_eq(Some("stopping".to_owned()), || a.service.state().mode);
    std::thread::sleep(std::time::Duration::from_millis(1200));
    a.tell("os._exit(5)");
    until("it has ended", || a.service.status().is_down());
    assert_eq!(a.service.status().wait, 0x500, "it was not killed");
}

/// It may name another process of the service as its main one.
fn main_pid(w: &World) {
    let a = Speaker::new(w, "a");
    let svscan = w.svscan(&[]);
    let pid = a.service.pid();
    a.run("import subprocess; c = subprocess.Popen(['sh', '-c', 'until [ -e go ]; do sleep 0.02; done; exit 7'])");
    a.run("say('MAINPID=%d\\nREADY=1' % c.pid); open('child', 'w').write(str(c.pid))");
    let child: i32 = a.service.read("child").parse().unwrap();
    until_eq(child, || a.service.status().pid);
    assert!(a.is_ready());
    kill(pid, Signal::KILL);
    svscan.kill_supervisor(&[&a.service]);
    until_eq(child, || a.service.status().pid);
    a.service.file("go", "");
    until_eq(0x700, || a.service.status().wait);
    // An orphan in a session of its own.
    a.is_new();
    until("it is up again", || a.service.status().is_up());
    let _ = fs::remove_file("scan/a/orphan");
    a.run(
        "import subprocess; subprocess.run(['setsid', '-f', 'sh', '-c', 'echo $$ >orphan; exec sleep 1000'])",
    );
    until("it has said who it is", || a.service.read("orphan").ends_with('\n'));
    let orphan: i32 = a.service.read("orphan").trim().parse().unwrap();
    a.says(&format!("MAINPID={orphan}"));
    until_eq(orphan, || a.service.status().pid);
    let deaths = a.service.deaths().len();
    kill(orphan, Signal::SEGV);
    until("it has ended", || a.service.deaths().len() > deaths);
    until_eq(11, || a.service.status().wait & 0x7f);
    // Not a stranger.
    a.is_new();
    until("it is up again", || a.service.status().is_up());
    let pid = a.service.pid();
    a.says("MAINPID=1\nSTATUS=heard");
    until("it is said", || {
        svscan.said().contains("supervise a: warning: notify-socket: MAINPID=1: it is no process")
    });
    until_eq(Some("heard".to_owned()), || a.status());
    assert_eq!(a.service.status().pid, pid);
}

// ------------------------------------------------------------------------------------------------ descriptors

/// What was stored is there for the next life, whoever was killed meanwhile.
fn stored_descriptors(w: &World) {
    let a = Speaker::new(w, "a");
    let svscan = w.svscan(&[]);
    a.service.pid();
    a.run("l = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM); l.bind('listener'); l.listen()");
    a.run("say('FDSTORE=1\\nFDNAME=web', l.fileno())");
    a.run("r, p = os.pipe(); os.write(p, b'kept'); say('FDSTORE=1\\nFDNAME=pipe', r, p)");
    a.run("say('FDSTORE=1\\nFDNAME=web', l.fileno())");
    a.run("e = os.eventfd(7); say('FDSTORE=1', e)");
    a.says("FDSTOREREMOVE=1\nFDNAME=stored");
    svscan.kill_supervisor(&[&a.service]);
    let pid = a.service.pid();
    kill(pid, Signal::KILL);
    a.is_new();
    until("it lives again", || a.service.status().is_up() && a.service.status().pid != pid);
    a.run("assert os.environ['LISTEN_PID'] == str(os.getpid()), os.environ");
    a.run("assert os.environ['LISTEN_FDS'] == '3', os.environ");
    a.run("assert os.environ['LISTEN_FDNAMES'] == 'web:pipe:pipe', os.environ");
    a.run("assert socket.socket(fileno=3).getsockname() == 'listener'");
    a.run("assert os.read(4, 9) == b'kept'");
    // And for the one after that, with both killed, as long as there is something like an init.
    a.says("FDSTOREREMOVE=1\nFDNAME=pipe");
    w.ok("svc", &["-wr", "-T", "30000", "-t", &a.service.path]);
    a.is_new();
    a.run("assert os.environ['LISTEN_FDNAMES'] == 'web', os.environ");
}

/// Its descriptor is closed when all before it was heard.
fn barrier(w: &World) {
    let a = Speaker::new(w, "a");
    let svscan = w.svscan(&[]);
    a.service.pid();
    let supervise = svscan.supervisor();
    kill(supervise, Signal::STOP);
    a.run("import select; r, p = os.pipe(); say('STATUS=before'); say('BARRIER=1', p); os.close(p)");
    a.run("assert select.select([r], [], [], 0.2)[0] == []");
    kill(supervise, Signal::CONT);
    a.run("assert select.select([r], [], [], 30)[0] == [r] and os.read(r, 1) == b''");
    until_eq(Some("before".to_owned()), || a.status());
}

/// systemd's own program, where it is installed.
fn systemd_notify(w: &World) {
    let there = std::process::Command::new("systemd-notify").arg("--version").output().is_ok();
    if !there {
        return println!("  not tried: there is no systemd-notify");
    }
    let a = w.service("a", &format!("systemd-notify --ready --status='up and running'; touch said; {SLEEP}"));
    a.file("notify-socket", "");
    let _svscan = w.svscan(&[]);
    until("it has said it", || a.has("said"));
    until_eq(Some("up and running".to_owned()), || a.state().status);
    assert_eq!(a.status().flags & 8, 8);
}

fn where_the_socket_is(w: &World) {
    let long = format!("scan/{}", "x".repeat(150));
    let a = Speaker::of(w.service(long.trim_start_matches("scan/"), ""));
    let b = Speaker::new(w, "b");
    // Somebody's own file is left alone.
    b.service.file("notify.sock", "mine");
    let svscan = w.svscan(&[]);
    for (speaker, why) in [
        (&a, "is longer than 107 bytes: NOTIFY_SOCKET is @"),
        (&b, "Address already in use: NOTIFY_SOCKET is @"),
    ] {
        speaker.service.pid();
        speaker.says("STATUS=heard\nREADY=1");
        until_eq(Some("heard".to_owned()), || speaker.status());
        until("it is said", || svscan.said().contains(why));
    }
    assert_eq!(b.service.read("notify.sock"), "mine");
    svscan.kill_supervisor(&[&a.service, &b.service]);
    a.says("STATUS=again");
    until_eq(Some("again".to_owned()), || a.status());
    // Nothing is left behind.
    let c = Speaker::new(w, "c");
    w.ok("svscanctl", &["-a", "scan"]);
    c.service.pid();
    until("it has a socket", || c.service.has("notify.sock"));
    w.ok("svscanctl", &["-q", "scan"]);
    until("supervision has ended", || !c.service.is_supervised());
    assert!(!c.service.has("notify.sock"));
}

fn no_socket_no_difference(w: &World) {
    let a = w.service("a", &format!("env >said; touch complete; {SLEEP}"));
    let _svscan = w.svscan(&[]);
    until("it is up", || a.has("complete"));
    assert!(!a.read("said").contains("NOTIFY_SOCKET") && !a.has("notify.sock") && !a.has("supervise/state"));
    let pid = a.pid();
    assert!(is_alive(pid));
}
