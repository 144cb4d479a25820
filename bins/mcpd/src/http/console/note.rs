//! Confirmations of what a form has done, shown by the page that it leads to. The address of that page has a proof that a form of this
//! session led there a moment ago, so that a link from elsewhere confirms nothing.

use std::{fmt, str::FromStr};

use jiff::{SignedDuration, Timestamp};
use mcpctl_secret::token::{self, TokenHash};

use super::{fields::address, visit::FormToken};

/// How long an address confirms.
const VALID_FOR: SignedDuration = SignedDuration::from_mins(1);

/// What a form has done, as the page that it leads to states it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// A right is revoked.
    AccessRevoked,
    /// An account is disabled.
    Disabled,
    /// An account is enabled.
    Enabled,
    /// Sessions of an account have ended.
    SessionsEnded(SessionCounts),
    /// A token is revoked.
    TokenRevoked,
}

/// What a form has done with the sessions of an account, the one in use left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SessionCounts {
    /// Those that have ended.
    pub ended: usize,
    /// Those that the form leaves, because it ends a limited number.
    pub left: usize,
    /// Those that the caller may view and not end.
    pub forbidden: usize,
}

impl SessionCounts {
    fn text(self) -> String {
        let Self { ended, left, forbidden } = self;
        let mut text = match ended {
            1 => "1 session has ended: no later request with it is accepted.".to_owned(),
            _ => format!("{ended} sessions have ended: no later request with them is accepted."),
        };
        if left > 0 {
            text.push_str(&format!(
                " Still open, because a form ends a limited number: {left}. End the sessions again."
            ));
        }
        if forbidden > 0 {
            text.push_str(&format!(" Still open, because you may not end them: {forbidden}."));
        }
        text
    }
}

impl Done {
    /// In sentences.
    pub fn text(self) -> String {
        let text = match self {
            Self::SessionsEnded(counts) => return counts.text(),
            Self::AccessRevoked => "The access is revoked. It holds for every request from now on.",
            Self::Disabled => "The account is disabled: no credential of it is accepted from now on.",
            Self::Enabled => "The account is enabled: its credentials are accepted again.",
            Self::TokenRevoked => "The token is revoked: no later request with it is accepted.",
        };
        text.to_owned()
    }

    /// The address of the page that states it, before the proof.
    pub fn page(self, path: &str) -> String {
        match self {
            Self::AccessRevoked => path.to_owned(),
            _ => address(path, &[("what", Some(self.to_string()))]),
        }
    }

    /// What a page at this path states, where the field `done` of its address proves it.
    pub fn stated(
        self,
        form_token: &FormToken,
        path: &str,
        done: Option<&str>,
        now: Timestamp,
    ) -> Option<String> {
        confirms(form_token, &self.page(path), done, now).then(|| self.text())
    }
}

/// As the address of a page has it.
impl fmt::Display for Done {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AccessRevoked => formatter.write_str("access-revoked"),
            Self::Disabled => formatter.write_str("disabled"),
            Self::Enabled => formatter.write_str("enabled"),
            Self::SessionsEnded(SessionCounts { ended, left, forbidden }) => {
                write!(formatter, "sessions-ended.{ended}.{left}.{forbidden}")
            }
            Self::TokenRevoked => formatter.write_str("token-revoked"),
        }
    }
}

impl FromStr for Done {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const UNKNOWN: &str = "nothing that a form does";
        let counts = |text: &str| {
            let counts: Vec<usize> = text.split('.').map_while(|count| count.parse().ok()).collect();
            let &[ended, left, forbidden] = counts.as_slice() else { return Err(UNKNOWN) };
            Ok(Self::SessionsEnded(SessionCounts { ended, left, forbidden }))
        };
        match text {
            "access-revoked" => Ok(Self::AccessRevoked),
            "disabled" => Ok(Self::Disabled),
            "enabled" => Ok(Self::Enabled),
            "token-revoked" => Ok(Self::TokenRevoked),
            _ => text.strip_prefix("sessions-ended.").map_or(Err(UNKNOWN), counts),
        }
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
        let counts = SessionCounts { ended: 3, left: 2, forbidden: 1 };
        for done in [
            Done::AccessRevoked,
            Done::Disabled,
            Done::Enabled,
            Done::SessionsEnded(counts),
            Done::TokenRevoked,
        ] {
            assert_eq!(done.to_string().parse(), Ok(done));
        }
        for wrong in
            ["", "sessions-ended", "sessions-ended.1.2", "sessions-ended.1.2.x", "sessions-ended.1.2.3.4"]
        {
            assert!(wrong.parse::<Done>().is_err(), "{wrong}");
        }
        for wrong in [None, Some("true"), Some(""), Some("1."), Some("9223372036854775807.00")] {
            assert!(!confirms(&own, "/console/access", wrong, now), "{wrong:?}");
        }
    }
}
