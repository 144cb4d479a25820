//! Small requests that ask for much work: nesting, numbers, duplicate keys, surrogates, long arrays, compression.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use mcpctl_testkit::{daemons::program, process};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::support::{CLOSED_MODEL, Work, World};

/// How much the daemon may grow while it is sent bodies of some MiB, one after the other.
const MAX_GROWTH: u64 = 160 << 20;

/// Texts that are not JSON, or JSON that costs more than its length suggests.
fn bombs() -> Vec<(&'static str, Vec<u8>)> {
    let nested = |open: &str, inner: &str, close: &str, depth: usize| {
        [open.repeat(depth), inner.to_owned(), close.repeat(depth)].concat().into_bytes()
    };
    let object = |members: &str| format!("{{\"model\":\"open\",{members}}}").into_bytes();
    vec![
        ("arrays that never close", "[".repeat(200_000).into_bytes()),
        ("objects that never close", "{\"a\":".repeat(200_000).into_bytes()),
        ("nested arrays", nested("[", "", "]", 200_000)),
        ("nested objects", nested("{\"a\":", "1", "}", 200_000)),
        ("nested messages", object(&format!("\"messages\":{}{}", "[".repeat(150_000), "]".repeat(150_000)))),
        ("a long array", object(&format!("\"messages\":[{}0]", "0,".repeat(400_000)))),
        ("an array of empty objects", object(&format!("\"messages\":[{}{{}}]", "{},".repeat(200_000)))),
        (
            "many keys",
            object(
                &(0..200_000).map(|at| format!("\"k{at}\":0,")).chain(["\"z\":0".into()]).collect::<String>(),
            ),
        ),
        ("many duplicate keys", object(&format!("{}\"z\":0", "\"a\":0,".repeat(150_000)))),
        ("a long number", object(&format!("\"n\":{}", "9".repeat(400_000)))),
        ("a huge exponent", object("\"n\":1e999999999")),
        ("a tiny exponent", object("\"n\":1e-999999999")),
        ("a long fraction", object(&format!("\"n\":0.{}", "1".repeat(400_000)))),
        ("a negative count", object("\"n\":-1,\"max_tokens\":-9223372036854775809")),
        ("a long key", object(&format!("\"{}\":0", "k".repeat(1_000_000)))),
        ("a long model", format!("{{\"model\":\"{}\"}}", "m".repeat(1_000_000)).into_bytes()),
        ("escapes", object(&format!("\"messages\":\"{}\"", "\\u0000".repeat(150_000)))),
        ("a lone surrogate", object("\"messages\":\"\\ud800\"")),
        ("a lone surrogate in the model", br#"{"model":"\udc00open"}"#.to_vec()),
        ("not UTF-8", b"{\"model\":\"open\",\"messages\":\"\xff\xfe\"}".to_vec()),
        ("an overlong NUL", b"{\"model\":\"open\xc0\x80\"}".to_vec()),
        ("UTF-16", "\u{feff}{\"model\":\"open\"}".encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("a byte order mark", "\u{feff}{\"model\":\"closed\"}".into()),
        ("something after the end", b"{\"model\":\"open\"} {\"model\":\"closed\"}".to_vec()),
        ("comments", b"{/* */\"model\":\"closed\"}".to_vec()),
        ("NaN", object("\"temperature\":NaN")),
        ("NUL bytes", vec![0; 400_000]),
        ("spaces", vec![b' '; 1_000_000]),
        ("nothing", Vec::new()),
    ]
}

/// As long as the longest of the bombs, and nothing special.
fn plain() -> Vec<u8> {
    format!(r#"{{"model":"open","n":"{}"}}"#, "x".repeat(1_000_000)).into_bytes()
}

async fn send(
    world: &World,
    method: Method,
    path: &str,
    token: &str,
    what: &str,
    body: Vec<u8>,
) -> StatusCode {
    let most = 3 * body.len() + (64 << 10);
    let request =
        world.mcpd.request(method, path, token).header("content-type", "application/json").body(body);
    let answer = request.send().await.unwrap_or_else(|error| panic!("{what} at {path}: {error}"));
    assert!(!answer.status().is_server_error(), "{what} at {path}: {}", answer.status());
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    // An error may repeat what it is about; nothing is multiplied.
    assert!(text.len() < most, "{what} at {path}: an answer of {} bytes", text.len());
    status
}

#[tokio::test]
async fn bombs_in_inference_bodies_cost_little() {
    let world = World::new().await;
    let before = process::resident_bytes(world.mcpd.pid());
    let path = "/v1/chat/completions";
    let plain = async || {
        send(&world, Method::POST, path, &world.alice, "plain", plain()).await;
    };
    let work = Work::of_plain(&world.mcpd, plain).await;
    for (what, body) in bombs() {
        for path in ["/v1/chat/completions", "/api/v1/llms/open/infer"] {
            let sent = send(&world, Method::POST, path, &world.alice, what, body.clone());
            work.bounded(&format!("{what} at {path}"), sent).await;
        }
    }
    let grown = process::resident_bytes(world.mcpd.pid()).saturating_sub(before);
    assert!(grown < MAX_GROWTH, "the daemon grew by {} MiB", grown >> 20);
    let closed = |seen: &mcpctl_testkit::model_server::RecordedRequest| {
        String::from_utf8_lossy(&seen.body).contains(CLOSED_MODEL)
    };
    assert!(!world.provider.inferences().iter().any(closed));
    let healthy = world
        .mcpd
        .post("/v1/chat/completions", &world.alice, &json!({"model": "open", "messages": []}))
        .await;
    assert_eq!(healthy.status(), StatusCode::OK);
}

#[tokio::test]
async fn bombs_in_documents_cost_little_and_store_nothing() {
    let world = World::new().await;
    let revision = async || {
        let listed: Value = world.mcpd.get("/api/v1/users", &world.admin).await.json().await.unwrap();
        listed["revision"].clone()
    };
    let (stored, before) = (revision().await, process::resident_bytes(world.mcpd.pid()));
    let path = "/api/v1/apply";
    let plain = async || {
        send(&world, Method::POST, path, &world.admin, "plain", plain()).await;
    };
    let work = Work::of_plain(&world.mcpd, plain).await;
    for (what, body) in bombs() {
        for (method, path) in [
            (Method::POST, "/api/v1/apply"),
            (Method::POST, "/api/v1/users"),
            (Method::PUT, "/api/v1/llms/open"),
            (Method::POST, "/api/v1/tokens"),
            (Method::POST, "/api/v1/auth/can-i"),
        ] {
            let sent = send(&world, method, path, &world.admin, what, body.clone());
            let status = work.bounded(&format!("{what} at {path}"), sent).await;
            assert!(status.is_client_error(), "{what} at {path}: {status}");
        }
    }
    let grown = process::resident_bytes(world.mcpd.pid()).saturating_sub(before);
    assert!(grown < MAX_GROWTH, "the daemon grew by {} MiB", grown >> 20);
    assert_eq!(revision().await, stored);
}

/// What is authorized and what is sent are read from the same member.
#[tokio::test]
async fn duplicate_keys_do_not_name_a_second_llm() {
    let world = World::new().await;
    let bodies = [
        r#"{"model":"open","model":"closed","messages":[]}"#,
        r#"{"model":"closed","model":"open","messages":[]}"#,
        r#"{"model":"open","\u006dodel":"closed","messages":[]}"#,
        r#"{"\u006dodel":"closed","model":"open","messages":[]}"#,
        r#"{"model":"open","Model":"closed","MODEL":"closed","messages":[]}"#,
        r#"{"model":"open","model ":"closed","messages":[{"model":"closed"}]}"#,
        r#"{"model":{"model":"closed"},"model":"open","messages":[]}"#,
        r#"{"model":["closed"],"messages":[]}"#,
        r#"{"model":null,"model":"closed","messages":[]}"#,
    ];
    for body in bodies {
        for path in ["/v1/chat/completions", "/v1/completions", "/api/v1/llms/open/infer"] {
            let seen = world.provider.inferences().len();
            let request = world.mcpd.request(Method::POST, path, &world.alice).body(body);
            let status = request.header("content-type", "application/json").send().await.unwrap().status();
            for sent in &world.provider.inferences()[seen..] {
                let text = String::from_utf8_lossy(&sent.body).into_owned();
                let members: Vec<_> = text.match_indices("\"model\":\"").collect();
                assert!(text.contains("\"model\":\"open-model\""), "{body} at {path}: {text}");
                assert!(!text.contains(CLOSED_MODEL), "{body} at {path}: {text}");
                let escaped = text.contains("\\u006dodel");
                assert!(members.len() <= 2 && !escaped, "{body} at {path}: a second model is sent: {text}");
            }
            assert!(!status.is_server_error(), "{body} at {path}: {status}");
        }
    }
    // A duplicate key in a document could be read differently by a reviewer and by the store.
    let rules =
        |names: &str| format!("[{{\"kinds\":[\"llms\"],\"verbs\":[\"view\"],\"names\":[\"{names}\"]}}]");
    let role = format!("{{\"name\":\"doubled\",\"rules\":{},\"rules\":{}}}", rules("open"), rules("*"));
    let status =
        send(&world, Method::POST, "/api/v1/roles", &world.admin, "doubled rules", role.into_bytes()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let role =
        format!("[{{\"kind\":\"User\",\"kind\":\"Role\",\"name\":\"doubled\",\"rules\":{}}}]", rules("*"));
    let status =
        send(&world, Method::POST, "/api/v1/apply", &world.admin, "doubled kind", role.into_bytes()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

/// `{"model":"open","messages":[]}` and `{"name":"packed"}` by gzip.
const GZIPPED: [&[u8]; 2] = [
    b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xabV\xca\xcdOI\xcdQ\xb2R\xca/H\xcdS\xd2Q\xcaM-.NLO-V\xb2\x8a\x8e\xad\x05\x003\x073\x8f\x1e\x00\x00\x00",
    b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xabV\xcaK\xccMU\xb2R*HL\xceNMQ\xaa\x05\x00\xfc\xab\xea\xe9\x11\x00\x00\x00",
];

#[tokio::test]
async fn bodies_that_do_not_match_their_coding_are_refused() {
    let world = World::new().await;
    for coding in ["deflate", "br", "zstd", "compress", "gzip, gzip", "gzip, identity, zstd"] {
        for body in GZIPPED {
            for (path, token) in [("/v1/chat/completions", &world.alice), ("/api/v1/users", &world.admin)] {
                let request =
                    world.mcpd.request(Method::POST, path, token).header("content-encoding", coding);
                let answer =
                    request.header("content-type", "application/json").body(body).send().await.unwrap();
                assert!(answer.status().is_client_error(), "`{coding}` at {path}: {}", answer.status());
            }
        }
    }
    assert!(world.provider.inferences().is_empty());
    assert_eq!(world.mcpd.get("/api/v1/users/packed", &world.admin).await.status(), StatusCode::NOT_FOUND);
}

/// The YAML is read by the command line; a file from somewhere else must not take its user's machine.
#[tokio::test]
async fn yaml_bombs_end_the_command_soon() {
    let world = World::new().await;
    let dir = tempfile::tempdir().unwrap();
    let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..30 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        laughs.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
    }
    let rows = [
        ("aliases of aliases", format!("kind: User\nname: bomb\nlabels: {{}}\n{laughs}")),
        ("nested flow sequences", format!("kind: User\nname: bomb\nlabels: {}", "[".repeat(100_000))),
        ("nested flow mappings", format!("kind: User\nname: bomb\nlabels: {}", "{a: ".repeat(100_000))),
        ("nested block sequences", format!("kind: User\nname: bomb\nlabels:\n  {}x", "- ".repeat(50_000))),
        ("merge of itself", "kind: User\nname: bomb\nlabels: &l\n  <<: *l\n".to_owned()),
        ("a tag", "kind: User\nname: !!python/object/apply:os.system [\"true\"]\n".to_owned()),
        ("a long scalar", format!("kind: User\nname: bomb\ndisplayName: \"{}", "x".repeat(4 << 20))),
        ("duplicate keys", "kind: User\nname: other\nname: bomb\n".to_owned()),
    ];
    for (what, yaml) in rows {
        // A limit of the address space shows growth as a failure to allocate, which ends the process by a signal.
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -v 4000000; exec timeout 10 \"$@\"", "sh"]).arg(program("mcpctl"));
        command.args(["apply", "-f", "-"]).env("XDG_CONFIG_HOME", dir.path());
        command.env("MCPCTL_SERVER", world.mcpd.url()).env("MCPCTL_TOKEN", &world.admin);
        let child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let ended = tokio::task::spawn_blocking(move || {
            let mut child = child;
            let mut stdin = child.stdin.take().unwrap();
            // The command may end before it has read everything.
            let _ = stdin.write_all(yaml.as_bytes());
            drop(stdin);
            child.wait_with_output().unwrap()
        })
        .await
        .unwrap();
        let stderr = String::from_utf8_lossy(&ended.stderr);
        assert!(matches!(ended.status.code(), Some(1 | 2)), "{what}: {:?}: {stderr:.300}", ended.status);
        assert!(stderr.starts_with("error: "), "{what}: {stderr:.300}");
    }
    assert_eq!(world.mcpd.get("/api/v1/users/bomb", &world.admin).await.status(), StatusCode::NOT_FOUND);
}
