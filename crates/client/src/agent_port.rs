//! Detects that another user's program listens on the agent's TCP port. Clients other than our own send the local key there,
//! so the key is no longer secret: the program of ours that detects it leaves a note, and the agent makes a new key when it
//! starts next.

use std::{net::IpAddr, path::Path};

use mcpctl_owner::{
    PathError, TrustedUsers,
    connection::{Socket, listeners},
    dir, file,
};

const NOTE: &str = "port-was-foreign";

/// Sockets of users other than this one and root that listen on a port, at loopback or at every address. Empty where the
/// system does not list sockets.
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

/// Leaves a note that clients may have sent the local key to this user. No-op where there is no key.
///
/// # Errors
/// When it cannot be written.
pub fn note_foreign(state_dir: &Path, uid: u32) -> Result<(), PathError> {
    if dir::check_private(state_dir)?.is_some() && state_dir.join(crate::config::LOCAL_KEY_FILE).is_file() {
        file::replace(&state_dir.join(NOTE), uid.to_string().as_bytes())?;
    }
    Ok(())
}

/// The user of the note; `None` where there is no note, `Some(None)` where it cannot be read.
pub fn read_note(state_dir: &Path) -> Option<Option<u32>> {
    match file::read_own(&state_dir.join(NOTE), 32) {
        Ok(None) => None,
        Ok(Some(text)) => Some(std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok())),
        Err(_) => Some(None),
    }
}

/// Removes the note, after the key was replaced.
///
/// # Errors
/// When it is there and cannot be removed.
pub fn remove_note(state_dir: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(state_dir.join(NOTE)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
