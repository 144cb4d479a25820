//! A resource as the server keeps and shows it.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize, ser::SerializeMap as _};
use utoipa::ToSchema;

use crate::{
    Document, DocumentError, Id, Kind, Name, Spec,
    document::{self, Head, Times},
    labels::{Annotations, Labels},
};

/// A number of the store's one gap-free sequence of changes; 0 is the empty store.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema,
)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl Revision {
    /// The revision that follows.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A resource: what a person wrote, and what the server added.
#[derive(Debug, Clone, PartialEq)]
pub struct Resource {
    /// Made by the server, never reused.
    pub id: Id,
    /// Unique within the kind.
    pub name: Name,
    /// For selecting.
    pub labels: Labels,
    /// Notes of people and programs.
    pub annotations: Annotations,
    /// The revision of the last change to this resource.
    pub revision: Revision,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// The fields of its kind.
    pub spec: Spec,
}

impl Resource {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.spec.kind()
    }

    /// The document that `get -o yaml` prints and `apply` takes.
    pub fn to_document(&self) -> Document {
        Document {
            id: Some(self.id.clone()),
            name: Some(self.name.clone()),
            labels: self.labels.clone(),
            annotations: self.annotations.clone(),
            revision: Some(self.revision),
            spec: self.spec.clone(),
        }
    }

    /// Reads the JSON that [`Serialize`] writes.
    ///
    /// # Errors
    /// When it is not a resource: a field is missing, unknown or of the wrong type.
    pub fn from_json(text: &str) -> Result<Self, DocumentError> {
        let head: Head = serde_json::from_str(text).map_err(DocumentError::from_json)?;
        Self::from_json_as(head.kind()?, text)
    }

    /// As [`Resource::from_json`], of a kind that is known, in one pass. Not validated: a stored resource was validated by the rules
    /// of the time it was written.
    ///
    /// # Errors
    /// As [`Resource::from_json`], and when it is of another kind.
    pub fn from_json_as(kind: Kind, text: &str) -> Result<Self, DocumentError> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let mut times = Times::default();
        let document = document::read_as(kind, Some(&mut times), &mut deserializer);
        let document = document.map_err(DocumentError::from_json)?;
        deserializer.end().map_err(DocumentError::from_json)?;
        let missing = |field: &str| DocumentError::missing(field);
        Ok(Self {
            id: document.id.ok_or_else(|| missing("id"))?,
            name: document.name.ok_or_else(|| missing("name"))?,
            labels: document.labels,
            annotations: document.annotations,
            revision: document.revision.ok_or_else(|| missing("revision"))?,
            created_at: times.created_at.ok_or_else(|| missing("createdAt"))?,
            updated_at: times.updated_at.ok_or_else(|| missing("updatedAt"))?,
            spec: document.spec,
        })
    }
}

/// Flat, one map: `kind`, `id`, `name`, `labels`, `annotations`, `revision`, `createdAt`, `updatedAt`, then the fields of the spec.
impl Serialize for Resource {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("kind", &self.kind())?;
        map.serialize_entry("name", &self.name)?;
        map.serialize_entry("id", &self.id)?;
        if !self.labels.is_empty() {
            map.serialize_entry("labels", &self.labels)?;
        }
        if !self.annotations.is_empty() {
            map.serialize_entry("annotations", &self.annotations)?;
        }
        map.serialize_entry("revision", &self.revision)?;
        map.serialize_entry("createdAt", &self.created_at)?;
        map.serialize_entry("updatedAt", &self.updated_at)?;
        for (key, value) in self.spec.to_fields().map_err(serde::ser::Error::custom)? {
            map.serialize_entry(&key, &value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Resource {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<serde_json::value::RawValue>::deserialize(deserializer)?;
        Self::from_json(text.get()).map_err(serde::de::Error::custom)
    }
}
