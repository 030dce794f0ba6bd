//! Script → words, exactly as execline's own parser (2.9) makes them.
//!
//! Between words stand blanks (every byte from 1 to 32), comments from `#` to the end of the line, and
//! backslashed newlines. A word is made of plain bytes, backslashed bytes and strings in `"`, in any mixture.
//! A brace that stands alone is no word: it opens or closes a block. NUL ends the script.
//!
//! Inside blocks every word begins with one space for each block around it, and where a block closes there
//! is a word of one space less, so that the end of an outermost block is the empty word:
//!
//! | script | words |
//! |---|---|
//! | `a b` | `a`, `b` |
//! | `if { b c } d` | `if`, `␣b`, `␣c`, ``, `d` |
//! | `if { b { c } } d` | `if`, `␣b`, `␣␣c`, `␣`, ``, `d` |
//!
//! Three oddities of the original are kept, for a script must not change its meaning. A number in a string
//! may be followed by the end of the script instead of `"`. A backslash after a lone brace makes the brace
//! the beginning of a word, even if that word comes lines later, or never (then it is lost). Such a word has
//! its leading spaces twice.

use std::fmt;

/// The most bytes that the words of a script may have: with more, no Linux executes it (it takes arguments
/// and environment together up to 6 MiB, whatever the limits of the process). It also bounds what deep
/// nesting can cost us, for the spaces grow with its square.
const MOST_BYTES: usize = 6 << 20;

/// Reads a script into its argument vector. No word contains NUL. An empty vector is a script that has
/// nothing to run, which is not an error.
pub fn parse(script: &[u8]) -> Result<Vec<Vec<u8>>, SyntaxError> {
    let mut lexer = Lexer::new(script);
    let mut argv = Vec::new();
    while let Some(token) = lexer.next()? {
        if token.kind != Kind::Open {
            argv.push(token.word);
        }
    }
    Ok(argv)
}

/// Writes a word as a script has to spell it, in quotes where they are needed. The word holds no NUL, for no
/// script can spell that.
pub fn quote(word: &[u8]) -> Vec<u8> {
    let plain = |&b: &u8| b > b' ' && !matches!(b, b'#' | b'"' | b'\\' | b'{' | b'}');
    if !word.is_empty() && word.iter().all(plain) {
        return word.to_vec();
    }
    let mut text = vec![b'"'];
    for &byte in word {
        match byte {
            b'"' | b'\\' => text.extend([b'\\', byte]),
            b'\n' => text.extend(b"\\n"),
            b'\t' => text.extend(b"\\t"),
            // Two digits always, so that one that follows is not taken for a part of the number.
            0x01..0x20 | 0x7f => text.extend(format!("\\0x{byte:02x}").bytes()),
            _ => text.push(byte),
        }
    }
    text.push(b'"');
    text
}

/// A place in a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Counted from 1.
    pub line: usize,
    /// Byte of the line, counted from 1.
    pub column: usize,
}

impl Position {
    /// The place of the byte `index`.
    fn of(script: &[u8], index: usize) -> Position {
        let before = &script[..index];
        let line_start = before.iter().rposition(|&b| b == b'\n').map_or(0, |newline| newline + 1);
        let line = 1 + before.iter().filter(|&&b| b == b'\n').count();
        Position { line, column: 1 + index - line_start }
    }
}

/// Why a script cannot be read, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// Where the faulty thing begins.
    pub at: Position,
    /// What is wrong with it.
    pub fault: Fault,
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.at.line, self.at.column, self.fault)
    }
}

impl std::error::Error for SyntaxError {}

