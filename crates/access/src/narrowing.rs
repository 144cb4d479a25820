//! What a narrowed token may do at most. A narrowing only ever takes away: a decision needs a grant of the token's owner
//! beside it.

use mcpctl_api::{Kind, Verb, spec::Rule};

use crate::rules::{CompiledRule, Names};

/// The rules of a narrowed token, compiled once for each snapshot.
#[derive(Debug, PartialEq, Eq)]
pub struct Narrowing {
    rules: Vec<CompiledRule>,
}

impl Narrowing {
    /// Compiles the rules. Without any it allows nothing.
    pub fn new(rules: &[Rule]) -> Self {
        Self { rules: rules.iter().map(CompiledRule::new).collect() }
    }

    pub(crate) fn allows(&self, verb: Verb, kind: Kind, names: Names<'_>) -> bool {
        self.rules.iter().any(|rule| rule.allows(verb, kind, names))
    }

    pub(crate) fn rules(&self) -> &[CompiledRule] {
        &self.rules
    }
}
