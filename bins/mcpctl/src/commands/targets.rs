//! The resources that a command names: `KIND NAME…` or `KIND/NAME…`, as in kubectl.

use mcpctl_api::{
    Id, Kind, Name,
    selector::{Selector, SelectorError},
    similar::most_similar,
    spec::{Subject, SubjectKind},
};

use super::files::NamedFiles;
use crate::{failure::Failure, habits};

/// The kinds of resources, each once, in their order.
pub fn kinds_of(targets: &[(Kind, String)]) -> Vec<Kind> {
    let mut kinds = Vec::new();
    for (kind, _) in targets {
        if !kinds.contains(kind) {
            kinds.push(*kind);
        }
    }
    kinds
}

/// The named resources.
#[derive(Debug, PartialEq, Eq)]
pub enum Targets {
    /// A kind alone.
    All(Kind),
    /// Resources, by name or id.
    These(Vec<(Kind, String)>),
}

/// What `get` and `describe` show.
#[derive(Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Everything of every kind.
    All,
    /// Everything of some kinds.
    Kinds(Vec<Kind>),
    /// Resources, by name or id.
    These(Vec<(Kind, String)>),
}

impl Wanted {
    /// Parses the arguments: as [`Targets`], and besides `all`, `llms,users`, and `llms,users NAME…`.
    pub fn parse(words: &[String]) -> Result<Self, Failure> {
        let (first, rest) = match words.split_first() {
            Some((first, rest)) if !first.contains('/') => (first, rest),
            _ => return Ok(Targets::parse(words)?.into()),
        };
        if first.eq_ignore_ascii_case("all") {
            return match rest {
                [] => Ok(Self::All),
                _ => Err(Failure::usage("`all` takes no names").hint("name a kind, e.g. `llms`")),
            };
        }
        if !first.contains(',') {
            return Ok(Targets::parse(words)?.into());
        }
        let mut kinds = Vec::new();
        for word in first.split(',') {
            // Most often an empty variable.
            if word.is_empty() {
                return Err(Failure::usage(format!("`{first}` has an empty part"))
                    .hint("name the kinds, e.g. `llms,users`, or `all`"));
            }
            let kind = known_kind(word)?;
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        if rest.is_empty() {
            return Ok(Self::Kinds(kinds));
        }
        let names = rest.iter().map(|word| name(word)).collect::<Result<Vec<_>, _>>()?;
        let each = |kind: Kind| names.iter().map(move |name| (kind, name.clone()));
        Ok(Self::These(kinds.into_iter().flat_map(each).collect()))
    }

    /// As [`Wanted::parse`], or what files name.
    pub async fn parse_or_read(words: &[String], files: &NamedFiles) -> Result<Self, Failure> {
        match (files.are_given(), words) {
            (false, _) => Self::parse(words),
            (true, []) => files.targets().await.map(Self::These),
            (true, _) => Err(Choice::Names.or(Choice::Files)),
        }
    }

    /// The kinds that may be shown, each once.
    pub fn kinds(&self) -> Vec<Kind> {
        match self {
            Self::All => Kind::RESOURCES.to_vec(),
            Self::Kinds(kinds) => kinds.clone(),
            Self::These(targets) => kinds_of(targets),
        }
    }
}

impl From<Targets> for Wanted {
    fn from(targets: Targets) -> Self {
        match targets {
            Targets::All(kind) => Self::Kinds(vec![kind]),
            Targets::These(targets) => Self::These(targets),
        }
    }
}

impl Targets {
    /// Parses the arguments; a wrong one is a usage error, reported before any request is sent.
    pub fn parse(words: &[String]) -> Result<Self, Failure> {
        let Some((first, rest)) = words.split_first() else {
            return Err(Failure::usage("nothing is named").hint("write KIND NAME or KIND/NAME"));
        };
        if first.contains('/') {
            return words.iter().map(|word| slashed(word)).collect::<Result<_, _>>().map(Self::These);
        }
        let kind = known_kind(first)?;
        if rest.is_empty() {
            return Ok(Self::All(kind));
        }
        rest.iter().map(|word| Ok((kind, name(word)?))).collect::<Result<_, _>>().map(Self::These)
    }

    /// One or more.
    pub fn some(words: &[String]) -> Result<Vec<(Kind, String)>, Failure> {
        match Self::parse(words)? {
            Self::These(targets) => Ok(targets),
            Self::All(kind) => Err(Failure::usage(format!("which of the {}?", kind.plural()))
                .hint(format!("name one, or see `mcpctl get {}`", kind.plural()))),
        }
    }

