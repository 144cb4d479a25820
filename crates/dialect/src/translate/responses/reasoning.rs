//! How reasoning travels through a caller and back. OpenAI's item of reasoning has `summary` for people and `encrypted_content`,
//! which the caller passes back unchanged. Other providers' signatures and encrypted blocks travel in `encrypted_content`, with
//! a prefix, so that what OpenAI encrypted is never handed to another provider.

use crate::translate::conversation::Reasoning;

/// Marks the signature over the text of `summary`.
const SIGNATURE: &str = "mcpctl:signature:";

/// Marks encrypted reasoning.
const ENCRYPTED: &str = "mcpctl:encrypted:";

/// The `encrypted_content` of a block; `None` where the provider neither signed nor encrypted it.
pub(super) fn sealed(reasoning: &Reasoning) -> Option<String> {
    let encrypted = reasoning.encrypted.as_ref().map(|data| format!("{ENCRYPTED}{data}"));
    encrypted.or_else(|| Some(format!("{SIGNATURE}{}", reasoning.signature.as_ref()?)))
}

/// The block that a caller passes back. Without our prefix, `sealed` is what another provider encrypted: only its summary can
/// be read.
pub(super) fn unsealed(text: String, sealed: Option<&str>) -> Reasoning {
    let after = |prefix| sealed.and_then(|sealed| sealed.strip_prefix(prefix)).map(str::to_owned);
    match after(ENCRYPTED) {
        // Encrypted reasoning stands in place of its text.
        Some(encrypted) => Reasoning { encrypted: Some(encrypted), ..Reasoning::default() },
        None => Reasoning { text, signature: after(SIGNATURE), encrypted: None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasoning_returns_to_the_provider_that_sealed_it() {
        let signed = Reasoning { text: "hm".into(), signature: Some("c2ln".into()), encrypted: None };
        let encrypted = Reasoning { encrypted: Some("ZW5j".into()), ..Reasoning::default() };
        let plain = Reasoning { text: "hm".into(), ..Reasoning::default() };
        for block in [signed, encrypted, plain] {
            assert_eq!(unsealed(block.text.clone(), sealed(&block).as_deref()), block);
        }
        assert_eq!(
            unsealed("hm".into(), Some("gAAAAAB")),
            Reasoning { text: "hm".into(), ..Reasoning::default() }
        );
    }
}
