//! The body of a request, with the places of the fields that decisions depend on. A field is read, and a body rewritten, without
//! another look at the rest of the body.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use serde::de::DeserializeOwned;

use crate::object::Object;

/// A body and the places of its fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fields {
    body: Bytes,
    places: Vec<(&'static str, Range<usize>)>,
    /// Behind the opening brace.
    front: usize,
    is_empty: bool,
}

/// Another value of a field, as JSON.
pub(crate) struct Edit {
    pub(crate) name: &'static str,
    pub(crate) value: String,
}

impl Fields {
    /// Keeps the places of `names` in `body`, which `object` was read from.
    pub(crate) fn new(body: Bytes, object: &Object<'_>, names: &[&'static str]) -> Self {
        let place = |name: &&'static str| {
            let member = object.members.iter().find(|member| member.name == *name)?;
            Some((*name, member.span.clone()))
        };
        let places = names.iter().filter_map(place).collect();
        let front = body.iter().position(|byte| *byte == b'{').map_or(0, |at| at.saturating_add(1));
        Self { body, places, front, is_empty: object.members.is_empty() }
    }

    /// The body as it came.
    pub(crate) fn body(&self) -> &Bytes {
        &self.body
    }

    /// The same fields in a copy of the body.
    pub(crate) fn in_copy(&self, body: Bytes) -> Self {
        Self { body, ..self.clone() }
    }

    /// The JSON text of a field's value; `None` for an absent field and for `null`.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let (_, place) = self.places.iter().find(|(known, _)| *known == name)?;
        let text = std::str::from_utf8(self.body.get(place.clone())?).ok()?;
        (text != "null").then_some(text)
    }

    /// A field's value; `None` for an absent field, for `null`, and for a value that `T` does not have.
    pub(crate) fn read<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        serde_json::from_str(self.get(name)?).ok()
    }

    /// The body with other values: each takes the place of the field's own, or comes first where there is none. Every other byte
    /// stays. A body that has these values already is returned as it is.
    pub(crate) fn with(&self, edits: &[Edit]) -> Bytes {
        let (mut changes, mut added): (Vec<(Range<usize>, &str)>, String) = (Vec::new(), String::new());
        for Edit { name, value } in edits {
            match self.places.iter().find(|(known, _)| known == name) {
                Some((_, place)) if self.body.get(place.clone()) == Some(value.as_bytes()) => {}
                Some((_, place)) => changes.push((place.clone(), value)),
                None => {
                    if !added.is_empty() {
                        added.push(',');
                    }
                    added.extend(["\"", name, "\":", value]);
                }
            }
        }
        if !added.is_empty() {
            if !self.is_empty {
                added.push(',');
            }
            changes.push((self.front..self.front, &added));
        }
        if changes.is_empty() {
            return self.body.clone();
        }
        changes.sort_by_key(|(place, _)| place.start);
        let more: usize = changes.iter().map(|(_, value)| value.len()).sum();
        let mut body = BytesMut::with_capacity(self.body.len().saturating_add(more));
        let mut from = 0;
        for (place, value) in changes {
            body.extend_from_slice(self.body.get(from..place.start).unwrap_or_default());
            body.extend_from_slice(value.as_bytes());
            from = place.end;
        }
        body.extend_from_slice(self.body.get(from..).unwrap_or_default());
        body.freeze()
    }
}
