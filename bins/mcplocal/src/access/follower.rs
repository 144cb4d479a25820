//! Follows mcpd's feed for one bearer, and connects again where it breaks off.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use mcpctl_api::{
    agent::{FeedStatus, FollowState},
    feed::{FeedEnd, FeedLlm, FeedState},
};
use mcpctl_client::{FeedClient, FeedError, FeedEvent, FeedStream};
use mcpctl_failover::{AccessEnded, Bearer, FeedDecision, FeedReading, LlmId};
use tokio::{sync::watch, task::JoinHandle, time::timeout};

/// Without an event for so long, the connection is dead. mcpd sends one every 5 s.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(15);
/// Before the first and before any further attempt to connect again; doubled in between.
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const MAX_BACKOFF: Duration = Duration::from_secs(15);
/// Before an attempt where mcpd has too many feeds.
const CROWDED_BACKOFF: Duration = Duration::from_secs(60);
/// How long one connection is used. `asOf` compares two machines' clocks, which drift.
const MAX_CONNECTION_AGE: Duration = Duration::from_secs(3600);

/// What the feed has shown.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FeedView {
    /// Each Llm, in the last state.
    pub llms: Arc<BTreeMap<String, FeedLlm>>,
    /// When the credential expires.
    pub expires_at: Option<Timestamp>,
    /// Why the credential is not valid any more, where it is not.
    pub ended: Option<FeedEnd>,
    /// When the last state, or the end of the credential, arrived.
    pub changed_at: Option<Instant>,
    /// The latest moment for which mcpd has stated that the last state holds.
    pub heard_at: Option<Instant>,
    /// How often mcpd has refused the credential: a reason to probe.
    pub refusals: u64,
    /// How the connection stands.
    pub status: FeedStatus,
}

impl FeedView {
    /// What it shows of the Llm that was asked for by this name or id.
    pub fn reading(&self, asked: &str, wall: Timestamp) -> Option<FeedReading> {
        let decision = match self.ended {
            Some(FeedEnd::Revoked) => FeedDecision::Ended(AccessEnded::Revoked),
            Some(FeedEnd::Expired) => FeedDecision::Ended(AccessEnded::Expired),
            None => {
                let llm = self.llms.get(asked)?;
                match llm.id.as_ref().filter(|_| llm.allowed) {
                    Some(id) => FeedDecision::Allowed(LlmId::new(id.as_str())),
                    None => FeedDecision::Denied,
                }
            }
        };
        let left = |at: Timestamp| at.duration_since(wall).try_into().unwrap_or(Duration::ZERO);
        let (heard_at, expires_in) = (self.heard_at, self.expires_at.map(left));
        Some(FeedReading { decision, changed_at: self.changed_at?, heard_at, expires_in })
    }
}

/// Takes note of what a feed denies: these names or ids that it was asked about. The feed is not signed.
pub type OnDenial = Box<dyn Fn(BTreeSet<String>) + Send + Sync>;

/// Follows the feed of one bearer until it is dropped.
pub struct Follower {
    wanted: watch::Sender<BTreeSet<String>>,
    view: watch::Receiver<FeedView>,
    task: JoinHandle<()>,
}

impl Follower {
    /// Follows the feed about these Llms.
    pub fn start(client: FeedClient, bearer: Bearer, llms: BTreeSet<String>, on_denial: OnDenial) -> Self {
        let (wanted, wanted_now) = watch::channel(llms);
        let mut first = FeedView::default();
        first.status.becomes(FollowState::Connecting, None);
        let (shown, view) = watch::channel(first);
        let following = Following { client, bearer, wanted: wanted_now, shown, on_denial, failures: 0 };
        Self { wanted, view, task: tokio::spawn(following.run()) }
    }

    /// Follows the feed about these Llms from now on.
    pub fn want(&self, llms: BTreeSet<String>) {
        self.wanted.send_if_modified(|wanted| {
            let is_new = *wanted != llms;
            *wanted = llms;
            is_new
        });
    }

