//! The file of a Unix socket: what may be removed to make way for it, and who may connect.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::Path,
};

use mcpctl_owner::{dir, own_uid, user_name};
use tokio::net::UnixStream;

/// Removes a socket file that no program answers at any more. Nothing else is removed, and no directory is used in which
/// another user could put something else there.
///
/// # Errors
/// When something else is there, or a program answers.
pub(crate) async fn make_way(path: &Path) -> io::Result<()> {
    dir::check_parents(path).map_err(io::Error::other)?;
    let there = match fs::symlink_metadata(path) {
        Ok(there) => there,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !there.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "what is there is not a socket"));
    }
    if there.uid() != own_uid() {
        let message = format!("the socket there belongs to user {}", user_name(there.uid()));
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        // A queue that is full is a program's too.
        Ok(_) | Err(_) => Err(io::ErrorKind::AddrInUse.into()),
    }
}

/// Whether the other end is a program of this user.
pub(crate) fn is_own_user(stream: &UnixStream) -> bool {
    match stream.peer_cred() {
        Ok(peer) if peer.uid() == own_uid() => true,
        Ok(peer) => {
            tracing::warn!(uid = peer.uid(), "another user connected to the socket, and was turned away");
            false
        }
        Err(error) => {
            tracing::warn!(%error, "whose program connected to the socket is unknown; it was turned away");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::{fs::symlink, net::UnixListener};

    use super::*;

    #[tokio::test]
    async fn only_a_dead_socket_of_this_user_is_removed() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("s");
        make_way(&path).await.unwrap();

        fs::write(&path, "a file").unwrap();
        assert_eq!(make_way(&path).await.unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"a file");
        fs::remove_file(&path).unwrap();

        let socket = home.path().join("real");
        drop(UnixListener::bind(&socket).unwrap());
        symlink(&socket, &path).unwrap();
        assert_eq!(make_way(&path).await.unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        fs::remove_file(&path).unwrap();
        symlink(home.path().join("nowhere"), &path).unwrap();
        assert_eq!(make_way(&path).await.unwrap_err().kind(), io::ErrorKind::AlreadyExists);

        make_way(&socket).await.unwrap();
        assert!(!socket.exists());
        let live = UnixListener::bind(&socket).unwrap();
        assert_eq!(make_way(&socket).await.unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert!(socket.exists());
        drop(live);
    }
}
