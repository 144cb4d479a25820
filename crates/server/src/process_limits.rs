//! The system's limits of this process: open files, and the size of a file.

use std::io;

use nix::sys::{
    resource::{Resource, getrlimit, setrlimit},
    signal::Signal,
};
use tokio::signal::unix::{SignalKind, signal};

/// Raises the soft limit of open files to the hard one, and returns it. Shells and service managers set a soft limit of
/// 1,024 for the sake of programs that call `select`.
///
/// # Errors
/// When the limit can be neither read nor set.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

/// Makes a write beyond the limit on file sizes fail. Without a handler for SIGXFSZ it would end the process.
///
/// # Errors
/// When the signal cannot be handled.
pub fn handle_size_limit() -> io::Result<()> {
    signal(SignalKind::from_raw(Signal::SIGXFSZ as i32)).map(drop)
}
