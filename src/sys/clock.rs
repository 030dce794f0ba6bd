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

/// Year, month, day, hour, minute and second of an instant (Unix seconds), here or in UTC.
pub fn civil(secs: i64, utc: bool) -> [i64; 6] {
    let time = secs as libc::time_t;
    // SAFETY: the structure is plain data, which the call fills, or leaves zeroed if the year is none; this
    // program has one thread.
    let parts = unsafe {
        let mut parts: libc::tm = std::mem::zeroed();
        if utc {
            libc::gmtime_r(&time, &mut parts);
        } else {
            libc::localtime_r(&time, &mut parts);
        }
        parts
    };
    [
        i64::from(parts.tm_year) + 1900,
        i64::from(parts.tm_mon) + 1,
        parts.tm_mday.into(),
        parts.tm_hour.into(),
        parts.tm_min.into(),
        parts.tm_sec.into(),
    ]
}
