//! `mcpctl get -w`: what there is, and every change of it. It survives a restart of mcpd: it goes on from the last revision that it
//! has seen, and lists anew where mcpd no longer keeps the changes since then.

use std::{collections::HashMap, time::Duration};

use futures::StreamExt as _;
use mcpctl_api::{Id, Kind, Name, Resource, Revision};
use mcpctl_client::{Client, ClientError};
use mcpctl_dialect::sse::{Decoder, Frame};
use serde::Deserialize;

use super::{
    reconnect::{Backoff, may_return},
    statuses::statuses_of,
    targets::LabelSelector,
};
use crate::{
    failure::Failure,
    output::{
        Format,
        resources::{Change, Feed, Statuses},
    },
    suggest,
};

/// Maximum length of an event, in bytes.
const MAX_EVENT_BYTES: usize = 4 << 20;
/// mcpd sends a comment every 15 s; after this silence the connection counts as lost.
const MAX_SILENCE: Duration = Duration::from_secs(50);

#[derive(Deserialize)]
struct Gone {
    name: Name,
    id: Id,
}

/// A watch of one kind.
pub struct Watch<'a> {
    /// mcpd.
    pub client: &'a Client,
    /// Of what.
    pub kind: Kind,
    /// Only these, by name or id; all where there are none.
    pub names: Vec<String>,
    /// Only those with these labels.
    pub selector: Option<LabelSelector>,
    /// How they are shown.
    pub format: &'a Format,
    /// Where they are shown.
    pub feed: Feed<'a>,
    /// What was shown last of each.
    pub shown: HashMap<Id, Shown>,
}

/// What was shown last of a resource.
pub struct Shown {
    name: Name,
    revision: Revision,
    /// The whole, where an event of its deletion shows it.
    resource: Option<Resource>,
}

/// How long a stream without a frame is open until it counts as a connection: mcpd sends its first comment later.
const STEADY: Duration = Duration::from_secs(2);

/// The attempts to stay connected.
struct Attempts {
    backoff: Backoff,
    /// Whether the loss of the connection was reported last.
    lost: bool,
    /// Whether the stream brings frames, or at least stays open. The head of an answer alone shows nothing: there are proxies that send
    /// it, and cut the stream.
    steady: bool,
}

impl Attempts {
    fn new() -> Self {
        Self { backoff: Backoff::new(), lost: false, steady: false }
    }

    /// The stream brings frames, or stays open.
    fn succeeded(&mut self, since: Revision) {
        self.backoff.reset();
        self.steady = true;
        if std::mem::take(&mut self.lost) {
            note!("connected again; the watch goes on from revision {since}");
        }
    }

    /// Waits before the next one.
    async fn wait(&mut self) {
        self.backoff.wait().await;
        self.steady = false;
    }
}

/// Why a stream of changes has ended.
enum End {
    /// The connection was lost, or mcpd restarts.
    Lost,
    /// mcpd keeps no changes since that revision.
    Compacted,
}

