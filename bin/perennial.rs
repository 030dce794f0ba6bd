//! All programs in one file: the name it is called by, or its first argument, says which one it is.
#![no_main]

use perennial::chain::{self, Names};
use perennial::cli::Program;
use perennial::diag::{self, Result, code};
use perennial::init::settings;
use perennial::install::Plan;
use perennial::process::Pid;
use perennial::rc::s6;
use perennial::sys::process::is_all_in_one;
use perennial::{cli, diag::Error, ordered};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

#[path = "cleanfifodir.rs"]
#[allow(dead_code)]
mod cleanfifodir;
#[path = "ftrig-notify.rs"]
#[allow(dead_code)]
mod ftrig_notify;
#[path = "ftrig-wait.rs"]
#[allow(dead_code)]
mod ftrig_wait;
#[path = "halt.rs"]
#[allow(dead_code)]
mod halt;
#[path = "init.rs"]
#[allow(dead_code)]
mod init;
#[path = "instance-control.rs"]
#[allow(dead_code)]
mod instance_control;
#[path = "instance-create.rs"]
#[allow(dead_code)]
mod instance_create;
#[path = "instance-delete.rs"]
#[allow(dead_code)]
mod instance_delete;
#[path = "instance-list.rs"]
#[allow(dead_code)]
mod instance_list;
#[path = "instance-status.rs"]
#[allow(dead_code)]
mod instance_status;
#[path = "logutil-service.rs"]
#[allow(dead_code)]
mod logutil_service;
#[path = "mkfifodir.rs"]
#[allow(dead_code)]
mod mkfifodir;
#[path = "notifyoncheck.rs"]
#[allow(dead_code)]
mod notifyoncheck;
#[path = "permafailon.rs"]
#[allow(dead_code)]
mod permafailon;
#[path = "printcontenv.rs"]
#[allow(dead_code)]
mod printcontenv;
#[path = "rc.rs"]
#[allow(dead_code)]
mod rc;
#[path = "supervise.rs"]
#[allow(dead_code)]
mod supervise;
#[path = "svc.rs"]
#[allow(dead_code)]
mod svc;
#[path = "svdt.rs"]
#[allow(dead_code)]
mod svdt;
#[path = "svdt-clear.rs"]
#[allow(dead_code)]
mod svdt_clear;
#[path = "svlink.rs"]
#[allow(dead_code)]
mod svlink;
#[path = "svlisten.rs"]
#[allow(dead_code)]
mod svlisten;
#[path = "svlisten1.rs"]
#[allow(dead_code)]
mod svlisten1;
#[path = "svlog.rs"]
#[allow(dead_code)]
mod svlog;
#[path = "svok.rs"]
#[allow(dead_code)]
mod svok;
#[path = "svperms.rs"]
#[allow(dead_code)]
mod svperms;
#[path = "svpool.rs"]
#[allow(dead_code)]
mod svpool;
#[path = "svscan.rs"]
#[allow(dead_code)]
mod svscan;
#[path = "svscanctl.rs"]
#[allow(dead_code)]
mod svscanctl;
#[path = "svstat.rs"]
#[allow(dead_code)]
mod svstat;
#[path = "svtail.rs"]
#[allow(dead_code)]
mod svtail;
#[path = "svunlink.rs"]
#[allow(dead_code)]
mod svunlink;
#[path = "svwait.rs"]
#[allow(dead_code)]
mod svwait;
#[path = "with-contenv.rs"]
#[allow(dead_code)]
mod with_contenv;

const USAGE: &str = "perennial program [ argument... ]\n\
                     \x20      perennial install --root dir [ --s6-names ] [ --usr-bin ]\n\
                     \x20      perennial run command [ argument... ]\n\
                     \x20      perennial list | --version";

