//! What went wrong in other supervisors, tried on ours: one scenario for a line of `tests/DEFECTS` that no other test
//! tells of. The numbers are those of that list.
//!
//! `cargo test --test ancestors`, with words after `--` to run only scenarios whose name contains one of them.

mod support;

#[path = "ancestors/control.rs"]
mod control;
#[path = "ancestors/places.rs"]
mod places;
#[path = "ancestors/processes.rs"]
mod processes;
#[path = "ancestors/rest.rs"]
mod rest;
#[path = "ancestors/state.rs"]
mod state;

use std::process::ExitCode;
use support::runner;

fn main() -> ExitCode {
    runner::run_in_worlds("ancestors", SCENARIOS)
}

const SCENARIOS: &[runner::InWorld] = &[
    ("a064_hundreds_of_rotations", rest::a064_hundreds_of_rotations),
    ("a069_a_logger_that_comes_later", rest::a069_a_logger_that_comes_later),
    ("a086_a_service_that_restarts_itself", rest::a086_a_service_that_restarts_itself),
    ("a099_names_that_begin_with_a_digit", rest::a099_names_that_begin_with_a_digit),
    ("a104_start_directories", rest::a104_start_directories),
    ("a003_rubbish_to_a_scanner", control::a003_rubbish_to_a_scanner),
    ("a004_edited_while_it_runs", state::a004_edited_while_it_runs),
    ("a005_no_descriptor_is_left", processes::a005_no_descriptor_is_left),
    ("a006_floods", control::a006_floods),
    ("a011_nothing_in_dev", places::a011_nothing_in_dev),
    ("a013_a_signal_is_acted_on", processes::a013_a_signal_is_acted_on),
    ("a014_replaced_while_scanning", processes::a014_replaced_while_scanning),
    ("a015_restarts_among_readers", processes::a015_restarts_among_readers),
    ("a016_clients_that_are_ended", control::a016_clients_that_are_ended),
    ("a021_run_comes_back", processes::a021_run_comes_back),
    ("a023_too_large_an_environment", processes::a023_too_large_an_environment),
    ("a024_flags_together", processes::a024_flags_together),
    ("a026_any_commands", control::a026_any_commands),
    ("a029_a_logger_is_no_target", control::a029_a_logger_is_no_target),
    ("a030_a_full_control_fifo", control::a030_a_full_control_fifo),
    ("a031_clients_that_are_killed", control::a031_clients_that_are_killed),
    ("a032_told_and_gone", control::a032_told_and_gone),
    ("a033_states_as_told", state::a033_states_as_told),
    ("a034_many_waiters", state::a034_many_waiters),
    ("a035_states_on_two_file_systems", places::a035_states_on_two_file_systems),
    ("a037_nothing_is_forgotten_by_scanning", state::a037_nothing_is_forgotten_by_scanning),
    ("a038_failure_is_not_hidden", state::a038_failure_is_not_hidden),
    ("a039_waiting_for_what_is_new", state::a039_waiting_for_what_is_new),
    ("a041_readiness_after_megabytes", state::a041_readiness_after_megabytes),
    ("a044_listeners_that_do_not_listen", state::a044_listeners_that_do_not_listen),
    ("a047_scans_among_deaths", processes::a047_scans_among_deaths),
    ("a050_restarts_at_any_moment", control::a050_restarts_at_any_moment),
    ("a051_killed_again_and_again", control::a051_killed_again_and_again),
    ("a052_signals_to_the_short_lived", control::a052_signals_to_the_short_lived),
    ("a053_a_logger_ends_with_its_service", control::a053_a_logger_ends_with_its_service),
    ("a054_finish_runs_once", control::a054_finish_runs_once),
    ("a055_a_stubborn_service", control::a055_a_stubborn_service),
    ("a056_signals_to_groups", control::a056_signals_to_groups),
    ("a058_recycled_numbers", processes::a058_recycled_numbers),
    ("a059_another_group", processes::a059_another_group),
    ("a060_a_service_that_signals_its_group", processes::a060_a_service_that_signals_its_group),
    ("a067_output_blocks", processes::a067_output_blocks),
    ("a068_a_logger_that_dies_at_once", processes::a068_a_logger_that_dies_at_once),
    ("a087_directories_that_are_there", places::a087_directories_that_are_there),
    ("a088_services_that_come_and_go", processes::a088_services_that_come_and_go),
    ("a092_no_inodes", places::a092_no_inodes),
    ("a095_links_to_a_victim", places::a095_links_to_a_victim),
    ("a096_a_crowded_event_directory", places::a096_a_crowded_event_directory),
    ("a101_names_are_no_paths", places::a101_names_are_no_paths),
    ("a103_noexec_and_read_only", places::a103_noexec_and_read_only),
    ("a108_services_that_are_down", control::a108_services_that_are_down),
    ("a111_nothing_grows", processes::a111_nothing_grows),
    ("a113_hundreds_of_services", state::a113_hundreds_of_services),
    ("a117_forms_of_a_path", places::a117_forms_of_a_path),
];
