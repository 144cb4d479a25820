use serde_json::json;

use super::{ErrorMeaning::*, *};
use crate::error::UpstreamError;

fn meaning(body: &str) -> Option<ErrorMeaning> {
    UpstreamError::read(body.as_bytes()).meaning
}

#[test]
fn errors_of_known_servers_have_their_meaning() {
    for (expected, body) in [
        // Content.
        (
            Content,
            r#"{"code":"permission-denied","error":"Content violates usage guidelines. Failed check: SAFETY_CHECK_TYPE"}"#,
        ),
        (
            Content,
            r#"{"error":{"code":403,"message":"Your input was flagged by moderation","metadata":{"reasons":["violence"]}}}"#,
        ),
        (Content, r#"{"error":{"code":403,"message":"no","metadata":{"flagged_input":"..."}}}"#),
        (
            Content,
            r#"{"error":{"message":"request blocked","type":"security_violation","code":"sensitive_word_detected"}}"#,
        ),
        (Content, r#"{"error":{"message":"no","innererror":{"code":"ResponsibleAIPolicyViolation"}}}"#),
        (Content, r#"{"error":{"message":"no","code":"content_filter"}}"#),
        (
            Content,
            r#"{"error":{"message":"The response was filtered due to the prompt triggering content management policy."}}"#,
        ),
        (
            Content,
            r#"{"error":{"message":"Invalid prompt: your prompt was flagged as potentially violating our usage policy.","code":"invalid_prompt"}}"#,
        ),
        (Content, r#"{"error":{"message":"Content Exists Risk","code":"invalid_request_error"}}"#),
        (Content, r#"{"error":{"code":"data_inspection_failed","message":"no"}}"#),
        (Content, r#"[{"error":{"code":400,"status":"PROHIBITED_CONTENT","message":"no"}}]"#),
        (Content, r#"{"message":"The guardrail intervened"}"#),
        (
            Content,
            r#"{"error":{"message":"Provider returned error","code":400,"metadata":{"raw":"{\"error\":{\"code\":\"content_filter\",\"message\":\"x\"}}"}}}"#,
        ),
        // Too long a prompt.
        (ContextLength, r#"{"error":{"message":"x","code":"context_length_exceeded"}}"#),
        (
            ContextLength,
            r#"{"error":{"code":400,"message":"request (4390 tokens) exceeds","type":"exceed_context_size_error"}}"#,
        ),
        (
            ContextLength,
            r#"{"error":{"message":"This model's maximum context length is 2048 tokens. However, you requested 9000"}}"#,
        ),
        (
            ContextLength,
            r#"{"error":{"message":"'max_tokens' or 'max_completion_tokens' is too large: 9000. This model's maximum context length is 8192 tokens and your request has 100 input tokens"}}"#,
        ),
        (
            ContextLength,
            r#"{"object":"error","message":"The prompt (total length 25938) is too long to fit into the model"}"#,
        ),
        (
            ContextLength,
            r#"{"error":{"message":"The decoder prompt (length 9) is longer than the maximum model length of 8."}}"#,
        ),
        (ContextLength, r#"{"error":{"message":"Requested tokens (2285) exceed context window of 2048"}}"#),
        (ContextLength, r#"{"error":{"message":"prompt is too long: 209353 tokens > 199999 maximum"}}"#),
        (
            ContextLength,
            r#"{"error":{"message":"input length and `max_tokens` exceed context limit: 1 + 2 > 2"}}"#,
        ),
        (
            ContextLength,
            r#"[{"error":{"message":"The input token count (3) exceeds the maximum number of tokens allowed (2)."}}]"#,
        ),
        (ContextLength, r#"{"error":"the input length exceeds the context length"}"#),
        (ContextLength, r#"{"error":"Context size has been exceeded."}"#),
        (
            ContextLength,
            r#"{"object":"error","message":"The input (12345 tokens) is longer than the model's context length (8192 tokens)."}"#,
        ),
        (
            ContextLength,
            r#"{"object":"error","message":"Input length (700001 tokens) exceeds the maximum allowed length (536826 tokens). Use a shorter input"}"#,
        ),
        (
            ContextLength,
            r#"{"error":"Trying to keep the first 15857 tokens when context the overflows. However, the model is loaded with"}"#,
        ),
        (
            ContextLength,
            r#"{"error":"Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000","error_type":"validation"}"#,
        ),
        (
            ContextLength,
            r#"{"object":"error","message":"Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length"}"#,
        ),
        (ContextLength, r#"{"message":"Input is too long for requested model."}"#),
        (
            ContextLength,
            r#"{"message":"too many tokens: total number of tokens in the prompt cannot exceed 4081 - received 5000."}"#,
        ),
        (
            ContextLength,
            r#"{"error":{"message":"Provider returned error","metadata":{"raw":"prompt is too long: 2 tokens > 1 maximum"}}}"#,
        ),
        // A request of a form that the model cannot process.
        (
            Unsupported,
            r#"{"error":{"code":500,"message":"image input is not supported - hint: you may need to provide the mmproj","type":"server_error"}}"#,
        ),
        (
            Unsupported,
            r#"{"error":{"code":500,"message":"tools param requires --jinja flag","type":"server_error"}}"#,
        ),
        (
            Unsupported,
            r#"{"error":{"message":"At most 0 image(s) may be provided in one prompt.","type":"BadRequestError","code":400}}"#,
        ),
        (
            Unsupported,
            r#"{"error":{"message":"\"auto\" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set"}}"#,
        ),
        (
            Unsupported,
            r#"{"error":{"message":"registry.ollama.ai/library/gemma:2b does not support tools","type":"api_error"}}"#,
        ),
        (Unsupported, r#"{"error":{"message":"No endpoints found that support image input","code":404}}"#),
        (
            Unsupported,
            r#"{"error":{"message":"Conversation roles must alternate user/assistant/user/assistant/..."}}"#,
        ),
        // Our quota, key or account.
        (
            QuotaUsedUp,
            r#"{"error":{"message":"You exceeded your current quota, please check your plan and billing details.","type":"insufficient_quota","code":"insufficient_quota"}}"#,
        ),
        (
            Credentials,
            r#"[{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT","details":[{"reason":"API_KEY_INVALID"}]}}]"#,
        ),
        (
            Credentials,
            r#"{"code":"Client specified an invalid argument","error":"Incorrect API key provided: xa***. You can obtain one"}"#,
        ),
        (
            Credentials,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the Anthropic API."}}"#,
        ),
        (
            Credentials,
            r#"{"error":{"message":"Your account is not active","type":"permission_error","code":"account_deactivated"}}"#,
        ),
        // A model that the server does not have.
        (
            ModelUnavailable,
            r#"{"error":{"message":"The model `m` has been deprecated, learn more here","type":"invalid_request_error","code":"model_not_found"}}"#,
        ),
        (ModelUnavailable, r#"{"error":{"message":"x","code":"model_decommissioned"}}"#),
        (
            ModelUnavailable,
            r#"{"error":{"message":"The model `m` does not exist.","type":"NotFoundError","param":"model","code":404}}"#,
        ),
        (
            ModelUnavailable,
            r#"{"error":{"message":"model \"m\" not found, try pulling it first","type":"api_error"}}"#,
        ),
        (ModelUnavailable, r#"{"error":{"message":"model 'm' not found"}}"#),
        (ModelUnavailable, r#"{"error":{"message":"No endpoints found for m.","code":404}}"#),
        (ModelUnavailable, r#"{"error":{"message":"m/x is not a valid model ID","code":400}}"#),
        (ModelUnavailable, r#"{"error":"could not find real modelID for m"}"#),
        (
            ModelUnavailable,
            r#"[{"error":{"code":404,"message":"models/gemini-x is not found for API version v1main","status":"NOT_FOUND"}}]"#,
        ),
        (
            ModelUnavailable,
            r#"{"error":{"code":"DeploymentNotFound","message":"The API deployment for this resource does not exist."}}"#,
        ),
        (ModelUnavailable, r#"{"error":{"message":"litellm.NotFoundError: The model `m` does not exist."}}"#),
        (
            ModelUnavailable,
            r#"{"type":"error","error":{"type":"not_found_error","message":"model: claude-9"}}"#,
        ),
    ] {
        assert_eq!(meaning(body), Some(expected), "{body}");
    }
}

#[test]
fn other_errors_have_no_meaning() {
    for body in [
        "",
        "<html>",
        r#"{"error":{"message":"max_tokens is too large","code":"invalid_request"}}"#,
        r#"{"error":{"message":"rate limit exceeded"}}"#,
        r#"{"error":{"message":"Too many requests, your requests are blocked for 20 s"}}"#,
        r#"{"error":{"message":"temperature must be at most 2"}}"#,
        r#"{"error":{"message":"The server is overloaded"}}"#,
        r#"{"detail":"Not Found"}"#,
        r#"{"error":{"message":"missing field `messages`"}}"#,
    ] {
        assert_eq!(meaning(body), None, "{body}");
    }
}

#[test]
fn quotations_of_a_prompt_have_no_meaning() {
    for words in [
        "the model `m` does not exist",
        "prompt is too long: 3 tokens > 2 maximum",
        "you exceeded your current quota, please check your plan and billing",
        "image input is not supported",
        "incorrect api key",
    ] {
        for message in [
            format!("invalid value for messages[0].content: \"{words}\""),
            format!("could not parse '{words}' in messages[0]"),
            format!("1 validation error for ChatCompletionRequest: input \"{words}\" has \"{words}\""),
            format!("bad value “{words}”"),
        ] {
            let body = json!({ "error": { "message": message } }).to_string();
            assert_eq!(meaning(&body), None, "{message}");
        }
    }
}

#[test]
fn refusal_of_content_wins_over_other_meanings() {
    for body in [
        r#"{"error":{"message":"The model `m` does not exist. Your prompt was flagged.","code":"model_not_found"}}"#,
        r#"{"error":{"message":"Incorrect API key provided","code":"content_filter"}}"#,
    ] {
        assert_eq!(meaning(body), Some(Content), "{body}");
    }
    // Phrases that let a request fail over count only at the beginning of a message.
    let late = r#"{"error":{"message":"messages[0] holds the model x does not exist"}}"#;
    assert_eq!(meaning(late), None);
}

/// Providers and gateways write refusals of content in different members and under different statuses.
#[test]
fn refusal_of_content_is_found_in_every_shape() {
    let long = format!("{} Your input was flagged by moderation", "x".repeat(5000));
    for words in [
        "Your input was flagged by moderation",
        "Error code: 403 - {'error': {'message': 'Your input was flagged by moderation'}}",
        "provider replied \"Your prompt was blocked by our content policy\"",
        "Access denied by policy 'block-violence' for this prompt.",
        "Request rejected by content safety",
        "This topic is not allowed.",
        "Flagged as violent",
        "This content is against our Terms of Service",
        "Prompt injection detected",
        "PII detected: credit card number",
        "Your input was blocked: too many policy violations",
        "{'error': {'message': 'Violated OpenAI moderation policy'}}",
        "SAFETY",
        "input new_sensitive",
        "unsafe_content",
        "内容包含敏感信息",
        &long,
    ] {
        for body in [
            json!({ "statusCode": 403, "error": "Forbidden", "message": words }),
            json!({ "error": "Forbidden", "detail": words }),
            json!({ "error": { "message": "Forbidden", "details": words } }),
            json!({ "detail": [{ "msg": "Forbidden" }, { "msg": words }] }),
            json!({ "success": false, "errors": [{ "code": 1, "message": words }] }),
            json!({ "title": words, "status": 403 }),
            json!([{ "error": { "message": words } }]),
            json!({ "choices": null, "base_resp": { "status_msg": words } }),
            json!({ "error": { "message": "The model `m` does not exist.", "code": "model_not_found", "more": words } }),
            json!({ "error": { "innererror": { "innererror": { "code": words } } } }),
            json!({ "choices": [{ "delta": {} }, { "error": { "message": words } }] }),
            json!(words),
        ] {
            assert_eq!(meaning(&body.to_string()), Some(Content), "{body}");
        }
    }
    assert_eq!(meaning("error: your prompt violates our usage policy"), Some(Content));
}

#[test]
fn unavailable_model_is_recognized_by_one_name_only() {
    for message in [
        "The requested model is not permitted to answer this question about weapons",
        "The model is unable to process this: image x not found",
        "model: refuses to answer this",
        "The model output referenced a tool call that was not found in tools",
    ] {
        let body = json!({ "error": { "message": message } }).to_string();
        assert_ne!(meaning(&body), Some(ModelUnavailable), "{message}");
    }
}
