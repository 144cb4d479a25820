//! The life of a request to a model at the agent, from top to bottom: the primary, and the local provider that it falls back
//! to. What comes of it is an [`Outcome`]; `http/render.rs` turns that into a response.

mod access;
mod account;
mod llm_id;
mod local;
mod outcome;
mod primary;
mod resumption;

use std::sync::Arc;

use bytes::Bytes;
use mcpctl_api::error::ACCESS_REVOKED;
use mcpctl_dialect::{Form, Operation, Request};
use mcpctl_failover::{
    Access, FailoverRequest, FailureClass, LlmRef, LocalCause, LocalError, Routed, Served, Trail,
};
use reqwest::header::HeaderMap;
use secrecy::SecretString;
use tokio::sync::watch;

use crate::{
    app::{App, Runtime},
    capabilities::Needs,
    identity::Caller,
    journal,
    prewarm::PrewarmTrigger,
    providers::LocalProvider,
};

pub use local::{LocalWait, own_provider};
pub use outcome::{CallError, Content, ContentBody, Fallback, NoFailover, Outcome};

/// Prefix of a local provider's name: the request goes to that provider, without mcpd.
pub const OWN: &str = "local/";

/// Most bytes of the model that a request may name: no Llm or provider has a longer name.
pub const MAX_MODEL: usize = 256;

/// A request to a model as it arrived.
pub struct InferenceCall {
    /// Which operation.
    pub operation: Operation,
    /// The Llm, where the path names it.
    pub llm: Option<String>,
    /// The headers as they came.
    pub headers: HeaderMap,
    /// The body as it came.
    pub body: Bytes,
}

/// A request to a model, read and checked, with the configuration that it began with.
pub struct ModelRequest {
    app: Arc<App>,
    runtime: Arc<Runtime>,
    caller: Caller,
    /// The central Llm, or [`OWN`] and a local provider.
    llm: LlmRef,
    request: Request,
    headers: HeaderMap,
    /// The local provider that the request waits for.
    wait: watch::Sender<Option<LocalWait>>,
    /// Cuts the stream of the response, once it has begun.
    cutter: access::StreamCutter,
}

impl ModelRequest {
    /// Reads and checks a call.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(
        app: &Arc<App>,
        runtime: Arc<Runtime>,
        caller: Caller,
        call: InferenceCall,
    ) -> Result<Self, CallError> {
        let InferenceCall { operation, llm, headers, body } = call;
        let mut request = Request::read(operation, body)?;
        // An Llm that the path names goes into the body, so that one route of mcpd serves both.
        if llm.is_some() {
            request.model = llm;
        }
        let model = request.require_model()?;
        if model.len() > MAX_MODEL {
            // Before it is copied, repeated or looked up.
            return Err(CallError::ModelTooLong { bytes: model.len() });
        }
        account::named(operation, model);
        Ok(Self {
            app: Arc::clone(app),
            runtime,
            caller,
            llm: LlmRef::named(model),
            request,
            headers,
            wait: watch::Sender::new(None),
            cutter: access::StreamCutter::default(),
        })
    }

    /// The request with a copy of its body that is kept as long as its stream, so that the memory for requests is released; `None`
    /// where the memory for streams is used up.
    fn for_stream(&self) -> Option<Self> {
        let Self { app, runtime, caller, llm, request, headers, wait, cutter } = self;
        let owner = journal::caller_name(caller.user.as_deref(), &caller.bearer);
        Some(Self {
            app: Arc::clone(app),
            runtime: Arc::clone(runtime),
            caller: caller.clone(),
            llm: llm.clone(),
            request: request.in_copy(|body| app.bodies.keep(body, &owner))?,
            headers: headers.clone(),
            wait: wait.clone(),
            cutter: Arc::clone(cutter),
        })
    }

    /// Whether the caller expects a stream of events.
    pub fn streams(&self) -> bool {
        self.request.stream
    }

    /// The local provider that the request waits for, once it waits for one.
    pub fn wait(&self) -> watch::Receiver<Option<LocalWait>> {
        self.wait.subscribe()
    }

    /// What the router has to know of it.
    fn failover(&self) -> FailoverRequest<impl Fn() -> Form + Sync> {
        FailoverRequest {
            llm: self.llm.clone(),
            bearer: self.caller.bearer.clone(),
            signed_in: self.caller.local,
            form: || self.request.form(),
        }
    }

    /// What it needs of a local model. Reads the messages, so only a request that a local provider may answer asks for it.
    fn needs(&self) -> Needs {
        Needs::of(&self.request)
    }

    /// The first key by which the provider's server might choose the model by itself, and that `allowFields` does not list.
    fn field_not_allowed(&self, provider: &LocalProvider) -> Option<&str> {
        let allowed = &provider.config.allow_fields;
        self.request.routing_keys.iter().find(|key| !allowed.contains(key)).map(String::as_str)
    }
}

