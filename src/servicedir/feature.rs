//! The files of a service directory that are ours, not s6's: what they may say, and what is wrong with one that
//! says something else.
//!
//! s6 has a default for a file that it cannot read. One of these that means nothing is an error: the service is
//! not started, and the file is named. `rc check` finds the same before anything is started.
//!
//! Nearly all services have none of them, so [`Features`] is kept beside the definition and only if there is one.
//! What a file names that may change without the file (an account, variables) is looked up when the service is
//! started: see [`super::account`], [`super::environment`].
#![forbid(unsafe_code)]

use crate::time::parse_duration;
use std::fmt;
use std::time::Duration;

/// A resource limit: as `prlimit(1)` names it, its number in the kernel's ABI, and whether it counts bytes.
const LIMITS: [(&str, u8, bool); 16] = [
    ("cpu", 0, false),
    ("fsize", 1, true),
    ("data", 2, true),
    ("stack", 3, true),
    ("core", 4, true),
    ("rss", 5, true),
    ("nproc", 6, false),
    ("nofile", 7, false),
    ("memlock", 8, true),
    ("as", 9, true),
    ("locks", 10, false),
    ("sigpending", 11, false),
    ("msgqueue", 12, true),
    ("nice", 13, false),
    ("rtprio", 14, false),
    ("rttime", 15, false),
];

/// One line of `limits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The kernel's number of the resource.
    pub resource: u8,
    /// What the process may use; `u64::MAX` is no limit.
    pub soft: u64,
    /// As far as it may raise that itself.
    pub hard: u64,
}

/// The name of a resource.
pub fn limit_name(resource: u8) -> &'static str {
    LIMITS.iter().find(|(_, number, _)| *number == resource).map_or("?", |(name, ..)| name)
}

/// Files of ours with something in them to be read, in the order in which they are looked at.
pub const VALUES: [&str; 21] = [
    "user",
    "umask",
    "limits",
    "nice",
    "oom-score",
    "log-label",
    "restart",
    "restart-delay",
    "give-up",
    "on-give-up",
    "on-exit",
    "pid-file",
    "timeout-validate",
    "check-interval",
    "timeout-check",
    "timeout-up",
    "health-interval",
    "health-timeout",
    "health-retries",
    "control-group",
    "watchdog",
];

/// Files of ours that are executed.
pub const PROGRAMS: [&str; 5] = ["condition", "validate", "fallback", "check", "health"];

/// What else is ours: that it is there says all.
pub const OTHERS: [&str; 4] = ["env", "env-file", "forking", "notify-socket"];

/// What the files say. A default where there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// `user`: run is this account's; `NAME`, `UID:GID` …
    pub user: Option<String>,
    /// There is a directory `env`.
    pub env: bool,
    /// There is an `env-file`.
    pub env_file: bool,
    /// `umask`
    pub umask: Option<u32>,
    /// `limits`
    pub limits: Vec<Limit>,
    /// `nice`: -20 to 19.
    pub nice: Option<i32>,
    /// `oom-score`: -1000 to 1000.
    pub oom_score: Option<i32>,
    /// `log-label`: what stands before the service's lines in the container's output.
    pub log_label: Option<String>,
    /// `restart`: whether it is started again after an end that nobody asked for.
    pub restart: Option<Restart>,
    /// `restart-delay`: how long after such an end; the first time, and at most.
    pub restart_delay: Option<(Duration, Duration)>,
    /// `give-up`: so many such ends in this time are enough.
    pub give_up: Option<(u32, Duration)>,
    /// `on-give-up` is `stop-container`.
    pub on_give_up: bool,
    /// `on-exit` is `stop-container`.
    pub on_exit: bool,
    /// There is a `forking`: run puts itself in the background.
    pub forking: bool,
    /// `pid-file`: where the process writes its pid that remains then.
    pub pid_file: Option<String>,
    /// There is a `condition`.
    pub condition: bool,
    /// There is a `validate`.
    pub validate: bool,
    /// There is a `fallback`.
    pub fallback: bool,
    /// `timeout-validate`: what `validate` and `condition` may take.
    pub timeout_validate: Option<Duration>,
    /// There is a `check`: whether it is ready is asked.
    pub check: bool,
    /// `check-interval`: between two such questions, at most.
    pub check_interval: Option<Duration>,
    /// `timeout-check`: what `check` may take.
    pub timeout_check: Option<Duration>,
    /// `timeout-up`: what it may take to be ready.
    pub timeout_up: Option<Duration>,
    /// There is a `health`: whether it is well is asked.
    pub health: bool,
    /// `health-interval`: between two such questions.
    pub health_interval: Option<Duration>,
    /// `health-timeout`: what `health` may take.
    pub health_timeout: Option<Duration>,
    /// There is a `notify-socket`: it says how it is at NOTIFY_SOCKET.
    pub notify_socket: bool,
    /// `watchdog`: so often it says there that it is alive.
    pub watchdog: Option<Duration>,
    /// `control-group`: its members may control the service.
    pub control_group: Option<String>,
    /// `health-retries`: so many failures in a row are too many; so many successes make them forgotten.
    pub health_retries: Option<(u32, u32)>,
}

