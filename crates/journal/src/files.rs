//! Reads the files of a journal, the older one first, line by line and within bounds.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use crate::MAX_LINE_BYTES;

/// How often the files are opened anew where the journal is rotated meanwhile.
const OPEN_ATTEMPTS: usize = 8;

/// Where the files of a journal are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalPaths {
    /// The lines since the last rotation.
    pub current: PathBuf,
    /// The lines before it.
    pub older: PathBuf,
    /// The head.
    pub head: PathBuf,
}

impl JournalPaths {
    /// Those of a state directory.
    pub fn of(state_dir: &Path) -> Self {
        Self {
            current: state_dir.join("journal.jsonl"),
            older: state_dir.join("journal.jsonl.1"),
            head: state_dir.join("journal.head"),
        }
    }
}

/// A line as a file has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredLine {
    /// Its bytes without the line break; of an overlong line the beginning.
    pub bytes: Vec<u8>,
    /// Whether it is in the older file.
    pub older: bool,
    /// Its number in that file, from 1 on; of a reader that began at a position, from there on.
    pub number: u64,
}

/// The file and the place in it that a reader has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    file: (u64, u64),
    offset: u64,
}

struct Reader {
    file: BufReader<File>,
    identity: (u64, u64),
    older: bool,
    offset: u64,
    number: u64,
}

/// The lines of both files. It ends before a last line without a line break, which is torn or still being written.
pub struct StoredLines {
    /// The files that are left to read, in reverse.
    readers: Vec<Reader>,
    position: Option<Position>,
    torn: bool,
}

impl StoredLines {
    /// Reads from this position on; from the beginning where there is none, or its file is gone.
    ///
    /// # Errors
    /// When a file cannot be opened.
    pub fn open(paths: &JournalPaths, from: Option<Position>) -> io::Result<Self> {
        let mut readers = Self::both(paths)?;
        if let Some(from) = from
            && let Some(at) = readers.iter().position(|reader| reader.identity == from.file)
        {
            // Those after it in the list were read before it.
            readers.truncate(at + 1);
            if let Some(reader) = readers.last_mut() {
                reader.file.seek(SeekFrom::Start(from.offset))?;
                reader.offset = from.offset;
            }
            return Ok(Self { readers, position: Some(from), torn: false });
        }
        Ok(Self { readers, position: None, torn: false })
    }

    /// The current file and then the older one. A rotation in between would hide a file.
    fn both(paths: &JournalPaths) -> io::Result<Vec<Reader>> {
        for _ in 0..OPEN_ATTEMPTS {
            let (current, older) = (reader(&paths.current, false)?, reader(&paths.older, true)?);
            let opened = current.as_ref().map(|reader| reader.identity);
            let there = fs::symlink_metadata(&paths.current).ok().map(|there| (there.dev(), there.ino()));
            if there == opened {
                let older = older.filter(|older| Some(older.identity) != opened);
                return Ok(current.into_iter().chain(older).collect());
            }
        }
        Err(io::Error::other("the journal is rotated again and again"))
    }

    /// The place after the last line that was read.
    pub const fn position(&self) -> Option<Position> {
        self.position
    }

    /// Whether the journal ends in a line without a line break. Known once every line was read.
    pub const fn is_torn(&self) -> bool {
        self.torn
    }

    /// The next line.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn next_line(&mut self) -> io::Result<Option<StoredLine>> {
        loop {
            let last = self.readers.len() == 1;
            let Some(reader) = self.readers.last_mut() else { return Ok(None) };
            match reader.next_line()? {
                ReadLine::Whole(bytes) => {
                    self.position = Some(Position { file: reader.identity, offset: reader.offset });
                    return Ok(Some(StoredLine { bytes, older: reader.older, number: reader.number }));
                }
                ReadLine::Torn => {
                    self.torn |= last;
                    self.readers.pop();
                }
                ReadLine::End => drop(self.readers.pop()),
            }
        }
    }
}

enum ReadLine {
    Whole(Vec<u8>),
    Torn,
    End,
}

impl Reader {
    fn next_line(&mut self) -> io::Result<ReadLine> {
        let mut bytes = Vec::new();
        let most = u64::try_from(MAX_LINE_BYTES).unwrap_or(u64::MAX).saturating_add(1);
        let mut read = self.file.by_ref().take(most).read_until(b'\n', &mut bytes)?;
        if read == 0 {
            return Ok(ReadLine::End);
        }
        if bytes.pop_if(|last| *last == b'\n').is_none() {
            // Not longer than what is there, or overlong: then its rest is skipped in bounded pieces.
            loop {
                let buffered = self.file.fill_buf()?;
                if buffered.is_empty() {
                    return Ok(ReadLine::Torn);
                }
                let end = buffered.iter().position(|byte| *byte == b'\n');
                let skipped = end.map_or(buffered.len(), |at| at + 1);
                self.file.consume(skipped);
                read += skipped;
                if end.is_some() {
                    break;
                }
            }
        }
        self.offset = self.offset.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
        self.number += 1;
        Ok(ReadLine::Whole(bytes))
    }
}

fn reader(path: &Path, older: bool) -> io::Result<Option<Reader>> {
    // A file of the state directory, which is this user's alone; what is no file is not read.
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
        Ok(there) if !there.is_file() => return Err(io::Error::other("it is not a regular file")),
        Ok(_) => {}
    }
    let file = match OpenOptions::new().read(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let metadata = file.metadata()?;
    let identity = (metadata.dev(), metadata.ino());
    Ok(Some(Reader { file: BufReader::new(file), identity, older, offset: 0, number: 0 }))
}
