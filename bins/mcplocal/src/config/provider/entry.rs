//! An entry of `providers` as it is written: every key of every type, and which of them go together.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    num::NonZeroU32,
    path::PathBuf,
};

use mcpctl_api::{HumanDuration, Name, base_url::check_base, vocabulary::not_one_of, yaml::YamlError};
use mcpctl_dialect::{Dialect, keys};
use mcpctl_engine::{EngineOptions, EngineSpec, Need, Placement, ServerKind};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, SeqAccess, Visitor},
};
use serde_saphyr::Spanned;
use url::Url;

use crate::capabilities::{self, Capability};

use super::{
    super::{
        check::{MAX_DURATION, check_duration, is_loopback, place, whole_path, wrong},
        primary::{FailoverConfig, FailoverEntry, PrimaryConfig, PrimaryEntry},
    },
    AbandonAfter, ManagedEngine, MemorySize, Prewarm, ProviderConfig, ProviderKind, Swap,
};

/// `groups`: the memory of GPUs that engines share, by name.
pub type Groups = HashMap<Name, Spanned<GroupEntry>>;

/// One group.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GroupEntry {
    /// The memory of the GPUs that engines of this group share, where no driver reports it.
    memory: MemorySize,
}

/// The group of engines without `group`: their memory is unknown, so they exclude each other.
const DEFAULT_GROUP: &str = "default";
const DEFAULT_IDLE_TIMEOUT: HumanDuration = HumanDuration::from_secs(15 * 60);
/// Enough to load a model and compile kernels, not to download it.
const DEFAULT_START_TIMEOUT: HumanDuration = HumanDuration::from_secs(300);
const DEFAULT_QUEUE: u32 = 32;
/// Longer than a break in a working day; a sleeping engine's weights stay in main memory.
const DEFAULT_STANDBY_TIMEOUT: HumanDuration = HumanDuration::from_secs(4 * 60 * 60);

/// An entry with every key of every type.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProviderEntry {
    /// Its name, once in the file.
    name: Name,
    /// Whose API a running server has, or which model server the agent starts.
    #[serde(rename = "type")]
    kind: Spanned<ProviderType>,
    /// A GGUF file, a directory or a name at Hugging Face; of a running server the model's name [default: of a running server its only one].
    model: Option<Spanned<String>>,
    /// The central Llms to fall back from; each has one provider.
    failover_for: Option<Spanned<OneOrMany>>,
    primary: Option<Spanned<PrimaryEntry>>,
    failover: Option<Spanned<FailoverEntry>>,
    /// Fields of requests that choose a model by themselves, and are allowed.
    allow_fields: Option<Spanned<Vec<String>>>,
    /// Whether streams are asked to count usage [default: true].
    stream_usage: Option<bool>,
    /// What the model can do [default: what its server reports].
    capabilities: Option<Vec<Capability>>,
    /// The base address of a running server, which needs one: loopback.
    url: Option<Spanned<Url>>,
    /// File with the key of a running server; mode 0600, read at each use.
    api_key_file: Option<Spanned<PathBuf>>,
    /// The model server's program [default: found on PATH and in the usual places].
    command: Option<Spanned<PathBuf>>,
    /// The virtual environment that vLLM is in, in place of `command`.
    venv: Option<Spanned<PathBuf>>,
    /// vLLM's `--max-model-len`: the context, in tokens [default: that of the model].
    max_model_len: Option<Spanned<u32>>,
    /// The context of llama-server or of a running server, in tokens.
    context_length: Option<Spanned<u32>>,
    /// vLLM's `--gpu-memory-utilization`: its share of the GPU's memory [default: that of vLLM].
    gpu_memory_utilization: Option<Spanned<f64>>,
    /// vLLM's `--tensor-parallel-size`: GPUs that one model is spread over [default: that of vLLM].
    tensor_parallel_size: Option<Spanned<NonZeroU32>>,
    /// vLLM's `--dtype`: the number format of weights and activations [default: that of the model].
    dtype: Option<Spanned<String>>,
    /// vLLM's `--quantization`: how its weights are quantized [default: that of the model].
    quantization: Option<Spanned<String>>,
    /// Variables of the engine's environment.
    env: Option<Spanned<BTreeMap<String, String>>>,
    /// Further arguments of the model server; none that loads code or another model.
    extra_args: Option<Spanned<Vec<String>>>,
    /// How long an engine without requests runs [default: 15m].
    idle_timeout: Option<Spanned<HumanDuration>>,
    /// How long a start may take [default: 5m].
    start_timeout: Option<Spanned<HumanDuration>>,
    /// When a start without waiters is abandoned [default: 10s].
    abandon_after: Option<Spanned<AbandonAfter>>,
    /// Requests at once [default: 1, vLLM 16].
    concurrency: Option<Spanned<NonZeroU32>>,
    /// Requests that wait beyond these; the next one gets 429 [default: 32].
    queue: Option<Spanned<u32>>,
    /// What an idle or preempted engine does: `standby` is vLLM's sleep mode [default: stop].
    swap: Option<Spanned<Swap>>,
    /// How long an engine sleeps before it is stopped [default: 4h].
    standby_timeout: Option<Spanned<HumanDuration>>,
    /// When it is started before a request needs it [default: never].
    prewarm: Option<Spanned<Prewarm>>,
    /// Engines of a group share a GPU's memory, and take turns where they do not fit together [default: default].
    group: Option<Spanned<Name>>,
    /// What the engine needs of it [default: of vLLM its share; llama-server has its group to itself].
    memory: Option<Spanned<MemorySize>>,
}

