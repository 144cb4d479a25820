//! What every request works with. What the configuration decides is one value, swapped whole when the file changes.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use mcpctl_client::{Guard, Probe, TrustedUsers};
use mcpctl_engine::{Engine, EngineHost};
use mcpctl_failover::{AccessProbe, BreakerPolicy, FailoverRouter, ProviderRegistry};
use mcpctl_server::{Address, RequestBodies};
use mcpctl_telemetry::McplocalMetrics;
use mcpctl_upstream::{self as upstream, AttemptTimeouts, UpstreamKind};
use reqwest::redirect::Policy;
use tokio::sync::watch;
use url::Url;

use crate::{
    breakers::Breakers,
    config::{BreakerConfig, Config},
    identity::Identity,
    journal::{Journal, JournalEntry, JournalError},
    llm_names::LlmNameCache,
    providers::{self, LocalProvider},
};

/// Shared by all requests.
pub struct App {
    /// What the configuration decides.
    pub runtime: ArcSwap<Runtime>,
    /// Who calls.
    pub identity: Identity,
    /// Connections to mcpd and to local providers, for inference.
    pub client: upstream::Client,
    /// Connections to local providers, for what they say of themselves.
    pub http: reqwest::Client,
    /// What was done in the centre's place.
    pub journal: Journal,
    /// Which names in `failoverFor` no Llm has.
    pub llm_names: LlmNameCache,
    /// Counts.
    pub metrics: McplocalMetrics,
    /// How engines are started.
    pub host: EngineHost,
    /// Reads the bodies of requests.
    pub bodies: RequestBodies,
    /// Where the agent listens, with the port that it got.
    pub listen: Address,
    /// Since when the agent runs.
    pub started_at: Timestamp,
    /// Told when the agent is to end: what would go on for ever ends then.
    pub drain: watch::Sender<bool>,
    last: Mutex<Option<JournalEntry>>,
    /// Engines of earlier configurations, on which requests may still run.
    retired: Mutex<Vec<Engine>>,
}

/// What the configuration decides.
pub struct Runtime {
    /// The configuration itself.
    pub config: Config,
    /// Local providers, and what they stand in for.
    pub registry: Arc<ProviderRegistry<LocalProvider>>,
    /// Asks the centre.
    pub probe: Probe,
    /// Whether the centre is skipped.
    pub breakers: Arc<Breakers>,
}

impl Runtime {
    /// Builds what a configuration decides; engines of `before` that it does not change go on.
    ///
    /// # Errors
    /// When the probe cannot be set up.
    pub fn new(
        config: Config,
        host: &EngineHost,
        http: &reqwest::Client,
        before: Option<&Self>,
    ) -> anyhow::Result<Self> {
        let probe = Probe::trusting(config.server.clone(), config.trusted)?;
        // After everything that can fail, because it begins what begins with the agent.
        let registry = providers::registry(&config, host, http, before.map(|runtime| &*runtime.registry));
        let BreakerConfig { failures, open } = config.primary.breaker;
        let policy = BreakerPolicy { failures, open: open.0 };
        // What was learned of the centre stays, unless it is another one or the rules changed by which it was learned.
        let same = |before: &&Self| {
            before.breakers.policy() == policy && before.config.inference == config.inference
        };
        let kept = before.filter(same).map(|before| &before.breakers);
        let breakers = kept.map_or_else(|| Arc::new(Breakers::new(policy)), Arc::clone);
        Ok(Self { config, registry, probe, breakers })
    }

    /// Lets providers stand in, for one request, which asks the centre in its own way.
    pub fn router<A: AccessProbe + Sync>(&self, probe: A) -> FailoverRouter<A> {
        FailoverRouter::new(probe).also_on(self.config.failover.on.iter().copied())
    }

    /// Where requests to the centre go.
    pub fn primary(&self, bearer: secrecy::SecretString) -> upstream::Target {
        let timeouts = self.config.primary.timeouts;
        upstream::Target {
            base_url: with_v1(&self.config.inference),
            socket: None,
            model: None,
            credential: Some(bearer),
            timeouts: AttemptTimeouts {
                connect: timeouts.connect.0,
                response: timeouts.response.0,
                answer: timeouts.answer.0,
                first_token: timeouts.first_token().0,
                idle: timeouts.idle.0,
            },
            kind: UpstreamKind::Mcpd,
        }
    }
}

