//! Whether a server can serve.

use http::Method;

use super::Client;
use crate::ClientError;

/// What a server is asked about its health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthQuestion {
    /// Does the process answer?
    Live,
    /// Can it decide and record, and does it accept requests?
    Ready,
}

impl Client {
    /// Asks a server about its health.
    ///
    /// # Errors
    /// When the answer is not yes.
    pub async fn health(&self, question: HealthQuestion) -> Result<(), ClientError> {
        let path = match question {
            HealthQuestion::Live => "healthz",
            HealthQuestion::Ready => "readyz",
        };
        self.send(self.request(Method::GET, &[path])?).await.map(drop)
    }
}