impl Watch<'_> {
    /// Shows what there is, unless only changes are wanted, then every change, for ever; returns why it cannot go on.
    pub async fn run(mut self, only_changes: bool) -> Result<(), Failure> {
        for name in &self.names {
            if let Err(error) = self.client.get(self.kind, name).await {
                return Err(suggest::not_found(self.client, self.kind, name, error).await);
            }
        }
        let (mut since, items) = self.list().await?;
        self.remember(&items);
        if !only_changes {
            self.show(&items, Change::Added).await?;
        }
        let mut attempts = Attempts::new();
        loop {
            let ended = match self.client.watch(&[self.kind], Some(since)).await {
                Ok(response) => self.follow(response.bytes_stream(), &mut since, &mut attempts).await?,
                Err(error) if error.status().is_some_and(|status| status.as_u16() == 410) => End::Compacted,
                Err(error) if may_return(&error) => End::Lost,
                Err(error) => return Err(error.into()),
            };
            match ended {
                End::Compacted => match self.list().await {
                    Ok((revision, items)) => {
                        note!(
                            "mcpd no longer keeps the changes since revision {since}; what differs is shown"
                        );
                        self.show_differences(items).await?;
                        since = revision;
                    }
                    Err(error) if may_return(&error) => {}
                    Err(error) => return Err(error.into()),
                },
                End::Lost => {
                    if !std::mem::replace(&mut attempts.lost, true) {
                        note!(
                            "the connection to {} was lost; trying again",
                            self.client.server().as_str().trim_end_matches('/')
                        );
                    }
                }
            }
            attempts.wait().await;
        }
    }

    /// A list and its revision belong together, so that nothing is lost between the two; what is named is picked from it.
    async fn list(&self) -> Result<(Revision, Vec<Resource>), ClientError> {
        let selector = self.selector.as_ref().map(|selector| selector.text.as_str());
        let list = self.client.list(self.kind, selector).await?;
        let items = list.items.into_iter().filter(|item| self.wants(item.name.as_str(), item.id.as_str()));
        Ok((list.revision, items.collect()))
    }

    fn wants(&self, resource: &str, id: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|name| name == resource || name == id)
    }

    fn remember(&mut self, items: &[Resource]) {
        let keeps_all = self.feed.shows_deletions();
        let shown = |item: &Resource| Shown {
            name: item.name.clone(),
            revision: item.revision,
            resource: keeps_all.then(|| item.clone()),
        };
        self.shown.extend(items.iter().map(|item| (item.id.clone(), shown(item))));
    }

    async fn show(&mut self, items: &[Resource], change: Change) -> Result<(), Failure> {
        let statuses = statuses_of(self.client, items, self.format).await;
        self.feed.put(items, &statuses, change)
    }

    /// Shows that a resource is no longer there, or no longer selected: as an event, or in words.
    fn show_end(&mut self, name: &Name, shown: Option<Shown>, words: &str) -> Result<(), Failure> {
        match shown.and_then(|shown| shown.resource) {
            Some(last) => self.feed.put(&[last], &Statuses::default(), Change::Deleted),
            None => {
                note!("{}/{name} {words}", self.kind.plural());
                Ok(())
            }
        }
    }

    /// Shows what a list has that differs from what was shown.
    async fn show_differences(&mut self, items: Vec<Resource>) -> Result<(), Failure> {
        let mut before = std::mem::take(&mut self.shown);
        self.remember(&items);
        let (mut added, mut modified) = (Vec::new(), Vec::new());
        for item in items {
            match before.remove(&item.id) {
                None => added.push(item),
                Some(seen) if seen.revision != item.revision => modified.push(item),
                Some(_) => {}
            }
        }
        for shown in before.into_values() {
            self.show_end(&shown.name.clone(), Some(shown), "deleted")?;
        }
        self.show(&added, Change::Added).await?;
        self.show(&modified, Change::Modified).await
    }

    /// Shows the changes of a stream until it ends.
    async fn follow(
        &mut self,
        mut bytes: impl futures::Stream<Item = Result<impl AsRef<[u8]>, impl std::error::Error>> + Unpin,
        since: &mut Revision,
        attempts: &mut Attempts,
    ) -> Result<End, Failure> {
        let mut decoder = Decoder::new(MAX_EVENT_BYTES);
        loop {
            let silence = if attempts.steady { MAX_SILENCE } else { STEADY };
            let chunk = match tokio::time::timeout(silence, bytes.next()).await {
                Ok(Some(Ok(chunk))) => chunk,
                Err(_) if !attempts.steady => {
                    attempts.succeeded(*since);
                    continue;
                }
                _ => return Ok(End::Lost),
            };
            decoder.push(chunk.as_ref());
            while let Some(frame) = decoder.next_frame().map_err(Failure::new)? {
                attempts.succeeded(*since);
                self.event(&frame, since).await?;
            }
        }
    }

    async fn event(&mut self, frame: &Frame, since: &mut Revision) -> Result<(), Failure> {
        let Some(data) = &frame.data else { return Ok(()) };
        match frame.event.as_deref() {
            Some(b"put") => {
                let resource: Resource = serde_json::from_slice(data)?;
                *since = resource.revision.max(*since);
                if !self.wants(resource.name.as_str(), resource.id.as_str()) {
                    return Ok(());
                }
                let matches =
                    self.selector.as_ref().is_none_or(|selector| selector.parsed.matches(&resource.labels));
                if matches {
                    let is_known = self.shown.contains_key(&resource.id);
                    self.remember(std::slice::from_ref(&resource));
                    let change = if is_known { Change::Modified } else { Change::Added };
                    return self.show(&[resource], change).await;
                }
                if let Some(shown) = self.shown.remove(&resource.id) {
                    self.show_end(&resource.name, Some(shown), "is no longer selected")?;
                }
            }
            Some(b"delete") => {
                let gone: Gone = serde_json::from_slice(data)?;
                *since = revision(data).unwrap_or(*since).max(*since);
                // What a selector did not select was not shown either: a deletion has no labels to match.
                let shown = self.shown.remove(&gone.id);
                let was_shown = shown.is_some() || self.selector.is_none();
                if was_shown && self.wants(gone.name.as_str(), gone.id.as_str()) {
                    self.show_end(&gone.name, shown, "deleted")?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// The revision of a deletion.
fn revision(data: &[u8]) -> Option<Revision> {
    #[derive(Deserialize)]
    struct At {
        revision: Revision,
    }
    serde_json::from_slice::<At>(data).ok().map(|at| at.revision)
}
