//! Making processes.
//!
//! Two forms. [`Spawn::start`] runs a program: the child shares our memory and we wait until it has executed
//! (what vfork does), so that nothing is copied, a failure comes back as step and errno, and everything that
//! could fail has failed before we go on. [`Spawn::start_while`] does something else meanwhile: a third of what a
//! start costs is spent in the child, which another processor may do. [`fork`] goes on in a copy of ourselves.
//!
//! Facts that shape the first form:
//!
//! - *The pid is written by the kernel* ([`Spawn::record`], `CLONE_PARENT_SETTID`) before the child runs its
//!   first instruction. With the word in shared memory there is no instant at which we could be killed and
//!   leave a child that nobody knows of.
//! - *Descriptors are not copied.* A supervisor of a thousand services holds thousands; copying the table
//!   for each child and closing it again at exec costs 200 µs and more. The child shares our table
//!   (`CLONE_FILES`) and then asks for a private copy of its low end only (`close_range` with
//!   `CLOSE_RANGE_UNSHARE`). So what a child is to have must lie in the window below 16, which we keep for
//!   this ([`reserve_window`]). Before Linux 5.9 the table is copied.
//! - *A shared table must not grow.* The kernel then waits until no processor can still be reading the old one:
//!   10 to 30 ms. Whoever opens something while the child is on its way has room for it ([`make_room`]).
//! - *Signals are blocked* in us and so in the child, until it has its own table of handlers: none runs here.

use super::attributes::Attributes;
use super::signal::Blocked;
use super::{Errno, check, env, process, raw};
use crate::process::Pid;
use rustix::fs::{Mode, OFlags};
use std::cell::UnsafeCell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU32, Ordering};

/// The first descriptor that is not inherited by a child whatever happens. Those from 3 up to here are the
/// window.
const WINDOW_END: RawFd = 16;

/// The last number of the window always holds the placeholder; what is handed over lies below it.
const PLACEHOLDER: RawFd = WINDOW_END - 1;

/// The numbers of the window that are used for handing over.
const SLOTS: std::ops::Range<RawFd> = 3..PLACEHOLDER;

/// How many descriptors a child can be given.
pub const MAX_FDS: usize = (SLOTS.end - SLOTS.start) as usize;

/// Numbers below this have a place in our table of descriptors.
static ROOM: AtomicI32 = AtomicI32::new(0);

/// So many descriptors may be opened while a child is on its way.
const MOST_MEANWHILE: RawFd = 64;

/// `close_range(2)` with CLOSE_RANGE_UNSHARE works here.
static CAN_UNSHARE: AtomicBool = AtomicBool::new(true);

