//! Requests as official clients and Codex send them.

use serde_json::{Value, json};

use super::*;
use crate::translate::conversation::{CallForm, CallKind, Media, Reasoning, Role, ToolCall, ToolChoice};

fn read(body: &Value) -> Conversation {
    read_request(body.to_string().as_bytes()).unwrap()
}

fn refused(body: &Value) -> String {
    let error = read_request(body.to_string().as_bytes()).unwrap_err();
    error.param().unwrap_or_default().to_owned()
}

#[test]
fn plain_request_is_read() {
    let conversation = read(&json!({
        "model": "claude", "input": "hi", "instructions": "be brief", "max_output_tokens": 9, "temperature": 0.5, "top_p": 1,
        "parallel_tool_calls": true, "stream": true, "store": false, "background": false, "truncation": "disabled",
        "top_logprobs": 2, "include": ["reasoning.encrypted_content"], "metadata": {"a": "b"}, "service_tier": "auto",
        "prompt_cache_key": "k", "client_metadata": {"x": "y"}, "previous_response_id": null, "user": "u",
        "reasoning": {"effort": "low", "summary": "auto"}, "stream_options": {"include_obfuscation": false},
        "text": {"verbosity": "low", "format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": true}},
    }));
    assert_eq!(conversation.system, [Part::Text("be brief".into())]);
    assert_eq!(conversation.turns.len(), 1);
    assert_eq!(conversation.turns[0].parts, [Part::Text("hi".into())]);
    let reasoning = ReasoningRequest {
        enabled: Some(true),
        effort: Some("low".into()),
        max_tokens: None,
        visible: Some(true),
    };
    assert_eq!(conversation.reasoning, Some(reasoning));
    assert_eq!((conversation.max_tokens, conversation.logprobs), (Some(9), Some(2)));
    assert_eq!((conversation.stream, conversation.parallel_tool_calls), (true, Some(true)));
    assert_eq!((conversation.verbosity.as_deref(), conversation.user.as_deref()), (Some("low"), Some("u")));
    let OutputFormat::JsonSchema { name, strict, .. } = conversation.format else { panic!() };
    assert_eq!((name.as_deref(), strict), (Some("n"), Some(true)));
}

#[test]
fn items_become_turns_of_one_step_each() {
    let conversation = read(&json!({ "input": [
        {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "a"}]},
        {"role": "user", "content": "b"},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": "mcpctl:signature:s"},
        {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "phase": "commentary",
         "content": [{"type": "output_text", "text": "c", "annotations": [], "logprobs": []}]},
        {"type": "function_call", "id": "fc_1", "call_id": "1", "name": "f", "arguments": "{}", "status": "completed"},
        {"type": "custom_tool_call", "call_id": "2", "name": "apply_patch", "input": "*** Begin\n"},
        {"type": "function_call", "call_id": "3", "name": "send", "namespace": "agents", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "1", "output": "7"},
        {"type": "custom_tool_call_output", "call_id": "2", "output": [{"type": "input_image", "image_url": "data:image/png;base64,AAAA"}]},
        {"role": "user", "content": [{"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,BBBB"},
            {"type": "input_audio", "input_audio": {"data": "CCCC", "format": "wav"}},
            {"type": "input_image", "image_url": "https://example.com/a.png", "detail": "high"}]},
    ]}));
    assert_eq!(conversation.system, [Part::Text("a".into())]);
    let base64 =
        |media_type: &str, data: &str| Media::Base64 { media_type: media_type.into(), data: data.into() };
    let call = |id: &str, name: &str, arguments: &str| {
        Part::ToolCall(ToolCall { id: id.into(), name: name.into(), arguments: arguments.into() })
    };
    let result =
        |call: &str, part: Part| Part::ToolResult { call: call.into(), parts: vec![part], is_error: false };
    let turns: Vec<(Role, Vec<Part>)> =
        conversation.turns.into_iter().map(|turn| (turn.role, turn.parts)).collect();
    let expected = [
        (Role::User, vec![Part::Text("b".into())]),
        (
            Role::Assistant,
            vec![
                Part::Reasoning(Reasoning {
                    text: "hm".into(),
                    signature: Some("s".into()),
                    encrypted: None,
                }),
                Part::Text("c".into()),
                call("1", "f", "{}"),
                call("2", "apply_patch", "{\"input\":\"*** Begin\\n\"}"),
                call("3", "agents__send", "{}"),
            ],
        ),
        (
            Role::User,
            vec![result("1", Part::Text("7".into())), result("2", Part::Image(base64("image/png", "AAAA")))],
        ),
        (
            Role::User,
            vec![
                Part::Document { media: base64("application/pdf", "BBBB"), name: Some("a.pdf".into()) },
                Part::Audio(base64("audio/wav", "CCCC")),
                Part::Image(Media::Url("https://example.com/a.png".into())),
            ],
        ),
    ];
    assert_eq!(turns, expected);
}

