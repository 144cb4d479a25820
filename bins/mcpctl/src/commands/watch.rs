//! Following changes: `mcpctl get -w`.

use futures::StreamExt as _;
use mcpctl_api::{Kind, Resource, Revision};
use mcpctl_client::Client;
use mcpctl_dialect::sse::Decoder;
use serde::Deserialize;

use crate::{failure::Failure, output::Feed};

const MAX_EVENT: usize = 4 << 20;

#[derive(Deserialize)]
struct Gone {
    name: String,
    id: String,
}

/// Prints every wanted change of a kind after a revision, until the server or the user ends it.
pub async fn follow(
    client: &Client,
    kind: Kind,
    since: Revision,
    wanted: impl Fn(&str, &str) -> bool,
    mut feed: Feed<'_>,
) -> Result<(), Failure> {
    let mut bytes = client.watch(&[kind], Some(since)).await?.bytes_stream();
    let mut decoder = Decoder::new(MAX_EVENT);
    while let Some(chunk) = bytes.next().await {
        decoder.push(&chunk.map_err(|_| Failure::new("the connection was cut").hint("run it again"))?);
        while let Some(frame) = decoder.next_frame().map_err(Failure::new)? {
            let Some(data) = &frame.data else { continue };
            match frame.event.as_deref() {
                Some(b"put") => {
                    let resource: Resource = serde_json::from_slice(data)?;
                    if wanted(resource.name.as_str(), resource.id.as_str()) {
                        feed.put(resource)?;
                    }
                }
                Some(b"delete") => {
                    let gone: Gone = serde_json::from_slice(data)?;
                    if wanted(&gone.name, &gone.id) {
                        note!("{}/{} deleted", kind.plural(), gone.name);
                    }
                }
                _ => {}
            }
        }
    }
    Err(Failure::new("the server ended the watch").hint("run it again; the server may be restarting"))
}