/// Every program: its name, and the name that s6 and images have for it, if it is another.
const PROGRAMS: &[(&str, &[&str], Program)] = &[
    ("cleanfifodir", &["s6-cleanfifodir"], cleanfifodir::cleanfifodir),
    ("ftrig-notify", &["s6-ftrig-notify"], ftrig_notify::ftrig_notify),
    ("ftrig-wait", &["s6-ftrig-wait"], ftrig_wait::ftrig_wait),
    ("halt", &["poweroff", "reboot", "shutdown"], halt::halt),
    ("init", &[], init::init),
    ("instance-control", &["s6-instance-control"], instance_control::instance_control),
    ("instance-create", &["s6-instance-create"], instance_create::instance_create),
    ("instance-delete", &["s6-instance-delete"], instance_delete::instance_delete),
    ("instance-list", &["s6-instance-list"], instance_list::instance_list),
    ("instance-status", &["s6-instance-status"], instance_status::instance_status),
    ("logutil-service", &[], logutil_service::logutil_service),
    ("mkfifodir", &["s6-mkfifodir"], mkfifodir::mkfifodir),
    ("notifyoncheck", &["s6-notifyoncheck"], notifyoncheck::notifyoncheck),
    ("permafailon", &["s6-permafailon"], permafailon::permafailon),
    ("printcontenv", &[], printcontenv::printcontenv),
    ("rc", &[], rc::rc),
    ("supervise", &["s6-supervise"], supervise::supervise),
    ("svc", &["s6-svc"], svc::svc),
    ("svdt", &["s6-svdt"], svdt::svdt),
    ("svdt-clear", &["s6-svdt-clear"], svdt_clear::svdt_clear),
    ("svlink", &["s6-svlink"], svlink::svlink),
    ("svlisten", &["s6-svlisten"], svlisten::svlisten),
    ("svlisten1", &["s6-svlisten1"], svlisten1::svlisten1),
    ("svlog", &["s6-log"], svlog::svlog),
    ("svok", &["s6-svok"], svok::svok),
    ("svperms", &["s6-svperms"], svperms::svperms),
    ("svpool", &[], svpool::svpool),
    ("svscan", &["s6-svscan"], svscan::svscan),
    ("svscanctl", &["s6-svscanctl"], svscanctl::svscanctl),
    ("svstat", &["s6-svstat"], svstat::svstat),
    ("svtail", &[], svtail::svtail),
    ("svunlink", &["s6-svunlink"], svunlink::svunlink),
    ("svwait", &["s6-svwait"], svwait::svwait),
    ("with-contenv", &[], with_contenv::with_contenv),
];

/// Names of s6 and images only: what they do is a part of a program of ours.
const OTHER_NAMES: &[(&str, Program)] = &[
    ("s6-rc", s6::rc),
    ("s6-rc-compile", s6::compile),
    ("s6-rc-db", s6::db),
    ("s6-rc-init", s6::init),
    ("s6-rc-update", s6::update),
];

perennial::entry!(run);

fn run(args: Vec<OsString>) -> u8 {
    is_all_in_one();
    let mut args = args.into_iter();
    let called = args.next().unwrap_or_default();
    let name = called.to_string_lossy();
    let name = name.rsplit('/').next().unwrap_or(&name);
    if let Some(command) = chain::find(name) {
        return chain::main(command, chain::word(called.as_bytes().to_vec()), words(args));
    }
    let (name, program) = find(name).unwrap_or(("perennial", perennial));
    cli::run(name, program, lexopt::Parser::from_args(args))
}

fn words(args: impl Iterator<Item = OsString>) -> Vec<chain::Word> {
    args.map(|word| chain::word(word.into_vec())).collect()
}

fn find(called: &str) -> Option<(&'static str, Program)> {
    PROGRAMS
        .iter()
        .find(|(name, others, _)| *name == called || others.contains(&called))
        .map(|(name, _, program)| (*name, *program))
        .or_else(|| OTHER_NAMES.iter().find(|(name, _)| *name == called).copied())
}

