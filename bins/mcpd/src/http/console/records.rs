//! What the lists of records have in common, the audit and the failover ledger: fields of the filter, and pages.

use std::sync::Arc;

use axum::{extract::FromRequestParts, http::request::Parts};
use mcpctl_api::{
    Id,
    audit::{AuditDecision, AuditEntry, AuditPage},
};
use serde::{Deserialize, de::DeserializeOwned};
use url::form_urlencoded;

use super::{
    super::{
        audit::{self, PageQuery},
        error::HttpError,
        query,
    },
    fields::{Moment, Pages, address, given},
    links,
};
use crate::{app::App, caller::Caller};

/// Rows of one page.
const PAGE_ROWS: u32 = 50;
/// The names of [`CommonFields`].
const COMMON: [&str; 6] = ["subject", "llm", "agent", "since", "until", "after"];

/// Fields that every list has.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CommonFields {
    #[serde(deserialize_with = "given")]
    pub subject: Option<String>,
    #[serde(deserialize_with = "given")]
    pub llm: Option<String>,
    #[serde(deserialize_with = "given")]
    pub agent: Option<String>,
    #[serde(deserialize_with = "given")]
    pub since: Option<Moment>,
    #[serde(deserialize_with = "given")]
    pub until: Option<Moment>,
    /// `next` of the page before.
    #[serde(deserialize_with = "given")]
    pub after: Option<String>,
}

/// Fields that one list has besides.
pub trait OwnFields: DeserializeOwned {
    /// The list's page.
    const PATH: &str;

    /// The action and the decision of its rows.
    fn rows(&self) -> (Option<String>, Option<AuditDecision>);

    /// The fields that are given, as its address has them.
    fn given(&self) -> Vec<(&'static str, Option<String>)>;
}

/// The fields of a list of records.
#[derive(Debug, Clone)]
pub struct RecordFields<O> {
    pub common: CommonFields,
    pub own: O,
}

impl<O: OwnFields> RecordFields<O> {
    /// The address of this list from its newest row, or from `after` on.
    fn page(&self, after: Option<String>) -> String {
        let CommonFields { subject, llm, agent, since, until, .. } = &self.common;
        let moment = |moment: &Option<Moment>| moment.map(|moment| moment.0.to_string());
        let common = [
            ("subject", subject.clone()),
            ("llm", llm.clone()),
            ("agent", agent.clone()),
            ("since", moment(since)),
            ("until", moment(until)),
            ("after", after),
        ];
        let fields: Vec<_> = self.own.given().into_iter().chain(common).collect();
        address(O::PATH, &fields)
    }

    /// The rows of the page, and the pages around it.
    pub async fn rows(&self, app: &Arc<App>, caller: &Caller) -> Result<(Vec<AuditEntry>, Pages), HttpError> {
        let CommonFields { subject, llm, agent, since, until, after } = self.common.clone();
        let (action, decision) = self.own.rows();
        let filter = PageQuery {
            subject,
            llm,
            action,
            decision,
            requests: None,
            agent: agent.as_deref().map(agent_id).transpose()?,
            since: since.map(|moment| moment.0),
            until: until.map(|moment| moment.0),
            after,
            limit: Some(PAGE_ROWS),
        };
        let AuditPage { items, next } = Box::pin(audit::page(app, caller, filter)).await?;
        let start = self.common.after.is_some().then(|| self.page(None));
        Ok((items, Pages { start, next: next.map(|next| self.page(Some(next))) }))
    }
}

fn agent_id(text: &str) -> Result<Id, HttpError> {
    text.parse().map_err(|_| {
        HttpError::invalid("agent", format!("`{text}` is not the id of an agent"))
            .hint("the page of the agents has their ids")
    })
}

/// Unknown fields are errors, so each is read by the one struct that has it.
impl<S: Sync, O: OwnFields> FromRequestParts<S> for RecordFields<O> {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, HttpError> {
        let query = parts.uri.query().unwrap_or_default();
        let pairs = form_urlencoded::parse(query.as_bytes());
        let (common, own): (Vec<_>, Vec<_>) = pairs.partition(|(name, _)| COMMON.contains(&&**name));
        Ok(Self { common: query::from_texts(common)?, own: query::from_texts(own)? })
    }
}

/// The class of a row's decision in the style sheet.
pub const fn class(entry: &AuditEntry) -> &'static str {
    match entry.decision {
        AuditDecision::Allowed => "good",
        AuditDecision::Denied => "bad",
    }
}

/// What a principal of a row leads to.
pub fn person(entry: &AuditEntry) -> Option<String> {
    links::principal(&entry.principal)
}
