//! What holds of translations whatever the input: what a dialect holds survives writing and reading, and no bytes panic.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use mcpctl_dialect::{
    Operation,
    sse::Decoder,
    translate::{
        DeltaReader, DeltaWriter, Translation, chat,
        conversation::{
            Conversation, Media, OutputFormat, Part, Places, Reasoning, ReasoningRequest, Role, Tool,
            ToolCall, ToolChoice, Turn,
        },
        messages,
        reply::{Choice, Delta, Finish, Reply, WriterOptions},
    },
    usage::Usage,
};
use proptest::prelude::*;
use serde_json::json;

fn word() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9_]{0,8}"
}

/// Text with characters of every width, and with those that JSON escapes.
fn text() -> impl Strategy<Value = String> {
    "[a-zäß\u{1f980}\"\\\\\n{}:, ]{1,12}"
}

fn call() -> impl Strategy<Value = ToolCall> {
    (word(), word(), text()).prop_map(|(id, name, value)| ToolCall {
        id,
        name,
        arguments: json!({ "x": value }).to_string(),
    })
}

fn media(media_type: &'static str) -> impl Strategy<Value = Media> {
    "[A-Za-z0-9+/]{4}".prop_map(move |data| Media::Base64 { media_type: media_type.into(), data })
}

fn user_part() -> impl Strategy<Value = Part> {
    prop_oneof![
        text().prop_map(Part::Text),
        media("image/png").prop_map(Part::Image),
        word().prop_map(|name| Part::Image(Media::Url(format!("https://example.com/{name}")))),
        media("audio/wav").prop_map(Part::Audio),
        (media("application/pdf"), word())
            .prop_map(|(media, name)| Part::Document { media, name: Some(name) }),
    ]
}

/// What an assistant writes, in the order of chat completions.
fn assistant(signed: bool) -> impl Strategy<Value = Vec<Part>> {
    let reasoning = (text(), prop::option::of(word())).prop_map(move |(text, signature)| Reasoning {
        text,
        signature: signature.filter(|_| signed),
        encrypted: None,
    });
    (
        prop::option::of(reasoning),
        prop::option::of(text()),
        prop::option::of(text()),
        prop::collection::vec(call(), 0..3),
    )
        .prop_filter("more than reasoning", |(_, text, refusal, calls)| {
            text.is_some() || refusal.is_some() || !calls.is_empty()
        })
        .prop_map(|(reasoning, text, refusal, calls)| {
            let mut parts: Vec<Part> = reasoning.into_iter().map(Part::Reasoning).collect();
            parts.extend(text.map(Part::Text));
            parts.extend(refusal.map(Part::Refusal));
            parts.extend(calls.into_iter().map(Part::ToolCall));
            parts
        })
}

fn turn() -> impl Strategy<Value = Turn> {
    let user = |parts| Turn { role: Role::User, parts, places: Places::default() };
    let result = |(call, text): (String, String)| Part::ToolResult {
        call,
        parts: vec![Part::Text(text)],
        is_error: false,
    };
    prop_oneof![
        prop::collection::vec(user_part(), 1..4).prop_map(user),
        (word(), text()).prop_map(result).prop_map(move |part| user(vec![part])),
        assistant(false).prop_map(|parts| Turn { role: Role::Assistant, parts, places: Places::default() }),
    ]
}

fn format() -> impl Strategy<Value = OutputFormat> {
    prop_oneof![
        Just(OutputFormat::Text),
        Just(OutputFormat::JsonObject),
        (word(), any::<Option<bool>>()).prop_map(|(name, strict)| OutputFormat::JsonSchema {
            name: Some(name),
            description: None,
            schema: json!({ "type": "object" }),
            strict,
        }),
    ]
}

