//! Follows a chain line by line, and names each line that does not fit.

use crate::{ChainHead, LineHash, Link};

/// Why a line does not follow the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    /// It is no line of a journal: it has no number or no hash.
    Unreadable,
    /// Lines before it are missing: from this number to that one.
    Missing {
        /// The first missing number.
        from: u64,
        /// The last missing number.
        to: u64,
    },
    /// Its number is not above those before it: it was moved or repeated, or belongs to another chain.
    OutOfOrder,
    /// It has another hash for the line before it, which was changed or replaced after this one was written.
    PreviousChanged,
}

/// Follows a chain.
#[derive(Debug, Clone, Copy)]
pub struct ChainWalker {
    /// The line before; `None` where the beginning is not known.
    head: Option<ChainHead>,
}

impl ChainWalker {
    /// Begins after this line; with `None`, at whichever line comes first.
    pub const fn after(head: Option<ChainHead>) -> Self {
        Self { head }
    }

    /// The last line, as it stands.
    pub const fn head(&self) -> Option<ChainHead> {
        self.head
    }

    /// Goes on to a line, without its line break. After one that does not fit the chain goes on from there.
    ///
    /// # Errors
    /// How it does not fit.
    pub fn step(&mut self, line: &[u8]) -> Result<ChainHead, Break> {
        let Some(Link { seq, prev }) = Link::of(line) else {
            // The next line shows whether a line was put in between, or this one took the place of another.
            return Err(Break::Unreadable);
        };
        let head = ChainHead { seq, hash: LineHash::of(line) };
        let Some(before) = self.head.replace(head) else { return Ok(head) };
        let expected = before.seq.saturating_add(1);
        if seq > expected {
            return Err(Break::Missing { from: expected, to: seq - 1 });
        }
        if seq < expected {
            return Err(Break::OutOfOrder);
        }
        if prev != before.hash {
            return Err(Break::PreviousChanged);
        }
        Ok(head)
    }
}

#[cfg(test)]
mod tests {
    use mcpctl_api::Id;
    use proptest::prelude::*;

    use super::*;
    use crate::{JournalEntry, Line};

    fn chain(lines: u64) -> (ChainHead, Vec<Vec<u8>>) {
        let begin = ChainHead::genesis(&Id::mint());
        let mut head = begin;
        let lines = (0..lines).map(|refusals| {
            let at = jiff::Timestamp::UNIX_EPOCH;
            let (line, next) = Line::after(head, &JournalEntry::Omitted { at, refusals }).unwrap();
            head = next;
            line
        });
        let lines = lines.collect();
        (begin, lines)
    }

    fn breaks(begin: ChainHead, lines: &[Vec<u8>]) -> Vec<(usize, Break)> {
        let mut walker = ChainWalker::after(Some(begin));
        let step = |(at, line): (usize, &Vec<u8>)| walker.step(line).err().map(|found| (at, found));
        lines.iter().enumerate().filter_map(step).collect()
    }

    #[test]
    fn each_way_to_change_a_chain_has_its_break() {
        let (begin, whole) = chain(6);
        assert_eq!(breaks(begin, &whole), []);
        let edited = |edit: &dyn Fn(&mut Vec<Vec<u8>>)| {
            let mut lines = whole.clone();
            edit(&mut lines);
            breaks(begin, &lines)
        };
        let removed = edited(&|lines| drop(lines.drain(1..3)));
        assert_eq!(removed, [(1, Break::Missing { from: 2, to: 3 })]);
        let first = edited(&|lines| drop(lines.remove(0)));
        assert_eq!(first, [(0, Break::Missing { from: 1, to: 1 })]);
        let changed = edited(&|lines| {
            let text = String::from_utf8(lines[2].clone()).unwrap();
            lines[2] = text.replace("\"refusals\":2", "\"refusals\":3").into_bytes();
        });
        assert_eq!(changed, [(3, Break::PreviousChanged)]);
        let moved = edited(&|lines| lines.swap(2, 3));
        assert_eq!(moved[..2], [(2, Break::Missing { from: 3, to: 3 }), (3, Break::OutOfOrder)]);
        let repeated = edited(&|lines| lines.insert(3, lines[2].clone()));
        assert_eq!(repeated, [(3, Break::OutOfOrder)]);
        let garbled = edited(&|lines| lines[3] = b"{}".to_vec());
        assert_eq!(garbled, [(3, Break::Unreadable), (4, Break::Missing { from: 4, to: 4 })]);
        let (_, other) = chain(1);
        let of_another_agent = edited(&|lines| lines[0] = other[0].clone());
        assert_eq!(of_another_agent, [(0, Break::PreviousChanged), (1, Break::PreviousChanged)]);
    }

    proptest! {
        #[test]
        fn no_edit_of_a_line_but_the_last_goes_unseen(at in 0_usize..5, byte in any::<prop::sample::Index>(), flip in 1_u8..) {
            let (begin, mut lines) = chain(6);
            let byte = byte.index(lines[at].len());
            lines[at][byte] ^= flip;
            prop_assert!(!breaks(begin, &lines).is_empty());
        }
    }
}
