//! Encryption of a stream that does not fit into memory, such as a backup: chunks in the STREAM construction (Hoang, Reyhanitabar,
//! Rogaway and Vizár, <https://eprint.iacr.org/2015/189>) with XChaCha20-Poly1305. A chunk that was changed, moved or removed does
//! not open, and neither does a stream that was cut, because its last chunk is marked. The key is for one stream and kept elsewhere.

use std::{
    fmt,
    io::{self, Read, Write},
};

use aead_stream::{DecryptorBE32, EncryptorBE32};
use chacha20poly1305::XChaCha20Poly1305;
use zeroize::Zeroizing;

use crate::random::{self, RandomError};

/// Plain bytes of each chunk but the last, which may have fewer.
const CHUNK_BYTES: usize = 64 << 10;
const TAG_BYTES: usize = 16;
const KEY_BYTES: usize = 32;
/// The nonce of XChaCha20 without the counter and the mark of the last chunk.
const NONCE_BYTES: usize = 24 - 5;

/// The key of one stream, with its nonce; wiped from memory when dropped, and redacted in `Debug`.
pub struct StreamKey(Zeroizing<[u8; KEY_BYTES + NONCE_BYTES]>);

impl StreamKey {
    /// Length of [`StreamKey::expose`].
    pub const BYTES: usize = KEY_BYTES + NONCE_BYTES;

    /// Makes a new key from the operating system's generator.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    pub fn generate() -> Result<Self, RandomError> {
        let mut bytes = Zeroizing::new([0; Self::BYTES]);
        random::OS(bytes.as_mut_slice())?;
        Ok(Self(bytes))
    }

    /// Reads what [`StreamKey::expose`] returned; `None` of another length.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(|bytes| Self(Zeroizing::new(bytes)))
    }

    /// The bytes, to be sealed.
    pub fn expose(&self) -> &[u8] {
        self.0.as_slice()
    }

    fn parts(&self) -> Option<(&[u8; KEY_BYTES], &[u8; NONCE_BYTES])> {
        let (key, rest) = self.0.split_first_chunk()?;
        Some((key, rest.first_chunk()?))
    }
}

impl fmt::Debug for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StreamKey([redacted])")
    }
}

/// A chunk does not open: the stream was changed or cut, or it has another key. The source of the [`io::Error`] of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the encrypted stream was changed or cut")]
pub struct Tampered;

fn tampered() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, Tampered)
}

/// Encrypts what is written. [`SealingWriter::finish`] marks the end; without it the stream does not open.
pub struct SealingWriter<W> {
    inner: W,
    encryptor: EncryptorBE32<XChaCha20Poly1305>,
    chunk: Zeroizing<Vec<u8>>,
}

impl<W: Write> SealingWriter<W> {
    /// Begins a stream. A key may begin one only.
    ///
    /// # Errors
    /// Never with a key that this module made.
    pub fn new(inner: W, key: &StreamKey) -> io::Result<Self> {
        let (key, nonce) = key.parts().ok_or_else(tampered)?;
        let encryptor = EncryptorBE32::new(key.into(), nonce.into());
        Ok(Self { inner, encryptor, chunk: Zeroizing::new(Vec::with_capacity(CHUNK_BYTES + TAG_BYTES)) })
    }

    /// Writes the last chunk and returns what is below.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(self) -> io::Result<W> {
        let Self { mut inner, encryptor, chunk } = self;
        let sealed = encryptor.encrypt_last(chunk.as_slice()).map_err(|_| too_long())?;
        inner.write_all(&sealed)?;
        inner.flush()?;
        Ok(inner)
    }
}

fn too_long() -> io::Error {
    io::Error::other("the stream is too long to be encrypted")
}

impl<W: Write> Write for SealingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A full chunk is written once more follows: the last one is not known before.
        if self.chunk.len() == CHUNK_BYTES {
            let sealed = self.encryptor.encrypt_next(self.chunk.as_slice()).map_err(|_| too_long())?;
            self.inner.write_all(&sealed)?;
            self.chunk.clear();
        }
        let room = bytes.len().min(CHUNK_BYTES - self.chunk.len());
        self.chunk.extend_from_slice(bytes.get(..room).unwrap_or_default());
        Ok(room)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Decrypts what [`SealingWriter`] wrote. No byte of a chunk is returned before the chunk is known to be authentic; that the stream is
