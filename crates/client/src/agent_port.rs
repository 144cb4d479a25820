//! The agent's TCP port in another user's hands. Other clients than our own send the local key there, so that key is not
//! secret any more: the program of ours that sees it leaves a note, and the agent makes a new key when it starts next.

use std::{net::IpAddr, path::Path};

use mcpctl_owner::{
    PathError, TrustedUsers,
    connection::{Socket, listeners},
    dir, file,
};

const NOTE: &str = "port-was-foreign";

/// What other users than this one and root have listening on a port at loopback or at every address; nothing where the
/// system does not tell.
pub fn foreign_holders(port: u16) -> Vec<Socket> {
    let mut sockets = listeners(port).unwrap_or_default();
    sockets.retain(|socket| {
        let at = socket.local.ip();
        (at.is_loopback() || is_every_address(at)) && !TrustedUsers::default().contains(socket.uid)
    });
    sockets
}

fn is_every_address(ip: IpAddr) -> bool {
    ip.is_unspecified()
}

/// Leaves a note that clients may have given the local key to this user. Without a key there was nothing to give.
///
/// # Errors
/// When it cannot be written.
pub fn note_foreign(state_dir: &Path, uid: u32) -> Result<(), PathError> {
    if dir::check_private(state_dir)?.is_some() && state_dir.join(crate::config::LOCAL_KEY_FILE).is_file() {
        file::replace(&state_dir.join(NOTE), uid.to_string().as_bytes())?;
    }
    Ok(())
}

/// The user of the note, where there is one. A note that cannot be read is one too.
pub fn read_note(state_dir: &Path) -> Option<Option<u32>> {
    match file::read_own(&state_dir.join(NOTE), 32) {
        Ok(None) => None,
        Ok(Some(text)) => Some(std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok())),
        Err(_) => Some(None),
    }
}

/// Removes the note, once the key is another.
///
/// # Errors
/// When it is there and cannot be removed.
pub fn remove_note(state_dir: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(state_dir.join(NOTE)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
