//! Goes on with a stream that broke off, from another attempt at the same answer: what the caller received already is compared
//! and swallowed, and what follows is passed on. Nothing is delivered twice, and nothing that contradicts what was delivered.

use std::collections::BTreeMap;

use super::reply::{Delta, Finish};

/// Most that is remembered of a delivered stream, in bytes, the cost of keeping each piece included. A stream that delivered
/// more is not resumed.
pub const MAX_DELIVERED: usize = 1024 * 1024;

/// What one piece costs besides its text, in bytes.
const PIECE_BYTES: usize = 64;

/// What a caller has received of a stream.
#[derive(Debug, Clone, Default)]
pub struct Delivered {
    deltas: Vec<Delta>,
    bytes: usize,
    /// Whether it was too much, or nothing that pieces express.
    unknown: bool,
}

impl Delivered {
    /// Records a piece that was delivered. What continues the piece before it costs no more than its text.
    pub fn push(&mut self, mut delta: Delta) {
        if self.unknown {
            return;
        }
        // Probabilities are not compared, and take many times their text.
        if let Delta::Text { logprobs, .. } = &mut delta {
            *logprobs = None;
        }
        self.bytes = self.bytes.saturating_add(bytes_of(&delta));
        if !self.deltas.last_mut().is_some_and(|last| append(last, &delta)) {
            self.bytes = self.bytes.saturating_add(PIECE_BYTES);
            self.deltas.push(delta);
        }
        if self.bytes > MAX_DELIVERED {
            self.give_up();
        }
    }

    /// Records that something was delivered that no piece expresses.
    pub fn give_up(&mut self) {
        self.unknown = true;
        self.deltas = Vec::new();
    }

    /// The pieces in order, by which a new writer gets into the state of the one that wrote them. `None` where it was too much, or
    /// something else than pieces.
    pub fn deltas(&self) -> Option<&[Delta]> {
        (!self.unknown).then_some(&self.deltas)
    }

    /// The text of the answer so far, where a model can continue it: one choice with text, and no call, refusal or end.
    pub fn prefix(&self) -> Option<String> {
        let mut prefix = String::new();
        for delta in self.deltas()? {
            match delta {
                Delta::Text { choice: 0, text, .. } => prefix.push_str(text),
                Delta::Start { .. }
                | Delta::Usage(_)
                | Delta::Reasoning { choice: 0, .. }
                | Delta::ReasoningSignature { choice: 0, .. }
                | Delta::EncryptedReasoning { choice: 0, .. } => {}
                _ => return None,
            }
        }
        (!prefix.is_empty()).then_some(prefix)
    }
}

/// Appends a piece to the one before it where it continues the same text.
fn append(last: &mut Delta, delta: &Delta) -> bool {
    match (last, delta) {
        (
            Delta::Text { choice: to, text, logprobs: None },
            Delta::Text { choice, text: more, logprobs: None },
        )
        | (Delta::Reasoning { choice: to, text }, Delta::Reasoning { choice, text: more })
            if to == choice =>
        {
            text.push_str(more);
            true
        }
        (
            Delta::ToolArguments { choice: to, call: of, json },
            Delta::ToolArguments { choice, call, json: more },
        ) if to == choice && of == call => {
            json.push_str(more);
            true
        }
        _ => false,
    }
}

/// The new attempt answers otherwise than what was delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the new attempt answers otherwise than what was delivered already")]
pub struct Differs;

/// Compares a new attempt with what was delivered.
///
/// Text, refusals and calls have to be equal, whatever pieces they come in; only a call's id may differ, and the first one
/// stays. Reasoning has to be equal where nothing else was delivered. Where the answer itself had begun, the new attempt's
/// reasoning is swallowed until the attempt has caught up.
#[derive(Debug)]
pub struct Resume {
    choices: BTreeMap<u64, Expected>,
    /// The text that the attempt continues, which it may repeat first, as llama.cpp's server does.
    continued: Option<Rest>,
}

/// What a choice has to repeat.
#[derive(Debug, Default)]
struct Expected {
    text: Rest,
    refusal: Rest,
    reasoning: Rest,
    /// Whether only reasoning was delivered.
    reasoning_only: bool,
    /// How many signatures and encrypted blocks were delivered.
    opaque: usize,
    calls: Vec<Call>,
    finish: Option<Finish>,
}

