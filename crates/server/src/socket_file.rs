//! The file of a Unix socket: when an existing one may be replaced, and which users may connect.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::Path,
};

use mcpctl_owner::{dir, own_uid, user_name};
use tokio::net::UnixStream;

/// Removes a socket file that no program listens on any more, and no other file. Rejects a directory in which another
/// user could create files.
///
/// # Errors
/// When the file is no socket of this user's, or a program listens on it.
pub(crate) async fn remove_dead_socket(path: &Path) -> io::Result<()> {
    dir::check_parents(path).map_err(io::Error::other)?;
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "what is there is not a socket"));
    }
    if found.uid() != own_uid() {
        let message = format!("the socket there belongs to user {}", user_name(found.uid()));
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        // A full queue is also a sign of a program.
        Ok(_) | Err(_) => Err(io::ErrorKind::AddrInUse.into()),
    }
}

/// Whether the other end is a program of this user.
pub(crate) fn is_own_user(stream: &UnixStream) -> bool {
    match stream.peer_cred() {
        Ok(peer) if peer.uid() == own_uid() => true,
        Ok(peer) => {
            tracing::warn!(uid = peer.uid(), "rejected a connection of another user to the socket");
            false
        }
        Err(error) => {
            tracing::warn!(%error, "rejected a connection of an unknown user to the socket");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::{fs::symlink, net::UnixListener};

    use super::*;

    #[tokio::test]
    async fn only_dead_socket_of_this_user_is_removed() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("s");
        remove_dead_socket(&path).await.unwrap();

        fs::write(&path, "a file").unwrap();
        assert_eq!(remove_dead_socket(&path).await.unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"a file");
        fs::remove_file(&path).unwrap();

        let socket = home.path().join("real");
        drop(UnixListener::bind(&socket).unwrap());
        symlink(&socket, &path).unwrap();
        assert_eq!(remove_dead_socket(&path).await.unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        fs::remove_file(&path).unwrap();
        symlink(home.path().join("nowhere"), &path).unwrap();
        assert_eq!(remove_dead_socket(&path).await.unwrap_err().kind(), io::ErrorKind::AlreadyExists);

        remove_dead_socket(&socket).await.unwrap();
        assert!(!socket.exists());
        let live = UnixListener::bind(&socket).unwrap();
        assert_eq!(remove_dead_socket(&socket).await.unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert!(socket.exists());
        drop(live);
    }
}
