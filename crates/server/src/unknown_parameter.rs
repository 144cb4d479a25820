//! Query parameters that a route does not have: both daemons reject them, because a misspelt one would change nothing in silence.

use mcpctl_api::visible::short;

/// Longest name of a parameter in an error, in bytes.
const MAX_NAME_BYTES: usize = 64;

/// The name of the first parameter of a query that is not among `known`.
pub fn unknown_parameter(query: &str, known: &[&str]) -> Option<String> {
    let mut names = form_urlencoded::parse(query.as_bytes()).map(|(name, _)| name);
    names.find(|name| !known.contains(&&**name)).map(|name| short(&name, MAX_NAME_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_decoded_and_compared_exactly() {
        let unknown = |query| unknown_parameter(query, &["since", "kinds"]);
        assert_eq!(unknown(""), None);
        assert_eq!(unknown("since=1&kinds="), None);
        assert_eq!(unknown("%73ince=1&&"), None);
        for (query, name) in
            [("x=1", "x"), ("since=1&Kinds=a", "Kinds"), ("=", ""), ("since%00=1", "since\\u0000")]
        {
            assert_eq!(unknown(query).as_deref(), Some(name), "{query}");
        }
        assert!(unknown(&"x".repeat(10_000)).unwrap().len() <= MAX_NAME_BYTES);
    }
}
