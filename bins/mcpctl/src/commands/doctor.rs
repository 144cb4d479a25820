//! `mcpctl doctor`: what works on this machine, and what to do about what does not.

use std::process::ExitCode;

use mcpctl_client::{
    Client,
    config::{self, same_server},
};

use crate::{
    Outcome, agent,
    commands::local,
    context::Global,
    expiry,
    failure::Failure,
    output::{Tone, one_line},
};

/// Looks at everything in turn; exit code 1 where something does not work.
pub async fn run(global: &Global) -> Outcome {
    let mut report = Report { well: true };
    let contexts =
        global.config().map(|(path, config)| format!("{} in {}", config.contexts.len(), path.display()));
    let readable = contexts.is_ok();
    report.say("contexts", contexts)?;
    // Without the file nobody knows where the server is, and saying so again helps nobody.
    if readable {
        match global.identity() {
            Err(failure) => report.say("server", Err(failure))?,
            Ok(identity) => {
                let context = identity.context.clone();
                let at = identity.server.as_str().trim_end_matches('/').to_owned();
                let client = Client::new(identity.server.clone(), None, &identity.options())?;
                report.say("server", client.openapi().await.map(|_| at).map_err(Failure::from))?;
                let me = async { Ok::<_, Failure>(identity.client()?.whoami().await?) };
                let me = me.await;
                let end = me.as_ref().ok().map(|me| me.expires_at);
                report.say("signed in", me.map(|me| me.subject.to_string()))?;
                if let Some(warning) =
                    context.zip(end).and_then(|(context, end)| expiry::warning_of(&context, end))
                {
                    Report::warn("token", &warning)?;
                }
            }
        }
    }
    let found = agent::find().await.map(|agent| {
        let providers = agent.status.get("providers").and_then(|list| list.as_array()).map_or(0, Vec::len);
        let server =
            agent.server().map_or_else(String::new, |url| url.as_str().trim_end_matches('/').to_owned());
        let said = format!("speaks for {server}, local providers: {providers}");
        (said, server)
    });
    let server = found.as_ref().ok().map(|(_, server)| server.clone());
    report.say("mcplocal", found.map(|(said, _)| said))?;
    if let Some(server) = server {
        report.say("probe", Ok(trust_in_probe(&server)))?;
        Report::compare(global, &server)?;
    }
    report.configuration().await?;
    Ok(if report.well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What it rests on that a local model runs only while mcpd allows it: nothing in mcpd's answer proves who gave it.
fn trust_in_probe(server: &str) -> String {
    let on = if server.starts_with("https://") { "the TLS to" } else { "the program that listens at" };
    format!("as trustworthy as {on} {server}: mcpd's answers are not signed")
}

struct Report {
    well: bool,
}

impl Report {
    /// The agent forwards to its own server, whatever context is chosen here.
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

    /// What is wrong with mcplocal.yaml and the model servers that it names, where there is one.
    async fn configuration(&mut self) -> Result<(), Failure> {
        let file = config::config_dir()?.join("mcplocal.yaml");
        let Ok(program) = agent::program() else { return Ok(()) };
        if !file.exists() {
            return Ok(());
        }
        match local::doctor::failures(&program).await {
            Ok(failures) => {
                failures.into_iter().try_for_each(|(what, failure)| self.say(&what, Err(failure)))
            }
            Err(failure) => self.say("mcplocal.yaml", Err(failure)),
        }
    }

    /// Something that works, and soon may not.
    fn warn(what: &str, text: &str) -> Result<(), Failure> {
        data!(Tone::Warning, "warn"; " {what}: {}", one_line(text))
    }

    /// The report is what was asked for, so what is wrong stands in it too, on stdout.
    fn say(&mut self, what: &str, found: Result<String, Failure>) -> Result<(), Failure> {
        match found {
            Ok(text) => data!(Tone::Good, "ok  "; " {what}: {}", one_line(&text)),
            Err(failure) => {
                self.well = false;
                data!(Tone::Bad, "FAIL"; " {what}: {}", failure.in_one_line())
            }
        }
    }
}
