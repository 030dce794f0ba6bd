//! Containers as engines make them: `runc` with the capabilities, masked paths and forbidden system calls that
//! are Docker's defaults, on a root file system made of Debian's packages.
//!
//! Needs root, runc and debootstrap, and the network once: the root file system is kept in the directory that
//! `PERENNIAL_OCI_ROOT` names, `target/oci` by default. Where something is missing it says so and passes.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const PERENNIAL: &str = env!("CARGO_BIN_EXE_perennial");

/// Nothing takes so long, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

/// What Docker gives to root.
const CAPABILITIES: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// What Docker hides.
const MASKED: [&str; 9] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
];

/// And makes read-only.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The system calls that Docker's profile refuses to who has no further capability, as its documentation lists
/// them. (The profile itself lists the others; to us it comes to the same.)
const FORBIDDEN: [&str; 43] = [
    "acct",
    "add_key",
    "bpf",
    "clock_adjtime",
    "clock_settime",
    "create_module",
    "delete_module",
    "finit_module",
    "get_kernel_syms",
    "get_mempolicy",
    "init_module",
    "ioperm",
    "iopl",
    "kcmp",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "lookup_dcookie",
    "mbind",
    "mount",
    "move_pages",
    "nfsservctl",
    "open_by_handle_at",
    "perf_event_open",
    "pivot_root",
    "process_vm_readv",
    "process_vm_writev",
    "query_module",
    "quotactl",
    "reboot",
    "request_key",
    "set_mempolicy",
    "setns",
    "settimeofday",
    "swapon",
    "swapoff",
    "sysfs",
    "_sysctl",
    "umount2",
    "unshare",
    "uselib",
    "userfaultfd",
    "ustat",
];

/// The root file system; `None`: it cannot be had here.
fn debian() -> Option<&'static Path> {
    static ROOT: OnceLock<Option<PathBuf>> = OnceLock::new();
    ROOT.get_or_init(|| make_debian().inspect_err(|why| println!("skipped: {why}")).ok()).as_deref()
}

fn make_debian() -> Result<PathBuf, String> {
    if !rustix::process::geteuid().is_root() {
        return Err("who is not root cannot run runc with these settings".into());
    }
    for (program, option) in [("runc", "--version"), ("debootstrap", "--version")] {
        let tried = Command::new(program).arg(option).stdout(Stdio::null()).stderr(Stdio::null()).status();
        tried.map_err(|_| format!("{program} is not installed"))?;
    }
    // The programs are linked with this machine's C library, so the release is this machine's too.
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let codename = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    let codename = codename.ok_or("this is not Debian: there is no release to take the C library from")?;
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/oci");
    let base = std::env::var_os("PERENNIAL_OCI_ROOT").map_or(here, PathBuf::from);
    let root = base.join(codename);
    if root.exists() {
        return Ok(root);
    }
    fs::create_dir_all(&base).map_err(|e| format!("unable to make {}: {e}", base.display()))?;
    // Complete or not there.
    let beside = base.join(format!("{codename}.{}", std::process::id()));
    let mut debootstrap = Command::new("debootstrap");
    debootstrap.args(["--variant=minbase", codename]).arg(&beside);
    let made = made_quietly(&mut debootstrap).map_err(|e| format!("debootstrap {codename}: {e}"));
    let done = made.and_then(|()| fs::rename(&beside, &root).map_err(|e| e.to_string()));
    if done.is_err() {
        let _ = fs::remove_dir_all(&beside);
    }
    if root.exists() { Ok(root) } else { done.map(|()| root) }
}

fn made_quietly(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output().map_err(|e| e.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().to_owned()),
    }
}

/// An image with Perennial in it, and how it is run.
pub struct Image {
    pub dir: PathBuf,
    pub environment: Vec<String>,
    pub uid: u32,
    pub gid: u32,
    pub read_only: bool,
    pub run_options: Option<&'static str>,
    pub terminal: bool,
}

