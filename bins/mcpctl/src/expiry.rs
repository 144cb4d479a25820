//! Warns of a token that ends soon, while it still lets its owner make another one.

use jiff::{SignedDuration, Timestamp};
use mcpctl_api::spec::SubjectKind;
use mcpctl_client::config::Context;

use crate::output::table::until;

/// How long before its end a token is warned of.
const TOKEN_NOTICE: SignedDuration = SignedDuration::from_hours(7 * 24);
/// As [`TOKEN_NOTICE`], of a session: it lasts half a day.
const SESSION_NOTICE: SignedDuration = SignedDuration::from_mins(30);

/// The warning for a context whose bearer ends soon or has ended, with the command that renews it.
pub fn warning(context: &Context) -> Option<String> {
    context.token.as_ref()?;
    warning_of(context, context.expires_at?)
}

/// As [`warning`], where the server has stated the end.
pub fn warning_of(context: &Context, end: Timestamp) -> Option<String> {
    let notice = if context.session { SESSION_NOTICE } else { TOKEN_NOTICE };
    let left = end.duration_since(Timestamp::now());
    if left > notice {
        return None;
    }
    let server = context.server.as_str().trim_end_matches('/');
    let what = if context.session { "session" } else { "token" };
    let when = if left.is_negative() { "has ended".to_owned() } else { format!("ends {}", until(end)) };
    let account = match &context.account {
        Some(account) => Some((account.kind, account.name.as_str())),
        None => context.user.as_deref().map(|user| (SubjectKind::User, user)),
    };
    let renewal = match (context.session, account) {
        // Only an exchange makes a session of a workload.
        (true, Some((SubjectKind::ServiceAccount, name))) => {
            format!("mcpctl login {server} --exchange FILE --serviceaccount {name}")
        }
        (true, Some((_, user))) => match &context.provider {
            Some(provider) => format!("mcpctl login {server} --sso={provider}"),
            None => format!("mcpctl login {server} --user {user}"),
        },
        // A token that has ended cannot create another one.
        (false, Some((kind, name))) if !left.is_negative() => {
            let create = format!("mcpctl create token NAME --for {kind}/{name}");
            format!("{create} | mcpctl login {server} --token-stdin (an administrator can create it for you)")
        }
        _ => format!("mcpctl login {server}"),
    };
    Some(format!("your {what} at {server} {when}; renew it: {renewal}"))
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
            expires_at: Some(Timestamp::now() + left),
            session,
            provider: None,
        }
    }

    #[test]
    fn warning_comes_seven_days_before_the_end_of_a_token() {
        let days = |days: i64| SignedDuration::from_hours(24 * days);
        assert_eq!(warning(&context(false, days(7) + SignedDuration::from_secs(60))), None);
        let warned = warning(&context(false, days(7) - SignedDuration::from_secs(60))).unwrap();
        assert!(warned.starts_with("your token at https://mcpd.example.com ends in 6d"), "{warned}");
        assert!(
            warned.contains("mcpctl create token NAME --for User/alice | mcpctl login https://"),
            "{warned}"
        );
        let warned = warning(&context(false, days(-1))).unwrap();
        assert!(warned.ends_with("has ended; renew it: mcpctl login https://mcpd.example.com"), "{warned}");
        assert_eq!(warning(&Context { token: None, ..context(false, days(1)) }), None);
        assert_eq!(warning(&Context { expires_at: None, ..context(false, days(1)) }), None);
    }

    #[test]
    fn session_of_half_a_day_is_not_warned_of_at_once() {
        assert_eq!(warning(&context(true, SignedDuration::from_hours(11))), None);
        let warned = warning(&context(true, SignedDuration::from_mins(20))).unwrap();
        assert!(warned.ends_with("renew it: mcpctl login https://mcpd.example.com --user alice"), "{warned}");
        let account = Some(Subject { kind: SubjectKind::ServiceAccount, name: "ci".parse().unwrap() });
        let exchanged = Context { user: None, account, ..context(true, SignedDuration::from_mins(20)) };
        let warned = warning(&exchanged).unwrap();
        assert!(warned.ends_with(" --exchange FILE --serviceaccount ci"), "{warned}");
        let at_provider =
            Context { provider: Some("corp".to_owned()), ..context(true, SignedDuration::ZERO) };
        let warned = warning(&at_provider).unwrap();
        assert!(warned.ends_with("mcpctl login https://mcpd.example.com --sso=corp"), "{warned}");
    }
}
