//! Files with a variable on each line, as execline's `envfile` reads them.
//!
//! `NAME = value`: blanks around both do not count. In a value, strings in `"` keep theirs and have the
//! escapes of C; a backslash outside of one keeps the blank, `"` or backslash that follows, and joins a line
//! to the next. `#` begins a comment only at the beginning of a line. NUL ends the file.
#![forbid(unsafe_code)]

/// A setting while it is read.
type Word = Vec<u8>;

/// The settings, `NAME=value`, or the number of the line that is none.
pub fn parse(text: &[u8]) -> Result<Vec<Word>, usize> {
    let end = text.iter().position(|b| *b == 0).unwrap_or(text.len());
    let mut reader = Reader { text: &text[..end], at: 0, line: 1 };
    let mut settings = Vec::new();
    while let Some(byte) = reader.take() {
        match byte {
            b'\n' => {}
            b'#' => while reader.take().is_some_and(|b| b != b'\n') {},
            byte if is_blank(byte) => {}
            byte => settings.push(reader.setting(byte).ok_or(reader.line)?),
        }
    }
    Ok(settings)
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\x0c' | b'\r')
}

struct Reader<'t> {
    text: &'t [u8],
    at: usize,
    line: usize,
}

impl Reader<'_> {
    fn take(&mut self) -> Option<u8> {
        let byte = self.text.get(self.at).copied()?;
        self.at += 1;
        self.line += usize::from(byte == b'\n');
        Some(byte)
    }

    /// A line that begins with this byte of a name.
    fn setting(&mut self, first: u8) -> Option<Word> {
        let mut word = Word::new();
        let mut next = first;
        loop {
            match next {
                b'=' if !word.is_empty() => break,
                b'\n' | b'=' | b'\\' | b'"' | b'\'' | b'?' => return self.refuse(),
                byte if is_blank(byte) => {
                    while self.text.get(self.at).is_some_and(|b| is_blank(*b)) {
                        self.at += 1;
                    }
                    if self.text.get(self.at) != Some(&b'=') {
                        return self.refuse();
                    }
                }
                byte => word.push(byte),
            }
            next = self.take()?;
        }
        word.push(b'=');
        self.value(&mut word)?;
        Some(word)
    }

    /// The error is in the line that was read last.
    fn refuse(&mut self) -> Option<Word> {
        self.line -= usize::from(self.at > 0 && self.text[self.at - 1] == b'\n');
        None
    }

    fn value(&mut self, word: &mut Word) -> Option<()> {
        let begin = word.len();
        // How much of it is not blanks at the end.
        let mut solid = begin;
        while let Some(byte) = self.take() {
            match byte {
                b'\n' => break,
                b'"' => self.string(word)?,
                b'\\' => match self.take()? {
                    b'\n' => {}
                    byte if is_blank(byte) || byte == b'"' || byte == b'\\' => word.push(byte),
                    _ => return None,
                },
                byte if is_blank(byte) => {
                    if word.len() > begin {
                        word.push(byte);
                    }
                    continue;
                }
                byte => word.push(byte),
            }
            solid = word.len();
        }
        word.truncate(solid);
        Some(())
    }

    /// In a string, up to its end.
    fn string(&mut self, word: &mut Word) -> Option<()> {
        loop {
            match self.take()? {
                b'"' => return Some(()),
                b'\n' => {
                    self.line -= 1;
                    return None;
                }
                b'\\' => self.escape(word)?,
                byte => word.push(byte),
            }
        }
    }

    fn escape(&mut self, word: &mut Word) -> Option<()> {
        let byte = match self.take()? {
            b'\n' => return Some(()),
            b'x' => {
                let digits = [self.digit(16)?, self.digit(16)?];
                (digits[0] * 16 + digits[1]) as u8
            }
            byte @ b'0'..=b'7' => {
                let mut number = u32::from(byte - b'0');
                for _ in 0..2 {
                    number = self.digit(8).map_or(number, |digit| number * 8 + digit);
                }
                number as u8
            }
            byte => b"abtnvfr".iter().position(|b| *b == byte).map_or(byte, |i| 7 + i as u8),
        };
        // A variable cannot hold NUL: it ends the value, and what follows is lost.
        word.push(byte);
        Some(())
    }

    fn digit(&mut self, radix: u32) -> Option<u32> {
        let digit = char::from(*self.text.get(self.at)?).to_digit(radix)?;
        self.at += 1;
        Some(digit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_as_they_are_written() {
        let text = br#"# comment
A=1
 B = two words  
C="  kept "  # no comment
D=\"q\\\ 
E="\t\x41\101\"\
"
F=
"#;
        let settings = parse(text).unwrap();
        let expected = ["A=1", "B=two words", "C=  kept   # no comment", "D=\"q\\ ", "E=\tAA\"", "F="];
        assert_eq!(
            settings.iter().map(|s| String::from_utf8_lossy(s).into_owned()).collect::<Vec<_>>(),
            expected
        );
        assert_eq!(parse(b"A=1\nB\n"), Err(2));
        assert_eq!(parse(b"A B=1"), Err(1));
        assert_eq!(parse(b"A=\"x\ny\""), Err(1));
        assert_eq!(parse(b"=1"), Err(1));
    }
}
