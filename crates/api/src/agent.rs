//! The agent's account of itself as it travels: `GET /status`, its engines, and the findings of `mcplocal --doctor`.
//! mcplocal serializes these types; mcpctl and the demo read them.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::{Id, Name, breaker_status::BreakerStatus};

/// `GET /status`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentStatus {
    /// The version of mcplocal.
    pub version: String,
    /// The mcpd that it forwards to.
    pub server: Url,
    /// The address of mcpd's inference routes, where it differs from `server`.
    pub inference: Url,
    /// The agent's process.
    pub pid: u32,
    /// Names this installation of the agent to mcpd.
    pub agent_id: Id,
    /// `127.0.0.1:3200`, or `unix:/path`.
    pub listen: String,
    /// When the agent was started.
    pub started_at: Timestamp,
    /// Kind and name of the account that is signed in at `server` on this machine: for it the local key acts.
    pub signed_in_as: Option<String>,
    /// How far mcpd's answers are verified.
    #[serde(default)]
    pub proof: ProofStatus,
    /// The number of leases that are held: callers and Llms that are covered while mcpd cannot be asked.
    #[serde(default)]
    pub leases: usize,
    /// The Llms that a lease of the signed-in user covers.
    #[serde(default)]
    pub leased_llms: Vec<LeasedLlm>,
    /// The feed of the signed-in user's access at mcpd.
    #[serde(default)]
    pub feed: FeedStatus,
    /// The number of feeds that are followed, those of other callers included.
    #[serde(default)]
    pub feeds: usize,
    /// The local providers, in the order of the configuration.
    pub providers: Vec<ProviderStatus>,
    /// Which local provider may answer in place of which Llm.
    pub failovers: Vec<FailoverRoute>,
    /// The Llms whose breaker is open.
    pub breakers: Vec<PrimaryBreaker>,
    /// Names in `failoverFor` that mcpd does not list.
    pub unknown_llms: Vec<UnknownName>,
    /// Why the journal cannot be written; while it cannot, no local provider answers.
    pub journal: Option<String>,
    /// The next step.
    pub journal_hint: Option<String>,
    /// The lines that mcpd does not have yet, where there are any.
    pub journal_backlog: Option<JournalBacklog>,
    /// Why the present configuration file is not in force; the agent goes on with the one before.
    #[serde(default)]
    pub ignored_config: Option<IgnoredConfig>,
    /// The last failover.
    pub last_failover: Option<FailoverRecord>,
    /// What became of all since the agent's start.
    #[serde(default)]
    pub failover_counts: FailoverCounts,
}

/// How many requests fell back, by what became of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FailoverCounts {
    /// A local provider answered.
    pub served: u64,
    /// mcpd did not allow it.
    pub refused: u64,
    /// The local provider did not answer.
    pub failed: u64,
}

/// How far the agent verifies mcpd's answers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProofStatus {
    /// In one word.
    pub state: ProofState,
    /// The fingerprints of the pinned keys: of the current one, then of the next one.
    pub fingerprints: Vec<String>,
    /// The next step, or why the pinned keys cannot be read.
    pub hint: Option<String>,
    /// Why mcpd's last answer is not verified, where keys are pinned and it is not.
    #[serde(default)]
    pub unverified: Option<UnverifiedAnswer>,
}

/// An answer of mcpd that counts for nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnverifiedAnswer {
    /// Why.
    pub reason: String,
    /// When it came.
    pub at: Timestamp,
}

/// Whether the agent has keys to verify mcpd's answers by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ProofState {
    /// An answer counts by the signature of a pinned key, and by nothing else.
    Pinned,
    /// No key is pinned: an answer counts by its status.
    #[default]
    Unpinned,
    /// The pinned keys cannot be read: no answer counts.
    Unreadable,
}

/// Characters of a fingerprint that a line shows: `SHA256:` and eight more.
const SHOWN_FINGERPRINT: usize = 15;

impl ProofStatus {
    /// How trustworthy an answer of the mcpd at this address is, for people.
    pub fn describe(&self, server: &Url) -> String {
        let at = server.as_str().trim_end_matches('/');
        let on = if server.scheme() == "https" { "the TLS to" } else { "the program that listens at" };
        match (self.state, self.fingerprints.first()) {
            (ProofState::Pinned, Some(current)) => {
                // Enough to recognize; who compares it has all of it from `mcpctl whoami`.
                let begin = current.get(..SHOWN_FINGERPRINT).unwrap_or(current);
                format!("mcpd's answers are signed, {begin}… is pinned")
            }
            (ProofState::Pinned, None) => "no answer counts: the list of pinned keys is empty".to_owned(),
            (ProofState::Unpinned, _) => format!("as trustworthy as {on} {at}: no key of mcpd is pinned"),
            (ProofState::Unreadable, _) => "no answer counts: the pinned keys cannot be read".to_owned(),
        }
    }
}

