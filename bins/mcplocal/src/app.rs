//! The state that all requests share. What depends on the configuration is one value, replaced whole when the file changes.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use futures::FutureExt as _;
use jiff::Timestamp;
use mcpctl_api::{Id, agent::IgnoredConfig};
use mcpctl_client::{Client, ClientOptions, FeedClient, Guard, HealthCheck, Probe, Trust};
use mcpctl_dialect::Form;
use mcpctl_engine::{Engine, EngineHost};
use mcpctl_failover::{Breakers, FailoverPolicy, FailoverRouter, LeaseBook, ProviderRegistry};
use mcpctl_server::{Address, RequestBodies};
use mcpctl_telemetry::McplocalMetrics;
use mcpctl_upstream as upstream;
use reqwest::redirect::Policy;
use tokio::sync::watch;

use crate::{
    access::AccessWatches,
    config::Config,
    failover_counters::FailoverCounters,
    identity::Identity,
    journal::{Journal, JournalEntry, JournalError},
    llm_names::LlmNameCache,
    primary_targets::PrimaryTargets,
    probing::{Probing, id_questions::IdQuestions, proof_keys::KeyRing},
    providers::{self, LocalProvider},
    silence::SilenceCheck,
};

/// Shared by all requests.
pub struct App {
    /// What depends on the configuration.
    pub runtime: ArcSwap<Runtime>,
    /// Why the present configuration file is not in force.
    pub ignored_config: ArcSwapOption<IgnoredConfig>,
    /// Who calls.
    pub identity: Identity,
    /// Names this agent to mcpd.
    pub agent_id: Id,
    /// Connections to mcpd and to local providers, for inference.
    pub client: upstream::Client,
    /// Connections to local providers, to ask about their models.
    pub http: reqwest::Client,
    /// The record of what ran locally.
    pub journal: Journal,
    /// Who probes, and by which keys answers count.
    pub probing: Probing,
    /// Names in `failoverFor` that no Llm has.
    pub llm_names: LlmNameCache,
    /// Counts.
    pub metrics: Arc<McplocalMetrics>,
    /// What became of the requests that fell back.
    pub failovers: FailoverCounters,
    /// How engines are started.
    pub host: EngineHost,
    /// Reads the bodies of requests.
    pub bodies: RequestBodies,
    /// Where the agent listens, with the port that it got.
    pub listen: Address,
    /// When the agent was started.
    pub started_at: Timestamp,
    /// True from the shutdown on; ends responses that have no end of their own.
    pub drain: watch::Sender<bool>,
    last: Mutex<Option<JournalEntry>>,
    /// Engines of earlier configurations, on which requests may still run.
    retired: Mutex<Vec<Engine>>,
}

/// What depends on the configuration.
pub struct Runtime {
    /// The configuration itself.
    pub config: Config,
    /// Local providers, and the Llms that fall back to them.
    pub registry: Arc<ProviderRegistry<LocalProvider>>,
    /// Decides between the primary and a local provider; holds the probe and the primary's breakers.
    pub router: Arc<FailoverRouter<Probe, Form>>,
    /// The keys by which mcpd's answers are verified.
    pub keys: Arc<KeyRing>,
    /// Bounds the probes that look for an Llm by its id.
    pub id_questions: IdQuestions,
    /// What mcpd signed for the time in which it cannot be asked.
    pub leases: Arc<LeaseBook>,
    /// Ends local requests whose caller loses access.
    pub access: Arc<AccessWatches>,
    /// Questions mcpd where it is silent.
    pub silence: SilenceCheck,
    /// Where requests to mcpd go.
    pub primaries: PrimaryTargets,
    /// Lists mcpd's models; each request adds its caller's bearer ([`Client::with_bearer`]).
    pub models: Client,
}

