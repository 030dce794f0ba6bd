//! `supervise/control`: the commands that a supervisor takes, one byte each. s6's are letters and digits;
//! ours are signs, which s6 ignores.
#![forbid(unsafe_code)]

use crate::process::{Pid, Signal};

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

/// Letters that may end a run.
const ENDING: &[u8] = b"dDrtkKiqb";

/// The byte after what is signed.
const END_OF_CLAIM: u8 = 0xc0;

/// So many bytes a signature takes.
pub const CLAIM_BYTES: usize = 9;

/// Who says that it wrote a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// It.
    pub pid: Pid,
    /// Who started it.
    pub parent: Option<Pid>,
}

/// Signs commands, if one of them may end a service: before them stand `pid` and `parent`, in four bytes each of
/// which the upper two bits are 10, and after them the byte 11000000. All of these are bytes that supervisors
/// ignore.
pub fn signed(letters: &[u8], pid: Pid, parent: Option<Pid>) -> Vec<u8> {
    if !letters.iter().any(|letter| ENDING.contains(letter)) {
        return letters.to_vec();
    }
    let mut bytes = Vec::with_capacity(letters.len() + CLAIM_BYTES);
    for pid in [pid.raw(), parent.map_or(0, Pid::raw)] {
        bytes.extend([18, 12, 6, 0].map(|shift| 0x80 | (pid >> shift) as u8 & 0x3f));
    }
    bytes.extend_from_slice(letters);
    bytes.push(END_OF_CLAIM);
    bytes
}

/// The signature of what is read, byte by byte.
#[derive(Clone, Copy, Debug, Default)]
pub struct Claim {
    bits: u64,
    count: u8,
}

impl Claim {
    /// Takes a byte. False: it is of no signature.
    pub fn take(&mut self, byte: u8) -> bool {
        match byte {
            0x80..=0xbf => {
                (self.bits, self.count) =
                    (self.bits << 6 | u64::from(byte & 0x3f), self.count.saturating_add(1));
            }
            END_OF_CLAIM => *self = Claim::default(),
            _ => return false,
        }
        true
    }

    /// Whose it is, if it is whole.
    pub fn said(&self) -> Option<Claimed> {
        let pid = |bits: u64| Pid::from_raw((bits & 0xff_ffff) as i32);
        let whole = self.count as usize == CLAIM_BYTES - 1;
        whole.then(|| Some(Claimed { pid: pid(self.bits >> 24)?, parent: pid(self.bits) }))?
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
    fn what_may_end_a_service_is_signed() {
        let (pid, parent) = (Pid::from_raw(4_194_303).unwrap(), Pid::from_raw(77));
        assert_eq!(signed(b"uh1", pid, parent), b"uh1");
        let bytes = signed(b"du", pid, parent);
        assert_eq!(bytes.len(), 2 + CLAIM_BYTES);
        let mut claim = Claim::default();
        let mut commands = Vec::new();
        for byte in bytes {
            if !claim.take(byte) {
                commands.push(byte);
                assert_eq!(claim.said(), Some(Claimed { pid, parent }));
            } else {
                assert!(Command::try_from(byte).is_err(), "no supervisor knows it");
            }
        }
        assert_eq!((commands, claim.said()), (b"du".to_vec(), None));
    }

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
