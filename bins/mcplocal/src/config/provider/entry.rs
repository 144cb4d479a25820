//! An entry of `providers` as the file says it: every key of every type; which go together is checked here.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    num::NonZeroU32,
    path::PathBuf,
};

use mcpctl_api::{HumanDuration, Name, base_url::check_base, yaml::YamlError};
use mcpctl_dialect::openai::keys;
use serde::{
    Deserialize, Deserializer,
    de::{SeqAccess, Visitor},
};
use serde_saphyr::Spanned;
use url::Url;

use crate::capabilities::{Capabilities, Capability};

use super::{
    super::{MAX_DURATION, check_duration, is_loopback, place, wrong},
    AbandonAfter, Managed, ManagedKind, MemorySize, Prewarm, ProviderConfig, ProviderKind, Swap,
};

/// `groups`: what engines that share a GPU may hold together.
pub type Groups = HashMap<Name, Spanned<GroupEntry>>;

/// One of them.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GroupEntry {
    memory: MemorySize,
}

/// Where nothing is said, engines exclude each other.
const DEFAULT_GROUP: &str = "default";
const DEFAULT_IDLE: HumanDuration = HumanDuration::from_secs(15 * 60);
/// vLLM downloads nothing in that time, but loads and compiles.
const DEFAULT_START: HumanDuration = HumanDuration::from_secs(300);
const DEFAULT_QUEUE: u32 = 32;
/// A working day's pause; until then its weights are in the machine's memory.
const DEFAULT_STANDBY: HumanDuration = HumanDuration::from_secs(4 * 60 * 60);

/// As the file says it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProviderEntry {
    name: Name,
    #[serde(rename = "type")]
    kind: Spanned<ProviderType>,
    model: Option<Spanned<String>>,
    failover_for: Option<Spanned<OneOrMany>>,
    allow_fields: Option<Spanned<Vec<String>>>,
    stream_usage: Option<bool>,
    capabilities: Option<Vec<Capability>>,
    url: Option<Spanned<Url>>,
    command: Option<Spanned<PathBuf>>,
    venv: Option<Spanned<PathBuf>>,
    max_model_len: Option<Spanned<u32>>,
    context_length: Option<Spanned<u32>>,
    gpu_memory_utilization: Option<Spanned<f64>>,
    tensor_parallel_size: Option<Spanned<NonZeroU32>>,
    dtype: Option<Spanned<String>>,
    quantization: Option<Spanned<String>>,
    env: Option<Spanned<BTreeMap<String, String>>>,
    extra_args: Option<Spanned<Vec<String>>>,
    idle_timeout: Option<Spanned<HumanDuration>>,
    start_timeout: Option<Spanned<HumanDuration>>,
    abandon_after: Option<Spanned<AbandonAfter>>,
    concurrency: Option<Spanned<NonZeroU32>>,
    queue: Option<Spanned<u32>>,
    swap: Option<Spanned<Swap>>,
    standby_timeout: Option<Spanned<HumanDuration>>,
    prewarm: Option<Spanned<Prewarm>>,
    group: Option<Spanned<Name>>,
    memory: Option<Spanned<MemorySize>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ProviderType {
    Openai,
    VllmManaged,
    LlamaServerManaged,
}

impl ProviderType {
    fn as_str(self) -> &'static str {
        match self {
            Self::Openai => "openai",
            Self::VllmManaged => "vllm-managed",
            Self::LlamaServerManaged => "llama-server-managed",
        }
    }
}

/// A key that not every type takes: its name, the types that take it, and where it stands.
type SpecialKey = (&'static str, &'static [ProviderType], Option<(u64, u64)>);

impl ProviderEntry {
    /// Where `failoverFor` stands, if it does.
    pub fn failover_place(&self) -> Option<(u64, u64)> {
        self.failover_for.as_ref().map(place)
    }

    /// Where its group is named, and as what.
    pub fn group(&self) -> &str {
        self.group.as_ref().map_or(DEFAULT_GROUP, |group| group.value.as_str())
    }