fn conversation() -> impl Strategy<Value = Conversation> {
    let tool =
        (word(), prop::option::of(text()), any::<Option<bool>>()).prop_map(|(name, description, strict)| {
            Tool { name, description, parameters: Some(json!({ "type": "object" })), strict }
        });
    let choice = prop_oneof![
        Just(ToolChoice::Auto),
        Just(ToolChoice::None),
        Just(ToolChoice::Required),
        word().prop_map(ToolChoice::Tool),
    ];
    let tools = (prop::collection::vec(tool, 1..3), prop::option::of(choice), any::<Option<bool>>());
    let sampling =
        (any::<Option<u32>>(), prop::option::of(0_u32..20), prop::collection::vec(text(), 0..3), 1_u64..4);
    (
        prop::option::of(text()),
        prop::collection::vec(turn(), 0..5),
        prop::option::of(tools),
        sampling,
        format(),
        prop::option::of(word()),
        any::<bool>(),
    )
        .prop_map(
            |(system, turns, tools, (max_tokens, logprobs, stop, choices), format, user, stream)| {
                let (tools, tool_choice, parallel_tool_calls) = tools.unwrap_or_default();
                let effort = user.as_ref().map(|_| "low".to_owned());
                Conversation {
                    system: system.into_iter().map(Part::Text).collect(),
                    turns,
                    tools,
                    tool_choice,
                    parallel_tool_calls,
                    max_tokens: max_tokens.map(u64::from),
                    temperature: max_tokens.map(|tokens| tokens.into()),
                    logprobs: logprobs.map(u64::from),
                    stop,
                    choices,
                    format,
                    reasoning: effort
                        .map(|effort| ReasoningRequest { effort: Some(effort), ..Default::default() }),
                    user,
                    stream,
                    ..Conversation::default()
                }
            },
        )
}

fn reply() -> impl Strategy<Value = Reply> {
    let finish = prop_oneof![
        Just(Finish::Stop),
        text().prop_map(|text| Finish::StopSequence(Some(text))),
        Just(Finish::Length),
        Just(Finish::Refused),
    ];
    let choice = (assistant(true), finish).prop_map(|(parts, finish)| {
        let calls = parts.iter().any(|part| matches!(part, Part::ToolCall(_)));
        Choice { parts, finish: Some(if calls { Finish::ToolCalls } else { finish }), logprobs: None }
    });
    (prop::collection::vec(choice, 1..3), word(), any::<u32>()).prop_map(|(choices, name, tokens)| Reply {
        id: Some(name.clone()),
        model: Some(name),
        created: Some(tokens.into()),
        choices,
        usage: Some(Usage {
            input_tokens: tokens.into(),
            output_tokens: 7,
            cached_input_tokens: u64::from(tokens / 2),
            cache_write_input_tokens: u64::from(tokens / 4),
            reasoning_tokens: 3,
        }),
    })
}

/// Inputs that servers and clients write, from the golden files, with bytes changed.
fn inputs() -> Vec<Vec<u8>> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let folders = std::fs::read_dir(root).unwrap().map(|folder| folder.unwrap().path());
    let files = folders.flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let files = files.map(|file| file.unwrap().path()).filter(|path| path.to_str().unwrap().contains(".in."));
    files.map(|path| std::fs::read(path).unwrap()).collect()
}

fn changed() -> impl Strategy<Value = Vec<u8>> {
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    (prop::sample::select(inputs()), changes, any::<prop::sample::Index>(), any::<bool>()).prop_map(
        |(mut input, changes, end, cut)| {
            for (at, byte) in changes {
                let at = at.index(input.len());
                input[at] = byte;
            }
            if cut {
                input.truncate(end.index(input.len()));
            }
            input
        },
    )
}

/// A conversation that both chat completions and messages can express: it begins with the user, a result follows each call.
fn common() -> impl Strategy<Value = Conversation> {
    let user = prop::collection::vec(
        prop_oneof![
            text().prop_map(Part::Text),
            media("image/png").prop_map(Part::Image),
            word().prop_map(|name| Part::Image(Media::Url(format!("https://example.com/{name}")))),
            (media("application/pdf"), word())
                .prop_map(|(media, name)| Part::Document { media, name: Some(name) }),
        ],
        1..4,
    );
    let step =
        (user, prop::option::of(text()), prop::collection::vec((word(), text(), text()), 0..3), 1_u64..9);
    let temperature = prop::option::of(0_u32..2);
    let stop = prop::collection::vec("[a-z]{1,5}", 0..3);
    (prop::option::of(text()), prop::collection::vec(step, 1..4), temperature, stop, any::<bool>()).prop_map(
        |(system, steps, temperature, stop, stream)| {
            let turn = |role, parts| Turn { role, parts, places: Places::default() };
            let (mut turns, mut calls) = (Vec::new(), 0);
            for (user, answer, called, _) in steps {
                let mut parts: Vec<Part> = answer.into_iter().map(Part::Text).collect();
                let mut results = Vec::new();
                for (name, value, result) in called {
                    calls += 1;
                    let id = format!("c{calls}");
                    let arguments = json!({ "x": value, "y": [1, {}] }).to_string();
                    parts.push(Part::ToolCall(ToolCall { id: id.clone(), name, arguments }));
                    results.push(Part::ToolResult {
                        call: id,
                        parts: vec![Part::Text(result)],
                        is_error: false,
                    });
                }
                turns.push(turn(Role::User, user));
                if !parts.is_empty() {
                    turns.push(turn(Role::Assistant, parts));
                }
                turns.extend(results.into_iter().map(|result| turn(Role::User, vec![result])));
            }
            let tool = Tool {
                name: "f".into(),
                description: None,
                parameters: Some(json!({ "type": "object" })),
                strict: None,
            };
            Conversation {
                system: system.into_iter().map(Part::Text).collect(),
                turns,
                tools: vec![tool],
                max_tokens: Some(99),
                temperature: temperature.map(Into::into),
                stop,
                choices: 1,
                stream,
                ..Conversation::default()
            }
        },
    )
}

