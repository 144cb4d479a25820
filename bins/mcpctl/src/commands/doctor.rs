//! `mcpctl doctor`: checks this machine's set-up, and gives the next step for each failure.

use std::process::ExitCode;

use jiff::{SignedDuration, Timestamp};
use mcpctl_api::{
    agent::{AgentStatus, FollowState, ProofState},
    installation::{DatabaseKind, Installation, ProxyState, TlsState},
};
use mcpctl_client::{
    Client,
    config::{self, same_server},
    expiry,
};

use crate::{
    Outcome, agent,
    commands::local,
    context::{Global, Identity},
    failure::Failure,
    output::{Tone, finding, table::until},
};

/// How long before its end a certificate should have been renewed.
const RENEWAL: SignedDuration = SignedDuration::from_hours(14 * 24);

/// Runs all checks; exit code 1 where one failed.
pub async fn run(global: &Global) -> Outcome {
    let mut report = Report { well: true };
    let contexts =
        global.config().map(|(path, config)| format!("{} in {}", config.contexts.len(), path.display()));
    let readable = contexts.is_ok();
    report.print("contexts", contexts)?;
    // Without the file no server is known, and further checks would repeat the same failure.
    if readable {
        match global.identity() {
            Err(failure) => report.print("server", Err(failure))?,
            Ok(identity) => {
                let context = identity.context.clone();
                let at = identity.server.as_str().trim_end_matches('/').to_owned();
                let client = Client::new(identity.server.clone(), None, &identity.options())?;
                report.print("server", client.openapi().await.map(|_| at).map_err(Failure::from))?;
                let me = async { Ok::<_, Failure>(identity.clone().client()?.whoami().await?) };
                let me = me.await;
                let end = me.as_ref().ok().map(|me| me.expires_at);
                report.print("signed in", me.map(|me| me.subject.to_string()))?;
                report.installation(&identity).await?;
                if let Some(warning) =
                    context.zip(end).and_then(|(context, end)| expiry::warning_of(&context, end))
                {
                    Report::warn("token", &warning.to_string())?;
                }
            }
        }
    }
    let found = agent::find().await.map(|agent| {
        let server = agent.status.server.as_str().trim_end_matches('/').to_owned();
        let text = format!("speaks for {server}, local providers: {}", agent.status.providers.len());
        (text, server, agent.status)
    });
    let agents = found.as_ref().ok().map(|(_, server, status)| (server.clone(), status.clone()));
    report.print("mcplocal", found.map(|(text, ..)| text))?;
    let agent_runs = agents.is_some();
    if let Some((server, status)) = agents {
        report.probe(&status)?;
        report.feed(&status)?;
        Report::compare(global, &server)?;
    }
    report.configuration(agent_runs).await?;
    Ok(if report.well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

struct Report {
    well: bool,
}

impl Report {
    /// Warns where the agent forwards to another server than that of the chosen context.
    fn compare(global: &Global, theirs: &str) -> Result<(), Failure> {
        let (Ok(identity), Ok(agents)) = (global.identity(), theirs.parse()) else { return Ok(()) };
        if same_server(&identity.server, &agents) {
            return Ok(());
        }
        let ours = identity.server.as_str().trim_end_matches('/');
        let text = format!(
            "the context is of {ours} and mcplocal speaks for {theirs}: `mcpctl config use-context`, or `server` in mcplocal.yaml"
        );
        Self::warn("context", &text)
    }

    /// Reports what goes on where mcpd fails, and the end of its certificate, to accounts that may know.
    async fn installation(&mut self, identity: &Identity) -> Result<(), Failure> {
        let Ok(client) = identity.clone().client() else { return Ok(()) };
        // Other accounts are denied, and an older mcpd has no such route.
        let Ok(Installation { database, inference_listener, proxy, tls, .. }) = client.installation().await
        else {
            return Ok(());
        };
        match database {
            DatabaseKind::Postgres => {
                self.print("replicas", Ok("PostgreSQL: several mcpd can serve it".to_owned()))?
            }
            DatabaseKind::Sqlite => Self::warn(
                "replicas",
                "one mcpd on SQLite: while it is down, only agents with an `offlineGrace` answer (docs/outages.md)",
            )?,
        }
        if inference_listener {
            self.print(
                "inference",
                Ok("has an address of its own: agents fail over where it alone fails".to_owned()),
            )?;
        } else {
            Self::warn(
                "inference",
                "shares mcpd's address, so that no probe is answered where it fails: `--inference-listen` (docs/outages.md)",
            )?;
        }
        match proxy {
            ProxyState::None => {}
            ProxyState::Trusted => self.print("proxy", Ok("mcpd trusts its `X-Forwarded-For`".to_owned()))?,
            ProxyState::Untrusted => Self::warn(
                "proxy",
                "mcpd does not trust it, so that all people behind it share one login throttle: name it in `trustedProxies`",
            )?,
        }
        tls.map_or(Ok(()), |tls| self.certificate(&tls))
    }

    fn certificate(&mut self, tls: &TlsState) -> Result<(), Failure> {
        if let Some(refused) = &tls.refused {
            let failure = Failure::new(format!("mcpd still uses the former one: {refused}"));
            return self.print("certificate", Err(failure));
        }
        let Some(end) = tls.valid_until else { return Ok(()) };
        let text = format!("ends {}", until(end));
        match Timestamp::now().saturating_add(RENEWAL) {
            Ok(then) if then >= end => Self::warn("certificate", &format!("{text}: renew it")),
            _ => self.print("certificate", Ok(text)),
        }
    }

    /// Reports how far the agent verifies mcpd's answers.
    fn probe(&mut self, status: &AgentStatus) -> Result<(), Failure> {
        let (proof, text) = (&status.proof, status.proof.describe(&status.server));
        let hint = proof.hint.clone().unwrap_or_default();
        if let Some(unverified) = &proof.unverified {
            let failure = Failure::new(&unverified.reason);
            let failure = if hint.is_empty() { failure } else { failure.hint(hint) };
            return self.print("probe", Err(failure));
        }
        match proof.state {
            ProofState::Pinned => self.print("probe", Ok(text)),
            ProofState::Unpinned => Self::warn("probe", &format!("{text}; pin it: {hint}")),
            ProofState::Unreadable => self.print("probe", Err(Failure::new(text).hint(hint))),
        }
    }

    /// Reports whether the agent learns at once that access has ended.
    fn feed(&mut self, status: &AgentStatus) -> Result<(), Failure> {
        let text = local::status::feed(status);
        match status.feed.state {
            FollowState::Off | FollowState::Connecting | FollowState::Following => {
                self.print("feed", Ok(text))
            }
            FollowState::Interrupted => Self::warn("feed", &text),
            FollowState::Denied => {
                self.print("feed", Err(Failure::new(text).hint(local::status::login_hint(status))))
            }
        }
    }

    /// Reports the failures of mcplocal.yaml and of the model servers that it names, where there is one.
    async fn configuration(&mut self, agent_runs: bool) -> Result<(), Failure> {
        let file = config::config_dir()?.join("mcplocal.yaml");
        let Ok(program) = agent::program() else { return Ok(()) };
        if !file.exists() {
            return Ok(());
        }
        match local::doctor::failures(&program).await {
            // The probe of an agent that runs is reported already.
            Ok(failures) => failures
                .into_iter()
                .filter(|(what, _)| !(agent_runs && what == "probe"))
                .try_for_each(|(what, failure)| self.print(&what, Err(failure))),
            Err(failure) => self.print("mcplocal.yaml", Err(failure)),
        }
    }

    /// Reports something that works, but may not for long.
    fn warn(what: &str, text: &str) -> Result<(), Failure> {
        finding::found(Tone::Warning, "warn", what, text)
    }

    /// Prints the result of a check. The report is the output of the command, so failures go to stdout too.
    fn print(&mut self, what: &str, found: Result<String, Failure>) -> Result<(), Failure> {
        match found {
            Ok(text) => finding::found(Tone::Good, "ok  ", what, &text),
            Err(failure) => {
                self.well = false;
                finding::found(Tone::Bad, "FAIL", what, &failure.in_one_line())
            }
        }
    }
}