#[test]
fn tools_of_the_responses_api_become_functions() {
    let conversation = read(&json!({
        "tools": [
            {"type": "function", "name": "f", "strict": false, "parameters": {"type": "object"}, "description": "d"},
            {"type": "custom", "name": "apply_patch", "description": "edits", "format": {"type": "grammar", "syntax": "lark", "definition": "start: x"}},
            {"type": "namespace", "name": "agents", "description": "Manages agents.", "tools": [
                {"type": "function", "name": "send", "parameters": {}}, {"type": "function", "name": "wait", "parameters": {}}]},
            {"type": "tool_search", "execution": "client", "description": "finds", "parameters": {"type": "object"}},
            {"type": "web_search", "external_web_access": true}
        ],
        "tool_choice": {"type": "custom", "name": "apply_patch"},
        "input": [
            {"type": "tool_search_call", "call_id": "9", "execution": "client", "arguments": {"query": "q"}},
            {"type": "tool_search_output", "call_id": "9", "execution": "client", "status": "completed", "tools": [
                {"type": "namespace", "name": "mcp__x__", "description": "", "tools": [{"type": "function", "name": "go", "parameters": {}}]}]}
        ]
    }));
    let names: Vec<&str> = conversation.tools.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!(names, ["f", "apply_patch", "agents__send", "agents__wait", "tool_search", "mcp__x__go"]);
    let form = |function: &str, name: &str, namespace: Option<&str>, kind| CallForm {
        function: function.into(),
        name: name.into(),
        namespace: namespace.map(str::to_owned),
        kind,
    };
    assert_eq!(
        conversation.call_forms,
        [
            form("apply_patch", "apply_patch", None, CallKind::Custom),
            form("agents__send", "send", Some("agents"), CallKind::Function),
            form("agents__wait", "wait", Some("agents"), CallKind::Function),
            form("tool_search", "tool_search", None, CallKind::ToolSearch),
            form("mcp__x__go", "go", Some("mcp__x__"), CallKind::Function),
        ]
    );
    let described = |at: usize| conversation.tools[at].description.clone().unwrap();
    assert!(described(1).starts_with("edits\n\nCall it as a function") && described(1).ends_with("start: x"));
    assert!(described(2).contains("Manages agents.") && conversation.tools[3].description.is_none());
    assert_eq!(conversation.tool_choice, Some(ToolChoice::Tool("apply_patch".into())));
    let Part::ToolResult { parts, .. } = &conversation.turns[1].parts[0] else { panic!() };
    assert_eq!(parts, &[Part::Text("These tools can be called now: mcp__x__go".into())]);
}

#[test]
fn allowed_tools_leave_out_all_others() {
    let conversation = read(&json!({
        "tools": [{"type": "function", "name": "a"}, {"type": "function", "name": "b"}],
        "tool_choice": {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "b"}]}
    }));
    assert_eq!(conversation.tools.len(), 1);
    assert_eq!(
        (conversation.tools[0].name.as_str(), conversation.tool_choice),
        ("b", Some(ToolChoice::Required))
    );
}

#[test]
fn what_cannot_be_translated_is_refused_by_name() {
    let function = json!({"type": "function", "name": "f"});
    for (body, param) in [
        (json!({"store": true}), "store"),
        (json!({"background": true}), "background"),
        (json!({"previous_response_id": "resp_1"}), "previous_response_id"),
        (json!({"conversation": "conv_1"}), "conversation"),
        (json!({"prompt": {"id": "pmpt_1"}}), "prompt"),
        (json!({"truncation": "auto"}), "truncation"),
        (json!({"max_tool_calls": 3}), "max_tool_calls"),
        (json!({"include": ["file_search_call.results"]}), "include[0]"),
        (json!({"context_management": []}), "context_management"),
        (json!({"tools": [{"type": "web_search"}]}), "tools[0].type"),
        (json!({"tools": [function, {"type": "mcp", "server_url": "https://x"}]}), "tools[1].type"),
        (json!({"tools": [function, function]}), "tools[1].name"),
        (json!({"tools": [{"type": "tool_search"}]}), "tools[0].execution"),
        (
            json!({"tools": [{"type": "function", "name": "f", "defer_loading": true}]}),
            "tools[0].defer_loading",
        ),
        (
            json!({"tools": [{"type": "namespace", "name": "n", "tools": [{"type": "shell"}]}]}),
            "tools[0].tools[0].type",
        ),
        (json!({"tool_choice": {"type": "web_search"}}), "tool_choice.type"),
        (json!({"tool_choice": "sometimes"}), "tool_choice"),
        (json!({"input": [{"type": "item_reference", "id": "msg_1"}]}), "input[0].id"),
        (json!({"input": [{"id": "msg_1"}]}), "input[0].id"),
        (json!({"input": [{"type": "compaction", "encrypted_content": "x"}]}), "input[0].type"),
        (
            json!({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]}),
            "input[0].content[0].file_id",
        ),
        (
            json!({"input": [{"role": "user", "content": [{"type": "input_video"}]}]}),
            "input[0].content[0].type",
        ),
        (json!({"input": [{"role": "user", "content": "a", "extra": 1}]}), "input[0].extra"),
        (
            json!({"input": [{"role": "system", "content": [{"type": "input_image", "image_url": "https://x"}]}]}),
            "input[0].content",
        ),
        (json!({"input": 7}), "input"),
        (json!({"reasoning": {"mode": "pro"}}), "reasoning.mode"),
        (json!({"text": {"format": {"type": "grammar"}}}), "text.format.type"),
        (json!({"stop": "x"}), "stop"),
    ] {
        assert_eq!(refused(&body), param, "{body}");
    }
}

