//! The `response` object around an answer, which a stream repeats in its first and last events.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::settings;
use crate::{
    translate::reply::{Finish, WriterOptions},
    usage::Usage,
};

/// What stays the same throughout an answer.
#[derive(Debug, Clone)]
pub(super) struct Envelope {
    /// The provider's id, without the prefix of its dialect.
    id: String,
    model: String,
    created: u64,
    /// The caller's settings.
    settings: Arc<Map<String, Value>>,
}

impl Envelope {
    /// Names an answer after the provider's id of it.
    pub(super) fn new(
        id: Option<&str>,
        model: Option<&str>,
        created: Option<u64>,
        options: &WriterOptions,
    ) -> Self {
        let created = created.unwrap_or(options.now);
        let id = id.filter(|id| !id.is_empty()).map_or_else(|| created.to_string(), str::to_owned);
        let bare = ["chatcmpl-", "msg_", "resp_"].iter().find_map(|prefix| id.strip_prefix(prefix));
        Self {
            id: bare.unwrap_or(&id).to_owned(),
            model: model.unwrap_or_default().to_owned(),
            created,
            settings: Arc::clone(&options.repeated),
        }
    }

    /// The id of the item at `index`, which is derived from the answer's.
    pub(super) fn item_id(&self, prefix: &str, index: usize) -> String {
        format!("{prefix}_{}_{index}", self.id)
    }

    /// The response before its first item.
    pub(super) fn in_progress(&self) -> Value {
        self.written("in_progress", &[], None, Value::Null)
    }

    /// The complete response.
    pub(super) fn ended(&self, end: End, output: &[Value], usage: Option<Usage>) -> Value {
        self.written(end.status(), output, usage, end.details())
    }

    fn written(&self, status: &str, output: &[Value], usage: Option<Usage>, details: Value) -> Value {
        let mut response = Map::new();
        for (name, value) in [
            ("id", format!("resp_{}", self.id).into()),
            ("object", "response".into()),
            ("created_at", self.created.into()),
            ("status", status.into()),
            ("error", Value::Null),
            ("incomplete_details", details),
            ("model", self.model.as_str().into()),
            ("output", output.into()),
            ("usage", usage.map(written_usage).into()),
        ] {
            response.insert(name.to_owned(), value);
        }
        settings::write(&self.settings, &mut response);
        Value::Object(response)
    }
}

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Completed,
    MaxOutputTokens,
    ContentFilter,
}

impl End {
    pub(super) fn of(finish: Option<&Finish>) -> Self {
        match finish {
            Some(Finish::Length) => Self::MaxOutputTokens,
            Some(Finish::Refused) => Self::ContentFilter,
            Some(Finish::Stop | Finish::StopSequence(_) | Finish::ToolCalls) | None => Self::Completed,
        }
    }

    pub(super) const fn status(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::MaxOutputTokens | Self::ContentFilter => "incomplete",
        }
    }

    fn details(self) -> Value {
        match self {
            Self::Completed => Value::Null,
            Self::MaxOutputTokens => json!({ "reason": "max_output_tokens" }),
            Self::ContentFilter => json!({ "reason": "content_filter" }),
        }
    }
}

fn written_usage(usage: Usage) -> Value {
    json!({
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_input_tokens,
            "cache_write_tokens": usage.cache_write_input_tokens,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": { "reasoning_tokens": usage.reasoning_tokens },
        "total_tokens": usage.input_tokens.saturating_add(usage.output_tokens),
    })
}
