//! Did you mean: the known word that is most like one that is not known.

use std::collections::{HashMap, hash_map::Entry};

use mcpctl_api::{
    Kind, Name,
    similar::most_similar,
    spec::{Subject, SubjectKind},
};
use mcpctl_client::{Client, ClientError};

use crate::{commands::account, failure::Failure};

/// `did you mean `gpt`?`
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    most_similar(word, candidates).map(|found| format!("did you mean `{found}`?"))
}

/// The names of kinds that the caller may view, of their first pages, each read once.
#[derive(Default)]
pub struct Names(HashMap<Kind, Vec<Name>>);

impl Names {
    /// The failure of a request for a resource by its name; where there is none of the name, with the one that is most like it.
    pub async fn not_found(
        &mut self,
        client: &Client,
        kind: Kind,
        name: &str,
        error: ClientError,
    ) -> Failure {
        let is_missing = error.is_missing() && error.hint().is_none();
        let failure = Failure::from(error);
        if !is_missing {
            return failure;
        }
        if let Entry::Vacant(unread) = self.0.entry(kind) {
            let list = client.first_page(kind).await;
            unread.insert(
                list.map_or_else(
                    |_| Vec::new(),
                    |list| list.items.into_iter().map(|item| item.name).collect(),
                ),
            );
        }
        match did_you_mean(name, self.0.get(&kind).into_iter().flatten().map(Name::as_str)) {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

/// As [`Names::not_found`], where one name alone is asked for.
pub async fn not_found(client: &Client, kind: Kind, name: &str, error: ClientError) -> Failure {
    Names::default().not_found(client, kind, name, error).await
}

/// Reports that records are asked for of an account or Llm that does not exist, which may be a typing error or deleted.
pub async fn note_unknown(client: &Client, subject: Option<&str>, llm: Option<&str>) {
    let account = subject.and_then(|text| account(text).ok()).map(|Subject { kind, name }| match kind {
        SubjectKind::ServiceAccount => (Kind::ServiceAccount, name.to_string()),
        SubjectKind::User | SubjectKind::Group => (Kind::User, name.to_string()),
    });
    for (kind, name) in account.into_iter().chain(llm.map(|llm| (Kind::Llm, llm.to_owned()))) {
        if let Err(error) = client.get(kind, &name).await
            && error.is_missing()
        {
            note!("{}", not_found(client, kind, &name, error).await.in_one_line());
        }
    }
}
