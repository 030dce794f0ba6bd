//! export, unexport, emptyenv, export-array, envfile, backtick, withstdinas, getcwd, getpid, homeof.

use super::control::with_descriptor;
use super::{Given, give};
use crate::accounts::Database;
use crate::chain::*;
use crate::sys::{Errno, env, fd};
use std::os::fd::AsRawFd;

fn go_on(given: Given) -> Result<Step> {
    next_with(given.argv, given.changes)
}

/// The name of a variable, which may even be empty, but not contain `=`.
fn name(args: &mut Args) -> Result<Word> {
    let name = args.word()?;
    if name.contains(&b'=') {
        return Err(usage(&["invalid variable name: ", shown(name)]));
    }
    Ok(name)
}

/// `export`
pub fn export(args: &mut Args) -> Result<Step> {
    args.at_least(3)?;
    let change = setting(name(args)?, args.word()?);
    next_with(args.rest(), vec![change])
}

/// `unexport`
pub fn unexport(args: &mut Args) -> Result<Step> {
    args.at_least(2)?;
    let name = name(args)?;
    next_with(args.rest(), if name.is_empty() { Vec::new() } else { vec![name] })
}

/// `export-array`
pub fn export_array(args: &mut Args) -> Result<Step> {
    let mut delimiter = None;
    while args.option("d:")? != 0 {
        delimiter = args.value().first().copied();
    }
    args.at_least(2)?;
    let name = name(args)?;
    let mut value = Vec::new();
    for word in args.full_block()? {
        match delimiter {
            Some(delimiter) => value.extend_from_slice(cat(&[word, &[delimiter]])),
            None => value.extend_from_slice(netstring(word)),
        }
    }
    args.at_least(1)?;
    next_with(args.rest(), vec![setting(name, &value)])
}

/// `emptyenv`
pub fn emptyenv(args: &mut Args) -> Result<Step> {
    let (mut keep, mut clean, mut options, mut arguments) = (Vec::new(), false, false, false);
    loop {
        match args.option("plcoP")? {
            b'p' => keep.push(&b"PATH="[..]),
            b'l' => keep.push(b"LD_LIBRARY_PATH="),
            b'c' => clean = true,
            b'o' => options = true,
            b'P' => arguments = true,
            _ => break,
        }
    }
    args.at_least(1)?;
    let mut changes = vec![EVERYTHING];
    let all = env::strings().map(|string| string.to_bytes());
    if clean {
        changes = all.filter(|string| is_execlines(string)).map(name_of).collect();
    } else if options || arguments {
        changes.extend(super::positional::popped(arguments, options)?);
    } else {
        changes.extend(all.filter(|string| keep.iter().any(|k| string.starts_with(k))));
    }
    next_with(args.rest(), changes)
}

fn name_of(string: &[u8]) -> &[u8] {
    string.split(|b| *b == b'=').next().unwrap_or_default()
}

/// Whether a variable is one of those that execline's commands make.
fn is_execlines(string: &[u8]) -> bool {
    let name = name_of(string);
    matches!(name, b"!" | b"?" | b"#" | b"0" | b"EXECLINE_STRICT")
        || name.starts_with(b"ELGETOPT_")
        || name.strip_prefix(b"FD").is_some_and(|n| number(n).is_some())
        || number(name).is_some_and(|_| name[0] != b'0')
}

/// What happens with a value that is not as it should be.
struct Value {
    chomp: bool,
    import: bool,
}

/// `backtick`
pub fn backtick(args: &mut Args) -> Result<Step> {
    let (mut insist, mut default) = (2, None);
    let mut how = Value { chomp: true, import: false };
    loop {
        match args.option("iINnxD:Ee")? {
            b'i' => insist = 2,
            b'I' => insist = 0,
            b'x' => (insist, default) = (1, None),
            b'D' => (insist, default) = (1, Some(args.value())),
            b'N' => how.chomp = false,
            b'n' => how.chomp = true,
            0 => break,
            letter => how.import = letter == b'E',
        }
    }
    args.at_least(2)?;
    let variable = args.variable()?;
    let block = args.full_block()?;
    let rest = args.rest();
    if rest.is_empty() {
        return Err(usage(&["the command line after the block must not be empty"]));
    }
    let broken = |errno| unable("read what the command says", errno);
    let [read, write] = fd::pipe().map_err(broken)?;
    let pid = with_descriptor(write, 1, || spawn(&block, &[]))?;
    let mut text = fd::read_all(read.as_raw_fd()).map_err(broken)?;
    drop(read);
    let ended = reap(pid);
    let zero = text.iter().position(|b| *b == 0);
    let value = if ended.question_mark() != 0 {
        if insist == 2 {
            ended.crash().map_err(|_| failed(ended.code(), &["child process crashed"]))?;
            return Err(failed(ended.code(), &["child process exited non-zero"]));
        }
        text.truncate(zero.unwrap_or(text.len()));
        if insist == 1 { default } else { Some(chomped(text, how.chomp)) }
    } else if let Some(zero) = zero {
        const TEXT: &str = "child process output contained a null character";
        match insist {
            2 => return Err(failed(124, &[TEXT])),
            1 => {
                warn(&[TEXT]);
                default
            }
            _ => {
                text.truncate(zero);
                Some(chomped(text, how.chomp))
            }
        }
    } else {
        Some(chomped(text, how.chomp))
    };
    let mut variables = vec![(variable, value)];
    if insist < 2 {
        variables.push((&b"?"[..], Some(decimal(ended.question_mark()))));
    }
    go_on(give(rest, variables, how.import))
}

