//! Writes how the model should reason. Models from version 4.6 on decide themselves how long (`adaptive`, with an effort);
//! earlier ones take a budget, and reject the newer form.

use serde_json::{Map, Value, json};

use crate::translate::conversation::ReasoningRequest;

/// The least budget that Anthropic accepts, in tokens.
const MIN_BUDGET: u64 = 1024;
/// The first version whose models reason without a budget.
const FIRST_ADAPTIVE: (u32, u32) = (4, 6);

/// `thinking`, and the effort for `output_config`. No more than half of `max_tokens` is spent on a budget that the caller did
/// not give; where less than Anthropic's minimum is left for it, the model does not reason.
pub(super) fn write(
    request: &ReasoningRequest,
    model: &str,
    max_tokens: Option<u64>,
) -> (Option<Value>, Option<String>) {
    let effort = request.effort.as_deref();
    if request.enabled == Some(false) || effort == Some("none") {
        return (Some(json!({ "type": "disabled" })), None);
    }
    let mut thinking = Map::new();
    let mut written_effort = None;
    if let Some(budget) = request.max_tokens {
        thinking.insert("type".to_owned(), "enabled".into());
        thinking.insert("budget_tokens".to_owned(), budget.into());
        written_effort = effort.filter(|_| is_adaptive(model)).map(known_effort);
    } else if is_adaptive(model) {
        thinking.insert("type".to_owned(), "adaptive".into());
        written_effort = effort.map(known_effort);
    } else {
        let budget = budget(effort).min(max_tokens.map_or(u64::MAX, |tokens| tokens / 2));
        if budget < MIN_BUDGET {
            return (None, None);
        }
        thinking.insert("type".to_owned(), "enabled".into());
        thinking.insert("budget_tokens".to_owned(), budget.into());
    }
    if let Some(visible) = request.visible {
        thinking.insert("display".to_owned(), if visible { "summarized" } else { "omitted" }.into());
    }
    (Some(Value::Object(thinking)), written_effort)
}

/// The budget that is written in `thinking`, in tokens.
pub(super) fn written_budget(thinking: Option<&Value>) -> u64 {
    thinking.and_then(|thinking| thinking.get("budget_tokens")?.as_u64()).unwrap_or(0)
}

/// OpenAI's `minimal` is Anthropic's `low`; the others have the same names.
fn known_effort(effort: &str) -> String {
    if effort == "minimal" { "low" } else { effort }.to_owned()
}

/// The budget of an effort, in tokens.
fn budget(effort: Option<&str>) -> u64 {
    match effort {
        Some("minimal") => MIN_BUDGET,
        Some("low") => 2_048,
        Some("high") => 16_384,
        Some("xhigh" | "max") => 31_999,
        _ => 8_192,
    }
}

/// Whether a model reasons without a budget, by the version in its name: `claude-opus-4-6`, `claude-3-7-sonnet-20250219`. A name
/// without a version is taken for a current model.
fn is_adaptive(model: &str) -> bool {
    let numbers = model.split(['-', '.', '@', ':', '_', '/']).map(str::parse::<u32>);
    // A date is no version.
    let mut versions =
        numbers.skip_while(Result::is_err).map_while(Result::ok).filter(|number| *number < 1000);
    match (versions.next(), versions.next()) {
        (Some(major), minor) => (major, minor.unwrap_or(0)) >= FIRST_ADAPTIVE,
        (None, _) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_take_the_form_of_their_version() {
        for (model, adaptive) in [
            ("claude-3-7-sonnet-20250219", false),
            ("claude-sonnet-4-20250514", false),
            ("claude-opus-4-1", false),
            ("claude-haiku-4-5-20251001", false),
            ("anthropic/claude-sonnet-4.5", false),
            ("claude-opus-4-6", true),
            ("claude-sonnet-5", true),
            ("claude-fable-5-1", true),
            ("claude-sonnet-latest", true),
        ] {
            assert_eq!(is_adaptive(model), adaptive, "{model}");
        }
    }

    #[test]
    fn reasoning_is_written_with_budget_or_effort() {
        let request = |effort: &str| ReasoningRequest {
            effort: Some(effort.to_owned()),
            ..ReasoningRequest::default()
        };
        for (written, model, max_tokens, thinking, effort) in [
            (request("high"), "claude-opus-4-6", None, Some(json!({"type":"adaptive"})), Some("high")),
            (request("minimal"), "claude-opus-5", None, Some(json!({"type":"adaptive"})), Some("low")),
            (request("none"), "claude-opus-5", None, Some(json!({"type":"disabled"})), None),
            (
                request("high"),
                "claude-haiku-4-5",
                None,
                Some(json!({"type":"enabled","budget_tokens":16_384})),
                None,
            ),
            (
                request("high"),
                "claude-haiku-4-5",
                Some(4_000),
                Some(json!({"type":"enabled","budget_tokens":2_000})),
                None,
            ),
            (request("low"), "claude-haiku-4-5", Some(1_000), None, None),
            (
                ReasoningRequest {
                    enabled: Some(true),
                    max_tokens: Some(5_000),
                    visible: Some(false),
                    effort: None,
                },
                "claude-opus-4-6",
                None,
                Some(json!({"type":"enabled","budget_tokens":5_000,"display":"omitted"})),
                None,
            ),
        ] {
            assert_eq!(
                write(&written, model, max_tokens),
                (thinking, effort.map(str::to_owned)),
                "{written:?} {model}"
            );
        }
    }
}
