//! What of a request or an answer has to survive a translation: who contributed which texts, media, calls and results, and the
//! settings that every dialect has. Order matters within each of these, and not between them, because dialects order them.

use std::collections::HashMap;

use mcpctl_dialect::{
    Operation,
    translate::{
        conversation::{Conversation, Media, OutputFormat, Part, Role, ToolChoice},
        reply::{Delta, Finish, Reply},
    },
};
use serde_json::{Map, Number, Value};

/// The longest `user` that chat completions take, in characters.
const MAX_USER: usize = 64;

/// A request.
#[derive(Debug)]
pub struct Question<'a> {
    asked: &'a Conversation,
    system: String,
    turns: Vec<(Role, Contribution)>,
}

/// What one side contributed in a row.
#[derive(Debug, Default)]
struct Contribution {
    texts: Vec<String>,
    refusals: Vec<String>,
    media: Vec<String>,
    /// Calls by the order of their ids, with name and arguments.
    calls: Vec<(usize, String, Value)>,
    results: Vec<(usize, Vec<String>)>,
}

impl Contribution {
    fn is_empty(&self) -> bool {
        let Self { texts, refusals, media, calls, results } = self;
        texts.is_empty() && refusals.is_empty() && media.is_empty() && calls.is_empty() && results.is_empty()
    }

    fn add(&mut self, part: &Part, ids: &mut Ids) {
        match part {
            Part::Text(text) | Part::Refusal(text) if text.is_empty() => {}
            Part::Text(text) => self.texts.push(text.clone()),
            Part::Refusal(text) => self.refusals.push(text.clone()),
            Part::Image(media) | Part::Audio(media) => self.media.push(shown(media)),
            Part::Document { media: Media::Text(text), .. } => self.texts.push(text.clone()),
            Part::Document { media, .. } => self.media.push(shown(media)),
            Part::ToolCall(call) => {
                self.calls.push((ids.number(&call.id), call.name.clone(), arguments(&call.arguments)));
            }
            Part::ToolResult { call, parts, .. } => {
                let mut inner = Self::default();
                parts.iter().for_each(|part| inner.add(part, ids));
                self.results.push((ids.number(call), inner.texts));
                self.media.extend(inner.media);
            }
            // Only the provider that wrote it reads it.
            Part::Reasoning(_) => {}
        }
    }
}

/// Ids by the order in which they occur, because dialects write them in different characters.
#[derive(Default)]
struct Ids(HashMap<String, usize>);

impl Ids {
    fn number(&mut self, id: &str) -> usize {
        let next = self.0.len();
        *self.0.entry(id.to_owned()).or_insert(next)
    }
}

impl<'a> Question<'a> {
    /// Of a request as a reader has it.
    pub fn of(asked: &'a Conversation) -> Self {
        let mut ids = Ids::default();
        let mut turns: Vec<(Role, Contribution)> = Vec::new();
        for turn in &asked.turns {
            let mut contribution = Contribution::default();
            turn.parts.iter().for_each(|part| contribution.add(part, &mut ids));
            if contribution.is_empty() {
                continue;
            }
            match turns.last_mut() {
                Some((role, last)) if *role == turn.role => {
                    turn.parts.iter().for_each(|part| last.add(part, &mut ids));
                }
                _ => turns.push((turn.role, contribution)),
            }
        }
        let mut system = Contribution::default();
        asked.system.iter().for_each(|part| system.add(part, &mut ids));
        Self { asked, system: system.texts.concat().replace('\n', ""), turns }
    }