/// Fills the window with placeholders, so that what we open from now on lies above it, and sees to it that
/// no descriptor above 2 that we inherited reaches a child. Those that we did inherit stay open; whoever
/// wants one moves it out of the window first ([`above_window`]).
pub fn reserve_window() -> Result<(), Errno> {
    const CLOSE_RANGE_CLOEXEC: c_int = 4;
    // SAFETY: this only sets flags of descriptors.
    let marked = unsafe { libc::syscall(libc::SYS_close_range, 3, c_int::MAX, CLOSE_RANGE_CLOEXEC) };
    for n in 0..WINDOW_END {
        // SAFETY: F_GETFD tells whether the number is open; the descriptor is not used otherwise.
        let open = unsafe { libc::fcntl(n, libc::F_GETFD) };
        if open < 0 {
            // "/" is there even where /dev/null is not; O_PATH makes it good for nothing.
            let flags = if n < 3 { OFlags::RDWR } else { OFlags::PATH | OFlags::CLOEXEC };
            let what = if n < 3 { c"/dev/null" } else { c"/" };
            match rustix::fs::open(what, flags, Mode::empty()) {
                Ok(fd) => place(fd, n)?,
                Err(_) if n < 3 => place(rustix::fs::open(c"/", OFlags::PATH, Mode::empty())?, n)?,
                Err(e) => return Err(e),
            }
        } else if n >= 3 && marked < 0 {
            // SAFETY: only a flag is set.
            unsafe { libc::fcntl(n, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
    Ok(())
}

/// Closes what was inherited in the window and fills it with placeholders. Only for a forked child that has
/// no use for what it was not given to keep.
pub fn clear_window() -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let placeholder = rustix::fs::open(c"/", flags, Mode::empty())?;
    for n in SLOTS.start..=PLACEHOLDER {
        if placeholder.as_raw_fd() != n {
            // SAFETY: numbers of the window have no owner in Rust, except the placeholder's, which is left.
            check(unsafe { libc::dup3(placeholder.as_raw_fd(), n, libc::O_CLOEXEC) })?;
        }
    }
    if SLOTS.contains(&placeholder.as_raw_fd()) || placeholder.as_raw_fd() == PLACEHOLDER {
        let _ = placeholder.into_raw_fd();
    }
    Ok(())
}

/// Leaves `fd` open as number `n`.
fn place(fd: OwnedFd, n: RawFd) -> Result<(), Errno> {
    if fd.as_raw_fd() == n {
        let _ = fd.into_raw_fd();
        return Ok(());
    }
    let flags = if n < 3 { 0 } else { libc::O_CLOEXEC };
    // SAFETY: the caller saw that `n` is not open, so no owner loses a descriptor.
    check(unsafe { libc::dup3(fd.as_raw_fd(), n, flags) }).map(drop)
}

/// Takes over an inherited descriptor and moves it out of the window. `None`: it is not open.
pub fn above_window(n: RawFd) -> Option<OwnedFd> {
    // SAFETY: F_DUPFD only reads the table; the new descriptor has no other owner.
    let copy = unsafe {
        let copy = check(libc::fcntl(n, libc::F_DUPFD_CLOEXEC, WINDOW_END)).ok()?;
        OwnedFd::from_raw_fd(copy)
    };
    // SAFETY: descriptors that were inherited by number have no owner in Rust.
    unsafe { libc::close(n) };
    Some(copy)
}

/// Where a start failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Making the process.
    Fork,
    /// Going to its directory.
    Directory,
    /// Placing its descriptors.
    Descriptors,
    /// Opening its lock file.
    Lock,
    /// Setting the limit of this resource, the kernel's number.
    Limit(u8),
    /// Setting its niceness.
    Nice,
    /// Setting its `oom_score_adj`.
    OomScore,
    /// Becoming its user.
    User,
    /// Executing it.
    Exec,
}

/// A start that failed: nothing is left of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpawnError {
    /// Where.
    pub step: Step,
    /// Why.
    pub errno: Errno,
}

/// A terminated array of C strings, as exec wants it.
pub struct CArray {
    strings: Vec<CString>,
    pointers: Vec<*const c_char>,
    /// Strings that the child completes: what they begin with, and the room that they have.
    own: Vec<(usize, Box<[AtomicU8; OWN]>)>,
}

/// Room for the name of a variable, `=`, a pid and a NUL.
const OWN: usize = 32;

impl CArray {
    /// Of these strings.
    pub fn new(strings: Vec<CString>) -> CArray {
        let pointers = strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect();
        CArray { strings, pointers, own: Vec::new() }
    }

    /// The same, and each of these (`NAME=`) with the pid that the child has.
    pub fn with_own_pid(strings: Vec<CString>, names: &[&str]) -> CArray {
        let mut array = CArray::new(strings);
        array.pointers.pop();
        for name in names {
            let mut bytes = name.bytes();
            let room = Box::new(std::array::from_fn(|_| AtomicU8::new(bytes.next().unwrap_or(0))));
            array.pointers.push(room.as_ptr().cast());
            array.own.push((name.len(), room));
        }
        array.pointers.push(std::ptr::null());
        array
    }

    /// In the child: writes its pid. Allocates nothing.
    fn complete(&self, pid: usize) {
        let (mut digits, mut left, mut count) = ([0u8; 20], pid, 0);
        while left > 0 || count == 0 {
            digits[count] = b'0' + (left % 10) as u8;
            (left, count) = (left / 10, count + 1);
        }
        for (len, room) in &self.own {
            let places = room.iter().skip(*len);
            places
                .zip(digits[..count].iter().rev())
                .for_each(|(to, digit)| to.store(*digit, Ordering::Relaxed));
        }
    }

    /// Our environment, with one variable set in it.
    pub fn environment_with(name: &CStr, variable: CString) -> CArray {
        let is_it =
            |s: &&CStr| s.to_bytes().strip_prefix(name.to_bytes()).is_some_and(|r| r.starts_with(b"="));
        let others = env::strings().filter(|s| !is_it(s)).map(CStr::as_ptr);
        let pointers = others.chain([variable.as_ptr(), std::ptr::null()]).collect();
        CArray { strings: vec![variable], pointers, own: Vec::new() }
    }

    /// The strings that are its own.
    pub fn strings(&self) -> &[CString] {
        &self.strings
    }
}

/// In [`Spawn::record`]: the child that was made has never become what it was to be, and is dead or about to be.
pub const FAILED: u32 = u32::MAX;

/// A program to be started. Set what differs from the default, then [`start`](Spawn::start).
#[derive(Clone, Copy)]
pub struct Spawn<'a> {
    /// Paths to try in turn, the first that exists wins. One, unless a search path was searched.
    pub programs: &'a [CString],
    /// Its arguments, the name first.
    pub argv: &'a CArray,
    /// Its environment; ours by default.
    pub env: Option<&'a CArray>,
    /// Its working directory; ours by default.
    pub dir: Option<BorrowedFd<'a>>,
    /// Descriptors and the numbers they get. At most [`MAX_FDS`].
    pub fds: &'a [(BorrowedFd<'a>, RawFd)],
    /// It has every descriptor of ours that is not to be closed on exec, whatever its number.
    pub all_descriptors: bool,
    /// Opened for writing in `dir`, locked after waiting for the lock as long as it takes, and left open
    /// under this number. The child does not share our memory then: we must not wait with it.
    pub lock: Option<(&'a CStr, RawFd)>,
    /// In a session of its own.
    pub new_session: bool,
    /// Orphans among its descendants become its children.
    pub subreaper: bool,
    /// In a PID namespace of its own.
    pub new_pid_namespace: bool,
    /// Where the kernel writes the pid before the child runs. Where the child shares our memory and cannot be
    /// executed it says so here ([`FAILED`]), for those who come after us: we may be dead by then.
    pub record: Option<&'a AtomicU32>,
    /// Its descriptor 0 becomes its controlling terminal, if it is one.
    pub controlling_terminal: bool,
    /// What else it is given; inherited by default.
    pub attributes: Option<&'a Attributes>,
    /// The signals that are blocked in it; none by default.
    pub mask: Option<&'a super::signal::Mask>,
}