    /// Exactly one.
    pub fn one(words: &[String]) -> Result<(Kind, String), Failure> {
        match <[_; 1]>::try_from(Self::some(words)?) {
            Ok([target]) => Ok(target),
            Err(_) => Err(one_at_a_time()),
        }
    }
}

/// The ways to choose resources, of which a command takes one.
#[derive(Debug, Clone, Copy)]
pub enum Choice {
    Names,
    Files,
    Selector,
}

impl Choice {
    /// The failure of a command that is given both.
    pub fn or(self, other: Self) -> Failure {
        let ((one, write), (another, instead)) = (self.described(), other.described());
        Failure::usage(format!("either {one} or {another}, not both"))
            .hint(format!("write `{write}` or `{instead}`"))
    }

    /// Its name, and how it is written.
    const fn described(self) -> (&'static str, &'static str) {
        match self {
            Self::Names => ("names", "KIND NAME"),
            Self::Files => ("files", "-f FILE"),
            Self::Selector => ("a selector", "KIND -l SELECTOR"),
        }
    }
}

fn one_at_a_time() -> Failure {
    Failure::usage("this is for one resource at a time").hint("write KIND NAME, and run the command for each")
}

/// What a question about rights is about: a kind and perhaps a name, of a resource or of an account that records are about.
pub fn asked(words: &[String]) -> Result<(Kind, Option<String>), Failure> {
    let first = words.first().map(String::as_str).unwrap_or_default();
    let (kind_text, name_text) =
        first.split_once('/').map_or((first, None), |(kind, name)| (kind, Some(name)));
    let records = kind_text.parse().ok().filter(|kind: &Kind| !kind.is_resource());
    let Some(records) = records else {
        return match Targets::parse(words)? {
            Targets::All(kind) => Ok((kind, None)),
            Targets::These(targets) => match <[_; 1]>::try_from(targets) {
                Ok([(kind, name)]) => Ok((kind, Some(name))),
                Err(_) => Err(one_at_a_time()),
            },
        };
    };
    let names = name_text.into_iter().chain(words.iter().skip(1).map(String::as_str));
    match names.collect::<Vec<_>>().as_slice() {
        [] => Ok((records, None)),
        ["*"] => Ok((records, Some("*".to_owned()))),
        [name] => Ok((records, Some(account(name).map_err(Failure::usage)?.path()))),
        _ => Err(Failure::usage("this is for one account at a time")
            .hint("name one, e.g. alice or serviceaccount/ci, or '*' for all")),
    }
}

/// A label selector as it was written, and as it is understood.
#[derive(Debug, Clone)]
pub struct LabelSelector {
    /// For the server.
    pub text: String,
    /// For filtering watched changes.
    pub parsed: Selector,
}

impl LabelSelector {
    /// Parses `-l`; `None` where it was not given.
    pub fn parse(text: Option<&str>) -> Result<Option<Self>, Failure> {
        let Some(text) = text else { return Ok(None) };
        let parsed =
            text.parse().map_err(|error: SelectorError| Failure::usage(error).hint(SelectorError::HINT))?;
        Ok(Some(Self { text: text.to_owned(), parsed }))
    }
}

/// Reads a kind of resource, for the parser of the command line too.
pub fn kind(text: &str) -> Result<Kind, String> {
    known_kind(text).map_err(|failure| failure.in_one_line())
}

/// The short name of a kind on command lines, e.g. `rb` of `rolebindings`; documents and rules have the whole word.
pub fn short_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Llm => "lm",
        Kind::Secret => "sec",
        Kind::User => "us",
        Kind::Group => "gr",
        Kind::ServiceAccount => "sa",
        Kind::Role => "ro",
        Kind::RoleBinding => "rb",
        Kind::Token => "tok",
        Kind::Limit => "lim",
        Kind::Usage | Kind::Audit => kind.plural(),
    }
}

