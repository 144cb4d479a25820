//! The segment of a path that names an Llm.

use mcpctl_api::{Id, Name};
use mcpctl_failover::{Bearer, ProbeRequest};
use url::Url;

/// A text is an id or a name, never both; and a probe stays below the Llms, whatever it asks about.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data).into_owned();
    let (id, name) = (text.parse::<Id>(), text.parse::<Name>());
    assert!(id.is_err() || name.is_err(), "{text:?} is an id and a name");
    for parsed in
        [id.map(|id| id.to_string()).ok(), name.map(|name| name.to_string()).ok()].into_iter().flatten()
    {
        assert_eq!(parsed, text);
    }
    let path = ProbeRequest { llm: text.clone(), bearer: Bearer::new("a") }.path();
    let segment = path.strip_prefix("/api/v1/llms/").unwrap_or_else(|| panic!("{path}"));
    assert!(!segment.is_empty() && !segment.contains(['/', '\\', '?', '#']), "{path}");
    let base = Url::parse("https://mcpd.example.com/").unwrap();
    assert_eq!(base.join(&path).unwrap().path(), path, "the path is folded away");
}
