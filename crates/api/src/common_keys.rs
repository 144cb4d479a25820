//! The keys that documents of every kind have.

/// The keys of every document, whatever its kind.
pub(crate) const COMMON_KEYS: [&str; 8] =
    ["kind", "id", "name", "labels", "annotations", "revision", "createdAt", "updatedAt"];
