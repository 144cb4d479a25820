//! `mcplocal --doctor`: checks everything that the agent needs, whether it runs or not, with a hint for each finding.
//! `mcpctl local doctor` shows it.

use std::{path::Path, sync::Arc};

use bytesize::ByteSize;
use mcpctl_api::agent::{Finding, FindingState, ProofState};
use mcpctl_client::{Client, ClientError, ClientOptions, Trust, config as user};
use mcpctl_engine::{EngineOptions, EngineSpec, Gpu, Need, OtherPrograms, SpecError};
use nix::sys::statvfs::statvfs;
use reqwest::redirect::Policy;
use url::Url;

use crate::{
    capabilities::{ModelInfo, ModelProbe, ModelProbeError},
    config::{Config, DefaultServer, ProviderConfig},
    llm_names::{self, UnknownLlm},
    probing::proof_keys::KeyRing,
    providers,
};

/// Bytes of free disk below which there is a warning: logs and journal of a busy day.
const MIN_FREE_SPACE: u64 = 1 << 30;

/// Checks everything; only the machine where the configuration cannot be read.
pub async fn examine(config: &Path, state_dir: &Path) -> Vec<Finding> {
    let gpus = mcpctl_engine::gpus().await;
    let programs = mcpctl_engine::other_programs().await;
    let mut findings = Vec::new();
    let contexts = user::Config::default_path().unwrap_or_default();
    match Config::read(config, DefaultServer::Context(&contexts)) {
        Err(error) => {
            findings.push(
                Finding::new("configuration", FindingState::Failed, error.to_string()).hint(error.hint()),
            );
        }
        Ok(read) => {
            let message = format!("{}, local providers: {}", config.display(), read.providers.len());
            findings.push(Finding::new("configuration", FindingState::Ok, message));
            findings.push(mcpd("mcpd", &read.server, &read.trust).await);
            if read.inference != read.server {
                findings.push(mcpd("inference", &read.inference, &read.trust).await);
            }
            findings.push(probe(&read).await);
            for provider in &read.providers {
                findings.extend(look_at(provider, &gpus, &programs).await);
            }
            findings.extend(unknown_llms(&read).await);
        }
    }
    findings.push(memory(&gpus, &programs));
    findings.push(disk(state_dir));
    findings.extend(journal(state_dir));
    findings
}

/// Whether the journal is whole; none where there is no journal yet.
fn journal(state_dir: &Path) -> Option<Finding> {
    let report = match mcpctl_journal::verify(state_dir, None, &[]) {
        Ok(report) => report,
        Err(error) => {
            let message = format!("{}: {error}", state_dir.join("journal.jsonl").display());
            return Some(Finding::new("journal", FindingState::Failed, message));
        }
    };
    if let Some(problem) = report.problems.first() {
        let message = format!("{}: {}", problem.place, problem.message);
        let hint = "`mcpctl local journal verify` shows all; keep the files of the journal as evidence";
        return Some(Finding::new("journal", FindingState::Failed, message).hint(Some(hint.to_owned())));
    }
    let waiting = report.last?.saturating_sub(report.handed_over);
    let message = match waiting {
        0 => format!("lines: {}, all handed over to mcpd", report.lines),
        waiting => format!("lines: {}, not handed over to mcpd yet: {waiting}", report.lines),
    };
    Some(Finding::new("journal", FindingState::Ok, message))
}

/// Whether mcpd responds at an address. An error response is one too.
async fn mcpd(what: &str, server: &Url, trust: &Trust) -> Finding {
    let at = server.as_str().trim_end_matches('/').to_owned();
    let options = ClientOptions { trust: trust.clone(), ..ClientOptions::default() };
    let asked = async { Client::new(server.clone(), None, &options)?.models().await };
    match asked.await {
        Ok(_) | Err(ClientError::Refused { .. }) => Finding::new(what, FindingState::Ok, at),
        Err(error) => Finding::new(what, FindingState::Failed, error.to_string()).hint(error.hint()),
    }
}

/// Names in `failoverFor` that mcpd does not list for the signed-in user; none where mcpd cannot be asked.
async fn unknown_llms(config: &Config) -> Vec<Finding> {
    let Ok(contexts) = user::Config::default_path() else { return Vec::new() };
    let unknown = llm_names::unknown(config, &contexts).await.unwrap_or_default();
    let finding = |unknown: UnknownLlm| {
        let what = format!("provider {}", unknown.provider);
        Finding::new(what, FindingState::Warning, unknown.to_string()).hint(Some(unknown.hint()))
    };
    unknown.into_iter().map(finding).collect()
}

