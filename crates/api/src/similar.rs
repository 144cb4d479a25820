//! The known word that a mistyped one was meant to be.

/// How much alike two words are at least, from 0 to 1; clap takes the same for options.
const MIN_LIKENESS: f64 = 0.7;
/// How much alike two words are at least that differ by one slip.
const ONE_SLIP: f64 = 0.8;
/// Longer words are not compared: the work grows with the product of the lengths.
const MAX_BYTES: usize = 128;

/// The most similar of the known words, where one is similar enough. Case does not count, and two letters that changed places are one
/// error.
pub fn most_similar<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > MAX_BYTES {
        return None;
    }
    let word = word.to_lowercase();
    let likeness = |other: &str| {
        let other = other.to_lowercase();
        // The first finds letters in another order, the second words that go on.
        let likeness =
            strsim::normalized_damerau_levenshtein(&word, &other).max(strsim::jaro(&word, &other) - 0.1);
        // One slip in a short word is a large part of it.
        let one_slip = word.len() > 1 && strsim::damerau_levenshtein(&word, &other) == 1;
        if one_slip { likeness.max(ONE_SLIP) } else { likeness }
    };
    let compared = known.into_iter().filter(|other| other.len() <= MAX_BYTES);
    let best = compared.map(|other| (likeness(other), other)).max_by(|(a, _), (b, _)| a.total_cmp(b));
    best.filter(|(likeness, _)| *likeness >= MIN_LIKENESS).map(|(_, other)| other)
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
        let kinds = ["llms", "secrets", "users", "groups", "rolebindings"];
        for (word, meant) in [
            ("lmls", Some("llms")),
            ("LLM", Some("llms")),
            ("usres", Some("users")),
            ("rolebinding", Some("rolebindings")),
            ("pods", None),
            ("x", None),
        ] {
            assert_eq!(most_similar(word, kinds), meant, "{word}");
        }
        let names = ["gpt", "claude", "qwen-coder"];
        for (word, meant) in [("gtp", "gpt"), ("cluade", "claude"), ("qwen_coder", "qwen-coder")] {
            assert_eq!(most_similar(word, names), Some(meant), "{word}");
        }
        assert_eq!(most_similar("gpt", []), None);
        assert_eq!(most_similar(&"a".repeat(129), [&*"a".repeat(128)]), None, "long words are not compared");
    }
}
