//! Tables of text: columns as wide as they must be, colour where somebody looks.

/// How a cell is shown to a person.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// As it is.
    #[default]
    Plain,
    /// As it should be.
    Good,
    /// Not yet, or not as it should be.
    Fair,
    /// Wrong.
    Bad,
    /// Of little interest.
    Faint,
}

impl Tone {
    /// `text` in this tone.
    pub fn paint(self, text: &str, colour: bool) -> String {
        let code = match self {
            _ if !colour || text.is_empty() => return text.to_owned(),
            Tone::Plain => return text.to_owned(),
            Tone::Good => "32",
            Tone::Fair => "33",
            Tone::Bad => "31",
            Tone::Faint => "2",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// One cell.
pub type Cell = (String, Tone);

/// A table. Columns are separated by two blanks; the last one is not padded.
pub struct Table {
    head: Vec<&'static str>,
    /// Columns of numbers are aligned to the right.
    right: &'static [usize],
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty table with these headings.
    pub fn new(head: &[&'static str], right: &'static [usize]) -> Table {
        Table { head: head.to_vec(), right, rows: Vec::new() }
    }

    /// Appends a row.
    pub fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// The text, each line ended.
    pub fn to_text(&self, colour: bool) -> String {
        let width = |column: usize| {
            let cells =
                self.rows.iter().filter_map(|row| row.get(column)).map(|(text, _)| text.chars().count());
            cells.chain([self.head[column].chars().count()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let head: Vec<Cell> = self.head.iter().map(|h| ((*h).to_owned(), Tone::Faint)).collect();
        let mut out = String::new();
        for row in [&head].into_iter().chain(&self.rows) {
            let mut line = String::new();
            for (column, (text, tone)) in row.iter().enumerate() {
                let pad = " ".repeat(widths[column].saturating_sub(text.chars().count()));
                let painted = tone.paint(text, colour);
                let last = column + 1 == row.len();
                match self.right.contains(&column) {
                    true => line.extend([&*pad, &painted]),
                    false if last => line.push_str(&painted),
                    false => line.extend([&*painted, &pad]),
                }
                if !last {
                    line.push_str("  ");
                }
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

/// Whether to colour what goes to standard output: on a terminal, and never with NO_COLOR set to something.
pub fn colour() -> bool {
    let refused = crate::sys::env::get("NO_COLOR").is_some_and(|v| !v.is_empty());
    !refused && rustix::termios::isatty(rustix::stdio::stdout())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["name", "pid", "state"], &[1]);
        table.row(vec![("web".into(), Tone::Plain), ("7".into(), Tone::Plain), ("up".into(), Tone::Good)]);
        table.row(vec![
            ("database".into(), Tone::Plain),
            ("1234".into(), Tone::Plain),
            ("down".into(), Tone::Bad),
        ]);
        assert_eq!(
            table.to_text(false),
            "name       pid  state\n\
             web          7  up\n\
             database  1234  down\n"
        );
        assert!(table.to_text(true).contains("\x1b[32mup\x1b[0m\n"));
    }
}
