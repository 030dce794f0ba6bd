//! What an earlier run of the container left below `/run`. It is set aside when we begin, which takes a rename each,
//! and removed bit by bit while services start. A start does not wait for it: to remove the hundreds of small files of
//! an earlier start takes as long as to make them.
#![forbid(unsafe_code)]

use crate::diag::{Result, Unable};
use std::fs;

/// Directories that are to be removed.
#[derive(Debug)]
pub struct Rubbish {
    /// Where they are.
    aside: String,
    /// The ones that are next, the last first; `true`: what was in it is gone.
    left: Vec<(String, bool)>,
}

impl Rubbish {
    /// Nothing yet; what comes is set aside in `aside`. What is there since the last time is removed now, so that it
    /// never becomes more.
    pub fn new(aside: String) -> Result<Rubbish> {
        remove_now(&aside)?;
        Ok(Rubbish { aside, left: Vec::new() })
    }

    /// Makes `path` free, whatever is there.
    pub fn take(&mut self, path: &str) -> Result<()> {
        if !fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir()) {
            return remove_now(path);
        }
        if self.left.is_empty() && fs::create_dir(&self.aside).is_ok() {
            self.left.push((self.aside.clone(), true));
        }
        let to = format!("{}/{}", self.aside, self.left.len());
        match fs::rename(path, &to) {
            Ok(()) => {
                self.left.push((to, false));
                Ok(())
            }
            // The disk is full, or it is in a layer of the image, or a file system of its own.
            Err(_) => remove_now(path),
        }
    }

    /// Whether anything is left to be removed.
    pub fn is_left(&self) -> bool {
        !self.left.is_empty()
    }

    /// Removes what is in one directory, but for directories, which are next. What cannot be removed stays for the next
    /// time.
    pub fn remove_some(&mut self) {
        let Some((dir, emptied)) = self.left.pop() else { return };
        if emptied {
            let _ = fs::remove_dir(&dir);
            return;
        }
        self.left.push((dir.clone(), true));
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                true => self.left.push((format!("{dir}/{}", entry.file_name().to_string_lossy()), false)),
                false => drop(fs::remove_file(entry.path())),
            }
        }
    }
}

fn remove_now(path: &str) -> Result<()> {
    let done = match fs::symlink_metadata(path) {
        Err(_) => return Ok(()),
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    };
    done.unable(format_args!("remove {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_free_at_once_and_everything_goes_in_the_end() {
        let base = std::env::temp_dir().join(format!("perennial-rubbish-{}", std::process::id()));
        let path = |name: &str| format!("{}/{name}", base.display());
        for dir in ["a/b/c", "d", "aside/of/the/last/time"] {
            fs::create_dir_all(path(dir)).unwrap();
        }
        for file in ["a/1", "a/b/2", "a/b/c/3", "d/4", "file"] {
            fs::write(path(file), "").unwrap();
        }
        std::os::unix::fs::symlink("a", path("link")).unwrap();
        let mut rubbish = Rubbish::new(path("aside")).unwrap();
        for name in ["a", "d", "file", "link", "nothing"] {
            rubbish.take(&path(name)).unwrap();
            assert!(fs::symlink_metadata(path(name)).is_err(), "{name}");
        }
        fs::create_dir(path("a")).unwrap();
        let mut turns = 0;
        while rubbish.is_left() {
            rubbish.remove_some();
            turns += 1;
        }
        assert_eq!(turns, 9, "each of four directories twice, and where they were once");
        let names: Vec<_> = fs::read_dir(&base).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["a"]);
        fs::remove_dir_all(&base).unwrap();
    }
}
