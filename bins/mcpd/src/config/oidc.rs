//! The issuers whose sign-in mcpd accepts: the key `oidc` of the configuration file.

mod auto_create;

use std::{collections::HashSet, path::PathBuf};

use mcpctl_api::{HintedError, Name, oidc::IssuerUrl};
use mcpctl_owner::file::{self, Content};
use secrecy::SecretString;
use serde::Deserialize;

use auto_create::AutoCreate;

/// Maximum number of issuers; each has a cache of keys.
const MAX_ISSUERS: usize = 8;
/// Maximum number of scopes of an issuer.
const MAX_SCOPES: usize = 32;
/// Maximum length of a client's id, a scope or the name of a claim, in bytes.
const MAX_TEXT_BYTES: usize = 255;
/// Maximum size of a file with a client's secret, in bytes.
const MAX_SECRET_BYTES: u64 = 4096;

/// The key `oidc`: a bounded list of issuers, each with a name and an address of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<OidcEntry>")]
pub struct OidcEntries(Vec<OidcEntry>);

/// One issuer, as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct OidcEntry {
    /// The name by which people choose it.
    name: Name,
    /// Its identity, which is also the address of its discovery document.
    issuer: IssuerUrl,
    /// The id that mcpd has there.
    client_id: Text,
    /// File with the secret of a confidential client; mode 0600.
    client_secret_file: Option<PathBuf>,
    /// The scopes to request; `openid` has to be among them [default: openid, profile].
    #[serde(default = "default_scopes")]
    scopes: Vec<Scope>,
    /// The claim that a new user's name is made of [default: preferred_username].
    #[serde(default = "default_username_claim")]
    username_claim: Text,
    /// The claim with the values that map to groups.
    groups_claim: Option<Text>,
    /// Who becomes a user at the first sign-in; with `false` no person does [default: false].
    #[serde(default, deserialize_with = "auto_create::read")]
    auto_create: Option<AutoCreate>,
    /// Whether a device code may be used (RFC 8628) [default: false].
    #[serde(default)]
    device_code: bool,
}

/// One issuer, with its secret.
#[derive(Debug, Clone)]
pub struct OidcConfig {
    /// The name by which people choose it.
    pub name: Name,
    /// Its identity, which is also the address of its discovery document.
    pub issuer: IssuerUrl,
    /// The id that mcpd has at the issuer; the audience of its ID tokens.
    pub client_id: String,
    /// The secret of a confidential client.
    pub client_secret: Option<SecretString>,
    /// The scopes to request; `openid` is among them.
    pub scopes: Vec<String>,
    /// The claim that a new user's name is made of.
    pub username_claim: String,
    /// The claim with the values that map to groups.
    pub groups_claim: Option<String>,
    /// Who becomes a user at the first sign-in; no person where it is left out.
    pub auto_create: Option<AutoCreate>,
    /// Whether a device code may be used (RFC 8628).
    pub device_code: bool,
}

/// A text that is sent as it is: neither empty nor long, without blanks and control characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
struct Text(String);

impl TryFrom<String> for Text {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.len() {
            1..=MAX_TEXT_BYTES if text.chars().all(|c| c.is_ascii_graphic()) => Ok(Self(text)),
            1..=MAX_TEXT_BYTES => Err(format!("`{text}` has characters other than visible ASCII ones")),
            _ => Err(format!("a text here has 1 to {MAX_TEXT_BYTES} characters")),
        }
    }
}

/// A scope (RFC 6749, section 3.3).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
struct Scope(String);

impl TryFrom<String> for Scope {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let Text(text) = Text::try_from(text)?;
        if text.contains(['"', '\\']) {
            return Err(format!("`{text}` is not a scope"));
        }
        Ok(Self(text))
    }
}

fn default_scopes() -> Vec<Scope> {
    ["openid", "profile"].map(|scope| Scope(scope.to_owned())).into()
}

fn default_username_claim() -> Text {
    Text("preferred_username".to_owned())
}

impl TryFrom<Vec<OidcEntry>> for OidcEntries {
    type Error = String;