/// What needs a provider's memory or a tool of its own is refused with the reason and the next step.
#[test]
fn refusals_of_state_and_hosted_tools_give_a_next_step() {
    let tool = |tool: Value| json!({ "tools": [tool] });
    let stored = |item: Value| json!({ "input": [item] });
    for (body, message) in [
        (json!({"store": true}), "`store` asks to keep the answer"),
        (json!({"background": true}), "`background` asks to keep the answer until it is fetched"),
        (json!({"previous_response_id": "resp_1"}), "`previous_response_id` refers to an earlier answer"),
        (json!({"conversation": {"id": "conv_1"}}), "`conversation` refers to a conversation"),
        (json!({"prompt": {"id": "pmpt_1"}}), "`prompt` refers to a prompt"),
        (json!({"truncation": "auto"}), "`truncation` asks to leave out items"),
        (stored(json!({"type": "item_reference", "id": "msg_1"})), "`input[0].id` refers to an item"),
        (
            stored(json!({"type": "web_search_call", "id": "ws_1", "status": "completed"})),
            "`input[0].type` is `web_search_call`",
        ),
        (
            stored(json!({"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}",
            "caller": {"type": "program", "caller_id": "p"}})),
            "`input[0].caller.type` cannot be translated",
        ),
        (
            tool(json!({"type": "web_search_preview_2025_03_11"})),
            "`tools[0].type` is `web_search_preview_2025_03_11`, a tool that OpenAI runs itself",
        ),
        (
            tool(json!({"type": "file_search", "vector_store_ids": ["v"]})),
            "is `file_search`, a tool that OpenAI runs itself",
        ),
        (
            tool(json!({"type": "code_interpreter", "container": "c"})),
            "is `code_interpreter`, a tool that OpenAI runs itself",
        ),
        (tool(json!({"type": "image_generation"})), "is `image_generation`, a tool that OpenAI runs itself"),
        (tool(json!({"type": "mcp", "server_label": "l"})), "is `mcp`, a tool that OpenAI runs itself"),
        (
            tool(json!({"type": "programmatic_tool_calling"})),
            "is `programmatic_tool_calling`, a tool that OpenAI runs itself",
        ),
        (
            tool(json!({"type": "computer_use_preview"})),
            "is `computer_use_preview`, a tool whose form only OpenAI's models know",
        ),
        (
            tool(json!({"type": "local_shell"})),
            "is `local_shell`, a tool whose form only OpenAI's models know",
        ),
        (tool(json!({"type": "shell"})), "is `shell`, a tool whose form only OpenAI's models know"),
        (
            tool(json!({"type": "apply_patch"})),
            "is `apply_patch`, a tool whose form only OpenAI's models know",
        ),
        (tool(json!({"type": "new\u{7}"})), "is `new\\u{7}`, a tool that no other API"),
        (json!({"tool_choice": {"type": "mcp", "server_label": "l"}}), "`tool_choice.type` is `mcp`"),
        (
            json!({"tools": [{"type": "function", "name": "f"}], "tool_choice": {"type": "web_search"}}),
            "`tool_choice.type` is `web_search`",
        ),
    ] {
        let error = read_request(body.to_string().as_bytes()).unwrap_err();
        assert!(error.to_string().contains(message), "{body}: {error}");
        let has_hint = error.hint().is_some_and(|hint| hint.contains("capabilities: [responses]"));
        assert!(has_hint || message.contains(".caller."), "{body}: {error:?}");
    }
}
