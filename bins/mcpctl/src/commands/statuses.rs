//! What mcpd reports of resources besides their documents, for tables.

use mcpctl_api::{Kind, Resource};
use mcpctl_client::Client;

use crate::output::{Format, resources::Statuses};

/// What mcpd reports of the resources that a table shows; nothing where it does not, because it is older.
pub async fn statuses_of(client: &Client, items: &[Resource], format: &Format) -> Statuses {
    let mut statuses = Statuses::default();
    if !matches!(format, Format::Table | Format::Wide) {
        return statuses;
    }
    let shows = |kind: Kind| items.iter().any(|item| item.kind() == kind);
    match items {
        [token] if token.kind() == Kind::Token => {
            let status = client.token_status(token.id.as_str()).await.ok();
            statuses.tokens = status.map(|status| (status.id.clone(), status)).into_iter().collect();
        }
        _ if shows(Kind::Token) => {
            let tokens = client.token_statuses().await.map(|list| list.items).unwrap_or_default();
            statuses.tokens = tokens.into_iter().map(|status| (status.id.clone(), status)).collect();
        }
        _ => {}
    }
    match items {
        [llm] if llm.kind() == Kind::Llm => {
            let status = client.llm_status(llm.id.as_str()).await.ok();
            statuses.llms = status.map(|status| (llm.name.clone(), status)).into_iter().collect();
        }
        _ if shows(Kind::Llm) => {
            let llms = client.llm_statuses().await.unwrap_or_default();
            statuses.llms = llms.into_iter().map(|status| (status.llm.clone(), status)).collect();
        }
        _ => {}
    }
    statuses
}
