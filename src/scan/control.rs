//! The commands of a scanner: a letter each, in `.s6-svscan/control` and among the options of svscanctl.
#![forbid(unsafe_code)]

/// A command to the scanner of a scan directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Reap what has died.
    Reap,
    /// Scan the directory.
    Scan,
    /// End at once, and leave the supervisor as it is.
    Abandon,
    /// Scan, and forget services that are gone from the directory.
    Rescan,
    /// Stop services, and end; loggers end when they have read everything.
    Stop,
    /// Stop services and loggers, and end.
    StopAll,
    /// Forget services that are gone from the directory.
    Prune,
    /// The same, and their loggers at once.
    PruneAll,
    /// Go over to the version on disk. Ours only.
    Upgrade,
}

/// All letters. `i` and `t` mean the same, as the signals do that they are named for.
const LETTERS: [(u8, Command); 10] = [
    (b'z', Command::Reap),
    (b'a', Command::Scan),
    (b'b', Command::Abandon),
    (b'h', Command::Rescan),
    (b'i', Command::Stop),
    (b't', Command::Stop),
    (b'q', Command::StopAll),
    (b'n', Command::Prune),
    (b'N', Command::PruneAll),
    (b'U', Command::Upgrade),
];

impl TryFrom<u8> for Command {
    type Error = ();

    fn try_from(byte: u8) -> Result<Command, ()> {
        LETTERS.iter().find(|(letter, _)| *letter == byte).map(|(_, command)| *command).ok_or(())
    }
}

impl Command {
    /// The letter; the first, if there are two.
    pub fn letter(self) -> u8 {
        let of = LETTERS.iter().find(|(_, command)| *command == self);
        of.map(|(letter, _)| *letter).expect("every command has a letter")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s6s_letters_and_one_of_ours_are_commands() {
        let known: Vec<u8> = (0..=255).filter(|byte| Command::try_from(*byte).is_ok()).collect();
        for (letter, command) in LETTERS {
            assert_eq!(Command::try_from(command.letter()), Command::try_from(letter));
        }
        assert_eq!(known, b"NUabhinqtz");
    }
}