/// When a service is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Whatever happened.
    Always,
    /// Unless it exited 0.
    OnFailure,
    /// Not.
    Never,
}

/// So many ends are remembered for `give-up`.
pub const MOST_ENDS: usize = 20;

/// What `validate` and `condition` may take where nothing else is said.
const TIMEOUT_VALIDATE: Duration = Duration::from_secs(10);

/// The shortest `restart-delay`: a service that dies at once shall not be all that the machine does.
const LEAST_DELAY: Duration = Duration::from_millis(10);

/// A file of ours that does not say what it has to: run is not started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faulty {
    /// Which.
    pub file: &'static str,
    /// What is wrong with it, and what it may say.
    pub why: String,
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, self.why)
    }
}

/// All names that are ours, by the bit that says that one was seen.
pub fn names() -> impl Iterator<Item = &'static str> {
    VALUES.into_iter().chain(PROGRAMS).chain(OTHERS)
}

/// The longest of these files that is read, in bytes.
pub const MOST: usize = 4096;

/// The longest `env-file`, in bytes: no more would be passed on by the kernel.
pub const MOST_VARIABLES: usize = 1 << 20;

impl Features {
    /// Takes the file `name`, one of [`names`], with what is in it (only of [`VALUES`] is that looked at).
    pub fn take(&mut self, name: &'static str, bytes: &[u8]) -> Result<(), Faulty> {
        match name {
            "env" => self.env = true,
            "env-file" => self.env_file = true,
            "forking" => self.forking = true,
            "notify-socket" => self.notify_socket = true,
            "condition" => self.condition = true,
            "validate" => self.validate = true,
            "fallback" => self.fallback = true,
            "check" => self.check = true,
            "health" => self.health = true,
            _ => {
                let at = |why| Faulty { file: name, why };
                let text = std::str::from_utf8(bytes).map_err(|_| at("is not text".to_owned()))?;
                if bytes.len() >= MOST {
                    return Err(at(format!("is longer than {MOST} bytes")));
                }
                return self.take_value(name, text.strip_suffix('\n').unwrap_or(text)).map_err(at);
            }
        }
        Ok(())
    }

