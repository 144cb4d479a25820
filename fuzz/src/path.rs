//! The segment of a path that names an Llm, as an agent writes it, as a router reads it, and as a URL parser between them would
//! write it anew.

use axum::{
    Router,
    body::Body,
    extract::Path,
    http::{Request, Uri},
    response::{IntoResponse as _, Response},
    routing::any,
};
use futures::FutureExt as _;
use mcpctl_api::{Id, Kind, Name};
use mcpctl_failover::{Bearer, ProbeRequest};
use tower_service::Service as _;
use url::Url;

const BASE: &str = "https://mcpd.example.com";
/// Of one segment.
const MAX_SEGMENT: usize = 2048;

/// A text is an id or a name, never both; a probe about any text asks exactly about that text, or about nothing that exists;
/// and no way of writing a path leads to another Llm than the one that a URL parser on the way would read.
pub fn run(data: &[u8]) {
    let data = data.get(..MAX_SEGMENT).unwrap_or(data);
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
    assert!(!segment.contains(['/', '\\', '?', '#']), "{path}");
    assert_eq!(normalized(&path).as_deref(), Some(&*path), "the path is folded away");
    match routed(&path) {
        Some((kind, asked)) => {
            assert_eq!(kind, "llms");
            assert!(asked == text || !exists(&asked), "a probe about {text:?} asks about {asked:?}");
        }
        None => assert!(!exists(&text), "{text:?} is not asked about"),
    }
    // The text as part of a path that a stranger wrote.
    for path in [format!("/api/v1/llms/{text}"), format!("/api/v1/{text}"), text] {
        let (Some(one), Some(other)) = (routed(&path), normalized(&path).and_then(|path| routed(&path)))
        else {
            continue;
        };
        assert!(one == other || !is_resource(&one) || !is_resource(&other), "{path}: {one:?}, {other:?}");
    }
}

fn is_resource((kind, asked): &(String, String)) -> bool {
    Kind::RESOURCES.iter().any(|known| known.plural() == kind) && exists(asked)
}

/// Whether an Llm may be called so.
fn exists(text: &str) -> bool {
    text.parse::<Id>().is_ok() || text.parse::<Name>().is_ok()
}

/// The path as a URL parser writes it.
fn normalized(path: &str) -> Option<String> {
    Url::parse(BASE).ok()?.join(path).ok().map(|url| url.path().to_owned())
}

#[derive(Clone)]
struct Segments(String, String);

/// Kind and Llm, as the router of mcpd hands them to its handler.
fn routed(path: &str) -> Option<(String, String)> {
    async fn segments(Path((kind, asked)): Path<(String, String)>) -> Response {
        let mut response = ().into_response();
        response.extensions_mut().insert(Segments(kind, asked));
        response
    }
    let uri: Uri = path.parse().ok()?;
    let mut router: Router = Router::new().route("/api/v1/{kind}/{idOrName}", any(segments));
    let request = Request::builder().uri(uri).body(Body::empty()).ok()?;
    let response = router.call(request).now_or_never().expect("nothing waits").ok()?;
    let Segments(kind, asked) = response.extensions().get()?;
    Some((kind.clone(), asked.clone()))
}
