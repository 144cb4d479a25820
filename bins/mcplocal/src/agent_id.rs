//! The agent's id: made once per state directory, sent with each probe and with the journal's entries. It names this
//! installation and authorizes nothing.

use std::path::Path;

use anyhow::Context as _;
use mcpctl_api::{HintedError, Id};
use mcpctl_owner::file;

/// Its file in the state directory.
const FILE: &str = "agent-id";
/// Maximum size of the file, bytes: it has one line.
const MAX_BYTES: u64 = 1024;

/// The id of this state directory's agent; makes one where there is none.
///
/// # Errors
/// When the file cannot be read, written or understood. An unreadable id is not replaced: the journal continues under it.
pub fn load(state_dir: &Path) -> anyhow::Result<Id> {
    let path = state_dir.join(FILE);
    match file::read_own(&path, MAX_BYTES).map_err(|error| crate::with_hint(&error, error.hint()))? {
        Some(text) => {
            let text = String::from_utf8_lossy(&text);
            text.trim().parse().map_err(|error| {
                let hint = "restore it, or remove it together with `journal.jsonl`, `journal.jsonl.1` and `journal.head`";
                HintedError::with(format_args!("`{}`: {error}", path.display()), hint).into()
            })
        }
        None => {
            let id = Id::mint();
            file::replace(&path, format!("{id}\n").as_bytes())
                .with_context(|| format!("`{}` cannot be written", path.display()))?;
            Ok(id)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_is_made_once_and_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let id = load(dir.path()).unwrap();
        assert_eq!(load(dir.path()).unwrap(), id);
        file::replace(&dir.path().join(FILE), b"x").unwrap();
        assert!(load(dir.path()).unwrap_err().to_string().contains("is not an id"));
    }
}
