//! Following changes: `mcpctl get -w`.

use std::collections::HashSet;

use futures::StreamExt as _;
use mcpctl_api::{Id, Kind, Resource, Revision, selector::Selector};
use mcpctl_client::Client;
use mcpctl_dialect::sse::Decoder;
use serde::Deserialize;

use crate::{failure::Failure, output::Feed};

/// Maximum length of an event, in bytes.
const MAX_EVENT_BYTES: usize = 4 << 20;

#[derive(Deserialize)]
struct Gone {
    name: String,
    id: Id,
}

/// A selector, and the resources that it has shown: a deletion has no labels to match.
pub struct Selected<'a> {
    /// What is shown.
    pub selector: &'a Selector,
    /// Ids of what matched when it was last seen.
    pub shown: HashSet<Id>,
}

/// Prints every wanted change of a kind after a revision, until the server or the user ends it.
pub async fn follow(
    client: &Client,
    kind: Kind,
    since: Revision,
    wanted: impl Fn(&str, &str) -> bool,
    mut selected: Option<Selected<'_>>,
    mut feed: Feed<'_>,
) -> Result<(), Failure> {
    let mut bytes = client.watch(&[kind], Some(since)).await?.bytes_stream();
    let mut decoder = Decoder::new(MAX_EVENT_BYTES);
    while let Some(chunk) = bytes.next().await {
        decoder.push(&chunk.map_err(|_| Failure::new("the connection was cut").hint("run it again"))?);
        while let Some(frame) = decoder.next_frame().map_err(Failure::new)? {
            let Some(data) = &frame.data else { continue };
            match frame.event.as_deref() {
                Some(b"put") => {
                    let resource: Resource = serde_json::from_slice(data)?;
                    if !wanted(resource.name.as_str(), resource.id.as_str()) {
                        continue;
                    }
                    match &mut selected {
                        Some(selected) if !selected.selector.matches(&resource.labels) => {
                            if selected.shown.remove(&resource.id) {
                                note!("{}/{} is no longer selected", kind.plural(), resource.name);
                            }
                        }
                        Some(selected) => {
                            selected.shown.insert(resource.id.clone());
                            feed.put(resource)?;
                        }
                        None => feed.put(resource)?,
                    }
                }
                Some(b"delete") => {
                    let gone: Gone = serde_json::from_slice(data)?;
                    let shown = match &mut selected {
                        Some(selected) => selected.shown.remove(&gone.id),
                        None => true,
                    };
                    if shown && wanted(&gone.name, gone.id.as_str()) {
                        note!("{}/{} deleted", kind.plural(), gone.name);
                    }
                }
                _ => {}
            }
        }
    }
    Err(Failure::new("the server ended the watch").hint("run it again; the server may be restarting"))
}