/// How far mcpd's answers are verified, by which keys, and whether mcpd signs with one of them.
async fn probe(config: &Config) -> Finding {
    let contexts = user::Config::default_path().unwrap_or_default();
    let keys = KeyRing::new(config.server.clone(), config.proof_keys.clone(), contexts, Arc::default(), None);
    keys.compare(&config.trust).await;
    let status = keys.status().await;
    if let Some(unverified) = status.unverified {
        return Finding::new("probe", FindingState::Failed, unverified.reason).hint(status.hint);
    }
    let state = match status.state {
        ProofState::Pinned => FindingState::Ok,
        ProofState::Unpinned => FindingState::Warning,
        ProofState::Unreadable => FindingState::Failed,
    };
    Finding::new("probe", state, status.describe(&config.server)).hint(status.hint)
}

async fn look_at(provider: &ProviderConfig, gpus: &[Gpu], programs: &OtherPrograms) -> Vec<Finding> {
    let what = format!("provider {}", provider.name);
    let Some((spec, options)) = providers::engine_config(provider) else {
        return server(what, provider).await;
    };
    if let Err(error) = spec.check_available(options).await {
        let mut message = error.to_string();
        if let SpecError::NoProgram { .. } = error
            && spec.command.is_none()
            && spec.venv.is_none()
        {
            let places = spec.server.search_paths();
            let places: Vec<_> = places.iter().filter_map(|place| place.parent()?.to_str()).collect();
            message = format!("{message}; looked for it in {}", places.join(", "));
        }
        return vec![Finding::new(what, FindingState::Failed, message).hint(error.hint())];
    }
    let program = spec.program().map(|program| program.display().to_string()).unwrap_or_default();
    let mut findings = vec![Finding::new(&what, FindingState::Ok, program), model(&what, spec)];
    findings.extend(tools(provider, None));
    findings.extend(room(&what, options, gpus, programs));
    if gpus.is_empty() {
        findings.extend(spec.server.cpu_notices(options).into_iter().map(|notice| {
            let state = if notice.is_fatal { FindingState::Failed } else { FindingState::Warning };
            Finding::new(&what, state, notice.message).hint(Some(notice.hint))
        }));
    }
    findings
}

fn model(what: &str, spec: &EngineSpec) -> Finding {
    let path = spec.model_path().unwrap_or_default();
    match std::fs::metadata(&path) {
        Ok(file) if file.is_file() => {
            let message = format!("model {}, {}", path.display(), bytes(file.len()));
            Finding::new(what, FindingState::Ok, message)
        }
        Ok(_) => Finding::new(what, FindingState::Ok, format!("model {}", path.display())),
        Err(_) if spec.server.downloads_models() => match spec.server.downloaded_model(&spec.model) {
            Some(cached) => Finding::new(what, FindingState::Ok, format!("model {}", cached.display())),
            None => Finding::new(what, FindingState::Warning, format!("the model `{}` is not downloaded yet", spec.model))
                .hint(Some(format!(
                    "its first start downloads it, which may take longer than `startTimeout`; before it: hf download {}",
                    spec.model
                ))),
        },
        Err(error) => Finding::new(what, FindingState::Failed, format!("model {}: {error}", path.display())),
    }
}

/// Whether the engine can ever fit into the GPUs' memory, and whether other programs leave it enough at this moment.
fn room(what: &str, options: &EngineOptions, gpus: &[Gpu], programs: &OtherPrograms) -> Option<Finding> {
    let largest = gpus.iter().map(|gpu| gpu.total).max()?;
    if let Some((shortage, hint)) = mcpctl_engine::shortage(options, gpus, programs) {
        let message = format!("it {shortage}");
        return Some(Finding::new(what, FindingState::Warning, message).hint(Some(hint.to_owned())));
    }
    let Need::Bytes(need) = options.placement.need else { return None };
    let all: u64 = gpus.iter().map(|gpu| gpu.total).sum();
    Some(if need > all {
        let message = format!("it needs {}, and the machine has {}", bytes(need), bytes(all));
        Finding::new(what, FindingState::Failed, message)
            .hint(Some("choose a smaller model, or a stronger quantization".to_owned()))
    } else if need > largest {
        let message = format!("it needs {}, and the largest GPU has {}", bytes(need), bytes(largest));
        Finding::new(what, FindingState::Warning, message)
            .hint(Some("spread it: `tensorParallelSize`".to_owned()))
    } else {
        Finding::new(what, FindingState::Ok, format!("needs {}", bytes(need)))
    })
}