    fn try_from(entries: Vec<OidcEntry>) -> Result<Self, String> {
        if entries.len() > MAX_ISSUERS {
            return Err(format!("at most {MAX_ISSUERS} issuers, this list has {}", entries.len()));
        }
        let (mut names, mut issuers) = (HashSet::new(), HashSet::new());
        for entry in &entries {
            if !names.insert(&entry.name) {
                return Err(format!("two issuers have the name `{}`", entry.name));
            }
            // A user belongs to an issuer's address and subject, so two entries of one address would share users.
            if !issuers.insert(&entry.issuer) {
                return Err(format!("the issuer `{}` is listed twice", entry.issuer));
            }
            if entry.scopes.len() > MAX_SCOPES {
                return Err(format!("`{}` has more than {MAX_SCOPES} scopes", entry.name));
            }
            if !entry.scopes.iter().any(|scope| scope.0 == "openid") {
                return Err(format!(
                    "`scopes` of `{}` lacks `openid`, without which there is no ID token",
                    entry.name
                ));
            }
        }
        Ok(Self(entries))
    }
}

impl OidcEntries {
    /// Reads the files with the clients' secrets.
    ///
    /// # Errors
    /// A file that cannot be read, is open to others, or has no secret.
    pub fn resolve(self) -> anyhow::Result<Vec<OidcConfig>> {
        self.0.into_iter().map(OidcEntry::resolve).collect()
    }
}

impl OidcEntry {
    fn resolve(self) -> anyhow::Result<OidcConfig> {
        let client_secret = match &self.client_secret_file {
            None => None,
            Some(path) => {
                let refused = |why: &dyn std::fmt::Display, hint: Option<&str>| {
                    let message = format!("`clientSecretFile` of the issuer `{}`: {why}", self.name);
                    HintedError::new(message, hint)
                };
                let bytes = file::read_named(path, Content::Secret, MAX_SECRET_BYTES)
                    .map_err(|error| refused(&error, error.hint().as_deref()))?;
                let text = String::from_utf8(bytes).map_err(|_| refused(&"it is not text in UTF-8", None))?;
                let secret = text.trim();
                if secret.is_empty() {
                    return Err(refused(&"it is empty", None).into());
                }
                Some(SecretString::from(secret))
            }
        };
        Ok(OidcConfig {
            name: self.name,
            issuer: self.issuer,
            client_id: self.client_id.0,
            client_secret,
            scopes: self.scopes.into_iter().map(|scope| scope.0).collect(),
            username_claim: self.username_claim.0,
            groups_claim: self.groups_claim.map(|claim| claim.0),
            auto_create: self.auto_create,
            device_code: self.device_code,
        })
    }
}

#[cfg(test)]
mod tests {
    use mcpctl_api::yaml;

    use super::*;

    fn read(text: &str) -> Result<OidcEntries, String> {
        yaml::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn entry_with_defaults_is_strict() {
        let entries = read("- {name: corp, issuer: 'https://id.example.com', clientId: mcpctl}\n").unwrap();
        let config = entries.resolve().unwrap().pop().unwrap();
        assert_eq!((config.scopes.join(" ").as_str(), config.auto_create), ("openid profile", None));
        assert_eq!((config.groups_claim, config.device_code), (None, false));
    }

    #[test]
    fn wrong_entries_are_errors() {
        let corp = "name: corp, issuer: 'https://id.example.com', clientId: c";
        for (text, expected) in [
            (format!("- {{{corp}, groupClaim: groups}}"), "unknown field `groupClaim`"),
            (format!("- {{{corp}}}\n- {{{corp}}}"), "two issuers have the name"),
            (format!("- {{{corp}}}\n- {{{}}}", corp.replace("corp", "b")), "is listed twice"),
            (format!("- {{{corp}, scopes: [profile]}}"), "lacks `openid`"),
            (format!("- {{{corp}, scopes: ['openid x']}}"), "visible ASCII"),
            (format!("- {{{corp}, usernameClaim: ''}}"), "1 to 255"),
            ("- {name: a, issuer: 'http://id.example.com', clientId: c}".to_owned(), "https"),
            ("- {name: a, issuer: 'https://id.example.com?x=1', clientId: c}".to_owned(), "query"),
        ] {
            let error = read(&text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let many: String = (0..9)
            .map(|n| format!("- {{name: i{n}, issuer: 'https://i{n}.example.com', clientId: c}}\n"))
            .collect();
        assert!(read(&many).unwrap_err().contains("at most 8"));
    }

    #[test]
    fn secret_open_to_others_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let resolve = || {
            let text = format!(
                "- {{name: a, issuer: 'https://a.example', clientId: c, clientSecretFile: '{}'}}",
                path.display()
            );
            read(&text).unwrap().resolve()
        };
        assert!(resolve().unwrap_err().to_string().contains("clientSecretFile"));
        std::fs::write(&path, "hunter2\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = resolve().unwrap_err().to_string();
        assert!(error.contains("0644") && !error.contains("hunter2"), "{error}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(resolve().unwrap().pop().unwrap().client_secret.is_some());
    }
}
