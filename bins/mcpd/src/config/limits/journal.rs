//! What agents may hand over of their journals.

use std::num::NonZeroU32;

use serde::Deserialize;

use super::bounds::Rate;

/// Default maximum of agents of one account: machines of one person, and a build system that makes new ones.
const AGENTS: NonZeroU32 = NonZeroU32::new(256).unwrap();

/// What agents may hand over of their journals.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct JournalLimits {
    /// Lines of one account.
    pub lines: Rate,
    /// Agents of one account; one that hands over nothing for 30 days is forgotten.
    pub agents: NonZeroU32,
}

impl Default for JournalLimits {
    fn default() -> Self {
        Self { lines: Rate::new(10_000, 1), agents: AGENTS }
    }
}
