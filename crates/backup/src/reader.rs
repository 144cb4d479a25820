//! Reads a backup, and checks all of it on the way.

use std::io::{self, BufRead, BufReader, Read};

use mcpctl_secret::{
    envelope::{self, Keyring, OpenError},
    stream::OpeningReader,
};
use mcpctl_store::transfer::{Batch, Tally};

use crate::{
    BackupError, Header,
    header::{FORMAT, MAGIC, MAX_HEADER_BYTES, SealedHeader},
    line::{Line, MAX_LINE_BYTES},
};

/// Maximum length of the first line.
const MAX_FIRST_LINE_BYTES: u64 = 32;

/// Reads the rows of a backup. What it returned counts once [`Reader::next_batch`] has returned `None`: only then the backup is whole.
pub struct Reader<R: Read> {
    header: Header,
    lines: BufReader<zstd::Decoder<'static, BufReader<OpeningReader<R>>>>,
    /// What was read of each table.
    tallies: Vec<Tally>,
    line: Vec<u8>,
}

impl<R: BufRead> Reader<R> {
    /// Reads and opens the header.
    ///
    /// # Errors
    /// When it is no backup, of a later format, made with another key, or damaged.
    pub fn open(mut from: R, keys: &Keyring) -> Result<Self, BackupError> {
        let first_line = first_line(&mut from)?;
        let mut length = [0; 4];
        from.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length);
        if length > MAX_HEADER_BYTES {
            return Err(BackupError::Damaged("its header is too long".to_owned()));
        }
        let mut sealed = Vec::new();
        from.by_ref().take(length.into()).read_to_end(&mut sealed)?;
        let opened = envelope::open(keys, &first_line, &sealed).map_err(|error| match error {
            OpenError::UnknownKey { id } => BackupError::WrongKey { id },
            OpenError::Tampered | OpenError::Malformed => {
                BackupError::Damaged("its header was changed or cut".to_owned())
            }
        })?;
        let sealed: SealedHeader = serde_json::from_slice(&opened)?;
        let stream = OpeningReader::new(from, &sealed.key()?)?;
        let tallies = vec![Tally::default(); sealed.header.layout.tables.len()];
        let lines = BufReader::new(zstd::Decoder::new(stream)?);
        Ok(Self { header: sealed.header.clone(), lines, tallies, line: Vec::new() })
    }

    /// What the backup is of.
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// What was read of each table, in the layout's order.
    pub fn tallies(&self) -> &[Tally] {
        &self.tallies
    }

    /// The next rows; `None` once everything was read and found whole.
    ///
    /// # Errors
    /// When the backup is damaged or cannot be read.
    pub fn next_batch(&mut self) -> Result<Option<Batch>, BackupError> {
        match self.next_line()? {
            Line::Rows(batch) => {
                let table = self.header.layout.tables.get(batch.table).filter(|table| batch.is_of(table));
                match table.and(self.tallies.get_mut(batch.table)) {
                    Some(tally) => tally.add(&batch),
                    None => return Err(BackupError::Damaged("rows of an unknown table".to_owned())),
                }
                Ok(Some(batch))
            }
            Line::End(tallies) if tallies == self.tallies => {
                // Reads the mark of the last chunk, which shows that the stream was not cut.
                match self.lines.read(&mut [0])? {
                    0 => Ok(None),
                    _ => Err(BackupError::Damaged("there is more after its end".to_owned())),
                }
            }
            Line::End(_) => Err(BackupError::Damaged("it has other rows than were written".to_owned())),
        }
    }

    fn next_line(&mut self) -> Result<Line, BackupError> {
        self.line.clear();
        let read = self.lines.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut self.line)?;
        if read == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        Ok(serde_json::from_slice(&self.line)?)
    }
}

/// Whether a file begins as a backup does, of whichever format.
///
/// # Errors
/// When it cannot be read.
pub fn is_backup(from: impl Read) -> io::Result<bool> {
    let mut head = Vec::new();
    from.take(MAGIC.len() as u64).read_to_end(&mut head)?;
    Ok(head == MAGIC.as_bytes())
}

/// Reads the first line, with its end, and checks it.
fn first_line(from: &mut impl BufRead) -> Result<Vec<u8>, BackupError> {
    let mut line = Vec::new();
    from.by_ref().take(MAX_FIRST_LINE_BYTES).read_until(b'\n', &mut line)?;
    let text = std::str::from_utf8(&line).ok().and_then(|line| line.strip_suffix('\n'));
    let found = text.and_then(|line| line.strip_prefix(MAGIC)).and_then(|format| format.parse().ok());
    match found {
        Some(FORMAT) => Ok(line),
        Some(found) if found > FORMAT => Err(BackupError::Newer { found, known: FORMAT }),
        _ => Err(BackupError::NotABackup),
    }
}
