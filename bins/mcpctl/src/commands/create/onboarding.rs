//! `mcpctl create -f people.csv`: makes the users of a file and puts them into their groups, all or none, and then makes each new one
//! a first token. What is there already stays, so the same file can be used again, with more people or after an interruption.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use mcpctl_api::{
    Document, Kind, Name, Resource, Spec,
    question::{ApplyOutcome, TokenRequest},
    spec::{ExternalLink, Subject, SubjectKind, UserSpec},
};
use mcpctl_client::{Client, ClientError};
use mcpctl_owner::file::{self, OpenMode};

use super::{
    document,
    roster::{self, Person, wrong},
};
use crate::{
    Outcome,
    commands::{
        files,
        retry::{self, Lost},
    },
    failure::Failure,
    output,
};

/// Documents of one apply: mcpd takes no more.
const MAX_DOCUMENTS: usize = 1000;
/// The tokens that are wanted.
pub(super) struct Wanted {
    /// The file that they are written to, for people who are new.
    pub(super) tokens: Option<PathBuf>,
    /// For others too who have none.
    pub(super) missing: bool,
}

/// Makes the people of a file, and the tokens that are wanted.
pub(super) async fn run(client: &Client, path: &Path, wanted: Wanted) -> Outcome {
    let file = path.display().to_string();
    let people = roster::read(&file, &files::read_file(path)?)?;
    // Before anything is written at mcpd, so that no token is lost for want of a place.
    let output = wanted.tokens.as_deref().map(TokenFile::open).transpose()?;
    let outcomes = apply(client, &file, &people).await?;
    for (kind, name, outcome) in &outcomes {
        match outcome {
            ApplyOutcome::Created => report(output.as_ref(), &format!("{}/{name} created", kind.plural()))?,
            ApplyOutcome::Configured => {
                report(output.as_ref(), &format!("{}/{name} configured", kind.plural()))?;
            }
            ApplyOutcome::Unchanged => {}
        }
    }
    let Some(output) = output else {
        note!("{} people are there", people.len());
        return Ok(ExitCode::SUCCESS);
    };
    let new: HashSet<&Name> = outcomes
        .iter()
        .filter(|(kind, _, outcome)| (*kind, *outcome) == (Kind::User, ApplyOutcome::Created))
        .map(|(_, name, _)| name)
        .collect();
    // A token that was revoked is not made again by the way.
    let (mut getting, others): (Vec<&Person>, Vec<&Person>) =
        people.iter().partition(|person| new.contains(&person.name));
    if wanted.missing && !others.is_empty() {
        let holders = token_holders(client).await?;
        getting.extend(others.into_iter().filter(|person| !holders.contains(&person.name)));
    } else if !others.is_empty() {
        note!(
            "{} people were there before, and get no token; with --missing-tokens those get one who have none",
            others.len()
        );
    }
    first_tokens(client, &getting, output).await
}

/// The users that have a token, sessions aside.
async fn token_holders(client: &Client) -> Result<HashSet<Name>, Failure> {
    let tokens = client.list(Kind::Token, None).await?;
    let holders = tokens.items.into_iter().filter_map(|token| match token.spec {
        Spec::Token(token) if !token.session && token.subject.kind == SubjectKind::User => {
            Some(token.subject.name)
        }
        _ => None,
    });
    Ok(holders.collect())
}

/// Data, unless the tokens are.
fn report(output: Option<&TokenFile>, text: &str) -> Result<(), Failure> {
    match output {
        Some(TokenFile { path: None, .. }) => {
            note!("{text}");
            Ok(())
        }
        _ => data!("{text}"),
    }
}

type Outcomes = Vec<(Kind, Name, ApplyOutcome)>;

/// Writes all users and groups, all or none, at the revisions at which they were read.
async fn apply(client: &Client, file: &str, people: &[Person]) -> Result<Outcomes, Failure> {
    retry::until_first("these groups or users", async || {
        let documents = documents(client, file, people).await?;
        let references: Vec<&Document> = documents.iter().map(|(document, _)| document).collect();
        let report = client.apply(&references).await.map_err(|error| match retry::is_stale(&error) {
            true => Lost::Stale,
            false => placed(file, error, &documents).into(),
        })?;
        output::warnings(&report.warnings);
        let results = report.results.into_iter();
        Ok(results.map(|applied| (applied.kind, applied.name, applied.outcome)).collect())
    })
    .await
}

/// The document of each user and of each group that gets members, with the line that it is from.
async fn documents(client: &Client, file: &str, people: &[Person]) -> Result<Vec<(Document, u64)>, Failure> {
    let groups = groups(client, file, people).await?;
    let known = client.list(Kind::User, None).await?;
    let known: HashMap<&Name, &Resource> = known.items.iter().map(|user| (&user.name, user)).collect();
    let users = people.iter().map(|person| (user(person, known.get(&person.name).copied()), person.line));
    let mut documents: Vec<(Document, u64)> = users.collect();
    for (group, members) in groups.into_values() {
        let (mut written, Spec::Group(spec)) = (group.to_document(), group.spec) else { continue };
        let mut spec = spec;
        let line = members.first().map_or(1, |person| person.line);
        for person in members {
            let member = Subject { kind: SubjectKind::User, name: person.name.clone() };
            if !spec.members.contains(&member) {
                spec.members.push(member);
            }
        }
        written.spec = Spec::Group(spec);
        documents.push((written, line));
    }
    if documents.len() > MAX_DOCUMENTS {
        let message = format!("{file}: {} users and groups, at most {MAX_DOCUMENTS}", documents.len());
        return Err(Failure::new(message).hint("split the file; nothing was written"));
    }
    Ok(documents)
}

