//! What must not get into an engine's log: the start's key, and what looks like a secret among what the engine is given.
//! By the names of variables and arguments, because a secret's value does not tell.

use std::path::Path;

use secrecy::{ExposeSecret as _, SecretString};

use crate::options::EngineOptions;

/// Shorter ones are no secrets, and would blacken the whole log.
const SHORTEST: usize = 8;
const TELLING: [&str; 6] = ["TOKEN", "KEY", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL"];

/// Every secret that a start with these options knows of.
pub(crate) fn of(options: &EngineOptions, api_key: &SecretString) -> Vec<String> {
    let inherited = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let given = options.env.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    let told = arguments(&options.extra_args);
    let found = inherited.chain(given).chain(told).filter(|(name, value)| is_secret(name, value));
    std::iter::once(api_key.expose_secret().to_owned()).chain(found.map(|(_, value)| value)).collect()
}

/// Whether a name says that its value is a secret.
pub(crate) fn is_telling(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    TELLING.iter().any(|word| name.contains(word))
}

fn is_secret(name: &str, value: &str) -> bool {
    // A path is where a secret is, not the secret.
    is_telling(name) && value.len() >= SHORTEST && !Path::new(value).exists()
}

/// `--flag value` and `--flag=value`.
fn arguments(arguments: &[String]) -> impl Iterator<Item = (String, String)> {
    let following = arguments.windows(2).filter_map(|pair| match pair {
        [flag, value] if flag.starts_with('-') && !flag.contains('=') => Some((flag.clone(), value.clone())),
        _ => None,
    });
    let joined = arguments.iter().filter_map(|argument| argument.split_once('='));
    following.chain(joined.map(|(flag, value)| (flag.to_owned(), value.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_by_the_names_under_which_they_are_given() {
        let options = EngineOptions {
            env: [
                ("HF_TOKEN", "hf_abcdefgh"),
                ("DB_PASSWD", "/+base64like/=="),
                ("TOKENIZER_KEY", "short"),
                ("HF_TOKEN_PATH", "/tmp"),
                ("LANG", "C.UTF-8-long"),
            ]
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
            extra_args: [
                "--hf-token",
                "hf_from_argument",
                "--some-secret=hidden-value",
                "--seed",
                "12345678",
            ]
            .map(str::to_owned)
            .to_vec(),
            ..EngineOptions::default()
        };
        let secrets = of(&options, &SecretString::from("k3y"));
        for secret in ["k3y", "hf_abcdefgh", "/+base64like/==", "hf_from_argument", "hidden-value"] {
            assert!(secrets.iter().any(|known| known == secret), "{secret}: {secrets:?}");
        }
        for plain in ["short", "/tmp", "C.UTF-8-long", "12345678"] {
            assert!(!secrets.iter().any(|known| known == plain), "{plain}");
        }
    }
}