/// What is wrong with a script. Shown as a sentence that says what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A string that the script ends in.
    OpenString,
    /// A backslash in a word as the last byte of the script.
    LastBackslash,
    /// `\0` in a string, without an octal digit.
    NoOctalDigit,
    /// `\0x` in a string, without a hexadecimal digit.
    NoHexDigit,
    /// A number in a string that is 0.
    ByteZero,
    /// A number in a string that is above 255.
    NoByte(u32),
    /// A `{` without its `}`.
    OpenBlock,
    /// A `}` without its `{`.
    CloseBlock,
    /// More bytes than can be executed.
    TooLong,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::OpenString => "this string does not end (close it with \")",
            Fault::LastBackslash => "nothing follows this \\ (remove it, or write \\\\)",
            Fault::NoOctalDigit => {
                "\\0 needs octal digits, or x and hexadecimal ones (as in \\007 or \\0x07)"
            }
            Fault::NoHexDigit => "\\0x needs one or two hexadecimal digits (as in \\0x07)",
            Fault::ByteZero => "no word can hold byte 0 (remove this escape)",
            Fault::NoByte(n) => {
                return write!(
                    f,
                    "{n} is no byte (a number after \\, or an octal one after \\0, is at most 255)"
                );
            }
            Fault::OpenBlock => {
                "this { has no } (close the block with a } that stands alone, or write \"{\")"
            }
            Fault::CloseBlock => "this } closes no block (remove it, or write \"}\")",
            Fault::TooLong => "its words have more than 6 MiB, which no system executes (shorten it)",
        })
    }
}

/// What stands in a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A word.
    Word,
    /// A brace that opens a block; not one of the words.
    Open,
    /// A brace that closes a block, and the word that it puts there.
    Close,
}

/// One thing that stands in a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    /// Index of its first byte in the script.
    pub(super) start: usize,
    /// Index of the first quote or backslash in it, or its end.
    pub(super) plain_end: usize,
    /// Index of the byte after it.
    pub(super) end: usize,
    /// The word, its leading spaces included.
    pub(super) word: Vec<u8>,
}

