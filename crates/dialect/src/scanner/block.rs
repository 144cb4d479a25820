//! Finds, in a block of a JSON string, the first byte that ends the string or a plain part of it, or may not be in one: a quote, a
//! backslash, a control character.

use wide::u8x16;

/// Bytes that are tested at once.
pub(super) const BLOCK_BYTES: usize = 16;

pub(super) fn first_special(block: [u8; BLOCK_BYTES]) -> Option<usize> {
    let bytes = u8x16::new(block);
    let last_control = u8x16::splat(0x1F);
    let special = bytes.simd_eq(u8x16::splat(b'"'))
        | bytes.simd_eq(u8x16::splat(b'\\'))
        | bytes.min(last_control).simd_eq(bytes);
    let bits = special.to_bitmask();
    (bits != 0).then(|| bits.trailing_zeros() as usize)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SPECIALS: &[u8] = b"\"\\\0\n\x1F";

    proptest! {
        #[test]
        fn first_special_byte_is_found(
            plain in prop::array::uniform16(prop_oneof![Just(b' '), Just(b'!'), Just(0x7F), 0x80..=0xFF_u8, b'a'..=b'z']),
            specials in prop::collection::vec((0..BLOCK_BYTES, 0..SPECIALS.len()), 0..4),
        ) {
            let mut block = plain;
            for (at, special) in specials {
                block[at] = SPECIALS[special];
            }
            prop_assert_eq!(first_special(block), block.iter().position(|byte| SPECIALS.contains(byte)));
        }
    }
}