    /// Panics where the request that was written for an upstream lacks something of this one, or has it from another side.
    pub fn is_kept_by(&self, written: &Question<'_>, upstream: Operation) {
        assert_eq!(self.system, written.system);
        let roles =
            |question: &Question<'_>| question.turns.iter().map(|(role, _)| *role).collect::<Vec<_>>();
        assert_eq!(roles(self), roles(written), "{self:#?}\n{written:#?}");
        for ((role, read), (_, again)) in self.turns.iter().zip(&written.turns) {
            match (role, upstream) {
                (Role::User, _) => {
                    contains_in_order(&again.texts, &read.texts);
                    assert!(read.refusals.is_empty() && again.refusals.is_empty());
                }
                (Role::Assistant, Operation::Chat) => {
                    assert_eq!(read.texts.concat(), again.texts.concat());
                    assert_eq!(read.refusals.concat(), again.refusals.concat());
                }
                // Messages have no refusals of the model but as its text.
                (Role::Assistant, _) => {
                    let length = |texts: &[String]| texts.iter().map(String::len).sum::<usize>();
                    assert_eq!(length(&read.texts) + length(&read.refusals), length(&again.texts));
                }
            }
            assert_eq!(read.media, again.media);
            assert_eq!(read.calls.len(), again.calls.len());
            for ((id, name, arguments), (id_again, name_again, arguments_again)) in
                read.calls.iter().zip(&again.calls)
            {
                assert_eq!((id, name), (id_again, name_again));
                assert!(are_equal(arguments, arguments_again), "{arguments} {arguments_again}");
            }
            assert_eq!(read.results.len(), again.results.len());
            for ((id, texts), (id_again, texts_again)) in read.results.iter().zip(&again.results) {
                assert_eq!(id, id_again);
                contains_in_order(texts_again, texts);
            }
        }
        self.settings_are_kept_by(written, upstream);
    }

    fn settings_are_kept_by(&self, written: &Question<'_>, upstream: Operation) {
        let (asked, again) = (self.asked, written.asked);
        let tools = |conversation: &Conversation| -> Vec<_> {
            conversation.tools.iter().map(|tool| (tool.name.clone(), tool.description.clone())).collect()
        };
        assert_eq!(tools(asked), tools(again));
        if !asked.tools.is_empty() {
            let choice = |choice: &Option<ToolChoice>| choice.clone().unwrap_or(ToolChoice::Auto);
            assert_eq!(choice(&asked.tool_choice), choice(&again.tool_choice));
        }
        assert!(asked.max_tokens.is_none() || asked.max_tokens == again.max_tokens);
        let are_near = |one: &Option<Number>, other: &Option<Number>| match (one, other) {
            (Some(one), Some(other)) => are_equal(&Value::Number(one.clone()), &Value::Number(other.clone())),
            (one, other) => one == other,
        };
        assert!(are_near(&asked.temperature, &again.temperature));
        assert!(are_near(&asked.top_p, &again.top_p));
        assert_eq!(asked.top_k, again.top_k);
        assert_eq!((&asked.stop, asked.stream), (&again.stop, again.stream));
        let user = asked
            .user
            .as_ref()
            .filter(|user| upstream != Operation::Chat || user.chars().count() <= MAX_USER);
        assert_eq!(user, again.user.as_ref());
        let schema = |format: &OutputFormat| match format {
            OutputFormat::JsonSchema { schema, .. } => {
                let mut schema = schema.clone();
                schema.as_object_mut().map(|schema: &mut Map<_, _>| schema.shift_remove("description"));
                Some(schema)
            }
            _ => None,
        };
        match (schema(&asked.format), schema(&again.format)) {
            (Some(one), Some(other)) => assert!(are_equal(&one, &other), "{one} {other}"),
            (one, other) => assert_eq!(one, other),
        }
    }
}

/// The texts, one after the other, somewhere in the others.
fn contains_in_order(all: &[String], texts: &[String]) {
    let all = all.join("\n");
    let mut rest = &*all;
    for text in texts {
        let at = rest.find(&**text).unwrap_or_else(|| panic!("{text:?} is not in {rest:?}"));
        rest = &rest[at + text.len()..];
    }
}

fn shown(media: &Media) -> String {
    match media {
        Media::Base64 { media_type, data } => format!("{media_type};{data}"),
        Media::Url(text) | Media::Text(text) => text.clone(),
    }
}

/// The arguments of a call as JSON, where they are; none at all count as an empty object.
fn arguments(text: &str) -> Value {
    match text.trim() {
        "" => Value::Object(Map::new()),
        text => serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())),
    }
}

/// Equal, but for the last digit of a number, which a parser of JSON rounds.
fn are_equal(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            let (one, other) = (one.as_f64().unwrap_or(f64::NAN), other.as_f64().unwrap_or(f64::NAN));
            one == other || (one - other).abs() <= one.abs() * 1e-12
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| are_equal(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            let is_in =
                |(key, value): (&String, &Value)| other.get(key).is_some_and(|other| are_equal(value, other));
            one.len() == other.len() && one.iter().all(is_in)
        }
        (one, other) => one == other,
    }
}

