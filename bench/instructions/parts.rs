//! The parts that are counted. Each prepares its input once, and returns what is run.

use std::{hint::black_box, sync::Arc};

use bytes::Bytes;
use jiff::Timestamp;
use mcpctl_access::{Confidential, Snapshot, Stored, builtin, verb::Run};
use mcpctl_api::{
    Id, Kind, Resource, Revision, Spec,
    spec::{Subject, SubjectKind, TokenSpec},
    yaml,
};
use mcpctl_dialect::{
    AnswerBody, EventReader, Operation, Request,
    sse::Decoder,
    translate::{TranslatedRequest, Translation},
};
use serde_json::{Value, json};

use crate::messages::{conversation, image, question};

/// What is counted.
pub struct Part {
    /// As the stored counts have it.
    pub name: &'static str,
    /// Runs in a round: enough for a count that the rest of the process does not show in.
    pub runs: usize,
    pub prepare: fn() -> Box<dyn FnMut()>,
}

pub const PARTS: &[Part] = &[
    Part { name: "read-small", runs: 500, prepare: || read(chat(&question(60))) },
    Part { name: "read-large", runs: 10, prepare: || read(chat(&conversation(110 << 10))) },
    Part { name: "read-image", runs: 4, prepare: || read(chat(&image(1 << 20))) },
    Part { name: "rewrite-small", runs: 500, prepare: || rewrite(chat(&question(60))) },
    Part { name: "rewrite-large", runs: 10, prepare: || rewrite(chat(&conversation(110 << 10))) },
    Part { name: "decide", runs: 5000, prepare: decide },
    Part { name: "read-answer", runs: 500, prepare: answer },
    Part { name: "read-100-events", runs: 20, prepare: events },
    Part { name: "translate-request", runs: 200, prepare: translate_request },
    Part { name: "translate-100-events", runs: 10, prepare: translate_events },
];

const NOW: u64 = 1_700_000_000;
/// Resources of the snapshot that is decided in, of each kind.
const RESOURCES: usize = 1000;

fn read(body: Bytes) -> Box<dyn FnMut()> {
    Box::new(move || drop(black_box(Request::read(Operation::Chat, body.clone()).unwrap())))
}

fn rewrite(body: Bytes) -> Box<dyn FnMut()> {
    let request = Request::read(Operation::Chat, body).unwrap();
    Box::new(move || drop(black_box(request.body_for("gpt-4o-mini", true))))
}

/// Authenticates a token, and authorizes its user, whose role comes by way of a group.
fn decide() -> Box<dyn FnMut()> {
    let hash = |number: usize| {
        let mut hash = [7; 32];
        hash[..8].copy_from_slice(&number.to_le_bytes());
        hash
    };
    let mut documents = String::from(
        "kind: Role\nname: caller\nrules: [{verbs: [view, run], kinds: [llm], names: ['llm-*']}]\n",
    );
    for number in 0..RESOURCES {
        documents += &format!(
            "---\nkind: Llm\nname: llm-{number}\ntype: openai\nurl: http://127.0.0.1:9/v1\nmodel: m\n\
             ---\nkind: User\nname: user-{number}\n\
             ---\nkind: Group\nname: group-{number}\nmembers: [{{kind: User, name: user-{number}}}]\n\
             ---\nkind: RoleBinding\nname: binding-{number}\nrole: caller\nsubjects: [{{kind: Group, name: group-{number}}}]\n"
        );
    }
    let named = yaml::read_documents(&documents).unwrap().into_iter().map(|located| {
        let document = located.document;
        (document.name.unwrap().to_string(), document.spec)
    });
    let roles = builtin::specs().map(|(name, spec)| (name.to_owned(), Spec::Role(spec)));
    let mut resources: Vec<_> = roles.chain(named).map(|(name, spec)| stored(&name, spec, None)).collect();
    let users: Vec<_> = resources.iter().filter(|stored| stored.kind() == Kind::User).cloned().collect();
    for (number, user) in users.iter().enumerate() {
        let spec = TokenSpec {
            subject: Subject { kind: SubjectKind::User, name: user.name().clone() },
            subject_id: user.id().clone(),
            expires_at: Timestamp::MAX,
            session: false,
            origin: None,
            rotated_from: None,
            begun_with: None,
            prefix: None,
            issued_by: Vec::new(),
            rules: None,
        };
        resources.push(stored(&format!("token-{number}"), Spec::Token(spec), Some(hash(number))));
    }
    let snapshot = Snapshot::new(Revision(1), resources);
    let (token, llm) = (hash(RESOURCES / 2), format!("llm-{}", RESOURCES / 3));
    let now = Timestamp::UNIX_EPOCH;
    Box::new(move || {
        let principal = snapshot.authenticate(&token, now).unwrap();
        drop(black_box(snapshot.authorize::<Run>(&principal, Kind::Llm, &llm).unwrap()));
    })
}

