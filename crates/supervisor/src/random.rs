//! Random words: a key that other users of the machine cannot guess, a mark that no other process carries.

/// 192 random bits in hexadecimal digits.
///
/// # Errors
/// When the system has no random numbers.
pub fn hex() -> Result<String, getrandom::Error> {
    let mut bytes = [0_u8; 24];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
