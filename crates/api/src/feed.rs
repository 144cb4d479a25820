//! The events of `GET /api/v1/feed`. mcpd writes them; the agent reads them, and ends local answers whose caller lost access.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Id, Revision};

/// Maximum of Llms that one feed is about.
pub const MAX_FEED_LLMS: usize = 64;
/// The interval of heartbeats, seconds.
pub const HEARTBEAT_SECONDS: u64 = 5;

/// `event: state`: what the caller may do now. The first event, and one whenever a decision has changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FeedState {
    /// The revision of the resources that this was decided in; a later feed may go on from it.
    pub revision: Revision,
    /// Milliseconds from the beginning of the feed to the moment for which this is known to hold.
    pub as_of: u64,
    /// When the credential expires.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
    /// Each Llm, by the name or id that was asked for.
    pub llms: BTreeMap<String, FeedLlm>,
}

/// What a feed shows of an Llm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FeedLlm {
    /// Its id, where the caller is allowed: an Llm that was made again under its name is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub id: Option<Id>,
    /// Whether a local provider may answer in its place.
    pub allowed: bool,
}

/// `event: heartbeat`: the last state holds still.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FeedHeartbeat {
    /// The revision up to which it holds.
    pub revision: Revision,
    /// As in [`FeedState`].
    pub as_of: u64,
}

/// `event: ended`: the credential is not valid any more. The last event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FeedEnded {
    /// Why.
    pub reason: FeedEnd,
}

/// Why a credential is not valid any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum FeedEnd {
    /// It was deleted, or its owner or maker is deleted or disabled.
    Revoked,
    /// Its time is over.
    Expired,
}
