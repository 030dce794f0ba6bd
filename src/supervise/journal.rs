//! The memory of a supervisor that survives it.
//!
//! Everything that a machine is, and everything that has been decided and not yet done, lies in a file
//! mapped shared: `.s6-svscan/journal`, or `supervise/journal` for a supervisor of one service. A store to
//! it is in the page cache at once, so `kill -9` at any instant takes nothing back; the successor maps the
//! same file and goes on. It is no log and needs no sync: it describes processes, and they do not outlive
//! the machine either.
//!
//! Three inboxes close the windows between taking something from the kernel and remembering it. The kernel
//! writes straight into them:
//!
//! - *reaped*: `waitid` puts the dead child's pid and status here before the call returns;
//! - *record*: a record read from the reaper's pipe;
//! - *input*: command bytes and readiness bytes, read from their FIFO.
//!
//! And each slot has the cell into which `clone` writes the pid of a child before the child runs.
//!
//! What is remembered of a service is stored twice and a word says which copy counts, so that a copy that
//! was only half written when we were killed is never looked at.
//!
//! ```text
//! page 0         header: magic and layout; which boot (4 words) and PID namespace (2), which file
//!                (device 2, inode 2); word 12 is 1 while nothing is to be restarted; word 13 how
//!                many the kernel killed for want of memory (plus 1); from word 32 on the inboxes
//! 4096 + k·28672 64 slots of 448 bytes:
//!   word   0     0 free, 1 longrun, 2 oneshot, 3 more of something: in word 1 the slot that has the rest of
//!                it (plus 1), in words 2 to 111 what is here
//!          1     which copy counts
//!          2     device (2 words), inode (2 words) of the directory
//!          6     pid of the child being made, written by the kernel
//!          7     1 while a child is being made
//!          8     when, in nanoseconds since boot (2 words)
//!         10     the slot that has the members of its descent (plus 1): how many there are here, and for each
//!                its pid and when it was started (2 words)
//!         11     length of the name, the slot that has the rest of it (plus 1)
//!         13     the slot that has the memory of its features (plus 1)
//!         14     22 words of the name
//!         36     copy 0, 74 copy 1: machine (28), flags, events (5), death (4)
//! slot of features: words 1 and 6 to 9 as above, of the program that is asked something; 10 the slot (plus 1) that
//!                has what the service said of itself; 12 copy 0, 62 copy 1
//! slot of that: how many bytes are here, and they
//! ```

use super::descent::Member;
use super::extra::EXTRA_WORDS;
use super::machine::{Events, MOST_EVENTS, SAVED_WORDS};
use crate::process::Pid;
use crate::scan::{Identity, reaper};
use crate::servicedir::tally;
use crate::sys::map::{Shared, read_into};
use crate::sys::wait::{self, Dead, INBOX_WORDS};
use crate::sys::{Errno, clock, process};
use rustix::fs::{Mode, OFlags, fstat, openat};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering, fence};

/// "per" and the number of the layout. Another layout is not read: its services are then taken over by what
/// their status files say. Nor is one of another boot or PID namespace, where pids and times mean other
/// things, nor the copy of one, whose processes are the original's.
const MAGIC: u32 = u32::from_be_bytes(*b"per\x04");

/// Words by which a journal is known to speak of processes of here and now, [`MAGIC`] the first.
const ORIGIN_WORDS: usize = 11;

const HEADER_BYTES: usize = 4096;
const SLOT_WORDS: usize = 112;
const SLOTS_PER_CHUNK: usize = 64;
const CHUNK_BYTES: usize = SLOT_WORDS * 4 * SLOTS_PER_CHUNK;

/// The longest name that is kept: no path is longer.
pub const NAME_BYTES: usize = 4096;

const NAME: usize = 14;

/// Where a slot says which other one has the memory of its features.
const EXTRA: usize = 13;

/// So much of a name is in the slot itself.
const NAME_HEAD: usize = (COPY - NAME) * 4;

/// Where a slot of features says which other one has what the service said of itself.
const NOTES: usize = 10;

/// So many bytes of that are in a slot.
const NOTES_MORE: usize = (SLOT_WORDS - 3) * 4;

/// The slot holds more of a long name, or members.
const MORE: u32 = 3;

/// So much of it.
const NAME_MORE: usize = (SLOT_WORDS - 2) * 4;

/// So many members are in a slot.
const MEMBERS_MORE: usize = (SLOT_WORDS - 3) / 3;

/// Of the header: everything is about to be stopped.
const STOPPING: usize = 12;

/// Of the header: how many processes the kernel had killed because memory ran out, plus 1.
const OOM_KILLS: usize = 13;

