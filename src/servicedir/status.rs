//! `supervise/status`: the record by which everybody sees what a service is.
//!
//! ```text
//! offset  length  content (integers big endian)
//!      0      12  TAI64N of the last change between up and down
//!     12      12  TAI64N of the last readiness, or of the end of the last finish script
//!     24       8  pid of run, or of finish while finishing, or 0
//!     32       2  low 16 bits of the wait status of the last run
//!     34       1  flags: 1 paused, 2 finishing, 4 wanted up, 8 ready
//! ```
//!
//! Thirty-five bytes in every release of s6 but 2.13, which put eight bytes of process group behind the pid.
//! We write 35, and tell the two apart by their size when reading. The file is replaced whole, before the
//! event that tells of it is sent: that order makes clients free of races.
#![forbid(unsafe_code)]

use crate::process::{Pid, WaitStatus};
use crate::time::Tai64n;

/// Bytes that we write.
pub const LEN: usize = 35;

/// Bytes of s6 2.13.
const LEN_2_13: usize = 43;

const PAUSED: u8 = 1;
const FINISHING: u8 = 2;
const WANT_UP: u8 = 4;
const READY: u8 = 8;

/// One record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// When it last went up or down.
    pub stamp: Tai64n,
    /// When it last became ready, or when the last finish script was done.
    pub ready_stamp: Tai64n,
    /// The process: run, or finish while finishing.
    pub pid: Option<Pid>,
    /// How the last run ended. While a run is up: how the one before it ended.
    pub wait: WaitStatus,
    /// Stopped by us. With no process and not finishing: it has never been started.
    pub paused: bool,
    /// `finish` is running.
    pub finishing: bool,
    /// It is to be up.
    pub want_up: bool,
    /// With a process: it said that it is ready. Without: the finish script is done.
    pub ready: bool,
}

impl Status {
    /// Whether run is running.
    pub fn is_up(&self) -> bool {
        self.pid.is_some() && !self.finishing
    }

    /// Whether run is running and has said that it is ready.
    pub fn is_ready(&self) -> bool {
        self.is_up() && self.ready
    }

    /// Whether nothing has ever been started in it.
    pub fn is_fresh(&self) -> bool {
        self.pid.is_none() && !self.finishing && self.paused
    }

    /// The bytes of the file.
    pub fn pack(&self) -> [u8; LEN] {
        let mut out = [0; LEN];
        out[..12].copy_from_slice(&self.stamp.pack());
        out[12..24].copy_from_slice(&self.ready_stamp.pack());
        let pid = self.pid.map_or(0, |p| p.raw() as u64);
        out[24..32].copy_from_slice(&pid.to_be_bytes());
        out[32..34].copy_from_slice(&self.wait.0.to_be_bytes());
        out[34] = [
            (self.paused, PAUSED),
            (self.finishing, FINISHING),
            (self.want_up, WANT_UP),
            (self.ready, READY),
        ]
        .iter()
        .fold(0, |flags, (on, bit)| if *on { flags | bit } else { flags });
        out
    }

    /// Reads the bytes of the file; `None` if it is too short to be one. Bytes beyond are ignored, so that
    /// the record may grow.
    pub fn unpack(bytes: &[u8]) -> Option<Status> {
        let (wait_at, least) = if bytes.len() == LEN_2_13 { (40, LEN_2_13) } else { (32, LEN) };
        if bytes.len() < least {
            return None;
        }
        let array = |at: usize| -> [u8; 12] { bytes[at..at + 12].try_into().expect("12 bytes") };
        let pid = u64::from_be_bytes(bytes[24..32].try_into().expect("8 bytes"));
        let flags = bytes[wait_at + 2];
        Some(Status {
            stamp: Tai64n::unpack(&array(0)),
            ready_stamp: Tai64n::unpack(&array(12)),
            pid: i32::try_from(pid).ok().and_then(Pid::from_raw),
            wait: WaitStatus(u16::from_be_bytes([bytes[wait_at], bytes[wait_at + 1]])),
            paused: flags & PAUSED != 0,
            finishing: flags & FINISHING != 0,
            want_up: flags & WANT_UP != 0,
            ready: flags & READY != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bytes_as_s6_writes_them() {
        let status = Status {
            stamp: Tai64n { secs: 0x1234, nanos: 7 },
            ready_stamp: Tai64n { secs: 0x1234, nanos: 9 },
            pid: Pid::from_raw(0x1_0203),
            wait: WaitStatus(0x0300),
            want_up: true,
            ready: true,
            ..Status::default()
        };
        let bytes = status.pack();
        assert_eq!(bytes[..12], [0x40, 0, 0, 0, 0, 0, 0x12, 0x34 + 37, 0, 0, 0, 7]);
        assert_eq!(bytes[24..], [0, 0, 0, 0, 0, 1, 2, 3, 3, 0, 12]);
    }

    #[test]
    fn the_layout_of_2_13_is_told_by_its_size() {
        let status = Status { pid: Pid::from_raw(5), wait: WaitStatus(9), ready: true, ..Status::default() };
        let packed = status.pack();
        let mut long = packed[..32].to_vec();
        long.extend([0; 8]);
        long.extend(&packed[32..]);
        assert_eq!(Status::unpack(&long), Some(status));
        assert_eq!(Status::unpack(&long[..34]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes: Vec<u8>) {
            let _ = Status::unpack(&bytes);
        }

        #[test]
        fn round_trip(
            secs in -1i64 << 40..1i64 << 40, nanos in 0u32..1_000_000_000, pid in 0i32.., wait: u16, flags in 0u8..16,
        ) {
            let status = Status {
                stamp: Tai64n { secs, nanos },
                ready_stamp: Tai64n { secs: secs + 1, nanos },
                pid: Pid::from_raw(pid),
                wait: WaitStatus(wait),
                paused: flags & 1 != 0, finishing: flags & 2 != 0, want_up: flags & 4 != 0, ready: flags & 8 != 0,
            };
            prop_assert_eq!(Status::unpack(&status.pack()), Some(status));
        }
    }
}
