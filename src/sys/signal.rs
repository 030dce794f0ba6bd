//! Signals: blocked for good and read from a descriptor, so that no handler ever runs.
//!
//! `signal-hook`'s self-pipe was considered. With signalfd there is no handler that a child sharing our
//! memory could run, no `EINTR`, and restoring a child's signals is one system call. It exists since Linux
//! 2.6.22 and in gVisor.

use super::{Errno, check, last_errno};
use crate::process::{Pid, Signal};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// Proof that all signals are blocked. Children are made only with it at hand: see [`super::spawn`].
#[derive(Clone, Copy)]
pub struct Blocked(());

/// Blocks all signals of this (single-threaded) process and gives SIGPIPE its default back, which the Rust
/// runtime had set to "ignored": a blocked SIGPIPE turns into EPIPE just as well, and children inherit
/// dispositions but not what is pending.
pub fn block_all() -> Blocked {
    set_mask(libc::SIG_BLOCK, &full_set());
    set_default(Signal::PIPE);
    Blocked(())
}

/// Which signals are blocked.
pub struct Mask(libc::sigset_t);

/// Those that are now: for a program that blocks them for a while and must hand on what it got.
pub fn mask() -> Mask {
    let mut old = empty_set();
    // SAFETY: a null pointer asks for no change; the set is ours to be written.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, std::ptr::null(), &mut old) };
    Mask(old)
}

impl Mask {
    /// Makes it so again.
    pub fn restore(&self) {
        set_mask(libc::SIG_SETMASK, &self.0);
    }
}

/// Undoes [`block_all`] for another program that we are about to become. What came for us, or was only the other
/// side of an EPIPE, and was not dealt with any more is forgotten: it must not end that program.
pub fn hand_over() {
    let mut pending = empty_set();
    // SAFETY: the set is ours to be written.
    unsafe { libc::sigpending(&mut pending) };
    for number in (1..=64).filter(|n| *n != libc::SIGCHLD) {
        // SAFETY: the set is initialised; a number that is no signal is in no set.
        if unsafe { libc::sigismember(&pending, number) } == 1 {
            // To ignore it takes it off the list.
            ignore(Signal(number as u8));
            set_default(Signal(number as u8));
        }
    }
    unblock_all();
}

/// Blocks all signals for a while, and touches nothing else: for a program that starts another in between and
/// must be afterwards what it was before.
pub fn hold() -> (Mask, Blocked) {
    let before = mask();
    set_mask(libc::SIG_BLOCK, &full_set());
    (before, Blocked(()))
}

/// Undoes [`block_all`] for a process that goes on without our loop. Only a system call, and none that sets errno:
/// its memory may be its parent's.
pub fn unblock_all() {
    let none = 0u64;
    let arguments =
        [libc::SIG_SETMASK as usize, (&raw const none).expose_provenance(), 0, size_of::<u64>(), 0];
    // SAFETY: the kernel's set of signals has 64 bits; it is only read, and no old set is asked for.
    let _ = unsafe { super::raw::call(libc::SYS_rt_sigprocmask, arguments) };
}

/// Lets one signal through again, to do what it does by default.
pub fn allow(signal: Signal) {
    set_mask(libc::SIG_UNBLOCK, &only(signal));
}

/// Takes [`allow`] back.
pub fn forbid(signal: Signal) {
    set_mask(libc::SIG_BLOCK, &only(signal));
}

fn only(signal: Signal) -> libc::sigset_t {
    let mut set = empty_set();
    // SAFETY: the set is initialised; a number that is no signal is refused.
    unsafe { libc::sigaddset(&mut set, signal.0 as libc::c_int) };
    set
}

/// Restores the default disposition of one signal.
pub fn set_default(signal: Signal) {
    // SAFETY: SIG_DFL is not a function of ours; a default disposition can run no code.
    unsafe { libc::signal(signal.0 as libc::c_int, libc::SIG_DFL) };
}

/// Ignores one signal.
pub fn ignore(signal: Signal) {
    // SAFETY: SIG_IGN is not a function of ours; an ignored signal runs no code.
    unsafe { libc::signal(signal.0 as libc::c_int, libc::SIG_IGN) };
}

fn set_mask(how: libc::c_int, set: &libc::sigset_t) {
    // SAFETY: the set is initialised and only read; a null pointer asks for no old set.
    unsafe { libc::sigprocmask(how, set, std::ptr::null_mut()) };
}

fn full_set() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigfillset initialises the set it is given.
    unsafe {
        libc::sigfillset(set.as_mut_ptr());
        set.assume_init()
    }
}

fn empty_set() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set it is given.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        set.assume_init()
    }
}

