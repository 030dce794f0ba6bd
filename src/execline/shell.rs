//! Does a script look as if it had been written for a shell?
//!
//! The first line of an `up` file is a comment, whatever it says, and `&&`, `>` or a line end mean nothing
//! in it: a shell script is read without an error, and what then runs is its first command with all the rest
//! as arguments. Nobody but its author can know, so this guesses, for a warning; it prefers silence where
//! execline could be meant. Quoted words are never a sign: `sh -c "a && b"` is execline.

use super::lexer::{Kind, Lexer, Token};
use std::fmt;

/// The first sign of a shell script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    /// Where it is, counted from 1.
    pub line: usize,
    /// What was seen.
    pub sign: Sign,
}

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sign {
    /// The first line names this interpreter, and more than one command line follows.
    Interpreter(String),
    /// A word that only a shell understands: `&&`, `2>/dev/null`, `fi`, `$(date)`.
    Word(String),
    /// `NAME=value` as the first word of a line.
    Assignment(String),
    /// A second command on a line of its own, that the first one gets as an argument.
    SecondCommand {
        /// The one that runs.
        first: String,
        /// The one that does not.
        second: String,
    },
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.sign)
    }
}

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sign::Interpreter(interpreter) => {
                write!(f, "#!{interpreter} is a comment here: all lines together are one execline command")?
            }
            Sign::Word(word) => write!(f, "{word} means nothing to execline")?,
            Sign::Assignment(word) => write!(f, "{word} sets no variable in execline")?,
            Sign::SecondCommand { first, second } => write!(
                f,
                "{second} does not run: a line end does not end {first}, which gets it as an argument"
            )?,
        }
        f.write_str(" (put shell commands into a script of their own and name its path here)")
    }
}

/// The interpreters whose scripts are shell scripts.
const SHELLS: [&[u8]; 8] = [b"sh", b"bash", b"dash", b"ash", b"ksh", b"mksh", b"zsh", b"bashio"];

/// Words between commands.
const OPERATORS: [&[u8]; 7] = [b"&&", b"||", b";", b";;", b"|", b"|&", b"&"];

/// Words that a shell has at the beginning of a line. `if` has an entry of its own below.
const KEYWORDS: [&[u8]; 13] = [
    b"fi", b"then", b"else", b"elif", b"for", b"while", b"until", b"do", b"done", b"case", b"esac", b"[[",
    b"source",
];

/// Programs that never go on to another one, and that one finds at the beginning of lines of shell scripts.
const SIMPLE: [&[u8]; 17] = [
    b"cat", b"chgrp", b"chmod", b"chown", b"cp", b"echo", b"install", b"ln", b"mkdir", b"mkfifo", b"mv",
    b"printf", b"rm", b"rmdir", b"sed", b"sleep", b"touch",
];

/// Looks for the first sign. Works on scripts that are no execline at all, too.
pub fn looks_like_shell(script: &[u8]) -> Option<Hint> {
    interpreter(script).or_else(|| Scan::new(script).find())
}

/// A first line that names a shell, with more than one command line below. (One is common, and harmless:
/// `exec PATH`.)
fn interpreter(script: &[u8]) -> Option<Hint> {
    let mut lines = script.split(|&b| b == b'\n').map(<[u8]>::trim_ascii);
    let named = lines.next()?.strip_prefix(b"#!")?.trim_ascii();
    if !named.split(u8::is_ascii_whitespace).any(|word| SHELLS.contains(&base_name(word))) {
        return None;
    }
    let (mut commands, mut continued) = (0, false);
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with(b"#")) {
        commands += usize::from(!continued);
        continued = line.ends_with(b"\\");
    }
    (commands > 1).then(|| Hint { line: 1, sign: Sign::Interpreter(shown(named)) })
}

/// What is known while the words of a script pass by.
struct Scan<'a> {
    script: &'a [u8],
    lexer: Lexer<'a>,
    /// The line of the token before, and the indices of its first byte and of its end.
    line: usize,
    start: usize,
    end: usize,
    /// The word before, if nothing in it was quoted, or a brace.
    before: &'a [u8],
    /// For the script itself and for each open block, the word that began its present line.
    commands: Vec<&'a [u8]>,
    /// After `-exec`: a `;` is find's.
    in_find: bool,
    /// After `env`: what looks like an assignment is one.
    in_env: bool,
}

