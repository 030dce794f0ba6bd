//! if, ifelse, ifte, ifthenelse.

use crate::chain::*;

/// Options that these have in common.
#[derive(Default)]
struct Options {
    /// `-n`: the other way round.
    not: bool,
    /// `-X`: a crash is an exit code like any other.
    crash_is_code: bool,
}

impl Options {
    fn take(&mut self, letter: u8) {
        match letter {
            b'n' => self.not = true,
            _ => self.crash_is_code = true,
        }
    }

    /// Runs a command; whether the answer is yes, and how it ended.
    fn ask(&self, argv: &[Word]) -> Result<(bool, Ended)> {
        let ended = after(argv, &[])?;
        if !self.crash_is_code {
            ended.crash()?;
        }
        Ok(((ended.code() == 0) != self.not, ended))
    }
}

/// `if`
pub fn if_(args: &mut Args) -> Result<Step> {
    let (mut options, mut code) = (Options::default(), None);
    loop {
        match args.option("nXtx:")? {
            b't' => code = Some(0),
            b'x' => code = Some(args.value_number()?),
            0 => break,
            letter => {
                options.take(letter);
                if letter == b'n' {
                    code = code.or(Some(1));
                }
            }
        }
    }
    if code > Some(255) {
        return Err(usage(&["invalid exit code"]));
    }
    match options.ask(&args.block("")?)? {
        (true, _) => next(args.rest()),
        (false, ended) => Ok(Step::Exit(code.map_or(ended.code(), |code| code as u8))),
    }
}

/// `ifelse`
pub fn ifelse(args: &mut Args) -> Result<Step> {
    let options = options(args)?;
    let condition = args.block("if ")?;
    let then = args.block("then ")?;
    let (yes, _) = options.ask(&condition)?;
    next(if yes { then } else { args.rest() })
}

fn options(args: &mut Args) -> Result<Options> {
    let mut options = Options::default();
    loop {
        match args.option("nX")? {
            0 => return Ok(options),
            letter => options.take(letter),
        }
    }
}

/// `ifte`
pub fn ifte(args: &mut Args) -> Result<Step> {
    let options = options(args)?;
    let then = args.block("then ")?;
    let otherwise = args.block("else ")?;
    let condition = args.rest();
    if condition.is_empty() {
        return Err(usage(&["empty command-if"]));
    }
    let (yes, _) = options.ask(&condition)?;
    next(if yes { then } else { otherwise })
}

/// `ifthenelse`
pub fn ifthenelse(args: &mut Args) -> Result<Step> {
    let (mut options, mut same_scope) = (Options::default(), false);
    loop {
        match args.option("Xs")? {
            0 => break,
            b's' => same_scope = true,
            letter => options.take(letter),
        }
    }
    let condition = args.block("if ")?;
    let then = args.block("then ")?;
    let otherwise = args.block("else ")?;
    let (yes, _) = options.ask(&condition)?;
    let mut chosen = if yes { then } else { otherwise };
    if same_scope {
        chosen.extend(args.rest());
        return next(chosen);
    }
    sequence(chosen, args.rest())
}

/// Runs a command to its end and goes on with another, which has the outcome as variable `?`.
pub(super) fn sequence(first: Vec<Word>, then: Vec<Word>) -> Result<Step> {
    let outcome = if first.is_empty() {
        0
    } else {
        match crate::chain::start(&first, &[]) {
            Ok(pid) => crate::chain::reap(pid).question_mark(),
            Err(errno) => {
                warn(&[unable_to("spawn", first[0], errno).message()]);
                if errno == crate::sys::Errno::NOENT { 127 } else { 126 }
            }
        }
    };
    next_with(then, vec![super::numbered(b"?", outcome)])
}
