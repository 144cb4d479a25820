//! The frames of a stream do not depend on where the network cuts it, and no byte is lost or added.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use mcpctl_dialect::sse::{Decoder, EventTooLarge, Frame};
use proptest::prelude::*;

const MAX: usize = 64;

fn decode(pieces: &[&[u8]]) -> (Vec<Frame>, Result<(), EventTooLarge>) {
    let mut decoder = Decoder::new(MAX);
    let mut frames = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Err(error)),
            }
        }
    }
    match decoder.finish() {
        Ok(last) => frames.extend(last),
        Err(error) => return (frames, Err(error)),
    }
    (frames, Ok(()))
}

/// Streams of arbitrary bytes and the tokens that framing is sensitive to.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        4 => Just(b"\n".to_vec()),
        4 => Just(b"\r\n".to_vec()),
        2 => Just(b"\r".to_vec()),
        1 => Just(b"\xEF\xBB\xBF".to_vec()),
        3 => Just(b"data: ".to_vec()),
        1 => Just(b"data".to_vec()),
        2 => Just(b": ping".to_vec()),
        1 => Just(b"event: error".to_vec()),
        2 => proptest::collection::vec(any::<u8>(), 0..12),
        1 => Just(vec![b'x'; MAX - 8]),
    ];
    proptest::collection::vec(token, 0..40).prop_map(|tokens| tokens.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_split_gives_the_same_frames_and_every_byte(
        input in stream(),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let whole = decode(&[&input]);

        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
        at.sort_unstable();
        let mut pieces = Vec::new();
        let mut rest = input.as_slice();
        let mut start = 0;
        for cut in at {
            let (piece, after) = rest.split_at(cut - start);
            pieces.push(piece);
            rest = after;
            start = cut;
        }
        pieces.push(rest);
        prop_assert_eq!(&decode(&pieces), &whole);

        let bytes: Vec<&[u8]> = input.chunks(1).collect();
        prop_assert_eq!(&decode(&bytes), &whole);

        let (frames, result) = whole;
        let raw: Vec<u8> = frames.iter().flat_map(|frame| frame.raw.to_vec()).collect();
        match result {
            Ok(()) => prop_assert_eq!(raw, input),
            Err(_) => prop_assert!(input.starts_with(&raw)),
        }
        prop_assert!(frames.iter().all(|frame| frame.raw.len() <= MAX));
    }
}
