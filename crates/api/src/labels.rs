//! Labels and annotations of a resource.

use std::collections::BTreeMap;

/// Labels of a resource, for selecting with `-l`.
pub type Labels = BTreeMap<String, String>;

/// Annotations of a resource: texts of people and programs about it, by which nothing is selected and which mcpd does not read.
pub type Annotations = BTreeMap<String, String>;
