//! `mcpctl wait`: until a resource is there or gone, a field has a value, or an Llm can be used. It reads mcpd's watch, goes on after
//! a restart of mcpd, and gives up at the end of its time.

use std::{process::ExitCode, str::FromStr, time::Duration};

use futures::StreamExt as _;
use mcpctl_api::{
    HumanDuration, Id, Kind, Resource, Revision,
    breaker_status::{LlmState, LlmStatus},
};
use mcpctl_client::{Client, ClientError};
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    reconnect::{Backoff, may_return},
    selection::SelectionArgs,
    targets::kinds_of,
};
use crate::{
    Outcome,
    context::Global,
    failure::Failure,
    output::{
        fields::{Known, Root},
        jsonpath::JsonPath,
    },
};

/// How often what no watch reports is read.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// What to wait for.
#[derive(clap::Args)]
pub struct Args {
    /// A kind and names or ids, e.g. llm claude
    #[arg(value_name = "KIND [NAME]... | KIND/NAME", required_unless_present = "files")]
    what: Vec<String>,
    #[command(flatten)]
    selection: SelectionArgs,
    /// create, delete, jsonpath={.path}=value, or of an Llm condition=ready (mcpd would send it a request) or condition=available
    /// (it answered the last one)
    #[arg(long = "for", value_name = "WHAT")]
    condition: Condition,
    /// How long; 0s looks once
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    timeout: HumanDuration,
}

/// `--for`
#[derive(Debug, Clone)]
enum Condition {
    Create,
    Delete,
    /// A field has this value, or any where none is given.
    Field(JsonPath, Option<String>),
    Ready,
    Available,
}

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // kubectl writes conditions with a capital.
        match text.to_ascii_lowercase().as_str() {
            "create" => return Ok(Self::Create),
            "delete" => return Ok(Self::Delete),
            "condition=ready" => return Ok(Self::Ready),
            "condition=available" => return Ok(Self::Available),
            _ => {}
        }
        let Some(field) = text.strip_prefix("jsonpath=").filter(|field| !field.is_empty()) else {
            return Err(
                "write create, delete, jsonpath={.path}=value, condition=ready or condition=available"
                    .to_owned(),
            );
        };
        let (path, value) = JsonPath::with_value(field)?;
        Ok(Self::Field(path, value))
    }
}

impl Condition {
    /// Whether no watch reports it.
    const fn is_polled(&self) -> bool {
        matches!(self, Self::Ready | Self::Available)
    }
}

