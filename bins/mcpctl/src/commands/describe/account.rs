//! What belongs to an account: its groups, what it may do, and its tokens.

use jiff::Timestamp;
use mcpctl_api::{
    Kind, Resource,
    spec::{Subject, SubjectKind},
    token_status::TokenStatus,
};
use mcpctl_client::Client;

use crate::{
    commands::token::beginning,
    failure::Failure,
    output::{
        last_used, one_line,
        table::{age, until},
    },
};

/// Prints it for a user or a service account; each part is left out for a caller who may not view it.
pub async fn describe(client: &Client, account: &Resource) -> Result<(), Failure> {
    let kind = match account.kind() {
        Kind::User => SubjectKind::User,
        Kind::ServiceAccount => SubjectKind::ServiceAccount,
        _ => return Ok(()),
    };
    let account = Subject { kind, name: account.name.clone() };
    if let Ok(rights) = client.rights(Some(&account)).await {
        let groups = rights.groups.iter().map(ToString::to_string).collect::<Vec<_>>();
        data!("# groups: {}", if groups.is_empty() { "none".to_owned() } else { groups.join(", ") })?;
        data!("# may{}", if rights.rules.is_empty() { ": nothing" } else { ":" })?;
        for held in &rights.rules {
            let via = held.via_group.as_ref().map(|group| format!(" via group {group}")).unwrap_or_default();
            data!(
                "#   {} (role {}, binding {}{via})",
                one_line(&held.rule.to_string()),
                held.role,
                held.binding
            )?;
        }
    }
    match client.tokens_of(&account).await {
        Ok(tokens) => tokens_of(&tokens.items),
        Err(_) => Ok(()),
    }
}

fn tokens_of(tokens: &[TokenStatus]) -> Result<(), Failure> {
    let used = |tokens: &[&TokenStatus]| tokens.iter().filter_map(|token| token.last_used_at).max();
    let ago = |at: Option<Timestamp>| at.map_or_else(|| "never".to_owned(), |at| format!("{} ago", age(at)));
    data!("# last used: {}", ago(used(&tokens.iter().collect::<Vec<_>>())))?;
    let (sessions, tokens): (Vec<_>, Vec<_>) = tokens.iter().partition(|token| token.session);
    if !sessions.is_empty() {
        data!("# sessions: {}, last used {}", sessions.len(), ago(used(&sessions)))?;
    }
    data!("# tokens{}", if tokens.is_empty() { ": none" } else { ":" })?;
    for token in tokens {
        let made = token.created_at.map(|at| format!(", made {} ago", age(at))).unwrap_or_default();
        let begins = token.prefix.as_ref().map(|_| format!(" {}", beginning(token))).unwrap_or_default();
        let (state, ends) = (token.state.as_str(), until(token.expires_at));
        data!("#   {}{begins} {state}{made}, ends {ends}, last used {}", token.token, last_used(token))?;
        token
            .rules
            .iter()
            .flatten()
            .try_for_each(|rule| data!("#     may only: {}", one_line(&rule.to_string())))?;
    }
    Ok(())
}