/// `mcpd` has its inference routes below `/v1`, whatever path it is mounted at.
fn with_v1(url: &Url) -> Url {
    let mut base = url.clone();
    if let Ok(mut segments) = base.path_segments_mut() {
        segments.pop_if_empty().push("v1");
    }
    base
}

/// A prompt and its bearer go to a program of these users only, where the centre is reached over plain HTTP.
fn guard_mcpd(client: &upstream::Client, trusted: TrustedUsers) {
    client.prepare_plain_mcpd(Box::new(move |builder| builder.connector_layer(Guard::new(trusted))));
}

impl App {
    /// Everything but what the configuration decides is made here once.
    ///
    /// # Errors
    /// When the probe cannot be set up.
    pub fn new(
        config: Config,
        listen: Address,
        host: EngineHost,
        identity: Identity,
        journal: Journal,
    ) -> anyhow::Result<Self> {
        // Questions are few, and one on a connection that the server has closed meanwhile would fail.
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            .pool_max_idle_per_host(0)
            .build()?;
        let client = upstream::Client::new(upstream::ClientConfig::default());
        guard_mcpd(&client, config.trusted);
        let bodies = RequestBodies::new(&config.limits.http);
        Ok(Self {
            bodies,
            client,
            runtime: ArcSwap::from_pointee(Runtime::new(config, &host, &http, None)?),
            http,
            identity,
            journal,
            llm_names: LlmNameCache::default(),
            metrics: McplocalMetrics::new(),
            host,
            listen,
            started_at: Timestamp::now(),
            drain: watch::Sender::new(false),
            last: Mutex::default(),
            retired: Mutex::default(),
        })
    }

    /// Takes another configuration; requests that run go on with the one they began with, and those that wait for an
    /// engine that it changes get the new one.
    ///
    /// # Errors
    /// When the probe cannot be set up; the old configuration stays.
    pub fn reload(&self, config: Config) -> anyhow::Result<()> {
        let before = self.runtime.load_full();
        let trusted = config.trusted;
        let after = Arc::new(Runtime::new(config, &self.host, &self.http, Some(&before))?);
        if trusted != before.config.trusted {
            guard_mcpd(&self.client, trusted);
        }
        self.runtime.store(Arc::clone(&after));
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        retired.retain(|engine| !engine.is_shut_down());
        for engine in providers::dropped(&before.registry, &after.registry) {
            retired.push(engine.clone());
            tokio::spawn(async move { engine.retire().await });
        }
        Ok(())
    }

    /// Puts an entry on record.
    ///
    /// # Errors
    /// When the journal cannot be written; then nothing local may run.
    pub fn record(&self, entry: JournalEntry) -> Result<(), JournalError> {
        let entry = entry.bounded();
        let recorded = self.journal.record(&entry).inspect_err(|error| {
            let hint = "make room, or restart mcplocal to begin a new journal";
            tracing::error!(%error, hint, "the journal cannot be written, so nothing runs locally");
        });
        // What was to be served and is not on record was not served.
        if matches!(entry, JournalEntry::Failover { .. }) && (recorded.is_ok() || entry.nothing_ran()) {
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(entry);
        }
        recorded
    }

    /// The last failover, for the status.
    pub fn last_failover(&self) -> Option<JournalEntry> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stops every engine and waits until none is left. Nothing may reload any more.
    pub async fn stop_engines(&self) {
        let retired = std::mem::take(&mut *self.retired.lock().unwrap_or_else(PoisonError::into_inner));
        let runtime = self.runtime.load_full();
        let engines = runtime.registry.providers().filter_map(|(_, running)| running.engine.clone());
        let stops = engines.chain(retired).map(|engine| async move { engine.shutdown().await });
        futures::future::join_all(stops).await;
    }

    /// How long running requests may take to end once the agent is asked to.
    pub const DRAIN: Duration = Duration::from_secs(30);
}
