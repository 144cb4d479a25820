//! What an error of a model server means, by its codes and its words. Servers put several meanings under one status (403: our
//! key, or the caller's prompt), so the body is read before the status decides.
//!
//! Words may repeat a part of the prompt. So meanings that let a request fail over are found by a code, or at the beginning of a
//! message without what it quotes. A refusal of content is looked for in every text of the body, and wins.

mod words;

use super::error::UpstreamError;
use words::{
    ABOUT_LOAD, ACCOUNT_WORDS, CONTENT_MARKS, CONTENT_NAMES, CONTENT_PHRASES, CONTENT_REFUSALS,
    CONTENT_SUBJECTS, CONTEXT_MARKS, CONTEXT_WORDS, CREDENTIAL_MARKS, CREDENTIAL_WORDS, MODEL_MARKS,
    MODEL_WORDS, QUOTA_MARKS, QUOTA_WORDS, UNSUPPORTED_WORDS,
};

/// What caused an error, as far as its body shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorMeaning {
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

/// Most bytes of a text that may be a code.
const MAX_CODE: usize = 96;

/// Most bytes of a message that are searched.
const MAX_SEARCHED: usize = 2048;

/// The meaning of an error with these marks (its codes, types and reasons, in lower case) and texts (all of its body's).
pub(super) fn of(error: &UpstreamError, marks: &[String], texts: &[String]) -> Option<ErrorMeaning> {
    let is = |names: &[&str]| marks.iter().any(|mark| names.contains(&mark.as_str()));
    let holds = |parts: &[&str]| marks.iter().any(|mark| parts.iter().any(|part| mark.contains(part)));
    // In the whole body and in quotations too: words of the caller can only keep a request from failing over here.
    let refuses = |text: &String| {
        let is_code = text.len() <= MAX_CODE;
        is_about_content(text)
            || (is_code && CONTENT_MARKS.iter().any(|part| text.contains(part)))
            || CONTENT_NAMES.contains(&text.as_str())
    };
    if holds(CONTENT_MARKS) || is(CONTENT_NAMES) || texts.iter().any(refuses) {
        return Some(ErrorMeaning::Content);
    }
    let message = error.message.as_deref().map(searched).unwrap_or_default();
    let by_mark = [
        (ErrorMeaning::ContextLength, CONTEXT_MARKS),
        (ErrorMeaning::QuotaUsedUp, QUOTA_MARKS),
        (ErrorMeaning::Credentials, CREDENTIAL_MARKS),
        (ErrorMeaning::ModelUnavailable, MODEL_MARKS),
    ];
    let by_mark = by_mark.into_iter().find_map(|(meaning, names)| is(names).then_some(meaning));
    let contains = |patterns: &[&str]| patterns.iter().any(|pattern| contains(&message, pattern));
    let begins = |patterns: &[&str]| patterns.iter().any(|pattern| begins(&message, pattern));
    by_mark.or_else(|| {
        [
            (ErrorMeaning::ContextLength, contains(CONTEXT_WORDS)),
            (ErrorMeaning::Unsupported, contains(UNSUPPORTED_WORDS)),
            (ErrorMeaning::QuotaUsedUp, begins(QUOTA_WORDS)),
            (ErrorMeaning::Credentials, begins(CREDENTIAL_WORDS)),
            (ErrorMeaning::ModelUnavailable, begins(MODEL_WORDS)),
        ]
        .into_iter()
        .find_map(|(meaning, found)| found.then_some(meaning))
    })
}

/// The meaning of a body that is no JSON: a refusal of content, or none that can be known.
pub(super) fn of_text(text: &str) -> Option<ErrorMeaning> {
    has_phrase(&text.to_lowercase()).then_some(ErrorMeaning::Content)
}

/// Whether a refusal is about our key or account. What is about neither may be a rule that the prompt broke.
pub fn is_about_account(message: &str) -> bool {
    let message = searched(message);
    ACCOUNT_WORDS.iter().any(|word| message.contains(word))
}

fn has_phrase(text: &str) -> bool {
    CONTENT_PHRASES.iter().any(|phrase| text.contains(phrase))
}

fn is_about_content(text: &str) -> bool {
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    has_phrase(text) || (has(CONTENT_SUBJECTS) && has(CONTENT_REFUSALS) && !has(ABOUT_LOAD))
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

/// Whether a text has the parts of a pattern, which `*` separates, one after another.
fn contains(text: &str, pattern: &str) -> bool {
    let mut rest = text;
    for part in pattern.split('*') {
        let Some(found) = rest.find(part).and_then(|at| rest.get(at + part.len()..)) else { return false };
        rest = found;
    }
    true
}

/// Whether a text begins with a pattern, in which `*` stands for one word and `$` for the end. Before it may stand the name of an exception or a
/// status, which gateways write before a provider's message.
fn begins(text: &str, pattern: &str) -> bool {
    let text = text.trim_start();
    [Some(text), unprefixed(text)].into_iter().flatten().any(|text| begins_here(text, pattern))
}

fn begins_here(text: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    for part in parts {
        let found = if part == "$" { Some((rest, "")) } else { rest.split_once(part) };
        let Some((word, after)) = found else { return false };
        if word.split_whitespace().count() > 1 {
            return false;
        }
        rest = after;
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