/// `type`: `openai`, `anthropic`, or the name of a model server and `-managed`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ProviderType {
    Running(Dialect),
    Managed(ServerKind),
}

impl ProviderType {
    fn all() -> impl Iterator<Item = Self> {
        let managed = ServerKind::ALL.into_iter().map(Self::Managed);
        [Dialect::Openai, Dialect::Anthropic].into_iter().map(Self::Running).chain(managed)
    }

    /// Whether its providers take a key that is not for all types.
    fn takes(self, key: &str) -> bool {
        match self {
            Self::Running(_) => RUNNING_KEYS.contains(&key),
            Self::Managed(server) => ENGINE_KEYS.contains(&key) || server.provider_keys().contains(&key),
        }
    }
}

impl fmt::Display for ProviderType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running(Dialect::Openai) => f.write_str("openai"),
            Self::Running(Dialect::Anthropic) => f.write_str("anthropic"),
            Self::Managed(server) => write!(f, "{}-managed", server.program()),
        }
    }
}

impl<'de> Deserialize<'de> for ProviderType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::all().find(|known| known.to_string() == text).ok_or_else(|| {
            let known: Vec<String> = Self::all().map(|known| known.to_string()).collect();
            D::Error::custom(not_one_of(&text, known.iter().map(String::as_str)))
        })
    }
}

/// Keys of servers that are already running that not all types take.
const RUNNING_KEYS: [&str; 3] = ["url", "apiKeyFile", "contextLength"];
/// Keys of all engines that servers which are already running do not take. Those of one model server alone are `provider_keys`.
const ENGINE_KEYS: [&str; 11] = [
    "command",
    "env",
    "extraArgs",
    "idleTimeout",
    "startTimeout",
    "abandonAfter",
    "concurrency",
    "queue",
    "prewarm",
    "group",
    "memory",
];

impl ProviderEntry {
    /// Line and column of `failoverFor`.
    pub fn failover_place(&self) -> Option<(u64, u64)> {
        self.failover_for.as_ref().map(place)
    }

    /// The name of its group.
    pub fn group(&self) -> &str {
        self.group.as_ref().map_or(DEFAULT_GROUP, |group| group.value.as_str())
    }

