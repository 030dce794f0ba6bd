//! s6's clients and ours, on s6's supervisors and ours: one list of scenarios, four combinations, the same
//! expectations. Where we differ on purpose the scenario says so.
//!
//! `cargo test --test interop`, with words after `--` to run only what contains one of them. Each scenario
//! runs in a process and a directory of its own, which end with it. PERENNIAL names another executable to
//! try than the one just built.

mod support;

#[path = "interop/checks.rs"]
mod checks;
#[path = "interop/clients.rs"]
mod clients;
#[path = "interop/events.rs"]
mod events;
#[path = "interop/links.rs"]
mod links;
#[path = "interop/scanning.rs"]
mod scanning;
#[path = "interop/services.rs"]
mod services;
#[path = "interop/supervisors.rs"]
mod supervisors;

use std::process::ExitCode;
use support::interop::{self, Scenario};

fn main() -> ExitCode {
    let shipped = std::env::var("PERENNIAL").ok();
    interop::run(SCENARIOS, shipped.as_deref().unwrap_or(env!("CARGO_BIN_EXE_perennial")))
}

const SCENARIOS: &[Scenario] = &[
    // The longest first.
    ("same_codes", clients::same_codes),
    ("svok", services::svok),
    ("start_stop", services::start_stop),
    ("what_run_inherits", services::what_run_inherits),
    ("restart", services::restart),
    ("restart_delay", services::restart_delay),
    ("restart_when_ready", services::restart_when_ready),
    ("readiness", services::readiness),
    ("never_ready", services::never_ready),
    ("finish_arguments", services::finish_arguments),
    ("finish_125", services::finish_125),
    ("down_files", services::down_files),
    ("once", services::once),
    ("pause", services::pause),
    ("signals", services::signals),
    ("newer_signals", services::newer_signals),
    ("down_signal", services::down_signal),
    ("control_bytes", services::control_bytes),
    ("timeout_kill", services::timeout_kill),
    ("timeout_killpg", services::timeout_killpg),
    ("lock_fd", services::lock_fd),
    ("links_in_place_of_directories", services::links_in_place_of_directories),
    ("full_listener", services::full_listener),
    ("timeout_finish", services::timeout_finish),
    ("new_pid_namespace", services::new_pid_namespace),
    ("merged_events", services::merged_events),
    ("events_in_one_read", services::events_in_one_read),
    ("status_before_event", services::status_before_event),
    ("numbers_in_files", services::numbers_in_files),
    ("notification_fd_numbers", services::notification_fd_numbers),
    ("finish_codes", services::finish_codes),
    ("restart_is_only_a_signal", services::restart_is_only_a_signal),
    ("read_only", services::read_only),
    ("lock_of_the_dead", supervisors::lock_of_the_dead),
    ("status_bytes", services::status_bytes),
    ("death_tally", services::death_tally),
    ("permafailon", services::permafailon),
    ("permafailon_passes", services::permafailon_passes),
    ("run_missing", services::run_missing),
    ("supervise_signals", supervisors::supervise_signals),
    ("adoption", supervisors::adoption),
    ("lock", supervisors::lock),
    ("svc_codes", clients::svc_codes),
    ("svc_waits", clients::svc_waits),
    ("svc_waits_for_an_answer", clients::svc_waits_for_an_answer),
    ("svstat", clients::svstat),
    ("svwait", clients::svwait),
    ("svwait_restart", clients::svwait_restart),
    ("svwait_failures", clients::svwait_failures),
    ("svlisten1", clients::svlisten1),
    ("svlisten1_restart", clients::svlisten1_restart),
    ("svlisten", clients::svlisten),
    ("svscan_add_remove", scanning::svscan_add_remove),
    ("svscan_prune", scanning::svscan_prune),
    ("svscan_bad_entry", scanning::svscan_bad_entry),
    ("svscan_readiness", scanning::svscan_readiness),
    ("svscan_rename", scanning::svscan_rename),
    ("svscan_again", scanning::svscan_again),
    ("svscan_signals", scanning::svscan_signals),
    ("svscan_terminate", scanning::svscan_terminate),
    ("svscan_quit", scanning::svscan_quit),
    ("svscan_abort", scanning::svscan_abort),
    ("svscan_scripts", scanning::svscan_scripts),
    ("svscan_crash", scanning::svscan_crash),
    ("svscan_catch_all", scanning::svscan_catch_all),
    ("svscan_options", scanning::svscan_options),
    ("svscanctl_codes", scanning::svscanctl_codes),
    ("nested_logger", scanning::nested_logger),
    ("logger_gets_everything", scanning::logger_gets_everything),
    ("svlink", links::svlink),
    ("svlink_down", links::svlink_down),
    ("svlink_logger", links::svlink_logger),
    ("svlink_codes", links::svlink_codes),
    ("svunlink", links::svunlink),
    ("instances", links::instances),
    ("instance_codes", links::instance_codes),
    ("fifodir", events::fifodir),
    ("fifodir_cleaning", events::fifodir_cleaning),
    ("svperms", events::svperms),
    ("notifyoncheck_command", checks::notifyoncheck_command),
    ("notifyoncheck_file", checks::notifyoncheck_file),
    ("notifyoncheck_hanging", checks::notifyoncheck_hanging),
    ("notifyoncheck_gives_up", checks::notifyoncheck_gives_up),
    ("notifyoncheck_ends", checks::notifyoncheck_ends),
];