#[derive(Debug, Default)]
struct Call {
    name: String,
    /// Whether the attempt has made it too.
    made: bool,
    arguments: Rest,
}

/// A text, and how much of it was repeated.
#[derive(Debug, Default)]
struct Rest {
    text: String,
    repeated: usize,
}

impl Resume {
    /// A comparison with the pieces of [`Delivered::deltas`].
    pub fn new(delivered: &[Delta]) -> Self {
        let mut choices: BTreeMap<u64, Expected> = BTreeMap::new();
        for delta in delivered {
            if let Some(choice) = choice_of(delta) {
                choices.entry(choice).or_default().expect(delta);
            }
        }
        for expected in choices.values_mut() {
            expected.reasoning_only =
                expected.text.is_empty() && expected.refusal.is_empty() && expected.calls.is_empty();
        }
        Self { choices, continued: None }
    }

    /// A comparison with an attempt that got the beginning of the delivered text, `beginning`, to continue it; `rest` was delivered
    /// too. An attempt that repeats all of the beginning first is swallowed so far.
    pub fn continuing(beginning: &str, rest: &str) -> Self {
        let rest = Delta::Text { choice: 0, text: rest.to_owned(), logprobs: None };
        let continued = Some(Rest { text: beginning.to_owned(), repeated: 0 });
        Self { continued, ..Self::new(&[rest]) }
    }

    /// Takes the next piece of the new attempt, and returns what of it goes to the caller.
    ///
    /// # Errors
    /// [`Differs`] at the first difference.
    pub fn push(&mut self, delta: Delta) -> Result<Option<Delta>, Differs> {
        let Some(choice) = choice_of(&delta) else {
            // The caller has the start of the first attempt.
            return Ok(Some(delta).filter(|delta| !matches!(delta, Delta::Start { .. })));
        };
        let Some(delta) = self.without_beginning(delta)? else { return Ok(None) };
        match self.choices.get_mut(&choice) {
            None => Ok(Some(delta)),
            Some(expected) => expected.compare(delta),
        }
    }

    /// What of a piece is not the repeated beginning. Nothing, as long as it may be.
    fn without_beginning(&mut self, delta: Delta) -> Result<Option<Delta>, Differs> {
        let Some(continued) = &mut self.continued else { return Ok(Some(delta)) };
        match delta {
            Delta::Text { choice: 0, text, logprobs } => {
                let before = continued.repeated;
                let more = match continued.repeat(&text) {
                    // The last piece of the beginning itself ends the comparison too.
                    Ok("") if !continued.is_empty() => return Ok(None),
                    Ok(more) => more.to_owned(),
                    // No repetition: what looked like one is part of the answer.
                    Err(Differs) => format!("{}{text}", continued.text.get(..before).unwrap_or_default()),
                };
                self.continued = None;
                Ok((!more.is_empty()).then_some(Delta::Text { choice: 0, text: more, logprobs }))
            }
            delta @ (Delta::Finish { .. } | Delta::ToolCall { .. }) if continued.repeated > 0 => {
                drop(delta);
                Err(Differs)
            }
            delta => Ok(Some(delta)),
        }
    }

    /// Whether the new attempt has repeated everything that was delivered.
    pub fn caught_up(&self) -> bool {
        let repeats = self.continued.as_ref().is_some_and(|continued| continued.repeated > 0);
        !repeats && self.choices.values().all(Expected::caught_up)
    }
}

impl Expected {
    fn expect(&mut self, delta: &Delta) {
        match delta {
            Delta::Text { text, .. } => self.text.text.push_str(text),
            Delta::Refusal { text, .. } => self.refusal.text.push_str(text),
            Delta::Reasoning { text, .. } => self.reasoning.text.push_str(text),
            Delta::ReasoningSignature { .. } | Delta::EncryptedReasoning { .. } => {
                self.opaque = self.opaque.saturating_add(1);
            }
            Delta::ToolCall { name, .. } => {
                self.calls.push(Call { name: name.clone(), made: false, arguments: Rest::default() });
            }
            Delta::ToolArguments { call, json, .. } => {
                if let Some(call) = self.call(*call) {
                    call.arguments.text.push_str(json);
                }
            }
            Delta::Finish { finish, .. } => self.finish = Some(finish.clone()),
            Delta::Start { .. } | Delta::Usage(_) => {}
        }
    }

