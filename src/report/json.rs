//! Writing JSON: objects, arrays, and strings that are always valid.

use std::fmt::Write as _;
use std::time::Duration;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A time in seconds, written with three decimals. (Formatting floating point numbers in general takes
    /// 11 KiB of code.)
    Seconds(Duration),
    /// A string.
    Text(String),
    /// An array.
    List(Vec<Json>),
    /// An object; its keys in this order.
    Object(Vec<(&'static str, Json)>),
}

impl From<bool> for Json {
    fn from(b: bool) -> Json {
        Json::Bool(b)
    }
}

impl From<i64> for Json {
    fn from(n: i64) -> Json {
        Json::Int(n)
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Json {
        Json::Text(text.to_owned())
    }
}

impl From<String> for Json {
    fn from(text: String) -> Json {
        Json::Text(text)
    }
}

impl<T: Into<Json>> From<Option<T>> for Json {
    fn from(value: Option<T>) -> Json {
        value.map_or(Json::Null, Into::into)
    }
}

impl Json {
    /// On one line.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) {
        match self {
            Json::Null => out.push_str("null"),
            Json::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
            Json::Int(n) => {
                let _ = write!(out, "{n}");
            }
            Json::Seconds(d) => {
                let ms = (d.as_nanos() + 500_000) / 1_000_000;
                let _ = write!(out, "{}.{:03}", ms / 1000, ms % 1000);
            }
            Json::Text(text) => write_string(text, out),
            Json::List(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    out.push_str(if i > 0 { "," } else { "" });
                    item.write(out);
                }
                out.push(']');
            }
            Json::Object(members) => {
                out.push('{');
                for (i, (key, value)) in members.iter().enumerate() {
                    out.push_str(if i > 0 { "," } else { "" });
                    write_string(key, out);
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
        }
    }
}

fn write_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if (c as u32) < 0x20 || c == '\u{7f}' => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_escaped() {
        let value = Json::Object(vec![
            ("name", "we\"b\n\u{1}\\é".into()),
            ("pid", Some(7i64).into()),
            (
                "list",
                Json::List(vec![Json::Null, true.into(), Json::Seconds(Duration::from_micros(1_499_600))]),
            ),
        ]);
        assert_eq!(value.to_text(), r#"{"name":"we\"b\n\u0001\\é","pid":7,"list":[null,true,1.500]}"#);
    }
}
