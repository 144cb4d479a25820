//! Typed access to the members of a request body, and the replacement of one value in its text.

use serde_json::value::RawValue;

use super::{error::RequestError, keys};
use crate::{
    members::{self, Member},
    openai::presence::Presence,
};

/// The text of a JSON object, and its members with their positions in the text.
pub(crate) struct Object<'a> {
    text: &'a str,
    pub(crate) members: Vec<Member<'a>>,
}

impl<'a> Object<'a> {
    /// Reads a request body. Rejects it unless the keys that decisions depend on are spelled in the one right way.
    pub(super) fn read(body: &'a [u8]) -> Result<Self, RequestError> {
        Self::read_deciding(body, &keys::DECIDED)
    }

    /// As [`Object::read`], for another route, whose decisions depend on the keys `decided`.
    pub(crate) fn read_deciding(body: &'a [u8], decided: &[&'static str]) -> Result<Self, RequestError> {
        let object = Self::parse(body)?;
        keys::check(&object.members, decided)?;
        Ok(object)
    }

    fn parse(body: &'a [u8]) -> Result<Self, RequestError> {
        let text = std::str::from_utf8(body).map_err(|error| RequestError::NotJson(error.to_string()))?;
        if !text.trim_ascii_start().starts_with('{') {
            // `NotAnObject` would mislead about text that is not JSON at all.
            return Err(match serde_json::from_str::<&RawValue>(text) {
                Ok(_) => RequestError::NotAnObject,
                Err(error) => RequestError::NotJson(error.to_string()),
            });
        }
        let members = members::read(text).map_err(|error| RequestError::NotJson(error.to_string()))?;
        Ok(Self { text, members })
    }

    /// The member of that name; `null` counts as absent.
    pub(crate) fn get(&self, name: &'static str) -> Result<Option<&Member<'a>>, RequestError> {
        Ok(self.find(name)?.filter(|member| member.value != "null"))
    }

    fn find(&self, name: &'static str) -> Result<Option<&Member<'a>>, RequestError> {
        let mut found = self.members.iter().filter(|member| member.name == name);
        match (found.next(), found.next()) {
            (_, Some(_)) => Err(RequestError::Duplicate(name)),
            (first, None) => Ok(first),
        }
    }

    pub(crate) fn model(&self) -> Result<Option<String>, RequestError> {
        let Some(member) = self.get("model")? else { return Ok(None) };
        match serde_json::from_str::<String>(member.value) {
            Ok(model) if model.is_empty() => Err(RequestError::Empty("model")),
            Ok(model) => Ok(Some(model)),
            Err(_) => Err(RequestError::Wrong { param: "model", expected: "a string" }),
        }
    }

    pub(crate) fn bool(&self, name: &'static str, param: &'static str) -> Result<bool, RequestError> {
        match self.get(name)?.map(|member| member.value) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(RequestError::Wrong { param, expected: "true or false" }),
        }
    }

    pub(crate) fn number(&self, name: &'static str) -> Result<Option<serde_json::Number>, RequestError> {
        let Some(member) = self.get(name)? else { return Ok(None) };
        let number = serde_json::from_str(member.value)
            .map_err(|_| RequestError::Wrong { param: name, expected: "a number" })?;
        Ok(Some(number))
    }

    /// Whether the member has a value that is not null, false or empty.
    pub(crate) fn is_present(&self, name: &'static str) -> Result<bool, RequestError> {
        let Some(member) = self.get(name)? else { return Ok(false) };
        Ok(serde_json::from_str(member.value).is_ok_and(|Presence(any)| any))
    }

    /// Whether the member is written exactly like this.
    pub(crate) fn is_exactly(&self, name: &'static str, json: &str) -> Result<bool, RequestError> {
        Ok(self.get(name)?.is_some_and(|member| member.value == json))
    }

    /// Bytes of a single `prompt`; 0 for a list, which may be many prompts.
    pub(super) fn prompt_bytes(&self) -> Result<usize, RequestError> {
        let prompt = self.get("prompt")?.map(|member| member.value);
        Ok(prompt.filter(|prompt| prompt.starts_with('"')).map_or(0, str::len))
    }

    pub(super) fn stream_options(&self) -> Result<Option<Object<'a>>, RequestError> {
        let Some(member) = self.get("stream_options")? else { return Ok(None) };
        let Ok(options) = Object::parse(member.value.as_bytes()) else {
            return Err(RequestError::Wrong { param: "stream_options", expected: "an object" });
        };
        keys::check(&options.members, &keys::DECIDED_OF_STREAM)?;
        Ok(Some(options))
    }

    /// The text with the member's value replaced, or with the member added in front where there is none.
    pub(crate) fn set(&self, name: &'static str, value: &str) -> Result<String, RequestError> {
        let (before, written, after) = match self.find(name)? {
            Some(member) => (
                self.text.get(..member.span.start).unwrap_or_default(),
                value.to_owned(),
                self.text.get(member.span.end..).unwrap_or_default(),
            ),
            None => {
                let brace = self.text.find('{').map_or(0, |at| at.saturating_add(1));
                let comma = if self.members.is_empty() { "" } else { "," };
                (
                    self.text.get(..brace).unwrap_or_default(),
                    format!("\"{name}\":{value}{comma}"),
                    self.text.get(brace..).unwrap_or_default(),
                )
            }
        };
        Ok([before, &written, after].concat())
    }
}
