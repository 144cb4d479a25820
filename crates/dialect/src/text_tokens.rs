//! How many tokens a text takes, about.

/// The tokens of a text: four ASCII characters are one, a character of two bytes in UTF-8 is half of one, a longer one is one.
pub(crate) fn of_text(text: &str) -> u64 {
    let quarters = |character: char| match character.len_utf8() {
        1 => 1,
        2 => 2,
        _ => 4,
    };
    text.chars().map(quarters).fold(0_u64, u64::saturating_add).div_ceil(4)
}