fn stored(name: &str, spec: Spec, token: Option<[u8; 32]>) -> Arc<Stored> {
    Arc::new(Stored {
        resource: Resource {
            id: Id::mint(),
            name: name.parse().unwrap(),
            labels: Default::default(),
            annotations: Default::default(),
            revision: Revision(1),
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
            spec,
        },
        confidential: token.map(Confidential::TokenHash),
    })
}

fn answer() -> Box<dyn FnMut()> {
    let answer = Bytes::from_static(br#"{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Four words it is."},"finish_reason":"stop"}],"usage":{"prompt_tokens":12,"completion_tokens":4,"total_tokens":16}}"#);
    Box::new(move || drop(black_box(AnswerBody::read(Operation::Chat, &answer).unwrap())))
}

/// Frames and classifies a stream that arrives event by event.
fn events() -> Box<dyn FnMut()> {
    let pieces = stream();
    Box::new(move || {
        let (mut frames, mut reader) = (Decoder::default(), EventReader::new(Operation::Chat));
        for piece in &pieces {
            frames.push_piece(piece.clone());
            while let Some(frame) = frames.next_frame().unwrap() {
                black_box(reader.read(&frame));
            }
        }
    })
}

fn translation() -> (Bytes, Translation) {
    let body = bytes(&json!({
        "model": "m", "max_tokens": 16, "system": "Be brief.", "stream": true, "messages": question(60),
        "tools": [{"name": "look", "description": "Looks.", "input_schema": {"type": "object", "properties": {"at": {"type": "string"}}}}],
    }));
    (body, Translation::between(Operation::Messages, Operation::Chat).unwrap().unwrap())
}

fn translate_request() -> Box<dyn FnMut()> {
    let (body, translation) = translation();
    Box::new(move || drop(black_box(translation.request(&body, "m", NOW).unwrap())))
}

fn translate_events() -> Box<dyn FnMut()> {
    let (body, translation) = translation();
    let TranslatedRequest { answer, .. } = translation.request(&body, "m", NOW).unwrap();
    let pieces = stream();
    Box::new(move || {
        let (mut frames, mut translation) = (Decoder::default(), answer.stream());
        for piece in &pieces {
            frames.push_piece(piece.clone());
            while let Some(frame) = frames.next_frame().unwrap() {
                black_box(translation.push(&frame));
            }
        }
        black_box(translation.finish());
    })
}

/// 100 events of a chat, as they arrive.
fn stream() -> Vec<Bytes> {
    let event = |delta: Value, finish: Option<&str>| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
        let chunk = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": NOW, "model": "m", "choices": [choice]});
        Bytes::from(format!("data: {chunk}\n\n"))
    };
    let words = std::iter::repeat_with(|| event(json!({"content": " word"}), None)).take(98);
    words.chain([event(json!({}), Some("stop")), Bytes::from_static(b"data: [DONE]\n\n")]).collect()
}

fn chat(messages: &Value) -> Bytes {
    bytes(&json!({"model": "m", "messages": messages, "max_tokens": 16, "stream": true}))
}

fn bytes(value: &Value) -> Bytes {
    Bytes::from(value.to_string())
}
