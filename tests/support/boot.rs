//! Containers for tests: `init` as pid 1 of PID and mount namespaces of its own, over an `/etc` that a test
//! has filled and an empty `/run`. Everything else is the machine's. Where namespaces are not to be had the
//! tests say so and pass.

// Each test program uses a part of this.
#![allow(dead_code)]

use std::cell::RefCell;
use std::fmt::Debug;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The program that is tried as pid 1. Beside it are the others.
pub const INIT: &str = env!("CARGO_BIN_EXE_init");

/// A fact may take this long to become true. Far longer than any needs: the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Where an image has its definitions, below `/etc`.
pub const DEFINITIONS: &str = "s6-overlay/s6-rc.d";

/// How `unshare` gets namespaces here; `None`: it does not.
fn namespaces() -> Option<&'static [&'static str]> {
    let ways: [&[&str]; 2] = [&["-m", "-p", "-f"], &["-r", "-m", "-p", "-f"]];
    let works = |way: &&&[&str]| {
        let mount = ["sh", "-c", "mount -t proc proc /proc && mount -t tmpfs tmpfs /run"];
        let command = Command::new("unshare").args(**way).args(mount).stderr(Stdio::null()).status();
        command.is_ok_and(|status| status.success())
    };
    let way = ways.iter().find(works).copied();
    if way.is_none() {
        println!("skipped: no namespaces can be had here");
    }
    way
}

/// What a container is made of.
pub struct Image {
    way: &'static [&'static str],
    base: PathBuf,
    environment: Vec<String>,
    setup: String,
}

impl Image {
    /// One without any service. `None`: containers cannot be had here.
    pub fn new() -> Option<Image> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let way = namespaces()?;
        let name = format!("perennial-boot-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let base = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&base);
        fs::create_dir_all(base.join("etc").join(DEFINITIONS)).unwrap();
        fs::write(base.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
        fs::write(base.join("etc/group"), "root:x:0:\n").unwrap();
        let environment = vec!["PATH=/usr/bin:/bin".to_owned()];
        Some(Image { way, base, environment, setup: String::new() })
    }

    /// Its `/etc`.
    pub fn etc(&self) -> PathBuf {
        self.base.join("etc")
    }

    /// Sets a variable of the container's environment: `NAME=VALUE`.
    pub fn env(mut self, variable: &str) -> Image {
        self.environment.push(variable.to_owned());
        self
    }

    /// Runs a shell script before `init`, as pid 1. The words in `$drop` are put before what comes then.
    pub fn setup(mut self, script: &str) -> Image {
        self.setup += script;
        self
    }

    /// Writes a file of the definitions: `web/type`.
    pub fn file(self, path: &str, text: impl AsRef<[u8]>) -> Image {
        let path = self.etc().join(DEFINITIONS).join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        self
    }

    /// Writes a file of the image's `/etc`: `services.d/web/run`. With `#!` in front it is executable.
    pub fn etc_file(self, path: &str, text: &str) -> Image {
        let path = self.etc().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        if text.starts_with("#!") {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        self
    }

    /// An executable shell script in the image's `/etc`.
    pub fn etc_script(self, path: &str, text: &str) -> Image {
        self.etc_file(path, &format!("#!/bin/sh\n{text}\n"))
    }

    fn atomic(mut self, name: &str, kind: &str, needs: &[&str]) -> Image {
        self = self.file(&format!("{name}/type"), format!("{kind}\n"));
        self = self.file(&format!("user/contents.d/{name}"), "");
        needs.iter().fold(self, |image, need| image.file(&format!("{name}/dependencies.d/{need}"), ""))
    }

    /// A longrun of the bundle `user`: `run` is a shell script without its first line.
    pub fn longrun(self, name: &str, run: &str, needs: &[&str]) -> Image {
        self.atomic(name, "longrun", needs).file(&format!("{name}/run"), format!("#!/bin/sh\n{run}\n"))
    }

    /// A longrun that runs a shell script, and is ready when that has ended.
    pub fn says(self, name: &str, script: &str, needs: &[&str]) -> Image {
        let image = self.longrun(name, &format!("{script}; echo >&3; exec sleep 1000"), needs);
        image.file(&format!("{name}/notification-fd"), "3\n")
    }

    /// A oneshot of the bundle `user`: `up` is a shell script.
    pub fn oneshot(self, name: &str, up: &str, needs: &[&str]) -> Image {
        let image = self.atomic(name, "oneshot", needs).script(&format!("{name}/script"), up);
        let command = format!("/etc/{DEFINITIONS}/{name}/script\n");
        image.file(&format!("{name}/up"), command)
    }

    /// The `down` of a oneshot: a shell script.
    pub fn down(self, name: &str, down: &str) -> Image {
        let command = format!("/etc/{DEFINITIONS}/{name}/undo\n");
        self.script(&format!("{name}/undo"), down).file(&format!("{name}/down"), command)
    }

    /// An executable shell script among the definitions.
    pub fn script(self, path: &str, text: &str) -> Image {
        let image = self.file(path, format!("#!/bin/sh\n{text}\n"));
        let path = image.etc().join(DEFINITIONS).join(path);
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        image
    }

    /// Boots it with a command.
    pub fn boot(self, command: &[&str]) -> Container {
        self.boot_program(Path::new(INIT), command)
    }

    /// The same with another program in the place of `init`.
    pub fn boot_program(self, program: &Path, command: &[&str]) -> Container {
        let output = self.base.join("output");
        let writer = fs::File::create(&output).unwrap();
        // The pid that we know it by, while this /proc is still ours.
        let script = format!(
            "read -r pid rest </proc/self/stat; echo $pid >$0/pid.new; mv $0/pid.new $0/pid\n\
             mount -t proc proc /proc && mount --bind $0/etc /etc && mount -t tmpfs tmpfs /run || exit 125\n\
             cd /; {}\nexec $drop env -i \"$@\"",
            self.setup
        );
        let child = Command::new("unshare")
            .args(self.way)
            .args(["--kill-child", "sh", "-c", &script])
            .arg(&self.base)
            .args(&self.environment)
            .arg(program)
            .args(command)
            .stdin(Stdio::null())
            .stdout(writer.try_clone().unwrap())
            .stderr(writer)
            .spawn()
            .expect("unshare worked a moment ago");
        Container { child: RefCell::new(child), output, image: self }
    }

    /// Boots it and waits for its end.
    pub fn run(self, command: &[&str]) -> Ended {
        self.boot(command).end()
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.base);
    }
}

/// A container that was started.
pub struct Container {
    child: RefCell<Child>,
    output: PathBuf,
    image: Image,
}

impl Container {
    /// What has been printed.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.output).unwrap()).into_owned()
    }

