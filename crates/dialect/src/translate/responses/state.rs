//! Refuses what refers to something that a server of the Responses API keeps, or asks it to keep something. Translated requests
//! have no such server: the provider's own API keeps nothing, and neither does mcpctl.

use crate::{request_error::RequestError, translate::fields::Fields};

/// What to do where a request refers to earlier items.
const SEND_ALL: &str =
    "send the whole conversation in `input`, or ask for an Llm with `capabilities: [responses]`";

/// What to do where a request refers to a file.
const SEND_FILE: &str = "send the file itself, as `data:TYPE;base64,DATA` or by a URL";

/// Refuses members of the body. Explicit defaults ask for nothing.
pub(super) fn refuse(body: &mut Fields) -> Result<(), RequestError> {
    if body.bool("store")? == Some(true) {
        let reason = "asks to keep the answer, but the provider of this model keeps none";
        let hint = "leave it out and send the whole conversation in each `input`, or ask for an Llm with `capabilities: [responses]`";
        return Err(body.refused("store", reason, hint));
    }
    if body.bool("background")? == Some(true) {
        let reason = "asks to keep the answer until it is fetched, but the provider of this model keeps none";
        let hint =
            "wait for the answer, streamed or whole, or ask for an Llm with `capabilities: [responses]`";
        return Err(body.refused("background", reason, hint));
    }
    for (name, reason, hint) in [
        (
            "previous_response_id",
            "refers to an earlier answer, but the provider of this model keeps none",
            SEND_ALL,
        ),
        ("conversation", "refers to a conversation, but the provider of this model keeps none", SEND_ALL),
        (
            "prompt",
            "refers to a prompt, but the provider of this model keeps none",
            "write it in `instructions` and `input`, or ask for an Llm with `capabilities: [responses]`",
        ),
    ] {
        if body.has(name) {
            return Err(body.refused(name, reason, hint));
        }
    }
    match body.text("truncation")?.as_deref() {
        None | Some("disabled") => Ok(()),
        Some(_) => {
            let reason = "asks to leave out items that are too many for the model, which only a server of the Responses API does";
            let hint = "leave them out of `input`, or ask for an Llm with `capabilities: [responses]`";
            Err(body.refused("truncation", reason, hint))
        }
    }
}

/// That an item refers to one that a server keeps; `name` is the member that does.
pub(super) fn stored_item(item: &Fields, name: &str) -> RequestError {
    item.refused(
        name,
        "refers to an item of an earlier answer, but the provider of this model keeps none",
        SEND_ALL,
    )
}

/// Refuses a file that a server keeps.
pub(super) fn refuse_file(of: &Fields) -> Result<(), RequestError> {
    if of.has("file_id") {
        let reason = "refers to a file, but the provider of this model keeps none";
        return Err(of.refused("file_id", reason, SEND_FILE));
    }
    Ok(())
}
