//! Reads what has a maximum size, whatever its file reports: a device has no size, and does not end.

use std::io::{Error, ErrorKind, Read, Result};

/// All bytes, where they are at most so many; `max` is whole MiB.
pub fn read(from: impl Read, max: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(max.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|read| read <= max) {
        return Ok(bytes);
    }
    Err(Error::new(ErrorKind::FileTooLarge, format!("it has more than {} MiB", max >> 20)))
}

/// Why a file cannot be read, in a few words.
pub fn reason(error: &Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "there is no such file".to_owned(),
        ErrorKind::FileTooLarge => error.to_string(),
        kind => kind.to_string(),
    }
}
