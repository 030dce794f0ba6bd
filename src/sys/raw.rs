//! System calls that touch registers only.
//!
//! libc's leave the reason of a failure in `errno`, which a child that shares our memory and runs beside us would
//! overwrite under our hands, and we under its. So such a child ([`super::spawn`]) makes these.

use super::Errno;
use std::ffi::c_long;

/// Whether [`call`] leaves `errno` alone here.
pub(super) const HERE: bool = cfg!(any(target_arch = "x86_64", target_arch = "aarch64"));

/// The system call `number` with up to five arguments.
///
/// # Safety
/// Whatever that system call demands of its arguments; what an address points to has its provenance exposed.
pub(super) unsafe fn call(number: c_long, arguments: [usize; 5]) -> Result<usize, Errno> {
    let [a, b, c, d, e] = arguments;
    let result: isize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the calling convention of x86_64; beyond that the caller vouches for it.
    unsafe {
        std::arch::asm!("syscall", inlateout("rax") number as isize => result, in("rdi") a, in("rsi") b,
            in("rdx") c, in("r10") d, in("r8") e, lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the calling convention of aarch64; beyond that the caller vouches for it.
    unsafe {
        std::arch::asm!("svc 0", in("x8") number as isize, inlateout("x0") a as isize => result, in("x1") b,
            in("x2") c, in("x3") d, in("x4") e, options(nostack));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        // SAFETY: the caller vouches for it.
        result = match unsafe { libc::syscall(number, a, b, c, d, e) } {
            -1 => -(super::last_errno().raw_os_error() as isize),
            other => other as isize,
        };
    }
    if (-4095..0).contains(&result) {
        Err(Errno::from_raw_os_error(-result as i32))
    } else {
        Ok(result as usize)
    }
}
