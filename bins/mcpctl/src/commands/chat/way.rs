//! The way to the model: through the agent where it runs and forwards to the chosen server, else straight to mcpd.

use mcpctl_client::{
    Client,
    config::{login_command, same_server},
    expiry::{self, ExpiryWarning},
};

use super::Args;
use crate::{
    agent,
    context::{Global, Identity},
    failure::Failure,
};

/// The way to the model.
pub struct Through {
    /// Of the agent, or of mcpd.
    pub client: Client,
    /// The agent, where the way leads through it, as this machine's user.
    pub agent: Option<Client>,
    /// A warning that the bearer ends soon.
    pub expiry: Option<ExpiryWarning>,
    /// What to do where mcpd does not accept the bearer.
    pub renewal: String,
}

/// The way through the agent where it runs and forwards to the chosen server; else straight to mcpd.
pub async fn through(global: &Global, args: &Args) -> Result<Through, Failure> {
    let identity = global.identity();
    let agent = if args.direct { None } else { Some(agent::find().await) };
    let agent = match agent {
        Some(Ok(agent)) => agent,
        Some(Err(failure)) if args.local => return Err(failure),
        Some(Err(_)) | None => return straight(identity?),
    };
    match identity {
        Ok(identity) => {
            let theirs = &agent.status.server;
            if !same_server(theirs, &identity.server) {
                let message = format!("mcplocal forwards to {theirs}, not to {}", identity.server);
                if args.local {
                    return Err(Failure::new(message).hint("choose the context of its server with --context"));
                }
                note!("note: {message}, so this goes straight there");
                return straight(identity);
            }
            // The agent uses the credential of this machine's user, so a bearer of another user does not go through it.
            let current = global.config()?.1.current_context;
            let same_account = identity.context.as_ref().is_some_and(|context| {
                current.as_ref() == Some(&context.name)
                    && agent.status.signed_in_as == Some(context.account_label())
            });
            if identity.bearer.is_some() && !same_account {
                let message = "the chosen token is not the one that mcplocal acts with";
                if args.local {
                    return Err(Failure::new(message)
                        .hint("unset MCPCTL_TOKEN and leave out --context, or leave out --local"));
                }
                note!("note: {message}, so this goes straight to mcpd");
                return straight(identity);
            }
            let expiry = identity.context.as_ref().and_then(expiry::warning);
            Ok(Through {
                client: agent.client.clone(),
                agent: Some(agent.client),
                expiry,
                renewal: identity.renewal,
            })
        }
        // Without a chosen server the agent's own is used.
        Err(_) if global.chooses_nothing() => Ok(Through {
            client: agent.client.clone(),
            agent: Some(agent.client),
            renewal: login_command(&agent.status.server, None),
            expiry: None,
        }),
        Err(failure) => Err(failure),
    }
}

fn straight(identity: Identity) -> Result<Through, Failure> {
    let expiry = identity.context.as_ref().and_then(expiry::warning);
    let renewal = identity.renewal.clone();
    Ok(Through { client: identity.client()?, agent: None, expiry, renewal })
}
