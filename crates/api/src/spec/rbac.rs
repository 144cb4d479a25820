//! Rules, roles and bindings. They only ever allow; what nothing allows is denied.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize, de::Error as _};
use utoipa::ToSchema;

use super::{FieldError, Subject};
use crate::{Kind, Name, Verb};

/// The fields of a `Role`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"kind": "Role", "name": "model-user", "rules": [{"kinds": ["llms"], "verbs": ["view", "run"], "names": ["gpt", "team-*"]}]}))]
pub struct RoleSpec {
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Each rule allows on its own.
    pub rules: Vec<Rule>,
}

/// Allows every listed verb on every listed kind for resources whose name matches.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// Plurals such as `llms`, or `*`.
    #[schema(value_type = Vec<String>)]
    pub kinds: Vec<Allowed<Kind>>,
    /// Verbs such as `view`, or `*`.
    #[schema(value_type = Vec<String>)]
    pub verbs: Vec<Allowed<Verb>>,
    /// Names, in which `*` stands for any characters. Never left out: `["*"]` means all. Of `usage` and `audit` they are those of accounts:
    /// `alice` or `user/alice` of a user, `serviceaccount/ci` of a service account.
    #[schema(value_type = Vec<String>)]
    pub names: Vec<NamePattern>,
}

impl Rule {
    /// Whether it allows the verb on the resource of this name.
    pub fn allows(&self, verb: Verb, kind: Kind, name: &str) -> bool {
        self.verbs.iter().any(|allowed| allowed.includes(&verb))
            && self.kinds.iter().any(|allowed| allowed.includes(&kind))
            && self.names.iter().any(|pattern| pattern.matches(name))
    }

    /// Whether it allows by itself all that `other` allows; errs towards no.
    pub fn covers(&self, other: &Self) -> bool {
        let all = |names: &NamePattern| self.names.iter().any(|pattern| pattern.covers(names));
        other.verbs.iter().all(|verb| Allowed::covered(verb, &self.verbs))
            && other.kinds.iter().all(|kind| Allowed::covered(kind, &self.kinds))
            && other.names.iter().all(all)
    }

    /// Whether it allows nothing but these verbs on resources of this kind.
    pub fn is_only_about(&self, verbs: &[Verb], kind: Kind) -> bool {
        let is_one = |allowed: &Allowed<Verb>| verbs.iter().any(|verb| *allowed == Allowed::Only(*verb));
        self.verbs.iter().all(is_one) && self.kinds.iter().all(|allowed| *allowed == Allowed::Only(kind))
    }

    /// Checks the rules of a role or a token: their number, the number of names of each, and that no list is empty.
    ///
    /// # Errors
    /// The first rule that breaks this; `owner` is what has the rules, e.g. `a role`.
    pub(super) fn check_list(
        rules: &[Self],
        owner: &str,
        max_rules: usize,
        max_names: usize,
    ) -> Result<(), FieldError> {
        if rules.len() > max_rules {
            let message = format!("{owner} has at most {max_rules} rules, this one {}", rules.len());
            return Err(FieldError::new("rules", message).hint("put several names or kinds into one rule"));
        }
        for (at, rule) in rules.iter().enumerate() {
            if rule.names.len() > max_names {
                let message = format!("a rule has at most {max_names} names, this one {}", rule.names.len());
                return Err(FieldError::new(format!("rules[{at}].names"), message)
                    .hint("use a pattern such as `team-a-*`, or split the rule"));
            }
            let repeated = rule.kinds.len() > Kind::ALL.len() || rule.verbs.len() > Verb::ALL.len();
            if repeated {
                return Err(FieldError::new(
                    format!("rules[{at}]"),
                    "a kind or a verb is listed more than once",
                ));
            }
            let of_records =
                rule.kinds.iter().all(|kind| matches!(kind, Allowed::Only(kind) if !kind.is_resource()));
            if let Some(account) = rule.names.iter().find(|name| name.names_kind() && !of_records) {
                let message = format!(
                    "`{}` names an account, as only a rule of `usage` and `audit` does",
                    account.as_str()
                );
                return Err(FieldError::new(format!("rules[{at}].names"), message)
                    .hint("put it into a rule of its own, with `kinds: [usage, audit]`"));
            }
            // INVARIANT 15: an empty list allows nothing; one that is written is a mistake, and rejected.
            let empty = [
                ("kinds", rule.kinds.is_empty()),
                ("verbs", rule.verbs.is_empty()),
                ("names", rule.names.is_empty()),
            ];
            if let Some((field, _)) = empty.iter().find(|(_, empty)| *empty) {
                return Err(FieldError::new(format!("rules[{at}].{field}"), "an empty list allows nothing")
                    .hint("write `[\"*\"]` for all"));
            }
        }
        Ok(())
    }
}

