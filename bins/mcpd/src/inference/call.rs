//! A request for inference that may run: read, and authorized for the Llm that it names.

use std::{sync::Arc, time::Instant};

use http::HeaderMap;
use mcpctl_dialect as dialect;

use super::access::AccessWatch;
use crate::{app::App, caller::Caller};

/// A request, read, from a caller who may run the Llm that it names.
pub struct Call {
    /// What all requests share.
    pub app: Arc<App>,
    /// The caller, and the snapshot in which the caller was authenticated on arrival.
    pub caller: Caller,
    /// The request.
    pub asked: dialect::Request,
    /// Its headers as they came.
    pub headers: HeaderMap,
    /// When it arrived.
    pub arrived: Instant,
    /// Whether the caller still may run what answers.
    pub access: Arc<AccessWatch>,
}
