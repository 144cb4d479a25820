//! Typed access to the members of a JSON object in a request, with their positions in its text.

use serde_json::value::RawValue;

use crate::{
    keys,
    members::{self, Member},
    request_error::RequestError,
};

/// The members of a JSON object, with their positions in its text.
pub(crate) struct Object<'a> {
    pub(crate) members: Vec<Member<'a>>,
}

impl<'a> Object<'a> {
    /// Reads an object. Rejects it unless the keys that decisions depend on, `decided`, are spelled in the one right way.
    pub(crate) fn read(text: &'a [u8], decided: &[&'static str]) -> Result<Self, RequestError> {
        let object = Self::parse(text)?;
        keys::check(&object.members, decided)?;
        Ok(object)
    }

    /// Reads a request body as [`Object::read`] does, with its routing keys as it spells them.
    pub(crate) fn read_body(
        body: &'a [u8],
        decided: &[&'static str],
    ) -> Result<(Self, Vec<String>), RequestError> {
        let object = Self::parse(body)?;
        let routing_keys = keys::check_routed(&object.members, decided)?;
        Ok((object, routing_keys))
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
        Ok(Self { members })
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

    /// The member of that name as an object whose keys `decided` are spelled in the one right way.
    pub(crate) fn object(
        &self,
        name: &'static str,
        decided: &[&'static str],
    ) -> Result<Option<Object<'a>>, RequestError> {
        let Some(member) = self.get(name)? else { return Ok(None) };
        let Ok(object) = Object::parse(member.value.as_bytes()) else {
            return Err(RequestError::Wrong { param: name, expected: "an object" });
        };
        keys::check(&object.members, decided)?;
        Ok(Some(object))
    }
}
