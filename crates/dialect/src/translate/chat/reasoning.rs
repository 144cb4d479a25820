//! Reasoning in chat completions. OpenAI's own API has none; compatible servers write its text in `reasoning_content` or
//! `reasoning`, and OpenRouter writes blocks with signatures in `reasoning_details`. Both are read. What is written is
//! `reasoning_content`, and `reasoning_details` where a block has a signature or is encrypted, because such a block has to
//! come back unchanged.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    request_error::RequestError,
    translate::{
        conversation::{Part, Reasoning},
        fields::Fields,
    },
};

/// One entry of `reasoning_details`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Detail {
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) text: Option<String>,
    #[serde(default, skip_serializing)]
    summary: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) signature: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) data: Option<String>,
    /// Clients that merge the pieces of a stream require it.
    #[serde(default)]
    index: u64,
}

impl Detail {
    /// The entry for a block; `None` for a block that `reasoning_content` holds whole.
    pub(super) fn of(reasoning: &Reasoning, index: u64) -> Option<Self> {
        if let Some(data) = &reasoning.encrypted {
            let kind = "reasoning.encrypted".to_owned();
            return Some(Self { kind, data: Some(data.clone()), index, ..Self::default() });
        }
        let signature = Some(reasoning.signature.clone()?);
        let text = Some(reasoning.text.clone());
        Some(Self { kind: "reasoning.text".to_owned(), text, signature, index, ..Self::default() })
    }

    /// The block that the entry is.
    pub(super) fn block(self) -> Reasoning {
        let present = |text: Option<String>| text.filter(|text| !text.is_empty());
        Reasoning {
            text: self.text.or(self.summary).unwrap_or_default(),
            signature: present(self.signature),
            encrypted: present(self.data),
        }
    }
}

/// The entries of `reasoning_details`; none where it is malformed.
pub(super) fn details(value: Option<Value>) -> Vec<Detail> {
    value.and_then(|value| serde_json::from_value(value).ok()).unwrap_or_default()
}

/// The blocks of a message. `reasoning_details` is complete where it is there; else the text is one block.
pub(super) fn blocks(details: Vec<Detail>, text: Option<String>) -> Vec<Reasoning> {
    let mut blocks: Vec<Reasoning> = details.into_iter().map(Detail::block).collect();
    if let Some(text) = text.filter(|text| !text.is_empty())
        && blocks.iter().all(|block| block.text.is_empty())
    {
        blocks.insert(0, Reasoning { text, ..Reasoning::default() });
    }
    blocks
}

/// Takes the reasoning that a caller passes back with an assistant's message.
pub(super) fn read_blocks(message: &mut Fields) -> Result<Vec<Reasoning>, RequestError> {
    let content = message.text("reasoning_content")?;
    let text = message.text("reasoning")?;
    let details = match message.take("reasoning_details") {
        None => Vec::new(),
        Some(value) => serde_json::from_value(value)
            .map_err(|_| message.wrong("reasoning_details", "a list of reasoning blocks"))?,
    };
    Ok(blocks(details, content.or(text)))
}

/// The parts of a message's `content`: a text, or a list, as Mistral writes it, of texts and `thinking`.
pub(super) fn content_parts(content: &Value) -> Vec<Part> {
    match content {
        Value::String(text) if !text.is_empty() => vec![Part::Text(text.clone())],
        Value::Array(list) => list.iter().filter_map(content_part).collect(),
        _ => Vec::new(),
    }
}

fn content_part(part: &Value) -> Option<Part> {
    let text = |part: &Value| part.get("text").and_then(Value::as_str).map(str::to_owned);
    match part.get("type").and_then(Value::as_str)? {
        "text" => text(part).map(Part::Text),
        "thinking" => {
            let text = match part.get("thinking")? {
                Value::String(text) => text.clone(),
                Value::Array(list) => list.iter().filter_map(text).collect(),
                _ => return None,
            };
            Some(Part::Reasoning(Reasoning { text, ..Reasoning::default() }))
        }
        _ => None,
    }
}