    /// Waits until it has printed this.
    pub fn wait_for(&self, text: &str) {
        self.wait_until(&format!("{text:?} is printed"), || self.said().contains(text));
    }

    /// Waits until something is so.
    pub fn wait_until(&self, what: &str, is_so: impl Fn() -> bool) {
        let began = Instant::now();
        while !is_so() {
            let over = self.child.borrow_mut().try_wait().unwrap().is_some() && !is_so();
            let late = began.elapsed() > PATIENCE;
            assert!(!over && !late, "not before its end: {what}; printed:\n{}", self.said());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Its pid 1, as we know it.
    pub fn init(&self) -> i32 {
        let path = self.image.base.join("pid");
        self.wait_until("pid 1 is known", || path.exists());
        fs::read_to_string(path).unwrap().trim().parse().unwrap()
    }

    /// Sends a signal to pid 1 from outside.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.init()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Runs a shell script in it. The programs of ours that are called have this directory before their name.
    pub fn inside(&self, script: &str) -> Output {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.init().to_string(), "-m", "-p"]);
        if self.image.way.contains(&"-r") {
            command.args(["-U", "--preserve-credentials"]);
        }
        let path = format!("{}:/usr/bin:/bin", Path::new(INIT).parent().unwrap().display());
        command.args(["env", "-i", &format!("PATH={path}"), "sh", "-c", script]);
        command.stdin(Stdio::null()).output().unwrap()
    }

    /// What a shell script in it prints.
    pub fn shows(&self, script: &str) -> String {
        let output = self.inside(script);
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    /// Waits for its end.
    pub fn end(self) -> Ended {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.borrow_mut().try_wait().unwrap() {
                return Ended { status, took: began.elapsed(), said: self.said() };
            }
            assert!(began.elapsed() < PATIENCE, "does not end; printed:\n{}", self.said());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Tells pid 1 to end, as container engines do, and waits for that.
    pub fn stop(self) -> Ended {
        self.signal(rustix::process::Signal::TERM);
        self.end()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.child.get_mut().kill();
        let _ = self.child.get_mut().wait();
    }
}

/// A container that has ended.
pub struct Ended {
    status: ExitStatus,
    /// From when somebody began to wait for the end.
    pub took: Duration,
    /// All that it printed.
    pub said: String,
}

impl Ended {
    /// The exit code of pid 1.
    #[track_caller]
    pub fn exits(&self, code: i32) -> &Ended {
        let got = self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap());
        self.check(got == code, format_args!("exit code {got}, not {code}"))
    }

    /// It has printed this.
    #[track_caller]
    pub fn says(&self, text: &str) -> &Ended {
        self.check(self.said.contains(text), format_args!("not printed: {text:?}"))
    }

    /// It has printed nothing like this.
    #[track_caller]
    pub fn does_not_say(&self, text: &str) -> &Ended {
        self.check(!self.said.contains(text), format_args!("printed: {text:?}"))
    }

    #[track_caller]
    fn check(&self, is_so: bool, what: std::fmt::Arguments<'_>) -> &Ended {
        assert!(is_so, "{what}; all that was printed:\n{}", self.said);
        self
    }
}

impl Debug for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} after {:?}:\n{}", self.status, self.took, self.said)
    }
}
