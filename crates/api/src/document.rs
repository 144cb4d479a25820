//! A resource as a person writes it: one flat map, checked key by key.
//!
//! Serde's `flatten` neither refuses unknown keys nor keeps the place of an error. So the common keys are taken out of
//! the stream here, and everything else goes to the kind's own type, which refuses what it does not know.

use std::{fmt, marker::PhantomData};

use jiff::Timestamp;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeSeed, IgnoredAny, IntoDeserializer, MapAccess, Visitor},
    ser::SerializeMap as _,
};

use crate::{
    Id, Kind, Name, Revision, Spec,
    common_keys::COMMON_KEYS,
    diagnosis::{self, Diagnosis},
    labels::{Annotations, Labels},
    spec::{
        FieldError, GroupSpec, LimitSpec, LlmSpec, RoleBindingSpec, RoleSpec, SecretSpec, ServiceAccountSpec,
        TokenSpec, UserSpec,
    },
    text,
    vocabulary::DOCUMENTS,
};

/// A resource to be made or changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Of an existing resource, where the document changes one.
    pub id: Option<Id>,
    /// Given in documents; in a PUT the path may give it instead.
    pub name: Option<Name>,
    /// For selecting.
    pub labels: Labels,
    /// Notes of people and programs.
    pub annotations: Annotations,
    /// The revision that the writer saw; a change since then is a conflict.
    pub revision: Option<Revision>,
    /// What it is.
    pub spec: Spec,
}

/// Why a document cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct DocumentError {
    /// What is wrong.
    pub message: String,
    /// Where, e.g. `rules[0].verbs`; empty for the whole document.
    pub param: String,
    /// What to write instead.
    pub hint: Option<String>,
}

impl DocumentError {
    pub(crate) fn missing(field: &str) -> Self {
        Self { message: format!("missing field `{field}`"), param: field.to_owned(), hint: None }
    }

    pub(crate) fn from_json(error: serde_json::Error) -> Self {
        Self { message: error.to_string(), param: String::new(), hint: None }
    }
}

impl From<FieldError> for DocumentError {
    fn from(error: FieldError) -> Self {
        Self { message: error.to_string(), param: error.param, hint: error.hint }
    }
}

impl Document {
    /// The kind that the document is of.
    pub fn kind(&self) -> Kind {
        self.spec.kind()
    }

    /// Reads and validates a JSON document.
    ///
    /// # Errors
    /// Not JSON, no or an unknown `kind`, an unknown key, a wrong type, or a rule broken; with the field.
    pub fn from_json(json: &[u8]) -> Result<Self, DocumentError> {
        let document = Self::read_json(json)?;
        document.validate()?;
        Ok(document)
    }

    fn read_json(json: &[u8]) -> Result<Self, DocumentError> {
        let first = json.iter().find(|b| !b.is_ascii_whitespace());
        if first != Some(&b'{') {
            let message = "a document is a JSON object".to_owned();
            return Err(DocumentError { message, param: String::new(), hint: None });
        }
        let head: Head = serde_json::from_slice(json).map_err(DocumentError::from_json)?;
        Self::read_json_as(head.kind()?, json)
    }

    /// Checks what types alone cannot: characters and lengths of texts, ranges, addresses, empty lists.
    ///
    /// # Errors
    /// The first field that breaks a rule.
    pub fn validate(&self) -> Result<(), FieldError> {
        text::check(&self.labels, &self.annotations, &self.spec)?;
        self.spec.validate()
    }

    /// Reads and validates a JSON document whose kind the path gives; a `kind` in the body must agree.
    ///
    /// # Errors
    /// As [`Document::from_json`].
    pub fn from_json_as(kind: Kind, json: &[u8]) -> Result<Self, DocumentError> {
        let document = Self::read_json_as(kind, json)?;
        document.validate()?;
        Ok(document)
    }

