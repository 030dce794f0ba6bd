//! Reading the clocks (through the vDSO: no system call, about 25 ns each).

use crate::time::{Mono, Now, Tai64n};
use rustix::time::{ClockId, clock_gettime};

/// Both clocks at once.
pub fn now() -> Now {
    Now { mono: mono(), wall: wall() }
}

/// The clock for deadlines.
pub fn mono() -> Mono {
    Mono(nanos(ClockId::Monotonic))
}

/// The clock for showing.
pub fn wall() -> Tai64n {
    let t = clock_gettime(ClockId::Realtime);
    Tai64n { secs: t.tv_sec, nanos: t.tv_nsec as u32 }
}

/// Nanoseconds since boot, suspension included: what `/proc/PID/stat` counts start times in.
pub fn boot() -> u64 {
    nanos(ClockId::Boottime)
}

fn nanos(id: ClockId) -> u64 {
    let t = clock_gettime(id);
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// A moment as a calendar and a clock show it: where we are (`TZ`, or `/etc/localtime`), or in UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Local {
    /// The year.
    pub year: i64,
    /// 1 to 12.
    pub month: u32,
    /// 1 to 31.
    pub day: u32,
    /// 0 to 23.
    pub hour: u32,
    /// 0 to 59.
    pub minute: u32,
    /// 0 to 60.
    pub second: u32,
}

/// Unix seconds as local time.
pub fn local(secs: i64) -> Local {
    tzset();
    shown(|tm| {
        // SAFETY: localtime_r fills what it is given, or leaves it.
        let _ = unsafe { libc::localtime_r(&secs, tm) };
    })
}

/// Unix seconds as UTC.
pub fn utc(secs: i64) -> Local {
    shown(|tm| {
        // SAFETY: gmtime_r fills what it is given, or leaves it.
        let _ = unsafe { libc::gmtime_r(&secs, tm) };
    })
}

fn shown(fill: impl FnOnce(&mut libc::tm)) -> Local {
    // SAFETY: tm is plain data; a second that has no such form leaves zeroes.
    let mut tm: libc::tm = unsafe { std::mem::zeroed() };
    fill(&mut tm);
    Local {
        year: i64::from(tm.tm_year) + 1900,
        month: tm.tm_mon as u32 + 1,
        day: tm.tm_mday as u32,
        hour: tm.tm_hour as u32,
        minute: tm.tm_min as u32,
        second: tm.tm_sec as u32,
    }
}

/// Local time as Unix seconds; of an hour that comes twice, either. What lies outside of its range is brought
/// within it.
pub fn from_local(local: &Local) -> i64 {
    // SAFETY: tm is plain data that mktime reads and may bring to its usual form.
    unsafe {
        let mut tm: libc::tm = std::mem::zeroed();
        tm.tm_year = (local.year - 1900) as libc::c_int;
        tm.tm_mon = local.month as libc::c_int - 1;
        tm.tm_mday = local.day as libc::c_int;
        tm.tm_hour = local.hour as libc::c_int;
        tm.tm_min = local.minute as libc::c_int;
        tm.tm_sec = local.second as libc::c_int;
        tm.tm_isdst = -1;
        libc::mktime(&mut tm)
    }
}

unsafe extern "C" {
    /// Reads `TZ` and the file that it names: localtime_r need not.
    safe fn tzset();
}
