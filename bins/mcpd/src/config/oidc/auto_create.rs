//! Who becomes a user at the first sign-in: the key `autoCreate` of a provider.

use std::{collections::BTreeMap, fmt};

use mcpctl_api::Name;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::{Map, Value};

/// Default and greatest maximum of users of one provider.
const DEFAULT_MAX_USERS: u32 = 1000;
const MAX_MAX_USERS: u32 = 100_000;
/// Maximum of claims that are required, and of values of each.
const MAX_CLAIMS: usize = 8;
const MAX_VALUES: usize = 64;
/// Maximum length of the name or a value of a claim, in bytes.
const MAX_TEXT_BYTES: usize = 256;
/// Maximum length of a prefix of names, in bytes.
const MAX_PREFIX_BYTES: usize = 32;
/// The claim by which a provider states whether it knows that an address is the person's (OpenID Connect Core 1.0, section 5.1).
const EMAIL: (&str, &str) = ("email", "email_verified");

/// Who becomes a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AutoCreate {
    max_users: u32,
    name_prefix: String,
    claims: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    /// Maximum of users that sign-ins at this provider create [default: 1000].
    max_users: Option<u32>,
    /// What their names begin with.
    name_prefix: Option<String>,
    /// Claims that a newcomer has to have, each with one of these values.
    #[serde(default)]
    claims: BTreeMap<String, Vec<String>>,
}

impl Default for AutoCreate {
    fn default() -> Self {
        Self { max_users: DEFAULT_MAX_USERS, name_prefix: String::new(), claims: BTreeMap::new() }
    }
}

impl AutoCreate {
    /// Maximum of users of the provider.
    pub fn max_users(&self) -> usize {
        usize::try_from(self.max_users).unwrap_or(usize::MAX)
    }

    /// What their names begin with.
    pub fn name_prefix(&self) -> &str {
        &self.name_prefix
    }

    /// The first required claim that has none of its values.
    pub fn missing_claim(&self, claims: &Map<String, Value>) -> Option<&str> {
        let missing = |(name, accepted): &(&String, &Vec<String>)| !has_one_of(claims, name, accepted);
        self.claims.iter().find(missing).map(|(name, _)| name.as_str())
    }
}

/// Whether a claim, a text or a list of them, has one of these values. An address that the provider has not verified is none.
fn has_one_of(claims: &Map<String, Value>, name: &str, accepted: &[String]) -> bool {
    let is_true = |name: &str| match claims.get(name) {
        Some(Value::Bool(set)) => *set,
        Some(Value::String(text)) => text == "true",
        _ => false,
    };
    if name == EMAIL.0 && !is_true(EMAIL.1) {
        return false;
    }
    let fits =
        |value: &Value| value.as_str().is_some_and(|text| accepted.iter().any(|one| accepts(one, text)));
    match claims.get(name) {
        Some(Value::Array(several)) => several.iter().any(fits),
        Some(one) => fits(one),
        None => false,
    }
}

/// `*` at the beginning stands for any text; what follows it is compared as domains are, without regard to case.
fn accepts(accepted: &str, text: &str) -> bool {
    match accepted.strip_prefix('*') {
        None => accepted == text,
        Some(end) => text
            .len()
            .checked_sub(end.len())
            .and_then(|at| text.get(at..))
            .is_some_and(|found| text.len() > end.len() && found.eq_ignore_ascii_case(end)),
    }
}