/// Whether requests with tools fall back to a provider; none where it is for no Llm.
fn tools(provider: &ProviderConfig, info: Option<&ModelInfo>) -> Option<Finding> {
    if provider.failover_for.is_empty() {
        return None;
    }
    let capabilities = providers::known_capabilities(provider, info);
    let gap = providers::tools_gap(provider, info);
    Some(Finding::tools(provider.name.as_str(), &capabilities, gap))
}

/// A server that the agent does not start.
async fn server(what: String, provider: &ProviderConfig) -> Vec<Finding> {
    let target = match providers::target(provider) {
        Ok(Some(target)) => target,
        Ok(None) => return vec![Finding::new(what, FindingState::Failed, "it has no address")],
        Err(error) => {
            return vec![Finding::new(what, FindingState::Failed, error.to_string()).hint(error.hint())];
        }
    };
    let http = reqwest::Client::builder().no_proxy().redirect(Policy::none()).build();
    let found = match http {
        Ok(http) => ModelProbe::new(&http, &target).ask().await,
        Err(error) => Err(ModelProbeError::NoList(error.to_string())),
    };
    let at = target.base_url.as_str().trim_end_matches('/').to_owned();
    let refused = ModelProbeError::Key { sent: target.credential.is_some() };
    let found = match found {
        Ok(found) if found.refuses_key => Err(refused),
        found => found,
    };
    let found = match found {
        Ok(found) => found,
        Err(error) => {
            let failed = Finding::new(what, FindingState::Failed, format!("{at}: {error}"));
            return vec![failed.hint(Some(error.hint()))];
        }
    };
    let listed = found.models.join(", ");
    let serves = match &found.model {
        None => Finding::new(what, FindingState::Failed, format!("{at} serves several models: {listed}"))
            .hint(Some("name one in `model`".to_owned())),
        Some(model) if !found.models.contains(model) => {
            Finding::new(what, FindingState::Warning, format!("{at} does not list `{model}`, only: {listed}"))
                .hint(Some("correct `model`, or load it there".to_owned()))
        }
        Some(model) => Finding::new(what, FindingState::Ok, format!("{at} serves `{model}`")),
    };
    std::iter::once(serves).chain(tools(provider, Some(&found))).collect()
}

fn memory(gpus: &[Gpu], programs: &OtherPrograms) -> Finding {
    let one = |gpu: &Gpu| {
        let free = format!("{}: {} free of {}", gpu.name, bytes(gpu.free), bytes(gpu.total));
        programs.describe([gpu]).map_or_else(|| free.clone(), |holders| format!("{free}, {holders}"))
    };
    let each: Vec<String> = gpus.iter().map(one).collect();
    if each.is_empty() {
        let message = "no driver reports a GPU: engines run on the CPU, and their memory is not counted";
        return Finding::new("gpu", FindingState::Warning, message);
    }
    Finding::new("gpu", FindingState::Ok, each.join("; "))
}

fn disk(state_dir: &Path) -> Finding {
    // The first start creates it; until then its nearest parent is on the same disk.
    let there = state_dir.ancestors().find(|dir| dir.is_dir()).unwrap_or(state_dir);
    match statvfs(there) {
        Err(error) => Finding::new("disk", FindingState::Failed, format!("{}: {error}", there.display())),
        Ok(disk) => {
            let free = disk.blocks_available().saturating_mul(disk.fragment_size());
            let message = format!("{} free at {}", bytes(free), state_dir.display());
            if free < MIN_FREE_SPACE {
                Finding::new("disk", FindingState::Warning, message)
                    .hint(Some("without a journal nothing runs locally: make room".to_owned()))
            } else {
                Finding::new("disk", FindingState::Ok, message)
            }
        }
    }
}

fn bytes(count: u64) -> String {
    ByteSize::b(count).display().iec().to_string()
}