/// Forwards a request to mcpd, and falls back to a local provider as far as mcpd allows.
pub async fn run(mut request: ModelRequest) -> Outcome {
    // First, because the user's own providers are no matter of mcpd's.
    if let Some(provider) = request.llm.asked.strip_prefix(OWN) {
        return local::run_own(&request, provider).await;
    }
    // Before the breaker and the provider are chosen, which go by the Llm's name.
    request.llm = llm_id::resolve(&request.runtime, &request.caller, request.llm).await;
    let request = Arc::new(request);
    let ModelRequest { app, runtime, caller, llm, .. } = &*request;
    let trigger = PrewarmTrigger::new(&app.metrics, &runtime.router, &runtime.registry, llm, caller);
    let target = runtime.primaries.of(&llm.name, SecretString::from(caller.bearer.expose()));
    let failover = request.failover();

    // The order is the router's: the primary before the probe, unless its breaker is open; the probe before the local provider
    // is prepared; the journal's entry before the prompt goes there (`local::FailoverAttempt`).
    let upstream_request =
        &mcpctl_upstream::Request::untouched(&request.request, &target, false, &request.headers);
    let (client, target, trigger) = (&app.client, &target, &trigger);
    let silence = &runtime.silence;
    let primary =
        move || primary::attempt(client, target, upstream_request, &llm.name, trigger.as_ref(), silence);
    let local = local::FailoverAttempt { request: &request, llm };
    let routed = runtime.router.run(&runtime.registry, &failover, primary, &local).await;

    // Before the first byte goes out, so that no answer is without its record.
    account::failover(app, llm, caller, &routed);

    let Routed { result, mut trail } = routed;
    let class = trail.class().unwrap_or(FailureClass::Connect);
    match result {
        Ok(Served { value, via: None, .. }) => Outcome::Primary(resumable(value, &request)),
        Ok(Served { value, via: Some(provider), .. }) => {
            let failover = Some(Fallback { class, primary_called: trail.primary_called });
            Outcome::Local { provider, failover, content: value }
        }
        Err(failure) => match (trail.local_error.take(), trail.provider.take()) {
            // A full queue has a response of its own, because only it gives the caller a time to retry.
            // What was revoked while it ran is denied, and what the primary's failure was is not the matter any more.
            (Some(error), Some(provider))
                if matches!(
                    error.cause,
                    LocalCause::Busy { .. } | LocalCause::AccessEnded(ACCESS_REVOKED)
                ) =>
            {
                Outcome::LocalFailed { provider, error }
            }
            // INVARIANT 3: in every other case the primary's own error.
            (local_error, _) => {
                let no_failover = no_failover(&request, failure.class, &trail, local_error);
                Outcome::PrimaryFailed { failure, no_failover }
            }
        },
    }
}

/// Why no local provider answered, as far as the caller may know it.
fn no_failover(
    request: &ModelRequest,
    class: FailureClass,
    trail: &Trail,
    local_error: Option<LocalError>,
) -> Option<NoFailover> {
    let ModelRequest { runtime, caller, llm, .. } = request;
    let has_provider = runtime.registry.failover_for(&llm.name).is_some();
    match (local_error, trail.denied_by) {
        (Some(error), _) => Some(NoFailover::Local(error)),
        (None, Some(rule)) => Some(NoFailover::Rule(rule)),
        // The other two depend on this machine's configuration, which only its user may know, and not on what mcpd decides about
        // the caller.
        _ if !caller.local => None,
        _ if !has_provider => class.may_fail_over(&[]).then_some(NoFailover::NoProvider),
        _ => (trail.probes.last() == Some(&Access::Unreachable)).then_some(NoFailover::Unreachable),
    }
}

/// The primary's answer; should its stream break, the local provider goes on with it as far as `midStream` and mcpd allow.
fn resumable(content: Content, request: &Arc<ModelRequest>) -> Content {
    let body = match content.body {
        ContentBody::Stream(body) => {
            let body = body.recovered_by(resumption::recovery(request));
            // A local provider may go on with it.
            let _ = request.cutter.set(body.cutter());
            ContentBody::Stream(body)
        }
        whole @ ContentBody::Whole(_) => whole,
    };
    Content { body, ..content }
}
