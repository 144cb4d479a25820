//! Credentials in the query of an address: they end up in logs and histories, so both daemons reject them, valid or not.

use std::borrow::Cow;

use crate::token::Prefix;

/// Words for a credential in a key, without hyphens and underscores.
const KEYS: [&str; 11] = [
    "token",
    "accesstoken",
    "authtoken",
    "bearertoken",
    "idtoken",
    "apikey",
    "xapikey",
    "key",
    "auth",
    "authorization",
    "bearer",
];

/// Maximum number of times that a text is decoded; clients do not encode a credential more often by mistake.
const MAX_ROUNDS: usize = 3;

/// Whether a query holds a credential by the name of a key, or by the beginning of a token anywhere in a key or a value.
/// Percent-encoded text is decoded first, also when it was encoded twice.
pub fn carries_credential(query: &str) -> bool {
    // Some programs separate pairs by `;`.
    query.split(['&', ';']).any(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (key, value) = (decoded(key), decoded(value));
        let word = key.to_ascii_lowercase().replace(['-', '_', ' '], "");
        KEYS.contains(&word.trim_end_matches("[]")) || holds_token(&key) || holds_token(&value)
    })
}

fn decoded(text: &str) -> Cow<'_, str> {
    let mut text = Cow::Borrowed(text);
    for _ in 0..MAX_ROUNDS {
        if !text.contains(['%', '+']) {
            break;
        }
        // Parsed as one key without a value.
        let whole = text.replace('&', "%26").replace('=', "%3D");
        let next = form_urlencoded::parse(whole.as_bytes()).next().map(|(key, _)| key.into_owned());
        text = Cow::Owned(next.unwrap_or_default());
    }
    text
}

/// Whether a word begins with the prefix of a token; labels and names that contain it elsewhere do not count.
fn holds_token(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    [Prefix::Mcpd, Prefix::Console, Prefix::Local].into_iter().any(|prefix| {
        lower.match_indices(prefix.as_str()).any(|(at, _)| {
            let before = lower.get(..at).and_then(|before| before.chars().next_back());
            !before.is_some_and(|before| before.is_ascii_alphanumeric() || matches!(before, '_' | '-'))
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn credentials_in_addresses_are_detected() {
        for query in [
            "token=x",
            "a=1&access_token=x",
            "API-KEY=x",
            "q=mcpd_abc",
            "q=mcpc_abc",
            "key",
            "t%6Fken=x",
            "%74%6F%6B%65%6E=x",
            "to%256ben=x",
            "Authorization=Bearer%20x",
            "q=%6dcpd_abc",
            "q=mcpl%5Fabc",
            "q=mcpl%255Fabc",
            "q=Bearer+mcpd_abc",
            "q=Bearer%20mcpd_abc",
            "mcpd_abc",
            "mcpd%5Fabc=1",
            "a=1;token=x",
            "api%5Fkey=x",
            "q=MCPD_abc",
            "q=%22mcpd_abc%22",
            "token[]=x",
            "q={\"token\":\"mcpd_abc\"}",
        ] {
            assert!(carries_credential(query), "{query}");
        }
        for query in [
            "",
            "kinds=llms&since=1",
            "monkey=1",
            "dryRun=true",
            "labelSelector=team%3Da%2Ctier%21%3Ddev",
            "labelSelector=app=x-mcpd_y",
            "verb=run&kind=tokens&name=keyring",
            "previous=false&follow=true",
            "a=%ff%fe%",
        ] {
            assert!(!carries_credential(query), "{query}");
        }
    }

    proptest! {
        #[test]
        fn encoded_token_is_detected(mask in any::<u64>(), rounds in 0_usize..3) {
            let encode = |text: &str, mask: u64| -> String {
                text.bytes().enumerate().map(|(at, byte)| match mask >> (at % 64) & 1 {
                    0 if byte != b'%' => char::from(byte).to_string(),
                    _ => format!("%{byte:02x}"),
                }).collect()
            };
            let text = (0..rounds).fold("mcpd_abc".to_owned(), |text, round| encode(&text, mask.rotate_left(round as u32)));
            let query = format!("q={}", text);
            prop_assert!(carries_credential(&query), "{}", query);
        }
    }
}