impl TryFrom<Written> for AutoCreate {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let max_users = written.max_users.unwrap_or(DEFAULT_MAX_USERS);
        if !(1..=MAX_MAX_USERS).contains(&max_users) {
            return Err(format!("`maxUsers` is 1 to {MAX_MAX_USERS}"));
        }
        let name_prefix = written.name_prefix.unwrap_or_default();
        if name_prefix.len() > MAX_PREFIX_BYTES || format!("{name_prefix}a").parse::<Name>().is_err() {
            return Err(format!("`{name_prefix}` cannot begin names"));
        }
        if written.claims.len() > MAX_CLAIMS {
            return Err(format!("at most {MAX_CLAIMS} claims are required"));
        }
        for (claim, values) in &written.claims {
            if !(1..=MAX_VALUES).contains(&values.len()) {
                return Err(format!("the claim `{claim}` has 1 to {MAX_VALUES} values that are accepted"));
            }
            for text in std::iter::once(claim).chain(values) {
                // `*` alone would require nothing.
                if text.is_empty() || text.len() > MAX_TEXT_BYTES || text == "*" {
                    return Err(format!(
                        "`{text}` of the claim `{claim}` is not a valid value: 1 to {MAX_TEXT_BYTES} bytes, not `*` alone"
                    ));
                }
            }
        }
        Ok(Self { max_users, name_prefix, claims: written.claims })
    }
}

/// Reads `true`, `false`, or who.
pub fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Option<AutoCreate>, D::Error> {
    struct Read;

    impl<'de> Visitor<'de> for Read {
        type Value = Option<AutoCreate>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("`true`, `false`, or the keys `maxUsers`, `namePrefix` and `claims`")
        }

        fn visit_bool<E: serde::de::Error>(self, on: bool) -> Result<Self::Value, E> {
            Ok(on.then(AutoCreate::default))
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            let written = Written::deserialize(MapAccessDeserializer::new(map))?;
            AutoCreate::try_from(written).map(Some).map_err(serde::de::Error::custom)
        }
    }

    from.deserialize_any(Read)
}

#[cfg(test)]
mod tests {
    use mcpctl_api::yaml;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Entry {
        #[serde(rename = "autoCreate", deserialize_with = "read")]
        auto_create: Option<AutoCreate>,
    }

    fn auto_create(text: &str) -> Result<Option<AutoCreate>, String> {
        let entry: Result<Entry, _> = yaml::from_str(&format!("autoCreate: {text}\n"));
        entry.map(|entry| entry.auto_create).map_err(|error| error.to_string())
    }

    #[test]
    fn switch_and_keys_are_read_and_wrong_ones_refused() {
        assert_eq!(auto_create("false").unwrap(), None);
        assert_eq!(auto_create("true").unwrap(), Some(AutoCreate::default()));
        assert_eq!(auto_create("{}").unwrap().unwrap().max_users(), 1000);
        for (text, expected) in [
            ("yes please", "`true`, `false`"),
            ("{maxUser: 1}", "unknown field `maxUser`"),
            ("{maxUsers: 0}", "`maxUsers` is 1 to"),
            ("{namePrefix: Corp}", "cannot begin names"),
            ("{claims: {hd: []}}", "1 to 64 values"),
            ("{claims: {hd: ['*']}}", "not `*` alone"),
        ] {
            let error = auto_create(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn every_required_claim_needs_one_of_its_values() {
        let required = auto_create("{claims: {email: ['*@example.com'], hd: [example.com, example.org]}}")
            .unwrap()
            .unwrap();
        let missing = |claims: Value| required.missing_claim(claims.as_object().unwrap()).map(str::to_owned);
        let with = |email: &str, verified: Value| json!({"email": email, "email_verified": verified, "hd": "example.org"});
        assert_eq!(missing(with("a@EXAMPLE.com", json!(true))), None);
        assert_eq!(missing(with("a@example.com", json!("true"))), None);
        for (email, verified) in [
            ("a@example.com", json!(false)),
            ("a@example.com", Value::Null),
            ("a@example.com.evil.example", json!(true)),
            ("@example.com", json!(true)),
            ("a@notexample.com", json!(true)),
            ("é", json!(true)),
        ] {
            assert_eq!(
                missing(with(email, verified.clone())).as_deref(),
                Some("email"),
                "{email} {verified}"
            );
        }
        let mut claims = with("a@example.com", json!(true));
        claims["hd"] = json!(["EXAMPLE.com", 7]);
        assert_eq!(missing(claims.clone()).as_deref(), Some("hd"));
        claims["hd"] = json!(["other", "example.com"]);
        assert_eq!(missing(claims), None);
    }
}
