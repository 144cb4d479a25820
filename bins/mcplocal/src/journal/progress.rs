//! What mcpd has of the journal, what waits for it, and why.

use jiff::Timestamp;
use mcpctl_api::{agent::JournalBacklog, visible::short};
use url::Url;

use super::{Journal, JournalEntry, JournalError, MAX_REASON, OpenJournal};

/// Maximum of bytes of the address of mcpd in the journal's head.
const MAX_SERVER_NAME: usize = 256;

impl Journal {
    /// Number of the last line that mcpd has.
    ///
    /// # Errors
    /// When the journal cannot be opened.
    pub fn handed_over(&self) -> Result<u64, JournalError> {
        Ok(self.opened(&mut self.state().open)?.chain.handed_over)
    }

    /// Keeps the number of the last line that mcpd has. Lines about another mcpd are not sent, also to one that has none.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn mark_handed_over(&self, line: u64) -> Result<(), JournalError> {
        let mut state = self.state();
        let OpenJournal { chain, .. } = self.opened(&mut state.open)?;
        chain.handed_over = line.max(chain.foreign);
        Ok(chain.keep(&self.paths, chain.durable)?)
    }

    /// Keeps why lines wait; `None` where none does.
    pub fn waits_for(&self, reason: Option<String>) {
        self.state().waits_for = reason.map(|reason| short(&reason, MAX_REASON));
    }

    /// The lines that mcpd does not have yet, for the status; `None` where it has all.
    pub fn backlog(&self) -> Option<JournalBacklog> {
        let mut state = self.state();
        let chain = &self.opened(&mut state.open).ok()?.chain;
        let lines = chain.head.seq.saturating_sub(chain.handed_over);
        (lines > 0).then(|| JournalBacklog { lines, reason: state.waits_for.clone() })
    }

    /// From now on lines are about this mcpd. Lines about another one, which did not get them, are recorded as lost: they are
    /// no matter of this one's.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn assign(&self, server: &Url) -> Result<(), JournalError> {
        let server = server_name(server);
        let mut state = self.state();
        let open = self.opened(&mut state.open)?;
        if open.chain.server.as_ref() == Some(&server) {
            return Ok(());
        }
        let before = open.chain.clone();
        if before.server.is_some() {
            let (from, to) = (before.handed_over.saturating_add(1), before.head.seq);
            (open.chain.handed_over, open.chain.foreign) = (to, to);
            if from <= to {
                let reason = "they are about another mcpd, which did not get them".to_owned();
                self.write(open, &JournalEntry::Lost { at: Timestamp::now(), from, to, reason })?;
            }
        }
        open.chain.server = Some(server);
        Ok(open.chain.keep(&self.paths, open.chain.durable)?)
    }
}

/// An mcpd as the head names it: two with the same beginning of a very long address are one.
fn server_name(server: &Url) -> String {
    short(server.as_str().trim_end_matches('/'), MAX_SERVER_NAME)
}
