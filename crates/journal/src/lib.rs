//! The agent's journal as it is stored and handed over: its entries, the hash chain of its lines, and the check of both. The
//! agent writes it, mcpctl reads it, mcpd checks what it receives.
//!
//! A line is one JSON object. `seq` numbers the lines without gaps from 1 on, `prev` is the SHA-256 of the exact bytes of the
//! line before (without its line break), of line 1 the [`genesis`](LineHash::genesis) of the agent. So a line that was removed,
//! changed or moved shows in the next one, and the end of the chain shows in the [head](HeadRecord). It does not keep the owner
//! of the machine from writing a new chain; what mcpd already has does.

mod chain;
mod entry;
mod files;
mod head;
mod line;
mod report;
mod shown;

pub use chain::{Break, ChainWalker};
pub use entry::{CallerKind, JournalEntry, MAX_REASON, Served, TokenCount, bearer_name, short_name};
pub use files::{JournalPaths, Position, StoredLine, StoredLines};
pub use head::{HEAD_BYTES, HeadError, HeadRecord};
pub use line::{ChainHead, Line, LineHash, Link, MAX_LINE_BYTES};
pub use report::{ChainProblem, JournalReport, verify};
