//! Where an engine listens: on a Unix socket in a directory that only this user can enter, where the server can do that,
//! else on a loopback port.
//!
//! Every program of the machine and every web page can reach a port, and llama-server lists its models even to requests
//! without the key.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    net::TcpListener,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use mcpctl_supervisor::random;
use nix::unistd::geteuid;

use crate::ServerKind;

/// A socket's path must be shorter than 104 bytes (macOS; 108 on Linux).
const MAX_PATH_BYTES: usize = 100;
/// Below the state directory.
const DIRECTORY: &str = "run";
/// llama-server recognizes a socket by this ending of its `--host`.
const SUFFIX: &str = "sock";

/// Where one start of an engine listens.
#[derive(Debug, Clone)]
pub(crate) enum Listen {
    /// A port of 127.0.0.1.
    Port(u16),
    /// A Unix socket.
    Socket(EngineSocket),
}

/// A Unix socket of an engine; its file is removed with the last clone.
#[derive(Debug, Clone)]
pub struct EngineSocket(Arc<SocketFile>);

#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// The directory, where one was created for this socket alone.
    directory: Option<PathBuf>,
}

impl EngineSocket {
    /// The socket's file.
    pub fn path(&self) -> &Path {
        &self.0.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
        if let Some(directory) = &self.directory {
            let _ = fs::remove_dir(directory);
        }
    }
}

impl Listen {
    /// Chooses a socket or port that nothing listens on.
    ///
    /// # Errors
    /// When no directory can be created for the socket, or no port is free.
    pub(crate) fn choose(server: ServerKind, state_dir: &Path) -> io::Result<Self> {
        if server.server().listens_on_socket() {
            return socket(state_dir).map(Self::Socket);
        }
        Ok(Self::Port(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port()))
    }

    /// OpenAI's base address.
    pub(crate) fn base_url(&self) -> String {
        match self {
            Self::Port(port) => format!("http://127.0.0.1:{port}/v1"),
            // The host is not looked up: the client connects to the socket.
            Self::Socket(_) => "http://localhost/v1".to_owned(),
        }
    }

    /// A client for this engine alone. It uses no proxy, because prompts must not leave the machine, and follows no
    /// redirect, which would carry the key elsewhere. Each request has a connection of its own, so that none is sent on
    /// one that the engine has just closed.
    pub(crate) fn client(&self) -> reqwest::Result<reqwest::Client> {
        let mut builder = reqwest::Client::builder();
        // The shared configuration, because the builder's own reads certificates, which no engine's client needs.
        if let Ok(tls) = mcpctl_tls::client_config() {
            builder = builder.tls_backend_preconfigured((*tls).clone());
        }
        let builder =
            builder.no_proxy().redirect(reqwest::redirect::Policy::none()).pool_max_idle_per_host(0);
        match self {
            Self::Port(_) => builder.build(),
            Self::Socket(socket) => builder.unix_socket(socket.path()).build(),
        }
    }

    pub(crate) fn port(&self) -> Option<u16> {
        match self {
            Self::Port(port) => Some(*port),
            Self::Socket(_) => None,
        }
    }

    pub(crate) fn socket(&self) -> Option<&EngineSocket> {
        match self {
            Self::Port(_) => None,
            Self::Socket(socket) => Some(socket),
        }
    }
}

fn socket(state_dir: &Path) -> io::Result<EngineSocket> {
    let name = random::hex().map_err(io::Error::other)?;
    let name = name.get(..16).unwrap_or(&name);
    let directory = state_dir.join(DIRECTORY);
    let path = directory.join(name).with_extension(SUFFIX);
    if path.as_os_str().len() <= MAX_PATH_BYTES {
        make_private(&directory)?;
        return Ok(EngineSocket(Arc::new(SocketFile { path, directory: None })));
    }
    // The path of the state directory is too long: a new directory instead, whose name no other user can have guessed.
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_absolute());
    let directory = runtime.unwrap_or_else(std::env::temp_dir).join(format!("mcpctl-{name}"));
    let path = directory.join(format!("e.{SUFFIX}"));
    if path.as_os_str().len() > MAX_PATH_BYTES {
        let message = format!("`{}` is too long for a socket; set XDG_RUNTIME_DIR or TMPDIR", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    DirBuilder::new().mode(0o700).create(&directory)?;
    Ok(EngineSocket(Arc::new(SocketFile { path, directory: Some(directory) })))
}

/// Creates a directory that only this user can enter, or makes an existing one private.
fn make_private(directory: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = fs::symlink_metadata(directory)?;
    if !found.is_dir() || found.uid() != geteuid().as_raw() {
        let message = format!("`{}` is not a directory of this user's", directory.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
    }
    if found.mode() & 0o077 != 0 {
        fs::set_permissions(directory, Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// Removes the sockets that a killed agent left. Call it when its engines have ended.
pub(crate) fn remove_leftover_sockets(state_dir: &Path) {
    let files = fs::read_dir(state_dir.join(DIRECTORY)).into_iter().flatten().flatten();
    for path in files.map(|file| file.path()).filter(|path| path.extension().is_some_and(|e| e == SUFFIX)) {
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn socket_is_in_a_private_directory_of_its_user() {
        let state = tempfile::tempdir().unwrap();
        let directory = state.path().join(DIRECTORY);
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, Permissions::from_mode(0o777)).unwrap();
        let listen = Listen::choose(ServerKind::LLAMA_SERVER, state.path()).unwrap();
        assert_eq!(mode(&directory), 0o700);
        let path = listen.socket().unwrap().path().to_owned();
        let other = Listen::choose(ServerKind::LLAMA_SERVER, state.path()).unwrap();
        assert_ne!(other.socket().unwrap().path(), path);
        let _server = UnixListener::bind(&path).unwrap();
        drop(listen);
        assert!(!path.exists(), "it is removed with the engine");

        fs::remove_dir_all(&directory).unwrap();
        std::os::unix::fs::symlink(state.path(), &directory).unwrap();
        assert!(Listen::choose(ServerKind::LLAMA_SERVER, state.path()).is_err(), "no link is followed");
    }

    #[test]
    fn long_state_directory_has_sockets_elsewhere() {
        let state = tempfile::tempdir().unwrap();
        let deep = state.path().join("x".repeat(MAX_PATH_BYTES));
        fs::create_dir(&deep).unwrap();
        let listen = Listen::choose(ServerKind::LLAMA_SERVER, &deep).unwrap();
        let path = listen.socket().unwrap().path().to_owned();
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        let _server = UnixListener::bind(&path).unwrap();
        drop(listen);
        assert!(!path.parent().unwrap().exists());
    }

    #[test]
    fn sockets_of_a_killed_agent_are_removed() {
        let state = tempfile::tempdir().unwrap();
        let listen = Listen::choose(ServerKind::LLAMA_SERVER, state.path()).unwrap();
        let path = listen.socket().unwrap().path().to_owned();
        drop(UnixListener::bind(&path).unwrap());
        remove_leftover_sockets(state.path());
        assert!(!path.exists());
    }
}