/// Reads a script token by token.
pub(super) struct Lexer<'a> {
    /// Up to the first NUL.
    script: &'a [u8],
    /// Index of the byte to be read next.
    next: usize,
    /// Where the blocks begin that are still open.
    blocks: Vec<usize>,
    /// The word that is being read. Between tokens it is empty, or holds the lone brace that a backslash
    /// made the beginning of the next word.
    word: Vec<u8>,
    /// Index of the first quote or backslash in the word.
    plain_end: Option<usize>,
    /// How many more bytes the words may have, a NUL after each included.
    room: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(script: &'a [u8]) -> Lexer<'a> {
        let end = script.iter().position(|&b| b == 0).unwrap_or(script.len());
        Lexer {
            script: &script[..end],
            next: 0,
            blocks: Vec::new(),
            word: Vec::new(),
            plain_end: None,
            room: MOST_BYTES,
        }
    }

    /// The next token; `None` at the end of the script.
    pub(super) fn next(&mut self) -> Result<Option<Token>, SyntaxError> {
        loop {
            self.skip_blanks();
            let start = self.next;
            self.plain_end = None;
            let kind = match self.take() {
                None => return self.end(),
                Some(b'\\') => self.backslash(start)?,
                Some(b'{') if self.ends_here() => {
                    self.blocks.push(start);
                    Some(Kind::Open)
                }
                Some(b'}') if self.ends_here() => {
                    self.blocks.pop().ok_or_else(|| self.fault(start, Fault::CloseBlock))?;
                    self.indent(start)?;
                    Some(Kind::Close)
                }
                Some(brace @ (b'{' | b'}')) if self.peek() == Some(b'\\') => {
                    self.indent(start)?;
                    self.word.push(brace);
                    self.next += 1;
                    self.backslash(self.next - 1)?
                }
                Some(_) => {
                    self.indent(start)?;
                    self.next = start;
                    self.rest_of_word()?
                }
            };
            if let Some(kind) = kind {
                let plain_end = self.plain_end.unwrap_or(self.next);
                let word = if kind == Kind::Open { Vec::new() } else { std::mem::take(&mut self.word) };
                let room = self.room.checked_sub(word.len() + 1);
                self.room = room.ok_or_else(|| self.fault(start, Fault::TooLong))?;
                return Ok(Some(Token { kind, start, plain_end, end: self.next, word }));
            }
        }
    }

    /// The end of the script, where no block may be open.
    fn end(&self) -> Result<Option<Token>, SyntaxError> {
        match self.blocks.last() {
            Some(&open) => Err(self.fault(open, Fault::OpenBlock)),
            None => Ok(None),
        }
    }

    /// Everything up to where a word could begin, except backslashes.
    fn skip_blanks(&mut self) {
        while let Some(byte) = self.peek() {
            match byte {
                0x01..=b' ' => self.next += 1,
                b'#' => {
                    let line = self.script[self.next..].iter().position(|&b| b == b'\n');
                    self.next = line.map_or(self.script.len(), |length| self.next + length);
                }
                _ => return,
            }
        }
    }

    /// Where a word begins: a space for each open block.
    fn indent(&mut self, start: usize) -> Result<(), SyntaxError> {
        let length = self.word.len() + self.blocks.len();
        if length > self.room {
            return Err(self.fault(start, Fault::TooLong));
        }
        self.word.resize(length, b' ');
        Ok(())
    }

    /// Whether the byte just taken is the last of its word.
    fn ends_here(&self) -> bool {
        self.peek().is_none_or(|next| next <= b' ')
    }

    /// After a backslash at `at` outside of a word: it begins one with whatever follows, except a newline or
    /// the end.
    fn backslash(&mut self, at: usize) -> Result<Option<Kind>, SyntaxError> {
        match self.take() {
            Some(b'\n') | None => Ok(None),
            Some(byte) => {
                self.indent(at)?;
                self.plain_end = Some(at);
                self.word.push(byte);
                self.rest_of_word()
            }
        }
    }

    /// In a word, up to the blank that ends it.
    fn rest_of_word(&mut self) -> Result<Option<Kind>, SyntaxError> {
        while let Some(byte) = self.peek().filter(|&b| b > b' ') {
            let at = self.next;
            self.next += 1;
            if matches!(byte, b'"' | b'\\') {
                self.plain_end.get_or_insert(at);
            }
            match byte {
                b'"' => self.string(at)?,
                b'\\' => {
                    let escaped = self.take().ok_or_else(|| self.fault(at, Fault::LastBackslash))?;
                    self.word.push(escaped);
                }
                _ => self.word.push(byte),
            }
        }
        Ok(Some(Kind::Word))
    }

    /// In a string, up to its end.
    fn string(&mut self, open: usize) -> Result<(), SyntaxError> {
        loop {
            match self.take() {
                Some(b'"') => return Ok(()),
                Some(b'\\') => {
                    let was_number = self.escape(open)?;
                    if was_number && self.peek().is_none() {
                        return Ok(());
                    }
                }
                Some(byte) => self.word.push(byte),
                None => return Err(self.fault(open, Fault::OpenString)),
            }
        }
    }

    /// After a backslash in a string. Whether it was a number.
    fn escape(&mut self, open: usize) -> Result<bool, SyntaxError> {
        let at = self.next - 1;
        let byte = match self.take().ok_or_else(|| self.fault(open, Fault::OpenString))? {
            b'\n' => return Ok(false),
            b'a' => 0x07,
            b'b' => 0x08,
            b't' => b'\t',
            b'n' => b'\n',
            b'v' => 0x0b,
            b'f' => 0x0c,
            b'r' => b'\r',
            b'0' if self.peek() == Some(b'x') => {
                self.next += 1;
                return self.number(at, 16, 2, Fault::NoHexDigit);
            }
            b'0' => return self.number(at, 8, 3, Fault::NoOctalDigit),
            b'1'..=b'9' => {
                self.next -= 1;
                return self.number(at, 10, 3, Fault::ByteZero);
            }
            byte => byte,
        };
        self.word.push(byte);
        Ok(false)
    }

    /// The digits of an escape, at most `most`; `none` is the fault if there are none.
    fn number(&mut self, at: usize, radix: u32, most: usize, none: Fault) -> Result<bool, SyntaxError> {
        let digits = self.script[self.next..].iter().take(most);
        let digits: Vec<u32> = digits.map_while(|&b| char::from(b).to_digit(radix)).collect();
        self.next += digits.len();
        let number = digits.iter().fold(0, |number, digit| number * radix + digit);
        match u8::try_from(number) {
            _ if digits.is_empty() => return Err(self.fault(at, none)),
            Ok(0) => return Err(self.fault(at, Fault::ByteZero)),
            Ok(byte) => self.word.push(byte),
            Err(_) => return Err(self.fault(at, Fault::NoByte(number))),
        }
        Ok(true)
    }

    fn peek(&self) -> Option<u8> {
        self.script.get(self.next).copied()
    }

    fn take(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.next += 1;
        Some(byte)
    }

    fn fault(&self, index: usize, fault: Fault) -> SyntaxError {
        SyntaxError { at: Position::of(self.script, index), fault }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The words with `.` for each space, separated by `|`.
    fn words(script: &str) -> String {
        let argv = parse(script.as_bytes()).unwrap_or_else(|e| panic!("{script:?}: {e}"));
        let shown = argv.iter().map(|word| String::from_utf8_lossy(word).replace(' ', "."));
        shown.collect::<Vec<_>>().join("|")
    }

    fn fault(script: &str) -> (usize, usize, Fault) {
        let error = parse(script.as_bytes()).expect_err(script);
        (error.at.line, error.at.column, error.fault)
    }

    #[test]
    fn words_end_at_blanks() {
        assert_eq!(words("a b\tc\r\nd\x01e\x0bf\x7f"), "a|b|c|d|e|f\x7f");
        assert_eq!(words("  \n\n"), "");
        assert_eq!(words("a 'b c' $D"), "a|'b|c'|$D");
        assert_eq!(words("a\0 \" { b"), "a");
    }

    #[test]
    fn comments_begin_where_a_word_could() {
        assert_eq!(words("#!/bin/sh\nexec a#b # c d\n#\n\"e\"#f #"), "exec|a#b|e#f");
        assert_eq!(words("\\# {# }#"), "#|{#|}#");
    }

    #[test]
    fn backslashes_between_words() {
        assert_eq!(words("a \\\n b \\"), "a|b");
        assert_eq!(words("\\a \\  \\\\ \\\" \\{"), "a|.|\\|\"|{");
    }

    #[test]
    fn backslashes_in_words() {
        assert_eq!(words("a\\nb a\\ b a\\\nb a\\\"b"), "anb|a.b|a\nb|a\"b");
        assert_eq!(fault("a b\\"), (1, 4, Fault::LastBackslash));
    }

    #[test]
    fn strings_are_parts_of_words() {
        assert_eq!(words(r#"a"b c"d "" e"" "#), "ab.cd||e");
        assert_eq!(words("\"a\nb\\\nc\""), "a\nbc");
        assert_eq!(words(r#""\a\b\t\n\v\f\r" "\q\"\\\x""#), "\x07\x08\t\n\x0b\x0c\r|q\"\\x");
        assert_eq!(fault("a\n \"b\nc"), (2, 2, Fault::OpenString));
        assert_eq!(fault("\"b\\"), (1, 1, Fault::OpenString));
    }

    #[test]
    fn numbers_in_strings() {
        assert_eq!(words(r#""\65\066\1011" "\0x41\0x42g\0x043""#), "A6e1|ABg\x043");
        assert_eq!(parse(br#""\255\0377\0xfF\0xFf""#), Ok(vec![vec![255; 4]]));
        assert_eq!(words(r#""\1a\01x\0018""#), "\x01a\x01x\x018");
        for (script, expected) in [
            (r#""\0""#, Fault::NoOctalDigit),
            (r#""\08""#, Fault::NoOctalDigit),
            (r#""\0"#, Fault::NoOctalDigit),
            (r#""\0x""#, Fault::NoHexDigit),
            (r#""\0xg""#, Fault::NoHexDigit),
            (r#""\0x"#, Fault::NoHexDigit),
            (r#""\000""#, Fault::ByteZero),
            (r#""\0x0""#, Fault::ByteZero),
            (r#""\256""#, Fault::NoByte(256)),
            (r#""\999"#, Fault::NoByte(999)),
            (r#""\0400""#, Fault::NoByte(256)),
        ] {
            assert_eq!(fault(script), (1, 2, expected), "{script}");
        }
    }

    #[test]
    fn a_number_may_be_the_end() {
        assert_eq!(words(r#"a"\65"#), "aA");
        assert_eq!(words(r#""\0101"#), "A");
        assert_eq!(words(r#""\0x41"#), "A");
        assert_eq!(fault(r#""\n"#), (1, 1, Fault::OpenString));
    }

    #[test]
    fn blocks_are_spaces() {
        assert_eq!(words("{ b c } d"), ".b|.c||d");
        assert_eq!(words("{ b { c } } d"), ".b|..c|.||d");
        assert_eq!(words("{ } x {\n}"), "|x|");
        assert_eq!(words(r#"{ "}" \} "" } x"#), ".}|.}|.||x");
        assert_eq!(words("{b b{ }} {{ }a {\"c d\" }\"e f\""), "{b|b{|}}|{{|}a|{c.d|}e.f");
    }

    #[test]
    fn blocks_have_two_ends() {
        assert_eq!(fault("a\n  { b { c\n }"), (2, 3, Fault::OpenBlock));
        assert_eq!(fault("a { b\n { c"), (2, 2, Fault::OpenBlock));
        assert_eq!(fault("a {"), (1, 3, Fault::OpenBlock));
        assert_eq!(fault("{ a }\n}"), (2, 1, Fault::CloseBlock));
    }

    #[test]
    fn a_backslash_after_a_brace_makes_it_a_word() {
        assert_eq!(words("{\\a }\\b"), "{a|}b");
        assert_eq!(words("{\\\n #x\n b {\\\n"), "{b");
        assert_eq!(words("{ {\\a }\\\n} c"), ".{.a|.}|c");
        assert_eq!(words("{\\\n{ a }"), "{.a|");
    }

    #[test]
    fn nesting_costs_no_more_than_can_be_executed() {
        let script = ["{ ".repeat(100_000), "a ".repeat(100)].concat();
        assert_eq!(parse(script.as_bytes()).unwrap_err().fault, Fault::TooLong);
        assert!(parse(&[b'a'; MOST_BYTES - 1]).is_ok());
        assert!(parse(&[b'a'; MOST_BYTES]).is_err());
    }

    #[test]
    fn errors_say_where_and_what_to_do() {
        let error = parse(b"if {\n  echo \"hello\n").unwrap_err();
        assert_eq!(error.to_string(), "line 2, column 8: this string does not end (close it with \")");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(script: Vec<u8>) {
            if let Ok(argv) = parse(&script) {
                prop_assert!(argv.iter().all(|word| !word.contains(&0)));
            }
        }

        #[test]
        fn and_so_is_any_mixture_of_what_matters(script in r#"([ \n{}"\\#0178xfan]|\PC){0,40}"#) {
            let _ = parse(script.as_bytes());
        }

        #[test]
        fn quoted_words_come_back(argv: Vec<Vec<u8>>, separator in r"[ \n\t]{1,2}|( \\\n)|( #[^\x00\n]*\n)") {
            let argv: Vec<Vec<u8>> =
                argv.into_iter().map(|word| word.into_iter().filter(|&b| b != 0).collect()).collect();
            let quoted: Vec<Vec<u8>> = argv.iter().map(|word| quote(word)).collect();
            prop_assert_eq!(parse(&quoted.join(separator.as_bytes())).unwrap(), argv);
        }

        /// What every position in an error is for: an editor that goes there.
        #[test]
        fn positions_are_in_the_script(script in r#"([ \n{}"\\#0178xfan]){0,40}"#) {
            if let Err(SyntaxError { at, .. }) = parse(script.as_bytes()) {
                let line = script.split('\n').nth(at.line - 1);
                prop_assert!(line.is_some_and(|line| (1..=line.len()).contains(&at.column)));
            }
        }
    }
}