/// Without one newline at the end, if there is one.
fn chomped(mut text: Vec<u8>, chomp: bool) -> Word {
    if chomp && text.last() == Some(&b'\n') {
        text.pop();
    }
    word(text)
}

/// `withstdinas`
pub fn withstdinas(args: &mut Args) -> Result<Step> {
    let (mut insist, mut default) = (0, None);
    let mut how = Value { chomp: true, import: false };
    loop {
        match args.option("iINnD:Ee")? {
            b'i' => insist = 2,
            b'I' => insist = 1,
            b'D' => default = Some(args.value()),
            b'N' => how.chomp = false,
            b'n' => how.chomp = true,
            0 => break,
            letter => how.import = letter == b'E',
        }
    }
    let variable = args.variable()?;
    let mut text = fd::read_all(0).map_err(|errno| unable("read standard input", errno))?;
    let value = match text.iter().position(|b| *b == 0) {
        None => Some(chomped(text, how.chomp)),
        Some(_) if insist == 2 => return Err(failed(1, &["stdin contained a null character"])),
        Some(_) if insist == 1 => None,
        Some(_) if default.is_some() => {
            warn(&["stdin contained a null character - using default instead"]);
            default
        }
        Some(zero) => {
            text.truncate(zero);
            Some(word(text))
        }
    };
    import_one(args, variable, value, how.import)
}

/// Goes on with one variable more.
fn import_one(args: &mut Args, name: Word, value: Option<Word>, import: bool) -> Result<Step> {
    if import && value.is_none() {
        return Err(usage(&[shown(name), " is not set"]));
    }
    go_on(give(args.rest(), vec![(name, value)], import))
}

/// `getcwd`
pub fn getcwd(args: &mut Args) -> Result<Step> {
    let mut import = false;
    loop {
        match args.option("Ee")? {
            0 => break,
            letter => import = letter == b'E',
        }
    }
    args.at_least(2)?;
    let name = args.variable()?;
    let value = working_directory()?;
    import_one(args, name, Some(value), import)
}

/// The path of our directory.
pub(super) fn working_directory() -> Result<Word> {
    let path =
        rustix::process::getcwd(Vec::new()).map_err(|errno| unable("find the current directory", errno))?;
    Ok(word(path.into_bytes()))
}

/// `getpid`
pub fn getpid(args: &mut Args) -> Result<Step> {
    let (mut import, mut parent) = (false, false);
    loop {
        match args.option("EePp")? {
            0 => break,
            letter @ (b'P' | b'p') => parent = letter == b'P',
            letter => import = letter == b'E',
        }
    }
    args.at_least(2)?;
    let name = args.variable()?;
    let pid = if parent { rustix::process::getppid() } else { Some(rustix::process::getpid()) };
    let pid = decimal(pid.map_or(0, |pid| pid.as_raw_nonzero().get()));
    import_one(args, name, Some(pid), import)
}

/// `homeof`
pub fn homeof(args: &mut Args) -> Result<Step> {
    let user = args.word()?;
    let name = shown(user);
    let users = Database::users()?;
    let home = users
        .user(name)
        .map(|user| user.home)
        .ok_or_else(|| failed(111, &["unable to find user ", name, " in /etc/passwd"]))?;
    print_and_exit(cat(&[home.as_bytes(), b"\n"]))
}

/// `envfile`
pub fn envfile(args: &mut Args) -> Result<Step> {
    let mut must_be_there = true;
    loop {
        match args.option("iI")? {
            0 => break,
            letter => must_be_there = letter == b'i',
        }
    }
    args.at_least(2)?;
    let file = args.word()?;
    let opened = if file == b"-" { Ok(0) } else { fd::open(&crate::chain::c_string(file), O_RDONLY) };
    let text = match opened.and_then(|number| {
        let text = fd::read_all(number);
        fd::close(number);
        text
    }) {
        Err(Errno::NOENT) if !must_be_there => Vec::new(),
        text => text.map_err(|errno| unable_to("read", file, errno))?,
    };
    let changes = crate::execline::envfile::parse(&text).map_err(|line| {
        failed(1, &["in ", shown(file), ": syntax error line ", shown(decimal(line as i64))])
    })?;
    let changes = changes.into_iter().map(word).collect();
    next_with(args.rest(), changes)
}

/// `open(2)`'s flag for reading.
const O_RDONLY: i32 = 0;
