//! Labels of a resource.

use std::collections::BTreeMap;

/// Labels of a resource, for selecting with `-l`.
pub type Labels = BTreeMap<String, String>;
