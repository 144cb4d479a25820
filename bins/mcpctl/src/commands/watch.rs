//! Following changes: `mcpctl get -w`.

use futures::StreamExt as _;
use mcpctl_api::{Kind, Resource, Revision};
use mcpctl_client::Client;
use mcpctl_dialect::sse::Decoder;
use serde::Deserialize;

use crate::{
    failure::Failure,
    output::{self, Format},
};

const MAX_EVENT: usize = 4 << 20;

#[derive(Deserialize)]
struct Gone {
    name: String,
    id: String,
}

/// Prints every change of a kind until the server or the user ends it.
pub async fn follow(
    client: &Client,
    kind: Kind,
    since: Option<Revision>,
    names: &[String],
    format: &Format,
) -> Result<(), Failure> {
    let wanted = |name: &str, id: &str| names.is_empty() || names.iter().any(|n| n == name || n == id);
    let mut bytes = client.watch(&[kind], since).await?.bytes_stream();
    let mut decoder = Decoder::new(MAX_EVENT);
    while let Some(chunk) = bytes.next().await {
        decoder.push(&chunk.map_err(|_| Failure::new("the connection was cut").hint("run it again"))?);
        while let Some(frame) = decoder.next_frame().map_err(Failure::new)? {
            let Some(data) = &frame.data else { continue };
            match frame.event.as_deref() {
                Some(b"put") => {
                    let resource: Resource = serde_json::from_slice(data)?;
                    if wanted(resource.name.as_str(), resource.id.as_str()) {
                        output::resources(&[resource], format, true)?;
                    }
                }
                Some(b"delete") => {
                    let gone: Gone = serde_json::from_slice(data)?;
                    if wanted(&gone.name, &gone.id) {
                        anstream::eprintln!("{}/{} deleted", kind.plural(), gone.name);
                    }
                }
                _ => {}
            }
        }
    }
    Err(Failure::new("the server ended the watch").hint("run it again; the server may be restarting"))
}