impl<'a> Spawn<'a> {
    /// `programs` with `argv` and nothing else special.
    pub fn new(programs: &'a [CString], argv: &'a CArray) -> Spawn<'a> {
        Spawn {
            programs,
            argv,
            env: None,
            dir: None,
            fds: &[],
            all_descriptors: false,
            lock: None,
            new_session: false,
            subreaper: false,
            new_pid_namespace: false,
            record: None,
            controlling_terminal: false,
            attributes: None,
            mask: None,
        }
    }

    /// Starts it. When this returns, the program has been executed, or (with a lock) the child is on its
    /// way to it.
    pub fn start(&self, _: Blocked) -> Result<Pid, SpawnError> {
        self.start_now(None)
    }

    /// The same, and does `meanwhile` once while the child is on its way, where that can be. It must start nothing
    /// itself.
    pub fn start_while(&self, _: Blocked, meanwhile: Option<&mut dyn FnMut()>) -> Result<Pid, SpawnError> {
        self.start_now(meanwhile)
    }

    fn start_now(&self, meanwhile: Option<&mut dyn FnMut()>) -> Result<Pid, SpawnError> {
        let share = self.lock.is_none();
        let unshare = share && !self.all_descriptors && CAN_UNSHARE.load(Ordering::Relaxed);
        let window = Window::fill(self.fds).map_err(|errno| SpawnError { step: Step::Descriptors, errno })?;
        // What gives a child its attributes sets errno where it fails, which we would share.
        let alike = self.attributes.is_none() && self.mask.is_none();
        let meanwhile = meanwhile.filter(|_| share && alike && raw::HERE);
        if unshare && meanwhile.is_some() {
            make_room(self.dir.map_or(WINDOW_END, |dir| dir.as_raw_fd()));
        }
        let mut flags = libc::SIGCHLD | libc::CLONE_PARENT_SETTID;
        if share {
            flags |= libc::CLONE_VM;
            flags |= if meanwhile.is_some() { libc::CLONE_CHILD_CLEARTID } else { libc::CLONE_VFORK };
        }
        if unshare {
            flags |= libc::CLONE_FILES;
        }
        if self.new_pid_namespace {
            flags |= libc::CLONE_NEWPID;
        }
        let own_record = AtomicU32::new(0);
        let record = self.record.unwrap_or(&own_record);
        let child = Child { spawn: self, window: &window, unshare, failure: UnsafeCell::new(None) };
        let on_its_way = AtomicU32::new(1);
        let pid = STACK.with_top(|top| {
            // SAFETY: the child runs `enter` on a stack of its own. Either it has a copy of our memory
            // (no CLONE_VM), or we do not leave `with_top` until it has executed or exited: CLONE_VFORK keeps us
            // in this call, or `Arrival` in its drop. So `child`, the stack and everything borrowed stay valid and
            // nobody else touches them. `enter` makes only system calls, and none that sets errno. The kernel
            // writes the pid to an atomic, and clears another one when the child no longer uses our memory.
            let ret = unsafe {
                libc::clone(
                    enter,
                    top,
                    flags,
                    (&raw const child).cast_mut().cast::<c_void>(),
                    record.as_ptr(),
                    std::ptr::null_mut::<c_void>(),
                    on_its_way.as_ptr(),
                )
            };
            let pid = check(ret).map_err(|errno| SpawnError { step: Step::Fork, errno })?;
            if let Some(meanwhile) = meanwhile {
                let _arrival = Arrival(&on_its_way);
                meanwhile();
            }
            Ok(pid)
        })?;
        let pid = Pid::from_raw(pid).ok_or(SpawnError { step: Step::Fork, errno: Errno::SRCH })?;
        let Some(failure) = child.failure.into_inner() else { return Ok(pid) };
        // It said why and exited: nobody else shall see it.
        super::wait::reap_pid(pid);
        record.store(0, Ordering::Relaxed);
        if failure == NO_CLOSE_RANGE {
            CAN_UNSHARE.store(false, Ordering::Relaxed);
            return self.start_now(None);
        }
        Err(failure)
    }
}

