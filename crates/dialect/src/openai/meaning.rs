//! What an error of a model server means, by its codes and its words. Servers put several meanings under one status (403: our
//! key, or the caller's prompt), so the body is read before the status decides.
//!
//! Words may repeat a part of the prompt. Text in quotation marks is left out for that reason, and meanings that let a request
//! fail over are found at the beginning of a message only, or by a code. Meanings that keep it from failing over win.

mod words;

use super::error::UpstreamError;
use words::{
    ABOUT_LOAD, CONTENT_MARKS, CONTENT_NAMES, CONTENT_PHRASES, CONTENT_REFUSALS, CONTENT_SUBJECTS,
    CONTEXT_MARKS, CONTEXT_WORDS, CREDENTIAL_MARKS, CREDENTIAL_WORDS, MODEL_MARKS, MODEL_WORDS, QUOTA_MARKS,
    QUOTA_WORDS, UNSUPPORTED_WORDS,
};

/// What caused an error, as far as its body shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// The prompt or the answer was refused for what it says: moderation, safety, policy.
    Content,
    /// The model cannot process a request of this form, such as images sent to a text model.
    Unsupported,
    /// The prompt is too long for the model.
    ContextLength,
    /// The account's quota or credit is used up, and waiting does not bring it back.
    QuotaUsedUp,
    /// The credential or the account behind it is refused.
    Credentials,
    /// The server does not have the model that it was asked for.
    ModelUnavailable,
}

/// Most bytes of a message that are searched.
const MAX_SEARCHED: usize = 2048;

/// The meaning of an error with these marks: its codes, types and reasons, in lower case.
pub(super) fn of(error: &UpstreamError, marks: &[String]) -> Option<Meaning> {
    let is = |names: &[&str]| marks.iter().any(|mark| names.contains(&mark.as_str()));
    let holds = |parts: &[&str]| marks.iter().any(|mark| parts.iter().any(|part| mark.contains(part)));
    if holds(CONTENT_MARKS) || is(CONTENT_NAMES) {
        return Some(Meaning::Content);
    }
    let message = error.message.as_deref().map(searched).unwrap_or_default();
    let by_mark = [
        (Meaning::ContextLength, CONTEXT_MARKS),
        (Meaning::QuotaUsedUp, QUOTA_MARKS),
        (Meaning::Credentials, CREDENTIAL_MARKS),
        (Meaning::ModelUnavailable, MODEL_MARKS),
    ];
    let by_mark = || by_mark.into_iter().find_map(|(meaning, names)| is(names).then_some(meaning));
    let contains = |patterns: &[&str]| patterns.iter().any(|pattern| matches(&message, pattern, false));
    let begins = |patterns: &[&str]| patterns.iter().any(|pattern| matches(&message, pattern, true));
    if is_about_content(&message) {
        return Some(Meaning::Content);
    }
    by_mark().or_else(|| {
        [
            (Meaning::ContextLength, contains(CONTEXT_WORDS)),
            (Meaning::Unsupported, contains(UNSUPPORTED_WORDS)),
            (Meaning::QuotaUsedUp, begins(QUOTA_WORDS)),
            (Meaning::Credentials, begins(CREDENTIAL_WORDS)),
            (Meaning::ModelUnavailable, begins(MODEL_WORDS)),
        ]
        .into_iter()
        .find_map(|(meaning, found)| found.then_some(meaning))
    })
}

fn is_about_content(message: &str) -> bool {
    let has = |words: &[&str]| words.iter().any(|word| message.contains(word));
    has(CONTENT_PHRASES) || (has(CONTENT_SUBJECTS) && has(CONTENT_REFUSALS) && !has(ABOUT_LOAD))
}

/// A message in lower case and without what stands in quotation marks, which may be the caller's words.
fn searched(message: &str) -> String {
    let end = (0..=MAX_SEARCHED.min(message.len())).rev().find(|end| message.is_char_boundary(*end));
    let message = message.get(..end.unwrap_or_default()).unwrap_or_default().to_lowercase();
    let mut plain = String::with_capacity(message.len());
    let mut rest = message.as_str();
    while let Some((before, mark, after)) = quotation(rest) {
        plain.push_str(before);
        // The marks stay, so that patterns see that something stood there.
        plain.push(mark);
        plain.push(mark);
        rest = after;
    }
    plain.push_str(rest);
    plain
}

/// Splits at the first quotation: before it, its mark, and after it. An apostrophe within a word opens none, and a short name in
/// backticks is a field's, not the caller's.
fn quotation(text: &str) -> Option<(&str, char, &str)> {
    let mut previous = ' ';
    for (at, mark) in text.char_indices() {
        let closing = match mark {
            '"' => Some('"'),
            '\'' if !previous.is_alphanumeric() => Some('\''),
            '“' => Some('”'),
            _ => None,
        };
        previous = mark;
        let Some(closing) = closing else { continue };
        let (before, after) = (text.get(..at)?, text.get(at + mark.len_utf8()..)?);
        // Of several, the last one closes: what is quoted may hold marks itself.
        if let Some(end) = after.rfind(closing) {
            let short = after.find(closing).filter(|first| *first <= MAX_NAME);
            let end = short.unwrap_or(end);
            return Some((before, mark, after.get(end + closing.len_utf8()..)?));
        }
    }
    None
}

/// Longest quotation that is taken for a name, bytes; a longer one ends at the last mark of the message.
const MAX_NAME: usize = 96;

/// Whether a text has the parts of a pattern, which `*` separates, one after another; `from_start`: with nothing before them
/// but the name of an exception or a status, which gateways write before a provider's message.
fn matches(text: &str, pattern: &str, from_start: bool) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let text = text.trim_start();
    let starts = if from_start {
        [Some(text), unprefixed(text)].into_iter().flatten().find_map(|text| text.strip_prefix(first))
    } else {
        text.find(first).and_then(|at| text.get(at + first.len()..))
    };
    let Some(mut rest) = starts else { return false };
    for part in parts {
        let Some(found) = rest.find(part).and_then(|at| rest.get(at + part.len()..)) else { return false };
        rest = found;
    }
    true
}

/// After a prefix such as `litellm.NotFoundError: ` or `Error code: 404 - `: one word, or one word and a number.
fn unprefixed(text: &str) -> Option<&str> {
    let (prefix, rest) = text.split_once(": ").or_else(|| text.split_once(" - "))?;
    (prefix.len() <= 64 && prefix.split(' ').count() <= 2).then(|| rest.trim_start())
}

#[cfg(test)]
mod tests;
