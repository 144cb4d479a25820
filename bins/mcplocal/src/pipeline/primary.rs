//! One request to the primary: the attempt, a second one after a failed connection, and beside both the prewarm trigger and the
//! questions to an mcpd that is silent.

use mcpctl_dialect::Operation;
use mcpctl_failover::FailureClass;
use mcpctl_relay::{
    CuttableBody, StreamEnd, StreamOutcome,
    body::{StreamBody, TimeoutKeys},
};
use mcpctl_upstream::{Answer, Client, Failure, Progress, Request, Target, send};

use super::{Content, ContentBody, account};
use crate::{prewarm::PrewarmTrigger, silence::SilenceCheck};

/// The primary is slow when it has not answered within its timeout divided by this. The local provider has the rest of the
/// time to become ready.
const SLOW_DIVISOR: u32 = 4;

/// Attempts the primary.
///
/// # Errors
/// The primary's failure.
pub(super) async fn attempt(
    client: &Client,
    target: &Target,
    request: &Request,
    llm: &str,
    trigger: Option<&PrewarmTrigger>,
    silence: &SilenceCheck,
) -> Result<Content, Failure> {
    let prewarm = |reason| trigger.iter().for_each(|trigger| trigger.fire(reason));
    let attempts = async {
        match send(client, target, request).await {
            // Only without a status: with one, mcpd reports that its own provider could not be connected to, after retries.
            Err(failure) if failure.class == FailureClass::Connect && failure.status.is_none() => {
                // A stale connection is no sign that mcpd fails.
                if !failure.is_stale_connection() {
                    prewarm("the first connection failed");
                }
                send(client, target, request).await
            }
            result => result,
        }
    };
    let progress = Progress::default();
    let attempts = async {
        tokio::select! {
            result = progress.watch(attempts) => result,
            // A slow mcpd answers its health check and is waited for.
            gone = silence.until_gone(&progress) => {
                client.drop_idle(target);
                Err(gone)
            }
        }
    };
    tokio::pin!(attempts);
    let timeout = if request.stream { target.timeouts.response } else { target.timeouts.answer };
    let result = tokio::select! {
        result = &mut attempts => result,
        () = tokio::time::sleep(timeout / SLOW_DIVISOR), if trigger.is_some() => {
            prewarm("it is slow to answer");
            attempts.await
        }
    };
    let result = result.map(|answer| content(answer, request.operation, trigger.cloned()));
    result.inspect_err(|failure| tracing::warn!(llm, error = %failure, "the primary failed"))
}

/// The answer as it came. A stream that breaks cannot fail over any more, but the next request may have to.
fn content(answer: Answer, operation: Operation, trigger: Option<PrewarmTrigger>) -> Content {
    match answer {
        Answer::Whole(whole) => {
            let (outcome, usage) = (StreamOutcome::Completed, whole.usage);
            account::ended(&StreamEnd { outcome, usage, model: None });
            Content { status: whole.status, headers: whole.headers, body: ContentBody::Whole(whole.body) }
        }
        Answer::Stream(stream) => {
            let (status, headers) = (stream.status, stream.headers.clone());
            let body = StreamBody::new(stream, false, move |end| {
                account::ended(&end);
                if let (StreamOutcome::Broken(_), Some(trigger)) = (end.outcome, trigger) {
                    trigger.fire("its stream broke");
                }
            });
            let body = body.for_caller(operation).timed_by(TimeoutKeys::Primary);
            Content { status, headers, body: ContentBody::Stream(CuttableBody::new(body)) }
        }
    }
}
