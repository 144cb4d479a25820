//! Random words: a key that other users of the machine cannot guess, a mark that nothing else carries.

/// 192 random bits in hexadecimal digits.
pub(crate) fn hex() -> Result<String, getrandom::Error> {
    let mut bytes = [0_u8; 24];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
