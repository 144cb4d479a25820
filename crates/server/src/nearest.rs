//! Suggests the route that was probably meant, for the hint of a 404. Clients join base addresses and paths in every way:
//! with a slash too many, `/v1` twice or not at all, or another service's prefix.

/// Last segments of other services' paths, and the corresponding route here.
const FOREIGN_SEGMENTS: [(&[&str], &str); 3] = [
    (&["chat", "responses", "messages", "generate"], "/v1/chat/completions"),
    (&["embed"], "/v1/embeddings"),
    (&["tags"], "/v1/models"),
];
/// Letters that may differ.
const MAX_DISTANCE: usize = 2;
/// Longer paths get no suggestion.
const MAX_PATH_BYTES: usize = 256;

/// The one of `addresses` that a path was probably meant to be. A segment of an address in braces matches any segment.
pub fn nearest<'a>(path: &str, addresses: &[&'a str]) -> Option<&'a str> {
    if path.len() > MAX_PATH_BYTES {
        return None;
    }
    let path = path.to_ascii_lowercase();
    let mut segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    segments.dedup();
    let ends: Vec<&[&str]> = (0..segments.len()).filter_map(|skipped| segments.get(skipped..)).collect();
    let (plain, patterns): (Vec<&str>, Vec<&str>) =
        addresses.iter().partition(|address| !address.contains('{'));
    for addresses in [plain.as_slice(), &patterns] {
        for end in &ends {
            let with_version: Vec<&str> = std::iter::once("v1").chain(end.iter().copied()).collect();
            let is_meant = |address: &&&str| matches(address, end) || matches(address, &with_version);
            if let Some(found) = addresses.iter().find(is_meant) {
                return Some(found);
            }
        }
    }
    let last = segments.last()?;
    let elsewhere = FOREIGN_SEGMENTS.iter().find(|(ends, _)| ends.contains(last)).map(|(_, here)| *here);
    if let Some(found) = plain.iter().find(|address| Some(**address) == elsewhere) {
        return Some(found);
    }
    let joined = format!("/{}", segments.join("/"));
    let near = plain.iter().map(|address| (distance(&joined, address), *address));
    near.filter(|(wrong, _)| *wrong <= MAX_DISTANCE).min().map(|(_, address)| address)
}

fn matches(address: &str, segments: &[&str]) -> bool {
    let mut parts = address.split('/').filter(|part| !part.is_empty());
    let all =
        segments.iter().all(|segment| parts.next().is_some_and(|p| p.starts_with('{') || p == *segment));
    all && parts.next().is_none()
}

/// The number of letters that are added, missing or different (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (at, from) in a.bytes().enumerate() {
        let mut diagonal = at;
        let mut left = at + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (above, to) in row.iter_mut().skip(1).zip(b.bytes()) {
            let cost = diagonal + usize::from(from != to);
            diagonal = *above;
            left = cost.min(*above + 1).min(left + 1);
            *above = left;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESSES: [&str; 7] = [
        "/v1/models",
        "/v1/models/{idOrName}",
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/api/v1/llms/{idOrName}/infer",
        "/healthz",
    ];

    #[test]
    fn common_mistakes_lead_to_the_intended_route() {
        for (written, meant) in [
            ("/v1/chat/completions/", "/v1/chat/completions"),
            ("/v1//chat/completions", "/v1/chat/completions"),
            ("//v1/chat/completions", "/v1/chat/completions"),
            ("/v1/v1/chat/completions", "/v1/chat/completions"),
            ("/chat/completions", "/v1/chat/completions"),
            ("/V1/Chat/Completions", "/v1/chat/completions"),
            ("/openai/v1/chat/completions", "/v1/chat/completions"),
            ("/openai/deployments/gpt/chat/completions", "/v1/chat/completions"),
            ("/api/v1/chat/completions", "/v1/chat/completions"),
            ("/v1/chat/completion", "/v1/chat/completions"),
            ("/v1/chat", "/v1/chat/completions"),
            ("/v1/responses", "/v1/chat/completions"),
            ("/v1/messages", "/v1/chat/completions"),
            ("/api/chat", "/v1/chat/completions"),
            ("/completions", "/v1/completions"),
            ("/embeddings/", "/v1/embeddings"),
            ("/models", "/v1/models"),
            ("/api/tags", "/v1/models"),
            ("/v1/models/", "/v1/models"),
            ("/v1/models/gpt/", "/v1/models/{idOrName}"),
            ("/models/gpt", "/v1/models/{idOrName}"),
            ("/api/v1/llms/gpt/infer/", "/api/v1/llms/{idOrName}/infer"),
            ("/healthz/", "/healthz"),
            ("/health", "/healthz"),
        ] {
            assert_eq!(nearest(written, &ADDRESSES), Some(meant), "{written}");
        }
        for nothing in ["/", "", "/nothing/here", "/v1", "/v2/audio/speech", "/admin", &"/v1".repeat(1000)] {
            assert_eq!(nearest(nothing, &ADDRESSES), None, "{nothing}");
        }
    }

    #[test]
    fn distance_counts_letters() {
        for (a, b, wrong) in
            [("", "", 0), ("abc", "abc", 0), ("abc", "abd", 1), ("abc", "ab", 1), ("", "xy", 2)]
        {
            assert_eq!((distance(a, b), distance(b, a)), (wrong, wrong), "{a} {b}");
        }
    }
}
