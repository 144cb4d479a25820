//! Request bodies: read whole and decoded by a layer, after the caller is known, within bounds of size, time, rate and
//! memory.

use std::{
    collections::HashMap,
    io::{self, Write},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    body::{Body, HttpBody as _},
    extract::Request,
    http::header,
};
use bytes::{Bytes, BytesMut};
use bytesize::ByteSize;
use futures::StreamExt as _;
use tokio::time::Instant;

use crate::{
    Limits,
    encoding::{ACCEPTED, Encoding, Sink, decoder},
    progress::{LeastRate, Progress},
};

/// First allocation for a body whose length is not declared.
const MIN_ALLOCATION_BYTES: u64 = 16 * 1024;
/// A body of declared length is allocated as a whole once this part of it has arrived: an eighth.
const FIRST_PART: u64 = 8;
/// The body of a caller without a credential, which is a login, must arrive within this time.
const STRANGER_BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes that are decoded before other tasks get their turn.
const DECODE_STEP_BYTES: usize = 4 * 1024;
/// When to retry if the memory for bodies is used up.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Why a body was not read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// Longer than the route allows.
    #[error("the body is longer than {}", max.display().iec())]
    TooLarge {
        /// The route's limit.
        max: ByteSize,
    },
    /// Less than the least rate arrived, or the body took too long as a whole.
    #[error("the body did not arrive in time")]
    TooSlow,
    /// The caller has as much memory in use for bodies as one caller may have.
    #[error("this caller has too many request bodies in flight")]
    CallerBusy {
        /// When to retry.
        retry_after: Duration,
    },
    /// All memory for bodies is in use.
    #[error("too many request bodies are in flight")]
    Busy {
        /// When to retry.
        retry_after: Duration,
    },
    /// The connection broke, or the body is malformed.
    #[error("the body could not be read")]
    Broken(#[source] axum::Error),
    /// The body has a content coding that is not decoded here.
    #[error("a body with `Content-Encoding: {encoding}` is not taken here")]
    Encoding {
        /// The coding, as the request names it.
        encoding: String,
        /// The accepted codings, as in `Accept-Encoding`.
        accepted: &'static str,
    },
    /// The body is not valid in its content coding, or incomplete.
    #[error("the body is not valid {encoding}")]
    Undecodable {
        /// The coding.
        encoding: &'static str,
    },
}

impl BodyError {
    /// When to retry, if that helps.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::CallerBusy { retry_after } | Self::Busy { retry_after } => Some(*retry_after),
            Self::TooLarge { .. }
            | Self::TooSlow
            | Self::Broken(_)
            | Self::Encoding { .. }
            | Self::Undecodable { .. } => None,
        }
    }

    /// What to send instead, if that is known.
    pub fn hint(&self) -> Option<String> {
        let accepted = self.accept_encoding()?;
        Some(match accepted {
            "identity" => "send it without `Content-Encoding`".to_owned(),
            codings => format!("send it without `Content-Encoding`, or with one of {codings}"),
        })
    }

    /// The `Accept-Encoding` of the response, if the body's coding was rejected.
    pub fn accept_encoding(&self) -> Option<&'static str> {
        match self {
            Self::Encoding { accepted, .. } => Some(accepted),
            _ => None,
        }
    }
}

/// Reads the bodies of all requests of the process.
#[derive(Debug, Clone)]
pub struct RequestBodies {
    least: LeastRate,
    time: Duration,
    memory: Arc<Memory>,
}

/// The caller whose body is read.
#[derive(Debug, Clone, Copy)]
pub enum BodyOwner<'a> {
    /// A caller with a credential, by name; may use half of the memory for bodies.
    Caller(&'a str),
    /// A caller without one, by network address; may use little memory and time.
    Stranger(Option<IpAddr>),
}

impl BodyOwner<'_> {
    fn name(self) -> Arc<str> {
        match self {
            Self::Caller(name) => name.into(),
            // No caller's name begins with a blank.
            Self::Stranger(Some(ip)) => format!(" {ip}").into(),
            Self::Stranger(None) => " ".into(),
        }
    }
}

