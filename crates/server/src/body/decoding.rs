//! Bodies with a content coding: which are decoded, and what a decompression bomb costs.

use std::{io::Write as _, time::Duration};

use axum::{body::Body, extract::Request, http::header};
use bytesize::ByteSize;
use flate2::{
    Compression,
    write::{DeflateEncoder, GzEncoder, ZlibEncoder},
};
use futures::{StreamExt as _, stream};
use mcpctl_api::HumanDuration;

use super::*;

const LIMIT: ByteSize = ByteSize::mib(1);

fn bodies(memory: ByteSize) -> RequestBodies {
    let (body_time, stall) = (HumanDuration::from_secs(60), HumanDuration::from_secs(10));
    RequestBodies::new(&Limits { body_bytes: memory, body_time, stall, ..Limits::default() })
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn raw_deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8], window_log: u32) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    encoder.set_parameter(zstd::zstd_safe::CParameter::WindowLog(window_log)).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Sends a body in pieces of `piece` bytes, without a length.
async fn read(bodies: &RequestBodies, coding: &str, body: &[u8], piece: usize) -> Result<Request, BodyError> {
    let pieces: Vec<_> = body.chunks(piece).map(|piece| Ok::<_, io::Error>(piece.to_vec())).collect();
    let request = Request::builder()
        .header(header::CONTENT_ENCODING, coding)
        .body(Body::from_stream(stream::iter(pieces).then(async |piece| piece)))
        .unwrap();
    bodies.read(request, LIMIT, BodyOwner::Caller("alice")).await
}

fn nothing_is_held(bodies: &RequestBodies) -> bool {
    let used = bodies.memory.used();
    used.total == 0 && used.owners.is_empty()
}

#[tokio::test]
async fn every_coding_is_decoded_in_pieces_of_any_size() {
    let bodies = bodies(ByteSize::mib(256));
    let text: Vec<u8> = (0..50_000_u32).flat_map(|number| (number % 251).to_le_bytes()).collect();
    let two_frames = [zstd(&text[..1000], 20), zstd(&text[1000..], 20)].concat();
    for (coding, encoded) in [
        ("gzip", gzip(&text)),
        ("x-gzip", gzip(&text)),
        ("deflate", zlib(&text)),
        ("deflate", raw_deflate(&text)),
        ("zstd", zstd(&text, 20)),
        ("zstd", two_frames),
    ] {
        assert!(encoded.len() < text.len());
        for piece in [1, 7, 100_000] {
            let request = read(&bodies, coding, &encoded, piece).await.unwrap();
            assert!(request.headers().is_empty(), "the coding is gone");
            let decoded = axum::body::to_bytes(request.into_body(), usize::MAX).await.unwrap();
            assert!(decoded == text, "{coding} in pieces of {piece}");
        }
    }
    assert!(nothing_is_held(&bodies));
}

#[tokio::test]
async fn decompression_bomb_ends_at_the_decoded_limit() {
    let bodies = bodies(ByteSize::mib(256));
    let zeros = vec![0; 64 << 20];
    for (coding, bomb) in [("gzip", gzip(&zeros)), ("deflate", zlib(&zeros)), ("zstd", zstd(&zeros, 20))] {
        assert!(bomb.len() < 100_000, "{coding}: {}", bomb.len());
        let refused = read(&bodies, coding, &bomb, 8192).await;
        assert!(matches!(refused, Err(BodyError::TooLarge { max }) if max == LIMIT), "{coding}: {refused:?}");
        assert!(nothing_is_held(&bodies), "{coding}");
    }
}

#[tokio::test]
async fn memory_of_body_and_decoder_is_accounted_for() {
    // Alice may have 512 KiB.
    let bodies = bodies(ByteSize::mib(1));
    let request = read(&bodies, "gzip", &gzip(&vec![b'x'; 100_000]), 100_000).await.unwrap();
    let body = axum::body::to_bytes(request.into_body(), usize::MAX).await.unwrap();
    let held = bodies.memory.used().total;
    assert!((100_000..300_000).contains(&held), "the body without its decoder: {held}");
    drop(body);
    assert!(nothing_is_held(&bodies));
    let refused = read(&bodies, "zstd", &zstd(b"hello", 22), 100).await;
    assert!(matches!(refused, Err(BodyError::CallerBusy { .. })), "a window of 4 MiB: {refused:?}");
    assert!(nothing_is_held(&bodies));
}

#[tokio::test]
async fn window_larger_than_http_allows_is_rejected() {
    let bodies = bodies(ByteSize::gib(1));
    for (log, decoded) in [(23, true), (24, false)] {
        let refused = read(&bodies, "zstd", &zstd(b"hello", log), 100).await;
        assert_eq!(refused.is_ok(), decoded, "2^{log}: {refused:?}");
    }
}

#[tokio::test]
async fn truncated_body_or_trailing_data_is_rejected() {
    let bodies = bodies(ByteSize::mib(256));
    let text = b"a text that is long enough to be cut somewhere".repeat(20);
    for (coding, encoded) in [
        ("gzip", gzip(&text)),
        ("deflate", zlib(&text)),
        ("deflate", raw_deflate(&text)),
        ("zstd", zstd(&text, 20)),
    ] {
        let followed = [&*encoded, b"{}"].concat();
        let (cut, early) = (&encoded[..encoded.len() - 1], &encoded[..3]);
        for (what, wrong) in
            [("cut", cut), ("cut early", early), ("followed", &followed), ("text", &text[..])]
        {
            let refused = read(&bodies, coding, wrong, 5).await;
            let expected = matches!(refused, Err(BodyError::Undecodable { encoding }) if encoding == coding);
            assert!(expected, "{coding}, {what}: {refused:?}");
        }
    }
    let twice = [gzip(&text), gzip(&text)].concat();
    assert!(matches!(read(&bodies, "gzip", &twice, 100).await, Err(BodyError::Undecodable { .. })));
    assert!(nothing_is_held(&bodies));
}

#[tokio::test]
async fn nothing_is_decoded_for_strangers() {
    let bodies = bodies(ByteSize::mib(256));
    let request = Request::builder().header(header::CONTENT_ENCODING, "gzip").body(Body::from(gzip(b"{}")));
    let refused = bodies.read(request.unwrap(), LIMIT, BodyOwner::Stranger(None)).await;
    assert!(matches!(&refused, Err(BodyError::Encoding { accepted: "identity", .. })), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn slow_compressed_body_is_rejected() {
    let bodies = bodies(ByteSize::mib(256));
    let encoded: Vec<_> = gzip(b"hello").into_iter().map(|byte| Ok::<_, io::Error>(vec![byte])).collect();
    let slow = stream::iter(encoded).then(async |byte| {
        tokio::time::sleep(Duration::from_secs(5)).await;
        byte
    });
    let request = Request::builder().header(header::CONTENT_ENCODING, "gzip").body(Body::from_stream(slow));
    let refused = bodies.read(request.unwrap(), LIMIT, BodyOwner::Caller("alice")).await;
    assert!(matches!(refused, Err(BodyError::TooSlow)), "{refused:?}");
}