impl Image {
    /// Debian and Perennial.
    pub fn new() -> Option<Image> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let debian = debian()?;
        let name = format!("perennial-oci-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        for sub in ["upper", "work", "root", "state"] {
            fs::create_dir_all(dir.join(sub)).unwrap();
        }
        let layers =
            format!("lowerdir={},upperdir={1}/upper,workdir={1}/work", debian.display(), dir.display());
        let mut mount = Command::new("mount");
        mount.args(["-t", "overlay", "-o", &layers, "overlay"]).arg(dir.join("root"));
        if let Err(why) = made_quietly(&mut mount) {
            println!("skipped: no overlay file system can be mounted here ({why})");
            let _ = fs::remove_dir_all(&dir);
            return None;
        }
        let environment =
            ["PATH=/usr/local/bin:/usr/bin:/bin", "GREETING=hello", "S6_CMD_WAIT_FOR_SERVICES=1"];
        let environment = environment.map(str::to_owned).to_vec();
        let image =
            Image { dir, environment, uid: 0, gid: 0, read_only: false, run_options: None, terminal: false };
        let install = ["install", "--s6-names", "--usr-bin", "--root"];
        made_quietly(Command::new(PERENNIAL).args(install).arg(image.root())).unwrap();
        Some(image)
    }

    pub fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    pub fn file(&self, path: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        let mode = if text.starts_with("#!") { 0o755 } else { 0o644 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    pub fn user(mut self, uid: u32, gid: u32) -> Image {
        (self.uid, self.gid) = (uid, gid);
        self
    }

    fn config(&self, args: &[&str]) -> String {
        let list = |words: &[String]| {
            format!("[{}]", words.iter().map(|w| format!("{w:?}")).collect::<Vec<_>>().join(","))
        };
        let texts = |words: &[&str]| list(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
        let names: Vec<String> = CAPABILITIES.iter().map(|name| format!("CAP_{name}")).collect();
        let (all, own) = (list(&names), if self.uid == 0 { list(&names) } else { "[]".into() });
        let mut mounts = String::new();
        let mut mount = |to: &str, kind: &str, options: &[&str]| {
            let comma = if mounts.is_empty() { "" } else { "," };
            let options = texts(options);
            let _ = write!(
                mounts,
                r#"{comma}{{"destination":"{to}","type":"{kind}","source":"{kind}","options":{options}}}"#
            );
        };
        mount("/proc", "proc", &["nosuid", "noexec", "nodev"]);
        mount("/dev", "tmpfs", &["nosuid", "mode=755", "size=65536k"]);
        mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]);
        mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]);
        mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]);
        if let Some(options) = self.run_options {
            mount("/run", "tmpfs", &options.split(',').collect::<Vec<_>>());
        }
        let words: Vec<&str> = std::iter::once("/init").chain(args.iter().copied()).collect();
        format!(
            r#"{{"ociVersion":"1.0.2","process":{{"terminal":{terminal},"user":{{"uid":{uid},"gid":{gid}}},"args":{args},
            "env":{env},"cwd":"/","noNewPrivileges":true,
            "capabilities":{{"bounding":{all},"effective":{own},"permitted":{own}}}}},
            "root":{{"path":"root","readonly":{read_only}}},"hostname":"container","mounts":[{mounts}],
            "linux":{{"namespaces":[{{"type":"pid"}},{{"type":"mount"}},{{"type":"ipc"}},{{"type":"uts"}},{{"type":"network"}}],
            "maskedPaths":{masked},"readonlyPaths":{ro},"seccomp":{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
            {{"names":{forbidden},"action":"SCMP_ACT_ERRNO"}},
            {{"names":["clone3"],"action":"SCMP_ACT_ERRNO","errnoRet":38}}]}}}}}}"#,
            terminal = self.terminal,
            uid = self.uid,
            gid = self.gid,
            args = texts(&words),
            env = list(&self.environment),
            read_only = self.read_only,
            masked = texts(&MASKED),
            ro = texts(&READ_ONLY),
            forbidden = texts(&FORBIDDEN),
        )
    }

    /// Runs it with a command; the words of `runc` before it.
    pub fn boot(self, command: &[&str]) -> Container {
        fs::write(self.dir.join("config.json"), self.config(command)).unwrap();
        let output = fs::File::create(self.dir.join("output")).unwrap();
        let id = self.dir.file_name().unwrap().to_str().unwrap().to_owned();
        let runc = format!("exec runc --root {0}/state run --bundle {0} {id}", self.dir.display());
        // With a terminal, runc wants one itself.
        let script = if self.terminal { format!("exec script -qec '{runc}' /dev/null") } else { runc };
        let child = Command::new("sh")
            .args(["-c", &script])
            .stdin(if self.terminal { Stdio::piped() } else { Stdio::null() })
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        Container { child, id, image: self }
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l".as_ref(), self.root().as_os_str()]).status();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

pub struct Container {
    pub child: Child,
    id: String,
    image: Image,
}

impl Container {
    pub fn said(&self) -> String {
        let bytes = fs::read(self.image.dir.join("output")).unwrap();
        String::from_utf8_lossy(&bytes).replace("\r\n", "\n")
    }

    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        let began = Instant::now();
        while !self.said().contains(text) {
            let over = self.child.try_wait().unwrap().is_some() && !self.said().contains(text);
            assert!(!over && began.elapsed() < PATIENCE, "not printed: {text:?}; but:\n{}", self.said());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn runc(&self, words: &[&str]) -> Command {
        let mut command = Command::new("runc");
        command.arg("--root").arg(self.image.dir.join("state")).args(words);
        command
    }

    /// What a program prints that is executed in it, as `docker exec` does.
    pub fn shows(&self, words: &[&str]) -> String {
        let output = self.runc(&["exec", &self.id]).args(words).output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    pub fn stop(self) -> (i32, String) {
        let killed = self.runc(&["kill", &self.id, "TERM"]).status().unwrap();
        assert!(killed.success());
        self.end()
    }

    /// Waits for its end: exit code, and what it has printed.
    pub fn end(mut self) -> (i32, String) {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap());
                return (code, self.said());
            }
            assert!(began.elapsed() < PATIENCE, "does not end; printed:\n{}", self.said());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.runc(&["kill", &self.id, "KILL"]).stderr(Stdio::null()).status();
        let _ = self.child.wait();
        let _ = self.runc(&["delete", "--force", &self.id]).stderr(Stdio::null()).status();
    }
}
