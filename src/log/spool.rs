//! What has been taken out of the pipe and is not yet where it belongs: kept so that `kill -9` at any
//! instruction loses nothing and doubles nothing.
//!
//! # Taking
//!
//! A process that reads a pipe into its memory and is killed loses what it read. So bytes go from the pipe into
//! a file, `spool`, in the kernel: `splice(2)`. Within that one system call it writes to the file what lies in
//! the pipe, and takes from the pipe exactly as many bytes as it wrote; a process is not killed in between,
//! only when it returns. (A kill cuts the writing short, and then the taking as well.) So *the size of the file
//! says how much was taken*: at every instant each byte is in the pipe or in the file, and never in both. (Reading
//! into a file mapped shared was considered. It is faster by a quarter, but what it has read is known from its
//! return value alone, which dies with the process; and a page fault in the middle may be cut short by the kill.)
//!
//! # Committing
//!
//! The head of the file says up to where it has been dealt with (`p`), and how large each log file was then
//! (its place). Bytes are dealt with by appending to log files what becomes of them, and then writing a new
//! head. The head is there twice, with numbers and sums; the new one overwrites the older one, and one that is
//! only half written has the wrong sum. So writing a head happens or does not happen, at one instant.
//!
//! Whoever comes after a kill reads the head that counts, cuts each log file to its place, and deals with
//! everything from `p` on. Why that is exact: let H be that head.
//!
//! - What lies before `p` is in the log files before their places: H was written after that. It stays.
//! - What log files have behind their places was made from bytes behind `p`, for the bytes before are in front.
//!   It is cut off, and made again from the same bytes, which are still there: the file is cut (below) only when
//!   a head says that it is empty.
//! - So each byte that was taken arrives once; and what was not taken is still in the pipe.
//!
//! It holds as well if the successor is killed, at any instant: it changes nothing but by these same steps.
//!
//! A log file is known by inode and time of birth, not by its name: it may have become an archive since. One that
//! no head names is not cut: when a log begins a new file, a head that names it is written before its first byte.
//!
//! # Emptying
//!
//! When the file has grown to [`EMPTY_AT`] and (almost) everything is dealt with, a head is written that has the
//! few bytes that are left, as a rule the beginning of a line, in itself; `p` is the size then. Then the file is
//! cut, then a head with the new `p` is written, and only then is more taken. A file that is shorter than `p`
//! shows a kill between the last two.
//!
//! ```text
//! 0      head with an even number      magic, length; sum (u64); number (u64); boot (4 words); p (u64);
//! 4096   head with an odd number       places, bytes left (u32 each); the places; the bytes
//! 8192   bytes from the pipe
//! ```
//!
//! Nothing here is synced: it is about processes that die. After a machine has died (another boot id) the same
//! is done as far as it goes, and the log file becomes a `.u` archive, as every file whose end is not known.

use crate::sys::{Errno, process};
use rustix::buffer::spare_capacity;
use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags, fstat, ftruncate, openat, statx, unlinkat};
use rustix::io::{pread, pwrite};
use rustix::pipe::{SpliceFlags, splice};
use std::os::fd::{AsFd, OwnedFd};

/// Its name in the first directory of a script.
pub const NAME: &str = "spool";

/// From this size on the file is emptied when it can be: pages that come and go stay in the processor's cache.
const EMPTY_AT: u64 = 128 * 1024;

const MAGIC: u32 = u32::from_be_bytes(*b"spl\x01");
const SLOT: usize = 4096;
const RAW: u64 = 2 * SLOT as u64;
const FIXED: usize = 56;
const PLACE: usize = 24;

/// Which file, and how far it counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Its inode.
    pub inode: u64,
    /// When it was made, in nanoseconds since 1970; 0 where the file system does not tell.
    pub born: u64,
    /// Bytes of it that count.
    pub size: u64,
}

impl Place {
    /// Of an open file, as large as it is.
    pub fn of(file: impl AsFd) -> Result<Place, Errno> {
        let s = fstat(&file)?;
        let born = match statx(&file, "", AtFlags::EMPTY_PATH, StatxFlags::BTIME) {
            Ok(x) if x.stx_mask & StatxFlags::BTIME.bits() != 0 => (x.stx_btime.tv_sec as u64)
                .wrapping_mul(1_000_000_000)
                .wrapping_add(x.stx_btime.tv_nsec.into()),
            _ => 0,
        };
        Ok(Place { inode: s.st_ino, born, size: s.st_size as u64 })
    }