/// An Llm that a lease covers while mcpd cannot be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeasedLlm {
    /// The Llm.
    pub llm: String,
    /// How long the lease still covers, in seconds.
    pub seconds_left: u64,
}

/// The feed by which the agent learns at once that the signed-in user has lost access.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FeedStatus {
    /// In one word.
    pub state: FollowState,
    /// Since when it is in this state.
    pub since: Option<Timestamp>,
    /// Why it is not followed.
    pub reason: Option<String>,
}

/// Whether a feed is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FollowState {
    /// There is nothing to follow.
    #[default]
    Off,
    /// The first connection is being made.
    Connecting,
    /// Its events arrive.
    Following,
    /// There is no connection; the agent connects again, and repeats the probe meanwhile.
    Interrupted,
    /// mcpd does not accept the credential.
    Denied,
}

impl FollowState {
    /// The word of the status.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Connecting => "connecting",
            Self::Following => "following",
            Self::Interrupted => "interrupted",
            Self::Denied => "denied",
        }
    }
}

impl FeedStatus {
    /// No feed is followed, for this reason.
    pub fn off(reason: &str) -> Self {
        Self { state: FollowState::Off, since: None, reason: Some(reason.to_owned()) }
    }

    /// Takes a new state; `since` stays where it is the same.
    pub fn becomes(&mut self, state: FollowState, reason: Option<String>) {
        if self.state != state {
            self.state = state;
            self.since = Some(Timestamp::now());
        }
        self.reason = reason;
    }
}

/// Why a configuration file is not in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IgnoredConfig {
    /// Since when.
    pub since: Timestamp,
    /// One line, with file, line and column where it is a mistake in the file.
    pub reason: String,
    /// The next step.
    pub hint: Option<String>,
}

/// A local provider.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProviderStatus {
    /// Its name.
    pub name: String,
    /// Its `type` in the configuration.
    #[serde(rename = "type")]
    pub kind: String,
    /// The model that it serves, where that is known.
    pub model: Option<String>,
    /// What the model can do.
    pub capabilities: Capabilities,
    /// Why requests with tools do not fall back to it, or may not; `None` where they do, and of a provider that is for no Llm.
    #[serde(default)]
    pub without_tools: Option<ToolsGap>,
    /// Tokens that it writes in a second, as last measured.
    pub tokens_per_second: Option<f64>,
    /// Answers that it is writing now.
    #[serde(default)]
    pub running: usize,
    /// Answers that it has written since the agent's start, or since its entry in the configuration changed.
    #[serde(default)]
    pub answers: u64,
    /// Their tokens.
    #[serde(default)]
    pub output_tokens: u64,
    /// The Llms that it may answer in place of.
    pub failover_for: Vec<Name>,
    /// Why it cannot be used now.
    pub unavailable: Option<Unavailable>,
    /// Its engine, where the agent starts one.
    pub engine: Option<EngineStatus>,
}

/// What a model can do; `None` where it is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Capabilities {
    /// It calls tools.
    pub tools: Option<bool>,
    /// It reads images.
    pub vision: Option<bool>,
    /// It continues a beginning of its answer.
    pub prefill: Option<bool>,
    /// It computes embeddings.
    pub embeddings: Option<bool>,
    /// Its server serves `/v1/messages` and `/v1/messages/count_tokens`.
    #[serde(default)]
    pub messages: Option<bool>,
    /// Its server serves `/v1/responses`.
    #[serde(default)]
    pub responses: Option<bool>,
    /// Its server counts tokens by Anthropic's API.
    #[serde(default)]
    pub counts_tokens: Option<bool>,
    /// Maximum number of tokens of prompt and answer together.
    pub context_length: Option<u32>,
}

impl Capabilities {
    /// These capabilities, and those of `other` where these are unknown.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            tools: self.tools.or(other.tools),
            vision: self.vision.or(other.vision),
            prefill: self.prefill.or(other.prefill),
            embeddings: self.embeddings.or(other.embeddings),
            messages: self.messages.or(other.messages),
            responses: self.responses.or(other.responses),
            counts_tokens: self.counts_tokens.or(other.counts_tokens),
            context_length: self.context_length.or(other.context_length),
        }
    }

    /// Whether the model calls tools, in one word.
    pub const fn tools_word(&self) -> &'static str {
        match self.tools {
            Some(true) => "yes",
            Some(false) => "no",
            None => "unknown",
        }
    }
}

/// Why requests with tools do not fall back to a local provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolsGap {
    /// One line.
    pub reason: String,
    /// The next step.
    pub hint: String,
}

/// Why a local provider cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unavailable {
    /// One line.
    pub reason: String,
    /// The next step.
    pub hint: Option<String>,
}