    fn take_value(&mut self, name: &str, text: &str) -> Result<(), String> {
        match name {
            "user" => {
                check_user(text)?;
                self.user = Some(text.to_owned());
            }
            "umask" => self.umask = Some(umask(text)?),
            "limits" => self.limits = limits(text)?,
            "nice" => self.nice = Some(number(text, -20, 19)?),
            "oom-score" => self.oom_score = Some(number(text, -1000, 1000)?),
            "log-label" => self.log_label = Some(label(text)?),
            "control-group" => self.control_group = Some(group(text)?),
            "pid-file" => self.pid_file = Some(path(text)?),
            "restart" => {
                let words = [
                    ("always", Restart::Always),
                    ("on-failure", Restart::OnFailure),
                    ("never", Restart::Never),
                ];
                self.restart = Some(word(text, &words)?);
            }
            "restart-delay" => self.restart_delay = Some(delays(text)?),
            "give-up" => self.give_up = Some(give_up(text)?),
            "on-give-up" => self.on_give_up = word(text, &AT_THE_END)?,
            "on-exit" => self.on_exit = word(text, &AT_THE_END)?,
            "timeout-validate" => self.timeout_validate = Some(duration(text)?),
            "check-interval" => self.check_interval = Some(duration(text)?),
            "timeout-check" => self.timeout_check = Some(duration(text)?),
            "timeout-up" => self.timeout_up = Some(duration(text)?),
            "watchdog" => self.watchdog = Some(duration(text)?),
            "health-interval" => self.health_interval = Some(duration(text)?),
            "health-timeout" => self.health_timeout = Some(duration(text)?),
            "health-retries" => self.health_retries = Some(retries(text)?),
            _ => {}
        }
        Ok(())
    }

    /// Whether a memory beside the machine's is needed.
    pub fn need_memory(&self) -> bool {
        self.restart.is_some()
            || self.restart_delay.is_some()
            || self.give_up.is_some()
            || self.forking
            || self.on_exit
            || self.condition
            || self.validate
            || self.check
            || self.health
            || self.notify_socket
            || self.timeout_up.is_some()
    }

    /// Whether another process may become the main one, which need not be below run any more then.
    pub fn hands_over(&self) -> bool {
        self.forking || self.notify_socket
    }

    /// What is wrong with one file because of another. `alone`: run has a PID namespace of its own.
    pub fn contradiction(&self, alone: bool) -> Option<Faulty> {
        let (file, why) = match () {
            () if self.pid_file.is_some() && !self.forking => {
                ("pid-file", "means nothing without forking: make an empty file forking, or remove this")
            }
            () if self.forking && alone => {
                ("forking", "what run leaves behind dies with it: remove this, or flag-newpidns")
            }
            () if self.watchdog.is_some() && !self.notify_socket => (
                "watchdog",
                "means nothing without notify-socket: make an empty file notify-socket, or remove this",
            ),
            () => return None,
        };
        Some(Faulty { file, why: why.to_owned() })
    }

    /// Who ends the container by ending is not started again, unless it is said.
    pub fn restart_or_default(&self) -> Restart {
        self.restart.unwrap_or(if self.on_exit { Restart::Never } else { Restart::Always })
    }

    /// What `validate` and `condition` may take.
    pub fn validate_limit(&self) -> Duration {
        self.timeout_validate.unwrap_or(TIMEOUT_VALIDATE)
    }

    /// Whether something is different for the process that becomes run.
    pub fn has_attributes(&self) -> bool {
        self.has_environment()
            || self.umask.is_some()
            || !self.limits.is_empty()
            || self.nice.is_some()
            || self.oom_score.is_some()
    }

    /// Whether its environment is another one.
    pub fn has_environment(&self) -> bool {
        self.env || self.env_file || self.user.is_some()
    }
}

/// An account: `NAME`, `UID`, either with `:GROUP` or `:GID`.
fn check_user(text: &str) -> Result<(), String> {
    let part = |part: &str| {
        !part.is_empty() && !part.contains(|c: char| c.is_whitespace() || c.is_control() || c == ':')
    };
    let good = match text.split_once(':') {
        None => part(text),
        Some((user, group)) => part(user) && part(group),
    };
    good.then_some(()).ok_or_else(|| format!("{text:?} is no account: write NAME, NAME:GROUP or UID:GID"))
}

fn group(text: &str) -> Result<String, String> {
    let odd = |c: char| c.is_whitespace() || c.is_control() || c == ':';
    let good = !text.is_empty() && !text.contains(odd);
    good.then(|| text.to_owned()).ok_or_else(|| format!("{text:?} is no group: write its name or number"))
}

