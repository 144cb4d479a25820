//! `mcpctl top`: what mcpd's Llms and the agent's model servers are doing now, again and again on a terminal, or once.

mod rates;
mod view;

use std::{
    io::IsTerminal as _,
    process::ExitCode,
    time::{Duration, Instant},
};

use mcpctl_api::{HumanDuration, activity::Activity, agent::AgentStatus};
use mcpctl_client::{Client, ClientError, ClientOptions};
use tokio::time::MissedTickBehavior;

use crate::{
    Outcome, agent,
    context::Global,
    failure::Failure,
    output::{
        Shape,
        screen::{Screen, ScreenEvent},
    },
};
use view::View;

/// How often it may be asked at most, and at least.
const MIN_INTERVAL: Duration = Duration::from_millis(500);
const MAX_INTERVAL: Duration = Duration::from_secs(300);
/// How long an answer is waited for.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Keys that end it besides `q`: Ctrl-C and Ctrl-D, which are no signals on this screen.
const END_KEYS: [u8; 4] = [b'q', b'Q', 3, 4];

/// How often, and how it is shown.
#[derive(clap::Args)]
pub struct Args {
    /// How often to look, e.g. 500ms, 2s or 1m
    #[arg(long, short = 'd', default_value = "2s", value_name = "TIME", value_parser = interval)]
    interval: Duration,
    /// Print one table after one interval, and end; as where standard output is no terminal
    #[arg(long)]
    once: bool,
    /// table, wide, json or yaml; the latter two once
    #[arg(long, short, value_enum, default_value = "table")]
    output: Shape,
}

fn interval(text: &str) -> Result<Duration, String> {
    let HumanDuration(interval) = text.parse().map_err(|error| format!("{error}"))?;
    match (MIN_INTERVAL..=MAX_INTERVAL).contains(&interval) {
        true => Ok(interval),
        false => Err("it is between 500ms and 5m".to_owned()),
    }
}

/// Shows what is going on, until `q`.
pub async fn run(global: &Global, args: Args) -> Outcome {
    let sources = Sources::new(global)?;
    // What asking again does not change ends the command.
    let first = sources.ask().await.unless_hopeless(&sources)?;
    let mut view = View::new(args.interval, &sources.mcpd);
    view.add(first);
    let is_once = args.once || matches!(args.output, Shape::Json | Shape::Yaml);
    if is_once || !std::io::stdout().is_terminal() {
        tokio::time::sleep(args.interval).await;
        view.add(sources.ask().await.unless_hopeless(&sources)?);
        if !args.output.print(&view.report())? {
            view.print(args.output == Shape::Wide)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    watch(&sources, view, args.interval).await
}

/// Draws until the person ends it, or mcpd does not accept the credential any more.
async fn watch(sources: &Sources, mut view: View, interval: Duration) -> Outcome {
    let mut screen = Screen::open()?;
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + interval, interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let (columns, rows) = Screen::size();
        screen.draw(&view.page(columns, rows))?;
        let asked = async {
            ticks.tick().await;
            sources.ask().await
        };
        tokio::pin!(asked);
        let answers = loop {
            tokio::select! {
                answers = &mut asked => break answers,
                event = screen.event() => match event {
                    ScreenEvent::End => return Ok(ExitCode::SUCCESS),
                    ScreenEvent::Key(key) if END_KEYS.contains(&key) => return Ok(ExitCode::SUCCESS),
                    ScreenEvent::Key(_) => {}
                    ScreenEvent::Redraw => {
                        let (columns, rows) = Screen::size();
                        screen.draw(&view.page(columns, rows))?;
                    }
                },
            }
        };
        match answers.mcpd {
            // On the first screen again, where the error stays.
            Some(Err(error)) if is_denied(&error) => {
                drop(screen);
                return Err(error.into());
            }
            _ => view.add(answers),
        }
    }
}

/// Whether mcpd does not accept the credential. Anything else may pass, such as a proxy's own answer while mcpd restarts.
fn is_denied(error: &ClientError) -> bool {
    error.status().is_some_and(|status| [401, 403].contains(&status.as_u16()))
}

/// Whom to ask.
struct Sources {
    /// mcpd, or why it cannot be asked.
    mcpd: Result<Client, Failure>,
}

/// What came of asking once.
struct Answers {
    /// `None` where no mcpd can be asked.
    mcpd: Option<Result<Activity, ClientError>>,
    /// `None` where no agent runs.
    agent: Option<AgentStatus>,
    /// When they came.
    at: Instant,
}

impl Sources {
    /// mcpd as the command line names it, and this machine's agent.
    fn new(global: &Global) -> Result<Self, Failure> {
        let identity = global.identity();
        let mcpd = identity.and_then(|identity| {
            if identity.bearer.is_none() {
                return Err(identity.not_signed_in());
            }
            let options = ClientOptions { connect_timeout: TIMEOUT, timeout: TIMEOUT, ..identity.options() };
            Ok(Client::new(identity.server, identity.bearer, &options)?)
        });
        match mcpd {
            // A mistake in the command line stays one, whether or not an agent runs.
            Err(failure) if failure.is_usage() => Err(failure),
            mcpd => Ok(Self { mcpd }),
        }
    }

    /// Asks both at the same time.
    async fn ask(&self) -> Answers {
        let mcpd = async {
            match &self.mcpd {
                Ok(client) => Some(client.llm_activity().await),
                Err(_) => None,
            }
        };
        let (mcpd, agent) = tokio::join!(mcpd, agent::find());
        Answers { mcpd, agent: agent.ok().map(|agent| agent.status), at: Instant::now() }
    }
}

impl Answers {
    /// The answers, unless there is nothing to show of them, or mcpd will not answer later either.
    fn unless_hopeless(self, sources: &Sources) -> Result<Self, Failure> {
        match (self.mcpd, &sources.mcpd) {
            (Some(Err(error)), _) if !error.is_passing() || self.agent.is_none() => Err(error.into()),
            (None, Err(failure)) if self.agent.is_none() => Err(failure.clone()),
            (mcpd, _) => Ok(Self { mcpd, ..self }),
        }
    }
}
