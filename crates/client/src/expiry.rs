//! Warns of a credential that ends soon, while it still lets its owner renew it.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use mcpctl_api::{HumanDuration, spec::SubjectKind};

use crate::config::{Context, login_command};

/// How long before its end a token is warned of.
const TOKEN_NOTICE: SignedDuration = SignedDuration::from_hours(7 * 24);
/// As [`TOKEN_NOTICE`], of a session: it lasts half a day.
const SESSION_NOTICE: SignedDuration = SignedDuration::from_mins(30);

/// A credential that ends soon or has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpiryWarning {
    /// What ends, where and when.
    pub message: String,
    /// The command that renews it.
    pub renewal: String,
}

impl fmt::Display for ExpiryWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; renew it: {}", self.message, self.renewal)
    }
}

/// The warning for a context whose bearer ends soon or has ended.
pub fn warning(context: &Context) -> Option<ExpiryWarning> {
    context.token.as_ref()?;
    warning_of(context, context.expires_at?)
}

/// As [`warning`], where the server has stated the end.
pub fn warning_of(context: &Context, end: Timestamp) -> Option<ExpiryWarning> {
    let notice = if context.session { SESSION_NOTICE } else { TOKEN_NOTICE };
    let left = end.duration_since(Timestamp::now());
    if left > notice {
        return None;
    }
    let server = context.server.as_str().trim_end_matches('/');
    let what = if context.session { "session" } else { "token" };
    let when = match u64::try_from(left.as_secs()) {
        Ok(seconds) if !left.is_negative() => {
            format!("ends in {}", HumanDuration::from_secs(seconds).nearest_two_units())
        }
        _ => "has ended".to_owned(),
    };
    let renewal = renewal(context, left.is_negative());
    Some(ExpiryWarning { message: format!("your {what} at {server} {when}"), renewal })
}

fn renewal(context: &Context, has_ended: bool) -> String {
    let login = login_command(&context.server, Some(context));
    let account = match &context.account {
        Some(account) => Some((account.kind, account.name.as_str())),
        None => context.user.as_deref().map(|user| (SubjectKind::User, user)),
    };
    match (context.session, account) {
        // Only an exchange makes a session of a workload.
        (true, Some((SubjectKind::ServiceAccount, name))) => {
            format!("{login} --exchange FILE --serviceaccount {name}")
        }
        (true, Some((_, user))) => match &context.provider {
            Some(provider) => format!("{login} --sso={provider}"),
            None => format!("{login} --user {user}"),
        },
        // A token that has ended renews nothing.
        (false, Some((SubjectKind::User, _))) if !has_ended => {
            format!("mcpctl token rotate --context {}", context.name)
        }
        (false, Some((kind, name))) if !has_ended => {
            let create = format!("mcpctl create token NAME --for {kind}/{name}");
            format!("{create} | {login} --stdin (an administrator can create it for you)")
        }
        _ => login,
    }
}

#[cfg(test)]
mod tests {
    use mcpctl_api::spec::{SecretValue, Subject};

    use super::*;

    fn context(session: bool, left: SignedDuration) -> Context {
        Context {
            name: "c".to_owned(),
            server: "https://mcpd.example.com".parse().unwrap(),
            user: Some("alice".to_owned()),
            account: None,
            token: Some(SecretValue::new("t")),
            server_user: None,
            ca: None,
            client_certificate: None,
            client_key: None,
            expires_at: Some(Timestamp::now() + left),
            session,
            provider: None,
        }
    }

    fn text(context: &Context) -> String {
        warning(context).unwrap().to_string()
    }

    #[test]
    fn warning_comes_seven_days_before_the_end_of_a_token() {
        let days = |days: i64| SignedDuration::from_hours(24 * days);
        assert_eq!(warning(&context(false, days(7) + SignedDuration::from_secs(60))), None);
        let warned = text(&context(false, days(7) - SignedDuration::from_secs(60)));
        assert!(warned.starts_with("your token at https://mcpd.example.com ends in 7d;"), "{warned}");
        assert!(warned.ends_with("; renew it: mcpctl token rotate --context c"), "{warned}");
        let warned = text(&context(false, days(-1)));
        assert!(
            warned.ends_with("has ended; renew it: mcpctl login https://mcpd.example.com --context c"),
            "{warned}"
        );
        assert_eq!(warning(&Context { token: None, ..context(false, days(1)) }), None);
        assert_eq!(warning(&Context { expires_at: None, ..context(false, days(1)) }), None);
    }

    #[test]
    fn session_of_half_a_day_is_not_warned_of_at_once() {
        assert_eq!(warning(&context(true, SignedDuration::from_hours(11))), None);
        let warned = text(&context(true, SignedDuration::from_mins(20)));
        assert!(
            warned.ends_with("renew it: mcpctl login https://mcpd.example.com --context c --user alice"),
            "{warned}"
        );
        let account = Some(Subject { kind: SubjectKind::ServiceAccount, name: "ci".parse().unwrap() });
        let exchanged = Context { user: None, account, ..context(true, SignedDuration::from_mins(20)) };
        let warned = text(&exchanged);
        assert!(warned.ends_with(" --exchange FILE --serviceaccount ci"), "{warned}");
        let at_provider =
            Context { provider: Some("corp".to_owned()), ..context(true, SignedDuration::ZERO) };
        let warned = text(&at_provider);
        assert!(warned.ends_with("mcpctl login https://mcpd.example.com --context c --sso=corp"), "{warned}");
    }
}