    fn read_json_as(kind: Kind, json: &[u8]) -> Result<Self, DocumentError> {
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        let mut track = serde_path_to_error::Track::new();
        let tracked = serde_path_to_error::Deserializer::new(&mut deserializer, &mut track);
        let document = read_as(kind, None, tracked);
        let document = document.map_err(|error| {
            let path = track.path().to_string();
            let param = if path == "." { String::new() } else { path };
            let Diagnosis { message, hint, .. } = diagnosis::of_json(&without_place(&error), &param);
            DocumentError { message, param, hint }
        })?;
        deserializer.end().map_err(DocumentError::from_json)?;
        Ok(document)
    }
}

/// The server's readers name the field; serde_json's line and column of a one-line body would only confuse.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(at) => text.split_at(at).0.to_owned(),
        None => text,
    }
}

/// The `kind` of a list of documents.
pub(crate) const LIST: &str = "List";

/// The keys that decide which type reads a document.
#[derive(Deserialize)]
pub(crate) struct Head {
    kind: Option<String>,
    items: Option<IgnoredAny>,
}

impl Head {
    /// Whether it is a list of documents, as `get -o json` prints several resources.
    pub(crate) fn is_list(&self) -> bool {
        match self.kind.as_deref() {
            None => self.items.is_some(),
            Some(kind) => kind == LIST,
        }
    }

    pub(crate) fn kind(&self) -> Result<Kind, DocumentError> {
        let hint = Some(format!("kinds are {}", Kind::RESOURCES.map(Kind::singular).join(", ")));
        let Some(kind) = &self.kind else {
            return Err(DocumentError { hint, ..DocumentError::missing("kind") });
        };
        // Only the exact word is accepted, so that a file reads the same everywhere.
        Kind::RESOURCES.into_iter().find(|k| k.singular() == kind).ok_or_else(|| DocumentError {
            message: format!("`{kind}` is not a kind"),
            param: "kind".to_owned(),
            hint: match kind.parse::<Kind>() {
                Ok(meant) if meant.is_resource() => Some(format!("write `{meant}`")),
                _ => DOCUMENTS.instead(kind, Kind::RESOURCES.map(Kind::singular).into_iter()).or(hint),
            },
        })
    }
}

/// When a resource was made and last changed.
#[derive(Default)]
pub(crate) struct Times {
    pub(crate) created_at: Option<Timestamp>,
    pub(crate) updated_at: Option<Timestamp>,
}

/// Reads a document of a known kind from any format, with the times that the server has set, or without a look at them. Does not
/// [validate](Spec::validate).
pub(crate) fn read_as<'de, D: Deserializer<'de>>(
    kind: Kind,
    times: Option<&mut Times>,
    deserializer: D,
) -> Result<Document, D::Error> {
    struct Flat<'a, D> {
        kind: Kind,
        times: Option<&'a mut Times>,
        deserializer: D,
    }

    fn flat<'de, S, D>(flat: Flat<'_, D>, wrap: fn(S) -> Spec) -> Result<Document, D::Error>
    where
        S: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        let Flat { kind, times, deserializer } = flat;
        let (common, spec) = FlatSeed { kind, times, spec: PhantomData::<S> }.deserialize(deserializer)?;
        let Common { id, name, labels, annotations, revision } = common;
        Ok(Document { id, name, labels, annotations, revision, spec: wrap(spec) })
    }
    let all = Flat { kind, times, deserializer };
    match kind {
        Kind::Llm => flat::<LlmSpec, D>(all, |llm| Spec::Llm(Box::new(llm))),
        Kind::Secret => flat::<SecretSpec, D>(all, Spec::Secret),
        Kind::User => flat::<UserSpec, D>(all, Spec::User),
        Kind::Group => flat::<GroupSpec, D>(all, Spec::Group),
        Kind::ServiceAccount => flat::<ServiceAccountSpec, D>(all, Spec::ServiceAccount),
        Kind::Role => flat::<RoleSpec, D>(all, Spec::Role),
        Kind::RoleBinding => flat::<RoleBindingSpec, D>(all, Spec::RoleBinding),
        Kind::Token => flat::<TokenSpec, D>(all, Spec::Token),
        Kind::Limit => flat::<LimitSpec, D>(all, Spec::Limit),
        Kind::Usage | Kind::Audit => {
            Err(serde::de::Error::custom(format!("there are no documents of the kind {kind}")))
        }
    }
}