    /// Every key that not all types take, and where it is.
    fn special_keys(&self) -> [(&'static str, Option<(u64, u64)>); 22] {
        fn at<T>(value: Option<&Spanned<T>>) -> Option<(u64, u64)> {
            value.map(place)
        }
        [
            ("url", at(self.url.as_ref())),
            ("apiKeyFile", at(self.api_key_file.as_ref())),
            ("command", at(self.command.as_ref())),
            ("venv", at(self.venv.as_ref())),
            ("maxModelLen", at(self.max_model_len.as_ref())),
            ("contextLength", at(self.context_length.as_ref())),
            ("gpuMemoryUtilization", at(self.gpu_memory_utilization.as_ref())),
            ("tensorParallelSize", at(self.tensor_parallel_size.as_ref())),
            ("dtype", at(self.dtype.as_ref())),
            ("quantization", at(self.quantization.as_ref())),
            ("env", at(self.env.as_ref())),
            ("extraArgs", at(self.extra_args.as_ref())),
            ("idleTimeout", at(self.idle_timeout.as_ref())),
            ("startTimeout", at(self.start_timeout.as_ref())),
            ("abandonAfter", at(self.abandon_after.as_ref())),
            ("concurrency", at(self.concurrency.as_ref())),
            ("queue", at(self.queue.as_ref())),
            ("swap", at(self.swap.as_ref())),
            ("standbyTimeout", at(self.standby_timeout.as_ref())),
            ("prewarm", at(self.prewarm.as_ref())),
            ("group", at(self.group.as_ref())),
            ("memory", at(self.memory.as_ref())),
        ]
    }

    fn check_keys(&self) -> Result<(), YamlError> {
        let kind = self.kind.value;
        let foreign = |key: &str, (line, column)| {
            let message = format!("`{key}` does not go with `type: {kind}`");
            let types = ProviderType::all().filter(|other| other.takes(key));
            let types = types.map(|other| format!("`type: {other}`")).collect::<Vec<_>>().join(" or ");
            Err(YamlError { line, column, message, hint: Some(format!("leave it out; it is for {types}")) })
        };
        for (key, at) in self.special_keys() {
            if let Some(at) = at.filter(|_| !kind.takes(key)) {
                return foreign(key, at);
            }
        }
        if let (Some(_), Some(venv)) = (&self.command, &self.venv) {
            let hint = Some("leave one of them out: vLLM is in either".to_owned());
            return Err(YamlError { hint, ..wrong(venv, "`venv` does not go with `command`") });
        }
        // A key that would do nothing is an error.
        let idle = |key: &str, at: (u64, u64), without: &str| {
            let message = format!("`{key}` does nothing {without}");
            Err(YamlError { line: at.0, column: at.1, message, hint: None })
        };
        let prewarm = self.prewarm.as_ref().map(|prewarm| prewarm.value);
        let without_llm = "without `failoverFor`";
        match (&self.idle_timeout, &self.standby_timeout, prewarm) {
            _ if let (Some(primary), None) = (&self.primary, &self.failover_for) => {
                idle("primary", place(primary), without_llm)
            }
            _ if let (Some(failover), None) = (&self.failover, &self.failover_for) => {
                idle("failover", place(failover), without_llm)
            }
            (Some(timeout), _, Some(Prewarm::Always)) => {
                idle("idleTimeout", place(timeout), "beside `prewarm: always`, which keeps the engine")
            }
            (_, Some(timeout), _) if self.swap.as_ref().is_none_or(|swap| swap.value != Swap::Standby) => {
                idle("standbyTimeout", place(timeout), "without `swap: standby`")
            }
            _ => Ok(()),
        }
    }
}

pub fn check(
    entry: Spanned<ProviderEntry>,
    groups: &Groups,
    primary: PrimaryConfig,
    failover: &FailoverConfig,
) -> Result<ProviderConfig, YamlError> {
    let (line, _) = place(&entry);
    let entry = entry.value;
    let name = entry.name.clone();
    if let Some(model) = entry.model.as_ref().filter(|model| model.value.trim().is_empty()) {
        return Err(wrong(model, format!("`model` of provider `{name}` is empty")));
    }
    entry.check_keys()?;
    check_limits(&entry)?;
    let stream_usage = entry.stream_usage.unwrap_or(true);
    let primary = entry.primary.as_ref().map_or(Ok(primary), |own| own.value.over(primary))?;
    let failover =
        entry.failover.as_ref().map_or_else(|| Ok(failover.clone()), |own| own.value.over(failover))?;
    let allow_fields = allow_fields(entry.allow_fields.as_ref())?;
    let context = entry.max_model_len.as_ref().or(entry.context_length.as_ref());
    let declared =
        capabilities::declared(entry.capabilities.as_deref(), context.map(|context| context.value));
    let failover_for = entry.failover_for.as_ref().map(|list| list.value.0.clone()).unwrap_or_default();
    let kind = match (entry.kind.value, &entry.url) {
        (ProviderType::Running(Dialect::Anthropic), Some(_)) if entry.model.is_none() => {
            let message = format!("provider `{name}` of type `anthropic` needs a `model`");
            let hint = Some("write the model's name at that server".to_owned());
            return Err(YamlError { hint, ..wrong(&entry.kind, message) });
        }
        (ProviderType::Running(api), Some(url)) => {
            check_url(url)?;
            let (url, model) = (url.value.clone(), entry.model.map(|model| model.value));
            let key_file = entry.api_key_file.as_ref();
            let key_file = key_file.map(|file| whole_path(file, KEY_FILE)).transpose()?;
            ProviderKind::Running { api, url, model, key_file }
        }
        (kind @ ProviderType::Running(_), None) => {
            let message = format!("provider `{name}` of type `{kind}` needs a `url`");
            let hint = Some("write the server's address, e.g. `url: http://127.0.0.1:8000/v1`".to_owned());
            return Err(YamlError { hint, ..wrong(&entry.kind, message) });
        }
        (ProviderType::Managed(server), _) => {
            ProviderKind::Managed(Box::new(managed(server, entry, groups)?))
        }
    };
    Ok(ProviderConfig {
        name,
        kind,
        failover_for,
        primary,
        failover,
        allow_fields,
        stream_usage,
        declared,
        line,
    })
}

/// Rejects a field that is allowed anyway: it is a typing error.
fn allow_fields(listed: Option<&Spanned<Vec<String>>>) -> Result<Vec<String>, YamlError> {
    let Some(listed) = listed else { return Ok(Vec::new()) };
    match listed.value.iter().find(|field| !keys::is_routing_key(field)) {
        None => Ok(listed.value.clone()),
        Some(field) => Err(wrong(
            listed,
            format!("`{field}` is not a field that is refused, so that it need not be in `allowFields`"),
        )),
    }
}

fn managed(server: ServerKind, entry: ProviderEntry, groups: &Groups) -> Result<ManagedEngine, YamlError> {
    let Some(model) = entry.model.clone() else {
        let message = format!("provider `{}` of type `{}` needs a `model`", entry.name, entry.kind.value);
        let hint = Some("write a file, a directory or a name at Hugging Face".to_owned());
        return Err(YamlError { hint, ..wrong(&entry.kind, message) });
    };
    let group = entry.group().to_owned();
    let capacity =
        groups.iter().find(|(name, _)| name.as_str() == group).map(|(_, group)| group.value.memory);
    if let (Some(need), Some(all)) = (&entry.memory, capacity)
        && need.value > all
    {
        let message = format!("it needs {}, and its group `{group}` has {all}", need.value);
        return Err(wrong(need, message));
    }
    fn value<T>(value: Option<Spanned<T>>) -> Option<T> {
        value.map(|value| value.value)
    }
    let prewarm = value(entry.prewarm).unwrap_or_default();
    let spec = EngineSpec {
        name: entry.name.to_string(),
        server,
        model: model.value,
        command: value(entry.command),
        venv: value(entry.venv),
        context_length: value(entry.max_model_len).or(value(entry.context_length)),
        gpu_memory_utilization: value(entry.gpu_memory_utilization),
        tensor_parallel_size: value(entry.tensor_parallel_size),
        dtype: value(entry.dtype),
        quantization: value(entry.quantization),
        idle_timeout: value(entry.idle_timeout).unwrap_or(DEFAULT_IDLE_TIMEOUT).0,
        start_timeout: value(entry.start_timeout).unwrap_or(DEFAULT_START_TIMEOUT).0,
    };
    let need = value(entry.memory).map_or_else(|| server.memory_need(&spec), |memory| Need::Bytes(memory.0));
    let options = EngineOptions {
        extra_args: value(entry.extra_args).unwrap_or_default(),
        env: value(entry.env).unwrap_or_default().into_iter().collect(),
        concurrency: value(entry.concurrency).or(Some(server.default_concurrency())),
        queue: Some(value(entry.queue).unwrap_or(DEFAULT_QUEUE)),
        placement: Placement { group, need, capacity: capacity.map(|memory| memory.0) },
        standby: value(entry.swap).unwrap_or_default() == Swap::Standby,
        standby_timeout: value(entry.standby_timeout).unwrap_or(DEFAULT_STANDBY_TIMEOUT).0,
        keep: prewarm == Prewarm::Always,
        abandon_after: value(entry.abandon_after).unwrap_or_default().0.map(|time| time.0),
        ..EngineOptions::default()
    };
    Ok(ManagedEngine { spec, options, prewarm })
}

/// INVARIANT 15: a zero limit is never "forever", so it is refused where it is written.
fn check_limits(entry: &ProviderEntry) -> Result<(), YamlError> {
    let bounded = |key: &str, time: &Option<Spanned<HumanDuration>>| match time {
        Some(time) => check_duration(key, time.value).map_err(|message| wrong(time, message)),
        None => Ok(()),
    };
    bounded("idleTimeout", &entry.idle_timeout)?;
    bounded("startTimeout", &entry.start_timeout)?;
    bounded("standbyTimeout", &entry.standby_timeout)?;
    if let Some(AbandonAfter(Some(time))) = entry.abandon_after.as_ref().map(|time| time.value)
        && let Some(at) = &entry.abandon_after
        && time > MAX_DURATION
    {
        return Err(wrong(at, format!("`abandonAfter` is at most {MAX_DURATION}, or `never`")));
    }
    if let Some(share) = entry.gpu_memory_utilization.as_ref().filter(|s| !(s.value > 0.0 && s.value <= 1.0))
    {
        return Err(wrong(share, "`gpuMemoryUtilization` is more than 0 and at most 1"));
    }
    for context in entry.context_length.iter().chain(&entry.max_model_len) {
        if context.value == 0 {
            return Err(wrong(context, "a context of no tokens holds nothing"));
        }
    }
    for word in entry.dtype.iter().chain(&entry.quantization) {
        // It becomes an argument after its flag, and must not be parsed as another flag.
        if word.value.is_empty() || word.value.starts_with('-') {
            let mut error = wrong(word, format!("vLLM cannot take `{}`", word.value));
            error.hint = Some("write one word, e.g. `auto`; it cannot begin with `-`".to_owned());
            return Err(error);
        }
    }
    Ok(())
}

/// A local provider has a loopback address: a typing error must not send prompts that were meant for mcpd to a third party.
fn check_url(url: &Spanned<Url>) -> Result<(), YamlError> {
    let address = &url.value;
    if !matches!(address.scheme(), "http" | "https") {
        let hint = Some("write it with its scheme, e.g. `http://127.0.0.1:8000/v1`".to_owned());
        return Err(YamlError { hint, ..wrong(url, format!("`{address}` is neither http nor https")) });
    }
    if !address.username().is_empty() || address.password().is_some() {
        return Err(wrong(url, "credentials do not belong into an address"));
    }
    if let Err(error) = check_base(address) {
        return Err(YamlError { hint: error.hint, ..wrong(url, error.message) });
    }
    if !is_loopback(address) {
        let mut error = wrong(url, format!("`{address}` is not on this machine"));
        error.hint =
            Some("a local provider has a loopback address, e.g. `http://127.0.0.1:11434/v1`".to_owned());
        return Err(error);
    }
    Ok(())
}

/// An example of the path of a key.
const KEY_FILE: &str = "~/.config/llama-server/key";

/// `failoverFor: claude`, or a list.
struct OneOrMany(Vec<Name>);

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrManyVisitor)
    }
}

struct OneOrManyVisitor;

impl<'de> Visitor<'de> for OneOrManyVisitor {
    type Value = OneOrMany;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a central Llm, or a list of names")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<OneOrMany, E> {
        central_llm(text).map(|name| OneOrMany(vec![name]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<OneOrMany, A::Error> {
        let mut names = Vec::new();
        while let Some(name) = list.next_element::<String>()? {
            names.push(central_llm(&name)?);
        }
        Ok(OneOrMany(names))
    }
}

fn central_llm<E: serde::de::Error>(text: &str) -> Result<Name, E> {
    if text.contains('*') {
        let message = format!(
            "`{text}` is a pattern, and central Llms are named one by one: `failoverFor: [gpt, claude]`"
        );
        return Err(E::custom(message));
    }
    text.parse().map_err(E::custom)
}