    /// What the feed shows.
    pub fn view(&self) -> watch::Receiver<FeedView> {
        self.view.clone()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Following {
    client: FeedClient,
    bearer: Bearer,
    wanted: watch::Receiver<BTreeSet<String>>,
    shown: watch::Sender<FeedView>,
    on_denial: OnDenial,
    /// Attempts without an event since the last one.
    failures: u32,
}

/// What comes after a connection.
enum Next {
    Connect,
    Wait(Duration),
}

impl Following {
    async fn run(mut self) {
        loop {
            let llms = self.wanted.borrow_and_update().clone();
            let next = match llms.is_empty() {
                true => Next::Wait(Duration::MAX),
                false => self.connect(&llms).await,
            };
            let Next::Wait(backoff) = next else { continue };
            tokio::select! {
                () = tokio::time::sleep(backoff) => {}
                changed = self.wanted.changed() => if changed.is_err() { return },
            }
        }
    }

    async fn connect(&mut self, llms: &BTreeSet<String>) -> Next {
        // Always from the beginning: a connection may have broken before it brought the last state.
        let error = match self.client.open(&self.bearer, llms).await {
            Ok(stream) => match self.read(stream, llms).await {
                Ok(()) => return Next::Connect,
                Err(error) => error,
            },
            Err(error) => error,
        };
        tracing::debug!(%error, "no feed of mcpd's: local answers are checked by probes alone");
        self.shown.send_modify(|view| {
            // A feed that ended with its credential broke off for no other reason.
            if view.ended.is_none() {
                let is_denied = error == FeedError::Denied;
                let state = if is_denied { FollowState::Denied } else { FollowState::Interrupted };
                let reason = match &error {
                    FeedError::Failed(reason) => format!("mcpd does not answer: {reason}"),
                    FeedError::Denied | FeedError::TooMany => error.to_string(),
                };
                view.status.becomes(state, Some(reason));
            }
        });
        match error {
            FeedError::TooMany => Next::Wait(jittered(CROWDED_BACKOFF)),
            FeedError::Denied => {
                self.shown.send_modify(|view| view.refusals = view.refusals.wrapping_add(1));
                Next::Wait(self.backoff())
            }
            FeedError::Failed(_) => Next::Wait(self.backoff()),
        }
    }

    /// Reads events until other Llms are wanted.
    async fn read(&mut self, mut stream: FeedStream, llms: &BTreeSet<String>) -> Result<(), FeedError> {
        let until = Instant::now() + jittered(MAX_CONNECTION_AGE);
        loop {
            let event = tokio::select! {
                event = timeout(SILENCE_TIMEOUT, stream.next()) => event,
                _ = self.wanted.changed() => return Ok(()),
            };
            let silent = |_| FeedError::Failed("it was silent for 15 s".to_owned());
            let event = event.map_err(silent)??;
            let event = event.ok_or_else(|| FeedError::Failed("it ended".to_owned()))?;
            self.failures = 0;
            self.take(event, stream.asked_at, llms);
            if Instant::now() >= until {
                return Ok(());
            }
        }
    }

    fn take(&mut self, event: FeedEvent, asked_at: Instant, llms: &BTreeSet<String>) {
        let now = Instant::now();
        // An event that was delayed on its way holds for the moment when it was sent.
        let heard_at = |as_of: u64| asked_at.checked_add(Duration::from_millis(as_of)).map(|at| at.min(now));
        match event {
            FeedEvent::State(FeedState { as_of, expires_at, llms: shown, .. }) => {
                let denied: BTreeSet<String> =
                    shown.iter().filter(|(_, llm)| !llm.allowed).map(|(asked, _)| asked.clone()).collect();
                if !denied.is_empty() {
                    (self.on_denial)(denied);
                }
                self.shown.send_modify(|view| {
                    view.llms = Arc::new(shown);
                    view.expires_at = Some(expires_at);
                    view.ended = None;
                    view.changed_at = Some(now);
                    view.heard_at = view.heard_at.max(heard_at(as_of));
                    view.status.becomes(FollowState::Following, None);
                });
            }
            FeedEvent::Heartbeat(heartbeat) => {
                self.shown.send_modify(|view| {
                    view.heard_at = view.heard_at.max(heard_at(heartbeat.as_of));
                    view.status.becomes(FollowState::Following, None);
                });
            }
            FeedEvent::Ended(ended) => {
                (self.on_denial)(llms.clone());
                self.shown.send_modify(|view| {
                    view.ended = Some(ended.reason);
                    let reason = match ended.reason {
                        FeedEnd::Revoked => "the credential was revoked",
                        FeedEnd::Expired => "the credential has expired",
                    };
                    view.status.becomes(FollowState::Denied, Some(reason.to_owned()));
                    view.changed_at = Some(now);
                });
            }
        }
    }

    fn backoff(&mut self) -> Duration {
        let factor = 2_u32.saturating_pow(self.failures.min(8));
        self.failures = self.failures.saturating_add(1);
        jittered(FIRST_BACKOFF.saturating_mul(factor).min(MAX_BACKOFF))
    }
}

/// A fifth more or less, so that agents that lost mcpd at the same moment do not return at the same moment.
pub fn jittered(duration: Duration) -> Duration {
    let percent = 80 + RandomState::new().hash_one(()) % 41;
    duration.saturating_mul(u32::try_from(percent).unwrap_or(100)) / 100
}
