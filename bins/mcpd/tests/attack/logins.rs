//! Signing in: work without a credential, throttling, guessing.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use futures::future::join_all;
use mcpctl_testkit::{
    daemons::{Mcpd, McpdOptions},
    postgres::Postgres,
};
use reqwest::{Client, Response, StatusCode, header::RETRY_AFTER};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

const PASSWORD: &str = "correct horse battery";

async fn start(config: &str) -> Mcpd {
    let options = McpdOptions { config: Some(config.to_owned()), ..McpdOptions::default() };
    let mcpd = Mcpd::start_with(options).await;
    set_password(&mcpd, "carol", PASSWORD).await;
    mcpd
}

async fn set_password(mcpd: &Mcpd, user: &str, password: &str) {
    mcpd.apply(json!([{"kind": "User", "name": user, "password": password}])).await;
}

/// A client with an address of its own on this machine.
fn client(address: &str) -> Client {
    let address: IpAddr = address.parse().unwrap();
    Client::builder().no_proxy().local_address(address).build().unwrap()
}

async fn login(client: &Client, mcpd: &Mcpd, user: &str, password: &str) -> Response {
    let url = format!("{}/api/v1/auth/login", mcpd.url());
    client.post(url).json(&json!({"user": user, "password": password})).send().await.unwrap()
}

async fn statuses(client: &Client, mcpd: &Mcpd, names: &[String], password: &str) -> Vec<u16> {
    let attempts = names.iter().map(async |name| login(client, mcpd, name, password).await.status().as_u16());
    join_all(attempts).await
}

fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}-{number}")).collect()
}

fn count(statuses: &[u16], status: u16) -> usize {
    statuses.iter().filter(|other| **other == status).count()
}

/// Processor time that a process has used, in ticks of 10 ms.
fn processor_time(mcpd: &Mcpd) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", mcpd.pid())).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// Of a process: threads, and resident memory in MiB.
fn usage(mcpd: &Mcpd) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{}/status", mcpd.pid())).unwrap();
    let field = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    (field("Threads:"), field("VmRSS:") / 1024)
}