/// Lets our table of descriptors grow now, as long as it is ours alone, if it might have to soon. `near`: a number
/// that was given lately; the next ones follow it.
fn make_room(near: RawFd) {
    let needed = near.saturating_add(MOST_MEANWHILE);
    if needed <= ROOM.load(Ordering::Relaxed) {
        return;
    }
    // Twice what is needed, so that it is seldom done. Where the limit of open files is lower, what grows then does.
    let room = (needed as u32).next_power_of_two().saturating_mul(2).min(1 << 30) as RawFd;
    ROOM.store(room, Ordering::Relaxed);
    // SAFETY: the new descriptor has no owner; it is closed where it was made.
    unsafe {
        let highest = libc::fcntl(PLACEHOLDER, libc::F_DUPFD_CLOEXEC, room - 1);
        if highest >= 0 {
            libc::close(highest);
        }
    }
}

/// Waits, when it is dropped, until the kernel has cleared the word: the child has executed or exited.
struct Arrival<'a>(&'a AtomicU32);

impl Drop for Arrival<'_> {
    fn drop(&mut self) {
        use rustix::thread::futex;
        while self.0.load(Ordering::Acquire) != 0 {
            // Not private: the kernel wakes whoever waits at the address, from the child.
            let _ = futex::wait(self.0, futex::Flags::empty(), 1, None);
        }
    }
}

