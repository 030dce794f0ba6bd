//! All commands, by name.

use super::{Args, Result, Step};
use crate::execline::commands::{
    conditions, control, descriptors, environment, keys, loops, patterns, positional, processes, script,
};
use crate::tools::{dns, files, limits, text, time, users, variables, waiting};

/// A command.
pub struct Command {
    /// Its name.
    pub name: &'static str,
    /// Which names it has.
    pub names: Names,
    /// What its command line looks like.
    pub usage: &'static str,
    /// What it does.
    pub function: fn(&mut Args) -> Result<Step>,
}

/// Which names a command has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// Its own.
    Own,
    /// Its own, and that with `s6-` in front.
    Both,
    /// Only that with `s6-` in front: its own belongs to another program of every system.
    S6,
}

impl Command {
    /// The name that it says of itself.
    pub fn shown_name(&self) -> String {
        if self.names == Names::S6 { ["s6-", self.name].concat() } else { self.name.to_owned() }
    }
}

/// The command of a name.
pub fn find(name: &str) -> Option<&'static Command> {
    let (name, not) = match name.strip_prefix("s6-") {
        Some(rest) => (rest, Names::Own),
        None => (name, Names::S6),
    };
    COMMANDS.iter().find(|command| command.names != not && command.name == name)
}

/// All commands.
pub fn all() -> impl Iterator<Item = &'static Command> {
    COMMANDS.iter()
}

macro_rules! commands {
    ($($names:ident $name:literal $function:path, $usage:literal;)*) => {
        const COMMANDS: &[Command] = &[$(
            Command { name: $name, names: Names::$names, usage: $usage, function: $function },
        )*];
    };
}