/// Reads a kind of resource; an unknown word gets the kind that is most like it.
pub(super) fn known_kind(text: &str) -> Result<Kind, Failure> {
    let short = Kind::RESOURCES.into_iter().find(|kind| text.eq_ignore_ascii_case(short_name(*kind)));
    match short.map_or_else(|| text.parse::<Kind>(), Ok) {
        Ok(kind) if kind.is_resource() => Ok(kind),
        Ok(kind) => {
            let message = format!("{} is not a kind of resource", kind.plural());
            Err(Failure::usage(message).hint(format!("`mcpctl {}` shows it", kind.plural())))
        }
        Err(_) => {
            let unknown = Failure::usage(format!("`{text}` is not a kind"));
            if let Some(hint) = habits::kind(text) {
                return Err(unknown.hint(hint));
            }
            let words = Kind::RESOURCES.iter().flat_map(|kind| [kind.plural(), kind.singular()]);
            let closest = most_similar(text, words).and_then(|word| word.parse::<Kind>().ok());
            let hint = match closest {
                Some(kind) => {
                    format!("did you mean `{}`? `mcpctl api-resources` lists the kinds", kind.plural())
                }
                None => format!("kinds are {}", Kind::RESOURCES.map(Kind::plural).join(", ")),
            };
            Err(unknown.hint(hint))
        }
    }
}

/// `User/alice`, or a name that is a user's.
pub fn subject(text: &str) -> Result<Subject, String> {
    let (kind_text, name) = text.split_once('/').unwrap_or(("User", text));
    let kind = match kind(kind_text)? {
        Kind::User => SubjectKind::User,
        Kind::Group => SubjectKind::Group,
        Kind::ServiceAccount => SubjectKind::ServiceAccount,
        _ => return Err(format!("`{text}` is neither User/…, Group/… nor ServiceAccount/…")),
    };
    Ok(Subject { kind, name: name.parse().map_err(|error| format!("{error}"))? })
}

/// `User/alice`, or a name that is a user's; groups are none.
pub fn account(text: &str) -> Result<Subject, String> {
    let subject = subject(text)?;
    match subject.kind {
        SubjectKind::Group => Err("this takes a User or a ServiceAccount".to_owned()),
        SubjectKind::User | SubjectKind::ServiceAccount => Ok(subject),
    }
}

fn slashed(word: &str) -> Result<(Kind, String), Failure> {
    let Some((kind_text, name_text)) = word.split_once('/') else {
        return Err(Failure::usage(format!("`{word}` is not KIND/NAME, as what stands before it is"))
            .hint("write the kind before each name: llms/gpt users/alice"));
    };
    Ok((known_kind(kind_text)?, name(name_text)?))
}

/// Checks that a text is a name or an id.
fn name(word: &str) -> Result<String, Failure> {
    if word.parse::<Id>().is_ok() {
        return Ok(word.to_owned());
    }
    word.parse::<Name>().map(String::from).map_err(Failure::usage)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Result<Targets, String> {
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        Targets::parse(&words).map_err(|failure| failure.in_one_line())
    }

    #[test]
    fn questions_are_about_resources_or_accounts_with_records() {
        let asked = |words: &str| {
            let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
            asked(&words).map_err(|failure| failure.in_one_line())
        };
        assert_eq!(asked("llms"), Ok((Kind::Llm, None)));
        assert_eq!(asked("llm/gpt"), Ok((Kind::Llm, Some("gpt".to_owned()))));
        assert_eq!(asked("usage"), Ok((Kind::Usage, None)));
        for words in ["usage serviceaccount/ci", "usage/ServiceAccount/ci", "usage sa/ci"] {
            assert_eq!(asked(words), Ok((Kind::Usage, Some("serviceaccount/ci".to_owned()))), "{words}");
        }
        assert_eq!(asked("audit/bob"), Ok((Kind::Audit, Some("user/bob".to_owned()))));
        assert_eq!(asked("audit *"), Ok((Kind::Audit, Some("*".to_owned()))));
        for wrong in ["usage a b", "usage group/g", "usage/A", "llms a b"] {
            assert!(asked(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn both_forms_name_the_same_resources() {
        let these = |targets: &[(Kind, &str)]| {
            Ok(Targets::These(targets.iter().map(|(kind, name)| (*kind, (*name).to_owned())).collect()))
        };
        assert_eq!(parse("llm claude gpt"), these(&[(Kind::Llm, "claude"), (Kind::Llm, "gpt")]));
        assert_eq!(parse("llms/claude User/alice"), these(&[(Kind::Llm, "claude"), (Kind::User, "alice")]));
        assert_eq!(parse("sa"), Ok(Targets::All(Kind::ServiceAccount)));
        let id = Id::mint().to_string();
        assert_eq!(parse(&format!("llm {id}")), these(&[(Kind::Llm, &id)]));
    }

    #[test]
    fn invalid_names_are_rejected_locally() {
        for wrong in
            ["llms ..", "llms/..", "llms/", "llms a/b", "llms/a b", "llms Claude", "lms", "lms/a", "llms a?b"]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
