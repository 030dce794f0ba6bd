//! An older kernel, or a container's strict seccomp profile: system calls that are refused to whatever a scenario
//! starts.

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};
use std::collections::BTreeMap;

/// What may be refused, and the errno of a kernel that does not have it.
const CALLS: &[(&str, i64, i32)] = &[
    ("pidfd_info", libc::SYS_ioctl, libc::ENOTTY),
    ("pidfd_open", libc::SYS_pidfd_open, libc::ENOSYS),
    ("pidfd_send_signal", libc::SYS_pidfd_send_signal, libc::ENOSYS),
    ("clone3", libc::SYS_clone3, libc::ENOSYS),
    ("close_range", libc::SYS_close_range, libc::ENOSYS),
];

/// Linux before 6.15: a pidfd does not tell how its process ended.
pub const BEFORE_6_15: &[&str] = &["pidfd_info"];

/// Linux before 5.3, or one whose profile knows nothing newer than that.
pub const BEFORE_5_3: &[&str] = &["pidfd_info", "pidfd_open", "clone3", "close_range"];

/// Says by name which calls are refused to every scenario, with commas between them.
pub const VARIABLE: &str = "PERENNIAL_REFUSE";

/// `PIDFD_GET_INFO`, whatever size of the record the caller knows.
const PIDFD_GET_INFO: (u64, u64) = (0xff0b, 0xffff);

/// Refuses the calls of these names to this process and all that descend from it, for ever.
pub fn refuse(names: &[&str]) {
    for (name, number, errno) in CALLS.iter().filter(|(name, ..)| names.contains(name)) {
        let mut rules = Vec::new();
        if *name == "pidfd_info" {
            let (value, mask) = PIDFD_GET_INFO;
            let request = SeccompCmpOp::MaskedEq(mask);
            let condition = SeccompCondition::new(1, SeccompCmpArgLen::Dword, request, value).unwrap();
            rules.push(SeccompRule::new(vec![condition]).unwrap());
        }
        let filter = SeccompFilter::new(
            BTreeMap::from([(*number, rules)]),
            SeccompAction::Allow,
            SeccompAction::Errno(*errno as u32),
            std::env::consts::ARCH.try_into().unwrap(),
        );
        let program: BpfProgram = filter.unwrap().try_into().unwrap();
        seccompiler::apply_filter(&program).unwrap();
    }
    let unknown: Vec<_> =
        names.iter().filter(|name| !CALLS.iter().any(|(known, ..)| known == *name)).collect();
    assert!(unknown.is_empty(), "{unknown:?} cannot be refused");
}

/// Refuses what the environment says.
pub fn refuse_as_told() {
    if let Ok(names) = std::env::var(VARIABLE) {
        refuse(&names.split(',').collect::<Vec<_>>());
    }
}