#[tokio::test]
async fn logins_that_hang_up_cost_a_few_hashes() {
    let mcpd = start("").await;
    let address: SocketAddr = mcpd.url().trim_start_matches("http://").parse().unwrap();
    let ((_, before), before_time) = (usage(&mcpd), processor_time(&mcpd));
    let mut peak = (0, 0);
    for wave in 0..8 {
        let mut open = Vec::new();
        for number in 0..40 {
            let body =
                json!({"user": format!("n{wave}-{number}"), "password": "wrong wrong wrong"}).to_string();
            let head = format!(
                "POST /api/v1/auth/login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all((head + &body).as_bytes()).await.unwrap();
            open.push(stream);
        }
        for stream in open {
            // Each hash has begun or is about to when its caller hangs up.
            tokio::time::sleep(Duration::from_millis(2)).await;
            drop(stream);
        }
        let (threads, memory) = usage(&mcpd);
        peak = (peak.0.max(threads), peak.1.max(memory));
    }
    assert!(peak.0 < 20 && peak.1 < before + 100, "{before} MiB became {peak:?} (threads, MiB)");
    assert_eq!(login(&client("127.0.0.2"), &mcpd, "carol", PASSWORD).await.status(), StatusCode::CREATED);
    let spent = processor_time(&mcpd) - before_time;
    assert!(spent < 400, "320 hashes would take 800 ticks and more, these took {spent}");
}

#[tokio::test]
async fn attempts_beyond_the_queue_get_a_retry_after() {
    let limits = "limits: {logins: {hashers: 1, waiting: 2, perNetwork: {burst: 1000, every: 1s}}}";
    let mcpd = start(limits).await;
    let http = client("127.0.0.1");
    let names = names("n", 40);
    let attempts = names.iter().map(async |name| login(&http, &mcpd, name, "wrong wrong").await);
    let answers = join_all(attempts).await;
    let busy: Vec<&Response> =
        answers.iter().filter(|answer| answer.status() == StatusCode::TOO_MANY_REQUESTS).collect();
    assert!(!busy.is_empty() && busy.len() < 40, "{} of 40", busy.len());
    assert!(busy.iter().all(|answer| answer.headers()[RETRY_AFTER] == "1"));
    // Another network still gets a turn when one network fills the queue.
    let flood = async { join_all(names.iter().map(|name| login(&http, &mcpd, name, "wrong wrong"))).await };
    let other = client("127.0.0.2");
    let (_, carol) = tokio::join!(flood, login(&other, &mcpd, "carol", PASSWORD));
    assert_eq!(carol.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn too_long_passwords_are_refused_before_hashing() {
    let mcpd = start("").await;
    let http = client("127.0.0.1");
    login(&http, &mcpd, "nobody", "wrong wrong").await;
    let ((_, before), before_time) = (usage(&mcpd), processor_time(&mcpd));
    for number in 0..200 {
        let (name, password) = (format!("{number}{}", "x".repeat(3000)), "y".repeat(1100));
        let (long_name, long_password) =
            (login(&http, &mcpd, &name, "wrong wrong"), login(&http, &mcpd, "carol", &password));
        for answer in [long_name.await, long_password.await] {
            assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
            let body: Value = answer.json().await.unwrap();
            assert_eq!(body["error"]["message"], "user or password is wrong");
        }
    }
    let spent = processor_time(&mcpd) - before_time;
    assert!(spent < 500, "400 hashes would take 1000 ticks and more, these took {spent}");
    let (_, after) = usage(&mcpd);
    assert!(after < before + 20, "{before} MiB became {after} MiB");
    assert_eq!(
        login(&http, &mcpd, "carol", PASSWORD).await.status(),
        StatusCode::CREATED,
        "none was counted"
    );
}

#[tokio::test]
async fn invented_names_do_not_block_the_right_password() {
    let mcpd = start("").await;
    let http = client("127.0.0.1");
    let made_up = names("made-up", 200);
    let flood = statuses(&http, &mcpd, &made_up, "wrong wrong");
    let others = async {
        let during = login(&http, &mcpd, "carol", PASSWORD).await.status();
        let elsewhere = login(&client("127.0.0.2"), &mcpd, "carol", PASSWORD).await.status();
        (during, elsewhere)
    };
    let (flood, others) = tokio::join!(flood, others);
    assert_eq!(others, (StatusCode::CREATED, StatusCode::CREATED));
    assert!(count(&flood, 429) > 150 && count(&flood, 401) <= 30, "{flood:?}");
    assert_eq!(login(&http, &mcpd, "carol", PASSWORD).await.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn wrong_guesses_do_not_lock_a_person_out() {
    // So rare that none comes back while the test runs: what is beyond the burst is refused.
    let mcpd = start("limits: {logins: {perName: {burst: 5, every: 1h}}}").await;
    let (guesser, elsewhere) = (client("127.0.0.1"), client("127.0.0.2"));
    let guesses = async |client: &Client, count: usize| {
        for _ in 0..count {
            assert_eq!(login(client, &mcpd, "carol", "wrong wrong").await.status(), StatusCode::UNAUTHORIZED);
        }
    };
    guesses(&guesser, 5).await;
    assert_eq!(login(&guesser, &mcpd, "carol", PASSWORD).await.status(), StatusCode::TOO_MANY_REQUESTS);
    guesses(&elsewhere, 4).await;
    assert_eq!(login(&elsewhere, &mcpd, "carol", PASSWORD).await.status(), StatusCode::CREATED);
    // A success gives the attempts back.
    guesses(&elsewhere, 5).await;
    assert_eq!(login(&elsewhere, &mcpd, "carol", PASSWORD).await.status(), StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn concurrent_guesses_are_refused_with_a_retry_after() {
    let mcpd = start("limits: {logins: {perName: {burst: 2, every: 30s}}}").await;
    let http = client("127.0.0.1");
    for _ in 0..2 {
        assert_eq!(login(&http, &mcpd, "carol", "wrong wrong").await.status(), StatusCode::UNAUTHORIZED);
    }
    let refused = login(&http, &mcpd, "carol", PASSWORD).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    let seconds: u64 = refused.headers()[RETRY_AFTER].to_str().unwrap().parse().unwrap();
    assert!((15..=20).contains(&seconds), "it is held for 10 of 30 s: {seconds}");
    let body: Value = refused.json().await.unwrap();
    let message = body["error"]["message"].as_str().unwrap();
    assert!(message.ends_with(&format!("try again in {seconds} s")), "{message}");
}

#[tokio::test]
async fn spraying_one_guess_over_many_names_is_slowed() {
    let mcpd = start("limits: {logins: {perNetwork: {burst: 8, every: 1m}}}").await;
    let users: Vec<Value> = names("user", 30)
        .iter()
        .map(|name| json!({"kind": "User", "name": name, "password": "Winter2026-27!"}))
        .collect();
    mcpd.apply(Value::Array(users)).await;
    let http = client("127.0.0.1");
    let wrong = statuses(&http, &mcpd, &names("user", 30), "Summer2026-27!").await;
    assert_eq!((count(&wrong, 401), count(&wrong, 429)), (8, 22), "{wrong:?}");
    // Of those beyond the rate a few are verified without showing; they used that up.
    let right = statuses(&http, &mcpd, &names("user", 30), "Winter2026-27!").await;
    assert_eq!(count(&right, 429), 30, "{right:?}");
    let elsewhere = login(&client("127.0.0.2"), &mcpd, "user-0", "Winter2026-27!").await;
    assert_eq!(elsewhere.status(), StatusCode::CREATED);
}

/// Neither answers nor times reveal whether a user exists, whatever was tried before.
#[tokio::test]
async fn existing_and_made_up_names_look_the_same() {
    let mcpd =
        start("limits: {logins: {perName: {burst: 2, every: 5s}, perNetwork: {burst: 6, every: 30s}}}").await;
    let mut answers = Vec::new();
    for (address, name) in [("127.0.0.3", "carol"), ("127.0.0.4", "made-up")] {
        let http = client(address);
        let mut seen = Vec::new();
        for number in 0..9 {
            // Four at the name, one of them held; then the network is used up.
            let name = if !(3..=6).contains(&number) { name.to_owned() } else { format!("other-{number}") };
            let begun = Instant::now();
            let answer = login(&http, &mcpd, &name, "wrong wrong").await;
            let took = begun.elapsed();
            let status = answer.status().as_u16();
            let waits = answer.headers().contains_key(RETRY_AFTER);
            let body: Value = answer.json().await.unwrap();
            // The seconds to wait differ by when it is asked.
            let message = body["error"]["message"].as_str().unwrap().split(" in ").next().unwrap().to_owned();
            // One is held for its turn, and those beyond the network's rate are all answered at the same time.
            let least = match number {
                2 => 500,
                6.. => 1990,
                _ => 0,
            };
            assert!(took.as_millis() >= least, "{number}: {took:?}");
            seen.push((status, waits, message));
        }
        answers.push(seen);
    }
    assert_eq!(answers[0], answers[1]);
    let statuses: Vec<u16> = answers[0].iter().map(|(status, ..)| *status).collect();
    assert_eq!(statuses, [401, 401, 401, 401, 401, 401, 429, 429, 429]);
}

#[tokio::test]
async fn a_new_password_lifts_the_throttle_on_every_replica() {
    let postgres = Postgres::start();
    let config = "limits: {logins: {perName: {burst: 8, every: 1h}}}".to_owned();
    let options =
        McpdOptions { database_url: Some(postgres.url()), config: Some(config), ..McpdOptions::default() };
    let key = tempfile::tempdir().unwrap();
    let file = key.path().join("master-key");
    mcpctl_secret::master_key_file::load_or_create(&file, mcpctl_secret::master_key_file::IfMissing::Create)
        .unwrap();
    let options = McpdOptions { master_key_file: Some(file), ..options };
    let (one, other) = (Mcpd::start_with(options.clone()).await, Mcpd::start_with(options).await);
    set_password(&one, "carol", PASSWORD).await;
    let http = client("127.0.0.1");
    for _ in 0..8 {
        assert_eq!(login(&http, &one, "carol", "wrong wrong").await.status(), StatusCode::UNAUTHORIZED);
    }
    // The other replica knows within the time in which counts are grouped.
    let mut more = 0;
    while login(&http, &other, "carol", "wrong wrong").await.status() == StatusCode::UNAUTHORIZED {
        more += 1;
    }
    assert!(more < 8, "{more} more guesses: each replica counts alone");
    assert_eq!(login(&http, &other, "carol", PASSWORD).await.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(login(&client("127.0.0.2"), &other, "carol", PASSWORD).await.status(), StatusCode::CREATED);

    set_password(&one, "carol", "another horse battery").await;
    for mcpd in [&one, &other] {
        let status = login(&http, mcpd, "carol", "another horse battery").await.status();
        assert_eq!(status, StatusCode::CREATED);
    }
}

#[tokio::test]
async fn counts_outlive_a_restart() {
    let mut mcpd = start("limits: {logins: {perName: {burst: 2, every: 1h}}}").await;
    let http = client("127.0.0.1");
    for _ in 0..2 {
        assert_eq!(login(&http, &mcpd, "carol", "wrong wrong").await.status(), StatusCode::UNAUTHORIZED);
    }
    mcpd.terminate();
    assert!(mcpd.wait().success());
    mcpd.restart().await;
    assert_eq!(login(&http, &mcpd, "carol", PASSWORD).await.status(), StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn only_a_trusted_proxy_names_the_network() {
    let limits = "limits: {logins: {perNetwork: {burst: 2, every: 1h}}}";
    let forwarded = async |mcpd: &Mcpd, address: &str| {
        let url = format!("{}/api/v1/auth/login", mcpd.url());
        let body = json!({"user": "made-up", "password": "wrong wrong"});
        let request = client("127.0.0.1").post(url).header("x-forwarded-for", address).json(&body);
        request.send().await.unwrap().status().as_u16()
    };
    let addresses = ["203.0.113.1", "203.0.113.2", "203.0.113.3", "198.51.100.1, 203.0.113.4"];
    let open = start(limits).await;
    let mut seen = Vec::new();
    for address in addresses {
        seen.push(forwarded(&open, address).await);
    }
    assert_eq!(seen, [401, 401, 429, 429], "what a client writes counts for nothing");

    let trusting = start(&format!("trustedProxies: [127.0.0.1]\n{limits}")).await;
    let mut seen = Vec::new();
    for address in addresses {
        seen.push(forwarded(&trusting, address).await);
    }
    assert_eq!(seen, [401, 401, 401, 401]);
    // A client that names others before the proxy adds its address.
    let mut seen = Vec::new();
    for number in 0..2 {
        seen.push(forwarded(&trusting, &format!("198.51.100.{number}, 203.0.113.4")).await);
    }
    assert_eq!(seen, [401, 429]);
}

#[tokio::test]
async fn login_beyond_the_session_limit_ends_the_oldest() {
    let mcpd = start("limits: {logins: {sessions: 3}}").await;
    let http = client("127.0.0.1");
    let mut sessions = Vec::new();
    for _ in 0..5 {
        let issued: Value = login(&http, &mcpd, "carol", PASSWORD).await.json().await.unwrap();
        sessions.push(issued["token"].as_str().unwrap().to_owned());
    }
    let mut statuses = Vec::new();
    for session in &sessions {
        statuses.push(mcpd.get("/api/v1/auth/whoami", session).await.status().as_u16());
    }
    assert_eq!(statuses, [401, 401, 200, 200, 200]);
}