/// The turns as one list of what each side contributed in a row, which is all that messages keep of their borders.
fn merged(conversation: &Conversation) -> Vec<(Role, Vec<Part>)> {
    let mut turns: Vec<(Role, Vec<Part>)> = Vec::new();
    for turn in &conversation.turns {
        match turns.last_mut() {
            Some((role, parts)) if *role == turn.role => parts.extend(turn.parts.clone()),
            _ => turns.push((turn.role, turn.parts.clone())),
        }
    }
    turns
}

/// A whole answer, of a stream's pieces or of a reply's first choice: texts, reasoning, calls, end and usage.
#[derive(Debug, Default, PartialEq)]
struct Gathered {
    text: String,
    reasoning: String,
    signatures: Vec<String>,
    calls: Vec<(String, String, String)>,
    finish: Option<Finish>,
    usage: Option<Usage>,
}

impl Gathered {
    fn of_reply(reply: &Reply) -> Self {
        let mut all = Self { finish: reply.choices[0].finish.clone(), usage: reply.usage, ..Self::default() };
        for part in reply.choices[0].parts.clone() {
            match part {
                Part::Text(text) | Part::Refusal(text) => all.text += &text,
                Part::Reasoning(block) => {
                    all.reasoning += &block.text;
                    all.signatures.extend(block.signature);
                }
                Part::ToolCall(call) => all.calls.push((call.id, call.name, call.arguments)),
                _ => panic!("{part:?}"),
            }
        }
        all
    }

    fn of_deltas(deltas: Vec<Delta>) -> Self {
        let mut all = Self::default();
        for delta in deltas {
            match delta {
                Delta::Text { choice: 0, text, .. } | Delta::Refusal { choice: 0, text } => all.text += &text,
                Delta::Reasoning { choice: 0, text } => all.reasoning += &text,
                Delta::ReasoningSignature { choice: 0, signature } => all.signatures.push(signature),
                Delta::ToolCall { choice: 0, id, name, .. } => all.calls.push((id, name, String::new())),
                Delta::ToolArguments { choice: 0, call, json } => {
                    all.calls[usize::try_from(call).unwrap()].2 += &json;
                }
                Delta::Finish { choice: 0, finish } => all.finish = Some(finish),
                Delta::Usage(usage) => all.usage = Some(usage),
                _ => {}
            }
        }
        all
    }
}

/// The pieces of a reply's first choice. The calls' arguments come in turns, a few characters at a time.
fn pieces(reply: &Reply, size: usize) -> Vec<Delta> {
    let cut = |text: &str| -> Vec<String> {
        let characters: Vec<char> = text.chars().collect();
        characters.chunks(size).map(|piece| piece.iter().collect()).collect()
    };
    let start = Delta::Start { id: reply.id.clone(), model: reply.model.clone(), created: reply.created };
    let (mut deltas, mut arguments) = (vec![start], Vec::new());
    for part in &reply.choices[0].parts {
        match part {
            Part::Text(text) => deltas.extend(cut(text).into_iter().map(|text| Delta::Text {
                choice: 0,
                text,
                logprobs: None,
            })),
            Part::Refusal(text) => {
                deltas.extend(cut(text).into_iter().map(|text| Delta::Refusal { choice: 0, text }));
            }
            Part::Reasoning(block) => {
                deltas.extend(cut(&block.text).into_iter().map(|text| Delta::Reasoning { choice: 0, text }));
                let signature = block.signature.clone();
                deltas.extend(signature.map(|signature| Delta::ReasoningSignature { choice: 0, signature }));
            }
            Part::ToolCall(call) => {
                let place = arguments.len() as u64;
                let (id, name) = (call.id.clone(), call.name.clone());
                deltas.push(Delta::ToolCall { choice: 0, call: place, id, name });
                arguments.push(cut(&call.arguments));
            }
            _ => panic!("{part:?}"),
        }
    }
    for round in 0..arguments.iter().map(Vec::len).max().unwrap_or(0) {
        for (call, json) in (0..).zip(arguments.iter().map(|pieces| pieces.get(round).cloned())) {
            deltas.extend(json.map(|json| Delta::ToolArguments { choice: 0, call, json }));
        }
    }
    deltas.extend(reply.choices[0].finish.clone().map(|finish| Delta::Finish { choice: 0, finish }));
    deltas.extend(reply.usage.map(Delta::Usage));
    deltas
}

