//! Takes the members of a request's objects one by one, with the path of each for error messages. What no reader took is
//! refused by name, so that nothing that a caller asked for is dropped in silence.

use std::borrow::Cow;

use serde_json::{Map, Number, Value};

use crate::request_error::RequestError;

/// Most JSON values in a request that is translated. A parsed value takes up to a hundred bytes, however few it was written in.
const MAX_VALUES: usize = 250_000;

/// The members of an object that are not taken yet. `null` counts as absent.
#[derive(Debug)]
pub(crate) struct Fields {
    /// The object's path; empty for the body.
    path: String,
    members: Map<String, Value>,
}

impl Fields {
    /// Parses a request body.
    pub(crate) fn body(body: &[u8]) -> Result<Self, RequestError> {
        if count_values(body) > MAX_VALUES {
            let expected = "JSON of at most 250000 values, where it has to be translated";
            return Err(RequestError::Invalid { param: "body".to_owned(), expected });
        }
        match serde_json::from_slice(body) {
            Ok(Value::Object(members)) => Ok(Self { path: String::new(), members }),
            Ok(_) => Err(RequestError::NotAnObject),
            Err(error) => Err(RequestError::NotJson(error.to_string())),
        }
    }

    /// The members of `value`, which is at `path`.
    pub(crate) fn of(path: String, value: Value) -> Result<Self, RequestError> {
        match value {
            Value::Object(members) => Ok(Self { path, members }),
            _ => Err(RequestError::Invalid { param: path, expected: "an object" }),
        }
    }

    /// The path of a member.
    pub(crate) fn path(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// A member that stays.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.members.get(name).filter(|value| !value.is_null())
    }

    /// Takes a member of any type.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.members.shift_remove(name).filter(|value| !value.is_null())
    }

    /// Whether a member is there.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Takes a string.
    pub(crate) fn text(&mut self, name: &str) -> Result<Option<String>, RequestError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(name, "a string")),
        }
    }

    /// Takes a string that has to be there.
    pub(crate) fn required_text(&mut self, name: &str) -> Result<String, RequestError> {
        self.text(name)?.ok_or_else(|| self.wrong(name, "a string"))
    }

    /// Takes a boolean.
    pub(crate) fn bool(&mut self, name: &str) -> Result<Option<bool>, RequestError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(value)),
            Some(_) => Err(self.wrong(name, "true or false")),
        }
    }

    /// Takes a number, as written.
    pub(crate) fn number(&mut self, name: &str) -> Result<Option<Number>, RequestError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Number(number)) => Ok(Some(number)),
            Some(_) => Err(self.wrong(name, "a number")),
        }
    }

    /// Takes a whole number of at least 0.
    pub(crate) fn count(&mut self, name: &str) -> Result<Option<u64>, RequestError> {
        match self.take(name) {
            None => Ok(None),
            Some(value) => {
                value.as_u64().map(Some).ok_or_else(|| self.wrong(name, "a whole number of at least 0"))
            }
        }
    }

    /// Takes a list: the path and the value of each entry.
    pub(crate) fn list(&mut self, name: &str) -> Result<Option<Vec<(String, Value)>>, RequestError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(list)) => Ok(Some(entries(&self.path(name), list))),
            Some(_) => Err(self.wrong(name, "a list")),
        }
    }

    /// Takes an object.
    pub(crate) fn object(&mut self, name: &str) -> Result<Option<Self>, RequestError> {
        self.take(name).map(|value| Self::of(self.path(name), value)).transpose()
    }

    /// Removes members that only change cost or speed, or serve the caller's own bookkeeping.
    pub(crate) fn drop_hints(&mut self, names: &[&str]) {
        for name in names {
            self.members.shift_remove(*name);
        }
    }

    /// Takes OpenAI's `prompt_cache_options`, which change cost and speed only, but for `prewarm`: that asks for no answer.
    pub(crate) fn drop_prompt_cache_options(&mut self) -> Result<(), RequestError> {
        let Some(mut options) = self.object("prompt_cache_options")? else { return Ok(()) };
        options.drop_hints(&["mode", "ttl", "comparison_response_id"]);
        options.require_default("prewarm", &Value::Bool(false))?;
        options.finish()
    }

    /// Takes a member that no other dialect has, where it holds its default, which asks for nothing.
    pub(crate) fn require_default(&mut self, name: &str, default: &Value) -> Result<(), RequestError> {
        match self.take(name) {
            Some(value) if value != *default => Err(self.untranslatable(name)),
            _ => Ok(()),
        }
    }

    /// That a member has another type or value than the dialect allows.
    pub(crate) fn wrong(&self, name: &str, expected: &'static str) -> RequestError {
        RequestError::Invalid { param: self.path(name), expected }
    }

    /// That a member cannot be translated.
    pub(crate) fn untranslatable(&self, name: &str) -> RequestError {
        RequestError::Untranslatable { param: self.path(name) }
    }

    /// That a member cannot be translated, for a reason that follows its name, and what to do instead.
    pub(crate) fn refused(
        &self,
        name: &str,
        reason: impl Into<Cow<'static, str>>,
        hint: &'static str,
    ) -> RequestError {
        RequestError::Refused { param: self.path(name), reason: reason.into(), hint }
    }

    /// Refuses the first member that was not taken.
    pub(crate) fn finish(self) -> Result<(), RequestError> {
        match self.members.iter().find(|(_, value)| !value.is_null()) {
            Some((name, _)) => Err(self.untranslatable(&shown(name))),
            None => Ok(()),
        }
    }
}

/// The entries of a list at `path`, with their paths.
pub(crate) fn entries(path: &str, list: Vec<Value>) -> Vec<(String, Value)> {
    list.into_iter().enumerate().map(|(at, value)| (format!("{path}[{at}]"), value)).collect()
}

/// A key, or a value, as an error repeats it: bounded, with invisible characters escaped.
pub(crate) fn shown(key: &str) -> String {
    key.chars().take(64).flat_map(char::escape_debug).collect()
}

/// How many values a JSON text has, roughly: its brackets, braces and commas outside strings.
fn count_values(text: &[u8]) -> usize {
    let (mut values, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' | b',' if !in_string => values = values.saturating_add(1),
            _ => {}
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_taken_with_their_path_or_refused() {
        let mut body =
            Fields::body(br#"{"a":{"b":[{"c":1}]},"t":"x","n":null,"hint":7,"what\u0007":true}"#).unwrap();
        let mut a = body.object("a").unwrap().unwrap();
        let (path, entry) = a.list("b").unwrap().unwrap().remove(0);
        let mut entry = Fields::of(path, entry).unwrap();
        assert_eq!(entry.text("c").unwrap_err().param(), Some("a.b[0].c"));
        assert_eq!(body.required_text("t").unwrap(), "x");
        assert_eq!(body.required_text("n").unwrap_err().param(), Some("n"));
        body.drop_hints(&["hint"]);
        assert_eq!(body.finish().unwrap_err().param(), Some("what\\u{7}"));
    }

    #[test]
    fn a_body_of_very_many_values_is_refused() {
        let text = format!("{{\"a\":\"{}\"}}", "[,".repeat(MAX_VALUES));
        assert!(Fields::body(text.as_bytes()).is_ok(), "text counts once");
        let many = format!("{{\"a\":[{}0]}}", "0,".repeat(MAX_VALUES));
        assert_eq!(Fields::body(many.as_bytes()).unwrap_err().param(), Some("body"));
    }
}