impl RequestBodies {
    /// Reads bodies within `limits`.
    pub fn new(limits: &Limits) -> Self {
        let memory = Memory { max: limits.body_bytes.as_u64(), used: Mutex::default() };
        Self { least: limits.least_rate(), time: limits.body_time.0, memory: Arc::new(memory) }
    }

    /// A copy of a caller's body, for as long as a stream may need it again. All copies together have a quarter of the memory and
    /// those of one caller an eighth, so that long streams leave the rest to others; `None` where the share is used up.
    pub fn keep(&self, body: &[u8], caller: &str) -> Option<Bytes> {
        let mut lease = self.memory.lease_for_stream(caller);
        lease.grow_to(length(body)).ok()?;
        Some(Bytes::from_owner(Leased { bytes: BytesMut::from(body), _lease: lease }))
    }

    /// Reads the body of a request, at most `max` bytes both as sent and as decoded. The memory is released with the last
    /// clone of the body.
    ///
    /// # Errors
    /// When the body is too large, too slow, broken or in an unknown coding, or when there is no memory for it.
    pub async fn read(
        &self,
        request: Request,
        max: ByteSize,
        owner: BodyOwner<'_>,
    ) -> Result<Request, BodyError> {
        let (mut parts, body) = request.into_parts();
        // A body above the owner's share of the memory could never be read.
        let max = max.as_u64().min(self.memory.max_of(owner));
        let too_large = || BodyError::TooLarge { max: ByteSize::b(max) };
        let declared = body.size_hint().exact();
        if body.size_hint().lower() > max {
            return Err(too_large());
        }
        if body.is_end_stream() {
            return Ok(Request::from_parts(parts, Body::empty()));
        }
        let encoding = match (Encoding::of(&parts.headers), owner) {
            (Ok(Some(encoding)), BodyOwner::Stranger(_)) => Err(encoding.as_str().to_owned()),
            (encoding, _) => encoding,
        };
        let encoding = encoding.map_err(|encoding| {
            // Nothing is decoded for a stranger, because decoding costs more than sending.
            let stranger = matches!(owner, BodyOwner::Stranger(_));
            BodyError::Encoding { encoding, accepted: if stranger { "identity" } else { ACCEPTED } }
        })?;
        let time = match owner {
            BodyOwner::Caller(_) => self.time,
            BodyOwner::Stranger(_) => self.time.min(STRANGER_BODY_TIMEOUT),
        };
        let begun = Instant::now();
        let mut progress = Progress::default();
        progress.waiting(begun);
        let collected = Collected {
            bytes: BytesMut::new(),
            lease: self.memory.lease(owner),
            decoder: self.memory.lease(owner),
            max,
            declared: declared.filter(|_| encoding.is_none()),
        };
        let failed = |error| of_decoder(error, encoding);
        let mut decoder = decoder(encoding, collected).map_err(failed)?;
        let mut arrived = 0_u64;
        let mut frames = body.into_data_stream();
        loop {
            let deadline = progress.deadline(self.least).unwrap_or(begun).min(begun + time);
            let frame = match tokio::time::timeout_at(deadline, frames.next()).await {
                Err(_) => return Err(BodyError::TooSlow),
                Ok(None) => break,
                Ok(Some(Err(error))) => return Err(BodyError::Broken(error)),
                Ok(Some(Ok(frame))) => frame,
            };
            progress.moved(length(&frame), Instant::now(), self.least);
            arrived = arrived.saturating_add(length(&frame));
            if arrived > max {
                return Err(too_large());
            }
            if encoding.is_none() {
                decoder.push(&frame).map_err(failed)?;
                continue;
            }
            for piece in frame.chunks(DECODE_STEP_BYTES) {
                decoder.push(piece).map_err(failed)?;
                // A few bytes may have become megabytes.
                tokio::task::yield_now().await;
            }
        }
        let Collected { bytes, lease, .. } = decoder.finish().map_err(failed)?;
        if encoding.is_some() {
            // They describe the body as it was sent, and it is passed on decoded.
            parts.headers.remove(header::CONTENT_ENCODING);
            parts.headers.remove(header::CONTENT_LENGTH);
        }
        let body = Bytes::from_owner(Leased { bytes, _lease: lease });
        Ok(Request::from_parts(parts, Body::from(body)))
    }
}