/// On one line, as a command line has it: `view,run llms claude,team-*`.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verbs = self.verbs.iter().map(|verb| match verb {
            Allowed::Any => "*",
            Allowed::Only(verb) => verb.as_str(),
        });
        let kinds = self.kinds.iter().map(|kind| match kind {
            Allowed::Any => "*",
            Allowed::Only(kind) => kind.plural(),
        });
        let names = self.names.iter().map(NamePattern::as_str);
        let list = |words: Vec<&str>| words.join(",");
        write!(f, "{} {} {}", list(verbs.collect()), list(kinds.collect()), list(names.collect()))
    }
}

/// A text that is no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotARule {
    /// It has not the three parts.
    #[error("a rule is VERBS KINDS NAMES, e.g. `view,run llms claude,team-*` or `run llm/claude`")]
    Parts,
    /// A part is no list of its kind.
    #[error("{0}")]
    Part(String),
}

/// Reads `VERBS KINDS NAMES`, each a list with commas, or `VERBS KINDS/NAMES`.
impl FromStr for Rule {
    type Err = NotARule;

    fn from_str(text: &str) -> Result<Self, NotARule> {
        fn list<T: FromStr<Err: fmt::Display>>(text: &str) -> Result<Vec<T>, NotARule> {
            text.split(',')
                .map(|word| word.parse().map_err(|error: T::Err| NotARule::Part(error.to_string())))
                .collect()
        }
        let mut words = text.split_whitespace();
        let (Some(verbs), Some(kinds)) = (words.next(), words.next()) else { return Err(NotARule::Parts) };
        let (kinds, names) = match (words.next(), kinds.split_once('/')) {
            (Some(names), None) => (kinds, names),
            (None, Some((kinds, names))) => (kinds, names),
            _ => return Err(NotARule::Parts),
        };
        if words.next().is_some() {
            return Err(NotARule::Parts);
        }
        Ok(Self { verbs: list(verbs)?, kinds: list(kinds)?, names: list(names)? })
    }
}

/// One value, or all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Allowed<T> {
    /// `*`
    Any,
    /// This one.
    Only(T),
}

impl<T: PartialEq> Allowed<T> {
    /// Whether `value` is allowed.
    pub fn includes(&self, value: &T) -> bool {
        match self {
            Self::Any => true,
            Self::Only(only) => only == value,
        }
    }

    fn covered(&self, by: &[Self]) -> bool {
        by.iter().any(|allowed| *allowed == Self::Any || allowed == self)
    }
}

impl Serialize for Allowed<Kind> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Self::Any => "*",
            Self::Only(kind) => kind.plural(),
        })
    }
}

impl Serialize for Allowed<Verb> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Self::Any => "*",
            Self::Only(verb) => verb.as_str(),
        })
    }
}

impl<T: FromStr> FromStr for Allowed<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, T::Err> {
        if text == "*" { Ok(Self::Any) } else { text.parse().map(Self::Only) }
    }
}