const REAPED: usize = 32;
const RECORD: usize = REAPED + INBOX_WORDS;
const INPUT: usize = RECORD + 2;
const INPUT_WORDS: usize = 16;

const COPY: usize = 36;
const COPY_WORDS: usize = 38;

const fn copy_at(which: u32) -> usize {
    COPY + which as usize * COPY_WORDS
}

/// Where the first copy lies in a slot of features.
const EXTRA_COPY: usize = 12;

/// Which slot.
pub type SlotId = u32;

/// What a slot is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A service that is kept up.
    Longrun,
    /// One that is run when somebody asks.
    Oneshot,
}

/// Where bytes in the input inbox came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// `supervise/control`
    Control,
    /// The notification FIFO.
    Notification,
}

/// What is remembered of a service: its machine, and what has been decided and not yet done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// `Machine::save` or `Oneshot::save`.
    pub machine: [u32; SAVED_WORDS],
    /// Free for the supervisor.
    pub flags: u32,
    /// Events not yet sent.
    pub events: Events,
    /// A death not yet in the tally.
    pub death: Option<[u8; tally::RECORD]>,
}

/// A child that was being made when somebody was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Birth {
    /// It, if it came to that.
    pub pid: Option<crate::process::Pid>,
    /// When, in nanoseconds since boot.
    pub boot: u64,
}

/// The journal.
pub struct Journal {
    header: Shared,
    chunks: Vec<Shared>,
    file: Option<OwnedFd>,
    free: Vec<SlotId>,
}

impl Journal {
    /// Opens the journal `name` in `dir`, or begins a new one. When there can be no file the journal is
    /// memory only, and the error says why: all works, but a successor will know less.
    pub fn open(dir: impl AsFd, name: &str) -> Result<(Journal, Option<Errno>), Errno> {
        match Journal::open_file(dir, name) {
            Ok(journal) => Ok((journal, None)),
            Err(e) => Ok((Journal::anonymous()?, Some(e))),
        }
    }

    /// Whether there is a file: a successor will know what we know.
    pub fn is_kept(&self) -> bool {
        self.file.is_some()
    }

    fn anonymous() -> Result<Journal, Errno> {
        let header = Shared::anonymous(HEADER_BYTES)?;
        Ok(Journal { header, chunks: Vec::new(), file: None, free: Vec::new() })
    }

