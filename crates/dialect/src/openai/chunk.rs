//! One event of a chat completions or completions stream, read in one pass: what it means, and the text that it adds. Other members
//! are skipped.

use std::fmt;

use serde::{
    Deserialize,
    de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::usage::ReportedUsage;
use crate::{
    presence::Presence,
    texts::{Collect, Collected, Index, Text, is_label},
};

/// An event. With `TEXTS` it holds the text that it adds to each choice.
#[derive(Deserialize)]
pub(super) struct Chunk<'a, const TEXTS: bool> {
    #[serde(borrow, default)]
    pub(super) object: Text<'a>,
    #[serde(borrow, default)]
    pub(super) model: Text<'a>,
    /// `Some(None)` for `null`, `None` for an absent field.
    #[serde(default, deserialize_with = "present")]
    pub(super) choices: Option<Option<Choices<TEXTS>>>,
    #[serde(default)]
    pub(super) usage: Option<ReportedUsage>,
    #[serde(default)]
    pub(super) error: Presence,
}

fn present<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}

/// What all choices of an event have together.
#[derive(Debug, Default)]
pub(super) struct Choices<const TEXTS: bool> {
    /// How many there are.
    pub(super) count: usize,
    /// How many of them finish.
    pub(super) finished: usize,
    pub(super) has_content: bool,
    /// Whether one of them has an error.
    pub(super) failed: bool,
    /// The text that is added to each, by its index.
    pub(super) texts: Vec<(u64, String)>,
}

impl<'de, const TEXTS: bool> Deserialize<'de> for Choices<TEXTS> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List<const TEXTS: bool>;

        impl<'de, const TEXTS: bool> Visitor<'de> for List<TEXTS> {
            type Value = Choices<TEXTS>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a list of choices")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Choices<TEXTS>, A::Error> {
                let mut all = Choices::default();
                while let Some(choice) = items.next_element::<Choice<TEXTS>>()? {
                    all.add(choice);
                }
                Ok(all)
            }
        }

        deserializer.deserialize_seq(List)
    }
}

impl<const TEXTS: bool> Choices<TEXTS> {
    fn add(&mut self, choice: Choice<TEXTS>) {
        let Choice { index: Index(index), delta, text, finish_reason, error } = choice;
        let delta = delta.unwrap_or_default();
        self.count = self.count.saturating_add(1);
        self.finished = self.finished.saturating_add(usize::from(finish_reason.0));
        self.has_content |= delta.has_content || text.present;
        self.failed |= error.0;
        let added = delta.text + &text.text;
        if !added.is_empty() {
            self.texts.push((index, added));
        }
    }
}

#[derive(Deserialize)]
struct Choice<const TEXTS: bool> {
    #[serde(default)]
    index: Index,
    #[serde(default)]
    delta: Option<Delta<TEXTS>>,
    /// Of the older route, `/completions`.
    #[serde(default)]
    text: Collected<TEXTS>,
    #[serde(default)]
    finish_reason: Presence,
    #[serde(default)]
    error: Presence,
}

/// The members of a delta that are content.
const CONTENT: [&str; 8] = [
    "content",
    // vLLM since 0.12 and OpenRouter.
    "reasoning",
    // DeepSeek, llama.cpp, earlier vLLM.
    "reasoning_content",
    // OpenRouter's structured form.
    "reasoning_details",
    "tool_calls",
    "function_call",
    "refusal",
    "audio",
];

#[derive(Debug, Default)]
struct Delta<const TEXTS: bool> {
    has_content: bool,
    text: String,
}

impl<'de, const TEXTS: bool> Deserialize<'de> for Delta<TEXTS> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<const TEXTS: bool>;

        impl<'de, const TEXTS: bool> Visitor<'de> for Members<TEXTS> {
            type Value = Delta<TEXTS>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a delta")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Delta<TEXTS>, A::Error> {
                let mut delta = Delta::default();
                while let Some(Text(name)) = members.next_key()? {
                    let name = name.as_deref().unwrap_or_default();
                    if CONTENT.contains(&name) {
                        delta.has_content |= members.next_value_seed(Collect::<TEXTS>(&mut delta.text))?;
                    } else if TEXTS && !is_label(name) {
                        members.next_value_seed(Collect::<TEXTS>(&mut delta.text))?;
                    } else {
                        members.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(delta)
            }
        }

        deserializer.deserialize_map(Members)
    }
}
