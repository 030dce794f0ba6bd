//! Who keeps the output of a service, and the end of it, for people.

use super::graph::Index;
use super::live::Live;
use crate::log::read;
use crate::report::age;
use crate::servicedir;
use crate::time::Tai64n;
use rustix::fs::CWD;

/// The service that reads what `index` writes. None: nobody of them does.
pub fn logger(live: &Live, index: Index) -> Option<Index> {
    let path = format!("{}/servicedirs/{}/producer-for", live.path, live.graph.name(index));
    let bytes = servicedir::read_file(CWD, path).ok()?;
    live.graph.index(String::from_utf8_lossy(&bytes).trim_end_matches('\n'))
}

/// The last lines of a log directory, oldest first, as people read them: the age in place of a stamp, and
/// nothing that a terminal would obey.
pub fn last_lines(dir: &str, count: usize, now: Tai64n) -> Vec<String> {
    let lines = read::last_lines(dir, now, count).unwrap_or_default();
    let shown = lines.into_iter().map(|line| {
        let stamp = if line.stamped { format!("{} ago: ", age(line.at.age(now))) } else { String::new() };
        let text = String::from_utf8_lossy(&line.text);
        let text = text.trim_start().chars().map(|c| if c.is_control() && c != '\t' { '?' } else { c });
        stamp + &text.collect::<String>()
    });
    shown.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log() {
        let dir = std::env::temp_dir().join(format!("perennial-logs-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.to_str().unwrap();
        let now = Tai64n { secs: 1_000_000, nanos: 0 };
        assert_eq!(last_lines(path, 3, now), Vec::<String>::new());
        let stamp = Tai64n { secs: 999_995, nanos: 0 };
        std::fs::write(dir.join("current"), format!("first\n{stamp} second\nthird\x1b[2J\n")).unwrap();
        assert_eq!(last_lines(path, 2, now), ["5 s ago: second", "third?[2J"]);
        assert_eq!(last_lines(path, 9, now).len(), 3);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