/// A new user, or the one that there is with what the file has of it.
fn user(person: &Person, known: Option<&Resource>) -> Document {
    let Some(known) = known else {
        let spec = UserSpec {
            display_name: person.display_name.clone(),
            email: person.email.clone(),
            ..UserSpec::default()
        };
        return document(person.name.clone(), Spec::User(spec));
    };
    let mut written = known.to_document();
    if let Spec::User(spec) = &mut written.spec {
        spec.display_name = person.display_name.clone().or_else(|| spec.display_name.take());
        spec.email = person.email.clone().or_else(|| spec.email.take());
        // Written again, a void link would become the writer's.
        spec.external = ExternalLink::Keep;
    }
    written
}

/// The groups of the file, each with those who are to be in it.
async fn groups<'a>(
    client: &Client,
    file: &str,
    people: &'a [Person],
) -> Result<BTreeMap<Name, (Resource, Vec<&'a Person>)>, Failure> {
    let mut found: BTreeMap<Name, (Resource, Vec<&Person>)> = BTreeMap::new();
    let mut missing: Vec<(&Name, Failure)> = Vec::new();
    for person in people {
        for group in &person.groups {
            if let Some((_, members)) = found.get_mut(group) {
                members.push(person);
                continue;
            }
            if missing.iter().any(|(known, _)| *known == group) {
                continue;
            }
            match client.get(Kind::Group, group.as_str()).await {
                Ok(resource) => {
                    found.insert(group.clone(), (resource, vec![person]));
                }
                Err(error @ ClientError::Refused { .. }) => {
                    let failure = wrong(file, person.line, person.groups_column, &error.to_string());
                    missing.push((group, failure));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    let hint = "nothing was written; make the group with `mcpctl create group NAME`, or correct the file";
    roster::all(missing.into_iter().map(|(_, failure)| failure).collect(), hint)?;
    Ok(found)
}

/// An error of the server about a document, with the line that the document is from.
fn placed(file: &str, error: ClientError, documents: &[(Document, u64)]) -> Failure {
    let line = error.param().and_then(|param| {
        let (index, _) = param.strip_prefix('[')?.split_once(']')?;
        documents.get(index.parse::<usize>().ok()?).map(|(_, line)| *line)
    });
    let Some(line) = line else { return error.into() };
    let failure = Failure::new(format!("{file}:{line}: {error}"));
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure.hint("nothing was written"),
    }
}

/// Makes each of these people a token `NAME-first`, and writes it before the next one is made.
async fn first_tokens(client: &Client, people: &[&Person], mut output: TokenFile) -> Outcome {
    let (mut made, mut taken) = (0_usize, 0_usize);
    for person in people {
        let name = first_token(&person.name)?;
        let subject = Subject { kind: SubjectKind::User, name: person.name.clone() };
        let wanted = TokenRequest { name: name.clone(), subject, expires_in: None, rules: None };
        let issued = match retry::while_busy(async || client.create_token(&wanted).await).await {
            Ok(issued) => issued,
            Err(error) if is_taken(&error) => {
                taken += 1;
                note!(
                    "User {} has no token yet: the name `{name}` is another token's; make one by: \
                     mcpctl create token NAME --for User/{}",
                    person.name,
                    person.name
                );
                continue;
            }
            Err(error) => {
                return Err(Failure::new(format!("no token for User {}: {error}", person.name)).hint(format!(
                    "the same with --missing-tokens goes on; if `{name}` was made: mcpctl rotate token {name}"
                )));
            }
        };
        output.write(&person.name, issued.token.expose()).map_err(|error| {
            Failure::new(format!("the token `{name}` cannot be written: {error}"))
                .hint(format!("make room, then: mcpctl rotate token {name}"))
        })?;
        made += 1;
    }
    let place =
        output.path.as_ref().map(|path| format!(" in `{path}`, which only you may read")).unwrap_or_default();
    match made {
        0 => note!("no token was made"),
        1 => note!("1 token made{place}; it is shown this once"),
        _ => note!("{made} tokens made{place}; they are shown this once"),
    }
    Ok(if taken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The name of a person's first token.
pub(super) fn first_token(user: &Name) -> Result<Name, Failure> {
    format!("{user}-first").parse().map_err(Failure::new)
}

fn is_taken(error: &ClientError) -> bool {
    error.code() == Some("already_exists")
}

/// Where tokens are written, as CSV: a file that only its owner may read, or standard output.
struct TokenFile {
    /// Of a file.
    path: Option<String>,
    out: Box<dyn Write>,
}

impl TokenFile {
    /// Opens the file, which no other user can read from then on; one that exists is continued.
    fn open(path: &Path) -> Result<Self, Failure> {
        if path.as_os_str() == "-" {
            let mut out = Box::new(io::stdout());
            writeln!(out, "name,token")?;
            return Ok(Self { path: None, out });
        }
        let shown = path.display().to_string();
        let mut file = file::open_own(path, OpenMode::Append)?;
        if file.metadata()?.len() == 0 {
            writeln!(file, "name,token")?;
        }
        Ok(Self { path: Some(shown), out: Box::new(file) })
    }

    /// Names and tokens have no character that CSV quotes.
    fn write(&mut self, name: &Name, token: &str) -> io::Result<()> {
        writeln!(self.out, "{name},{token}")?;
        self.out.flush()
    }
}
