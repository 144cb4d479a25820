//! The known word that a mistyped one was meant to be.

/// Likeness from 0 to 1 from which a word is suggested.
const ALIKE: f64 = 0.6;
/// Longer words are not compared: the work grows with the product of the lengths.
const MAX_BYTES: usize = 128;

/// The most similar of the known words, where one is similar enough. Two letters that changed places count as one error, and case
/// does not count.
pub fn most_similar<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > MAX_BYTES {
        return None;
    }
    let word = word.to_lowercase();
    let likeness = |other: &str| strsim::normalized_damerau_levenshtein(&word, &other.to_lowercase());
    let compared = known.into_iter().filter(|other| other.len() <= MAX_BYTES);
    let (best, alike) =
        compared.map(|other| (other, likeness(other))).max_by(|(_, a), (_, b)| a.total_cmp(b))?;
    (alike >= ALIKE).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistyped_words_are_recognised_and_others_are_not() {
        let fields = ["model", "url", "type", "apiKey", "timeouts"];
        for (word, meant) in [
            ("modle", Some("model")),
            ("apikey", Some("apiKey")),
            ("timeout", Some("timeouts")),
            ("ulr", Some("url")),
            ("banana", None),
            ("", None),
        ] {
            assert_eq!(most_similar(word, fields), meant, "{word}");
        }
        let names = ["gpt", "claude", "qwen-coder"];
        for (word, meant) in [("gtp", "gpt"), ("cluade", "claude"), ("qwen_coder", "qwen-coder")] {
            assert_eq!(most_similar(word, names), Some(meant), "{word}");
        }
        assert_eq!(most_similar("gpt", []), None);
        assert_eq!(most_similar(&"a".repeat(129), [&*"a".repeat(128)]), None, "long words are not compared");
    }
}