    /// Whether both are of one file.
    pub fn is_same_file(&self, other: &Place) -> bool {
        (self.inode, self.born) == (other.inode, other.born)
    }
}

/// What a predecessor left.
#[derive(Debug, Default)]
pub struct Found {
    /// The log files it wrote to, and how far they count.
    pub places: Vec<Place>,
    /// It died on this boot of the machine.
    pub this_boot: bool,
}

impl Found {
    /// How far the file counts that is like `file`, if it is one of these.
    pub fn place(&self, file: &Place) -> Option<&Place> {
        self.places.iter().find(|place| place.is_same_file(file))
    }
}

/// The file.
pub struct Spool {
    file: OwnedFd,
    /// Its size.
    end: u64,
    /// Up to here it has been read.
    read: u64,
    number: u64,
    boot: [u32; 4],
    /// It was cut, and the head does not say so yet.
    cut: bool,
    buf: Vec<u8>,
}

/// What came of taking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// So many bytes.
    Bytes(usize),
    /// There is nothing.
    Nothing,
    /// There will never be anything again.
    End,
}

impl Spool {
    /// Opens the file in `dir`, or makes it. What was left in it goes to `left`.
    pub fn open(dir: impl AsFd, left: &mut Vec<u8>) -> Result<(Spool, Found), Errno> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = openat(dir, NAME, flags, Mode::from_raw_mode(0o600))?;
        let world = process::pid_world().unwrap_or_default();
        let boot = [world[0], world[1], world[2], world[3]];
        let end = (fstat(&file)?.st_size as u64).max(RAW);
        let mut spool = Spool { file, end, read: end, number: 0, boot, cut: false, buf: Vec::new() };
        let heads = [spool.head(0)?, spool.head(1)?];
        let mut found = Found::default();
        if let Some(head) = heads.into_iter().flatten().max_by_key(|head| head.number) {
            spool.number = head.number;
            found = Found { places: head.places, this_boot: head.boot == boot };
            left.extend_from_slice(&head.left);
            if head.p > end {
                (spool.end, spool.cut) = (RAW, true);
            }
            spool.read = head.p.min(spool.end);
            spool.fetch(left)?;
        } else {
            // None was ever written, so nothing was ever taken.
            ftruncate(&spool.file, 0)?;
            (spool.end, spool.read) = (RAW, RAW);
        }
        Ok((spool, found))
    }

    /// Makes a new file, in place of one that somebody removed, that has these bytes in it.
    pub fn open_with(dir: impl AsFd, left: &[u8]) -> Result<Spool, Errno> {
        let (mut spool, _) = Spool::open(dir, &mut Vec::new())?;
        let wrote = pwrite(&spool.file, left, RAW)?;
        spool.end = RAW + wrote as u64;
        spool.read = spool.end;
        if wrote < left.len() { Err(Errno::NOSPC) } else { Ok(spool) }
    }

    /// Takes at most `most` bytes from a pipe; they are appended to `to`. Never waits.
    pub fn take(&mut self, pipe: impl AsFd, most: usize, to: &mut Vec<u8>) -> Result<Taken, Errno> {
        if self.read == self.end {
            let mut to = self.end;
            match splice(pipe, None, &self.file, Some(&mut to), most, SpliceFlags::NONBLOCK) {
                Ok(0) => return Ok(Taken::End),
                Ok(n) => self.end += n as u64,
                Err(Errno::AGAIN | Errno::INTR) => return Ok(Taken::Nothing),
                Err(e) => return Err(e),
            }
        }
        let before = to.len();
        self.fetch(to)?;
        Ok(Taken::Bytes(to.len() - before))
    }

    /// Reads what was taken and not read yet.
    fn fetch(&mut self, to: &mut Vec<u8>) -> Result<(), Errno> {
        while self.read < self.end {
            to.reserve_exact((self.end - self.read) as usize);
            match pread(&self.file, spare_capacity(to), self.read)? {
                // Somebody cut the file.
                0 => self.end = self.read,
                n => self.read += n as u64,
            }
        }
        Ok(())
    }

    /// Says that everything has been dealt with but `left`, the last bytes that were taken, and that the log
    /// files count as far as `places` say.
    pub fn commit(&mut self, left: &[u8], places: &[Place]) -> Result<(), Errno> {
        self.write_head(left, places)?;
        self.cut = false;
        if self.end < EMPTY_AT { Ok(()) } else { self.empty(left, places) }
    }

    /// The same, and empties the file if what is left has room in the head: there is no room on the disk.
    pub fn empty(&mut self, left: &[u8], places: &[Place]) -> Result<(), Errno> {
        if self.end == RAW || FIXED + places.len() * PLACE + left.len() > SLOT {
            return Ok(());
        }
        self.write(left, places, self.end)?;
        ftruncate(&self.file, RAW)?;
        (self.end, self.read, self.cut) = (RAW, RAW, true);
        self.write_head(left, places)?;
        self.cut = false;
        Ok(())
    }

    /// What `commit` could not do to its end must be done before more is taken.
    pub fn is_unfinished(&self) -> bool {
        self.cut
    }

    /// Writes a head: as much of `left` as lies in the file need not be in it.
    fn write_head(&mut self, left: &[u8], places: &[Place]) -> Result<(), Errno> {
        let in_file = (left.len() as u64).min(self.end - RAW);
        self.write(&left[..left.len() - in_file as usize], places, self.end - in_file)
    }

    fn write(&mut self, left: &[u8], places: &[Place], p: u64) -> Result<(), Errno> {
        let number = self.number + 1;
        let length = FIXED + places.len() * PLACE + left.len();
        if length > SLOT {
            return Err(Errno::TOOBIG);
        }
        let buf = &mut self.buf;
        buf.clear();
        buf.extend_from_slice(&MAGIC.to_ne_bytes());
        buf.extend_from_slice(&(length as u32).to_ne_bytes());
        buf.extend_from_slice(&[0; 8]);
        buf.extend_from_slice(&number.to_ne_bytes());
        self.boot.iter().for_each(|word| buf.extend_from_slice(&word.to_ne_bytes()));
        buf.extend_from_slice(&p.to_ne_bytes());
        buf.extend_from_slice(&(places.len() as u32).to_ne_bytes());
        buf.extend_from_slice(&(left.len() as u32).to_ne_bytes());
        for place in places {
            [place.inode, place.born, place.size]
                .iter()
                .for_each(|n| buf.extend_from_slice(&n.to_ne_bytes()));
        }
        buf.extend_from_slice(left);
        let sum = sum(&buf[16..]);
        buf[8..16].copy_from_slice(&sum.to_ne_bytes());
        let wrote = pwrite(&self.file, buf, (number % 2) * SLOT as u64)?;
        if wrote < length {
            return Err(Errno::NOSPC);
        }
        self.number = number;
        Ok(())
    }

    fn head(&self, slot: u64) -> Result<Option<Head>, Errno> {
        let mut buf = [0u8; SLOT];
        let mut got = 0;
        while got < SLOT {
            match pread(&self.file, &mut buf[got..], slot * SLOT as u64 + got as u64)? {
                0 => break,
                n => got += n,
            }
        }
        Ok(Head::read(&buf[..got]))
    }

    /// Whether somebody has removed it.
    pub fn is_gone(&self) -> bool {
        fstat(&self.file).is_ok_and(|s| s.st_nlink == 0)
    }

    /// Removes it: everything has been dealt with.
    pub fn remove(self, dir: impl AsFd) {
        let _ = unlinkat(dir, NAME, AtFlags::empty());
    }
}