/// What lies in the window for one child: slot and final number of each descriptor. On drop the window
/// holds placeholders again, so that no copy of ours keeps a pipe open.
struct Window {
    moves: [(RawFd, RawFd); MAX_FDS],
    used: usize,
}

impl Window {
    /// Copies descriptors into the window. One whose number lies in the window goes there at once, so that
    /// placing one never overwrites another.
    fn fill(fds: &[(BorrowedFd<'_>, RawFd)]) -> Result<Window, Errno> {
        let mut window = Window { moves: [(0, 0); MAX_FDS], used: 0 };
        let mut free = SLOTS.filter(|slot| fds.iter().all(|(_, number)| number != slot));
        for (fd, number) in fds {
            let slot = if SLOTS.contains(number) { *number } else { free.next().ok_or(Errno::MFILE)? };
            // SAFETY: numbers of the window have no owner in Rust.
            check(unsafe { libc::dup3(fd.as_raw_fd(), slot, libc::O_CLOEXEC) })?;
            window.moves[window.used] = (slot, *number);
            window.used += 1;
        }
        Ok(window)
    }

    fn moves(&self) -> &[(RawFd, RawFd)] {
        &self.moves[..self.used]
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        for (slot, _) in self.moves() {
            // SAFETY: numbers of the window have no owner in Rust.
            unsafe { libc::dup3(PLACEHOLDER, *slot, libc::O_CLOEXEC) };
        }
    }
}

/// A failure that means "try again without".
const NO_CLOSE_RANGE: SpawnError = SpawnError { step: Step::Fork, errno: Errno::NOSYS };

/// What the child needs to know, and where it says what went wrong.
struct Child<'a> {
    spawn: &'a Spawn<'a>,
    window: &'a Window,
    unshare: bool,
    failure: UnsafeCell<Option<SpawnError>>,
}

/// The child's first function. Only system calls from here on: the memory is our parent's.
extern "C" fn enter(child: *mut c_void) -> c_int {
    // SAFETY: `start` passes a valid Child that outlives us (or our copy of it) and does not touch it.
    let child = unsafe { &*child.cast::<Child<'_>>() };
    let failure = match run(child) {
        Ok(never) => match never {},
        Err(failure) => failure,
    };
    if child.spawn.lock.is_none()
        && let Some(record) = child.spawn.record
    {
        record.store(FAILED, Ordering::Release);
    }
    // SAFETY: the parent waits for our exit and reads this only then; without shared memory it is a copy.
    unsafe { *child.failure.get() = Some(failure) };
    // SAFETY: _exit runs no handler of the memory we share.
    unsafe { libc::_exit(127) }
}

enum Never {}

fn run(child: &Child<'_>) -> Result<Never, SpawnError> {
    let spawn = child.spawn;
    let at = |step| move |errno| SpawnError { step, errno };
    // SAFETY: each of these is one system call on integers, on descriptors that are open, or on C strings
    // and structures that `spawn` borrows; none allocates, none sets errno.
    unsafe {
        if spawn.new_session {
            let _ = raw::call(libc::SYS_setsid, [0; 5]);
        }
        if spawn.subreaper {
            let _ = raw::call(libc::SYS_prctl, [libc::PR_SET_CHILD_SUBREAPER as usize, 1, 0, 0, 0]);
        }
        if let Some(dir) = spawn.dir {
            let dir = dir.as_raw_fd() as usize;
            raw::call(libc::SYS_fchdir, [dir, 0, 0, 0, 0]).map_err(at(Step::Directory))?;
        }
        if child.unshare {
            const CLOSE_RANGE_UNSHARE: usize = 2;
            let range = [WINDOW_END as usize, c_int::MAX as usize, CLOSE_RANGE_UNSHARE, 0, 0];
            // EPERM is what some sandboxes say for a call they do not know.
            raw::call(libc::SYS_close_range, range).map_err(|_| NO_CLOSE_RANGE)?;
        }
        if spawn.lock.is_some() && !spawn.all_descriptors {
            // It may wait for ever, and must not keep meanwhile what its parent has: locks above all.
            close_range(WINDOW_END, c_int::MAX);
        }
        for (slot, number) in child.window.moves() {
            inherit_as(*slot, *number).map_err(at(Step::Descriptors))?;
        }
        if let Some((path, number)) = spawn.lock {
            lock_as(path, number).map_err(at(Step::Lock))?;
        }
        process::give_back_nofile();
        if spawn.controlling_terminal {
            // Not having one is no reason not to run.
            let _ = raw::call(libc::SYS_ioctl, [0, libc::TIOCSCTTY as usize, 0, 0, 0]);
        }
        if let Some(attributes) = spawn.attributes {
            attributes.apply()?;
        }
        match spawn.mask {
            Some(mask) => mask.restore(),
            None => super::signal::unblock_all(),
        }
        if let Some(env) = spawn.env.filter(|env| !env.own.is_empty()) {
            env.complete(raw::call(libc::SYS_getpid, [0; 5]).unwrap_or(0));
        }
        let env = spawn.env.map_or(env::raw(), |e| e.pointers.as_ptr());
        Err(at(Step::Exec)(exec_first(spawn.programs, spawn.argv, env)))
    }
}

/// Leaves the window's descriptor `slot` open as `number`, inherited.
///
/// # Safety
/// Only for the child, or for a number of the window: it overwrites whatever `number` was.
unsafe fn inherit_as(slot: RawFd, number: RawFd) -> Result<(), Errno> {
    let call = match slot == number {
        true => (libc::SYS_fcntl, [number as usize, libc::F_SETFD as usize, 0, 0, 0]),
        false => (libc::SYS_dup3, [slot as usize, number as usize, 0, 0, 0]),
    };
    // SAFETY: these touch no memory; no Rust owner exists for any of the numbers, as the caller knows.
    unsafe { raw::call(call.0, call.1) }.map(drop)
}

/// Executes the first of `programs` that is there; returns only why none could be. As execvp does, one that
/// may not be executed is passed over but remembered.
fn exec_first(programs: &[CString], argv: &CArray, env: *const *const c_char) -> Errno {
    let mut verdict = Errno::NOENT;
    for program in programs {
        let [program, argv, env] = [program.as_ptr().cast::<()>(), argv.pointers.as_ptr().cast(), env.cast()];
        let arguments = [program, argv, env].map(<*const ()>::expose_provenance);
        // SAFETY: terminated arrays of C strings, all borrowed for the call.
        match unsafe { raw::call(libc::SYS_execve, [arguments[0], arguments[1], arguments[2], 0, 0]) } {
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(Errno::ACCESS) => verdict = Errno::ACCESS,
            Err(errno) => return errno,
            Ok(_) => {}
        }
    }
    verdict
}

/// Opens and locks the file of `lock-fd`. The number is settled first and locked last: duplicating after
/// locking and closing the original is how s6 loses the lock.
///
/// # Safety
/// Only for the child: it overwrites whatever `number` was, and it may wait for ever.
unsafe fn lock_as(path: &CStr, number: RawFd) -> Result<(), Errno> {
    // SAFETY: system calls on a C string and on integers; flock is plain data.
    unsafe {
        let fd = check(libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CREAT, 0o644))?;
        if fd != number {
            check(libc::dup2(fd, number))?;
            libc::close(fd);
        }
        let mut lock: libc::flock = std::mem::zeroed();
        lock.l_type = libc::F_WRLCK as libc::c_short;
        check(libc::fcntl(number, libc::F_SETLKW, &lock)).map(drop)
    }
}

/// The stack of children that share our memory. One at a time: we are single-threaded and wait for them.
struct Stack(UnsafeCell<[u8; 16384]>);

// SAFETY: programs of this crate have one thread; `with_top` is the only access.
unsafe impl Sync for Stack {}

static STACK: Stack = Stack(UnsafeCell::new([0; 16384]));

impl Stack {
    fn with_top<T>(&self, f: impl FnOnce(*mut c_void) -> T) -> T {
        let end = self.0.get().cast::<u8>().wrapping_add(16384);
        let aligned = end.map_addr(|a| a & !15);
        f(aligned.cast())
    }
}

/// A copy of ourselves that goes on with `life` and never comes back. Of our descriptors it has 0, 1, 2 and
/// those in `keep`, in that order: what a lock is held with, above all, must not be held by two.
pub fn fork(
    _: Blocked,
    keep: &[BorrowedFd<'_>],
    life: impl FnOnce(Vec<OwnedFd>) -> u8,
) -> Result<Pid, Errno> {
    // SAFETY: the process has one thread, so the copy may do whatever we may.
    let pid = check(unsafe { libc::fork() })?;
    if let Some(pid) = Pid::from_raw(pid) {
        return Ok(pid);
    }
    let kept = close_all_but(keep);
    let code = life(kept);
    exit(code)
}

/// A copy of ourselves with everything that we have, which goes on with `life` and never comes back.
pub fn fork_all(_: Blocked, life: impl FnOnce() -> u8) -> Result<Pid, Errno> {
    // SAFETY: the process has one thread, so the copy may do whatever we may.
    match Pid::from_raw(check(unsafe { libc::fork() })?) {
        Some(pid) => Ok(pid),
        None => exit(life()),
    }
}

/// Ends the process at once: nothing is dropped, flushed or unwound.
pub fn exit(code: u8) -> ! {
    // SAFETY: _exit only ends the process.
    unsafe { libc::_exit(code.into()) }
}

/// Closes every descriptor above the window except copies of `keep`, which it returns. Only for a forked
/// child that never returns to the owners of the descriptors that are closed under them.
fn close_all_but(keep: &[BorrowedFd<'_>]) -> Vec<OwnedFd> {
    let mut copies = Vec::new();
    for fd in keep {
        // SAFETY: F_DUPFD only reads the table; each copy is new and owned by what is returned.
        unsafe {
            let copy = libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, WINDOW_END);
            if copy >= 0 {
                copies.push(OwnedFd::from_raw_fd(copy));
            }
        }
    }
    // Each copy has the lowest number that was free, so they are in order.
    let mut from = WINDOW_END;
    for stop in copies.iter().map(|fd| fd.as_raw_fd()).chain([c_int::MAX]) {
        if from < stop {
            close_range(from, stop - 1);
        }
        from = stop.saturating_add(1);
    }
    copies
}

fn close_range(from: RawFd, to: RawFd) {
    // SAFETY: see `close_all_but`: nobody uses what is closed any more.
    unsafe {
        if libc::syscall(libc::SYS_close_range, from, to, 0) < 0 {
            let most = libc::sysconf(libc::_SC_OPEN_MAX).clamp(1024, 65536) as RawFd;
            for n in from..=to.min(most) {
                libc::close(n);
            }
        }
    }
}

/// Becomes another program. Returns only the reason why not.
pub fn exec(programs: &[CString], argv: &CArray, env: Option<&CArray>) -> Errno {
    exec_with(programs, argv, env, &[]).errno
}

/// Becomes another program that has these descriptors under these numbers of the window. Returns only if
/// that fails; then everything is as before.
pub fn exec_with(
    programs: &[CString],
    argv: &CArray,
    env: Option<&CArray>,
    fds: &[(BorrowedFd<'_>, RawFd)],
) -> SpawnError {
    let failed = |step| move |errno| SpawnError { step, errno };
    let window = match Window::fill(fds) {
        Ok(window) => window,
        Err(e) => return failed(Step::Descriptors)(e),
    };
    for (slot, number) in window.moves() {
        // SAFETY: fds get numbers of the window only, so each lies where it is to be and only a flag is set.
        if let Err(e) = unsafe { inherit_as(*slot, *number) } {
            return failed(Step::Descriptors)(e);
        }
    }
    process::give_back_nofile();
    let errno = exec_first(programs, argv, env.map_or(env::raw(), |e| e.pointers.as_ptr()));
    process::raise_nofile_again();
    failed(Step::Exec)(errno)
}

/// The paths at which a search for `name` along `path` would look, as execvp does: a name with a slash is
/// a path already.
pub fn candidates(name: &CStr, path: &[u8]) -> Vec<CString> {
    let bytes = name.to_bytes();
    if bytes.is_empty() || bytes.contains(&b'/') {
        return vec![name.to_owned()];
    }
    path.split(|&b| b == b':')
        .map(|dir| {
            let dir = if dir.is_empty() { &b"."[..] } else { dir };
            CString::new([dir, b"/", bytes].concat()).expect("neither part has a NUL")
        })
        .collect()
}

/// Takes over a descriptor whose number was handed to us on the command line.
pub fn inherited(n: RawFd) -> Option<OwnedFd> {
    // SAFETY: F_GETFD only tells whether it is open.
    if n < 3 || unsafe { libc::fcntl(n, libc::F_GETFD) } < 0 {
        return None;
    }
    // SAFETY: it is open, and inherited descriptors have no owner in Rust until somebody takes them here.
    Some(unsafe { OwnedFd::from_raw_fd(n) })
}

/// Lets a descriptor be inherited by what we execute.
pub fn keep_over_exec(fd: impl AsFd) -> Result<RawFd, Errno> {
    let n = fd.as_fd().as_raw_fd();
    // SAFETY: only a flag is cleared.
    check(unsafe { libc::fcntl(n, libc::F_SETFD, 0) })?;
    Ok(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(path: &CStr) -> ([CString; 1], CArray) {
        ([path.to_owned()], CArray::new(vec![path.to_owned()]))
    }

    /// What is done meanwhile is done once, and a failure of the child is told as ever.
    #[test]
    fn something_else_is_done_while_a_child_is_on_its_way() {
        let blocked = super::super::signal::block_all();
        for (path, expected) in [(c"/bin/true", None), (c"/nonexistent", Some((Step::Exec, Errno::NOENT)))] {
            let (programs, argv) = arguments(path);
            let mut times = 0;
            // An errno of ours stays ours.
            let mut meanwhile = || {
                times += 1;
                // SAFETY: there is no such descriptor; nothing happens but an error.
                let result = check(unsafe { libc::fcntl(-1, libc::F_GETFD) });
                assert_eq!(result, Err(Errno::BADF));
            };
            let started = Spawn::new(&programs, &argv).start_while(blocked, Some(&mut meanwhile));
            assert_eq!(times, 1);
            match expected {
                None => drop(super::super::wait::reap_pid(started.unwrap())),
                Some((step, errno)) => assert_eq!(started, Err(SpawnError { step, errno })),
            }
        }
    }

    /// A table that grew while a child shares it would keep us waiting.
    #[test]
    fn the_table_of_descriptors_has_room_for_what_is_done_meanwhile() {
        let capacity = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("FDSize:"));
            line.unwrap().trim().parse::<usize>().unwrap()
        };
        let blocked = super::super::signal::block_all();
        // Where a table of the smallest size would end.
        let crowd: Vec<OwnedFd> =
            (0..40).map(|_| rustix::fs::open("/", OFlags::PATH, Mode::empty()).unwrap()).collect();
        let (programs, argv) = arguments(c"/bin/true");
        let spawn = Spawn { dir: crowd.last().map(AsFd::as_fd), ..Spawn::new(&programs, &argv) };
        let mut sizes = Vec::new();
        let mut meanwhile = || {
            sizes.push(capacity());
            let more: Vec<_> = (0..MOST_MEANWHILE - 2).map(|_| crowd[0].try_clone().unwrap()).collect();
            sizes.push(capacity());
            drop(more);
        };
        let pid = spawn.start_while(blocked, Some(&mut meanwhile)).unwrap();
        super::super::wait::reap_pid(pid);
        assert_eq!(sizes[0], sizes[1]);
    }
}