proptest! {
    /// Through the one and back, and through both: nothing of it changes.
    #[test]
    fn conversation_survives_every_pair_of_dialects(conversation in common()) {
        let by_messages = messages::write_request(&conversation, "m").unwrap();
        let read = messages::read_request(&by_messages).unwrap();
        prop_assert_eq!(merged(&read), merged(&conversation));
        let expected = Conversation { turns: read.turns.clone(), include_usage: true, ..conversation.clone() };
        prop_assert_eq!(&read, &expected);
        // From one upstream's request to the other's and back it is the same request.
        let by_chat = chat::write_request(&read, "m").unwrap();
        let back = messages::write_request(&chat::read_request(&by_chat).unwrap(), "m").unwrap();
        prop_assert_eq!(back, by_messages);
        let first = chat::write_request(&conversation, "m").unwrap();
        prop_assert_eq!(chat::read_request(&first).unwrap(), conversation);
    }

    /// Wherever the network cuts a stream, and whether it is one at all.
    #[test]
    fn whole_and_streamed_answers_are_the_same_reply(reply in reply(), size in 1_usize..5, bytes in 1_usize..40) {
        for operation in [Operation::Chat, Operation::Messages] {
            let options = WriterOptions { include_usage: true, ..WriterOptions::default() };
            let whole = match operation {
                Operation::Chat => chat::read_reply(&chat::write_reply(&reply)),
                _ => messages::read_reply(&messages::write_reply(&reply)),
            };
            let mut writer = DeltaWriter::of(operation, &options).unwrap();
            let mut stream = Vec::new();
            for delta in pieces(&reply, size) {
                stream.extend_from_slice(&writer.write(&delta));
            }
            stream.extend_from_slice(&writer.finish());
            let (mut decoder, mut reader) = (Decoder::default(), DeltaReader::of(operation).unwrap());
            let mut deltas = Vec::new();
            for piece in stream.chunks(bytes) {
                decoder.push(piece);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    deltas.extend(reader.read(&frame));
                }
            }
            prop_assert_eq!(Gathered::of_deltas(deltas), Gathered::of_reply(&whole.unwrap()), "{:?}", operation);
        }
    }

    #[test]
    fn conversation_survives_chat_completions(conversation in conversation()) {
        let written = chat::write_request(&conversation, "m").unwrap();
        prop_assert_eq!(chat::read_request(&written).unwrap(), conversation);
    }

    #[test]
    fn reply_survives_chat_completions(reply in reply()) {
        prop_assert_eq!(chat::read_reply(&chat::write_reply(&reply)), Some(reply));
    }

    #[test]
    fn no_bytes_panic(input in changed()) {
        let operations = [Operation::Chat, Operation::Messages, Operation::Responses];
        for (caller, upstream) in operations.iter().flat_map(|caller| operations.map(|upstream| (*caller, upstream))) {
            let Ok(Some(translation)) = Translation::between(caller, upstream) else { continue };
            let _ = translation.request(&input, "m", 0);
            let plain: &[u8] = match caller {
                Operation::Responses => br#"{"model":"m","input":"Hi"}"#,
                _ => br#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"Hi"}]}"#,
            };
            let answer = translation.request(plain, "m", 0).unwrap().answer;
            let _ = answer.whole(&input);
            let (mut stream, mut decoder) = (answer.stream(), Decoder::default());
            decoder.push(&input);
            let mut out = Vec::new();
            while let Ok(Some(frame)) = decoder.next_frame() {
                out.extend_from_slice(&stream.push(&frame));
            }
            out.extend_from_slice(&stream.finish());
            // What is written is a stream of whole frames.
            let mut decoder = Decoder::default();
            decoder.push(&out);
            let mut reader = DeltaReader::of(caller);
            while let Some(frame) = decoder.next_frame().unwrap() {
                prop_assert!(frame.data.is_some());
                reader.iter_mut().for_each(|reader| drop(reader.read(&frame)));
            }
            prop_assert_eq!(decoder.finish(), Ok(None));
        }
    }
}
