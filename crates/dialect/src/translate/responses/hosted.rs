//! Refuses the tools that OpenAI runs itself, or that only its models know, and the items in which their work is written.

use crate::{
    request_error::RequestError,
    translate::fields::{Fields, shown},
};

/// Tools that OpenAI runs. Names of later versions begin with these and a date.
const RUN: [&str; 7] = [
    "code_interpreter",
    "file_search",
    "image_generation",
    "mcp",
    "programmatic_tool_calling",
    "web_search",
    "web_search_preview",
];

/// Tools that the caller runs, but whose form only OpenAI's models know.
const KNOWN: [&str; 6] =
    ["apply_patch", "computer", "computer_use", "computer_use_preview", "local_shell", "shell"];

const ASK_ELSEWHERE: &str =
    "leave it out, offer a `function` that does the same, or ask for an Llm with `capabilities: [responses]`";

/// That the tool, or the choice of one, in `type` cannot be translated.
pub(super) fn tool(of: &Fields, kind: &str) -> RequestError {
    let reason = if is_of(&RUN, kind) {
        format!("is `{kind}`, a tool that OpenAI runs itself, and the provider of this model does not")
    } else if is_of(&KNOWN, kind) {
        format!("is `{kind}`, a tool whose form only OpenAI's models know")
    } else {
        let kind = shown(kind);
        format!("is `{kind}`, a tool that no other API than OpenAI's responses has")
    };
    of.refused("type", reason, ASK_ELSEWHERE)
}

/// That an item of the type in `type` cannot be translated.
pub(super) fn item(of: &Fields, kind: &str) -> RequestError {
    let reason = format!(
        "is `{}`, an item that no other API than OpenAI's responses has, nor the provider of this model",
        shown(kind)
    );
    of.refused("type", reason, "leave it out of `input`, or ask for an Llm with `capabilities: [responses]`")
}

/// Whether a type is one of `names`, of any version: `web_search_2025_08_26`.
fn is_of(names: &[&str], kind: &str) -> bool {
    names.iter().any(|name| {
        kind.strip_prefix(name).is_some_and(|version| {
            version.is_empty()
                || version.strip_prefix('_').is_some_and(|date| {
                    !date.is_empty() && date.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_')
                })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_a_tool_are_that_tool() {
        for (kind, run) in [
            ("web_search", true),
            ("web_search_2025_08_26", true),
            ("web_search_preview_2025_03_11", true),
            ("mcp", true),
            ("mcpx", false),
            ("web_search_other", false),
            ("shell", false),
        ] {
            assert_eq!(is_of(&RUN, kind), run, "{kind}");
        }
    }
}