impl<'de, T> Deserialize<'de> for Allowed<T>
where
    T: FromStr,
    T::Err: fmt::Display,
{
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// A name in which `*` stands for any characters, none included. Of accounts, about which there are records, it may have the kind
/// before it: `serviceaccount/ci`.
#[derive(Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct NamePattern(String);

impl NamePattern {
    /// The pattern that matches every name.
    pub fn any() -> Self {
        Self("*".to_owned())
    }

    /// Whether every name matches.
    pub fn is_any(&self) -> bool {
        !self.0.is_empty() && self.0.bytes().all(|b| b == b'*')
    }

    /// Whether `name` matches.
    pub fn matches(&self, name: &str) -> bool {
        glob(self.0.as_bytes(), name.as_bytes())
    }

    /// Whether this matches every name that `other` matches. A `*` of `other` is matched by a `*` of this pattern only, so
    /// the result errs towards no.
    pub fn covers(&self, other: &Self) -> bool {
        self.covers_text(other.as_str())
    }

    /// As [`Self::covers`], for a name or pattern as text.
    pub fn covers_text(&self, other: &str) -> bool {
        glob(self.0.as_bytes(), other.as_bytes())
    }

    /// Whether it has the kind of an account before the name.
    pub fn names_kind(&self) -> bool {
        self.0.contains('/')
    }

    /// As a pattern of accounts: without a kind it is of users, unless it matches every name.
    #[must_use]
    pub fn of_accounts(&self) -> Self {
        if self.is_any() || self.names_kind() {
            self.clone()
        } else {
            Self(format!("{USER_PREFIX}{}", self.0))
        }
    }

    /// The pattern as written; a kind in the form of paths.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What stands before the name of a user, and of a service account, in names of accounts.
const USER_PREFIX: &str = "user/";
const SERVICE_ACCOUNT_PREFIX: &str = "serviceaccount/";

/// Greedy matching with one remembered star, linear in practice. In `text` a literal `*` is matched by a star only,
/// because no pattern character but a star can equal it.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(&c) = text.get(t) {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&literal) if literal == c && c != b'*' => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    p = at + 1;
                    t = from + 1;
                    star = Some((at, from + 1));
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|&b| b == b'*'))
}

/// A text that is no pattern of names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a name or a pattern: lower-case letters, digits, `.`, `_`, `-`, `@`, `+` and `*`; of usage and audit `user/NAME` or \
     `serviceaccount/NAME` too"
)]
pub struct NotAPattern(String);

impl FromStr for NamePattern {
    type Err = NotAPattern;

    fn from_str(text: &str) -> Result<Self, NotAPattern> {
        let fits = |b: u8| {
            b.is_ascii_lowercase()
                || b.is_ascii_digit()
                || matches!(b, b'.' | b'_' | b'-' | b'*' | b'@' | b'+')
        };
        let not_a_pattern = || NotAPattern(text.to_owned());
        let (prefix, name) = match text.split_once('/') {
            None => ("", text),
            Some((kind, name)) => match kind.parse() {
                Ok(Kind::User) => (USER_PREFIX, name),
                Ok(Kind::ServiceAccount) => (SERVICE_ACCOUNT_PREFIX, name),
                _ => return Err(not_a_pattern()),
            },
        };
        if name.is_empty() || name.len() > Name::MAX_LENGTH || !name.bytes().all(fits) {
            return Err(not_a_pattern());
        }
        Ok(Self(format!("{prefix}{name}")))
    }
}

impl<'de> Deserialize<'de> for NamePattern {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl fmt::Debug for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The fields of a `RoleBinding`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"kind": "RoleBinding", "name": "team-uses-llms", "role": "llm-user", "subjects": [{"kind": "Group", "name": "team"}]}))]
pub struct RoleBindingSpec {
    /// The role's name.
    #[schema(value_type = String)]
    pub role: Name,
    /// The subjects that get the role.
    pub subjects: Vec<Subject>,
}

impl RoleSpec {
    /// Maximum number of rules of one role.
    pub const MAX_RULES: usize = 256;
    /// Maximum number of names of one rule; with [`Self::MAX_RULES`] it bounds the work of a decision.
    pub const MAX_NAMES: usize = 1000;

    pub(super) fn validate(&self) -> Result<(), FieldError> {
        Rule::check_list(&self.rules, "a role", Self::MAX_RULES, Self::MAX_NAMES)
    }
}