/// An answer's first choice.
#[derive(Debug, Default)]
pub struct Answer {
    text: String,
    refusal: String,
    calls: Vec<(String, String)>,
    finish: Option<Finish>,
}

impl Answer {
    /// Of a whole answer.
    pub fn of_reply(reply: &Reply) -> Self {
        let mut answer = Self::default();
        let Some(choice) = reply.choices.first() else { return answer };
        for part in &choice.parts {
            match part {
                Part::Text(text) => answer.text += text,
                Part::Refusal(text) => answer.refusal += text,
                Part::ToolCall(call) => answer.calls.push((call.name.clone(), call.arguments.clone())),
                _ => {}
            }
        }
        answer.finish = choice.finish.clone();
        answer
    }

    /// Of a stream's pieces.
    pub fn of_deltas(deltas: &[Delta]) -> Self {
        let (mut answer, mut places) = (Self::default(), HashMap::new());
        for delta in deltas {
            match delta {
                Delta::Text { choice: 0, text, .. } => answer.text += text,
                Delta::Refusal { choice: 0, text } => answer.refusal += text,
                Delta::ToolCall { choice: 0, call, name, .. } => {
                    places.insert(*call, answer.calls.len());
                    answer.calls.push((name.clone(), String::new()));
                }
                Delta::ToolArguments { choice: 0, call, json } => {
                    answer.calls[places[call]].1 += json;
                }
                Delta::Finish { choice: 0, finish } => answer.finish = Some(finish.clone()),
                _ => {}
            }
        }
        answer
    }

    /// Of OpenAI's response.
    pub fn of_response(response: &Value) -> Self {
        let mut answer = Self::default();
        let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
        for item in response["output"].as_array().into_iter().flatten() {
            match item["type"].as_str() {
                Some("function_call") => answer.calls.push((text(item, "name"), text(item, "arguments"))),
                Some("message") => {
                    for part in item["content"].as_array().into_iter().flatten() {
                        answer.text += &text(part, "text");
                        answer.refusal += &text(part, "refusal");
                    }
                }
                _ => {}
            }
        }
        answer.finish = match response["status"].as_str() {
            Some("completed") => Some(Finish::Stop),
            Some("incomplete") => Some(Finish::Length),
            _ => None,
        };
        answer
    }

    /// Of the events of OpenAI's response: its pieces are what its last event repeats.
    pub fn of_response_events(events: &[Value]) -> Self {
        let ended = ["response.completed", "response.incomplete"];
        let last =
            events.last().filter(|event| event["type"].as_str().is_some_and(|kind| ended.contains(&kind)));
        let Some(last) = last else { return Self::default() };
        let answer = Self::of_response(&last["response"]);
        let pieces = |kind: &str| -> String {
            let pieces = events.iter().filter(|event| event["type"] == kind);
            pieces.filter_map(|event| event["delta"].as_str()).collect()
        };
        assert_eq!(pieces("response.output_text.delta"), answer.text);
        assert_eq!(pieces("response.refusal.delta"), answer.refusal);
        answer
    }

    /// Panics where the answer that was written for a caller lacks something of this one, or ends better.
    pub fn is_kept_by(&self, written: &Self, caller: Operation) {
        let both = |answer: &Self| answer.text.len() + answer.refusal.len();
        match caller {
            Operation::Messages => assert_eq!(both(self), both(written), "{self:?} {written:?}"),
            _ => assert_eq!((&self.text, &self.refusal), (&written.text, &written.refusal)),
        }
        assert_eq!(self.calls.len(), written.calls.len(), "{self:?} {written:?}");
        for ((name, arguments_read), (name_again, again)) in self.calls.iter().zip(&written.calls) {
            assert_eq!(name, name_again);
            let (read, again) = (arguments(arguments_read), arguments(again));
            assert!(!read.is_object() || are_equal(&read, &again), "{read} {again}");
        }
        // A whole answer without a reason ended with its body, and a response has no third word for that.
        if caller == Operation::Responses && self.finish.is_none() {
            return;
        }
        // INVARIANT 13.
        let is_proper = |finish: &Option<Finish>| {
            matches!(finish, Some(Finish::Stop | Finish::StopSequence(_) | Finish::ToolCalls))
        };
        assert!(is_proper(&self.finish) || !is_proper(&written.finish), "{self:?} {written:?}");
    }
}