impl<'a> Scan<'a> {
    fn new(script: &'a [u8]) -> Scan<'a> {
        let lexer = Lexer::new(script);
        let commands = vec![&b""[..]];
        Scan {
            script,
            lexer,
            line: 0,
            start: 0,
            end: 0,
            before: b"",
            commands,
            in_find: false,
            in_env: false,
        }
    }

    /// Up to the first sign, the end, or what execline cannot read.
    fn find(mut self) -> Option<Hint> {
        let mut line = 1;
        while let Ok(Some(token)) = self.lexer.next() {
            line += self.script[self.start..token.start].iter().filter(|&&b| b == b'\n').count();
            if let Some(sign) = self.token(&token, line) {
                return Some(Hint { line, sign });
            }
            (self.line, self.start, self.end) = (line, token.start, token.end);
        }
        None
    }

    fn token(&mut self, token: &Token, line: usize) -> Option<Sign> {
        let whole = token.plain_end == token.end;
        let plain = &self.script[token.start..token.plain_end];
        match token.kind {
            Kind::Open => self.commands.push(b""),
            Kind::Close => drop(self.commands.pop()),
            Kind::Word => {
                let continued = self.script[self.end..token.start].windows(2).any(|pair| pair == b"\\\n");
                let begins_line = line > self.line && !continued;
                if let Some(sign) = self.word(plain, whole, begins_line) {
                    return Some(sign);
                }
            }
        }
        self.before = if whole { plain } else { b"" };
        None
    }

    /// Looks at the unquoted beginning of a word, or at the whole of it.
    fn word(&mut self, plain: &'a [u8], whole: bool, begins_line: bool) -> Option<Sign> {
        self.in_env |= whole && base_name(plain) == b"env";
        self.in_find |= whole && matches!(plain, b"-exec" | b"-execdir" | b"-ok" | b"-okdir");
        let begins = begins_line || self.before == b"{";
        let present = self.commands.last_mut()?;
        let above = *present;
        if begins {
            *present = if whole { plain } else { b"" };
        }
        if (whole && self.is_shell_word(plain, begins)) || self.has_shell_syntax(plain) {
            return Some(Sign::Word(shown(plain)));
        }
        if !begins && self.before == self.command() && is_shell_argument(self.command(), plain) {
            return Some(Sign::Word(format!("{} {}", shown(self.command()), shown(plain))));
        }
        if is_assignment(plain) && begins && !self.in_env && !self.before.starts_with(b"-") {
            return Some(Sign::Assignment(shown(plain)));
        }
        (begins_line && whole && is_second_command(above, plain))
            .then(|| Sign::SecondCommand { first: shown(above), second: shown(plain) })
    }

    /// The word that began the present line.
    fn command(&self) -> &'a [u8] {
        self.commands.last().copied().unwrap_or_default()
    }

    /// `&&`, `foo;`, `fi`, `start()`.
    fn is_shell_word(&self, word: &[u8], begins: bool) -> bool {
        let ends_command = OPERATORS.contains(&word) || word.ends_with(b";");
        let begins_command = KEYWORDS.contains(&word) || word == b"." || word.ends_with(b"()");
        (ends_command && !self.in_find) || (begins_command && begins)
    }

    /// Backquotes, `$(`, redirections.
    fn has_shell_syntax(&self, word: &[u8]) -> bool {
        let is_substitution = word.contains(&b'`') || word.windows(2).any(|pair| pair == b"$(");
        is_substitution || (is_redirection(word) && !is_test(self.command()))
    }
}

/// `if [`, `set -e`, `export A=b`.
fn is_shell_argument(command: &[u8], first: &[u8]) -> bool {
    match command {
        b"if" => !first.starts_with(b"-"),
        b"set" => first.starts_with(b"-") || first.starts_with(b"+"),
        b"export" => is_assignment(first),
        _ => false,
    }
}

/// `>`, `2>/dev/null`, `<<EOF`, `&>`.
fn is_redirection(word: &[u8]) -> bool {
    let digits = word.iter().take_while(|b| b.is_ascii_digit()).count();
    let operator = word.strip_prefix(b"&").unwrap_or(&word[digits..]);
    operator.starts_with(b">") || operator.starts_with(b"<")
}

/// Programs that compare with `<` and `>`.
fn is_test(command: &[u8]) -> bool {
    matches!(base_name(command), b"eltest" | b"s6-test" | b"test" | b"[" | b"expr")
}

/// `NAME=` and whatever follows.
fn is_assignment(word: &[u8]) -> bool {
    let name = word.split(|&b| b == b'=').next().unwrap_or_default();
    name.len() < word.len()
        && name.first().is_some_and(|b| b.is_ascii_alphabetic() || *b == b'_')
        && name.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_')
}

/// Whether the line that `first` began is over, and `second` was meant to run after it.
fn is_second_command(first: &[u8], second: &[u8]) -> bool {
    let prints = matches!(base_name(first), b"echo" | b"printf" | b"sleep");
    let follows = matches!(second, b"exec" | b"cd" | b"exit" | b"export" | b"set" | b"test" | b"[");
    SIMPLE.contains(&base_name(first))
        && (SIMPLE.contains(&second) || follows || (prints && second.starts_with(b"/")))
}

fn base_name(path: &[u8]) -> &[u8] {
    path.rsplit(|&b| b == b'/').next().unwrap_or_default()
}