#[derive(Default)]
struct Common {
    id: Option<Id>,
    name: Option<Name>,
    labels: Labels,
    annotations: Annotations,
    revision: Option<Revision>,
}

struct FlatSeed<'a, S> {
    kind: Kind,
    times: Option<&'a mut Times>,
    spec: PhantomData<S>,
}

impl<'de, S: Deserialize<'de>> DeserializeSeed<'de> for FlatSeed<'_, S> {
    type Value = (Common, S);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, S: Deserialize<'de>> Visitor<'de> for FlatSeed<'_, S> {
    type Value = (Common, S);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a map that describes one {}", self.kind)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        let mut common = Common::default();
        let rest = SpecKeys { map, kind: self.kind, common: &mut common, times: self.times };
        let spec = S::deserialize(rest)?;
        Ok((common, spec))
    }
}

/// The map without the common keys, which it keeps for itself as they come by.
struct SpecKeys<'a, A> {
    map: A,
    kind: Kind,
    common: &'a mut Common,
    times: Option<&'a mut Times>,
}

impl<'de, A: MapAccess<'de>> Deserializer<'de> for SpecKeys<'_, A> {
    type Error = A::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, A::Error> {
        visitor.visit_map(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for SpecKeys<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        use serde::de::Error as _;
        let mut seed = Some(seed);
        loop {
            match self.map.next_key_seed(KeySeed { rest: &mut seed })? {
                None => return Ok(None),
                Some(Key::Rest(value)) => return Ok(Some(value)),
                Some(Key::Common(key)) => match key {
                    "kind" => {
                        let found: String = self.map.next_value()?;
                        if found != self.kind.singular() {
                            let message = format!("kind `{found}` where `{}` is expected", self.kind);
                            return Err(A::Error::custom(message));
                        }
                    }
                    "id" => self.common.id = self.map.next_value()?,
                    "name" => self.common.name = self.map.next_value()?,
                    "labels" => self.common.labels = self.map.next_value()?,
                    "annotations" => self.common.annotations = self.map.next_value()?,
                    "revision" => self.common.revision = self.map.next_value()?,
                    _ => match &mut self.times {
                        Some(times) if key == "createdAt" => times.created_at = self.map.next_value()?,
                        Some(times) => times.updated_at = self.map.next_value()?,
                        // The server sets them, so those that `get -o yaml` printed are ignored.
                        None => {
                            self.map.next_value::<IgnoredAny>()?;
                        }
                    },
                },
            }
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

enum Key<V> {
    Common(&'static str),
    Rest(V),
}

struct KeySeed<'a, K> {
    rest: &'a mut Option<K>,
}

impl<'de, K: DeserializeSeed<'de>> DeserializeSeed<'de> for KeySeed<'_, K> {
    type Value = Key<K::Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl<'de, K: DeserializeSeed<'de>> Visitor<'de> for KeySeed<'_, K> {
    type Value = Key<K::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<Self::Value, E> {
        if let Some(common) = COMMON_KEYS.iter().find(|common| **common == key) {
            return Ok(Key::Common(common));
        }
        match self.rest.take() {
            Some(seed) => seed.deserialize(key.into_deserializer()).map(Key::Rest),
            None => Err(E::custom("a key was read twice")),
        }
    }
}

impl Serialize for Document {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("kind", &self.kind())?;
        if let Some(name) = &self.name {
            map.serialize_entry("name", name)?;
        }
        if let Some(id) = &self.id {
            map.serialize_entry("id", id)?;
        }
        if !self.labels.is_empty() {
            map.serialize_entry("labels", &self.labels)?;
        }
        if !self.annotations.is_empty() {
            map.serialize_entry("annotations", &self.annotations)?;
        }
        if let Some(revision) = &self.revision {
            map.serialize_entry("revision", revision)?;
        }
        for (key, value) in self.spec.to_fields().map_err(serde::ser::Error::custom)? {
            map.serialize_entry(&key, &value)?;
        }
        map.end()
    }
}
