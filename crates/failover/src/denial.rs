//! A denial of mcpd's.

use crate::llm::LlmId;

/// How mcpd denied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// Whether mcpd signed it; only then it destroys leases.
    pub authenticated: bool,
    /// The Llm that was judged, where there is one.
    pub llm: Option<LlmId>,
    /// Whether mcpd knows the bearer. One that it does not know loses every lease.
    pub known_caller: bool,
    /// The revision that was judged; `None` where mcpd did not name it.
    pub revision: Option<u64>,
}

impl Denial {
    /// What a status alone denies.
    pub const UNSIGNED: Self = Self { authenticated: false, llm: None, known_caller: true, revision: None };
}