fn of_decoder(error: io::Error, encoding: Option<Encoding>) -> BodyError {
    match error.downcast::<BodyError>() {
        Ok(error) => error,
        Err(error) => {
            tracing::debug!(%error, "a body could not be decoded");
            BodyError::Undecodable { encoding: encoding.map_or("identity", Encoding::as_str) }
        }
    }
}

/// A body while it is read.
struct Collected {
    bytes: BytesMut,
    lease: Lease,
    /// The decoder's own memory.
    decoder: Lease,
    max: u64,
    /// The length that the request declares, where it is that of these bytes.
    declared: Option<u64>,
}

impl Write for Collected {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let needed = length(&self.bytes).saturating_add(length(bytes));
        if needed > self.max {
            return Err(io::Error::other(BodyError::TooLarge { max: ByteSize::b(self.max) }));
        }
        if needed > self.lease.bytes {
            // Memory is leased as bytes arrive, not as they are declared: a declaration costs the caller nothing.
            let leased = needed.max(self.lease.bytes.saturating_mul(2)).max(MIN_ALLOCATION_BYTES);
            let leased = leased.min(self.declared.unwrap_or(self.max)).max(needed);
            self.lease.grow_to(leased).map_err(io::Error::other)?;
            let allocated = match self.declared {
                // Fewer copies, and what is not written yet takes no memory.
                Some(declared) if needed >= declared / FIRST_PART => declared.max(leased),
                _ => leased,
            };
            self.bytes.reserve(usize::try_from(allocated).unwrap_or(usize::MAX) - self.bytes.len());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Collected {
    fn decoder_takes(&mut self, bytes: u64) -> io::Result<()> {
        if bytes > self.decoder.bytes {
            self.decoder.grow_to(bytes).map_err(io::Error::other)?;
        }
        Ok(())
    }
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// A body with its lease of memory.
struct Leased {
    bytes: BytesMut,
    _lease: Lease,
}

impl AsRef<[u8]> for Leased {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Memory for bodies. Only callers with a body in flight are in the map.
#[derive(Debug)]
struct Memory {
    max: u64,
    used: Mutex<Used>,
}

#[derive(Debug, Default)]
struct Used {
    total: u64,
    /// Of all strangers together.
    strangers: u64,
    /// Of all streams together.
    streams: u64,
    owners: HashMap<Arc<str>, u64>,
}

impl Memory {
    fn max_of(&self, owner: BodyOwner<'_>) -> u64 {
        match owner {
            BodyOwner::Caller(_) => self.max / 2,
            BodyOwner::Stranger(_) => self.max_of_strangers() / 2,
        }
    }

    /// A quarter, beside the half that one caller may use, so that strangers do not displace known callers.
    fn max_of_strangers(&self) -> u64 {
        self.max / 4
    }

    /// A quarter: streams may go on for hours.
    fn max_of_streams(&self) -> u64 {
        self.max / 4
    }

    fn lease(self: &Arc<Self>, owner: BodyOwner<'_>) -> Lease {
        let share = match owner {
            BodyOwner::Caller(_) => Share::Callers,
            BodyOwner::Stranger(_) => Share::Strangers,
        };
        Lease { memory: Arc::clone(self), owner: owner.name(), max: self.max_of(owner), share, bytes: 0 }
    }

    fn lease_for_stream(self: &Arc<Self>, caller: &str) -> Lease {
        // Beside what the caller's requests have. No name begins with a tab.
        let owner = format!("\t{caller}").into();
        let max = self.max_of_streams() / 2;
        Lease { memory: Arc::clone(self), owner, max, share: Share::Streams, bytes: 0 }
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A lease of memory, released when dropped.
#[derive(Debug)]
struct Lease {
    memory: Arc<Memory>,
    owner: Arc<str>,
    /// Bytes that this owner may lease in all.
    max: u64,
    share: Share,
    bytes: u64,
}

/// Who shares a part of the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Share {
    /// Requests of callers with a credential.
    Callers,
    /// Requests of callers without one.
    Strangers,
    /// Copies for streams.
    Streams,
}

impl Lease {
    fn grow_to(&mut self, bytes: u64) -> Result<(), BodyError> {
        let more = bytes.saturating_sub(self.bytes);
        let mut used = self.memory.used();
        let owned = used.owners.get(&self.owner).copied().unwrap_or_default().saturating_add(more);
        let total = used.total.saturating_add(more);
        if owned > self.max {
            return Err(BodyError::CallerBusy { retry_after: RETRY_AFTER });
        }
        let of = |share| if self.share == share { more } else { 0 };
        let strangers = used.strangers.saturating_add(of(Share::Strangers));
        let streams = used.streams.saturating_add(of(Share::Streams));
        if total > self.memory.max
            || strangers > self.memory.max_of_strangers()
            || streams > self.memory.max_of_streams()
        {
            return Err(BodyError::Busy { retry_after: RETRY_AFTER });
        }
        used.strangers = strangers;
        used.streams = streams;
        used.total = total;
        used.owners.insert(Arc::clone(&self.owner), owned);
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut used = self.memory.used();
        used.total = used.total.saturating_sub(self.bytes);
        match self.share {
            Share::Callers => {}
            Share::Strangers => used.strangers = used.strangers.saturating_sub(self.bytes),
            Share::Streams => used.streams = used.streams.saturating_sub(self.bytes),
        }
        if let Some(owned) = used.owners.get_mut(&self.owner) {
            *owned = owned.saturating_sub(self.bytes);
            if *owned == 0 {
                used.owners.remove(&self.owner);
            }
        }
    }
}

#[cfg(test)]
mod decoding;

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        pin::Pin,
        task::{Context, Poll},
    };

    use axum::body::HttpBody;
    use futures::stream;
    use hyper::body::{Frame, SizeHint};
    use mcpctl_api::HumanDuration;

    use super::*;

    fn bodies() -> RequestBodies {
        RequestBodies::new(&Limits {
            body_bytes: ByteSize::mib(2),
            body_time: HumanDuration::from_secs(60),
            stall: HumanDuration::from_secs(10),
            rate: ByteSize::b(100),
            ..Limits::default()
        })
    }

    fn chunks(sizes: Vec<usize>, pause: Duration) -> Request {
        let pieces = stream::iter(sizes).then(move |size| async move {
            tokio::time::sleep(pause).await;
            Ok::<_, Infallible>(vec![b'x'; size])
        });
        Request::new(Body::from_stream(pieces))
    }

    async fn read(bodies: &RequestBodies, request: Request, owner: &str) -> Result<Bytes, BodyError> {
        let read = bodies.read(request, ByteSize::mib(4), BodyOwner::Caller(owner)).await?;
        Ok(axum::body::to_bytes(read.into_body(), usize::MAX).await.unwrap())
    }

    #[tokio::test]
    async fn strangers_do_not_displace_callers() {
        let bodies = bodies();
        let stranger = |ip: &str| BodyOwner::Stranger(Some(ip.parse().unwrap()));
        let read = |owner| bodies.read(chunks(vec![200_000], Duration::ZERO), ByteSize::mib(4), owner);
        let first = read(stranger("192.0.2.1")).await.unwrap();
        assert!(matches!(read(stranger("192.0.2.1")).await, Err(BodyError::CallerBusy { .. })));
        let second = read(stranger("192.0.2.2")).await.unwrap();
        assert!(matches!(read(stranger("192.0.2.3")).await, Err(BodyError::Busy { .. })));
        assert!(read(BodyOwner::Caller("alice")).await.is_ok());
        drop((first, second));
        assert!(read(stranger("192.0.2.3")).await.is_ok());
    }

    #[tokio::test]
    async fn copies_for_streams_have_a_share_of_their_own() {
        let bodies = bodies();
        let quarter = 2 * 1024 * 1024 / 4;
        let copy = vec![b'x'; quarter / 2];
        let first = bodies.keep(&copy, "alice").unwrap();
        assert_eq!(&first[..], &copy[..]);
        assert!(bodies.keep(b"x", "alice").is_none(), "an eighth of one caller");
        let second = bodies.keep(&copy, "bob").unwrap();
        assert!(bodies.keep(b"x", "carol").is_none(), "a quarter of all");
        for owner in ["alice", "dave"] {
            let rest = read(&bodies, chunks(vec![quarter], Duration::ZERO), owner).await;
            assert_eq!(rest.unwrap().len(), quarter, "requests have the rest");
        }
        drop((first, second));
        assert!(bodies.keep(&copy, "carol").is_some());
        assert!(bodies.memory.used().owners.is_empty());
    }

    #[tokio::test]
    async fn memory_is_released_with_the_last_clone() {
        let bodies = bodies();
        let request = || chunks(vec![300_000; 3], Duration::ZERO);
        let alice = read(&bodies, request(), "alice").await.unwrap();
        assert_eq!(alice.len(), 900_000);
        assert!(matches!(read(&bodies, request(), "alice").await, Err(BodyError::CallerBusy { .. })));
        let bob = read(&bodies, request(), "bob").await.unwrap();
        assert!(matches!(read(&bodies, request(), "carol").await, Err(BodyError::Busy { .. })));
        let part = alice.slice(..1);
        drop(alice);
        assert!(read(&bodies, request(), "alice").await.is_err(), "a slice keeps the whole body");
        drop(part);
        assert!(read(&bodies, request(), "alice").await.is_ok());
        drop(bob);
        let used = bodies.memory.used();
        assert_eq!((used.total, used.owners.len()), (0, 0));
    }

    /// A body with the length that a request declares.
    struct Declared(Body, u64);

    impl HttpBody for Declared {
        type Data = Bytes;
        type Error = axum::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
            Pin::new(&mut self.0).poll_frame(context)
        }

        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(self.1)
        }
    }

    #[tokio::test]
    async fn declared_bytes_lease_no_memory_before_they_arrive() {
        const DECLARED: usize = 1_000_000;
        for sent in [1, DECLARED / 8, DECLARED / 8 * 3] {
            let bodies = bodies();
            let pieces = stream::iter([Ok::<_, Infallible>(vec![b'x'; sent])]).chain(stream::pending());
            let body = Declared(Body::from_stream(pieces), DECLARED as u64);
            let request = Request::new(Body::new(body));
            let reading = bodies.read(request, ByteSize::mib(4), BodyOwner::Caller("alice"));
            let mut reading = Box::pin(reading);
            assert!(futures::poll!(&mut reading).is_pending());
            let leased = bodies.memory.used().total;
            assert!(leased <= MIN_ALLOCATION_BYTES.max(2 * sent as u64), "{leased} for {sent}");
        }
    }

    #[tokio::test]
    async fn too_long_body_is_rejected_by_its_declared_length() {
        let declared = Request::new(Body::from(vec![0; 5000]));
        let refused = bodies().read(declared, ByteSize::kib(4), BodyOwner::Caller("alice")).await;
        assert!(matches!(refused, Err(BodyError::TooLarge { .. })));
        let undeclared = chunks(vec![1000; 5], Duration::ZERO);
        let refused = bodies().read(undeclared, ByteSize::kib(4), BodyOwner::Caller("alice")).await;
        assert!(matches!(refused, Err(BodyError::TooLarge { .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn slow_body_is_rejected() {
        let bodies = bodies();
        let second = Duration::from_secs(1);
        let silent = read(&bodies, chunks(vec![1], Duration::from_secs(3600)), "alice").await;
        assert!(matches!(silent, Err(BodyError::TooSlow)));
        let trickle = read(&bodies, chunks(vec![50; 100], second), "alice").await;
        assert!(matches!(trickle, Err(BodyError::TooSlow)), "below the least rate");
        let long = read(&bodies, chunks(vec![150; 100], second), "alice").await;
        assert!(matches!(long, Err(BodyError::TooSlow)), "above the least rate, and too long in all");
        assert_eq!(read(&bodies, chunks(vec![150; 50], second), "alice").await.unwrap().len(), 7500);
    }
}
