//! Floods over HTTP/2: the daemon stays responsive to others, and its memory stays bounded.

use std::time::{Duration, Instant};

use mcpctl_testkit::{daemons::within, process};
use reqwest::StatusCode;

use super::{
    frames::{
        CONTINUATION, Connection, DATA, END_HEADERS, END_STREAM, HEADERS, PING, PRIORITY, RST_STREAM,
        SETTINGS, WHOLE, WINDOW_UPDATE, field, frame, indexed_field, request,
    },
    support::{World, for_each},
};

/// How long one flood goes on.
const FLOOD: Duration = Duration::from_millis(400);
/// The most that one connection sends.
const MAX_SENT: usize = 8 << 20;
/// Connections of a flood.
const CONNECTIONS: usize = 3;
/// How long another caller may wait meanwhile, on a slow machine too.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(3);
/// How much the daemon may grow, over all floods: allocators keep some of what was freed.
const MAX_GROWTH: u64 = 96 << 20;

/// What one connection sends again and again, after what it sends once.
struct Flood {
    name: &'static str,
    once: Vec<u8>,
    /// Given the number of the repetition, from 0.
    again: Box<dyn Fn(u32) -> Vec<u8>>,
    /// Whether the client reads what the server sends.
    reads: bool,
    /// Whether the server must end the connection: it costs more than it is worth.
    ends: bool,
}

fn flood(name: &'static str, once: Vec<u8>, again: impl Fn(u32) -> Vec<u8> + 'static) -> Flood {
    Flood { name, once, again: Box::new(again), reads: true, ends: false }
}

impl Flood {
    fn ends(self) -> Self {
        Self { ends: true, ..self }
    }

    fn unread(self) -> Self {
        Self { reads: false, ..self }
    }
}

/// The streams of a client are odd.
fn stream(number: u32) -> u32 {
    2 * number + 1
}

fn floods(authority: &str, token: &str) -> Vec<Flood> {
    let bearer = field("authorization", &format!("Bearer {token}"));
    let get = |path: &str| [request("GET", path, authority), bearer.clone()].concat();
    let post = [request("POST", "/v1/chat/completions", authority), bearer.clone()].concat();
    let whoami = get("/api/v1/auth/whoami");
    let junk = field("x-junk", &"j".repeat(16_000));
    let entry = indexed_field("x-bomb", &"b".repeat(3_900));
    let references = vec![0x80 | 62; 8_000];
    let settings = |id: u16, value: u32| [&id.to_be_bytes()[..], &value.to_be_bytes()[..]].concat();
    let open = frame(HEADERS, END_HEADERS, 1, &post);
    let (reset, zero) = ([0, 0, 0, 8], [0; 4]);
    vec![
        {
            let whoami = whoami.clone();
            flood("rapid reset", Vec::new(), move |n| {
                [frame(HEADERS, WHOLE, stream(n), &whoami), frame(RST_STREAM, 0, stream(n), reset)].concat()
            })
            .ends()
        },
        {
            let post = post.clone();
            flood("resets that the server is made to send", Vec::new(), move |n| {
                [frame(HEADERS, END_HEADERS, stream(n), &post), frame(WINDOW_UPDATE, 0, stream(n), zero)]
                    .concat()
            })
            .ends()
        },
        {
            let whoami = whoami.clone();
            flood("CONTINUATION without end", frame(HEADERS, END_STREAM, 1, &whoami), move |_| {
                frame(CONTINUATION, 0, 1, &junk)
            })
            .ends()
        },
        flood("empty CONTINUATION", frame(HEADERS, END_STREAM, 1, &whoami), |_| {
            frame(CONTINUATION, 0, 1, [])
        })
        .ends(),
        {
            let (get, once) = (whoami.clone(), [whoami.clone(), entry].concat());
            flood("references to a large field", frame(HEADERS, WHOLE, 1, once), move |n| {
                frame(HEADERS, WHOLE, stream(n + 1), [get.clone(), references.clone()].concat())
            })
        },
        flood("SETTINGS", Vec::new(), |_| frame(SETTINGS, 0, 0, [])),
        flood("SETTINGS, unread", Vec::new(), |_| frame(SETTINGS, 0, 0, [])).unread(),
        flood("table sizes", Vec::new(), move |n| {
            frame(SETTINGS, 0, 0, settings(1, if n % 2 == 0 { 0 } else { u32::MAX }))
        }),
        flood("window sizes", open.clone(), move |n| frame(SETTINGS, 0, 0, settings(4, n % 2 * 0x7fff_ffff))),
        flood("PING", Vec::new(), |n| frame(PING, 0, 0, u64::from(n).to_be_bytes())),
        flood("PING, unread", Vec::new(), |n| frame(PING, 0, 0, u64::from(n).to_be_bytes())).unread(),
        flood("PRIORITY", Vec::new(), |n| frame(PRIORITY, 0, stream(n), [0, 0, 0, 0, 16])),
        flood("WINDOW_UPDATE", Vec::new(), |_| frame(WINDOW_UPDATE, 0, 0, [0, 0, 0, 1])),
        flood("windows that overflow", Vec::new(), |_| frame(WINDOW_UPDATE, 0, 0, [0x7f, 0xff, 0xff, 0xff]))
            .ends(),
        flood("empty DATA", open.clone(), |_| frame(DATA, 0, 1, [])),
        flood("DATA beyond the window", open, |_| frame(DATA, 0, 1, [b' '; 16_384])),
        flood("unknown frames", Vec::new(), |_| frame(0xee, 0xff, 0, [0; 16_384])),
        flood("streams without end", Vec::new(), move |n| frame(HEADERS, END_HEADERS, stream(n), &post)),
        flood("streams without end, unread", Vec::new(), {
            let whoami = whoami.clone();
            move |n| frame(HEADERS, WHOLE, stream(n), &whoami)
        })
        .unread(),
        flood("a window of nothing", frame(SETTINGS, 0, 0, settings(4, 0)), {
            let document = get("/openapi.json");
            move |n| frame(HEADERS, WHOLE, stream(n), &document)
        }),
        flood("frames that are too large", Vec::new(), |_| frame(DATA, 0, 1, vec![0; 1 << 20])).ends(),
        flood("responses and pushes", Vec::new(), |n| frame(5, END_HEADERS, stream(n), [0, 0, 0, 2, 0x88]))
            .ends(),
    ]
}

