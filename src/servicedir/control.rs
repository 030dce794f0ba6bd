//! `supervise/control`: the commands that a supervisor takes, one byte each. s6's are letters and digits;
//! ours are signs, which s6 ignores.
#![forbid(unsafe_code)]

use crate::process::Signal;

/// A command to the supervisor of one service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// `u`: want it up, start it.
    Up,
    /// `U`: remove `down`, then as `u`.
    UpPersistent,
    /// `d`: want it down, stop it.
    Down,
    /// `D`: create `down`, then as `d`.
    DownPersistent,
    /// `o`: start it, do not restart it.
    Once,
    /// `O`: do not restart it.
    OnceAtMost,
    /// `Q`: create `down`, do not restart it.
    NoRestart,
    /// `x`: leave when it is down.
    Exit,
    /// `r`: the down signal, without wanting it down.
    Restart,
    /// `l`: the reload signal.
    Reload,
    /// A signal to run: `a b q h k t i 1 2 y`.
    Signal(Signal),
    /// `p`, `P`: stop it; with `true` its whole process group.
    Pause(bool),
    /// `c`, `C`: continue it; with `true` its whole process group.
    Continue(bool),
    /// `K`: kill its whole process group.
    KillGroup,
    /// `!`, ours: the next command is obeyed whatever `validate` would say.
    Force,
    /// `?`, ours: run `validate` and tell what it says.
    Validate,
    /// `=`, ours: forget how often it started, died, and was given up.
    Reset,
}

/// Every letter, what it does, and the options of `svc` that send it have the same letters.
const LETTERS: [(u8, Command); 28] = [
    (b'a', Command::Signal(Signal::ALRM)),
    (b'b', Command::Signal(Signal::ABRT)),
    (b'q', Command::Signal(Signal::QUIT)),
    (b'h', Command::Signal(Signal::HUP)),
    (b'k', Command::Signal(Signal::KILL)),
    (b't', Command::Signal(Signal::TERM)),
    (b'i', Command::Signal(Signal::INT)),
    (b'1', Command::Signal(Signal::USR1)),
    (b'2', Command::Signal(Signal::USR2)),
    (b'y', Command::Signal(Signal::WINCH)),
    (b'p', Command::Pause(false)),
    (b'P', Command::Pause(true)),
    (b'c', Command::Continue(false)),
    (b'C', Command::Continue(true)),
    (b'K', Command::KillGroup),
    (b'r', Command::Restart),
    (b'l', Command::Reload),
    (b'u', Command::Up),
    (b'U', Command::UpPersistent),
    (b'd', Command::Down),
    (b'D', Command::DownPersistent),
    (b'o', Command::Once),
    (b'O', Command::OnceAtMost),
    (b'x', Command::Exit),
    (b'Q', Command::NoRestart),
    (b'!', Command::Force),
    (b'?', Command::Validate),
    (b'=', Command::Reset),
];

impl Command {
    /// Every command there is.
    pub fn all() -> impl Iterator<Item = Command> {
        LETTERS.iter().map(|(_, command)| *command)
    }

    /// The byte that says it.
    pub fn letter(self) -> u8 {
        LETTERS.iter().find(|(_, c)| *c == self).map_or(0, |(letter, _)| *letter)
    }

    /// The command that sends `signal`, for `svc -s`.
    pub fn for_signal(signal: Signal) -> Option<Command> {
        match signal {
            Signal::STOP => Some(Command::Pause(false)),
            Signal::CONT => Some(Command::Continue(false)),
            _ => Command::all().find(|c| *c == Command::Signal(signal)),
        }
    }
}

/// Unknown bytes are no command: a supervisor ignores them.
impl TryFrom<u8> for Command {
    type Error = ();
    fn try_from(byte: u8) -> Result<Command, ()> {
        LETTERS.iter().find(|(letter, _)| *letter == byte).map(|(_, command)| *command).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_those_of_s6_and_three_signs() {
        let known: Vec<u8> = (0..=255).filter(|b| Command::try_from(*b).is_ok()).collect();
        let mut s6 = b"abqhktipcyr12lPCKodDuUxOQ!?=".to_vec();
        s6.sort();
        assert_eq!(known, s6);
        for letter in known {
            assert_eq!(Command::try_from(letter).unwrap().letter(), letter);
        }
    }
}