    fn call(&mut self, number: u64) -> Option<&mut Call> {
        self.calls.get_mut(usize::try_from(number).ok()?)
    }

    fn caught_up(&self) -> bool {
        let reasoning = !self.reasoning_only || self.reasoning.is_empty();
        reasoning && self.text.is_empty() && self.refusal.is_empty() && self.made_all_calls()
    }

    fn made_all_calls(&self) -> bool {
        self.calls.iter().all(|call| call.made && call.arguments.is_empty())
    }

    fn compare(&mut self, delta: Delta) -> Result<Option<Delta>, Differs> {
        let caught_up = self.caught_up();
        // Other content after a call would end it, without the rest of its arguments.
        let made_all_calls = self.made_all_calls();
        let finished = self.finish.is_some();
        let passed = match delta {
            Delta::Text { choice, text, logprobs } => {
                let more = self.text.repeat(&text)?;
                if !more.is_empty() && !made_all_calls {
                    return Err(Differs);
                }
                // The probabilities of a piece cannot be cut as its text can.
                let logprobs = logprobs.filter(|_| more == text);
                (!more.is_empty()).then(|| Delta::Text { choice, text: more.to_owned(), logprobs })
            }
            Delta::Refusal { choice, text } => {
                let more = self.refusal.repeat(&text)?;
                if !more.is_empty() && !made_all_calls {
                    return Err(Differs);
                }
                (!more.is_empty()).then(|| Delta::Refusal { choice, text: more.to_owned() })
            }
            Delta::Reasoning { .. } if !self.reasoning_only && !caught_up => None,
            Delta::Reasoning { choice, text } if self.reasoning_only => {
                let more = self.reasoning.repeat(&text)?;
                (!more.is_empty()).then(|| Delta::Reasoning { choice, text: more.to_owned() })
            }
            Delta::ReasoningSignature { .. } | Delta::EncryptedReasoning { .. }
                if !caught_up || self.opaque > 0 =>
            {
                self.opaque = self.opaque.saturating_sub(1);
                None
            }
            Delta::ToolCall { call, ref name, .. } => match self.call(call) {
                Some(expected) if expected.name == *name => {
                    expected.made = true;
                    None
                }
                Some(_) => return Err(Differs),
                None => Some(delta),
            },
            Delta::ToolArguments { choice, call, json } => {
                let more = match self.call(call) {
                    Some(expected) => expected.arguments.repeat(&json)?.to_owned(),
                    None => json,
                };
                (!more.is_empty()).then_some(Delta::ToolArguments { choice, call, json: more })
            }
            Delta::Finish { finish, .. } if finished || !caught_up => {
                return if caught_up && self.finish == Some(finish) { Ok(None) } else { Err(Differs) };
            }
            delta => Some(delta),
        };
        // A choice that was finished has nothing more.
        if finished && passed.is_some() { Err(Differs) } else { Ok(passed) }
    }
}

impl Rest {
    /// Whether all of it was repeated.
    fn is_empty(&self) -> bool {
        self.repeated == self.text.len()
    }

    /// What of `text` goes beyond the rest, which the beginning of `text` has to repeat.
    fn repeat<'a>(&mut self, text: &'a str) -> Result<&'a str, Differs> {
        let rest = self.text.get(self.repeated..).unwrap_or_default();
        if rest.starts_with(text) {
            self.repeated = self.repeated.saturating_add(text.len());
            return Ok("");
        }
        let more = text.strip_prefix(rest).ok_or(Differs)?;
        self.repeated = self.text.len();
        Ok(more)
    }
}

fn choice_of(delta: &Delta) -> Option<u64> {
    match delta {
        Delta::Text { choice, .. }
        | Delta::Reasoning { choice, .. }
        | Delta::ReasoningSignature { choice, .. }
        | Delta::EncryptedReasoning { choice, .. }
        | Delta::Refusal { choice, .. }
        | Delta::ToolCall { choice, .. }
        | Delta::ToolArguments { choice, .. }
        | Delta::Finish { choice, .. } => Some(*choice),
        Delta::Start { .. } | Delta::Usage(_) => None,
    }
}

