//! An engine for tests: implements just enough of llama-server and vLLM, scripted by the lines of its model file.
//!
//! `load MS` stays at 503 for so long, `hold` as long as there is a file `MODEL.hold`, `busy` completes no chat while there is a file `MODEL.busy`, `exit CODE TEXT` ends at once, `unready` refuses every completion, `embeds` completes nothing
//! and computes embeddings, `crash` ends
//! with code 0 at the first chat, `child` starts a process that ignores SIGTERM, `stray` one in a session of its own, `shares` one that
//! does so too and has shared memory,
//! `die CODE TEXT` ends after that, `taken` finds its port taken at the first start, `shy` never listens, `restless`
//! cannot sleep, `hang` answers nothing any more once there is a file `MODEL.hang`, `deaf` only its health once there
//! is a file `MODEL.deaf`, `slow MS` takes so long for each chat,
//! `props JSON` is its answer to `/props`. It answers every chat with "from the engine", a stream in one piece per word.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    os::{fd::OwnedFd, unix::net::UnixListener},
    path::PathBuf,
    process::{Command, Stdio, exit},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let after = |flag: &str| args[args.iter().position(|arg| arg == flag).unwrap() + 1].clone();
    let vllm = args.get(1).is_some_and(|arg| arg == "serve");
    let model = if vllm { args[2].clone() } else { after("-m") };
    // A path is a Unix socket, as llama-server takes it.
    let host = after("--host");
    let port = if host.ends_with(".sock") { host } else { after("--port") };
    let script = std::fs::read_to_string(&model).unwrap();
    let key = std::env::var(if vllm { "VLLM_API_KEY" } else { "LLAMA_API_KEY" }).unwrap();
    let sleeps = args.iter().any(|arg| arg == "--enable-sleep-mode")
        && std::env::var("VLLM_SERVER_DEV_MODE").is_ok_and(|value| value == "1")
        && !script.contains("restless");
    eprintln!("fake engine on port {port} with key {key}");
    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(format!("{model}.starts"))
        .and_then(|mut file| writeln!(file, "{}", std::process::id()))
        .unwrap();
    let starts = std::fs::read_to_string(format!("{model}.starts")).unwrap().lines().count();
    let option = |word: &str| script.lines().find_map(|line| line.strip_prefix(word)).map(str::trim);
    if let Some((code, text)) = option("exit").and_then(|rest| rest.split_once(' ')) {
        eprintln!("{text}");
        exit(code.parse().unwrap());
    }
    if option("child").is_some() {
        #[expect(clippy::zombie_processes, reason = "being left behind is what it is for")]
        let mut left_behind = Command::new("sh")
            .args(["-c", "trap '' TERM; echo deaf; exec sleep 600 >&-"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(left_behind.stdout.take().unwrap()).read_line(&mut line).unwrap();
    }
    if option("stray").is_some() {
        #[expect(clippy::zombie_processes, reason = "being left behind is what it is for")]
        let stray = Command::new("setsid").args(["sh", "-c", "trap '' TERM; sleep 600"]).spawn().unwrap();
        std::fs::write(format!("{model}.stray"), stray.id().to_string()).unwrap();
    }
    if option("shares").is_some() {
        let script = "import signal, sys, time\n\
                      from multiprocessing import resource_tracker, shared_memory\n\
                      signal.signal(signal.SIGTERM, signal.SIG_IGN)\n\
                      memory = shared_memory.SharedMemory(create=True, size=4096)\n\
                      resource_tracker.unregister(memory._name, 'shared_memory')\n\
                      open(sys.argv[1], 'w').write('/dev/shm' + memory._name)\n\
                      print('there', flush=True)\n\
                      time.sleep(600)";
        #[expect(clippy::zombie_processes, reason = "being left behind is what it is for")]
        let mut sharing = Command::new("python3")
            .args(["-c", script, &format!("{model}.shared")])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(sharing.stdout.take().unwrap()).read_line(&mut line).unwrap();
    }
    if let Some((code, text)) = option("die").and_then(|rest| rest.split_once(' ')) {
        eprintln!("{text}");
        exit(code.parse().unwrap());
    }
    if option("shy").is_some() {
        std::fs::write(format!("{model}.port"), &port).unwrap();
        loop {
            thread::park();
        }
    }
    // Another program was quicker; the error that follows is the system's own.
    let quicker =
        (option("taken").is_some() && starts == 1).then(|| TcpListener::bind(format!("127.0.0.1:{port}")));
    let load = Duration::from_millis(option("load").map_or(0, |ms| ms.parse().unwrap()));
    let begun = Instant::now();
    let listener: Box<dyn Iterator<Item = OwnedFd>> = if port.ends_with(".sock") {
        let listener = UnixListener::bind(&port).unwrap();
        Box::new(std::iter::repeat_with(move || listener.accept().unwrap().0.into()))
    } else {
        let listener = TcpListener::bind(format!("127.0.0.1:{port}")).unwrap();
        Box::new(std::iter::repeat_with(move || listener.accept().unwrap().0.into()))
    };
    drop(quicker);
    let engine = Arc::new(Engine {
        ready: begun + load,
        hold: option("hold").map(|_| format!("{model}.hold").into()),
        busy: option("busy").map(|_| format!("{model}.busy").into()),
        asleep: AtomicBool::new(false),
        hangs: option("hang").map(|_| format!("{model}.hang").into()),
        deaf: option("deaf").map(|_| format!("{model}.deaf").into()),
        crashes: option("crash").is_some(),
        unready: option("unready").is_some(),
        embeds: option("embeds").is_some(),
        slow: Duration::from_millis(option("slow").map_or(0, |ms| ms.parse().unwrap())),
        props: option("props").map(str::to_owned),
        sleeps,
        model,
        key,
    });
    for stream in listener {
        let engine = Arc::clone(&engine);
        // Read and written as a file, whichever kind of socket it is.
        thread::spawn(move || engine.serve(File::from(stream)));
    }
}

/// What the connections share.
struct Engine {
    ready: Instant,
    hold: Option<PathBuf>,
    busy: Option<PathBuf>,
    asleep: AtomicBool,
    hangs: Option<PathBuf>,
    deaf: Option<PathBuf>,
    crashes: bool,
    unready: bool,
    embeds: bool,
    slow: Duration,
    props: Option<String>,
    sleeps: bool,
    model: String,
    key: String,
}

fn exists(file: &Option<PathBuf>) -> bool {
    file.as_ref().is_some_and(|file| file.exists())
}

impl Engine {
    fn serve(&self, mut stream: File) {
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
        if exists(&self.hangs) || (exists(&self.deaf) && head.starts_with("POST /v1/")) {
            std::mem::forget(stream);
            return;
        }
        if self.sleeps && (head.starts_with("POST /sleep?level=1 ") || head.starts_with("POST /wake_up ")) {
            let asleep = head.starts_with("POST /sleep");
            self.asleep.store(asleep, Ordering::SeqCst);
            eprintln!("{}", if asleep { "falls asleep" } else { "wakes" });
            let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            return;
        }
        let chat = head.starts_with("POST /v1/chat");
        if chat && self.crashes {
            exit(0);
        }
        let (status, answer) = self.answer(&head);
        if chat && status == "200 OK" {
            thread::park_timeout(self.slow);
            while exists(&self.busy) {
                thread::park_timeout(Duration::from_millis(10));
            }
            if String::from_utf8_lossy(&body).contains(r#""stream":true"#) {
                return stream_answer(&mut stream);
            }
        }
        let _ = write!(
            stream,
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{answer}",
            answer.len()
        );
    }

    fn answer(&self, head: &str) -> (&'static str, String) {
        let known = head.contains(&format!("Bearer {}", self.key));
        let status = if Instant::now() < self.ready || exists(&self.hold) {
            "503 Service Unavailable"
        } else if head.starts_with("GET /health") {
            "200 OK"
        } else if !known {
            "401 Unauthorized"
        } else if head.starts_with("POST /sleep") || head.starts_with("POST /wake_up") {
            "404 Not Found"
        } else if self.embeds && head.starts_with("POST /v1/completions") {
            "501 Not Implemented"
        } else if self.unready || self.asleep.load(Ordering::SeqCst) {
            "500 Internal Server Error"
        } else {
            "200 OK"
        };
        let answer = if head.starts_with("GET /v1/models") {
            format!(r#"{{"data":[{{"id":"{}"}}]}}"#, self.model)
        } else if head.starts_with("GET /props") {
            self.props.clone().unwrap_or_default()
        } else if head.starts_with("POST /v1/chat") {
            r#"{"model":"fake","choices":[{"message":{"role":"assistant","content":"from the engine"},"finish_reason":"stop"}],
                "usage":{"prompt_tokens":3,"completion_tokens":3,"total_tokens":6}}"#
                .to_owned()
        } else {
            r#"{"choices":[{"text":"x","finish_reason":"length"}]}"#.to_owned()
        };
        (status, answer)
    }
}

fn stream_answer(stream: &mut File) {
    let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n");
    for word in ["from", " the", " engine"] {
        let _ = write!(stream, r#"data: {{"model":"fake","choices":[{{"delta":{{"content":"{word}"}}}}]}}"#);
        let _ = stream.write_all(b"\n\n");
    }
    let _ = stream.write_all(
        b"data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n\
          data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":3}}\n\ndata: [DONE]\n\n",
    );
}
