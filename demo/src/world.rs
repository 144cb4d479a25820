//! The stage: a provider, mcpd, a network path, mcplocal, an administrator and a user.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};
use mcpctl_api::agent::{EngineState, FailoverRecord};
use mcpctl_client::{Client, ClientOptions, Probe};
use mcpctl_failover::{AccessVerdict, FailoverRouter, LlmRef};
use secrecy::{ExposeSecret as _, SecretString};

use xtask::{engines::llama_server::LlamaServer, printer::Printer};

use crate::{
    chat::{self, Reply},
    programs::{Program, free_port, ours},
    relay::Relay,
};

/// The central Llm.
pub(crate) const LLM: &str = "claude";
/// The local provider to fall back to.
pub(crate) const PROVIDER: &str = "desk";
/// What gives the user its rights, and is revoked.
const BINDING: &str = "dev-uses-llms";

pub(crate) struct World {
    // In the order in which they are ended: the agent first, so that it ends its engine.
    mcplocal: Option<Program>,
    mcpd: Option<Program>,
    provider: Option<Program>,
    path: Relay,
    model: LlamaServer,
    provider_at: SocketAddr,
    mcpd_url: String,
    agent_url: String,
    local_key: SecretString,
    user_token: SecretString,
    dir: tempfile::TempDir,
}

/// The engine's state in `/status`.
#[derive(Debug, Clone)]
pub(crate) struct EngineSeen {
    pub(crate) state: EngineState,
    pub(crate) in_flight: usize,
    /// Lines of its log about finished completions.
    pub(crate) completions: usize,
}

