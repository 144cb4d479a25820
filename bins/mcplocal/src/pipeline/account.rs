//! What a request that fell back leaves behind: a log line, counts, and entries of the journal.

use std::sync::Arc;

use jiff::Timestamp;
use mcpctl_access::FailoverReason;
use mcpctl_api::visible::short;
use mcpctl_dialect::{Operation, usage::Usage};
use mcpctl_engine::EngineGuard;
use mcpctl_failover::{AccessEnded, FailoverRule, FailureClass, LlmId, LlmRef, Routed};
use mcpctl_relay::{CuttableBody, Exchange, StreamEnd, StreamOutcome, body::TimeoutKeys};
use mcpctl_telemetry::Configured;
use mcpctl_upstream::{Answer, Failure};

use super::{Content, ContentBody};
use crate::{
    access::AccessWatch,
    app::App,
    identity::Caller,
    journal::{
        CallerKind, FailoverOutcome, JournalEntry, JournalError, MAX_REASON, Served, TokenCount, caller_name,
    },
    meter::AnswerMeter,
};

/// A request whose entry is in the journal, and which a local provider has not responded to yet. Dropped before that, the
/// caller has left, and the journal gets the end `cancelled`.
pub(super) struct Recorded {
    app: Arc<App>,
    served: Option<Served>,
    access: Option<Arc<AccessWatch>>,
}

impl Recorded {
    /// Writes the entry to the journal, and waits until it is on the disk, before the prompt goes to the local provider.
    ///
    /// # Errors
    /// When the journal cannot be written; then nothing may run locally.
    pub(super) async fn before(
        app: &Arc<App>,
        entry: JournalEntry,
        access: Option<&Arc<AccessWatch>>,
    ) -> Result<Self, JournalError> {
        let served = entry.served().cloned();
        app.commit(entry).await?;
        Ok(Self { app: Arc::clone(app), served, access: access.cloned() })
    }

    /// The provider responded or failed; [`accounted`], [`failover`] or [`ended_without_answer`] records the end.
    pub(super) fn responded(mut self) -> Option<Served> {
        self.served.take()
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        if let Some(served) = self.served.take() {
            record_end(&self.app, served, cancelled(self.access.as_deref()), None, None);
        }
    }
}

/// Records the end of a request that got no answer.
pub(super) fn ended_without_answer(app: &App, served: Served, class: FailureClass) {
    record_end(app, served, class.as_str(), None, None);
}

fn record_end(app: &App, served: Served, outcome: &str, model: Option<String>, usage: Option<Usage>) {
    // Where it cannot be written, the log has that, and the entry that it belongs to stays.
    let _ = app.record(JournalEntry::Ended {
        at: Timestamp::now(),
        served,
        outcome: outcome.to_owned(),
        model,
        tokens: usage
            .map(|usage| TokenCount { input_tokens: usage.input_tokens, output_tokens: usage.output_tokens }),
        cost: 0,
    });
}

/// What the journal has of a caller's request, for an Llm or without one.
pub(super) fn served(caller: &Caller, llm: Option<(&LlmRef, Option<&LlmId>)>, provider: &str) -> Served {
    Served {
        request: mcpctl_server::request_id(),
        who: caller_name(caller.user.as_deref(), &caller.bearer),
        caller: if caller.local { CallerKind::User } else { CallerKind::Bearer },
        llm: llm.map(|(llm, _)| llm.name.clone()),
        llm_id: llm.and_then(|(_, id)| Some(id?.as_str().to_owned())),
        provider: provider.to_owned(),
    }
}

/// The outcome of a request that was cancelled: by the end of access, or by the caller.
fn cancelled(access: Option<&AccessWatch>) -> &'static str {
    let ended = access.and_then(AccessWatch::has_ended);
    ended.map_or(FailureClass::Cancelled.as_str(), AccessEnded::code)
}

/// Adds to the access log which Llm or local provider a request names, whether or not there is one.
pub(super) fn named(operation: Operation, model: &str) {
    mcpctl_server::access_line(|line| {
        line.operation = Some(operation.genai_name());
        line.llm = Some(model.to_owned());
    });
}

/// Adds to the access log how a stream ended and what the model counted.
pub(super) fn ended(end: &StreamEnd) {
    mcpctl_server::access_line(|line| {
        line.usage = end.usage.or(line.usage);
        line.class = match end.outcome {
            StreamOutcome::Completed => None,
            StreamOutcome::Broken(class) => Some(class.as_str().into()),
            StreamOutcome::Cancelled => Some(FailureClass::Cancelled.as_str().into()),
        };
    });
}