/// whole is known at its end.
pub struct OpeningReader<R> {
    inner: R,
    /// `None` after the last chunk.
    decryptor: Option<DecryptorBE32<XChaCha20Poly1305>>,
    /// The chunk that was read ahead, because the last one is marked.
    ahead: Vec<u8>,
    chunk: Zeroizing<Vec<u8>>,
    at: usize,
    /// Every later read fails too.
    failed: bool,
}

impl<R: Read> OpeningReader<R> {
    /// Begins to read a stream.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn new(mut inner: R, key: &StreamKey) -> io::Result<Self> {
        let (key, nonce) = key.parts().ok_or_else(tampered)?;
        let decryptor = Some(DecryptorBE32::new(key.into(), nonce.into()));
        let ahead = read_chunk(&mut inner)?;
        Ok(Self { inner, decryptor, ahead, chunk: Zeroizing::default(), at: 0, failed: false })
    }

    fn next_chunk(&mut self) -> io::Result<()> {
        if self.failed {
            return Err(tampered());
        }
        let Some(mut decryptor) = self.decryptor.take() else { return Ok(()) };
        let following = read_chunk(&mut self.inner)?;
        let sealed = std::mem::replace(&mut self.ahead, following);
        let opened = if self.ahead.is_empty() {
            decryptor.decrypt_last(sealed.as_slice())
        } else {
            let opened = decryptor.decrypt_next(sealed.as_slice());
            self.decryptor = Some(decryptor);
            opened
        };
        self.failed = opened.is_err();
        self.chunk = Zeroizing::new(opened.map_err(|_| tampered())?);
        self.at = 0;
        Ok(())
    }
}

fn read_chunk(inner: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut chunk = Vec::with_capacity(CHUNK_BYTES + TAG_BYTES);
    inner.take((CHUNK_BYTES + TAG_BYTES) as u64).read_to_end(&mut chunk)?;
    Ok(chunk)
}

impl<R: Read> Read for OpeningReader<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.at == self.chunk.len() {
            self.next_chunk()?;
        }
        let rest = self.chunk.get(self.at..).unwrap_or_default();
        let length = rest.len().min(into.len());
        for (to, from) in into.iter_mut().zip(rest) {
            *to = *from;
        }
        self.at += length;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEALED_CHUNK: usize = CHUNK_BYTES + TAG_BYTES;

    fn sealed(key: &StreamKey, plain: &[u8]) -> Vec<u8> {
        let mut writer = SealingWriter::new(Vec::new(), key).unwrap();
        writer.write_all(plain).unwrap();
        writer.finish().unwrap()
    }

    fn opened(key: &StreamKey, sealed: &[u8]) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        OpeningReader::new(sealed, key)?.read_to_end(&mut plain)?;
        Ok(plain)
    }

    fn bytes(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at % 251) as u8).collect()
    }

    #[test]
    fn streams_of_every_length_around_a_chunk_come_back() {
        let key = StreamKey::generate().unwrap();
        let key = StreamKey::from_bytes(key.expose()).unwrap();
        for length in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES, 200_000] {
            let plain = bytes(length);
            let sealed = sealed(&key, &plain);
            assert!(opened(&key, &sealed).unwrap() == plain, "{length}");
        }
    }

    #[test]
    fn changed_cut_moved_and_continued_streams_are_rejected() {
        let key = StreamKey::generate().unwrap();
        let good = sealed(&key, &bytes(3 * CHUNK_BYTES));
        let mut flipped = good.clone();
        flipped[SEALED_CHUNK + 7] ^= 1;
        let mut swapped = good.clone();
        swapped[..2 * SEALED_CHUNK].rotate_left(SEALED_CHUNK);
        let without_first = good[SEALED_CHUNK..].to_vec();
        let continued = [good.as_slice(), b"x"].concat();
        let twice = [good.as_slice(), good.as_slice()].concat();
        let mut wrong = vec![flipped, swapped, without_first, continued, twice];
        wrong.extend([0, 1, SEALED_CHUNK, 2 * SEALED_CHUNK, good.len() - 1].map(|end| good[..end].to_vec()));
        for (case, stream) in wrong.iter().enumerate() {
            let error = opened(&key, stream).unwrap_err();
            assert!(error.get_ref().unwrap().is::<Tampered>(), "{case}: {error}");
        }
        let other = StreamKey::generate().unwrap();
        assert!(opened(&other, &good).is_err());
    }
}
