//! Where a supervisor of many services has what is its own: socket, lock, journal.
//!
//! There is one in `.s6-svscan` for all services of a scan directory, and one below `.s6-svscan/isolated` for
//! each service that is to have a supervisor of its own. Paths are relative to the scan directory.

use crate::scan::run::DIR;

/// Such a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    dir: String,
    isolated: bool,
}

/// The directory of the places of isolated services.
pub const ISOLATED: &str = ".s6-svscan/isolated";

/// The path of a socket has 107 bytes at most. Longer names are cut, and told apart by a number.
const LONGEST: usize = 60;

impl Place {
    /// That of the supervisor of all services.
    pub fn common() -> Place {
        Place { dir: DIR.to_owned(), isolated: false }
    }

    /// That of the supervisor of the service `name` (and its logger) alone.
    pub fn isolated(name: &str) -> Place {
        let mut cut = name.len().min(LONGEST);
        while !name.is_char_boundary(cut) {
            cut -= 1;
        }
        let number = if cut < name.len() { format!(".{:016x}", hash(name)) } else { String::new() };
        Place { dir: format!("{ISOLATED}/{}{number}", &name[..cut]), isolated: true }
    }

    /// That which has this directory.
    pub fn at(dir: &str) -> Place {
        Place { dir: dir.to_owned(), isolated: dir != DIR }
    }

    /// The words of the command line of its supervisor, without the program's name.
    pub fn words(&self) -> Vec<String> {
        let place = self.isolated.then(|| ["--place".to_owned(), self.dir.clone()]);
        let mut words = vec!["--listen".to_owned()];
        words.extend(place.into_iter().flatten());
        words.push(".".to_owned());
        words
    }

    /// The whole command line, as ps shows it.
    pub fn title(&self) -> Vec<String> {
        ["supervise".to_owned()].into_iter().chain(self.words()).collect()
    }

    /// Its directory.
    pub fn dir(&self) -> &str {
        &self.dir
    }

    /// Whether it is of one service.
    pub fn is_isolated(&self) -> bool {
        self.isolated
    }

    /// Where the supervisor listens.
    pub fn socket(&self) -> String {
        format!("{}/socket", self.dir)
    }

    /// Held by the supervisor for as long as it lives.
    pub fn lock(&self) -> String {
        format!("{}/supervise-lock", self.dir)
    }

    /// Its memory.
    pub fn journal(&self) -> String {
        format!("{}/journal", self.dir)
    }

    /// Where it is told of the dead, if it is of one service: a FIFO that our ancestors keep.
    pub fn records(&self) -> String {
        format!("{}/records", self.dir)
    }

    /// The name of the service, whole.
    pub fn name_file(&self) -> String {
        format!("{}/name", self.dir)
    }
}

/// FNV-1a. It only has to tell names in one directory apart that begin alike.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_name_has_a_place_whose_socket_can_be_bound(a in "[^/\0]{1,255}", b in "[^/\0]{1,255}") {
            let (one, other) = (Place::isolated(&a), Place::isolated(&b));
            prop_assert!(one.socket().len() <= 107, "{}", one.socket());
            prop_assert_eq!(a == b, one == other);
            prop_assert_eq!(Place::at(one.dir()), one);
        }
    }
}
