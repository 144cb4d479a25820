//! An engine for tests: speaks just enough of llama-server and vLLM, and does what the lines of its model file say.
//!
//! `load MS` stays at 503 for so long, `exit CODE TEXT` ends at once, `unready` refuses every completion, `crash` ends
//! with code 0 at the first chat, `child` starts a process that ignores SIGTERM, `stray` one in a session of its own,
//! `die CODE TEXT` ends after that, `taken` finds its port taken at the first start, `shy` never listens, `restless`
//! cannot sleep, `hang` answers nothing any more once there is a file `MODEL.hang`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    process::{Command, Stdio, exit},
    time::{Duration, Instant},
};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let after = |flag: &str| args[args.iter().position(|arg| arg == flag).unwrap() + 1].clone();
    let vllm = args.get(1).is_some_and(|arg| arg == "serve");
    let (model, port) = (if vllm { args[2].clone() } else { after("-m") }, after("--port"));
    let script = std::fs::read_to_string(&model).unwrap();
    let key = std::env::var(if vllm { "VLLM_API_KEY" } else { "LLAMA_API_KEY" }).unwrap();
    let sleeps = args.iter().any(|arg| arg == "--enable-sleep-mode")
        && std::env::var("VLLM_SERVER_DEV_MODE").is_ok_and(|value| value == "1")
        && !script.contains("restless");
    let mut asleep = false;
    eprintln!("fake engine on port {port} with key {key}");
    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(format!("{model}.starts"))
        .and_then(|mut file| writeln!(file, "{}", std::process::id()))
        .unwrap();
    let starts = std::fs::read_to_string(format!("{model}.starts")).unwrap().lines().count();
    let says = |word: &str| script.lines().find_map(|line| line.strip_prefix(word)).map(str::trim);
    if let Some((code, text)) = says("exit").and_then(|rest| rest.split_once(' ')) {
        eprintln!("{text}");
        exit(code.parse().unwrap());
    }
    if says("child").is_some() {
        #[expect(clippy::zombie_processes, reason = "being left behind is what it is for")]
        let mut left_behind = Command::new("sh")
            .args(["-c", "trap '' TERM; echo deaf; exec sleep 600 >&-"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        BufReader::new(left_behind.stdout.take().unwrap()).read_line(&mut said).unwrap();
    }
    if says("stray").is_some() {
        #[expect(clippy::zombie_processes, reason = "being left behind is what it is for")]
        let stray = Command::new("setsid").args(["sh", "-c", "trap '' TERM; sleep 600"]).spawn().unwrap();
        std::fs::write(format!("{model}.stray"), stray.id().to_string()).unwrap();
    }
    if let Some((code, text)) = says("die").and_then(|rest| rest.split_once(' ')) {
        eprintln!("{text}");
        exit(code.parse().unwrap());
    }
    if says("shy").is_some() {
        std::fs::write(format!("{model}.port"), &port).unwrap();
        loop {
            std::thread::park();
        }
    }
    // Somebody was quicker, and what follows is the system's own complaint.
    let quicker =
        (says("taken").is_some() && starts == 1).then(|| TcpListener::bind(format!("127.0.0.1:{port}")));
    let load = Duration::from_millis(says("load").map_or(0, |ms| ms.parse().unwrap()));
    let begun = Instant::now();
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).unwrap();
    drop(quicker);
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                break;
            }
        }
        let length = head
            .to_lowercase()
            .split_once("content-length: ")
            .map_or(0, |(_, rest)| rest.lines().next().unwrap().trim().parse().unwrap());
        let mut body = vec![0; length];
        let _ = reader.read_exact(&mut body);
        if says("hang").is_some() && std::path::Path::new(&format!("{model}.hang")).exists() {
            std::mem::forget(stream);
            continue;
        }
        if sleeps && (head.starts_with("POST /sleep?level=1 ") || head.starts_with("POST /wake_up ")) {
            asleep = head.starts_with("POST /sleep");
            eprintln!("{}", if asleep { "falls asleep" } else { "wakes" });
            let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            continue;
        }
        let known = head.contains(&format!("Bearer {key}"));
        let status = if begun.elapsed() < load {
            "503 Service Unavailable"
        } else if head.starts_with("GET /health") {
            "200 OK"
        } else if !known {
            "401 Unauthorized"
        } else if head.starts_with("POST /sleep") || head.starts_with("POST /wake_up") {
            "404 Not Found"
        } else if says("unready").is_some() || asleep {
            "500 Internal Server Error"
        } else {
            "200 OK"
        };
        if head.starts_with("POST /v1/chat") && says("crash").is_some() {
            exit(0);
        }
        let answer = r#"{"choices":[{"text":"x","finish_reason":"length"}]}"#;
        let _ = write!(
            stream,
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{answer}",
            answer.len()
        );
    }
}
