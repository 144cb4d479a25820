//! The chain of the journal's lines, as the running agent continues it, and the head that it keeps beside the lines.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
};

use mcpctl_api::Id;
use mcpctl_journal::{
    ChainHead, HeadError, HeadRecord, JournalPaths, LineHash, Link, MAX_LINE_BYTES, StoredLines,
};

/// Bytes at the end of a file among which its last line is looked for.
const TAIL_BYTES: u64 = 4 * MAX_LINE_BYTES as u64;

/// The chain: where it is, what is kept of it, and what mcpd has of it.
#[derive(Debug, Clone)]
pub(super) struct Chain {
    agent: Id,
    /// The last line that was written.
    pub(super) head: ChainHead,
    /// The last line in the file of the head: it and those before are on the disk.
    pub(super) durable: ChainHead,
    /// Number of the oldest line that is kept.
    first: u64,
    /// Number of the oldest line in the current file; `None` while that is empty.
    current_first: Option<u64>,
    /// Number of the last line that mcpd has.
    pub(super) handed_over: u64,
    /// Number of the last line that is about another mcpd.
    pub(super) foreign: u64,
    /// The mcpd that has it.
    pub(super) server: Option<String>,
}

impl Chain {
    /// Finds the end of the chain in files without torn lines. Where the lines end before the head, or another line is there,
    /// the chain continues from the head, so that what is missing shows for as long as there is a journal.
    pub(super) fn load(paths: &JournalPaths, agent: &Id) -> io::Result<Self> {
        let record = HeadRecord::read(&paths.head).unwrap_or_else(|error| {
            let file = paths.head.display();
            tracing::error!(%error, %file, "the head of the journal cannot be read: lines missing at its end do not show");
            None
        });
        let stored = match last_line(&paths.current)? {
            Some(last) => Some(last),
            None => last_line(&paths.older)?,
        };
        let head = match (&record, stored) {
            (None, None) => ChainHead::genesis(agent),
            (None, Some(stored)) => stored,
            (Some(record), Some(stored)) if stored.seq > record.head.seq || stored == record.head => stored,
            (Some(record), stored) => {
                if stored != Some(record.head) && record.head.seq > 0 {
                    let (head, last) = (record.head.seq, stored.map_or(0, |stored| stored.seq));
                    tracing::error!(
                        head,
                        last,
                        hint = "mcpctl local journal verify",
                        "the end of the journal was removed or changed"
                    );
                }
                record.head
            }
        };
        let current_first = first_number(paths, false)?;
        let next = head.seq.saturating_add(1);
        let first = first_number(paths, true)?.or(current_first).unwrap_or(next);
        let kept = record.as_ref().map_or(first, |record| record.first.clamp(1, first));
        let (handed_over, foreign, server) = record.map_or((0, 0, None), |record| {
            (record.handed_over.min(head.seq), record.foreign.min(head.seq), record.server)
        });
        let durable = ChainHead { seq: 0, hash: LineHash::genesis(agent) };
        Ok(Self {
            agent: agent.clone(),
            head,
            durable,
            first: kept,
            current_first,
            handed_over,
            foreign,
            server,
        })
    }

    /// A line was written.
    pub(super) fn advance(&mut self, head: ChainHead) {
        self.head = head;
        self.current_first.get_or_insert(head.seq);
    }

    /// The current file becomes the older one. Returns which lines are dropped with the file that was the older one.
    pub(super) fn rotate(&mut self) -> Option<(u64, u64)> {
        let next = self.current_first.take().unwrap_or_else(|| self.head.seq.saturating_add(1));
        let dropped = (self.first < next).then(|| (self.first, next.saturating_sub(1)));
        self.first = next;
        dropped
    }

    /// Of dropped lines, those that mcpd does not have.
    pub(super) fn lost(&self, (from, to): (u64, u64)) -> Option<(u64, u64)> {
        let from = from.max(self.handed_over.saturating_add(1));
        (from <= to).then_some((from, to))
    }

    /// Writes the head, up to a line that is on the disk.
    pub(super) fn keep(&mut self, paths: &JournalPaths, durable: ChainHead) -> Result<(), HeadError> {
        if durable.seq >= self.durable.seq {
            self.durable = durable;
        }
        let Self { agent, durable: head, first, handed_over, foreign, server, .. } = self.clone();
        HeadRecord { agent, head, first, handed_over, foreign, server }.write(&paths.head)
    }
}

/// Number of the first line of a file, if it begins with one.
fn first_number(paths: &JournalPaths, older: bool) -> io::Result<Option<u64>> {
    let mut lines = StoredLines::open(paths, None)?;
    while let Some(line) = lines.next_line()? {
        if line.older == older {
            return Ok(Link::of(&line.bytes).map(|link| link.seq));
        }
    }
    Ok(None)
}

/// The last line of a file that has a place in a chain, near the file's end.
fn last_line(path: &Path) -> io::Result<Option<ChainHead>> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut tail = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut tail)?;
    let linked = |line: &[u8]| Some(ChainHead { seq: Link::of(line)?.seq, hash: LineHash::of(line) });
    Ok(tail.split(|byte| *byte == b'\n').rev().find_map(linked))
}
