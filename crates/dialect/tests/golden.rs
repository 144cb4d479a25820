//! Golden files of translations: `golden/<caller>-over-<upstream>/NAME.<what>.in.*` and what becomes of it, `…out.*`.
//!
//! - `request`: a caller's request, and the upstream's, or why it is refused;
//! - `answer`: an upstream's whole answer, and the caller's;
//! - `stream`: the same as events; `NAME.request.in.json`, where there is one, is the request that they answer;
//! - `error`: an upstream's error, and the caller's.
//!
//! `GOLDEN=write cargo test --test golden` writes the files again; a look at `git diff` then shows what changed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use mcpctl_dialect::{
    Operation,
    sse::Decoder,
    translate::{TranslatedRequest, Translation, error_body},
};
use serde_json::{Value, json};

const NOW: u64 = 1_700_000_000;

fn operation(name: &str) -> Operation {
    match name {
        "chat" => Operation::Chat,
        "messages" => Operation::Messages,
        "responses" => Operation::Responses,
        _ => panic!("no operation `{name}`"),
    }
}

/// A request that asks for nothing special, for answers without a request of their own.
fn plain_request(caller: Operation) -> Value {
    match caller {
        Operation::Responses => json!({ "model": "m", "input": "Hi" }),
        _ => json!({ "model": "m", "max_tokens": 9, "messages": [{ "role": "user", "content": "Hi" }] }),
    }
}

fn pretty(body: &[u8]) -> String {
    let value: Value = serde_json::from_slice(body).unwrap();
    format!("{value:#}\n")
}

/// Feeds the events in pieces of `size` bytes, as a network might cut them.
fn streamed(request: &TranslatedRequest, stream: &[u8], size: usize) -> String {
    let (mut decoder, mut translation) = (Decoder::default(), request.answer.stream());
    let mut out = Vec::new();
    for piece in stream.chunks(size) {
        decoder.push(piece);
        while let Some(frame) = decoder.next_frame().unwrap() {
            out.extend_from_slice(&translation.push(&frame));
        }
    }
    assert_eq!(decoder.finish(), Ok(None), "the file ends with a blank line");
    out.extend_from_slice(&translation.finish());
    String::from_utf8(out).unwrap()
}

fn translated(caller: Operation, upstream: Operation, input: &Path) -> String {
    let translation = Translation::between(caller, upstream).unwrap().unwrap();
    let name = input.file_name().unwrap().to_str().unwrap();
    let (name, what) = name.split_once('.').unwrap();
    let body = fs::read(input).unwrap();
    let request = || {
        let request = fs::read(input.with_file_name(format!("{name}.request.in.json")));
        let request = request.unwrap_or_else(|_| plain_request(caller).to_string().into_bytes());
        translation.request(&request, "upstream-model", NOW).unwrap()
    };
    match what {
        "request.in.json" => match translation.request(&body, "upstream-model", NOW) {
            Ok(translated) => pretty(&translated.body),
            Err(error) => format!("{:#}\n", json!({ "param": error.param(), "refused": error.to_string() })),
        },
        "answer.in.json" => pretty(&request().answer.whole(&body).expect(name)),
        "stream.in.sse" => {
            let request = request();
            let whole = streamed(&request, &body, body.len());
            for size in [1, 2, 3, 7, 64] {
                assert_eq!(streamed(&request, &body, size), whole, "{name} in pieces of {size}");
            }
            whole
        }
        "error.in.json" => {
            let error = mcpctl_dialect::error::UpstreamError::read(&Bytes::from(body));
            pretty(&error_body(caller, &error, 429))
        }
        _ => panic!("{} is no input", input.display()),
    }
}

fn inputs(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.retain(|file| {
        file.file_stem().and_then(|stem| stem.to_str()).is_some_and(|stem| stem.ends_with(".in"))
    });
    files
}

#[test]
fn translations_are_those_in_the_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let write = std::env::var("GOLDEN").is_ok_and(|mode| mode == "write");
    let mut different = Vec::new();
    let mut count = 0;
    for folder in fs::read_dir(root).unwrap() {
        let folder = folder.unwrap().path();
        let pair = folder.file_name().unwrap().to_str().unwrap();
        let (caller, upstream) = pair.split_once("-over-").unwrap();
        for input in inputs(&folder) {
            count += 1;
            let out = translated(operation(caller), operation(upstream), &input);
            let path = PathBuf::from(input.to_str().unwrap().replace(".in.", ".out."));
            if write {
                fs::write(path, out).unwrap();
            } else if fs::read_to_string(&path).ok().as_ref() != Some(&out) {
                different.push(format!("{}:\n{out}", path.display()));
            }
        }
    }
    assert!(count > 0 && different.is_empty(), "{}", different.join("\n"));
}
