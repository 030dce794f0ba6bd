//! Lines found and copied in one pass, 16 bytes at a time.
//!
//! What a logger does most: put a stamp before each line. Looking for the newline and copying the line are one
//! loop here, and nothing is called for each line: the C library's `memchr` and `memcpy` cost more to call than
//! a line of 100 bytes costs to move.

use std::ops::ControlFlow;

/// The longest stamp that [`stamp`] puts before lines, in bytes.
pub const STAMP_MAX: usize = 64;

/// Bytes that [`stamp`] may read behind what it is given.
pub const SLACK: usize = 16;

/// What [`stamp`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamped {
    /// Bytes taken: whole lines.
    pub taken: usize,
    /// How many lines that were.
    pub lines: usize,
}

/// Appends every whole line of `text[..len]` to `to`, each with `before` (at most [`STAMP_MAX`] bytes) in
/// front. Ends early when `to` has grown to `enough` bytes or more, and before a line that has more than `limit`
/// bytes. `to` never grows beyond its capacity. At least [`SLACK`] bytes of `text` lie behind `len`.
pub fn stamp(
    text: &[u8],
    len: usize,
    before: &[u8],
    to: &mut Vec<u8>,
    enough: usize,
    limit: usize,
) -> Stamped {
    assert!(len + SLACK <= text.len() && before.len() <= STAMP_MAX);
    let mut padded = [0u8; STAMP_MAX];
    padded[..before.len()].copy_from_slice(before);
    let mut done = Stamped { taken: 0, lines: 0 };
    while done.taken < len && to.len() < enough {
        let most = limit.min(len - done.taken - 1);
        match one(&text[done.taken..], &padded, before.len(), to, most) {
            ControlFlow::Continue(line) => {
                done.taken += line;
                done.lines += 1;
            }
            ControlFlow::Break(()) => break,
        }
    }
    done
}

/// Appends one line, of at most `most` bytes before its newline. `Break`: there is no such line, or no room.
#[inline(always)]
fn one(
    text: &[u8],
    before: &[u8; STAMP_MAX],
    stamp: usize,
    to: &mut Vec<u8>,
    most: usize,
) -> ControlFlow<(), usize> {
    let room = to.capacity() - to.len();
    if room < STAMP_MAX + 2 * SLACK {
        return ControlFlow::Break(());
    }
    // What a line may have: so much that the last block written still lies within the capacity.
    let most = most.min(room - STAMP_MAX - 2 * SLACK);
    let old = to.len();
    // SAFETY: `before` has STAMP_MAX bytes, and so much room is there.
    unsafe { std::ptr::copy_nonoverlapping(before.as_ptr(), to.as_mut_ptr().add(old), STAMP_MAX) };
    let mut at = 0;
    loop {
        // SAFETY: `at` <= `most`, which is less than the number of bytes before the slack in `text`, so that 16
        // bytes can be read there; and `most` leaves room for a stamp and two blocks in `to`.
        let newline = unsafe { block(text.as_ptr().add(at), to.as_mut_ptr().add(old + stamp + at)) };
        match newline {
            Some(n) if at + n <= most => {
                let line = at + n + 1;
                // SAFETY: all bytes up to there have just been written.
                unsafe { to.set_len(old + stamp + line) };
                return ControlFlow::Continue(line);
            }
            Some(_) => return ControlFlow::Break(()),
            None => at += SLACK,
        }
        if at > most {
            return ControlFlow::Break(());
        }
    }
}

/// Copies 16 bytes and says where the first newline among them is.
///
/// # Safety
/// 16 bytes can be read at `from` and written at `to`, which do not overlap.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn block(from: *const u8, to: *mut u8) -> Option<usize> {
    use std::arch::x86_64::{
        _mm_cmpeq_epi8, _mm_loadu_si128, _mm_movemask_epi8, _mm_set1_epi8, _mm_storeu_si128,
    };
    // SAFETY: SSE2 is in every x86_64, loads and stores need no alignment, and the caller sees to the room.
    let mask = unsafe {
        let bytes = _mm_loadu_si128(from.cast());
        _mm_storeu_si128(to.cast(), bytes);
        _mm_movemask_epi8(_mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'\n' as i8)))
    };
    (mask != 0).then(|| mask.trailing_zeros() as usize)
}

/// The same in words of eight bytes.
///
/// # Safety
/// 16 bytes can be read at `from` and written at `to`, which do not overlap.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
unsafe fn block(from: *const u8, to: *mut u8) -> Option<usize> {
    // SAFETY: an array of bytes needs no alignment, and the caller sees to the room.
    let bytes = unsafe {
        let bytes = from.cast::<[u8; 16]>().read();
        to.cast::<[u8; 16]>().write(bytes);
        bytes
    };
    let whole = u128::from_le_bytes(bytes) ^ u128::from_le_bytes([b'\n'; 16]);
    const ONES: u128 = u128::from_le_bytes([1; 16]);
    let zero = whole.wrapping_sub(ONES) & !whole & (ONES << 7);
    (zero != 0).then(|| zero.trailing_zeros() as usize / 8)
}

/// Where the first newline is.
pub fn newline(text: &[u8]) -> Option<usize> {
    // SAFETY: memchr reads at most as many bytes as there are.
    let found = unsafe { libc::memchr(text.as_ptr().cast(), libc::c_int::from(b'\n'), text.len()) };
    (!found.is_null()).then(|| found as usize - text.as_ptr() as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What `stamp` is to do, slowly.
    fn slow(text: &[u8], before: &[u8], enough: usize, limit: usize) -> (Vec<u8>, Stamped) {
        let (mut to, mut done) = (Vec::new(), Stamped { taken: 0, lines: 0 });
        while to.len() < enough
            && let Some(n) = text[done.taken..].iter().position(|&b| b == b'\n')
            && n <= limit
        {
            to.extend_from_slice(before);
            to.extend_from_slice(&text[done.taken..=done.taken + n]);
            done = Stamped { taken: done.taken + n + 1, lines: done.lines + 1 };
        }
        (to, done)
    }

    proptest! {
        #[test]
        fn stamps_as_the_slow_way(
            lines in prop::collection::vec(prop::collection::vec(9u8..13, 0..70), 0..20),
            before in prop::collection::vec(any::<u8>(), 0..=STAMP_MAX),
            enough in 0usize..3000,
            limit in 0usize..80,
        ) {
            let text = lines.join(&b'\n');
            let padded = [&text[..], b"\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n"].concat();
            let mut to = Vec::with_capacity(1 << 20);
            let done = stamp(&padded, text.len(), &before, &mut to, enough, limit);
            prop_assert_eq!((to, done), slow(&text, &before, enough, limit));
            prop_assert_eq!(newline(&text), text.iter().position(|&b| b == b'\n'));
        }

        #[test]
        fn never_more_than_there_is_room_for(room in 0usize..400, line in 0usize..120) {
            let mut text = vec![b'x'; line];
            text.push(b'\n');
            let text = text.repeat(5);
            let padded = [&text[..], &[0; SLACK]].concat();
            let mut to = Vec::with_capacity(room);
            let at = to.as_ptr();
            let done = stamp(&padded, text.len(), b"12345", &mut to, usize::MAX, usize::MAX);
            prop_assert_eq!(to.len(), done.taken + done.lines * 5);
            prop_assert_eq!(at, to.as_ptr());
        }
    }
}
