//! Reaping: wait results that survive us, and exit statuses of processes that are not our children.

use super::{Errno, check, last_errno};
use crate::process::{Pid, WaitStatus};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicU32, Ordering};

/// Words that [`reap_into`] needs: the kernel's `siginfo_t` is 128 bytes on every architecture.
pub const INBOX_WORDS: usize = 32;

/// A process that ended, and how.
pub type Dead = (Pid, WaitStatus);

/// Reaps one dead child, if there is one, and has the kernel write who it was into `inbox` before the call
/// returns. With the inbox in shared memory the result cannot get lost: a process that is killed inside of
/// waitid either has not reaped yet or has its answer in the inbox ([`inbox`] reads it again).
pub fn reap_into(inbox: &[AtomicU32; INBOX_WORDS]) -> Option<Dead> {
    wait_into(inbox, libc::P_ALL, 0, libc::WEXITED | libc::WNOHANG)
}

/// What the last [`reap_into`] left in `inbox`, unless [`clear`]ed.
pub fn inbox(inbox: &[AtomicU32; INBOX_WORDS]) -> Option<Dead> {
    let mut words = [0u32; INBOX_WORDS];
    for (word, cell) in words.iter_mut().zip(inbox) {
        *word = cell.load(Ordering::Relaxed);
    }
    // SAFETY: siginfo_t is plain data no larger than 128 bytes, and any bytes are a valid value of it.
    let info: libc::siginfo_t = unsafe { std::ptr::read_unaligned(words.as_ptr().cast()) };
    dead(&info)
}

/// Marks the inbox as dealt with.
pub fn clear(inbox: &[AtomicU32; INBOX_WORDS]) {
    inbox.iter().for_each(|cell| cell.store(0, Ordering::Relaxed));
}

fn wait_into(
    cells: &[AtomicU32; INBOX_WORDS],
    kind: libc::idtype_t,
    id: libc::id_t,
    flags: libc::c_int,
) -> Option<Dead> {
    cells[0].store(0, Ordering::Relaxed);
    // SAFETY: siginfo_t is 128 bytes on Linux and atomics may be written through a shared reference; only
    // the kernel writes, and nobody reads before the call returns.
    unsafe { libc::waitid(kind, id, cells.as_ptr().cast_mut().cast(), flags) };
    inbox(cells)
}

/// Reaps one dead child, if there is one.
pub fn reap() -> Option<Dead> {
    wait(libc::P_ALL, 0, libc::WEXITED | libc::WNOHANG)
}

/// The next dead child, left as it is: a caller that tells somebody first and reaps then cannot forget it,
/// and its pid cannot be used again before it was told.
pub fn peek() -> Option<Dead> {
    wait(libc::P_ALL, 0, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT)
}

/// Whether this child is dead or dying, without reaping it. Its children are ours from the moment it begins
/// to die, before there is anything to reap (and longer, if somebody traces it: its death is shown to the
/// tracer first).
pub fn is_dying(pid: Pid) -> bool {
    let id = pid.raw() as libc::id_t;
    wait(libc::P_PID, id, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT).is_some()
        || super::process::stat(pid).is_some_and(|stat| stat.exiting)
}

/// Reaps one particular child if it is dead.
pub fn reap_pid_if_dead(pid: Pid) -> Option<Dead> {
    wait(libc::P_PID, pid.raw() as libc::id_t, libc::WEXITED | libc::WNOHANG)
}

/// Reaps one particular child; waits for it if it is not dead yet.
pub fn reap_pid(pid: Pid) -> Option<Dead> {
    wait(libc::P_PID, pid.raw() as libc::id_t, libc::WEXITED)
}

/// Reaps any child; waits for one to die. `None`: we have no child.
pub fn reap_any() -> Option<Dead> {
    wait(libc::P_ALL, 0, libc::WEXITED)
}

/// Whether we have any child, dead or alive.
pub fn have_children() -> bool {
    // SAFETY: a null siginfo is allowed; nothing is reaped with WNOWAIT.
    let ret = unsafe {
        libc::waitid(libc::P_ALL, 0, std::ptr::null_mut(), libc::WEXITED | libc::WNOHANG | libc::WNOWAIT)
    };
    ret == 0
}

fn wait(kind: libc::idtype_t, id: libc::id_t, flags: libc::c_int) -> Option<Dead> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: the kernel fills the structure, or leaves it zeroed when there is nobody.
    unsafe {
        libc::waitid(kind, id, info.as_mut_ptr(), flags);
        dead(&info.assume_init())
    }
}

fn dead(info: &libc::siginfo_t) -> Option<Dead> {
    if info.si_signo != libc::SIGCHLD {
        return None;
    }
    // SAFETY: for SIGCHLD the kernel filled exactly these members of the union.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    let raw = match info.si_code {
        libc::CLD_EXITED => (status as u16 & 0xff) << 8,
        libc::CLD_DUMPED => status as u16 & 0x7f | 0x80,
        _ => status as u16 & 0x7f,
    };
    Some((Pid::from_raw(pid)?, WaitStatus(raw)))
}

/// `struct pidfd_info` of Linux 6.15, as far as we need it.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroupid: u64,
    /// pid, tgid, ppid, and four uids and gids.
    ids: [u32; 11],
    exit_code: i32,
}

const PIDFD_INFO_EXIT: u64 = 1 << 3;

/// `_IOWR(0xFF, 11, struct pidfd_info)` with the first published size, 64 bytes; the kernel takes any size.
const PIDFD_GET_INFO: libc::c_ulong = 0xc040_ff0b;

/// How the process behind a pidfd ended, once somebody has reaped it. `None`: not yet, or the kernel
/// (before 6.15) cannot tell.
pub fn pidfd_exit(pidfd: impl AsFd) -> Option<WaitStatus> {
    let mut info = [PidfdInfo { mask: PIDFD_INFO_EXIT, ..Default::default() }, PidfdInfo::default()];
    // SAFETY: the kernel writes at most the 64 bytes that the request number says; two records of 64 bytes
    // are ours to be written.
    let ret = unsafe { libc::ioctl(pidfd.as_fd().as_raw_fd(), PIDFD_GET_INFO as _, info.as_mut_ptr()) };
    check(ret).ok()?;
    (info[0].mask & PIDFD_INFO_EXIT != 0).then_some(WaitStatus(info[0].exit_code as u16))
}

/// Opens a pidfd. `Err(NOSYS)` before Linux 5.3.
pub fn pidfd_open(pid: Pid) -> Result<std::os::fd::OwnedFd, Errno> {
    let pid = rustix::process::Pid::from_raw(pid.raw()).ok_or(Errno::SRCH)?;
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())
}

/// Makes orphaned descendants ours instead of pid 1's.
pub fn become_subreaper() -> Result<(), Errno> {
    // SAFETY: this prctl takes one integer and touches no memory.
    if unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) } < 0 {
        Err(last_errno())
    } else {
        Ok(())
    }
}
