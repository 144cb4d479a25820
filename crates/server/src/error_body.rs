//! The body of an error of our own, in the caller's dialect: OpenAI's shape, or Anthropic's.

use axum::{body::Bytes, http::StatusCode};
use mcpctl_api::ApiError;
use mcpctl_dialect::{Dialect, anthropic};

use crate::request_scope::{caller_dialect, request_id};

/// The JSON of an error, in the dialect of the current request.
pub fn error_body(error: &ApiError, status: StatusCode) -> Bytes {
    match caller_dialect() {
        // Strings and numbers always serialize.
        Dialect::Openai => serde_json::to_vec(error).unwrap_or_default().into(),
        Dialect::Anthropic => anthropic_body(error, status, &request_id()),
    }
}

/// Anthropic's shape has no place of its own for the field that is wrong and for the hint, so that the message has both.
fn anthropic_body(error: &ApiError, status: StatusCode, request_id: &str) -> Bytes {
    let error = &error.error;
    let mut message = error.message.clone();
    if let Some(param) = error.param.as_deref().filter(|param| !message.contains(&format!("`{param}`"))) {
        message = format!("{param}: {message}");
    }
    if let Some(hint) = &error.hint {
        message = format!("{message} ({hint})");
    }
    let kind = anthropic::error::kind_of_status(status.as_u16());
    anthropic::error::error_body(&message, kind, error.code.as_deref(), Some(request_id))
}

#[cfg(test)]
mod tests {
    use mcpctl_api::ErrorKind;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn anthropics_shape_keeps_param_and_hint_in_the_message() {
        let body = |error: &ApiError| -> Value {
            serde_json::from_slice(&anthropic_body(error, StatusCode::BAD_REQUEST, "id")).unwrap()
        };
        let new = |message| ApiError::new(ErrorKind::InvalidRequestError, "c", message).with_param("model");
        let expected = json!({
            "type": "error",
            "error": {"type": "invalid_request_error", "message": "model: it is missing (name an Llm)", "code": "c"},
            "request_id": "id",
        });
        assert_eq!(body(&new("it is missing").with_hint("name an Llm")), expected);
        assert_eq!(body(&new("`model` is empty"))["error"]["message"], "`model` is empty");
    }
}