impl RoleBindingSpec {
    pub(super) fn validate(&self) -> Result<(), FieldError> {
        if self.subjects.is_empty() {
            return Err(FieldError::new("subjects", "a binding without subjects gives nothing to anybody"));
        }
        Subject::check_list("subjects", &self.subjects)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> NamePattern {
        text.parse().unwrap()
    }

    #[test]
    fn stars_match_any_characters() {
        assert!(pattern("team-a-*").matches("team-a-x"));
        assert!(pattern("team-a-*").matches("team-a-"));
        assert!(!pattern("team-a-*").matches("team-b-x"));
        assert!(pattern("*-prod").matches("gpt-prod"));
        assert!(pattern("a*b*c").matches("axxbxbc"));
        assert!(!pattern("claude").matches("claude2"));
        assert!(pattern("*").is_any() && pattern("**").is_any() && !pattern("a*").is_any());
    }

    #[test]
    fn a_star_is_covered_by_a_star_only() {
        assert!(pattern("*").covers(&pattern("team-*")));
        assert!(pattern("team-*").covers(&pattern("team-a-*")));
        assert!(pattern("team-*").covers(&pattern("team-a")));
        assert!(!pattern("team-a").covers(&pattern("team-*")));
        assert!(!pattern("team-a-*").covers(&pattern("team-*")));
        assert!(!pattern("a*").covers(&pattern("*a")));
    }

    #[test]
    fn names_of_accounts_have_a_kind() {
        let of_accounts = |text: &str| pattern(text).of_accounts().as_str().to_owned();
        let texts = ["alice", "team-*", "*", "**", "user/*", "sa/ci"].map(of_accounts);
        assert_eq!(texts, ["user/alice", "user/team-*", "*", "**", "user/*", "serviceaccount/ci"]);
        assert!(!pattern("user/*").is_any());
        assert!(!pattern("user/*").covers(&pattern("*")) && pattern("*").covers(&pattern("user/*")));
        assert!(!pattern("*-ci").of_accounts().matches("serviceaccount/a-ci"));
        let long = "a".repeat(Name::MAX_LENGTH);
        assert!(format!("serviceaccount/{long}").parse::<NamePattern>().is_ok());
        assert!(format!("serviceaccount/{long}a").parse::<NamePattern>().is_err());
    }

    #[test]
    fn only_rules_of_records_name_accounts_with_their_kind() {
        let check = |text: &str| Rule::check_list(&[text.parse().unwrap()], "a role", 9, 9);
        assert_eq!(check("view usage,audit sa/ci,alice"), Ok(()));
        for mixed in ["view users,usage user/bob", "view * user/bob", "view llms sa/ci"] {
            assert_eq!(check(mixed).unwrap_err().param, "rules[0].names", "{mixed}");
        }
    }

    #[test]
    fn rules_are_written_on_one_line_and_read_again() {
        for text in ["view,run llms claude,team-*", "* * *", "grant users,serviceaccounts ci"] {
            assert_eq!(text.parse::<Rule>().unwrap().to_string(), text);
        }
        assert_eq!("run  llm/claude".parse::<Rule>().unwrap().to_string(), "run llms claude");
        for (text, read) in [
            ("view usage ServiceAccount/ci", "view usage serviceaccount/ci"),
            ("view usage,audit users/team-*,sa/*", "view usage,audit user/team-*,serviceaccount/*"),
            ("view audit/serviceaccount/ci", "view audit serviceaccount/ci"),
        ] {
            assert_eq!(text.parse::<Rule>().unwrap().to_string(), read);
        }
        for bad in [
            "",
            "run",
            "run llms",
            "view usage group/a",
            "view usage user/",
            "view usage */a",
            "view usage user/a/b",
            "run llms/",
            "run llms/a b",
            "run llms a b",
            "fly llms a",
            "run cats a",
            "run llms A",
            ",run llms a",
        ] {
            assert!(bad.parse::<Rule>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn inv_12_covering_pattern_matches_what_the_covered_one_does(
            outer in "[ab*]{1,5}", inner in "[ab*]{1,5}", name in "[ab]{1,6}"
        ) {
            let (outer, inner) = (pattern(&outer), pattern(&inner));
            if outer.covers(&inner) && inner.matches(&name) {
                prop_assert!(outer.matches(&name), "{outer:?} {inner:?} {name}");
            }
        }
    }
}