impl Runtime {
    /// Builds what a configuration decides. Engines and breakers of `before` that it does not change are kept.
    ///
    /// # Errors
    /// When the probe or the client of mcpd cannot be set up.
    pub fn new(
        config: Config,
        host: &EngineHost,
        http: &reqwest::Client,
        probing: &Probing,
        before: Option<&Self>,
    ) -> anyhow::Result<Self> {
        let keys = probing.keys(&config, before.map(|before| &*before.keys));
        let probe = probing.probe(&config, &keys)?;
        let health = HealthCheck::trusting(config.inference.clone(), &config.trust)?;
        let options = ClientOptions { trust: config.trust.clone(), ..ClientOptions::default() };
        let models = Client::new(config.inference.clone(), None, &options)?;
        let primaries = PrimaryTargets::new(&config);
        // After everything that can fail, because it starts engines.
        let registry = providers::registry(&config, host, http, before.map(|runtime| &*runtime.registry));
        let policy = config.primary.breaker;
        // The breakers stay, unless the primary's address changed; each request brings the policy of its Llm.
        let kept = before
            .filter(|before| before.config.inference == config.inference)
            .map(|before| before.router.breakers());
        let breakers = kept.map_or_else(|| Arc::new(Breakers::new(policy)), Arc::clone);
        // Ids are of one mcpd.
        let ids = before
            .filter(|before| before.config.server == config.server)
            .map_or_else(Arc::default, |before| Arc::clone(before.router.ids()));
        // Leases, feeds and what hangs from them are of one mcpd that signs with one set of keys. A request that began under
        // another one keeps the leases of that one, which go with it.
        let kept = before.filter(|before| before.has_authority_of(&config));
        let leases = kept.map_or_else(|| probing.leases(), |before| Arc::clone(&before.leases));
        let router = FailoverRouter::new(probe).with_breakers(breakers).with_ids(ids);
        let mut router = router.with_leases(Arc::clone(&leases));
        for provider in &config.providers {
            for llm in &provider.failover_for {
                let (breaker, also_on) = (provider.primary.breaker, provider.failover.on.clone());
                router = router.with_policy(llm.as_str(), FailoverPolicy { breaker, also_on });
            }
        }
        let router = Arc::new(router);
        let access = match kept {
            Some(before) => {
                before.access.ask_through(Arc::clone(&router) as _);
                Arc::clone(&before.access)
            }
            None => {
                let feeds = FeedClient::trusting(config.server.clone(), &config.trust)?;
                Arc::new(AccessWatches::new(feeds, Arc::clone(&router) as _, Arc::clone(&probing.hints)))
            }
        };
        Ok(Self {
            config,
            registry,
            router,
            keys,
            leases,
            access,
            id_questions: IdQuestions::default(),
            silence: SilenceCheck::new(health),
            primaries,
            models,
        })
    }

    /// Whether this configuration goes by the same mcpd, which proves who it is by the same keys.
    fn has_authority_of(&self, config: &Config) -> bool {
        let authority = |config: &Config| {
            let Config { server, trust, proof_keys, .. } = config;
            (server.clone(), trust.clone(), proof_keys.clone())
        };
        authority(&self.config) == authority(config)
    }
}

/// Connects only to an mcpd that proves itself by this: prompts and bearers go there.
fn guard_mcpd(client: &upstream::Client, trust: &Trust) {
    let trusted = trust.users;
    client.trust_mcpd(trust.tls.clone());
    client.check_plain_mcpd(Arc::new(move |local, remote| {
        async move { Ok(Guard::new(trusted).check_addresses(local, remote).await?) }.boxed()
    }));
}