fn umask(text: &str) -> Result<u32, String> {
    let octal = text.len() <= 4 && !text.is_empty() && text.bytes().all(|b| matches!(b, b'0'..=b'7'));
    let number = if octal { u32::from_str_radix(text, 8).ok() } else { None };
    number.filter(|n| *n <= 0o777).ok_or_else(|| format!("{text:?} is no umask: write octal digits, 022 say"))
}

fn number(text: &str, least: i32, most: i32) -> Result<i32, String> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let number = if digits.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None };
    number
        .filter(|n| (least..=most).contains(n))
        .ok_or_else(|| format!("{text:?} is none of the numbers {least} to {most}"))
}

fn label(text: &str) -> Result<String, String> {
    let good = !text.is_empty() && text.chars().count() <= 64 && !text.contains(|c: char| c.is_control());
    good.then(|| text.to_owned())
        .ok_or_else(|| format!("{text:?} is no label: write one line of 1 to 64 characters"))
}

fn path(text: &str) -> Result<String, String> {
    let good = !text.is_empty() && !text.contains(|c: char| c.is_control());
    good.then(|| text.to_owned())
        .ok_or_else(|| format!("{text:?} is no path: write one line, run/it.pid say"))
}

/// The words of `on-exit` and `on-give-up`; whether the container is stopped.
const AT_THE_END: [(&str, bool); 2] = [("nothing", false), ("stop-container", true)];

fn word<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, String> {
    if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*meaning);
    }
    let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    Err(format!("{text:?} is none of: {}", known.join(", ")))
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text).filter(|d| !d.is_zero());
    duration.ok_or_else(|| format!("{text:?} is no time: write 500ms, 30s, 2m"))
}

/// `FIRST MAX`, or one time for both.
fn delays(text: &str) -> Result<(Duration, Duration), String> {
    let mut words = text.split(' ');
    let (first, most, rest) = (words.next(), words.next(), words.next());
    let first = duration(first.unwrap_or_default())?;
    let most = most.map_or(Ok(first), duration)?;
    match () {
        () if rest.is_some() => {
            Err(format!("{text:?} is more than a first and a longest delay: write FIRST MAX"))
        }
        () if first < LEAST_DELAY => Err(format!("{text:?} is too short: write 10ms or more")),
        () if most < first => {
            Err(format!("{text:?}: the longest delay is shorter than the first: write FIRST MAX, 1s 1m say"))
        }
        () => Ok((first, most)),
    }
}

/// `N`, or `N M`.
fn retries(text: &str) -> Result<(u32, u32), String> {
    let (failures, successes) = text.split_once(' ').unwrap_or((text, "1"));
    Ok((number(failures, 1, 1000)? as u32, number(successes, 1, 1000)? as u32))
}

/// `N WINDOW`
fn give_up(text: &str) -> Result<(u32, Duration), String> {
    let Some((count, window)) = text.split_once(' ') else {
        return Err(format!("{text:?} has no window: write N WINDOW, 5 1m say"));
    };
    let count = number(count, 1, MOST_ENDS as i32)?;
    Ok((count as u32, duration(window)?))
}

/// Lines `NAME SOFT[:HARD]`; empty ones and those that begin with # count for nothing.
fn limits(text: &str) -> Result<Vec<Limit>, String> {
    let mut limits: Vec<Limit> = Vec::new();
    for (n, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let limit = limit(line).map_err(|why| format!("line {}: {why}", n + 1))?;
        if limits.iter().any(|other| other.resource == limit.resource) {
            return Err(format!("line {}: {} comes twice: remove one", n + 1, limit_name(limit.resource)));
        }
        limits.push(limit);
    }
    Ok(limits)
}