    fn open_file(dir: impl AsFd, name: &str) -> Result<Journal, Errno> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mut file = openat(&dir, name, flags, Mode::from_raw_mode(0o600))?;
        let mut header = Shared::file(&file, 0, HEADER_BYTES)?;
        // Where that cannot be told just now the file stays as it is, for a successor.
        let mut expected = header.iter().zip(origin(&file)?);
        if header[0].load(Ordering::Relaxed) != 0
            && expected.any(|(word, expected)| word.load(Ordering::Relaxed) != expected)
        {
            rustix::fs::unlinkat(&dir, name, rustix::fs::AtFlags::empty())?;
            file = openat(&dir, name, flags, Mode::from_raw_mode(0o600))?;
            header = Shared::file(&file, 0, HEADER_BYTES)?;
        }
        // The magic comes last: a header with it is complete.
        for (word, value) in header.iter().zip(origin(&file)?).skip(1) {
            word.store(value, Ordering::Relaxed);
        }
        header[0].store(MAGIC, Ordering::Release);
        let bytes = fstat(&file)?.st_size as usize;
        let whole = bytes.saturating_sub(HEADER_BYTES) / CHUNK_BYTES;
        let mut journal = Journal { header, chunks: Vec::new(), file: Some(file), free: Vec::new() };
        for _ in 0..whole {
            journal.grow()?;
        }
        journal.free.clear();
        let mut free = vec![true; whole * SLOTS_PER_CHUNK];
        for id in journal.used() {
            free[id as usize] = false;
            let more = journal.rest_of_name(id).into_iter().chain(journal.slots_of_members(id));
            more.chain(journal.slots_of_features(id)).for_each(|other| free[other as usize] = false);
        }
        let all = (0..free.len() as SlotId).rev();
        journal.free.extend(all.filter(|id| free[*id as usize]));
        Ok(journal)
    }

    /// Maps one more chunk and puts its slots on the free list.
    fn grow(&mut self) -> Result<(), Errno> {
        let index = self.chunks.len();
        let offset = HEADER_BYTES + index * CHUNK_BYTES;
        let chunk = match &self.file {
            Some(file) => Shared::file(file, offset as u64, CHUNK_BYTES)?,
            None => Shared::anonymous(CHUNK_BYTES)?,
        };
        self.chunks.push(chunk);
        let first = (index * SLOTS_PER_CHUNK) as SlotId;
        self.free.extend((first..first + SLOTS_PER_CHUNK as SlotId).rev());
        Ok(())
    }

    fn slot(&self, id: SlotId) -> &[AtomicU32] {
        let (chunk, at) = (id as usize / SLOTS_PER_CHUNK, id as usize % SLOTS_PER_CHUNK * SLOT_WORDS);
        &self.chunks[chunk][at..at + SLOT_WORDS]
    }

    /// All slots in use.
    pub fn used(&self) -> Vec<SlotId> {
        let all = (self.chunks.len() * SLOTS_PER_CHUNK) as SlotId;
        (0..all).filter(|id| self.kind(*id).is_some()).collect()
    }

    /// Takes a slot for a service of which nothing is remembered yet. It counts from the first
    /// [`remember`](Self::remember) on.
    pub fn take(&mut self, identity: Identity, name: &str) -> Result<SlotId, Errno> {
        let bytes = &name.as_bytes()[..name.len().min(NAME_BYTES)];
        let (head, rest) = bytes.split_at(bytes.len().min(NAME_HEAD));
        let mut next = 0;
        for piece in rest.chunks(NAME_MORE).rev() {
            let id = self.take_cleared()?;
            let cells = self.slot(id);
            cells[1].store(next, Ordering::Relaxed);
            store_bytes(&cells[2..], piece);
            cells[0].store(MORE, Ordering::Relaxed);
            next = id + 1;
        }
        let id = self.take_cleared()?;
        let slot = self.slot(id);
        store_u64(&slot[2..4], identity.device);
        store_u64(&slot[4..6], identity.inode);
        slot[11].store(bytes.len() as u32, Ordering::Relaxed);
        store_bytes(&slot[NAME..COPY], head);
        slot[12].store(next, Ordering::Relaxed);
        Ok(id)
    }

    fn take_cleared(&mut self) -> Result<SlotId, Errno> {
        if self.free.is_empty() {
            self.grow()?;
        }
        let id = self.free.pop().ok_or(Errno::NOSPC)?;
        self.slot(id).iter().for_each(|word| word.store(0, Ordering::Relaxed));
        Ok(id)
    }

    /// The slots with the rest of a name, in order.
    fn rest_of_name(&self, id: SlotId) -> Vec<SlotId> {
        self.chain(self.slot(id)[12].load(Ordering::Relaxed))
    }

    fn slots_of_members(&self, id: SlotId) -> Vec<SlotId> {
        self.chain(self.slot(id)[10].load(Ordering::Acquire))
    }

    /// The slots from this one (plus 1) on, each of which names the next.
    fn chain(&self, mut next: u32) -> Vec<SlotId> {
        let mut found = Vec::new();
        let all = self.chunks.len() * SLOTS_PER_CHUNK;
        while let Some(id) = next.checked_sub(1)
            && (id as usize) < all
            && found.len() < all
        {
            found.push(id);
            next = self.slot(id)[1].load(Ordering::Relaxed);
        }
        found
    }

    fn free_slots(&mut self, slots: Vec<SlotId>) {
        for id in slots {
            self.slot(id)[0].store(0, Ordering::Release);
            self.free.push(id);
        }
    }

    /// The slot with the memory of a service's features, if it has one.
    pub fn extra(&self, id: SlotId) -> Option<SlotId> {
        self.other(id, EXTRA)
    }

    fn other(&self, id: SlotId, word: usize) -> Option<SlotId> {
        let other = self.slot(id)[word].load(Ordering::Acquire).checked_sub(1)?;
        ((other as usize) < self.chunks.len() * SLOTS_PER_CHUNK).then_some(other)
    }

    /// Takes a slot for the memory of a service's features, which are these.
    pub fn take_extra(&mut self, id: SlotId, words: &[u32; EXTRA_WORDS]) -> Result<SlotId, Errno> {
        let extra = self.take_cleared()?;
        self.remember_extra(extra, words);
        self.slot(id)[EXTRA].store(extra + 1, Ordering::Release);
        Ok(extra)
    }

    /// Remembers what a service's features are now, and that any child that was being made for them is part of it.
    pub fn remember_extra(&self, extra: SlotId, words: &[u32; EXTRA_WORDS]) {
        let slot = self.slot(extra);
        let which = (slot[1].load(Ordering::Relaxed) ^ 1) & 1;
        let copy = &slot[EXTRA_COPY + which as usize * EXTRA_WORDS..];
        for (cell, word) in copy.iter().zip(words) {
            cell.store(*word, Ordering::Relaxed);
        }
        slot[1].store(which, Ordering::Release);
        slot[7].store(0, Ordering::Release);
    }

    /// What was remembered last.
    pub fn recall_extra(&self, extra: SlotId) -> [u32; EXTRA_WORDS] {
        let slot = self.slot(extra);
        let which = slot[1].load(Ordering::Acquire) & 1;
        let copy = &slot[EXTRA_COPY + which as usize * EXTRA_WORDS..];
        std::array::from_fn(|at| copy[at].load(Ordering::Relaxed))
    }

    fn slots_of_features(&self, id: SlotId) -> Vec<SlotId> {
        let Some(extra) = self.extra(id) else { return Vec::new() };
        let mut slots = self.chain(self.slot(extra)[NOTES].load(Ordering::Acquire));
        slots.push(extra);
        slots
    }

    /// Remembers what a service with features has said of itself, in place of what it said before. False: there is
    /// no room for it.
    pub fn remember_notes(&mut self, extra: SlotId, bytes: &[u8]) -> bool {
        let old = self.chain(self.slot(extra)[NOTES].load(Ordering::Acquire));
        let mut next = 0;
        for some in bytes.chunks(NOTES_MORE).rev() {
            let Ok(more) = self.take_cleared() else { return false };
            let cells = self.slot(more);
            store_bytes(&cells[3..], some);
            cells[1].store(next, Ordering::Relaxed);
            cells[2].store(some.len() as u32, Ordering::Relaxed);
            cells[0].store(MORE, Ordering::Relaxed);
            next = more + 1;
        }
        self.slot(extra)[NOTES].store(next, Ordering::Release);
        self.free_slots(old);
        true
    }

    /// What it said last; empty: nothing.
    pub fn notes(&self, extra: SlotId) -> Vec<u8> {
        let mut bytes = Vec::new();
        for more in self.chain(self.slot(extra)[NOTES].load(Ordering::Acquire)) {
            let cells = self.slot(more);
            let count = (cells[2].load(Ordering::Relaxed) as usize).min(NOTES_MORE);
            bytes.extend(load_bytes(&cells[3..], count));
        }
        bytes
    }

    /// Gives a slot back: there is nothing to remember any more.
    pub fn release(&mut self, id: SlotId) {
        let mut slots = vec![id];
        slots.extend(self.rest_of_name(id));
        slots.extend(self.slots_of_members(id));
        slots.extend(self.slots_of_features(id));
        self.free_slots(slots);
    }

    /// Remembers who descends from a service, in place of those who were remembered before. For whom there is no
    /// room is not remembered.
    pub fn remember_members(&mut self, id: SlotId, members: &[Member]) {
        let old = self.slots_of_members(id);
        if members.is_empty() && old.is_empty() {
            return;
        }
        let mut next = 0;
        for some in members.chunks(MEMBERS_MORE) {
            let Ok(more) = self.take_cleared() else { break };
            let cells = self.slot(more);
            for ((pid, start), cells) in some.iter().zip(cells[3..].chunks_exact(3)) {
                cells[0].store(pid.raw() as u32, Ordering::Relaxed);
                store_u64(&cells[1..], *start);
            }
            cells[1].store(next, Ordering::Relaxed);
            cells[2].store(some.len() as u32, Ordering::Relaxed);
            cells[0].store(MORE, Ordering::Relaxed);
            next = more + 1;
        }
        self.slot(id)[10].store(next, Ordering::Release);
        self.free_slots(old);
    }

    /// Who descends from a service, as far as is known.
    pub fn members(&self, id: SlotId) -> Vec<Member> {
        let mut members = Vec::new();
        for more in self.slots_of_members(id) {
            let cells = self.slot(more);
            let count = (cells[2].load(Ordering::Relaxed) as usize).min(MEMBERS_MORE);
            let of = |cells: &[AtomicU32]| {
                let pid = Pid::from_raw(cells[0].load(Ordering::Relaxed) as i32)?;
                Some((pid, load_u64(&cells[1..])))
            };
            members.extend(cells[3..].chunks_exact(3).take(count).filter_map(of));
        }
        members
    }

    /// What the slot is of; `None` if it is free.
    pub fn kind(&self, id: SlotId) -> Option<Kind> {
        match self.slot(id)[0].load(Ordering::Acquire) {
            1 => Some(Kind::Longrun),
            2 => Some(Kind::Oneshot),
            _ => None,
        }
    }

    /// The directory it is of.
    pub fn identity(&self, id: SlotId) -> Identity {
        let slot = self.slot(id);
        Identity { device: load_u64(&slot[2..4]), inode: load_u64(&slot[4..6]) }
    }

    /// The name it was given.
    pub fn name(&self, id: SlotId) -> String {
        let slot = self.slot(id);
        let len = (slot[11].load(Ordering::Relaxed) as usize).min(NAME_BYTES);
        let mut bytes = load_bytes(&slot[NAME..COPY], len.min(NAME_HEAD));
        for rest in self.rest_of_name(id) {
            let left = len.saturating_sub(bytes.len());
            bytes.extend(load_bytes(&self.slot(rest)[2..], left.min(NAME_MORE)));
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Remembers whether everything is about to be stopped: what dies then is not started again.
    pub fn set_stopping(&self, stopping: bool) {
        self.header[STOPPING].store(stopping.into(), Ordering::Release);
    }

    /// Whether everything is about to be stopped.
    pub fn is_stopping(&self) -> bool {
        self.header[STOPPING].load(Ordering::Acquire) != 0
    }

    /// Remembers how many processes the kernel has killed because memory ran out.
    pub fn set_oom_kills(&self, count: u32) {
        self.header[OOM_KILLS].store(count.saturating_add(1), Ordering::Relaxed);
    }

    /// How many it had killed when that was looked at last.
    pub fn oom_kills(&self) -> Option<u32> {
        self.header[OOM_KILLS].load(Ordering::Relaxed).checked_sub(1)
    }

    /// Remembers what a service is now, and that any child that was being made is part of it.
    pub fn remember(&self, id: SlotId, kind: Kind, memory: &Memory) {
        let slot = self.slot(id);
        let which = (slot[1].load(Ordering::Relaxed) ^ 1) & 1;
        let copy = &slot[copy_at(which)..copy_at(which) + COPY_WORDS];
        for (cell, word) in copy.iter().zip(memory.machine) {
            cell.store(word, Ordering::Relaxed);
        }
        copy[28].store(memory.flags, Ordering::Relaxed);
        let events = memory.events.as_bytes();
        copy[29].store(events.len() as u32, Ordering::Relaxed);
        store_bytes(&copy[30..34], events);
        match &memory.death {
            None => copy[37].store(0, Ordering::Relaxed),
            Some(record) => {
                store_bytes(&copy[34..38], record);
                // The record's last two bytes share the word with a mark that there is one.
                let word = copy[37].load(Ordering::Relaxed);
                copy[37].store(word | 0x8000_0000, Ordering::Relaxed);
            }
        }
        slot[1].store(which, Ordering::Release);
        slot[7].store(0, Ordering::Release);
        slot[0].store(if kind == Kind::Longrun { 1 } else { 2 }, Ordering::Release);
    }

    /// What was remembered last.
    pub fn recall(&self, id: SlotId) -> Memory {
        let slot = self.slot(id);
        let which = slot[1].load(Ordering::Acquire) & 1;
        let copy = &slot[copy_at(which)..copy_at(which) + COPY_WORDS];
        let mut memory = Memory::default();
        for (word, cell) in memory.machine.iter_mut().zip(copy) {
            *word = cell.load(Ordering::Relaxed);
        }
        memory.flags = copy[28].load(Ordering::Relaxed);
        let len = (copy[29].load(Ordering::Relaxed) as usize).min(MOST_EVENTS);
        memory.events.push(&load_bytes(&copy[30..34], len));
        if copy[37].load(Ordering::Relaxed) & 0x8000_0000 != 0 {
            let bytes = load_bytes(&copy[34..38], tally::RECORD);
            memory.death = Some(bytes.try_into().expect("14 bytes"));
        }
        memory
    }

    /// Announces that a child will be made, and returns the cell in which the kernel shall put its pid. The
    /// next [`remember`](Self::remember) ends this.
    pub fn birth(&self, id: SlotId) -> (&AtomicU32, u64) {
        let slot = self.slot(id);
        let boot = clock::boot();
        slot[6].store(0, Ordering::Relaxed);
        store_u64(&slot[8..10], boot);
        slot[7].store(1, Ordering::Release);
        (&slot[6], boot)
    }

    /// The child that was being made when our predecessor was killed.
    pub fn unfinished_birth(&self, id: SlotId) -> Option<Birth> {
        let slot = self.slot(id);
        (slot[7].load(Ordering::Acquire) != 0).then(|| Birth {
            pid: i32::try_from(slot[6].load(Ordering::Relaxed)).ok().and_then(crate::process::Pid::from_raw),
            boot: load_u64(&slot[8..10]),
        })
    }

    fn reaped_cells(&self) -> &[AtomicU32; INBOX_WORDS] {
        self.header[REAPED..REAPED + INBOX_WORDS].try_into().expect("as many words")
    }

    /// Reaps one child. Say [`reaped_done`](Self::reaped_done) when its machine knows.
    pub fn reap(&self) -> Option<Dead> {
        wait::reap_into(self.reaped_cells())
    }

    /// The child that was reaped when our predecessor was killed.
    pub fn unfinished_reap(&self) -> Option<Dead> {
        wait::inbox(self.reaped_cells())
    }

    /// The reaped child has been dealt with.
    pub fn reaped_done(&self) {
        wait::clear(self.reaped_cells());
    }

    /// Reads one record of the reaper's pipe. Say [`record_done`](Self::record_done) when it is dealt with.
    pub fn read_record(&self, pipe: impl AsFd) -> Option<Dead> {
        let cells = &self.header[RECORD..RECORD + 2];
        cells[0].store(0, Ordering::Relaxed);
        match read_into(pipe, cells) {
            Ok(8) => self.unfinished_record(),
            _ => None,
        }
    }

    /// The record that was read when our predecessor was killed.
    pub fn unfinished_record(&self) -> Option<Dead> {
        let cells = &self.header[RECORD..RECORD + 2];
        reaper::decode([cells[0].load(Ordering::Relaxed), cells[1].load(Ordering::Relaxed)])
    }

    /// The record has been dealt with.
    pub fn record_done(&self) {
        self.header[RECORD].store(0, Ordering::Relaxed);
    }

    /// Reads input for a service: at most 64 bytes, 0 if there are none. Bytes that are dealt with are
    /// crossed out; say [`input_done`](Self::input_done) at the end.
    pub fn read_input(&self, id: SlotId, source: Source, fd: impl AsFd) -> usize {
        let cells = &self.header[INPUT..INPUT + 1 + INPUT_WORDS];
        cells.iter().for_each(|cell| cell.store(0, Ordering::Relaxed));
        let mark = (id + 1) << 1 | (source == Source::Notification) as u32;
        cells[0].store(mark, Ordering::Relaxed);
        fence(Ordering::Release);
        read_into(fd, &cells[1..]).unwrap_or(0)
    }

    /// Byte `index` of the input.
    pub fn input_byte(&self, index: usize) -> u8 {
        let word = self.header[INPUT + 1 + index / 4].load(Ordering::Relaxed);
        word.to_ne_bytes()[index % 4]
    }

    /// Byte `index` has been dealt with: a successor reads 0 in its place, which is no command.
    pub fn cross_out(&self, index: usize) {
        let cell = &self.header[INPUT + 1 + index / 4];
        let mut bytes = cell.load(Ordering::Relaxed).to_ne_bytes();
        bytes[index % 4] = 0;
        cell.store(u32::from_ne_bytes(bytes), Ordering::Relaxed);
    }

    /// The input that was being dealt with when our predecessor was killed.
    pub fn unfinished_input(&self) -> Option<(SlotId, Source)> {
        let mark = self.header[INPUT].load(Ordering::Relaxed);
        let source = if mark & 1 != 0 { Source::Notification } else { Source::Control };
        (mark > 1).then(|| ((mark >> 1) - 1, source))
    }

    /// The input has been dealt with.
    pub fn input_done(&self) {
        self.header[INPUT].store(0, Ordering::Relaxed);
    }
}

/// What the header of a journal in `file` begins with.
fn origin(file: &OwnedFd) -> Result<[u32; ORIGIN_WORDS], Errno> {
    let Identity { device, inode } = Identity::of(file)?;
    let mut words = [MAGIC; ORIGIN_WORDS];
    words[1..7].copy_from_slice(&process::pid_world()?);
    words[7..].copy_from_slice(&[device as u32, (device >> 32) as u32, inode as u32, (inode >> 32) as u32]);
    Ok(words)
}

/// The most bytes that one [`Journal::read_input`] brings.
pub const INPUT_BYTES: usize = INPUT_WORDS * 4;

fn store_u64(cells: &[AtomicU32], n: u64) {
    cells[0].store(n as u32, Ordering::Relaxed);
    cells[1].store((n >> 32) as u32, Ordering::Relaxed);
}

fn load_u64(cells: &[AtomicU32]) -> u64 {
    cells[0].load(Ordering::Relaxed) as u64 | (cells[1].load(Ordering::Relaxed) as u64) << 32
}

fn store_bytes(cells: &[AtomicU32], bytes: &[u8]) {
    for (cell, chunk) in cells.iter().zip(bytes.chunks(4)) {
        let mut word = [0; 4];
        word[..chunk.len()].copy_from_slice(chunk);
        cell.store(u32::from_le_bytes(word), Ordering::Relaxed);
    }
}

fn load_bytes(cells: &[AtomicU32], len: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> =
        cells.iter().take(len.div_ceil(4)).flat_map(|c| c.load(Ordering::Relaxed).to_le_bytes()).collect();
    bytes.truncate(len);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::CWD;

    struct Scratch(std::path::PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let path = std::env::temp_dir().join(format!("perennial-{name}-{}", std::process::id()));
            let _ = std::fs::remove_file(&path);
            Scratch(path)
        }

        fn open(&self) -> Journal {
            let (journal, why) = Journal::open(CWD, self.0.to_str().unwrap()).unwrap();
            assert_eq!(why, None);
            journal
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    fn identity(n: u64) -> Identity {
        Identity { device: 1 << 40 | n, inode: u64::MAX - n }
    }

    fn memory(n: u32) -> Memory {
        let mut events = Events::default();
        events.push(b"dDu");
        Memory {
            machine: std::array::from_fn(|i| n * 1000 + i as u32),
            flags: n,
            events,
            death: n.is_multiple_of(2).then_some([n as u8; tally::RECORD]),
        }
    }

    #[test]
    fn a_successor_recalls_everything() {
        let scratch = Scratch::new("journal");
        let mut journal = scratch.open();
        let mut ids = Vec::new();
        for n in 0..200u32 {
            let id = journal.take(identity(n.into()), &format!("service-{n}")).unwrap();
            journal.remember(id, Kind::Longrun, &memory(n));
            journal.remember(id, if n % 3 == 0 { Kind::Oneshot } else { Kind::Longrun }, &memory(n + 1));
            ids.push(id);
        }
        journal.release(ids[7]);
        drop(journal);
        let mut journal = scratch.open();
        assert_eq!(journal.used().len(), 199);
        for (n, id) in ids.iter().enumerate().filter(|(n, _)| *n != 7) {
            assert_eq!(journal.recall(*id), memory(n as u32 + 1));
            assert_eq!(journal.identity(*id), identity(n as u64));
            assert_eq!(journal.name(*id), format!("service-{n}"));
            assert_eq!(journal.kind(*id) == Some(Kind::Oneshot), n % 3 == 0);
            assert_eq!(journal.unfinished_birth(*id), None);
        }
        assert_eq!(journal.take(identity(7), "again"), Ok(ids[7]));
    }

    #[test]
    fn long_names_take_more_slots() {
        let scratch = Scratch::new("names");
        let mut journal = scratch.open();
        let lengths =
            [1, NAME_HEAD, NAME_HEAD + 1, NAME_HEAD + NAME_MORE, NAME_HEAD + NAME_MORE + 1, NAME_BYTES];
        let more = |bytes: usize| bytes.saturating_sub(NAME_HEAD).div_ceil(NAME_MORE);
        let used = 1 + more(NAME_BYTES) + lengths.map(|bytes| 1 + more(bytes)).iter().sum::<usize>();
        let ids: Vec<SlotId> = lengths
            .map(|bytes| {
                let name = "x".repeat(bytes - bytes / 2) + &"y".repeat(bytes / 2);
                let id = journal.take(identity(bytes as u64), &name).unwrap();
                journal.remember(id, Kind::Longrun, &memory(1));
                id
            })
            .into();
        let cut = journal.take(identity(9), &"z".repeat(NAME_BYTES + 2)).unwrap();
        assert_eq!(journal.name(cut).len(), NAME_BYTES);
        // Killed before it was remembered: its slots are free again.
        let mut journal = scratch.open();
        for (id, bytes) in ids.iter().zip(lengths) {
            assert_eq!(journal.name(*id), "x".repeat(bytes - bytes / 2) + &"y".repeat(bytes / 2));
        }
        assert_eq!(journal.free.len(), SLOTS_PER_CHUNK - (used - 1 - more(NAME_BYTES)));
        ids.iter().for_each(|id| journal.release(*id));
        assert_eq!(journal.free.len(), SLOTS_PER_CHUNK);
    }

    #[test]
    fn members_are_there_for_the_successor() {
        let scratch = Scratch::new("members");
        let mut journal = scratch.open();
        let id = journal.take(identity(1), "x").unwrap();
        journal.remember(id, Kind::Longrun, &memory(1));
        let member = |n: u64| (Pid::from_raw(n as i32 + 1).unwrap(), n << 33);
        for count in [1, 0, MEMBERS_MORE as u64, 3 * MEMBERS_MORE as u64 + 1] {
            let members: Vec<Member> = (0..count).map(member).collect();
            journal.remember_members(id, &members);
            journal = scratch.open();
            let mut found = journal.members(id);
            found.sort();
            assert_eq!(found, members);
        }
        assert_eq!(journal.free.len(), SLOTS_PER_CHUNK - 5);
        journal.release(id);
        assert_eq!(journal.free.len(), SLOTS_PER_CHUNK);
    }

    #[test]
    fn the_memory_of_features_has_a_slot_of_its_own() {
        let scratch = Scratch::new("features");
        let mut journal = scratch.open();
        let id = journal.take(identity(1), "x").unwrap();
        journal.remember(id, Kind::Longrun, &memory(1));
        assert_eq!(journal.extra(id), None);
        let words = |n: u32| std::array::from_fn(|i| n + i as u32);
        let extra = journal.take_extra(id, &words(1)).unwrap();
        journal.remember_extra(extra, &words(1000));
        let (cell, boot) = journal.birth(extra);
        cell.store(77, Ordering::Relaxed);
        let mut journal = scratch.open();
        assert_eq!((journal.used(), journal.extra(id)), (vec![id], Some(extra)));
        assert_eq!((journal.recall_extra(extra), journal.recall(id)), (words(1000), memory(1)));
        let birth = Birth { pid: crate::process::Pid::from_raw(77), boot };
        assert_eq!((journal.unfinished_birth(extra), journal.unfinished_birth(id)), (Some(birth), None));
        journal.remember_extra(extra, &words(5));
        assert_eq!((journal.recall_extra(extra), journal.unfinished_birth(extra)), (words(5), None));
        journal.release(id);
        assert_eq!(journal.free.len(), SLOTS_PER_CHUNK);
        // Killed before it was known whose it is: its slot is free again.
        let id = journal.take(identity(1), "x").unwrap();
        journal.remember(id, Kind::Longrun, &memory(1));
        journal.take_cleared().unwrap();
        assert_eq!(scratch.open().free.len(), SLOTS_PER_CHUNK - 1);
    }

    #[test]
    fn a_birth_is_unfinished_until_it_is_remembered() {
        let scratch = Scratch::new("birth");
        let mut journal = scratch.open();
        let id = journal.take(identity(1), "x").unwrap();
        journal.remember(id, Kind::Longrun, &memory(1));
        let (cell, boot) = journal.birth(id);
        assert_eq!(journal.unfinished_birth(id), Some(Birth { pid: None, boot }));
        cell.store(77, Ordering::Relaxed);
        let journal = scratch.open();
        assert_eq!(
            journal.unfinished_birth(id),
            Some(Birth { pid: crate::process::Pid::from_raw(77), boot })
        );
        journal.remember(id, Kind::Longrun, &memory(2));
        assert_eq!(journal.unfinished_birth(id), None);
    }

    #[test]
    fn input_is_there_for_the_successor_less_what_was_crossed_out() {
        let scratch = Scratch::new("input");
        let mut journal = scratch.open();
        let id = journal.take(identity(1), "x").unwrap();
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        rustix::io::write(&writer, b"tdu").unwrap();
        assert_eq!(journal.read_input(id, Source::Control, &reader), 3);
        journal.cross_out(0);
        let journal = scratch.open();
        assert_eq!(journal.unfinished_input(), Some((id, Source::Control)));
        let bytes: Vec<u8> = (0..4).map(|i| journal.input_byte(i)).collect();
        assert_eq!(bytes, *b"\0du\0");
        journal.input_done();
        assert_eq!(journal.unfinished_input(), None);
    }

    #[test]
    fn a_file_of_another_layout_is_begun_anew() {
        let scratch = Scratch::new("layout");
        std::fs::write(&scratch.0, vec![7u8; 100_000]).unwrap();
        assert_eq!(scratch.open().used(), []);
    }

    #[test]
    fn another_boot_and_a_copy_are_begun_anew() {
        let (scratch, copy) = (Scratch::new("origin"), Scratch::new("origin-copy"));
        let mut journal = scratch.open();
        let id = journal.take(identity(1), "x").unwrap();
        journal.remember(id, Kind::Longrun, &memory(1));
        std::fs::copy(&scratch.0, &copy.0).unwrap();
        assert_eq!(copy.open().used(), []);
        assert_eq!(scratch.open().used(), [id]);
        for word in 1..ORIGIN_WORDS {
            journal.header[word].fetch_add(1, Ordering::Relaxed);
            assert_eq!(scratch.open().used(), [], "word {word}");
            journal = scratch.open();
            let id = journal.take(identity(1), "x").unwrap();
            journal.remember(id, Kind::Longrun, &memory(1));
        }
    }

    #[test]
    fn without_a_file_it_works_and_says_so() {
        let (mut journal, why) = Journal::open(CWD, "/proc/no-such-directory/journal").unwrap();
        assert!(why.is_some());
        let id = journal.take(identity(3), "x").unwrap();
        journal.remember(id, Kind::Longrun, &memory(4));
        assert_eq!(journal.recall(id), memory(4));
    }
}