impl App {
    /// The state of an agent with this configuration.
    ///
    /// # Errors
    /// When the probe cannot be set up.
    pub fn new(
        config: Config,
        listen: Address,
        host: EngineHost,
        identity: Identity,
        agent_id: Id,
        journal: Journal,
    ) -> anyhow::Result<Self> {
        // No idle connections: requests are few, and one on a connection that the server has closed meanwhile would fail.
        if config.server.scheme() == "https" || config.inference.scheme() == "https" {
            // Before the first request, because it takes a while.
            mcpctl_tls::load()?;
        }
        let tls = mcpctl_tls::client_config()?;
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured((*tls).clone())
            .no_proxy()
            .redirect(Policy::none())
            .pool_max_idle_per_host(0)
            .build()?;
        let client = upstream::Client::new(upstream::ClientConfig::default());
        guard_mcpd(&client, &config.trust);
        let bodies = RequestBodies::new(&config.limits.http);
        let probing = Probing::new(agent_id.clone(), identity.contexts().to_owned());
        let runtime = Runtime::new(config, &host, &http, &probing, None)?;
        Ok(Self {
            bodies,
            client,
            runtime: ArcSwap::from_pointee(runtime),
            ignored_config: ArcSwapOption::empty(),
            probing,
            http,
            identity,
            agent_id,
            journal,
            llm_names: LlmNameCache::default(),
            metrics: Arc::new(McplocalMetrics::new()),
            failovers: FailoverCounters::default(),
            host,
            listen,
            started_at: Timestamp::now(),
            drain: watch::Sender::new(false),
            last: Mutex::default(),
            retired: Mutex::default(),
        })
    }

    /// Replaces the configuration. Running requests continue with the one they began with; requests that wait for an engine
    /// that changes get the new engine.
    ///
    /// # Errors
    /// When the probe cannot be set up; the old configuration stays.
    pub fn reload(&self, config: Config) -> anyhow::Result<()> {
        let before = self.runtime.load_full();
        let trust = config.trust.clone();
        let after = Arc::new(Runtime::new(config, &self.host, &self.http, &self.probing, Some(&before))?);
        if trust != before.config.trust {
            guard_mcpd(&self.client, &trust);
        }
        // Before a line is written that is about another mcpd.
        if let Err(error) = self.journal.assign(&after.config.server) {
            tracing::error!(%error, "the journal does not know of the new `server`");
        }
        self.runtime.store(Arc::clone(&after));
        // After it is in force: what the old one allowed does not go on under the new one.
        if !Arc::ptr_eq(&before.access, &after.access) {
            before.access.close();
        }
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        retired.retain(|engine| !engine.is_shut_down());
        for engine in providers::dropped(&before.registry, &after.registry) {
            retired.push(engine.clone());
            tokio::spawn(async move { engine.retire().await });
        }
        Ok(())
    }

    /// Writes an entry to the journal, of a request that does not wait for it.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub fn record(&self, entry: JournalEntry) -> Result<(), JournalError> {
        let entry = entry.bounded();
        let recorded = self.journal.record(&entry);
        self.recorded(entry, recorded)
    }

    /// Writes an entry to the journal, and returns once it is on the disk.
    ///
    /// # Errors
    /// When the journal cannot be written; then nothing may run locally.
    pub async fn commit(&self, entry: JournalEntry) -> Result<(), JournalError> {
        let entry = entry.bounded();
        let recorded = self.journal.commit(&entry).await;
        self.recorded(entry, recorded)
    }

    fn recorded(&self, entry: JournalEntry, recorded: Result<(), JournalError>) -> Result<(), JournalError> {
        let recorded = recorded.inspect_err(|error| {
            tracing::error!(%error, hint = error.hint(), "the journal cannot be written, so nothing runs locally");
        });
        // A request whose entry was not written was not served.
        if matches!(entry, JournalEntry::Failover { .. }) && (recorded.is_ok() || entry.nothing_ran()) {
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(entry);
        }
        recorded
    }

    /// The last failover, for the status.
    pub fn last_failover(&self) -> Option<JournalEntry> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stops every engine and waits until none is left. Call it after the last [`App::reload`].
    pub async fn stop_engines(&self) {
        let retired = std::mem::take(&mut *self.retired.lock().unwrap_or_else(PoisonError::into_inner));
        let runtime = self.runtime.load_full();
        let engines = runtime.registry.providers().filter_map(|(_, provider)| provider.engine.clone());
        let stops = engines.chain(retired).map(|engine| async move { engine.shutdown().await });
        futures::future::join_all(stops).await;
    }

    /// How long running requests may take to end after the shutdown began.
    pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
}