fn limit(line: &str) -> Result<Limit, String> {
    let Some((name, value)) = line.split_once(char::is_whitespace) else {
        return Err(format!("{line:?} has no value: write NAME SOFT[:HARD]"));
    };
    let Some((_, resource, bytes)) = LIMITS.iter().find(|(known, ..)| *known == name) else {
        let known: Vec<&str> = LIMITS.iter().map(|(known, ..)| *known).collect();
        return Err(format!("{name:?} is no limit: there are {}", known.join(", ")));
    };
    let value = value.trim();
    let (soft, hard) = value.split_once(':').unwrap_or((value, value));
    let amount = |text: &str| {
        amount(text, *bytes).ok_or_else(|| {
            let unit = if *bytes { ", with K, M or G if you like," } else { "" };
            format!("{text:?} is no value of {name}: write a number{unit} or unlimited")
        })
    };
    let (soft, hard) = (amount(soft)?, amount(hard)?);
    if soft > hard {
        return Err(format!(
            "the soft limit of {name} is higher than the hard one: write the lower one first"
        ));
    }
    Ok(Limit { resource: *resource, soft, hard })
}

fn amount(text: &str, bytes: bool) -> Option<u64> {
    if text == "unlimited" {
        return Some(u64::MAX);
    }
    let (digits, unit) = match text.as_bytes().last()? {
        b'K' if bytes => (&text[..text.len() - 1], 1 << 10),
        b'M' if bytes => (&text[..text.len() - 1], 1 << 20),
        b'G' if bytes => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1u64),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(name: &'static str, text: &str) -> Result<Features, String> {
        let mut features = Features::default();
        features.take(name, text.as_bytes()).map(|()| features).map_err(|faulty| faulty.to_string())
    }

    #[test]
    fn values_that_mean_something() {
        for good in ["www", "33", "www:adm", "1000:1000", "a.b-c_d$"] {
            assert_eq!(taken("user", good).unwrap().user.as_deref(), Some(good));
        }
        assert_eq!(taken("umask", "0027\n").unwrap().umask, Some(0o27));
        assert_eq!(taken("nice", "-5").unwrap().nice, Some(-5));
        assert_eq!(taken("oom-score", "1000\n").unwrap().oom_score, Some(1000));
        assert_eq!(taken("log-label", "web 1\n").unwrap().log_label.as_deref(), Some("web 1"));
        let limits =
            taken("limits", "# files\nnofile 1024:4096\n\ncore 0\nas 2G\nstack unlimited\n").unwrap();
        let expected = [(7, 1024, 4096), (4, 0, 0), (9, 2 << 30, 2 << 30), (3, u64::MAX, u64::MAX)];
        assert_eq!(limits.limits, expected.map(|(resource, soft, hard)| Limit { resource, soft, hard }));
        assert!(taken("env", "").unwrap().has_attributes() && !Features::default().has_attributes());
    }

    /// What each bad value of each file says.
    #[test]
    fn bad_values() {
        let list = [
            ("user", "", r#"user: "" is no account: write NAME, NAME:GROUP or UID:GID"#),
            ("user", "a b\n", r#"user: "a b" is no account: write NAME, NAME:GROUP or UID:GID"#),
            ("user", "www:\n", r#"user: "www:" is no account: write NAME, NAME:GROUP or UID:GID"#),
            ("user", "a:b:c", r#"user: "a:b:c" is no account: write NAME, NAME:GROUP or UID:GID"#),
            ("user", "a\nb\n", r#"user: "a\nb" is no account: write NAME, NAME:GROUP or UID:GID"#),
            ("umask", "", r#"umask: "" is no umask: write octal digits, 022 say"#),
            ("umask", "28", r#"umask: "28" is no umask: write octal digits, 022 say"#),
            ("umask", "1777", r#"umask: "1777" is no umask: write octal digits, 022 say"#),
            ("nice", "20", r#"nice: "20" is none of the numbers -20 to 19"#),
            ("nice", "+5", r#"nice: "+5" is none of the numbers -20 to 19"#),
            ("nice", "", r#"nice: "" is none of the numbers -20 to 19"#),
            ("oom-score", "1001", r#"oom-score: "1001" is none of the numbers -1000 to 1000"#),
            ("oom-score", "low\n", r#"oom-score: "low" is none of the numbers -1000 to 1000"#),
            ("log-label", "", r#"log-label: "" is no label: write one line of 1 to 64 characters"#),
            ("log-label", "a\tb", r#"log-label: "a\tb" is no label: write one line of 1 to 64 characters"#),
            ("restart", "sometimes\n", r#"restart: "sometimes" is none of: always, on-failure, never"#),
            ("restart-delay", "", r#"restart-delay: "" is no time: write 500ms, 30s, 2m"#),
            ("restart-delay", "1s 2x", r#"restart-delay: "2x" is no time: write 500ms, 30s, 2m"#),
            (
                "restart-delay",
                "1s 2s 3s",
                r#"restart-delay: "1s 2s 3s" is more than a first and a longest delay: write FIRST MAX"#,
            ),
            ("restart-delay", "1", r#"restart-delay: "1" is too short: write 10ms or more"#),
            (
                "restart-delay",
                "2s 1s",
                r#"restart-delay: "2s 1s": the longest delay is shorter than the first: write FIRST MAX, 1s 1m say"#,
            ),
            ("give-up", "5\n", r#"give-up: "5" has no window: write N WINDOW, 5 1m say"#),
            ("give-up", "0 1m", r#"give-up: "0" is none of the numbers 1 to 20"#),
            ("give-up", "21 1m", r#"give-up: "21" is none of the numbers 1 to 20"#),
            ("give-up", "5 soon", r#"give-up: "soon" is no time: write 500ms, 30s, 2m"#),
            ("on-give-up", "stop", r#"on-give-up: "stop" is none of: nothing, stop-container"#),
            ("on-exit", "", r#"on-exit: "" is none of: nothing, stop-container"#),
            ("control-group", "a b", r#"control-group: "a b" is no group: write its name or number"#),
            ("control-group", "\n", r#"control-group: "" is no group: write its name or number"#),
            ("check-interval", "1s ", r#"check-interval: "1s " is no time: write 500ms, 30s, 2m"#),
            ("timeout-check", "", r#"timeout-check: "" is no time: write 500ms, 30s, 2m"#),
            ("timeout-up", "never", r#"timeout-up: "never" is no time: write 500ms, 30s, 2m"#),
            ("health-interval", "-1", r#"health-interval: "-1" is no time: write 500ms, 30s, 2m"#),
            ("watchdog", "0", r#"watchdog: "0" is no time: write 500ms, 30s, 2m"#),
            ("watchdog", "often\n", r#"watchdog: "often" is no time: write 500ms, 30s, 2m"#),
            ("health-timeout", "1.5s", r#"health-timeout: "1.5s" is no time: write 500ms, 30s, 2m"#),
            ("health-retries", "0", r#"health-retries: "0" is none of the numbers 1 to 1000"#),
            ("health-retries", "3 x", r#"health-retries: "x" is none of the numbers 1 to 1000"#),
            ("timeout-validate", "0", r#"timeout-validate: "0" is no time: write 500ms, 30s, 2m"#),
            ("limits", "nofile", r#"limits: line 1: "nofile" has no value: write NAME SOFT[:HARD]"#),
            (
                "limits",
                "core 0\nfiles 5",
                "limits: line 2: \"files\" is no limit: there are cpu, fsize, data, stack, core, rss, nproc, \
                 nofile, memlock, as, locks, sigpending, msgqueue, nice, rtprio, rttime",
            ),
            (
                "limits",
                "nofile 10K",
                r#"limits: line 1: "10K" is no value of nofile: write a number or unlimited"#,
            ),
            (
                "limits",
                "as 1T",
                r#"limits: line 1: "1T" is no value of as: write a number, with K, M or G if you like, or unlimited"#,
            ),
            (
                "limits",
                "nofile 9:8",
                "limits: line 1: the soft limit of nofile is higher than the hard one: write the lower one first",
            ),
            ("limits", "core 0\ncore 1", "limits: line 2: core comes twice: remove one"),
        ];
        for (name, text, message) in list {
            assert_eq!(taken(name, text).unwrap_err(), message, "{text:?}");
        }
        let long = "#".repeat(MOST);
        assert_eq!(taken("limits", &long).unwrap_err(), "limits: is longer than 4096 bytes");
        let mut features = Features::default();
        assert_eq!(features.take("user", b"\xff").unwrap_err().to_string(), "user: is not text");
    }
}
