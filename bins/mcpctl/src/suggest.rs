//! Did you mean: the known word that is most like one that is not known.

use mcpctl_api::{Kind, similar::most_similar};
use mcpctl_client::{Client, ClientError};

use crate::failure::Failure;

/// Names are compared with up to so many others.
const MAX_NAMES: usize = 2_000;

/// `did you mean `gpt`?`
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    most_similar(word, candidates).map(|found| format!("did you mean `{found}`?"))
}

/// The failure of a request for a resource by its name; where there is none of the name, with the one that is most like it among
/// those that the caller may view.
pub async fn not_found(client: &Client, kind: Kind, name: &str, error: ClientError) -> Failure {
    let is_missing = error.status().is_some_and(|status| status.as_u16() == 404) && error.hint().is_none();
    let failure = Failure::from(error);
    if !is_missing {
        return failure;
    }
    let Ok(list) = client.list(kind, None).await else { return failure };
    let names = list.items.iter().take(MAX_NAMES).map(|item| item.name.as_str());
    match did_you_mean(name, names) {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