/// Waits.
pub async fn run(global: &Global, args: &Args) -> Outcome {
    let deadline = Instant::now() + args.timeout.0;
    let targets = args.selection.targets(|| global.client(), &args.what).await?;
    if let Some((kind, _)) = targets.iter().find(|(kind, _)| args.condition.is_polled() && *kind != Kind::Llm)
    {
        return Err(Failure::usage(format!("only an Llm has conditions, a {kind} has none"))
            .hint("wait for a field: --for=jsonpath={.path}=value"));
    }
    if let Condition::Field(template, _) = &args.condition {
        // A field that none of them has would never get a value.
        let unknown = Known::new(&kinds_of(&targets), Root::Resource).unknown_in_template(template);
        if let Some(unknown) = unknown.into_iter().next() {
            return Err(unknown);
        }
    }
    let client = global.client()?;
    for (kind, name) in &targets {
        let mut waiting =
            Waiting { client: &client, kind: *kind, name, condition: &args.condition, id: None };
        match timeout_at(deadline, waiting.until_met()).await {
            Ok(met) => met?,
            // Looked at once at least, also without time.
            Err(_) if args.timeout.is_zero() && waiting.is_met().await? => {}
            Err(_) => {
                let what = format!("{}/{name}", kind.plural());
                return Err(Failure::new(format!("{what}: not met after {}", args.timeout))
                    .hint(format!("`mcpctl describe {} {name}` shows how it is", kind.plural())));
            }
        }
        data!("{}/{name} condition met", kind.plural())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A resource that is waited for.
struct Waiting<'a> {
    client: &'a Client,
    kind: Kind,
    name: &'a str,
    condition: &'a Condition,
    /// Of the resource that was there first: another one of its name is another resource.
    id: Option<Id>,
}

impl Waiting<'_> {
    async fn until_met(&mut self) -> Result<(), Failure> {
        let mut backoff = Backoff::new();
        loop {
            // The watch before the look, so that no change between the two is missed.
            let watch = self.client.watch(&[self.kind], None::<Revision>).await;
            let mut changes = match watch {
                Ok(response) => response.bytes_stream(),
                Err(error) if may_return(&error) => {
                    backoff.wait().await;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            loop {
                match self.is_met().await {
                    Ok(true) => return Ok(()),
                    Ok(false) => {}
                    Err(Fault::Passing) => break,
                    Err(Fault::Lasting(failure)) => return Err(failure),
                }
                let change = changes.next();
                let next = if self.condition.is_polled() {
                    tokio::select! { next = change => next, () = sleep(POLL_INTERVAL) => continue }
                } else {
                    change.await
                };
                // Any event, also a sign of life, is worth a look.
                if !matches!(next, Some(Ok(_))) {
                    break;
                }
                backoff.reset();
            }
            backoff.wait().await;
        }
    }

    async fn is_met(&mut self) -> Result<bool, Fault> {
        let found = match self.client.get(self.kind, self.name).await {
            Ok(resource) => Some(resource),
            Err(error) if error.is_missing() => None,
            Err(error) => return Err(error.into()),
        };
        let is_other = |resource: &Resource| self.id.as_ref().is_some_and(|id| *id != resource.id);
        let (what, plural) = (self.name, self.kind.plural());
        match (self.condition, found) {
            (Condition::Create, found) => Ok(found.is_some()),
            (Condition::Delete, None) => Ok(true),
            (Condition::Delete, Some(resource)) if is_other(&resource) => Ok(true),
            (_, None) if self.id.is_some() => {
                Err(Fault::Lasting(Failure::new(format!("{plural}/{what} was deleted meanwhile"))))
            }
            (_, None) => Err(Fault::Lasting(
                Failure::new(format!("there is no {} `{what}`", self.kind))
                    .hint("--for=create waits for one"),
            )),
            (condition, Some(resource)) => {
                let is_met = match condition {
                    Condition::Field(path, value) => {
                        let json = serde_json::to_value(&resource).map_err(Failure::from)?;
                        let has = path.render(&json);
                        value.as_ref().map_or(!has.is_empty(), |value| *value == has)
                    }
                    Condition::Ready => can_be_sent(&self.client.llm_status(resource.id.as_str()).await?),
                    Condition::Available => {
                        self.client.llm_status(resource.id.as_str()).await?.state == LlmState::Ok
                    }
                    Condition::Create | Condition::Delete => false,
                };
                self.id = Some(resource.id);
                Ok(is_met)
            }
        }
    }
}

/// Whether mcpd would send a request to the Llm; the breaker that is half open lets the next one through.
fn can_be_sent(status: &LlmStatus) -> bool {
    !matches!(status.state, LlmState::BreakerOpen | LlmState::NoCredential) && status.void_keys.is_empty()
}

/// Why a resource cannot be looked at.
enum Fault {
    /// mcpd may be restarting.
    Passing,
    /// Another time would be no different.
    Lasting(Failure),
}

impl From<ClientError> for Fault {
    fn from(error: ClientError) -> Self {
        if may_return(&error) { Self::Passing } else { Self::Lasting(error.into()) }
    }
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        Self::Lasting(failure)
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Passing => Self::new("mcpd cannot be reached"),
            Fault::Lasting(failure) => failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read_as_in_kubectl() {
        let read = |text: &str| text.parse::<Condition>().unwrap();
        assert!(matches!(read("create"), Condition::Create));
        assert!(matches!(read("delete"), Condition::Delete));
        assert!(matches!(read("condition=ready"), Condition::Ready));
        let json = serde_json::json!({"model": "gpt-5"});
        for (text, expected) in [
            ("jsonpath={.model}=gpt-5=", Some("gpt-5=")),
            ("jsonpath={.model}", None),
            ("jsonpath=.model=gpt-5", Some("gpt-5")),
            ("jsonpath=model", None),
            ("jsonpath=$['model']=", Some("")),
        ] {
            let Condition::Field(path, value) = read(text) else { panic!("{text}") };
            assert_eq!((path.render(&json).as_str(), value.as_deref()), ("gpt-5", expected));
        }
        for wrong in [
            "",
            "ready",
            "condition=up",
            "jsonpath=",
            "jsonpath==x",
            "jsonpath={}=x",
            "jsonpath={.model",
            "jsonpath={.model}x",
            "jsonpath={.model}{.name}=x",
        ] {
            assert!(wrong.parse::<Condition>().is_err(), "{wrong}");
        }
    }
}