/// A local provider that may answer in place of an Llm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailoverRoute {
    /// The Llm.
    pub llm: String,
    /// The local provider.
    pub provider: String,
}

/// The breaker of an Llm's primary that is not closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrimaryBreaker {
    /// The Llm.
    pub llm: String,
    /// How it stands.
    #[serde(flatten)]
    pub status: BreakerStatus,
}

/// A name in `failoverFor` that mcpd does not list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnknownName {
    /// The name.
    pub llm: String,
    /// The provider that has it in `failoverFor`.
    pub provider: String,
    /// One line.
    pub reason: String,
    /// The next step.
    pub hint: String,
}

/// Lines of the journal that wait to be handed over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JournalBacklog {
    /// Their number.
    pub lines: u64,
    /// Why mcpd does not have them; `None` where they were not refused.
    pub reason: Option<String>,
}

/// A failover, as the journal has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "event", rename = "failover")]
pub struct FailoverRecord {
    /// When.
    pub at: Timestamp,
    /// The id of the request.
    pub request: String,
    /// The caller, as the journal names them.
    pub who: String,
    /// The Llm.
    pub llm: String,
    /// The local provider.
    pub provider: String,
    /// The failure class of the primary.
    pub class: Option<String>,
    /// What the probes returned, in order.
    pub access: Vec<String>,
    /// Whether the local provider answered.
    pub outcome: FailoverOutcome,
    /// Why it did not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The outcome of a failover.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FailoverOutcome {
    /// The request went to the local provider. Recorded before it goes there; another line records how it ended.
    Served,
    /// mcpd did not allow it.
    Refused,
    /// The local provider did not answer.
    Failed,
}

impl FailoverOutcome {
    /// The word of logs and the journal.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Served => "served",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// The state of an engine in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EngineState {
    /// Not running; the next request starts it.
    Stopped,
    /// On its way to ready.
    Starting,
    /// Takes requests.
    Ready,
    /// Its process runs, its GPU memory is free; it can be woken.
    Sleeping,
    /// Takes no new requests, ends when the running ones have, or is ending.
    Draining,
    /// Failed more than once, and waits before the next start.
    BackingOff,
    /// Failed; the next request tries again.
    Failed,
}

impl EngineState {
    /// The word of status and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Sleeping => "sleeping",
            Self::Draining => "draining",
            Self::BackingOff => "backing-off",
            Self::Failed => "failed",
        }
    }
}

/// How far a start is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StartPhase {
    /// Other engines hold the memory that it needs, and are being preempted.
    WaitingForRoom,
    /// The process is being created.
    Spawning,
    /// It runs and loads the model.
    Loading,
    /// It compiles its kernels, or records them.
    Compiling,
    /// It slept and is being woken.
    Waking,
    /// It reports that it is healthy and answers its first request.
    WarmingUp,
}

impl StartPhase {
    /// For people who wait.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WaitingForRoom => "waiting for memory",
            Self::Spawning => "starting its process",
            Self::Loading => "loading weights",
            Self::Compiling => "compiling",
            Self::Waking => "waking up",
            Self::WarmingUp => "answering its first request",
        }
    }
}

/// What an engine is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EngineStatus {
    /// The provider's name.
    pub name: String,
    /// Its state.
    pub state: EngineState,
    /// How far its start is, while it starts.
    pub phase: Option<StartPhase>,
    /// Percent of that phase, where the engine reports it.
    pub percent: Option<u8>,
    /// Since when it is in this state.
    pub since: Timestamp,
    /// The engine's process, the leader of its group.
    pub pid: Option<u32>,
    /// The loopback port that it listens on.
    pub port: Option<u16>,
    /// The Unix socket that it listens on, where it is not a port.
    pub socket: Option<PathBuf>,
    /// The model that it runs.
    pub model: String,
    /// Requests that run on it.
    pub in_flight: usize,
    /// Requests that wait for it to have room, or to be ready.
    pub queued: usize,
    /// When a request last ended on it.
    pub last_used: Option<Timestamp>,
    /// Memory of its whole process group, bytes.
    pub resident_bytes: Option<u64>,
    /// Memory of GPUs that its processes hold, bytes, where the driver reports it.
    #[serde(default)]
    pub gpu_bytes: Option<u64>,
    /// How often it was started since the agent was.
    pub starts: u32,
    /// Why it last failed.
    pub last_error: Option<String>,
}

/// One check of a doctor: `mcplocal --doctor` prints a list of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was checked.
    pub what: String,
    /// The result.
    pub state: FindingState,
    /// The result in one line.
    #[serde(alias = "said")]
    pub message: String,
    /// The next step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// The result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FindingState {
    /// It works.
    Ok,
    /// It works, and may not for long or not as expected.
    Warning,
    /// It does not work.
    Failed,
}

