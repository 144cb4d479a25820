//! Content codings of request bodies (RFC 9110, 8.4.1). A body is decoded piece by piece into a sink, which bounds it.

use std::io::{self, Write};

use axum::http::{HeaderMap, header};
use flate2::write::{DeflateDecoder, GzDecoder, ZlibDecoder};
use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, get_error_name};

/// The accepted codings, for the `Accept-Encoding` of a 415 (RFC 7694). Brotli is not among them: no client is known to
/// send it, and its window takes 16 MiB.
pub(crate) const ACCEPTED: &str = "gzip, deflate, zstd";

/// The largest window of zstd: 8 MiB, the most that HTTP's coding may ask for (RFC 9659).
const ZSTD_WINDOW_LOG: u32 = 23;
/// The largest output of one step of zstd.
const MAX_OUTPUT_BYTES: usize = 32 * 1024;
/// Memory of an inflater with its window and buffer.
const INFLATER_BYTES: u64 = 96 * 1024;
/// Characters of a coding's name that an error repeats.
const MAX_NAME_CHARS: usize = 64;

/// A content coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Gzip,
    Deflate,
    Zstd,
}

impl Encoding {
    /// The coding of a body; `None` for `identity`.
    ///
    /// # Errors
    /// The names in the headers, if they are not accepted. More than one coding is not, because each could multiply the
    /// size of the other.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Option<Self>, String> {
        let mut found = None;
        let values = headers.get_all(header::CONTENT_ENCODING);
        let named = || {
            let all = values.iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
            all.collect::<Vec<_>>().join(", ").chars().take(MAX_NAME_CHARS).collect::<String>()
        };
        for value in &values {
            for coding in value.to_str().map_err(|_| named())?.split(',') {
                let coding = match coding.trim().to_ascii_lowercase().as_str() {
                    "" | "identity" => continue,
                    "gzip" | "x-gzip" => Self::Gzip,
                    "deflate" => Self::Deflate,
                    "zstd" => Self::Zstd,
                    _ => return Err(named()),
                };
                if found.replace(coding).is_some() {
                    return Err(named());
                }
            }
        }
        Ok(found)
    }

    /// The name in headers.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Zstd => "zstd",
        }
    }
}

/// Receives decoded bytes.
pub(crate) trait Sink: Write + Send {
    /// Accounts for the decoder's own memory in bytes.
    fn decoder_takes(&mut self, bytes: u64) -> io::Result<()>;
}

/// Decodes a body into its sink. Errors of the sink are returned unchanged.
pub(crate) trait Decode<S>: Send {
    /// Decodes the next piece.
    fn push(&mut self, piece: &[u8]) -> io::Result<()>;
    /// Returns the sink; an error if the body is incomplete.
    fn finish(self: Box<Self>) -> io::Result<S>;
}

/// The decoder of a body.
pub(crate) fn decoder<S: Sink + 'static>(
    encoding: Option<Encoding>,
    mut sink: S,
) -> io::Result<Box<dyn Decode<S>>> {
    Ok(match encoding {
        None => Box::new(Plain(sink)),
        Some(Encoding::Gzip) => {
            sink.decoder_takes(INFLATER_BYTES)?;
            Box::new(GzDecoder::new(sink))
        }
        Some(Encoding::Deflate) => {
            sink.decoder_takes(INFLATER_BYTES)?;
            Box::new(Deflate::Unknown(sink))
        }
        Some(Encoding::Zstd) => Box::new(Zstd::new(sink)?),
    })
}

struct Plain<S>(S);

impl<S: Sink> Decode<S> for Plain<S> {
    fn push(&mut self, piece: &[u8]) -> io::Result<()> {
        self.0.write_all(piece)
    }

    fn finish(self: Box<Self>) -> io::Result<S> {
        Ok(self.0)
    }
}

/// Decodes one member only: each costs far more than its bytes, and clients send one.
impl<S: Sink> Decode<S> for GzDecoder<S> {
    fn push(&mut self, piece: &[u8]) -> io::Result<()> {
        self.write_all(piece)
    }