/// Does something, and has the system call that it waits in fail with EINTR once the time is up.
pub fn interrupted_after<T>(limit: std::time::Duration, something: impl FnOnce() -> T) -> T {
    extern "C" fn nothing(_: libc::c_int) {}
    let micros = |d: std::time::Duration| libc::timeval {
        tv_sec: d.as_secs() as libc::time_t,
        tv_usec: d.subsec_micros().into(),
    };
    // Again and again: the first may come just before the call.
    let again = std::time::Duration::from_millis(10);
    let timer = libc::itimerval { it_interval: micros(again), it_value: micros(limit) };
    // SAFETY: the handler does nothing, the structures are plain data that is only read. Zeroed flags mean
    // that a call is not begun again.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
        libc::sigaction(libc::SIGALRM, &action, std::ptr::null_mut());
        libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut());
    }
    let result = something();
    // SAFETY: as above; a zeroed timer is none.
    unsafe {
        libc::setitimer(libc::ITIMER_REAL, &std::mem::zeroed(), std::ptr::null_mut());
    }
    set_default(Signal::ALRM);
    result
}

/// Blocks these signals and no others, and opens a descriptor for them. [`Mask::restore`] undoes it.
pub fn take_over(signals: &[Signal]) -> Result<(Mask, SignalFd), Errno> {
    let (before, mut set) = (mask(), empty_set());
    // SAFETY: the set is initialised; numbers that are no signals are refused. signalfd makes a new
    // descriptor, which nobody else owns.
    unsafe {
        for signal in signals {
            libc::sigaddset(&mut set, signal.0 as libc::c_int);
        }
        set_mask(libc::SIG_BLOCK, &set);
        let fd = check(libc::signalfd(-1, &set, libc::SFD_CLOEXEC))?;
        Ok((before, SignalFd(OwnedFd::from_raw_fd(fd))))
    }
}

/// All blocked signals as a descriptor to poll. Non-blocking, close-on-exec.
pub struct SignalFd(OwnedFd);

impl SignalFd {
    /// Opens it. SIGPIPE is left out: it only means that an EPIPE has been returned already.
    pub fn open(_: Blocked) -> Result<SignalFd, Errno> {
        let mut set = full_set();
        // SAFETY: the set is initialised. signalfd makes a new descriptor, which nobody else owns.
        unsafe {
            libc::sigdelset(&mut set, libc::SIGPIPE);
            let fd = check(libc::signalfd(-1, &set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC))?;
            Ok(SignalFd(OwnedFd::from_raw_fd(fd)))
        }
    }

    /// The next pending signal, if any.
    pub fn next(&self) -> Option<Signal> {
        self.next_from().map(|(signal, _)| signal)
    }

    /// The next pending signal, and who sent it; `None` for the kernel and for other PID namespaces.
    pub fn next_from(&self) -> Option<(Signal, Option<Pid>)> {
        let mut info = MaybeUninit::<libc::signalfd_siginfo>::uninit();
        let size = size_of::<libc::signalfd_siginfo>();
        // SAFETY: the kernel writes at most `size` bytes to the structure.
        let got = unsafe { libc::read(self.0.as_raw_fd(), info.as_mut_ptr().cast(), size) };
        if got != size as isize {
            return None;
        }
        // SAFETY: the kernel filled the whole structure, as the length says.
        let info = unsafe { info.assume_init() };
        Some((Signal(info.ssi_signo as u8), Pid::from_raw(info.ssi_pid as i32)))
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Who gets a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// One process.
    Process(Pid),
    /// The process group that this process leads.
    Group(Pid),
    /// Every process we may signal, except pid 1 and, on Linux, ourselves.
    Everyone,
}

/// Sends a signal.
pub fn send(target: Target, signal: Signal) -> Result<(), Errno> {
    let number = match target {
        Target::Process(pid) => pid.raw(),
        Target::Group(pid) => -pid.raw(),
        Target::Everyone => -1,
    };
    // SAFETY: kill touches no memory.
    check(unsafe { libc::kill(number, signal.0 as libc::c_int) }).map(drop)
}

/// Sends a signal to the very process behind a pidfd, whatever became of its pid.
pub fn send_pidfd(pidfd: impl AsFd, signal: Signal) -> Result<(), Errno> {
    let fd = pidfd.as_fd().as_raw_fd();
    // SAFETY: a null siginfo is allowed; no other memory is touched.
    let ret = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal.0 as libc::c_int, 0usize, 0) };
    if ret < 0 { Err(last_errno()) } else { Ok(()) }
}

/// Whether any process is left that [`Target::Everyone`] would reach.
pub fn anyone_left() -> bool {
    // SAFETY: signal 0 is only a test; kill touches no memory.
    unsafe { libc::kill(-1, 0) == 0 || last_errno() != Errno::SRCH }
}