impl World {
    pub(crate) async fn build(printer: &Printer, model: LlamaServer) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("mcpctl-demo-").tempdir()?;
        printer.note("starting the provider, mcpd and mcplocal on free ports");
        let provider_at = free_port()?;
        let mut mcpd = Program::start(
            "mcpd",
            Command::new(ours("mcpd")?).arg("serve").arg("--data-dir").arg(dir.path().join("mcpd")).args([
                "--listen",
                "127.0.0.1:0",
                "--inference-listen",
                "127.0.0.1:0",
            ]),
            dir.path(),
        )?;
        let listen = address(&mcpd.wait_for_line("mcpd is ready listen=").await?)?;
        let inference = address(&mcpd.wait_for_line("inference has an address of its own listen=").await?)?;
        let path = Relay::open(inference).await?;
        let mut world = Self {
            mcplocal: None,
            mcpd: Some(mcpd),
            provider: None,
            path,
            model,
            provider_at,
            mcpd_url: format!("http://{listen}"),
            agent_url: String::new(),
            local_key: SecretString::default(),
            user_token: SecretString::default(),
            dir,
        };
        world.start_provider(printer).await?;
        world.set_up(printer)?;
        world.start_agent().await?;
        Ok(world)
    }

    /// Everything that an administrator and a user do once.
    fn set_up(&mut self, printer: &Printer) -> Result<()> {
        let dir = self.dir.path();
        let token_file = dir.join("mcpd/bootstrap-token").display().to_string();
        let server = self.mcpd_url.clone();
        self.mcpctl(printer, &["login", &server, "--context", "admin", "--token-file", &token_file])?;
        let documents = format!(
            "kind: Llm\nname: {LLM}\ntype: openai\nurl: http://{}/v1\nmodel: smollm2\n---\n\
             kind: User\nname: dev\n---\n\
             kind: RoleBinding\nname: {BINDING}\nrole: llm-user\nsubjects: [{{kind: User, name: dev}}]\n",
            self.provider_at
        );
        fs::write(dir.join("setup.yaml"), documents)?;
        let setup = dir.join("setup.yaml").display().to_string();
        self.mcpctl(printer, &["apply", "-f", &setup])?;
        let token = self.mcpctl(printer, &["create", "token", "dev-laptop", "--for", "User/dev"])?;
        self.user_token = SecretString::from(token.trim());
        let token_file = dir.join("dev-token");
        fs::write(&token_file, self.user_token.expose_secret())?;
        let token_file = token_file.display().to_string();
        self.mcpctl(printer, &["login", &server, "--context", "dev", "--token-file", &token_file])?;
        Ok(())
    }

    async fn start_agent(&mut self) -> Result<()> {
        let dir = self.dir.path();
        let config = format!(
            "server: {}\ninference: http://{}\nlisten: 127.0.0.1:0\nproviders:\n  - name: {PROVIDER}\n    \
             type: llama-server-managed\n    command: {}\n    model: {}\n    contextLength: 2048\n    \
             idleTimeout: 10m\n    failoverFor: {LLM}\n",
            self.mcpd_url,
            self.path.address(),
            yaml(&self.model.program),
            yaml(&self.model.weights),
        );
        fs::write(dir.join("mcplocal.yaml"), config)?;
        let mut agent = Program::start(
            "mcplocal",
            Command::new(ours("mcplocal")?).arg("--config").arg(dir.join("mcplocal.yaml")).envs(self.homes()),
            dir,
        )?;
        let listen = address(&agent.wait_for_line("mcplocal is ready listen=").await?)?;
        self.agent_url = format!("http://{listen}");
        self.mcplocal = Some(agent);
        let key = fs::read_to_string(dir.join("state/mcpctl/mcplocal/local-key"))?;
        self.local_key = SecretString::from(key.trim());
        Ok(())
    }

    fn homes(&self) -> [(&'static str, PathBuf); 2] {
        let dir = self.dir.path();
        [("XDG_CONFIG_HOME", dir.join("config")), ("XDG_STATE_HOME", dir.join("state"))]
    }

    /// Runs mcpctl as a person would, and answers what it printed.
    fn mcpctl(&self, printer: &Printer, args: &[&str]) -> Result<String> {
        let shown: Vec<String> = args.iter().map(|arg| shorten(arg, self.dir.path())).collect();
        printer.command(&format!("mcpctl {}", shown.join(" ")));
        let output = Command::new(ours("mcpctl")?).args(args).envs(self.homes()).output()?;
        ensure!(
            output.status.success(),
            "mcpctl {} failed: {}",
            shown.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    pub(crate) async fn start_provider(&mut self, printer: &Printer) -> Result<()> {
        let port = self.provider_at.port().to_string();
        let mut provider = Program::start(
            "provider",
            Command::new(&self.model.program)
                .arg("-m")
                .arg(&self.model.weights)
                .args([
                    "--host",
                    "127.0.0.1",
                    "--port",
                    &port,
                    "--alias",
                    "smollm2",
                    "-c",
                    "2048",
                    "-np",
                    "1",
                ])
                .args(["--no-ui", "--offline", "--sse-ping-interval", "1"]),
            self.dir.path(),
        )?;
        provider.answers(&format!("http://{}", self.provider_at)).await?;
        printer.note("the provider answers");
        self.provider = Some(provider);
        Ok(())
    }

    pub(crate) fn kill_provider(&mut self, printer: &Printer) {
        if let Some(provider) = self.provider.take() {
            provider.kill();
            printer.note("the provider is killed");
        }
    }

    pub(crate) async fn cut(&mut self, printer: &Printer) {
        self.path.cut().await;
        printer.note("the path between mcplocal and mcpd's inference is cut");
    }

    pub(crate) async fn restore(&mut self, printer: &Printer) -> Result<()> {
        self.path.restore().await?;
        printer.note("the path is whole again");
        Ok(())
    }

    pub(crate) fn revoke(&self, printer: &Printer) -> Result<()> {
        self.mcpctl(printer, &["--context", "admin", "delete", "rolebinding", BINDING]).map(drop)
    }

    pub(crate) fn grant(&self, printer: &Printer) -> Result<()> {
        let setup = self.dir.path().join("setup.yaml").display().to_string();
        self.mcpctl(printer, &["--context", "admin", "apply", "-f", &setup]).map(drop)
    }

    /// Asks the model as the user does: with the local key, through the agent.
    pub(crate) async fn chat(&self, printer: &Printer) -> Result<Reply> {
        let agent = self.agent()?;
        chat::ask(printer, &agent, &agent).await
    }

    fn agent(&self) -> Result<Client> {
        Ok(Client::new(self.agent_url.parse()?, Some(self.local_key.clone()), &ClientOptions::default())?)
    }

    /// Whether mcpd lets the user view the Llm, by the same probe that the agent sends.
    pub(crate) async fn probe(&self) -> Result<AccessVerdict> {
        let probe = Probe::new(self.mcpd_url.parse()?)?;
        let bearer = mcpctl_failover::Bearer::new(self.user_token.expose_secret());
        let router = FailoverRouter::new(probe);
        Ok(router.check_access(&LlmRef::named(LLM), &bearer, true).await)
    }

    pub(crate) async fn engine(&self) -> Result<EngineSeen> {
        let status = self.agent()?.local_status().await?;
        let provider = status.providers.into_iter().next();
        let engine = provider.and_then(|provider| provider.engine).context("the engine's status")?;
        Ok(EngineSeen { state: engine.state, in_flight: engine.in_flight, completions: self.completions() })
    }

    pub(crate) async fn last_failover(&self) -> Result<FailoverRecord> {
        let status = self.agent()?.local_status().await?;
        status.last_failover.context("the last failover")
    }

    /// Completions that the engine answered since, by its own log.
    pub(crate) fn engine_completions(&self, since: &EngineSeen) -> usize {
        self.completions().saturating_sub(since.completions)
    }

    fn completions(&self) -> usize {
        let log = self.dir.path().join(format!("state/mcpctl/mcplocal/logs/{PROVIDER}.log"));
        let log = fs::read_to_string(log).unwrap_or_default();
        log.lines().filter(|line| line.contains("print_timing") || line.contains("launch_slot_")).count()
    }

    pub(crate) fn print_how_to_use(&self, printer: &Printer) -> Result<()> {
        printer
            .title("everything keeps running; Ctrl-C ends it. In another terminal, any OpenAI client works:");
        anstream::println!();
        for (name, value) in self.homes() {
            anstream::println!("  export {name}={}", value.display());
        }
        anstream::println!("  export MCPLOCAL_ADDRESS={}", self.agent_url);
        anstream::println!("  export OPENAI_BASE_URL={}/v1", self.agent_url);
        anstream::println!("  export OPENAI_API_KEY={}", self.local_key.expose_secret());
        anstream::println!("\n  {} chat {LLM} -p 'Write a greeting'", ours("mcpctl")?.display());
        anstream::println!("  {} local status\n", ours("mcpctl")?.display());
        Ok(())
    }

    /// Ends everything in good order, and looks that nothing is left.
    pub(crate) async fn end(mut self, printer: &Printer) -> Result<()> {
        printer.step("everything ends");
        let (agent, mcpd) = (self.mcplocal.take(), self.mcpd.take());
        for program in [agent, mcpd].into_iter().flatten() {
            let log = program.log()?;
            program.end().await?;
            if log.contains(self.user_token.expose_secret()) {
                bail!("a log holds the user's token");
            }
        }
        if let Some(provider) = self.provider.take() {
            provider.end().await?;
        }
        // Records of running engines; the sockets that they listen at are in a directory beside them.
        let engines = self.dir.path().join("state/mcpctl/mcplocal/engines");
        let sockets = fs::read_dir(engines.join("run")).into_iter().flatten().count();
        let records = fs::read_dir(&engines)?.flatten().filter(|entry| entry.path().is_file()).count();
        ensure!(records + sockets == 0, "the agent left an engine behind");
        printer.seen("the agent ended its engine before it ended itself");
        Ok(())
    }
}

/// `127.0.0.1:3100 version=…` begins with an address.
fn address(rest: &str) -> Result<SocketAddr> {
    let text = rest.split_whitespace().next().unwrap_or_default();
    text.parse().with_context(|| format!("`{text}` is not an address"))
}

/// A path as a YAML text.
fn yaml(path: &Path) -> String {
    serde_json::Value::from(path.display().to_string()).to_string()
}

/// Temporary folders are noise in a story.
fn shorten(arg: &str, dir: &Path) -> String {
    arg.replace(&format!("{}/", dir.display()), "")
}