/// What of a piece the provider can make long, in bytes.
fn bytes_of(delta: &Delta) -> usize {
    let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    match delta {
        Delta::Text { text, .. }
        | Delta::Reasoning { text, .. }
        | Delta::Refusal { text, .. }
        | Delta::ReasoningSignature { signature: text, .. }
        | Delta::EncryptedReasoning { data: text, .. }
        | Delta::ToolArguments { json: text, .. } => text.len(),
        Delta::ToolCall { id, name, .. } => name.len().saturating_add(id.len()),
        Delta::Start { id, model, .. } => length(id).saturating_add(length(model)),
        Delta::Finish { .. } | Delta::Usage(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text_of(delta: &Delta) -> Option<&str> {
        match delta {
            Delta::Text { text, .. } => Some(text),
            _ => None,
        }
    }

    fn text(text: &str) -> Delta {
        Delta::Text { choice: 0, text: text.into(), logprobs: None }
    }

    fn reasoning(text: &str) -> Delta {
        Delta::Reasoning { choice: 0, text: text.into() }
    }

    fn call(id: &str, name: &str) -> Delta {
        Delta::ToolCall { choice: 0, call: 0, id: id.into(), name: name.into() }
    }

    fn arguments(json: &str) -> Delta {
        Delta::ToolArguments { choice: 0, call: 0, json: json.into() }
    }

    fn start(id: &str) -> Delta {
        Delta::Start { id: Some(id.into()), model: None, created: None }
    }

    fn end() -> Delta {
        Delta::Finish { choice: 0, finish: Finish::Stop }
    }

    fn resumed(delivered: &[Delta], again: &[Delta]) -> Result<Vec<Delta>, Differs> {
        let mut resume = Resume::new(delivered);
        let passed: Result<Vec<_>, _> = again.iter().cloned().map(|delta| resume.push(delta)).collect();
        Ok(passed?.into_iter().flatten().collect())
    }

    #[test]
    fn what_was_delivered_is_swallowed_and_the_rest_passes() {
        let signed = Delta::ReasoningSignature { choice: 0, signature: "s".into() };
        for (delivered, again, expected) in [
            (
                vec![start("a"), text("Hello")],
                vec![start("b"), text("Hel"), text("lo, "), text("you"), end()],
                vec![text(", "), text("you"), end()],
            ),
            // Reasoning of another attempt is swallowed once the answer had begun, and no later than that.
            (
                vec![reasoning("hm"), signed.clone(), text("Hi")],
                vec![reasoning("well"), signed.clone(), text("Hi"), text("!"), end()],
                vec![text("!"), end()],
            ),
            (
                vec![reasoning("hm")],
                vec![reasoning("h"), reasoning("m."), text("Hi"), end()],
                vec![reasoning("."), text("Hi"), end()],
            ),
            // The first id stays, and a call is not delivered twice.
            (
                vec![call("a", "f"), arguments("{\"x\"")],
                vec![call("b", "f"), arguments("{\"x\":1}"), end()],
                vec![arguments(":1}"), end()],
            ),
            (vec![text("done"), end()], vec![text("done"), end()], vec![]),
            (vec![start("a")], vec![start("b"), text("x"), end()], vec![text("x"), end()]),
        ] {
            assert_eq!(resumed(&delivered, &again), Ok(expected), "{delivered:?}");
        }
    }

    #[test]
    fn beginning_is_swallowed_where_the_attempt_repeats_it() {
        for (pieces, expected) in [
            (&["Once", " upon", " a time"][..], Ok(" a time")),
            (&["Once upon a", " time"], Ok(" a time")),
            (&[" a", " time"], Ok(" a time")),
            (&["On", " time"], Ok("On time")),
            (&["Once"], Err(Differs)),
        ] {
            let mut resume = Resume::continuing("Once upon", "");
            let deltas = pieces.iter().map(|piece| text(piece)).chain([end()]);
            let passed: Result<Vec<_>, _> = deltas.map(|delta| resume.push(delta)).collect();
            let whole = passed.map(|passed| passed.iter().flatten().filter_map(text_of).collect::<String>());
            assert_eq!(whole.as_deref(), expected.as_ref().copied(), "{pieces:?}");
        }
        let mut resume = Resume::continuing("Once", " ");
        assert_eq!(resume.push(text(" upon")), Ok(Some(text("upon"))));
    }

    #[test]
    fn first_difference_ends_the_attempt() {
        for (delivered, again) in [
            (vec![text("Hello")], vec![text("Hallo")]),
            (vec![text("Hello")], vec![text("Hel"), end()]),
            (vec![text("Hello")], vec![text("Hel"), text("p")]),
            (vec![reasoning("hm")], vec![reasoning("well")]),
            (vec![call("a", "f")], vec![call("b", "g")]),
            (vec![call("a", "f"), arguments("{\"x\"")], vec![call("b", "f"), arguments("{ \"x\"")]),
            (vec![text("done"), end()], vec![text("done"), text("!")]),
            // A call without arguments so far has to come again too, and before anything that would end it.
            (vec![call("a", "f")], vec![end()]),
            (vec![call("a", "f")], vec![text("no call"), end()]),
            (vec![call("a", "f")], vec![text("first"), call("b", "f"), arguments("{}"), end()]),
            (
                vec![text("x"), call("a", "f"), arguments("{")],
                vec![text("xy"), call("b", "f"), arguments("{}")],
            ),
        ] {
            assert_eq!(resumed(&delivered, &again), Err(Differs), "{delivered:?}");
        }
    }

    #[test]
    fn only_text_of_one_choice_can_be_continued() {
        let prefix = |deltas: &[Delta]| {
            let mut delivered = Delivered::default();
            deltas.iter().cloned().for_each(|delta| delivered.push(delta));
            delivered.prefix()
        };
        assert_eq!(prefix(&[start("a"), reasoning("hm"), text("Hel"), text("lo")]).as_deref(), Some("Hello"));
        for deltas in [&[reasoning("hm")][..], &[text("x"), call("a", "f")], &[text("x"), end()]] {
            assert_eq!(prefix(deltas), None);
        }
    }

    #[test]
    fn what_was_delivered_is_remembered_within_a_bound() {
        let mut delivered = Delivered::default();
        for _ in 0..MAX_DELIVERED / PIECE_BYTES / 2 {
            delivered.push(text(""));
            delivered.push(reasoning(""));
        }
        assert!(delivered.deltas().is_some());
        delivered.push(text(""));
        assert_eq!((delivered.deltas(), delivered.prefix()), (None, None));

        // What continues a piece costs its text alone.
        let mut delivered = Delivered::default();
        (0..MAX_DELIVERED - PIECE_BYTES).for_each(|_| delivered.push(text("x")));
        assert_eq!(delivered.prefix().map(|prefix| prefix.len()), Some(MAX_DELIVERED - PIECE_BYTES));
        delivered.push(text("x"));
        assert_eq!(delivered.deltas(), None);

        // Probabilities are not kept, and ids count.
        let mut delivered = Delivered::default();
        let logprobs = serde_json::json!({"content": ["x".repeat(MAX_DELIVERED)]});
        delivered.push(Delta::Text { choice: 0, text: "x".into(), logprobs: Some(logprobs) });
        assert_eq!(delivered.deltas(), Some(&[text("x")][..]));
        delivered.push(call(&"i".repeat(MAX_DELIVERED), "f"));
        assert_eq!(delivered.deltas(), None);
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(answer in "\\PC{0,30}", cut in 0_usize..31, one in 1_usize..7, other in 1_usize..7) {
            let pieces = |size: usize| {
                let characters: Vec<char> = answer.chars().collect();
                characters.chunks(size).map(|piece| text(&piece.iter().collect::<String>())).collect::<Vec<_>>()
            };
            let delivered: Vec<Delta> = pieces(one).into_iter().take(cut).collect();
            let mut again = pieces(other);
            again.push(end());
            let passed = resumed(&delivered, &again).unwrap();
            let whole: String = delivered.iter().chain(&passed).filter_map(text_of).collect();
            prop_assert_eq!(whole, answer);
            prop_assert_eq!(passed.last(), Some(&end()));
        }
    }
}