commands! {
    Both "applyuidgid" users::applyuidgid, "applyuidgid [ -z ] [ -u uid ] [ -g gid ] [ -G gidlist ] [ -U ] prog...";
    Own "background" control::background, "background [ -d ] { command... } [ prog... ]";
    Own "backtick" environment::backtick, "backtick [ -i | -I | -x | -D default ] [ -N | -n ] [ -E | -e ] var { command... } prog...";
    S6 "basename" text::basename, "s6-basename [ -n ] file [ suffix ]";
    Own "case" patterns::case, "case [ -s | -S ] [ -e | -E ] [ -n | -N ] [ -i ] value { regex { command... } ... } prog...";
    S6 "cat" text::cat_, "s6-cat";
    Own "cd" descriptors::cd, "cd path prog...";
    S6 "chmod" files::chmod, "s6-chmod mode file";
    S6 "chown" files::chown, "s6-chown [ -U ] [ -u uid ] [ -g gid ] file";
    Own "define" keys::define, "define [ -N | -n ] [ -s ] [ -C | -c ] [ -d delim ] key value prog...";
    S6 "dirname" text::dirname, "s6-dirname [ -n ] file";
    S6 "dnsip4" dns::ip4, "s6-dnsip4 [ -q ] [ -H | -h ] [ -r ] [ -t timeout ] domain";
    S6 "dnsip6" dns::ip6, "s6-dnsip6 [ -q ] [ -H | -h ] [ -r ] [ -t timeout ] domain";
    Own "dollarat" positional::dollarat, "dollarat [ -n ] [ -0 | -d delim ]";
    S6 "echo" text::echo, "s6-echo [ -n ] [ -s sep ] args...";
    Own "elgetopt" positional::elgetopt, "elgetopt [ -D default ] optstring prog...";
    Own "elgetpositionals" keys::elgetpositionals, "elgetpositionals [ -P num ] prog...";
    Own "elglob" keys::elglob, "elglob [ -v ] [ -w ] [ -s ] [ -m ] [ -e ] [ -0 ] [ -n ] [ -d delim ] key pattern prog...";
    Own "eltest" patterns::eltest, "eltest expression...";
    Own "emptyenv" environment::emptyenv, "emptyenv [ -p ] [ -l ] [ -c | -o | -P ] prog...";
    Both "envdir" variables::envdir, "envdir [ -I | -i ] [ -n ] [ -f ] [ -L ] [ -c nullchar ] dir prog...";
    Own "envfile" environment::envfile, "envfile [ -i | -I ] file prog...";
    Both "envuidgid" users::envuidgid, "envuidgid [ -i | -D uid:gid:gidlist ] [ -u | -g | -B ] [ -n ] account prog...";
    Own "exec" control::exec, "exec [ -c ] [ -l ] [ -a argv0 ] prog...";
    Own "execline-cd" descriptors::cd, "execline-cd path prog...";
    Own "execline-umask" descriptors::umask, "execline-umask mask prog...";
    Own "execlineb" script::execlineb, "execlineb [ -p | -P | -S nmin | -s nmin ] [ -q | -w | -W ] [ -e ] [ -c commandline ] script args...";
    Own "exit" control::exit, "exit [ exitcode ]";
    Own "export" environment::export, "export variable value prog...";
    Own "export-array" environment::export_array, "export-array [ -d delim ] variable { value... } prog...";
    S6 "false" text::false_, "s6-false";
    Own "fdblock" descriptors::fdblock, "fdblock [ -n ] fd prog...";
    Own "fdclose" descriptors::fdclose, "fdclose fd prog...";
    Own "fdmove" descriptors::fdmove, "fdmove [ -c ] to from prog...";
    Own "fdreserve" descriptors::fdreserve, "fdreserve n prog...";
    Own "fdswap" descriptors::fdswap, "fdswap fd1 fd2 prog...";
    Own "forbacktickx" loops::forbacktickx, "forbacktickx [ -p | -P maxpar | -o okcodes | -x breakcodes ] [ -E | -e ] [ -N | -n ] [ -C | -c ] [ -0 | -d delim ] var { command... } prog...";
    Own "foreground" control::foreground, "foreground { command... } [ prog... ]";
    S6 "format-filter" text::format_filter, "s6-format-filter format [ args... ]";
    Own "forstdin" loops::forstdin, "forstdin [ -p | -P maxpar | -o okcodes | -x breakcodes ] [ -E | -e ] [ -N | -n ] [ -C | -c ] [ -0 | -d delim ] var prog...";
    Own "forx" loops::forx, "forx [ -p | -P maxpar | -o okcodes | -x breakcodes ] [ -E | -e ] var { value... } prog...";
    Own "getcwd" environment::getcwd, "getcwd [ -E | -e ] variable prog...";
    Own "getpid" environment::getpid, "getpid [ -E | -e ] [ -P | -p ] variable prog...";
    Own "heredoc" descriptors::heredoc, "heredoc [ -d ] fd string prog...";
    S6 "hiercopy" files::hiercopy, "s6-hiercopy src dst";
    Own "homeof" environment::homeof, "homeof user";
    Own "if" conditions::if_, "if [ -n ] [ -X ] [ -t | -x exitcode ] { command... } [ prog... ]";
    Own "ifelse" conditions::ifelse, "ifelse [ -n ] [ -X ] { command-if... } { command-then... } [ command-else... ]";
    Own "ifte" conditions::ifte, "ifte [ -n ] [ -X ] { command-then... } { command-else... } command-if...";
    Own "ifthenelse" conditions::ifthenelse, "ifthenelse [ -X ] { command-if... } { command-then... } { command-else... } [ prog... ]";
    Own "importas" keys::importas, "importas [ -i | -D default ] [ -u ] [ -N | -n ] [ -s ] [ -C | -c ] [ -d delim ] ( -S key | key variable ) prog...";
    S6 "ln" files::ln, "s6-ln [ -n ] [ -s ] [ -f ] [ -L ] [ -P ] src... dest";
    Own "loopwhilex" loops::loopwhilex, "loopwhilex [ -n ] [ -o okcodes | -x exitcodes ] prog...";
    S6 "ls" text::ls, "s6-ls [ -0 ] [ -a | -A ] [ -x exclude ] dir";
    S6 "mkdir" files::mkdir, "s6-mkdir [ -p ] [ -v ] [ -m mode ] dir...";
    S6 "mkfifo" files::mkfifo, "s6-mkfifo [ -m mode ] fifo...";
    Own "multidefine" keys::multidefine, "multidefine [ -0 ] [ -r ] [ -N | -n ] [ -C | -c ] [ -d delim ] value { variable... } prog...";
    Own "multisubstitute" keys::multisubstitute, "multisubstitute { directive... } prog...";
    Both "pause" waiting::pause, "pause [ -t ] [ -h ] [ -a ] [ -q ] [ -b ] [ -i ] [ -p signal,signal... ]";
    Own "pipeline" control::pipeline, "pipeline [ -d ] [ -r | -w ] { command... } prog...";
    Own "piperw" descriptors::piperw, "piperw fdr fdw prog...";
    Own "redirfd" descriptors::redirfd, "redirfd -[ r | w | u | a | x ] [ -N | -n ] [ -b ] [ -f ] [ -E | -e ] fd|var file prog...";
    S6 "rmrf" files::rmrf, "s6-rmrf file...";
    Own "runblock" positional::runblock, "runblock [ -P ] [ -n argshift ] [ -r ] n prog...";
    Both "setlock" waiting::setlock, "setlock [ -r | -w ] [ -n | -N ] [ -t timeout ] [ -d fd ] lockfile prog...";
    S6 "setsid" limits::setsid, "s6-setsid [ -s | -b | -f | -g ] [ -i | -I | -q ] [ -d ctty ] prog...";
    Both "setuidgid" users::setuidgid, "setuidgid account|uid:gid prog...";
    Own "shift" positional::shift, "shift [ -n arg# ] [ -b block# ] prog...";
    S6 "sleep" waiting::sleep, "s6-sleep [ -m ] duration [ prog... ]";
    Both "softlimit" limits::softlimit, "softlimit [ -h | -H ] [ -a allbytes ] [ -c corebytes ] [ -d databytes ] [ -f filebytes ] [ -l lockbytes ] [ -m membytes ] [ -o openfiles ] [ -P prio ] [ -p processes ] [ -r residentbytes ] [ -s stackbytes ] [ -t cpusecs ] prog...";
    S6 "sort" text::sort, "s6-sort [ -bcfru0 ]";
    Both "tai64n" time::tai64n, "tai64n";
    Both "tai64nlocal" time::tai64nlocal, "tai64nlocal [ -g ]";
    S6 "test" patterns::eltest, "s6-test expression...";
    S6 "touch" files::touch, "s6-touch file...";
    Own "trap" processes::trap, "trap [ -x ] { signal { command... } ... } prog...";
    S6 "true" text::true_, "s6-true";
    Own "umask" descriptors::umask, "umask mask prog...";
    Own "unexport" environment::unexport, "unexport variable prog...";
    Own "wait" processes::wait, "wait [ -I | -i ] [ -a | -o ] [ -r | -t timeout ] { pid... } [ prog... ]";
    Own "withstdinas" environment::withstdinas, "withstdinas [ -i | -I | -D default ] [ -N | -n ] [ -E | -e ] var prog...";
}