#[derive(Debug)]
struct Head {
    number: u64,
    boot: [u32; 4],
    p: u64,
    places: Vec<Place>,
    left: Vec<u8>,
}

impl Head {
    fn read(buf: &[u8]) -> Option<Head> {
        let u32_at = |at: usize| Some(u32::from_ne_bytes(buf.get(at..at + 4)?.try_into().ok()?));
        let u64_at = |at: usize| Some(u64::from_ne_bytes(buf.get(at..at + 8)?.try_into().ok()?));
        let length = u32_at(4)? as usize;
        if u32_at(0)? != MAGIC || length < FIXED || u64_at(8)? != sum(buf.get(16..length)?) {
            return None;
        }
        let count = u32_at(48)? as usize;
        let places = (0..count).map(|i| {
            let at = FIXED + i * PLACE;
            Some(Place { inode: u64_at(at)?, born: u64_at(at + 8)?, size: u64_at(at + 16)? })
        });
        Some(Head {
            number: u64_at(16)?,
            boot: [u32_at(24)?, u32_at(28)?, u32_at(32)?, u32_at(36)?],
            p: u64_at(40)?,
            places: places.collect::<Option<_>>()?,
            left: buf.get(FIXED + count * PLACE..length)?.to_vec(),
        })
    }
}