fn shown(word: &[u8]) -> String {
    String::from_utf8_lossy(word).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seen(script: &str) -> Option<(usize, String)> {
        let hint = looks_like_shell(script.as_bytes())?;
        let shown = match hint.sign {
            Sign::Interpreter(text) | Sign::Word(text) | Sign::Assignment(text) => text,
            Sign::SecondCommand { first, second } => format!("{first}..{second}"),
        };
        Some((hint.line, shown))
    }

    #[test]
    fn what_images_have_in_up_is_no_shell() {
        let scripts = [
            "",
            "/etc/s6-overlay/s6-rc.d/init/run",
            "# This file doesn't do anything, it's just the end of the chain\n",
            "#!/bin/sh\nexec /etc/s6-overlay/scripts/01-acarshub\n",
            "#!/bin/sh\n# shellcheck shell=bash\n\nexec /etc/s6-overlay/scripts/x\n",
            "#!/bin/sh\nexec /x \\\n  --one \\\n  --two\n",
            "#!/command/with-contenv bash\n/x\n",
            "#!/command/execlineb -P\nforeground { mkdir -p /x }\nforeground { chown a /x }\n/run/it\n",
            "if { test -d /x }\nif -t { eltest $A < 3 }\nexit 0\n",
            "ifelse\n{\n  s6-test -f /x\n}\n{ echo done }\nexit 1\n",
            "with-contenv\nimportas -D \"\" A A\nbackground { sleep 3 }\n/bin/true\n",
            "sh -c \"mkdir /x && cd /x; ls > list 2>&1\"",
            "/bin/sh -c 'x'",
            "find /x -exec rm {} ;\n",
            "env\n  A=b\n  C=d\n/x\n",
            "podman run -e\nA=b image\n",
            "redirfd -w 1 /dev/null\necho -- \"2>&1\"\n",
            "echo a \\\n  mkdir\n",
            "define A b\nmultisubstitute\n{\n  importas -D x B C\n}\nfdmove -c 2 1\ntouch ${A}/$B\n",
        ];
        for script in scripts {
            assert_eq!(seen(script), None, "{script}");
        }
    }

    #[test]
    fn signs_of_a_shell() {
        let scripts = [
            ("#!/bin/sh\nmkdir /x\nexec /y\n", 1, "/bin/sh"),
            ("#! /usr/bin/env bash\nfoo\nbar\n", 1, "/usr/bin/env bash"),
            ("#!/command/with-contenv bash\nfoo\nbar\n", 1, "/command/with-contenv bash"),
            ("# up\nmkdir /x && cd /x\n", 2, "&&"),
            ("true || false", 1, "||"),
            ("cd /x; ls", 1, "/x;"),
            ("cd /x ; ls", 1, ";"),
            ("ls | wc", 1, "|"),
            ("foo &", 1, "&"),
            ("foo 2>/dev/null", 1, "2>/dev/null"),
            ("foo > /x", 1, ">"),
            ("foo >\"$x\"", 1, ">"),
            ("foo &>/x", 1, "&>/x"),
            ("cat <<EOF", 1, "<<EOF"),
            ("echo $(date)", 1, "$(date)"),
            ("echo `date`", 1, "`date`"),
            ("\nif [ -f /x ]; then\n  y\nfi\n", 2, "if ["),
            ("x\nfi\n", 2, "fi"),
            ("x\ndone\n", 2, "done"),
            ("for x in a b", 1, "for"),
            ("FOO=bar", 1, "FOO=bar"),
            ("x\nFOO=\"bar\"\n", 2, "FOO="),
            ("export FOO=bar", 1, "export FOO=bar"),
            ("set -e\nx\n", 1, "set -e"),
            (". /etc/profile", 1, "."),
            ("start() {\n x\n}\n", 1, "start()"),
            ("mkdir -p /x\nchown a /x\n", 2, "mkdir..chown"),
            ("echo starting\n/usr/bin/x\n", 2, "echo../usr/bin/x"),
            ("foreground { echo a\n  echo b }\n/x", 2, "echo..echo"),
            // A script that execline cannot read, after the sign.
            ("x && y\necho 'say \"no'\n", 1, "&&"),
        ];
        for (script, line, word) in scripts {
            assert_eq!(seen(script), Some((line, word.to_owned())), "{script}");
        }
    }

    #[test]
    fn a_hint_says_what_to_do() {
        let hint = looks_like_shell(b"mkdir /x\nchown a /x\n").unwrap();
        assert_eq!(
            hint.to_string(),
            "line 2: chown does not run: a line end does not end mkdir, which gets it as an argument \
             (put shell commands into a script of their own and name its path here)"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_looked_at_without_harm(script: Vec<u8>) {
            let _ = looks_like_shell(&script);
        }

        #[test]
        fn and_so_is_any_mixture_of_what_matters(
            script in r#"([ \n{}"\\#;|&<>=$(`a0x]|if |set |-e|echo |exec |env |\PC){0,30}"#,
        ) {
            let _ = looks_like_shell(script.as_bytes());
        }
    }
}
