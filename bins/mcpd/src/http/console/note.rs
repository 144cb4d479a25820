//! Confirmations of what a form has done, shown by the page that it leads to. The address of that page has a proof that a form of this
//! session led there a moment ago, so that a link from elsewhere confirms nothing.

use jiff::{SignedDuration, Timestamp};
use mcpctl_secret::token::{self, TokenHash};

use serde::Deserialize;

use super::{fields::address, visit::FormToken};

/// How long an address confirms.
const VALID_FOR: SignedDuration = SignedDuration::from_mins(1);

/// What a form has done, as the page that it leads to states it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Done {
    /// A right is revoked.
    #[default]
    AccessRevoked,
    /// An account is disabled.
    Disabled,
    /// An account is enabled.
    Enabled,
    /// The sessions of an account have ended.
    SessionsEnded,
    /// A token is revoked.
    TokenRevoked,
}

impl Done {
    /// In a sentence.
    pub const fn text(self) -> &'static str {
        match self {
            Self::AccessRevoked => "The access is revoked. It holds for every request from now on.",
            Self::Disabled => "The account is disabled: no credential of it is accepted from now on.",
            Self::Enabled => "The account is enabled: its credentials are accepted again.",
            Self::SessionsEnded => "The sessions have ended: no later request with them is accepted.",
            Self::TokenRevoked => "The token is revoked: no later request with it is accepted.",
        }
    }

    /// The address of the page that states it, before the proof.
    pub fn page(self, path: &str) -> String {
        let what = match self {
            Self::AccessRevoked => return path.to_owned(),
            Self::Disabled => "disabled",
            Self::Enabled => "enabled",
            Self::SessionsEnded => "sessions-ended",
            Self::TokenRevoked => "token-revoked",
        };
        address(path, &[("what", Some(what.to_owned()))])
    }

    /// What a page at this path states, where the field `done` of its address proves it.
    pub fn stated(
        self,
        form_token: &FormToken,
        path: &str,
        done: Option<&str>,
        now: Timestamp,
    ) -> Option<&'static str> {
        confirms(form_token, &self.page(path), done, now).then(|| self.text())
    }
}

/// The address of a page, with the proof. `page` is its path, and its query where it has one.
pub fn confirming(form_token: &FormToken, page: &str, now: Timestamp) -> String {
    let (separator, at) = (if page.contains('?') { '&' } else { '?' }, now.as_second());
    format!("{page}{separator}done={at}.{}", proof(form_token, page, at))
}

/// Whether the field `done` of a page's address is such a proof.
pub fn confirms(form_token: &FormToken, page: &str, done: Option<&str>, now: Timestamp) -> bool {
    let parsed = done.and_then(|done| {
        let (at, proof) = done.split_once('.')?;
        Some((at.parse::<i64>().ok()?, proof.parse::<TokenHash>().ok()?))
    });
    parsed.is_some_and(|(at, stated)| {
        let age = now.as_second().checked_sub(at).map(SignedDuration::from_secs);
        age.is_some_and(|age| (SignedDuration::ZERO..VALID_FOR).contains(&age))
            && proof(form_token, page, at) == stated
    })
}

fn proof(form_token: &FormToken, page: &str, at: i64) -> TokenHash {
    token::hash(&format!("confirmation of the console, {form_token}, {at}, {page}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_confirms_in_its_session_for_its_page_and_for_a_minute() {
        let [own, other] = ["a", "b"].map(FormToken::of);
        let now: Timestamp = "2026-03-01T00:00:00Z".parse().unwrap();
        for page in ["/console/access", "/console/tokens?revoked=a"] {
            let address = confirming(&own, page, now);
            let (before, done) = address.split_once("done=").unwrap();
            assert_eq!(before.trim_end_matches(['?', '&']), page);
            let holds = |token, page, at| confirms(token, page, Some(done), at);
            assert!(holds(&own, page, now) && holds(&own, page, now + SignedDuration::from_secs(59)));
            assert!(!holds(&other, page, now) && !holds(&own, "/console/people", now));
            assert!(!holds(&own, page, now + SignedDuration::from_secs(60)));
            assert!(!holds(&own, page, now - SignedDuration::from_secs(1)));
        }
        for wrong in [None, Some("true"), Some(""), Some("1."), Some("9223372036854775807.00")] {
            assert!(!confirms(&own, "/console/access", wrong, now), "{wrong:?}");
        }
    }
}