/// Called by its own name: the first argument says what to be.
fn perennial(mut parser: lexopt::Parser) -> Result<u8> {
    use lexopt::prelude::*;
    match cli::next(&mut parser)? {
        Some(Value(word)) => match (find(&word.to_string_lossy()), word.to_str()) {
            (Some((name, program)), _) => {
                diag::set_program(name);
                program(parser)
            }
            (None, Some("list")) => {
                let names: String =
                    ordered::sorted(all_names()).into_iter().map(|name| name + "\n").collect();
                diag::put(1, names.as_bytes());
                Ok(code::OK)
            }
            (None, Some("install")) => install(parser),
            (None, Some("run")) => only_command(parser),
            (None, Some(name)) if chain::find(name).is_some() => {
                let command = chain::find(name).expect("it was found");
                Ok(chain::main(command, command.name.as_bytes(), words(parser.raw_args()?)))
            }
            _ => Err(Error::usage(format!("no program {:?} in here (perennial list shows all)", word))),
        },
        Some(Long("version") | Short('V')) => {
            diag::put(1, concat!("perennial ", env!("CARGO_PKG_VERSION"), "\n").as_bytes());
            Ok(code::OK)
        }
        Some(Short('h') | Long("help")) => cli::help(USAGE),
        _ => Err(cli::usage(USAGE)),
    }
}

/// Runs a command in the container's environment, without services: as the container's first process, or in a
/// container that runs.
fn only_command(parser: lexopt::Parser) -> Result<u8> {
    match Pid::own().raw() {
        1 => {
            diag::set_program("init");
            settings::store_is_ours(false);
            init::start(parser, true)
        }
        _ => with_contenv::with_contenv(parser),
    }
}

/// What every program is called here.
fn all_names() -> Vec<String> {
    let names = PROGRAMS.iter().map(|(name, _, _)| (*name).to_owned());
    names.chain(chain::all().map(|command| command.shown_name())).collect()
}

/// Names that scripts look for in /usr/bin: the chain loaders that they have as interpreters, beside all
/// names of s6.
const IN_USR_BIN: [&str; 4] = ["execlineb", "with-contenv", "printcontenv", "logutil-service"];

/// Lays out an installation.
fn install(mut parser: lexopt::Parser) -> Result<u8> {
    use lexopt::prelude::*;
    let (mut root, mut s6_names, mut usr_bin) = (None, false, false);
    while let Some(arg) = cli::next(&mut parser)? {
        match arg {
            Long("root") => root = Some(cli::value(&mut parser)?),
            Long("s6-names") => s6_names = true,
            Long("usr-bin") => usr_bin = true,
            _ => return Err(cli::usage(USAGE)),
        }
    }
    let mut plan = Plan { root: root.ok_or_else(|| cli::usage(USAGE))?, ..Plan::default() };
    let mut add = |name: String, is_s6: bool| {
        if is_s6 && !s6_names {
            return;
        }
        if usr_bin && (is_s6 || IN_USR_BIN.contains(&&*name)) {
            plan.in_usr_bin.push(name.clone());
        }
        plan.names.push(name);
    };
    for (name, others, _) in PROGRAMS {
        add((*name).to_owned(), false);
        others.iter().for_each(|other| add((*other).to_owned(), true));
    }
    for command in chain::all() {
        if command.names != Names::S6 {
            add(command.name.to_owned(), false);
        }
        if command.names != Names::Own {
            add(["s6-", command.name].concat(), true);
        }
    }
    for (name, _) in OTHER_NAMES.iter().filter(|_| s6_names) {
        plan.names.push((*name).to_owned());
        plan.in_usr_bin.extend(usr_bin.then(|| (*name).to_owned()));
    }
    let outcome = perennial::install::install(&plan)?;
    for path in &outcome.kept {
        diag::warn(format_args!("{path} is there already: left as it is"));
    }
    let made = outcome.made.len();
    diag::put(
        1,
        format!("{made} files and links made, {} left as they were\n", outcome.kept.len()).as_bytes(),
    );
    Ok(code::OK)
}
