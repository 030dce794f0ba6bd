//! Dependencies: checks definitions, brings services up and down in order, says what is.

use lexopt::prelude::*;
use perennial::cli;
use perennial::diag::{self, Result};
use perennial::rc::args::{Args, Form, timeout};
use perennial::rc::change::{self, Wish};
use perennial::rc::check::check;
use perennial::rc::live::Busy;
use perennial::rc::progress::Shown;
use perennial::rc::{apply, compile, views};
use std::process::ExitCode;

const USAGE: &str = "rc check [ --root image ] [ --layer ] [ source... ]\n\
    \x20      rc [ -l live ] [ -t timeout ] [ -j jobs ] [ -b ] [ --dry-run ] [ --no-wait ] up | down | restart | reload name...\n\
    \x20      rc [ -l live ] [ -t timeout ] [ -j jobs ] [ -b ] [ --dry-run ] [ --ready-within time ] apply [ source... ]\n\
    \x20      rc [ -l live ] [ -u | -d | -D ] [ -a ] [ -t timeout ] [ -j jobs ] [ -b ] change [ name... ]\n\
    \x20      rc [ -l live ] list [ --up ] [ name... ]\n\
    \x20      rc [ -l live ] status [ --json ] [ --up ] [ name... ]\n\
    \x20      rc [ -l live ] deps [ -r ] [ --json ] name...\n\
    \x20      rc [ -l live ] graph [ -r ] [ --dot | --svg ] [ name... ]\n\
    \x20      rc [ -l live ] why name...\n\
    \x20      rc [ -l live ] blame | critical | plot [ name... ]\n\
    \x20      rc compile database source...\n\
    \x20      rc init -c database [ -l live ] [ -p prefix ] scandir";

/// The program.
pub fn main() -> ExitCode {
    cli::main("rc", rc)
}

/// Its options.
pub fn rc(mut parser: lexopt::Parser) -> Result<u8> {
    let mut args = Args::default();
    let mut command = None;
    while let Some(arg) = cli::next(&mut parser)? {
        match arg {
            Short('l') | Long("live") => args.live = cli::absolute(&cli::value(&mut parser)?)?,
            Short('c') => args.compiled = Some(cli::value(&mut parser)?),
            Short('p') => args.prefix = cli::value(&mut parser)?,
            Short('t') | Long("timeout") => args.timeout = timeout(&cli::value(&mut parser)?)?,
            Short('j') | Long("jobs") => args.jobs = Some(cli::number("-j", &mut parser, 1, 1 << 20)?),
            Short('u') => args.up = true,
            Short('d') => args.up = false,
            Short('D') => (args.up, args.even_essential) = (false, true),
            Short('a') => args.all = true,
            Short('b') => args.wait = true,
            Short('n') | Long("dry-run") => args.dry_run = true,
            Long("ready-within") => args.ready_within = timeout(&cli::value(&mut parser)?)?,
            Long("no-wait") => args.no_wait = true,
            Long("root") => args.root = Some(cli::value(&mut parser)?),
            Long("layer") => args.layer = true,
            Long("json") => args.json = true,
            Short('r') => args.reverse = true,
            Long("dot") => args.form = Form::Dot,
            Long("svg") => args.form = Form::Svg,
            Long("up") => args.only_up = true,
            Short('h') | Long("help") => return cli::help(USAGE),
            Value(word) if command.is_none() => command = Some(cli::text(word)?),
            Value(word) => args.names.push(cli::text(word)?),
            _ => return Err(cli::usage(USAGE)),
        }
    }
    let named = |wish: Wish| match args.names.is_empty() {
        true => Err(cli::usage(USAGE)),
        false => change::command(&args, wish),
    };
    match command.as_deref() {
        Some("check") => check(&args),
        Some("compile") => match args.names.as_slice() {
            [database, sources @ ..] if !sources.is_empty() => compile::compile(database, sources),
            _ => Err(cli::usage(USAGE)),
        },
        Some("init") => match (args.names.as_slice(), &args.compiled) {
            ([scandir], Some(compiled)) => compile::init(&args, compiled, scandir),
            _ => Err(cli::usage(USAGE)),
        },
        Some("up") => named(Wish::Up),
        Some("down") => named(Wish::Down),
        Some("restart") => named(Wish::Restart),
        Some("reload") => named(Wish::Reload),
        Some("apply") => apply::command(&args),
        Some("change") => {
            let wish = if args.up { Wish::Up } else { Wish::Down };
            change::change(&args, wish, if args.wait { Busy::Wait } else { Busy::Refuse }, &mut Shown::new())
        }
        Some("list") => show(views::list(&args)),
        Some("status") => show(views::status(&args)),
        Some("graph") => show(views::graph(&args)),
        Some("deps" | "why") if args.names.is_empty() => Err(cli::usage(USAGE)),
        Some("deps") => show(views::deps(&args)),
        Some("why") => show(views::why(&args)),
        Some("blame") => show(views::blame(&args)),
        Some("critical") => show(views::critical(&args)),
        Some("plot") => show(views::plot(&args)),
        _ => Err(cli::usage(USAGE)),
    }
}

/// Prints what a command shows.
fn show(text: Result<String>) -> Result<u8> {
    diag::print(text?)
}
