//! `mcpd rotate-master-key`: seals everything anew with a new master key, in one transaction. The new key is in a file beside the old one
//! before, and takes its place after. When it is interrupted, the next start of mcpd or of this command finds which of both opens the store.

use mcpctl_secret::master_key_file::{self, MasterKeyFileError};
use mcpctl_store::transfer::Reservation;
use mcpctl_telemetry::output;

use super::transfer_error;
use crate::{config::ServeArgs, open_started, print, with_hint};

/// Runs the command.
///
/// # Errors
/// When an mcpd uses the store, a key file cannot be read or written, or something does not open with the present key.
pub async fn run(args: ServeArgs) -> anyhow::Result<()> {
    let config = args.resolve()?;
    let alone = Reservation::take(&config.database).await.map_err(transfer_error)?;
    let file = &config.master_key_file;
    let key_error = |error: MasterKeyFileError| with_hint(error.to_string(), error.hint());
    let was_begun = master_key_file::load_next(file).map_err(key_error)?.is_some();
    // Completes a rotation that was interrupted after its commit.
    let store = open_started(&config, Some(&alone)).await?;
    if was_begun && master_key_file::load_next(file).map_err(key_error)?.is_none() {
        let key = store.master_key();
        return print(&format!(
            "completed: the store was sealed with master key {key} already, which is now in {}",
            file.display()
        ));
    }
    let next = master_key_file::stage_next(file).map_err(key_error)?;
    let (old, new) = (store.master_key(), next.id());
    let rotated = store.rotate_master_key(next).await;
    let rotated = rotated.map_err(|error| {
        with_hint(
            format!("the master key was not rotated: {error}"),
            Some("the present key stays in use; `mcpd fsck` shows what does not open with it"),
        )
    })?;
    let kept = master_key_file::promote_next(file, old).map_err(key_error)?;
    store.close().await;
    print(&format!("rotated: {rotated} are sealed with master key {new}, which is in {}", file.display()))?;
    output::note(format_args!(
        "hint: keep a copy of the new key where the backups are not{}; the old one is in {}: it opens backups that were made \
         before, so move it to where their key is kept",
        if config.shared { ", and give it to every other mcpd on this database" } else { "" },
        kept.display()
    ));
    Ok(())
}
