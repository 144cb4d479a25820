//! What a program prints besides its log: on stdout what it was asked for, on stderr why it cannot do that. A reader that
//! has gone is no failure of ours, so a closed pipe ends a program quietly; `println!` would panic.

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

/// Prints lines for people on stderr. What cannot be written there cannot be reported anywhere.
pub fn note(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
