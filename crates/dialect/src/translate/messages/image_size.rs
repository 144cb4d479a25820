//! Reads the size of an image from its first bytes: PNG, JPEG, GIF and WebP, the formats that Anthropic accepts.

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// How many characters of base64 are decoded: JPEG may have a preview of 64 KiB before its size.
const MAX_HEAD: usize = 128 * 1024;

/// Width and height in pixels; `None` where the start of the image does not show them.
pub(super) fn of_base64(data: &str) -> Option<(u64, u64)> {
    let head = data.as_bytes().get(..data.len().min(MAX_HEAD))?;
    let whole = head.len().checked_div(4)?.checked_mul(4)?;
    of_bytes(&STANDARD.decode(head.get(..whole)?).ok()?)
}

fn of_bytes(image: &[u8]) -> Option<(u64, u64)> {
    if image.starts_with(b"\x89PNG\r\n\x1a\n") {
        Some((big_endian(image, 16, 4)?, big_endian(image, 20, 4)?))
    } else if image.starts_with(b"GIF8") {
        Some((little_endian(image, 6, 2)?, little_endian(image, 8, 2)?))
    } else if image.starts_with(b"\xFF\xD8") {
        of_jpeg(image)
    } else if image.starts_with(b"RIFF") && image.get(8..12) == Some(b"WEBP") {
        of_webp(image)
    } else {
        None
    }
}

/// Follows the segments of a JPEG up to the frame header (`SOF`), which has the size.
fn of_jpeg(image: &[u8]) -> Option<(u64, u64)> {
    let mut at = 2_usize;
    loop {
        let (mark, kind) = (image.get(at)?, image.get(at.checked_add(1)?)?);
        if *mark != 0xFF {
            return None;
        }
        match kind {
            // Fill bytes.
            0xFF => at = at.checked_add(1)?,
            // All but DHT, JPG and DAC.
            0xC0..=0xCF if !matches!(kind, 0xC4 | 0xC8 | 0xCC) => {
                let height = big_endian(image, at.checked_add(5)?, 2)?;
                return Some((big_endian(image, at.checked_add(7)?, 2)?, height));
            }
            _ => {
                let length = usize::try_from(big_endian(image, at.checked_add(2)?, 2)?).ok()?;
                at = at.checked_add(2)?.checked_add(length.max(2))?;
            }
        }
    }
}

fn of_webp(image: &[u8]) -> Option<(u64, u64)> {
    match image.get(12..16)? {
        b"VP8 " => Some((little_endian(image, 26, 2)? & 0x3FFF, little_endian(image, 28, 2)? & 0x3FFF)),
        b"VP8L" => {
            let bits = little_endian(image, 21, 4)?;
            Some(((bits & 0x3FFF).saturating_add(1), ((bits >> 14) & 0x3FFF).saturating_add(1)))
        }
        b"VP8X" => {
            let edge = |at| little_endian(image, at, 3).map(|less| less.saturating_add(1));
            Some((edge(24)?, edge(27)?))
        }
        _ => None,
    }
}

fn big_endian(bytes: &[u8], at: usize, count: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(count)?)?;
    Some(bytes.iter().fold(0, |number, byte| (number << 8) | u64::from(*byte)))
}

fn little_endian(bytes: &[u8], at: usize, count: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(count)?)?;
    Some(bytes.iter().rev().fold(0, |number, byte| (number << 8) | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn size_is_read_from_every_format() {
        let jpeg = b"\xFF\xD8\xFF\xE0\x00\x04ab\xFF\xFF\xC2\x00\x11\x08\x02\x58\x03\x20\x03";
        for (expected, image) in [
            (Some((800, 600)), &b"\x89PNG\r\n\x1a\n\0\0\0\x0DIHDR\0\0\x03\x20\0\0\x02\x58"[..]),
            (Some((800, 600)), b"GIF89a\x20\x03\x58\x02"),
            (Some((800, 600)), jpeg),
            (Some((800, 600)), b"RIFF\0\0\0\0WEBPVP8 \0\0\0\0\0\0\0\x9d\x01\x2a\x20\x03\x58\x02"),
            (Some((800, 600)), b"RIFF\0\0\0\0WEBPVP8X\0\0\0\0\0\0\0\0\x1f\x03\0\x57\x02\0"),
            (Some((800, 600)), b"RIFF\0\0\0\0WEBPVP8L\0\0\0\0\x2f\x1f\xc3\x95\x00"),
            (None, b"BM"),
            (None, b"\xFF\xD8\xFF\xD9"),
            (None, b""),
        ] {
            assert_eq!(of_bytes(image), expected, "{image:02x?}");
            assert_eq!(
                of_base64(&STANDARD.encode([image, b"\0\0"].concat())),
                of_bytes(&[image, b"\0\0"].concat())
            );
        }
        assert_eq!(of_base64("not base64!"), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(head in 0_usize..5, bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let heads: [&[u8]; 5] = [b"\x89PNG\r\n\x1a\n", b"GIF8", b"\xFF\xD8", b"RIFF\0\0\0\0WEBPVP8L", b""];
            let _ = of_bytes(&[heads[head], &bytes].concat());
        }
    }
}
