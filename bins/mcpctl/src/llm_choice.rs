//! The Llm that a command works with: the only one that the account may run, or one by its name.

use mcpctl_client::{Client, ClientError};

use crate::{failure::Failure, output::one_line, suggest::did_you_mean};

/// Names that a message lists.
const MAX_LISTED: usize = 10;

/// Prefix of the agent's own providers among the models.
const OWN: &str = "local/";

/// The Llm that the account may run, where there is only one; `command` is what takes its name.
pub async fn only_llm(client: &Client, command: &str) -> Result<String, Failure> {
    let models = client.models().await?;
    let mut llms: Vec<String> =
        models.into_iter().map(|model| model.id).filter(|id| !id.starts_with(OWN)).collect();
    match llms.as_slice() {
        [_] => Ok(llms.swap_remove(0)),
        [] => Err(no_llm(client, command).await),
        several => Err(Failure::usage("which Llm?").hint(format!("{command} {}", listed(several, " | ")))),
    }
}

/// Why the list has no Llm. The agent lists its own providers also while mcpd cannot be asked or does not accept the credential; a
/// question for one Llm gets that error.
async fn no_llm(client: &Client, command: &str) -> Failure {
    match client.model("any").await {
        Err(error) if !is_denial(&error) => {
            let reason = Failure::from(error).in_one_line();
            Failure::new(format!("which Llms you may run is not known: {reason}"))
                .hint(format!("name one: {command} LLM"))
        }
        _ => Failure::new("there is no Llm that you may run").hint("ask an administrator for access"),
    }
}

/// Whether the account may run an Llm.
pub enum LlmAccess {
    /// It may.
    Allowed,
    /// There is none of this name that it may run.
    Denied {
        /// `did you mean …?`, where one that it may run has a name like it.
        similar: Option<String>,
        /// Those that it may run, shortened; `None` where there is none.
        others: Option<String>,
    },
    /// mcpd could not be asked.
    Unknown(ClientError),
}

/// Asks mcpd, or the agent of its own providers, whether the account may run an Llm.
pub async fn access(client: &Client, llm: &str) -> LlmAccess {
    let asked = match llm.starts_with(OWN) {
        // The agent's own providers are in its list alone.
        true => client.models().await.map(|models| models.iter().any(|model| model.id == llm)),
        false => client.model(llm).await.map(|_| true),
    };
    match asked {
        Ok(true) => return LlmAccess::Allowed,
        Err(error) if !is_denial(&error) => return LlmAccess::Unknown(error),
        Ok(false) | Err(_) => {}
    }
    let models = client.models().await.unwrap_or_default();
    let known: Vec<String> = models.into_iter().map(|model| model.id).collect();
    LlmAccess::Denied {
        similar: did_you_mean(llm, known.iter().map(String::as_str)),
        others: (!known.is_empty()).then(|| listed(&known, ", ")),
    }
}

/// What to name in place of an Llm that the account may not run; `None` where it may, and where mcpd cannot be asked.
pub async fn in_place_of(client: &Client, llm: &str) -> Option<String> {
    let LlmAccess::Denied { similar, others } = access(client, llm).await else { return None };
    let hint = similar.or_else(|| others.map(|others| format!("you may run: {others}")));
    Some(hint.unwrap_or_else(|| "ask an administrator for access".to_owned()))
}

/// What to report where access is denied.
pub fn denied(llm: &str) -> String {
    format!("there is no Llm `{}` that you may run", one_line(llm))
}

/// Whether mcpd answered that there is no such Llm, or that the account may not run it.
fn is_denial(error: &ClientError) -> bool {
    let status = error.status().map(|status| status.as_u16());
    matches!(error, ClientError::Segment(_)) || matches!(status, Some(400 | 403 | 404))
}

/// The first names, and how many there are besides.
fn listed(names: &[String], between: &str) -> String {
    let shown: Vec<&str> = names.iter().map(String::as_str).take(MAX_LISTED).collect();
    let shown = one_line(&shown.join(between));
    match names.len().saturating_sub(MAX_LISTED) {
        0 => shown,
        more => format!("{shown}, or one of {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_names_are_listed_and_the_others_counted() {
        let names = |count: usize| (0..count).map(|at| format!("m{at}")).collect::<Vec<_>>();
        assert_eq!(listed(&names(2), " | "), "m0 | m1");
        assert!(!listed(&names(MAX_LISTED), ", ").contains("more"));
        let many = listed(&names(MAX_LISTED + 3), ", ");
        assert!(many.ends_with("m9, or one of 3 more"), "{many}");
    }
}