    /// Every key that some type does not take: which types take it, and where it stands.
    fn special_keys(&self) -> [SpecialKey; 21] {
        fn at<T>(value: Option<&Spanned<T>>) -> Option<(u64, u64)> {
            value.map(place)
        }
        const OPENAI: &[ProviderType] = &[ProviderType::Openai];
        const VLLM: &[ProviderType] = &[ProviderType::VllmManaged];
        const NOT_VLLM: &[ProviderType] = &[ProviderType::Openai, ProviderType::LlamaServerManaged];
        const MANAGED: &[ProviderType] = &[ProviderType::VllmManaged, ProviderType::LlamaServerManaged];
        [
            ("url", OPENAI, at(self.url.as_ref())),
            ("command", MANAGED, at(self.command.as_ref())),
            ("venv", VLLM, at(self.venv.as_ref())),
            ("maxModelLen", VLLM, at(self.max_model_len.as_ref())),
            ("contextLength", NOT_VLLM, at(self.context_length.as_ref())),
            ("gpuMemoryUtilization", VLLM, at(self.gpu_memory_utilization.as_ref())),
            ("tensorParallelSize", VLLM, at(self.tensor_parallel_size.as_ref())),
            ("dtype", VLLM, at(self.dtype.as_ref())),
            ("quantization", VLLM, at(self.quantization.as_ref())),
            ("env", MANAGED, at(self.env.as_ref())),
            ("extraArgs", MANAGED, at(self.extra_args.as_ref())),
            ("idleTimeout", MANAGED, at(self.idle_timeout.as_ref())),
            ("startTimeout", MANAGED, at(self.start_timeout.as_ref())),
            ("abandonAfter", MANAGED, at(self.abandon_after.as_ref())),
            ("concurrency", MANAGED, at(self.concurrency.as_ref())),
            ("queue", MANAGED, at(self.queue.as_ref())),
            ("swap", VLLM, at(self.swap.as_ref())),
            ("standbyTimeout", VLLM, at(self.standby_timeout.as_ref())),
            ("prewarm", MANAGED, at(self.prewarm.as_ref())),
            ("group", MANAGED, at(self.group.as_ref())),
            ("memory", MANAGED, at(self.memory.as_ref())),
        ]
    }

