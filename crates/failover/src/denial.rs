//! A denial of mcpd's.

use crate::llm::LlmId;

/// How mcpd denied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// What mcpd signed; `None` where it denied by a status alone, which anyone can send: that destroys no lease.
    pub signed: Option<SignedDenial>,
    /// The rule of the Llm that denied; `None` where the caller may not view it, or is not known.
    pub rule: Option<FailoverRule>,
}

/// A denial that mcpd signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedDenial {
    /// The Llm that was judged, where there is one.
    pub llm: Option<LlmId>,
    /// Whether mcpd knows the bearer. One that it does not know loses every lease.
    pub known_caller: bool,
    /// The revision that was judged.
    pub revision: u64,
}

/// A rule of an Llm about failover that denies callers who may view it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailoverRule {
    /// The Llm does not let agents fall back.
    Off,
    /// Falling back needs the right to run the Llm.
    RunRequired,
}

impl FailoverRule {
    /// The word of the header `mcpctl-no-failover`, as in mcpd's proof.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "failover_off",
            Self::RunRequired => "run_required",
        }
    }
}

impl Denial {
    /// What a status alone denies.
    pub const UNSIGNED: Self = Self { signed: None, rule: None };
}
