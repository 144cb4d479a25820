//! The system's limits of this process: open files, the size of a file, and core dumps.

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

/// Prevents core dumps of this process and of the processes that it starts: they would hold bearers, keys and prompts.
///
/// # Errors
/// When the limit cannot be set.
pub fn prevent_core_dumps() -> io::Result<()> {
    // Not 0, which Linux disregards where a program takes the dumps: 1 means "none" there too, and no file is that small.
    let (_, hard) = getrlimit(Resource::RLIMIT_CORE)?;
    let most = hard.min(1);
    Ok(setrlimit(Resource::RLIMIT_CORE, most, most)?)
}

/// Makes a write beyond the limit on file sizes fail. Without a handler for SIGXFSZ it would end the process.
///
/// # Errors
/// When the signal cannot be handled.
pub fn handle_size_limit() -> io::Result<()> {
    signal(SignalKind::from_raw(Signal::SIGXFSZ as i32)).map(drop)
}
