//! Reads lines and writes rotated logs and labelled output, as s6-log does.

use lexopt::prelude::*;
use perennial::cli;
use perennial::diag::Result;
use perennial::init::settings;
use perennial::log::run::{self, Options};
use perennial::log::script::{Format, Script};
use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str = "svlog [ -d notif ] [ -q | -v ] [ -b ] [ -p ] [ -l linelimit ] [ -t gracetime ] \
                     [ --format text|json|logfmt ] [ --spool dir ] [ -- ] directive...\n\
                     \x20      svlog --labels run name";

/// The program.
pub fn main() -> ExitCode {
    cli::main("svlog", svlog)
}

/// The shortest limit that `-l` sets.
const SHORTEST: u64 = 48;

/// Its options.
pub fn svlog(mut parser: lexopt::Parser) -> Result<u8> {
    let (mut options, mut format) = (Options::default(), Format::Text);
    let mut words = Vec::new();
    while let Some(arg) = cli::next(&mut parser)? {
        match arg {
            Short('q') => options.verbosity = 0,
            Short('v') => options.verbosity = 2,
            // Reading always stops while something cannot be written: nothing is held in memory.
            Short('b') => {}
            Short('p') => options.protected = true,
            Short('d') => options.notify = Some(cli::number("-d", &mut parser, 3, i32::MAX as u64)?),
            Short('l') => {
                let limit: u64 = cli::number("-l", &mut parser, 0, 1 << 30)?;
                options.limit = if limit == 0 { 0 } else { limit.max(SHORTEST) as usize };
            }
            Short('t') => {
                let ms = cli::number("-t", &mut parser, 0, u32::MAX.into())?;
                options.grace = Duration::from_millis(ms);
            }
            Long("format") => {
                format =
                    Format::by_name(parser.value()?.as_encoded_bytes()).ok_or_else(|| cli::usage(USAGE))?;
            }
            Long("spool") => options.spool = Some(cli::value(&mut parser)?),
            Long("labels") => return labels(parser.raw_args()?.collect()),
            Short('h') | Long("help") => return cli::help(USAGE),
            Value(word) => {
                words.push(word);
                words.extend(parser.raw_args()?);
            }
            _ => return Err(cli::usage(USAGE)),
        }
    }
    if words.is_empty() {
        return Err(cli::usage(USAGE));
    }
    run::run(Script::parse(&words, format)?, options)
}

/// The `run` of a logger that labels what its service says, for the container's output. It is told the script
/// and its own name, `web/log`.
fn labels(words: Vec<OsString>) -> Result<u8> {
    let [_, name] = &words[..] else { return Err(cli::usage(USAGE)) };
    let name = name.to_string_lossy();
    let service = name.strip_suffix("/log").unwrap_or(&name);
    let label = std::fs::read_to_string("../log-label").unwrap_or_default();
    let label = Some(label.trim_end_matches('\n')).filter(|label| !label.is_empty()).unwrap_or(service);
    let format = settings::text("PERENNIAL_LABELS").and_then(|name| Format::by_name(name.as_bytes()));
    let script = [format!("label={label}").into(), "1".into()];
    let options = Options { spool: Some("supervise".to_owned()), ..Options::default() };
    run::run(Script::parse(&script, format.unwrap_or_default())?, options)
}
