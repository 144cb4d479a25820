//! Finds out what an error of a model server means, from its codes and its message. Servers use one status for several causes
//! (403: our key, or the caller's prompt), so the body is read before the status decides.
//!
//! A message may repeat a part of the prompt. So a meaning that lets a request fail over is found by a code, or at the
//! beginning of a message without its quotations. A refusal of content is searched for in every string of the body, and wins.

mod phrases;

use phrases::{
    ACCOUNT_PHRASES, CONTENT_CODE_PARTS, CONTENT_CODES, CONTENT_PHRASES, CONTENT_REFUSAL_PHRASES,
    CONTENT_SUBJECT_PHRASES, CONTEXT_LENGTH_CODES, CONTEXT_LENGTH_PHRASES, CREDENTIAL_CODES,
    CREDENTIAL_PHRASES, LOAD_PHRASES, MODEL_CODES, MODEL_PHRASES, QUOTA_CODES, QUOTA_PHRASES,
    UNSUPPORTED_PHRASES,
};

/// The cause of an error, where its body shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorMeaning {
    /// The prompt or the answer was refused for its content: moderation, safety, policy.
    Content,
    /// The model cannot process a request of this form, e.g. images sent to a text model.
    Unsupported,
    /// The prompt is too long for the model.
    ContextLength,
    /// The account's quota or credit is used up, and does not come back with time.
    QuotaUsedUp,
    /// The server refuses the credential or its account.
    Credentials,
    /// The server does not have the requested model.
    ModelUnavailable,
}

/// Longest string that may be a code, in bytes.
const MAX_CODE_BYTES: usize = 96;

/// How many bytes of a message are searched.
const MAX_SEARCHED_BYTES: usize = 2048;

/// The meaning of an error with this message. `codes` are its codes, types and reasons, and `texts` all strings of its body, both in lower case.
pub(crate) fn of(message: Option<&str>, codes: &[String], texts: &[String]) -> Option<ErrorMeaning> {
    let is = |names: &[&str]| codes.iter().any(|code| names.contains(&code.as_str()));
    let holds = |parts: &[&str]| codes.iter().any(|code| parts.iter().any(|part| code.contains(part)));
    // The whole body, quotations included: here, words of the caller can only keep a request from failing over.
    let refuses = |text: &String| {
        let is_code = text.len() <= MAX_CODE_BYTES;
        is_about_content(text)
            || (is_code && CONTENT_CODE_PARTS.iter().any(|part| text.contains(part)))
            || CONTENT_CODES.contains(&text.as_str())
    };
    if holds(CONTENT_CODE_PARTS) || is(CONTENT_CODES) || texts.iter().any(refuses) {
        return Some(ErrorMeaning::Content);
    }
    let message = message.map(searched).unwrap_or_default();
    let by_code = [
        (ErrorMeaning::ContextLength, CONTEXT_LENGTH_CODES),
        (ErrorMeaning::QuotaUsedUp, QUOTA_CODES),
        (ErrorMeaning::Credentials, CREDENTIAL_CODES),
        (ErrorMeaning::ModelUnavailable, MODEL_CODES),
    ];
    let by_code = by_code.into_iter().find_map(|(meaning, names)| is(names).then_some(meaning));
    let contains = |patterns: &[&str]| patterns.iter().any(|pattern| contains(&message, pattern));
    let begins = |patterns: &[&str]| patterns.iter().any(|pattern| begins(&message, pattern));
    by_code.or_else(|| {
        [
            (ErrorMeaning::ContextLength, contains(CONTEXT_LENGTH_PHRASES)),
            (ErrorMeaning::Unsupported, contains(UNSUPPORTED_PHRASES)),
            (ErrorMeaning::QuotaUsedUp, begins(QUOTA_PHRASES)),
            (ErrorMeaning::Credentials, begins(CREDENTIAL_PHRASES)),
            (ErrorMeaning::ModelUnavailable, begins(MODEL_PHRASES)),
        ]
        .into_iter()
        .find_map(|(meaning, found)| found.then_some(meaning))
    })
}

/// The meaning of a body that is not JSON. Only a refusal of content is recognized in it.
pub(crate) fn of_text(text: &str) -> Option<ErrorMeaning> {
    has_phrase(&text.to_lowercase()).then_some(ErrorMeaning::Content)
}

/// Whether a refusal is about our key or account. Any other refusal may be of the prompt.
pub fn is_about_account(message: &str) -> bool {
    let message = searched(message);
    ACCOUNT_PHRASES.iter().any(|word| message.contains(word))
}

fn has_phrase(text: &str) -> bool {
    CONTENT_PHRASES.iter().any(|phrase| text.contains(phrase))
}

fn is_about_content(text: &str) -> bool {
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    has_phrase(text) || (has(CONTENT_SUBJECT_PHRASES) && has(CONTENT_REFUSAL_PHRASES) && !has(LOAD_PHRASES))
}

/// A message in lower case and without its quotations, which may be the caller's words.
fn searched(message: &str) -> String {
    let end = (0..=MAX_SEARCHED_BYTES.min(message.len())).rev().find(|end| message.is_char_boundary(*end));
    let message = message.get(..end.unwrap_or_default()).unwrap_or_default().to_lowercase();
    let mut plain = String::with_capacity(message.len());
    let mut rest = message.as_str();
    while let Some((before, mark, after)) = quotation(rest) {
        plain.push_str(before);
        // The quotation marks stay, so that a pattern can match an empty quotation.
        plain.push(mark);
        plain.push(mark);
        rest = after;
    }
    plain.push_str(rest);
    plain
}

/// Splits at the first quotation: the text before it, its opening mark, and the text after it. An apostrophe within a word opens
/// no quotation. Backticks do not quote: what stands in them is the name of a field.
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
        // The last mark of the message closes the quotation, because quoted text may contain marks itself.
        if let Some(end) = after.rfind(closing) {
            let short = after.find(closing).filter(|first| *first <= MAX_NAME_BYTES);
            let end = short.unwrap_or(end);
            return Some((before, mark, after.get(end + closing.len_utf8()..)?));
        }
    }
    None
}

/// Longest quotation that is taken for a name, in bytes. It ends at its first closing mark; a longer one at the last mark of
/// the message.
const MAX_NAME_BYTES: usize = 96;

/// Whether a text contains the parts of a pattern in order; `*` separates the parts.
fn contains(text: &str, pattern: &str) -> bool {
    let mut rest = text;
    for part in pattern.split('*') {
        let Some(found) = rest.find(part).and_then(|at| rest.get(at + part.len()..)) else { return false };
        rest = found;
    }
    true
}

/// Whether a text begins with a pattern, in which `*` matches one word at most and `$` the end. Gateways write the name of an
/// exception or a status before a provider's message; such a prefix is skipped.
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

/// The text after a prefix such as `litellm.NotFoundError: ` or `Error code: 404 - `: one word, or two.
fn unprefixed(text: &str) -> Option<&str> {
    let (prefix, rest) = text.split_once(": ").or_else(|| text.split_once(" - "))?;
    (prefix.len() <= 64 && prefix.split(' ').count() <= 2).then(|| rest.trim_start())
}

#[cfg(test)]
mod tests;
