//! Kinds of which the caller may view none: a list of them is empty and means nothing.

use mcpctl_api::{Kind, Verb, spec::Rule};
use mcpctl_client::Client;

use crate::failure::Failure;

/// Those of these kinds of which the caller may view none; none of them where mcpd does not answer that. Tokens are never among them:
/// people have tokens of their own without a rule.
pub async fn not_viewable(client: &Client, kinds: &[Kind]) -> Vec<Kind> {
    if kinds.is_empty() {
        return Vec::new();
    }
    let Ok(rights) = client.rights(None).await else { return Vec::new() };
    let allows = |rule: &Rule, kind: Kind| {
        rule.verbs.iter().any(|verb| verb.includes(&Verb::View))
            && rule.kinds.iter().any(|allowed| allowed.includes(&kind))
    };
    let may_view = |kind: Kind| {
        let narrowed = rights.narrowed_to.as_deref();
        rights.rules.iter().any(|held| allows(&held.rule, kind))
            && narrowed.is_none_or(|rules| rules.iter().any(|rule| allows(rule, kind)))
    };
    kinds.iter().copied().filter(|kind| *kind != Kind::Token && !may_view(*kind)).collect()
}

/// The failure of a command that is about such kinds alone.
pub fn refusal(kinds: &[Kind]) -> Failure {
    Failure::new(format!("you may not view {}", plurals(kinds)))
        .hint("`mcpctl auth can-i --list` shows what you may do")
}

/// `users, groups`
pub fn plurals(kinds: &[Kind]) -> String {
    kinds.iter().map(|kind| kind.plural()).collect::<Vec<_>>().join(", ")
}
