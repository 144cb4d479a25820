//! Keeps secrets out of a program's log: those that the caller names, and the values of environment variables and
//! arguments whose name announces a secret. By the name, because a value alone doesn't show that it is one.

use std::path::Path;

/// Shorter values are no secrets, and replacing them would make the log unreadable.
const MIN_SECRET_BYTES: usize = 8;
const SECRET_NAMES: [&str; 6] = ["TOKEN", "KEY", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL"];
const REPLACEMENT: &str = "[redacted]";

/// The values of these variables and arguments that are secrets by their names.
pub fn secrets(variables: impl Iterator<Item = (String, String)>, arguments: &[String]) -> Vec<String> {
    let named = variables.chain(named_arguments(arguments));
    named.filter(|(name, value)| is_secret(name, value)).map(|(_, value)| value).collect()
}

/// Whether a name announces a secret.
pub fn names_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    SECRET_NAMES.iter().any(|word| name.contains(word))
}

fn is_secret(name: &str, value: &str) -> bool {
    // A path shows where a secret is and is none itself.
    names_secret(name) && value.len() >= MIN_SECRET_BYTES && !Path::new(value).exists()
}

/// `--flag value` and `--flag=value`.
fn named_arguments(arguments: &[String]) -> impl Iterator<Item = (String, String)> {
    let following = arguments.windows(2).filter_map(|pair| match pair {
        [flag, value] if flag.starts_with('-') && !flag.contains('=') => Some((flag.clone(), value.clone())),
        _ => None,
    });
    let joined = arguments.iter().filter_map(|argument| argument.split_once('='));
    following.chain(joined.map(|(flag, value)| (flag.to_owned(), value.to_owned())))
}

/// Replaces secrets in lines.
#[derive(Default)]
pub(crate) struct Redactor(Vec<String>);

impl Redactor {
    pub(crate) fn new(mut secrets: Vec<String>) -> Self {
        secrets.retain(|secret| !secret.is_empty());
        // The longest first, so that no part is left of a secret that contains another.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Self(secrets)
    }

    pub(crate) fn redact(&self, line: &str) -> String {
        self.0.iter().fold(line.to_owned(), |line, secret| line.replace(secret, REPLACEMENT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_found_by_the_names_of_their_variables() {
        let variables = [
            ("HF_TOKEN", "hf_abcdefgh"),
            ("DB_PASSWD", "/+base64like/=="),
            ("TOKENIZER_KEY", "short"),
            ("HF_TOKEN_PATH", "/tmp"),
            ("LANG", "C.UTF-8-long"),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let arguments =
            ["--hf-token", "hf_from_argument", "--some-secret=hidden-value", "--seed", "12345678"];
        let secrets = secrets(variables.into_iter(), &arguments.map(str::to_owned));
        for secret in ["hf_abcdefgh", "/+base64like/==", "hf_from_argument", "hidden-value"] {
            assert!(secrets.iter().any(|found| found == secret), "{secret}: {secrets:?}");
        }
        for plain in ["short", "/tmp", "C.UTF-8-long", "12345678"] {
            assert!(!secrets.iter().any(|found| found == plain), "{plain}");
        }
    }
}