/// FNV-1a, over words and then bytes.
fn sum(bytes: &[u8]) -> u64 {
    let step = |sum: u64, n: u64| (sum ^ n).wrapping_mul(0x100_0000_01b3);
    let mut words = bytes.chunks_exact(8);
    let sum = words.by_ref().fold(0xcbf2_9ce4_8422_2325 ^ bytes.len() as u64, |sum, word| {
        step(sum, u64::from_ne_bytes(word.try_into().unwrap_or_default())).rotate_left(23)
    });
    words.remainder().iter().fold(sum, |sum, &byte| step(sum, byte.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pipe::pipe;

    struct Dir(std::path::PathBuf, OwnedFd);

    impl Dir {
        fn new(name: &str) -> Dir {
            let path = std::env::temp_dir().join(format!("perennial-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            let fd = rustix::fs::open(&path, OFlags::DIRECTORY, Mode::empty()).unwrap();
            Dir(path, fd)
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_is_left_is_found() {
        let dir = Dir::new("spool");
        let (reader, writer) = pipe().unwrap();
        let place = Place { inode: 7, born: 8, size: 9 };
        let mut raw = Vec::new();
        let (mut spool, found) = Spool::open(&dir.1, &mut raw).unwrap();
        assert!(found.places.is_empty() && raw.is_empty());
        spool.commit(&[], &[place]).unwrap();
        assert_eq!(spool.take(&reader, 100, &mut raw), Ok(Taken::Nothing));
        let mut expected = Vec::new();
        for round in 0..400u32 {
            let line = format!("{round} {}", "x".repeat(1000));
            expected.extend_from_slice(line.as_bytes());
            rustix::io::write(&writer, line.as_bytes()).unwrap();
            assert_eq!(spool.take(&reader, 4000, &mut raw), Ok(Taken::Bytes(line.len())));
            assert_eq!(raw, expected);
            // Another one finds the same. It may even go on.
            let mut again = Vec::new();
            let (successor, found) = Spool::open(&dir.1, &mut again).unwrap();
            assert_eq!((again, found.places, found.this_boot), (raw.clone(), vec![place], true));
            if round % 3 == 0 {
                spool = successor;
            }
            // Deal with all but so much.
            let left = (round as usize * 37) % 1500;
            let left = left.min(expected.len());
            expected.drain(..expected.len() - left);
            raw.clone_from(&expected);
            spool.commit(&expected, &[place]).unwrap();
        }
        assert!(spool.end < EMPTY_AT + 4000, "it was emptied");
        drop(writer);
        assert_eq!(spool.take(&reader, 100, &mut raw), Ok(Taken::End));
    }

    #[test]
    fn half_a_head_is_none() {
        let dir = Dir::new("spool-head");
        let (mut spool, _) = Spool::open(&dir.1, &mut Vec::new()).unwrap();
        let place = |size| Place { inode: 1, born: 2, size };
        spool.commit(&[], &[place(1)]).unwrap();
        spool.commit(&[], &[place(2)]).unwrap();
        for cut in 0..FIXED + PLACE {
            pwrite(&spool.file, &[0xa5], cut as u64).unwrap();
            let (_, found) = Spool::open(&dir.1, &mut Vec::new()).unwrap();
            assert_eq!(found.places, [place(1)], "byte {cut}");
            spool.number = 1;
            spool.commit(&[], &[place(2)]).unwrap();
        }
    }
}