/// What accounts for a local provider's answer: its end goes to the journal and the meter, each piece to the meter. The engine's
/// guard is held, and access is watched, until the end.
pub(super) fn accounts(
    app: &Arc<App>,
    served: Option<Served>,
    guard: Option<EngineGuard>,
    meter: AnswerMeter,
    access: Option<Arc<AccessWatch>>,
) -> (impl FnOnce(StreamEnd) + Send + use<>, impl FnMut() + Send + use<>) {
    mcpctl_server::access_line(|line| line.local = true);
    let (app, meter) = (Arc::clone(app), Arc::new(meter));
    let pieces = Arc::clone(&meter);
    let on_end = move |end: StreamEnd| {
        let outcome = match end.outcome {
            StreamOutcome::Completed => "ok",
            StreamOutcome::Broken(class) => class.as_str(),
            StreamOutcome::Cancelled => cancelled(access.as_deref()),
        };
        match end.outcome {
            StreamOutcome::Broken(_) => guard.into_iter().for_each(EngineGuard::release_suspect),
            StreamOutcome::Completed | StreamOutcome::Cancelled => drop(guard),
        }
        ended(&end);
        mcpctl_server::access_line(|line| {
            line.cost = Some(0.0);
            if end.outcome == StreamOutcome::Cancelled {
                line.class = Some(outcome.into());
            }
        });
        if end.outcome == StreamOutcome::Completed {
            meter.ended(end.usage.unwrap_or_default().output_tokens);
        }
        if let Some(served) = served {
            record_end(&app, served, outcome, end.model, end.usage);
        }
    };
    (on_end, move || pieces.piece())
}

/// A local provider's answer, accounted for.
pub(super) fn accounted(
    app: &Arc<App>,
    answer: Answer,
    served: Option<Served>,
    guard: Option<EngineGuard>,
    meter: AnswerMeter,
    access: Option<Arc<AccessWatch>>,
    exchange: &Exchange,
) -> Content {
    let (on_end, on_piece) = accounts(app, served, guard, meter, access);
    match answer {
        Answer::Whole(whole) => {
            on_end(StreamEnd { outcome: StreamOutcome::Completed, usage: whole.usage, model: whole.model });
            Content { status: whole.status, headers: whole.headers, body: ContentBody::Whole(whole.body) }
        }
        Answer::Stream(stream) => {
            let (status, headers) = (stream.status, stream.headers.clone());
            let body = exchange.stream(stream, on_end).timed_by(TimeoutKeys::Fixed).on_content(on_piece);
            Content { status, headers, body: ContentBody::Stream(CuttableBody::new(body)) }
        }
    }
}

/// Logs and counts a failover, and writes its entry to the journal where none is there yet. A no-op for requests that did not
/// have to fall back. A request whose Llm has no provider is only logged: the journal records decisions, and there was none.
pub(super) fn failover<T>(app: &App, llm: &LlmRef, caller: &Caller, routed: &Routed<T, Failure>) {
    let Routed { result, trail } = routed;
    let Some(provider) = &trail.provider else {
        if let Some(class) = trail.class().filter(|class| result.is_err() && class.may_fail_over(&[])) {
            let (llm, class) = (&llm.name, class.as_str());
            tracing::info!(llm, class, "no failover: no local provider has this Llm in `failoverFor`");
        }
        return;
    };
    let served_by = served(caller, Some((llm, trail.llm_id.as_ref())), provider);
    let who = &served_by.who;
    for access in &trail.probes {
        app.metrics.probe(access.as_str());
    }
    let served = result.as_ref().is_ok_and(|served| served.failover);
    let access = trail.probes.iter().map(|access| access.as_str()).collect::<Vec<_>>();
    // The metric distinguishes forbidden from unreachable.
    let (outcome, counted) = match (served, &trail.local_error) {
        (true, _) => (FailoverOutcome::Served, "served"),
        (false, Some(_)) => (FailoverOutcome::Failed, "failed"),
        (false, None) => (FailoverOutcome::Refused, access.last().copied().unwrap_or("refused")),
    };
    let class = trail.class().map(FailureClass::as_str);
    let local_error = trail.local_error.as_ref().map(ToString::to_string);
    let denied_by = trail.denied_by.map(|rule| match rule {
        FailoverRule::Off => FailoverReason::FailoverOff.describe(&llm.name),
        FailoverRule::RunRequired => FailoverReason::RunRequired.describe(&llm.name),
    });
    let reason = local_error.or_else(|| trail.probe_error.clone()).or(denied_by);
    let reason = reason.map(|reason| short(&reason, MAX_REASON));
    app.failovers.count(outcome);
    app.metrics.failover(Configured::resolved(&llm.name), class.unwrap_or("connect"), counted);
    let primary = match (result, trail.primary_called) {
        (_, false) => "skipped",
        (Ok(served), true) if !served.failover => "answered",
        _ => "failed",
    };
    tracing::warn!(
        llm = llm.name,
        llm_id = trail.llm_id.as_ref().map(LlmId::as_str),
        provider,
        who,
        primary,
        class,
        ?access,
        outcome = outcome.as_str(),
        reason,
        "failover to a local provider"
    );
    // The entry of a served request was written before the prompt went out.
    if !served {
        // Nothing ran, so the response does not depend on the entry; the log has it where it cannot be written.
        let _ = app.record(JournalEntry::Failover {
            at: Timestamp::now(),
            served: served_by,
            class: class.map(str::to_owned),
            access: access.into_iter().map(str::to_owned).collect(),
            outcome,
            reason,
            proof: trail.token.as_deref().map(str::to_owned),
        });
    }
}
