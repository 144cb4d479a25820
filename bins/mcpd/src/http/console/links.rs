//! Links to pages, and addresses of pages about one thing.

use mcpctl_api::{
    Kind, Name,
    spec::{Subject, SubjectKind},
};
use url::form_urlencoded;

use super::fields::address;

/// A page, and what a link to it is called.
pub struct Link {
    /// The text.
    pub title: String,
    /// The address.
    pub address: String,
}

/// The page of an account or a group.
pub fn person(subject: &Subject) -> String {
    let name: String = form_urlencoded::byte_serialize(subject.name.as_str().as_bytes()).collect();
    format!("/console/people/{}/{name}", subject.kind.kind().plural())
}

/// A link to it.
pub fn to_person(subject: &Subject) -> Link {
    Link { title: subject.name.to_string(), address: person(subject) }
}

/// The page of a principal as records name it, e.g. `User alice`; `None` of what is no account.
pub fn principal(text: &str) -> Option<String> {
    let (kind, name) = text.split_once(' ')?;
    let kind = match kind.parse::<Kind>().ok()? {
        Kind::User => SubjectKind::User,
        Kind::ServiceAccount => SubjectKind::ServiceAccount,
        _ => return None,
    };
    Some(person(&Subject { kind, name: name.parse().ok()? }))
}

/// The page about why an account may use an Llm.
pub fn why(account: &Subject, llm: &Name) -> String {
    address("/console/access/why", &[("subject", Some(account.path())), ("llm", Some(llm.to_string()))])
}

/// The page about what a revocation does: of a binding, for an account that has it, directly or by a group.
pub fn revoke(binding: &Name, account: Option<&Subject>, group: Option<&Name>) -> String {
    let fields = [
        ("binding", Some(binding.to_string())),
        ("subject", account.map(Subject::path)),
        ("group", group.map(ToString::to_string)),
    ];
    address("/console/access/revoke", &fields)
}
