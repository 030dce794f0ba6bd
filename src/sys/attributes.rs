//! What a process is given beside its program: limits, niceness, the kernel's regard, a umask, an account.
//!
//! All of it is put together before the process is made. The child that becomes it ([`super::spawn`]) shares
//! our memory, so it only makes system calls with what lies ready; and it makes them itself: libc's `setuid`
//! and its like would look after the threads of a process that is not the child's.

use super::spawn::{SpawnError, Step};
use super::{Errno, check};
use crate::process::Pid;
use rustix::fs::{Mode, OFlags, open};
use std::ffi::c_int;

/// See the module's description. What is None or empty is inherited.
#[derive(Debug, Default)]
pub struct Attributes {
    /// Resource (the kernel's number), soft and hard limit; `u64::MAX` is no limit.
    pub limits: Vec<(u8, u64, u64)>,
    /// -20 to 19.
    pub nice: Option<i32>,
    /// `oom_score_adj`, as digits.
    pub oom_score: Option<Vec<u8>>,
    /// The bits that files do not get.
    pub umask: Option<u32>,
    /// See [`brand_of`].
    pub brand: Option<u64>,
    /// Whom it becomes.
    pub user: Option<User>,
}

/// The brand of a process, dead or alive, if it has one, or a child of one that has.
///
/// It is its soft limit of file locks, which no kernel since 2.6 heeds, which whoever descends from it inherits
/// whatever becomes of its parents, session, group, environment and account, and which everybody may read. Where it
/// cannot be set there is none.
pub fn brand_of(pid: Pid) -> Option<u64> {
    let file = open(format!("/proc/{pid}/limits"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut text = [0u8; 2048];
    let n = rustix::io::read(&file, &mut text).ok()?;
    let text = std::str::from_utf8(&text[..n]).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Max file locks"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// The kernel's number of the limit that is a brand.
pub const BRAND: u8 = 10;

/// Whom a process becomes.
#[derive(Debug)]
pub struct User {
    uid: u32,
    gid: u32,
    /// None: it has them already.
    groups: Option<Vec<libc::gid_t>>,
}

impl User {
    /// `None` if that is who we are.
    pub fn new(uid: u32, gid: u32, groups: Vec<u32>) -> Option<User> {
        let same = |mut a: Vec<u32>, mut b: Vec<u32>| {
            a.sort_unstable();
            b.sort_unstable();
            a == b
        };
        let own = rustix::process::getgroups().unwrap_or_default().iter().map(|gid| gid.as_raw()).collect();
        let groups = if same(own, groups.clone()) { None } else { Some(groups) };
        let id = (rustix::process::getuid(), rustix::process::geteuid());
        let gids = (rustix::process::getgid(), rustix::process::getegid());
        let is_own = (id.0.as_raw(), id.1.as_raw(), gids.0.as_raw(), gids.1.as_raw()) == (uid, uid, gid, gid);
        // Who is not privileged may stay who they are, with the groups that they have.
        let stays = is_own && (groups.is_none() || uid != 0);
        (!stays).then_some(User { uid, gid, groups })
    }
}

impl Attributes {
    /// Gives all of it to the calling process. Only system calls.
    ///
    /// # Safety
    /// Only for a child on its way to exec: credentials change for the calling thread alone.
    pub(super) unsafe fn apply(&self) -> Result<(), SpawnError> {
        let at = |step| move |errno| SpawnError { step, errno };
        // SAFETY: each is a system call on integers or on memory that we borrow, none allocates.
        unsafe {
            for &(resource, soft, hard) in &self.limits {
                let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
                let ret = libc::setrlimit(c_int::from(resource) as _, &limit);
                check(ret).map_err(at(Step::Limit(resource)))?;
            }
            if let Some(nice) = self.nice {
                check(libc::setpriority(libc::PRIO_PROCESS, 0, nice)).map_err(at(Step::Nice))?;
            }
            if let Some(digits) = &self.oom_score {
                write_oom_score(digits).map_err(at(Step::OomScore))?;
            }
            if let Some(umask) = self.umask {
                libc::umask(umask as libc::mode_t);
            }
            if let Some(brand) = self.brand {
                let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
                libc::getrlimit(c_int::from(BRAND) as _, &mut limit);
                limit.rlim_cur = brand;
                // It may be refused, and helps without being needed.
                libc::setrlimit(c_int::from(BRAND) as _, &limit);
            }
            if let Some(user) = &self.user {
                user.become_it().map_err(at(Step::User))?;
            }
        }
        Ok(())
    }
}

impl User {
    /// # Safety
    /// See [`Attributes::apply`].
    unsafe fn become_it(&self) -> Result<(), Errno> {
        let (uid, gid) = (self.uid as libc::c_long, self.gid as libc::c_long);
        // SAFETY: system calls on integers, and on an array that we borrow.
        unsafe {
            if let Some(groups) = &self.groups {
                check_long(libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()))?;
            }
            check_long(libc::syscall(libc::SYS_setresgid, gid, gid, gid))?;
            check_long(libc::syscall(libc::SYS_setresuid, uid, uid, uid))
        }
    }
}

fn check_long(ret: libc::c_long) -> Result<(), Errno> {
    check(ret as c_int).map(drop)
}

/// # Safety
/// See [`Attributes::apply`].
unsafe fn write_oom_score(digits: &[u8]) -> Result<(), Errno> {
    // SAFETY: a C string, and bytes that are borrowed for the call.
    unsafe {
        let flags = libc::O_WRONLY | libc::O_CLOEXEC;
        let fd = check(libc::open(c"/proc/self/oom_score_adj".as_ptr(), flags))?;
        let done = check(libc::write(fd, digits.as_ptr().cast(), digits.len()) as c_int);
        libc::close(fd);
        done.map(drop)
    }
}