    fn finish(self: Box<Self>) -> io::Result<S> {
        (*self).finish()
    }
}

/// The standard requires zlib's frame. Some clients leave it out, which the first byte shows.
enum Deflate<S: Write> {
    Unknown(S),
    Zlib(ZlibDecoder<S>),
    Raw(DeflateDecoder<S>),
    Failed,
}

impl<S: Sink> Decode<S> for Deflate<S> {
    fn push(&mut self, piece: &[u8]) -> io::Result<()> {
        let Some(first) = piece.first() else { return Ok(()) };
        *self = match std::mem::replace(self, Self::Failed) {
            // Compression method 8 (RFC 1950, 2.2); as raw data it would be a stored block with bits that must be zero.
            Self::Unknown(sink) if first & 0x0f == 8 => Self::Zlib(ZlibDecoder::new(sink)),
            Self::Unknown(sink) => Self::Raw(DeflateDecoder::new(sink)),
            known => known,
        };
        match self {
            Self::Zlib(decoder) => decoder.write_all(piece),
            Self::Raw(decoder) => decoder.write_all(piece),
            Self::Unknown(_) | Self::Failed => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    fn finish(self: Box<Self>) -> io::Result<S> {
        match *self {
            Self::Zlib(decoder) => decoder.finish(),
            Self::Raw(decoder) => decoder.finish(),
            Self::Unknown(_) | Self::Failed => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

struct Zstd<S> {
    context: DCtx<'static>,
    sink: S,
    output: Vec<u8>,
    /// Whether the last frame ended with the last piece.
    complete: bool,
}

impl<S: Sink> Zstd<S> {
    fn new(sink: S) -> io::Result<Self> {
        let mut context = DCtx::try_create().ok_or(io::ErrorKind::OutOfMemory)?;
        context.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG)).map_err(of_zstd)?;
        Ok(Self { context, sink, output: vec![0; MAX_OUTPUT_BYTES], complete: false })
    }
}

impl<S: Sink> Decode<S> for Zstd<S> {
    fn push(&mut self, piece: &[u8]) -> io::Result<()> {
        let mut input = InBuffer::around(piece);
        while input.pos() < piece.len() || !self.complete {
            let mut output = OutBuffer::around(&mut *self.output);
            let left = self.context.decompress_stream(&mut output, &mut input).map_err(of_zstd)?;
            self.complete = left == 0;
            let written = output.pos();
            // The window is as large as the head of the frame requires.
            self.sink
                .decoder_takes(u64::try_from(self.context.sizeof() + MAX_OUTPUT_BYTES).unwrap_or(u64::MAX))?;
            self.sink.write_all(self.output.get(..written).unwrap_or_default())?;
            if input.pos() == piece.len() && written < MAX_OUTPUT_BYTES {
                break;
            }
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> io::Result<S> {
        if self.complete { Ok(self.sink) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

fn of_zstd(code: usize) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, get_error_name(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&str]) -> Result<Option<Encoding>, String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::CONTENT_ENCODING, value.parse().unwrap());
        }
        Encoding::of(&headers)
    }

    #[test]
    fn only_a_single_known_coding_is_accepted() {
        for (values, expected) in [
            (&[][..], None),
            (&[""], None),
            (&["identity"], None),
            (&["gzip"], Some(Encoding::Gzip)),
            (&[" X-GZIP "], Some(Encoding::Gzip)),
            (&["identity, zstd"], Some(Encoding::Zstd)),
            (&["Deflate", "identity"], Some(Encoding::Deflate)),
        ] {
            assert_eq!(of(values), Ok(expected), "{values:?}");
        }
        for (values, named) in [
            (&["br"][..], "br"),
            (&["gzip, gzip"], "gzip, gzip"),
            (&["gzip", "zstd"], "gzip, zstd"),
            (&["aws-chunked"], "aws-chunked"),
            (&["g\u{e9}"], "g\u{e9}"),
        ] {
            assert_eq!(of(values), Err(named.to_owned()), "{values:?}");
        }
        assert_eq!(of(&["x".repeat(1000).as_str()]).unwrap_err().len(), MAX_NAME_CHARS);
    }
}