/// Sends one flood over one connection; answers whether the server ended it.
async fn attack(address: &str, flood: &Flood) -> bool {
    let mut connection = Connection::open(address).await;
    let begun = Instant::now();
    let mut sent = 0;
    let mut batch = flood.once.clone();
    let mut number = 0;
    while begun.elapsed() < FLOOD && sent < MAX_SENT {
        while batch.len() < 32 << 10 {
            batch.extend((flood.again)(number));
            number += 1;
        }
        if !connection.write(&batch, FLOOD).await {
            break;
        }
        sent += batch.len();
        batch.clear();
        if flood.reads {
            while connection.read(Duration::from_micros(200)).await {}
        }
    }
    !flood.ends || connection.is_closed(RESPONSE_TIMEOUT).await
}

/// Fails where another caller is kept waiting.
async fn assert_responsive(world: &World, name: &str) {
    for path in ["/healthz", "/api/v1/llms/open"] {
        let begun = Instant::now();
        let asked = tokio::time::timeout(RESPONSE_TIMEOUT, world.mcpd.get(path, &world.alice)).await;
        let status = asked.unwrap_or_else(|_| panic!("{name}: {path} has no answer")).status();
        assert_eq!(status, StatusCode::OK, "{name}: {path} after {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn http2_floods_leave_the_daemon_responsive() {
    let world = World::new().await;
    let address = world.mcpd.url().trim_start_matches("http://").to_owned();
    let pid = world.mcpd.pid();
    assert_responsive(&world, "before").await;
    let (memory, descriptors) = (process::resident_bytes(pid), process::descriptors(pid).len());
    for flood in floods(&address, &world.alice) {
        let attacks = futures::future::join_all((0..CONNECTIONS).map(|_| attack(&address, &flood)));
        let beside = async {
            for _ in 0..3 {
                assert_responsive(&world, flood.name).await;
            }
        };
        let (ended, ()) = tokio::join!(attacks, beside);
        assert!(ended.iter().all(|ended| *ended), "{}: the connection stays open", flood.name);
        let grown = process::resident_bytes(pid).saturating_sub(memory);
        assert!(grown < MAX_GROWTH, "{}: the daemon grew by {} MiB", flood.name, grown >> 20);
    }
    within(Duration::from_secs(20), "the connections' descriptors are closed", async || {
        (process::descriptors(pid).len() <= descriptors + 8).then_some(())
    })
    .await;
    assert!(world.provider.inferences().is_empty(), "a request without its body was sent on");
}

#[tokio::test]
async fn malformed_http2_requests_get_no_answer() {
    let world = World::new().await;
    let authority = world.mcpd.url().trim_start_matches("http://").to_owned();
    let path = "/api/v1/auth/whoami";
    let credential = format!("Bearer {}", world.admin);
    let bearer = field("authorization", &credential);
    let good = [request("GET", path, &authority), bearer.clone()].concat();
    let with = |more: Vec<u8>| [good.clone(), more].concat();
    let pseudo = |fields: &[(&str, &str)]| {
        let fields: Vec<_> = fields.iter().map(|(name, value)| field(name, value)).collect();
        [fields.concat(), bearer.clone()].concat()
    };
    let (get, http) = ((":method", "GET"), (":scheme", "http"));
    let rows = [
        ("an upper-case name", with(field("X-Upper", "a"))),
        (
            "an upper-case credential",
            [request("GET", path, &authority), field("Authorization", &credential)].concat(),
        ),
        ("two credentials", with(bearer.clone())),
        ("connection", with(field("connection", "close"))),
        ("transfer-encoding", with(field("transfer-encoding", "chunked"))),
        ("keep-alive", with(field("keep-alive", "1"))),
        ("upgrade", with(field("upgrade", "h2c"))),
        ("proxy-connection", with(field("proxy-connection", "close"))),
        ("te", with(field("te", "gzip"))),
        ("a line end in a value", with(field("x", "a\r\nauthorization: b"))),
        ("a NUL in a value", with(field("x", "a\0b"))),
        ("a colon in a name", with(field("x:y", "a"))),
        ("a space in a name", with(field("x y", "a"))),
        ("an empty name", with(field("", "a"))),
        ("a pseudo-header behind a header", with(field(":path", "/healthz"))),
        (
            "an unknown pseudo-header",
            pseudo(&[get, http, (":authority", &authority), (":path", path), (":user", "admin")]),
        ),
        ("a status", pseudo(&[get, http, (":authority", &authority), (":path", path), (":status", "200")])),
        (
            "two paths",
            pseudo(&[get, http, (":authority", &authority), (":path", "/healthz"), (":path", path)]),
        ),
        (
            "two methods",
            pseudo(&[get, (":method", "POST"), http, (":authority", &authority), (":path", path)]),
        ),
        ("no path", pseudo(&[get, http, (":authority", &authority)])),
        ("an empty path", pseudo(&[get, http, (":authority", &authority), (":path", "")])),
        ("no method", pseudo(&[http, (":authority", &authority), (":path", path)])),
        ("no scheme", pseudo(&[get, (":authority", &authority), (":path", path)])),
        (
            "a path with a space",
            pseudo(&[get, http, (":authority", &authority), (":path", "/api/v1/auth/whoami x")]),
        ),
        (
            "a path with a line end",
            pseudo(&[get, http, (":authority", &authority), (":path", "/api/v1/auth/whoami\r\n")]),
        ),
        (
            "a method with a line end",
            pseudo(&[(":method", "GET\r\n"), http, (":authority", &authority), (":path", path)]),
        ),
        ("two lengths", with([field("content-length", "0"), field("content-length", "1")].concat())),
        ("a length without a body", with(field("content-length", "5"))),
        ("a negative length", with(field("content-length", "-1"))),
        ("no credential", request("GET", path, &authority)),
    ];
    for_each(rows, async |(what, block)| {
        assert!(!succeeds(&authority, &block).await, "{what}: 200");
    })
    .await;
    assert!(succeeds(&authority, &good).await, "a plain request is answered");
}

/// Whether a request of this header block is answered with 200.
async fn succeeds(address: &str, block: &[u8]) -> bool {
    let mut connection = Connection::open(address).await;
    assert!(connection.write(&frame(HEADERS, WHOLE, 1, block), RESPONSE_TIMEOUT).await);
    while !connection.has_success() && connection.read(Duration::from_millis(400)).await {}
    connection.has_success()
}