impl Finding {
    /// A finding without a hint.
    pub fn new(what: impl Into<String>, state: FindingState, message: impl Into<String>) -> Self {
        Self { what: what.into(), state, message: message.into(), hint: None }
    }

    /// Whether requests with tools fall back to a local provider.
    pub fn tools(provider: &str, capabilities: &Capabilities, gap: Option<ToolsGap>) -> Self {
        let what = format!("tools of {provider}");
        match (gap, capabilities.tools) {
            (Some(gap), _) => Self::new(what, FindingState::Warning, gap.reason).hint(Some(gap.hint)),
            (None, Some(true)) => {
                Self::new(what, FindingState::Ok, "requests with tools may fall back to it")
            }
            (None, Some(false)) => Self::new(what, FindingState::Ok, "its model calls none"),
            (None, None) => {
                let message =
                    "its server does not report whether the model calls them, and gets such requests";
                Self::new(what, FindingState::Ok, message)
            }
        }
    }

    /// Sets the next step.
    #[must_use]
    pub fn hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn engine_words_are_those_of_json() {
        for state in [
            EngineState::Stopped,
            EngineState::Starting,
            EngineState::Ready,
            EngineState::Sleeping,
            EngineState::Draining,
            EngineState::BackingOff,
            EngineState::Failed,
        ] {
            assert_eq!(json!(state), state.as_str());
        }
        for state in [
            FollowState::Off,
            FollowState::Connecting,
            FollowState::Following,
            FollowState::Interrupted,
            FollowState::Denied,
        ] {
            assert_eq!(json!(state), state.as_str());
        }
        for outcome in [FailoverOutcome::Served, FailoverOutcome::Refused, FailoverOutcome::Failed] {
            assert_eq!(json!(outcome), outcome.as_str());
        }
    }

    /// The keys, their order and what is `null` are a contract with programs that read `mcpctl local status -o json`.
    #[test]
    fn status_reads_and_writes_the_same_json() {
        let engine = r#"{"name":"desk","state":"starting","phase":"waiting-for-room","percent":null,"since":"2026-01-02T03:04:05.678Z","pid":7,"port":null,"socket":"/run/s","model":"m","inFlight":0,"queued":1,"lastUsed":null,"residentBytes":1048576,"gpuBytes":8304721920,"starts":2,"lastError":null}"#;
        let provider = format!(
            r#"{{"name":"desk","type":"vllm-managed","model":null,"capabilities":{{"tools":true,"vision":null,"prefill":null,"embeddings":false,"messages":true,"responses":null,"countsTokens":true,"contextLength":4096}},"withoutTools":{{"reason":"r","hint":"h"}},"tokensPerSecond":12.3,"running":1,"answers":2,"outputTokens":30,"failoverFor":["claude"],"unavailable":{{"reason":"r","hint":null}},"engine":{engine}}}"#
        );
        let last = r#"{"event":"failover","at":"2026-01-02T03:04:05Z","request":"r","who":"w","llm":"claude","provider":"desk","class":"connect","access":["allowed"],"outcome":"served"}"#;
        let status = format!(
            r#"{{"version":"0.1.0","server":"http://127.0.0.1:3100/","inference":"http://127.0.0.1:3100/","pid":1,"agentId":"cabcdefghijklmnopqrstuvwx","listen":"127.0.0.1:3200","startedAt":"2026-01-02T03:04:05Z","signedInAs":"alice","proof":{{"state":"pinned","fingerprints":["SHA256:x","SHA256:y"],"hint":null,"unverified":{{"reason":"r","at":"2026-01-02T03:04:05Z"}}}},"leases":1,"leasedLlms":[{{"llm":"claude","secondsLeft":31}}],"feed":{{"state":"interrupted","since":"2026-01-02T03:04:05Z","reason":"r"}},"feeds":2,"providers":[{provider}],"failovers":[{{"llm":"claude","provider":"desk"}}],"breakers":[{{"llm":"claude","state":"open","since":"2026-01-02T03:04:05Z","nextTryAt":"2026-01-02T03:04:15Z","lastFailure":"connect","someForms":true}}],"unknownLlms":[{{"llm":"l","provider":"p","reason":"r","hint":"h"}}],"journal":null,"journalHint":null,"journalBacklog":{{"lines":2,"reason":"r"}},"ignoredConfig":{{"since":"2026-01-02T03:04:05Z","reason":"r","hint":null}},"lastFailover":{last},"failoverCounts":{{"served":3,"refused":2,"failed":1}}}}"#
        );
        let read: AgentStatus = serde_json::from_str(&status).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), status);
        let findings = r#"[{"what":"disk","state":"warning","message":"1 GiB free","hint":"make room"},{"what":"gpu","state":"ok","message":"none"}]"#;
        let read: Vec<Finding> = serde_json::from_str(findings).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), findings);
    }
}