    fn check_keys(&self) -> Result<(), YamlError> {
        let kind = self.kind.value;
        let foreign = |key: &str, (line, column)| {
            let message = format!("`{key}` does not go with `type: {}`", kind.as_str());
            Err(YamlError { line, column, message, hint: None })
        };
        for (key, types, at) in self.special_keys() {
            if let Some(at) = at.filter(|_| !types.contains(&kind)) {
                return foreign(key, at);
            }
        }
        if let (Some(_), Some(venv)) = (&self.command, &self.venv) {
            return foreign("venv` beside `command", place(venv));
        }
        // A key that would do nothing is an error.
        let idle = |key: &str, at: (u64, u64), without: &str| {
            let message = format!("`{key}` does nothing {without}");
            Err(YamlError { line: at.0, column: at.1, message, hint: None })
        };
        let prewarm = self.prewarm.as_ref().map(|prewarm| prewarm.value);
        match (&self.idle_timeout, &self.standby_timeout, prewarm) {
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

pub fn check(entry: Spanned<ProviderEntry>, groups: &Groups) -> Result<ProviderConfig, YamlError> {
    let (line, _) = place(&entry);
    let entry = entry.value;
    let name = entry.name.clone();
    if let Some(model) = entry.model.as_ref().filter(|model| model.value.trim().is_empty()) {
        return Err(wrong(model, format!("`model` of provider `{name}` is empty")));
    }
    entry.check_keys()?;
    check_limits(&entry)?;
    let stream_usage = entry.stream_usage.unwrap_or(true);
    let allow_fields = allow_fields(entry.allow_fields.as_ref())?;
    let context = entry.max_model_len.as_ref().or(entry.context_length.as_ref());
    let declared =
        Capabilities::declared(entry.capabilities.as_deref(), context.map(|context| context.value));
    let failover_for = entry.failover_for.as_ref().map(|list| list.value.0.clone()).unwrap_or_default();
    let kind = match (entry.kind.value, &entry.url) {
        (ProviderType::Openai, Some(url)) => {
            check_url(url)?;
            ProviderKind::Openai { url: url.value.clone(), model: entry.model.map(|model| model.value) }
        }
        (ProviderType::Openai, None) => {
            let message = format!("provider `{name}` of type `openai` needs a `url`");
            return Err(wrong(&entry.kind, message));
        }
        (ProviderType::VllmManaged, _) => {
            ProviderKind::Managed(Box::new(managed(ManagedKind::Vllm, entry, groups)?))
        }
        (ProviderType::LlamaServerManaged, _) => {
            ProviderKind::Managed(Box::new(managed(ManagedKind::LlamaServer, entry, groups)?))
        }
    };
    Ok(ProviderConfig { name, kind, failover_for, allow_fields, stream_usage, declared, line })
}

/// A field that is never refused need not be allowed: it is a typing error.
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

fn managed(kind: ManagedKind, entry: ProviderEntry, groups: &Groups) -> Result<Managed, YamlError> {
    let Some(model) = entry.model.clone() else {
        let message =
            format!("provider `{}` of type `{}` needs a `model`", entry.name, entry.kind.value.as_str());
        return Err(wrong(&entry.kind, message));
    };
    let group = entry.group().to_owned();
    let declared =
        groups.iter().find(|(name, _)| name.as_str() == group).map(|(_, group)| group.value.memory);
    if let (Some(need), Some(all)) = (&entry.memory, declared)
        && need.value > all
    {
        let message = format!("it needs {}, and its group `{group}` has {all}", need.value);
        return Err(wrong(need, message));
    }
    fn said<T>(value: Option<Spanned<T>>) -> Option<T> {
        value.map(|value| value.value)
    }
    Ok(Managed {
        kind,
        model: model.value,
        command: said(entry.command),
        venv: said(entry.venv),
        context_length: said(entry.max_model_len).or(said(entry.context_length)),
        gpu_memory_utilization: said(entry.gpu_memory_utilization),
        tensor_parallel_size: said(entry.tensor_parallel_size),
        dtype: said(entry.dtype),
        quantization: said(entry.quantization),
        env: said(entry.env).unwrap_or_default().into_iter().collect(),
        extra_args: said(entry.extra_args).unwrap_or_default(),
        idle_timeout: said(entry.idle_timeout).unwrap_or(DEFAULT_IDLE),
        start_timeout: said(entry.start_timeout).unwrap_or(DEFAULT_START),
        abandon_after: said(entry.abandon_after).unwrap_or_default(),
        concurrency: said(entry.concurrency),
        queue: said(entry.queue).unwrap_or(DEFAULT_QUEUE),
        swap: said(entry.swap).unwrap_or_default(),
        standby_timeout: said(entry.standby_timeout).unwrap_or(DEFAULT_STANDBY),
        prewarm: said(entry.prewarm).unwrap_or_default(),
        group,
        memory: said(entry.memory),
        group_memory: declared,
    })
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
        // It follows its flag as an argument of its own, and must not become another.
        if word.value.is_empty() || word.value.starts_with('-') {
            return Err(wrong(word, format!("`{}` is no word for vLLM", word.value)));
        }
    }
    Ok(())
}

/// A stand-in is local: prompts that were meant for the centre go to no third party because of a typing error.
fn check_url(url: &Spanned<Url>) -> Result<(), YamlError> {
    let address = &url.value;
    if !matches!(address.scheme(), "http" | "https") {
        return Err(wrong(url, format!("`{address}` is neither http nor https")));
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
        Ok(OneOrMany(vec![text.parse().map_err(E::custom)?]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<OneOrMany, A::Error> {
        let mut names = Vec::new();
        while let Some(name) = list.next_element()? {
            names.push(name);
        }
        Ok(OneOrMany(names))
    }
}
