//! A wall clock for one process: what it reads as `CLOCK_REALTIME` is moved, and nobody else's is.
//!
//! Programs read the clock in code that the kernel maps into them, the vDSO, and so do ours: a preloaded library
//! would not be asked, and a tracer of system calls would see none. But the code can be written over, as a debugger
//! does for a breakpoint. In its place comes a function that makes the system call and adds a number to the seconds;
//! that number is in the process's memory and can be changed at any time. Its other clocks are as they are.
//!
//! A child that is made by fork has the same clock. One that executes a program has the machine's again.

use super::{Running, World, kill, stat, until};
use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::process::Signal;
use rustix::time::{Itimerspec, TimerfdTimerFlags, Timespec, timerfd_settime};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

/// `clock_gettime` as a system call: its number, the call, and for CLOCK_REALTIME the addition of [`OFFSET`].
const CODE: [u8; 26] = [
    0xb8, 228, 0, 0, 0, // mov eax, 228
    0x0f, 0x05, // syscall
    0x85, 0xff, // test edi, edi
    0x75, 0x0e, // jne to the end
    0x85, 0xc0, // test eax, eax
    0x75, 0x0a, // jne to the end
    0x48, 0x8b, 0x0d, 0x04, 0, 0, 0, // mov rcx, [rip + 4]
    0x48, 0x01, 0x0e, // add [rsi], rcx
    0xc3, // ret
];

/// Where in it the number is that is added.
const OFFSET: u64 = CODE.len() as u64;

/// Seconds since 1970, now.
pub fn today() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

/// Whether clocks can be moved here.
pub fn can_be_moved() -> bool {
    cfg!(target_arch = "x86_64") && vdso(std::process::id() as i32).is_some()
}

/// Sets the wall clock of a process: from now on it reads `to`, in seconds since 1970, and goes on from there.
pub fn set(pid: i32, to: i64) {
    let (memory, at) = vdso(pid).expect("the process has a vDSO that can be written");
    let mut code = [0u8; CODE.len()];
    memory.read_exact_at(&mut code, at).unwrap();
    if code != CODE {
        memory.write_all_at(&CODE, at).unwrap();
    }
    memory.write_all_at(&(to - today()).to_ne_bytes(), at + OFFSET).unwrap();
}

/// The same, and tells the process as the kernel tells whoever waits for the clock to be set (`TFD_TIMER_CANCEL_ON_SET`):
/// its timer becomes readable.
pub fn set_and_tell(pid: i32, to: i64) {
    set(pid, to);
    let pidfd = rustix::process::pidfd_open(
        rustix::process::Pid::from_raw(pid).unwrap(),
        rustix::process::PidfdFlags::empty(),
    );
    let pidfd = pidfd.unwrap();
    for fd in fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten() {
        let is_timer = fs::read_link(fd.path()).is_ok_and(|to| to.to_string_lossy().contains("[timerfd]"));
        if !is_timer {
            continue;
        }
        let number = fd.file_name().to_string_lossy().parse().unwrap();
        let flags = rustix::process::PidfdGetfdFlags::empty();
        let timer = rustix::process::pidfd_getfd(&pidfd, number, flags).unwrap();
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let past = Timespec { tv_sec: 1, tv_nsec: 0 };
        let due = Itimerspec { it_interval: zero, it_value: past };
        timerfd_settime(&timer, TimerfdTimerFlags::ABSTIME, &due).unwrap();
    }
}

/// Starts a program whose wall clock is at `to` when it begins.
pub fn start(w: &World, to: i64, program: &str, args: &[&str]) -> Running {
    let like = w.command(w.programs(), program);
    let mut command = Command::new("/bin/sh");
    command.args(["-c", r#"kill -STOP $$; exec "$0" "$@""#]).arg(like.get_program()).args(args);
    command.envs(like.get_envs().filter_map(|(k, v)| Some((k, v?)))).stdin(Stdio::null());
    let running = Running::new(command, format!("{program} {args:?}"));
    let pid = Pid::from_raw(running.pid());
    until("it waits", || stat(running.pid(), 3).as_deref() == Some("T"));
    ptrace::seize(pid, Options::PTRACE_O_TRACEEXEC).unwrap();
    kill(running.pid(), Signal::CONT);
    loop {
        match waitpid(pid, Some(WaitPidFlag::__WALL)).unwrap() {
            WaitStatus::PtraceEvent(_, _, event) if event == ptrace::Event::PTRACE_EVENT_EXEC as i32 => break,
            WaitStatus::Stopped(_, signal) => ptrace::cont(pid, signal).unwrap(),
            WaitStatus::PtraceEvent(..) => ptrace::cont(pid, None).unwrap(),
            other => panic!("{other:?} instead of an exec"),
        }
    }
    set(running.pid(), to);
    ptrace::detach(pid, None).unwrap();
    running
}

/// The memory of a process, and where in it its `clock_gettime` is, if it has one of a sufficient length.
fn vdso(pid: i32) -> Option<(File, u64)> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    let line = maps.lines().find(|line| line.ends_with("[vdso]"))?;
    let (start, rest) = line.split_once('-')?;
    let (start, end) =
        (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(rest.split(' ').next()?, 16).ok()?);
    let memory = OpenOptions::new().read(true).write(true).open(format!("/proc/{pid}/mem")).ok()?;
    let mut image = vec![0; (end - start) as usize];
    memory.read_exact_at(&mut image, start).ok()?;
    let function = symbol(&image, b"__vdso_clock_gettime")?;
    Some((memory, start + function))
}

/// The place of a function in an ELF image of 64 bits.
fn symbol(image: &[u8], name: &[u8]) -> Option<u64> {
    let number = |at: usize, len: usize| {
        let bytes = image.get(at..at + len)?;
        Some(bytes.iter().rev().fold(0usize, |n, byte| n << 8 | *byte as usize))
    };
    let (headers, size, count) = (number(40, 8)?, number(58, 2)?, number(60, 2)?);
    // Type, place in the file, length, and the section that it refers to.
    let section = |n: usize| {
        let at = headers + n * size;
        Some((number(at + 4, 4)?, number(at + 24, 8)?, number(at + 32, 8)?, number(at + 40, 4)?))
    };
    const DYNSYM: usize = 11;
    let (_, symbols, len, strings) = (0..count).filter_map(section).find(|(kind, ..)| *kind == DYNSYM)?;
    let (_, strings, ..) = section(strings)?;
    let found = (symbols..symbols + len).step_by(24).find(|at| {
        let is_name =
            |at: usize| image.get(at..).is_some_and(|text| text.starts_with(name) && text[name.len()] == 0);
        number(*at, 4).is_some_and(|offset| is_name(strings + offset))
    })?;
    let (value, len) = (number(found + 8, 8)?, number(found + 16, 8)?);
    (len >= CODE.len() + 8).then_some(value as u64)
}
