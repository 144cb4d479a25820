//! What becomes of every field that the providers document, where a request is translated: `fields/CALLER.txt` has a line for each,
//! `PATH = VALUE => UPSTREAM: what`, about `CALLER.base.json` with that value at that path (`[+]` appends to a list).
//!
//! - `carried`: the upstream's request is another one than without the field;
//! - `left out`: it is the same one. These are the hints that `docs/reference/contract.md` lists, explicit defaults, and what the
//!   base has already;
//! - `answer`: the same, but the caller's answer is another one;
//! - `refused`: with 400. It names the field, or a part of it or what it is part of.
//!
//! The fields are those of the request types of OpenAI's and Anthropic's official Python packages (openai 3.57, anthropic
//! 2.14), with keys that no one documents. `GOLDEN=write cargo test --test fields` writes what follows `=>` again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::{fmt::Write as _, fs, path::Path};

use mcpctl_dialect::{
    Operation,
    translate::{TranslatedRequest, Translation},
};
use serde_json::Value;

/// What a key of a path leads to.
enum Step {
    Member(String),
    Entry(usize),
    Append,
}

fn steps(path: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    for part in path.split('.') {
        let (name, entries) = part.split_once('[').unwrap_or((part, ""));
        steps.push(Step::Member(name.to_owned()));
        for entry in entries.split('[').filter(|entry| !entry.is_empty()) {
            let entry = entry.trim_end_matches(']');
            steps.push(entry.parse().map_or(Step::Append, Step::Entry));
        }
    }
    steps
}

/// The base with a value at a path.
fn with(base: &Value, path: &str, value: Value) -> Value {
    let mut request = base.clone();
    let mut at = &mut request;
    for step in steps(path) {
        at = match step {
            Step::Member(name) => at.as_object_mut().expect(path).entry(name).or_insert(Value::Null),
            Step::Entry(index) => at.get_mut(index).expect(path),
            Step::Append => {
                let list = at.as_array_mut().expect(path);
                list.push(Value::Null);
                list.last_mut().unwrap()
            }
        };
    }
    *at = value;
    request
}

/// The path as errors write it: an appended entry has its place.
fn written(base: &Value, path: &str) -> String {
    let Some((list, rest)) = path.split_once("[+]") else { return path.to_owned() };
    let mut at = base;
    for step in steps(list) {
        at = match step {
            Step::Member(name) => &at[name],
            Step::Entry(index) => &at[index],
            Step::Append => unreachable!(),
        };
    }
    format!("{list}[{}]{rest}", at.as_array().unwrap().len())
}

/// Whether one of two paths leads to the other.
fn is_related(one: &str, other: &str) -> bool {
    let leads = |short: &str, long: &str| {
        long.strip_prefix(short).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    leads(one, other) || leads(other, one)
}

fn translated(
    caller: Operation,
    upstream: Operation,
    request: &Value,
) -> Result<TranslatedRequest, (String, String)> {
    let translation = Translation::between(caller, upstream).unwrap().unwrap();
    translation
        .request(request.to_string().as_bytes(), "gpt-5", 0)
        .map_err(|error| (error.param().unwrap_or_default().to_owned(), error.to_string()))
}

/// What becomes of a field.
fn outcome(caller: Operation, upstream: Operation, base: &Value, path: &str, value: Value) -> String {
    let plain = translated(caller, upstream, base).unwrap();
    match translated(caller, upstream, &with(base, path, value)) {
        Ok(TranslatedRequest { body, .. }) if body != plain.body => "carried".to_owned(),
        Ok(request) if request != plain => "answer".to_owned(),
        Ok(_) => "left out".to_owned(),
        Err((param, message)) => {
            let field = written(base, path);
            assert!(is_related(&param, &field), "`{field}` is refused as `{param}`");
            assert!(message.contains(&param), "{message}");
            format!("refused `{param}`")
        }
    }
}

#[test]
fn every_documented_field_is_carried_a_hint_or_refused() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fields");
    let write = std::env::var("GOLDEN").is_ok_and(|mode| mode == "write");
    let mut different = Vec::new();
    for (name, caller, upstreams) in [
        ("chat", Operation::Chat, &[("messages", Operation::Messages)][..]),
        ("responses", Operation::Responses, &[("chat", Operation::Chat), ("messages", Operation::Messages)]),
        ("messages", Operation::Messages, &[("chat", Operation::Chat)]),
    ] {
        let base: Value =
            serde_json::from_slice(&fs::read(folder.join(format!("{name}.base.json"))).unwrap()).unwrap();
        let file = folder.join(format!("{name}.txt"));
        let text = fs::read_to_string(&file).unwrap();
        let mut all = String::new();
        for line in text.lines() {
            let input = line.split(" => ").next().unwrap();
            let (path, value) = input.split_once(" = ").expect(input);
            let value: Value = serde_json::from_str(value).expect(input);
            let outcomes: Vec<String> = upstreams
                .iter()
                .map(|(api, upstream)| {
                    let outcome = outcome(caller, *upstream, &base, path, value.clone());
                    if upstreams.len() == 1 { outcome } else { format!("{api}: {outcome}") }
                })
                .collect();
            writeln!(all, "{input} => {}", outcomes.join(", ")).unwrap();
        }
        if write {
            fs::write(file, all).unwrap();
        } else {
            different.extend(
                all.lines()
                    .zip(text.lines())
                    .filter(|(now, was)| now != was)
                    .map(|(now, was)| format!("{name}:\n  {now}\n  {was}")),
            );
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}
