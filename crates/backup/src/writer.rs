//! Writes a backup.

use std::io::{self, Write};

use mcpctl_secret::{
    envelope::{self, MasterKey},
    stream::{SealingWriter, StreamKey},
};
use mcpctl_store::transfer::{Batch, Tally};
use zeroize::Zeroizing;

use crate::{
    header::{FORMAT, Header, MAGIC, SealedHeader},
    line::LineRef,
};

/// Rows compress to about a tenth; higher levels take twice the time for a few percent.
const COMPRESSION_LEVEL: i32 = 3;

/// Writes rows into a backup. Without [`Writer::finish`] no reader takes it.
pub struct Writer<W: Write> {
    lines: zstd::Encoder<'static, SealingWriter<W>>,
}

impl<W: Write> Writer<W> {
    /// Writes the header. The backup is encrypted with a new key, which the master key seals.
    ///
    /// # Errors
    /// When it cannot be written, or there are no random bytes.
    pub fn begin(mut out: W, master_key: &MasterKey, header: Header) -> io::Result<Self> {
        let key = StreamKey::generate().map_err(io::Error::other)?;
        let first_line = format!("{MAGIC}{FORMAT}\n");
        let header = Zeroizing::new(serde_json::to_vec(&SealedHeader::new(header, &key))?);
        let sealed = envelope::seal(master_key, first_line.as_bytes(), &header).map_err(io::Error::other)?;
        let length = u32::try_from(sealed.as_bytes().len()).map_err(io::Error::other)?;
        out.write_all(first_line.as_bytes())?;
        out.write_all(&length.to_be_bytes())?;
        out.write_all(sealed.as_bytes())?;
        let lines = zstd::Encoder::new(SealingWriter::new(out, &key)?, COMPRESSION_LEVEL)?;
        Ok(Self { lines })
    }

    /// Writes rows.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write(&mut self, batch: &Batch) -> io::Result<()> {
        self.line(&LineRef::Rows(batch))
    }

    fn line(&mut self, line: &LineRef<'_>) -> io::Result<()> {
        serde_json::to_writer(&mut self.lines, line)?;
        self.lines.write_all(b"\n")
    }

    /// Writes the end, with what each table has, and returns what is below.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(mut self, tallies: &[Tally]) -> io::Result<W> {
        self.line(&LineRef::End(tallies))?;
        self.lines.finish()?.finish()
    }
}
