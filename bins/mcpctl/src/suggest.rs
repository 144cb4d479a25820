//! Did you mean: the known word that is most like one that is not known.

use mcpctl_api::Kind;
use mcpctl_client::{Client, ClientError};

use crate::failure::Failure;

/// How much alike two words are at least, from 0 to 1; clap takes the same for options.
const MIN_LIKENESS: f64 = 0.7;
/// Names are compared with up to so many others.
const MAX_NAMES: usize = 2_000;

/// The candidate that is most like a word, where one is like it at all.
pub fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let likeness = |candidate: &str| {
        let candidate = candidate.to_lowercase();
        // The first finds letters in another order, the second words that go on.
        let likeness = strsim::normalized_damerau_levenshtein(&word, &candidate)
            .max(strsim::jaro(&word, &candidate) - 0.1);
        // One slip in a word of three letters is a third of it.
        let one_slip = word.len() > 2 && strsim::damerau_levenshtein(&word, &candidate) == 1;
        if one_slip { likeness.max(MIN_LIKENESS) } else { likeness }
    };
    let rated = candidates.into_iter().map(|candidate| (likeness(candidate), candidate));
    let best = rated.max_by(|(a, _), (b, _)| a.total_cmp(b));
    best.filter(|(likeness, _)| *likeness >= MIN_LIKENESS).map(|(_, candidate)| candidate)
}

/// `did you mean `gpt`?`
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    closest(word, candidates).map(|found| format!("did you mean `{found}`?"))
}

/// The failure of a request for a resource by its name; where there is none of the name, with the one that is most like it among
/// those that the caller may view.
pub async fn not_found(client: &Client, kind: Kind, name: &str, error: ClientError) -> Failure {
    let is_missing = error.status().is_some_and(|status| status.as_u16() == 404) && error.hint().is_none();
    let failure = Failure::from(error);
    if !is_missing {
        return failure;
    }
    let Ok(list) = client.list(kind, None).await else { return failure };
    let names = list.items.iter().take(MAX_NAMES).map(|item| item.name.as_str());
    match did_you_mean(name, names) {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn likely_words_are_found_and_others_are_not() {
        let kinds = ["llms", "secrets", "users", "groups", "rolebindings"];
        for (word, expected) in [
            ("lmls", Some("llms")),
            ("LLM", Some("llms")),
            ("usres", Some("users")),
            ("rolebinding", Some("rolebindings")),
            ("pods", None),
            ("x", None),
        ] {
            assert_eq!(closest(word, kinds), expected, "{word}");
        }
        assert_eq!(closest("gtp", ["claude", "gpt", "gpt-mini"]), Some("gpt"));
        assert_eq!(closest("modle", ["type", "model", "midStream"]), Some("model"));
    }
}
