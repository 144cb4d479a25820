//! A program's output besides its log: data on stdout, notes for people on stderr. A closed pipe is no error, because
//! its reader had enough; `println!` would panic.

use std::{
    fmt::Display,
    io::{self, ErrorKind, Write as _},
};

/// Prints lines of data on stdout.
///
/// # Errors
/// When they cannot be written, e.g. to a full disk.
pub fn data(text: impl Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Prints lines for people on stderr. An error is ignored, because there is no other place to report it.
pub fn note(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
