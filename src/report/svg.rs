//! Writing SVG: the few shapes that the drawings are made of, at whole pixels, and text that is always valid.
//!
//! Colours are given for a light page and again for a dark one (`prefers-color-scheme`). They are written out
//! in the classes and not as CSS variables, which programs other than browsers do not know.

use std::fmt::Write as _;

/// How many pixels wide a drawing is, if that will do.
pub const WIDTH: i32 = 1200;

/// Where a text stands relative to its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// It begins there.
    Start,
    /// It is centred there.
    Middle,
    /// It ends there.
    End,
}

/// A drawing that grows.
pub struct Svg {
    body: String,
}

/// Classes that every drawing has: `page`, `text`, `faint` text, `bold` text, `title` text, `small` text, and
/// thin lines (`rule`).
const LIGHT: &str = "text{font:13px system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;fill:#1f2328}\
    .bold{font-weight:600}.title{font-size:17px;font-weight:600}.small{font-size:12px}.faint{fill:#59636e}\
    .page{fill:#ffffff}.rule{stroke:#d8dee4;stroke-width:1}";
const DARK: &str = "text{fill:#e6edf3}.faint{fill:#9198a1}.page{fill:#0d1117}.rule{stroke:#2f353d}";

impl Svg {
    /// An empty drawing.
    pub fn new() -> Svg {
        Svg { body: String::new() }
    }

    /// A rectangle with round corners. `title` is what a browser shows where the mouse rests on it.
    pub fn rect(&mut self, class: &str, [x, y, w, h]: [i32; 4], round: i32, title: &str) {
        let _ = write!(self.body, r#"<rect class="{class}" x="{x}" y="{y}" width="{w}" height="{h}""#);
        if round > 0 {
            let _ = write!(self.body, r#" rx="{round}""#);
        }
        match title {
            "" => self.body.push_str("/>\n"),
            _ => self.body.extend(["><title>", &escape(title), "</title></rect>\n"]),
        }
    }

    /// A line.
    pub fn line(&mut self, class: &str, [x1, y1, x2, y2]: [i32; 4]) {
        let _ = writeln!(self.body, r#"<line class="{class}" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>"#);
    }

    /// A path; `d` in SVG's words.
    pub fn path(&mut self, class: &str, d: &str) {
        self.body.extend(["<path class=\"", class, "\" d=\"", d, "\"/>\n"]);
    }

    /// A text; its base line is at `y`.
    pub fn text(&mut self, class: &str, x: i32, y: i32, anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "",
            Anchor::Middle => r#" text-anchor="middle""#,
            Anchor::End => r#" text-anchor="end""#,
        };
        let _ = write!(self.body, r#"<text class="{class}" x="{x}" y="{y}"{anchor}>"#);
        self.body.extend([&*escape(text), "</text>\n"]);
    }

    /// The document: a name for those who cannot see it, its own classes for a light and for a dark page, and
    /// its size.
    pub fn finish(self, title: &str, light: &str, dark: &str, width: i32, height: i32) -> String {
        let mut out = String::new();
        let _ = write!(
            out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" role=\"img\">\n<title>{}</title>\n",
            escape(title)
        );
        out.extend([
            "<style>",
            LIGHT,
            light,
            "@media (prefers-color-scheme:dark){",
            DARK,
            dark,
            "}</style>\n",
        ]);
        out.push_str("<rect class=\"page\" width=\"100%\" height=\"100%\"/>\n");
        out.extend([&*self.body, "</svg>\n"]);
        out
    }
}

impl Default for Svg {
    fn default() -> Svg {
        Svg::new()
    }
}

/// How wide a text of 13 pixels is, in pixels, at most in the usual fonts.
pub fn text_width(text: &str) -> i32 {
    let width = |c: char| match c {
        'i' | 'j' | 'l' | 't' | 'f' | 'r' | '.' | ',' | ' ' | '-' | ':' | '\'' | '|' => 5,
        'm' | 'w' | 'M' | 'W' | '@' => 12,
        // Scripts whose letters are as wide as they are high.
        '\u{1100}'.. => 14,
        _ => 8,
    };
    text.chars().map(width).sum()
}

/// The text as it stands in a document. What XML does not allow at all becomes a question mark.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('?'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_a_name_cannot_break_the_document() {
        let mut svg = Svg::new();
        svg.text("bold", 3, 4, Anchor::End, "<a> & \"b\"\u{1}");
        svg.rect("bar", [1, 2, 3, 4], 2, "x<y");
        let text = svg.finish("a<b", ".bar{fill:red}", "", 10, 20);
        assert!(text.contains(
            r#"<text class="bold" x="3" y="4" text-anchor="end">&lt;a&gt; &amp; &quot;b&quot;?</text>"#
        ));
        assert!(text.contains(r#"height="4" rx="2"><title>x&lt;y</title></rect>"#));
        assert!(text.contains("<title>a&lt;b</title>") && text.ends_with("</svg>\n"));
        assert_eq!(text_width("web-1"), 12 + 8 + 8 + 5 + 8);
    }
}
