//! Sign-in by an OpenID provider: in a browser of this machine, or with a device code in one of any machine.
//!
//! The browser's answer comes to a port of this program (RFC 8252), with a code that is worth nothing without the verifier
//! that only this program has (RFC 7636); mcpd exchanges it. What this program makes for one sign-in is never stored.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use mcpctl_api::{
    oidc::{CodeLogin, DevicePoll, OidcMethod, SignInMethods, is_protected, redirect_uri},
    question::IssuedToken,
    spec::SecretValue,
    visible::one_line,
};
use mcpctl_client::{Client, DeviceAnswer, TrustedUsers};
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, sleep, timeout};
use url::Url;

use super::{
    browser,
    loopback::{ExpectedAnswer, RedirectListener},
};
use crate::failure::Failure;

/// How long a person has to sign in at the provider.
const SIGN_IN_TIMEOUT: Duration = Duration::from_secs(300);
/// How much longer to wait between polls each time the provider asks for that (RFC 8628, section 3.5).
const SLOW_DOWN: Duration = Duration::from_secs(5);

/// The provider of this name, or the only one.
pub fn choose<'a>(methods: &'a SignInMethods, name: Option<&str>) -> Result<&'a OidcMethod, Failure> {
    let names = || methods.oidc.iter().map(|method| method.name.to_string()).collect::<Vec<_>>().join(", ");
    match (name, methods.oidc.as_slice()) {
        (_, []) => Err(Failure::new("this mcpd trusts no OpenID provider").hint("sign in with --user NAME")),
        (None, [only]) => Ok(only),
        (None, _) => Err(Failure::usage("this mcpd trusts several providers")
            .hint(format!("pass --sso= with one of: {}", names()))),
        (Some(name), all) => all.iter().find(|method| method.name.as_str() == name).ok_or_else(|| {
            Failure::new(format!("this mcpd trusts no provider `{name}`"))
                .hint(format!("it trusts: {}", names()))
        }),
    }
}

/// Signs in with a browser of this machine that one of the `trusted` users runs; returns the session's token.
pub async fn in_browser(
    client: &Client,
    method: &OidcMethod,
    may_open: bool,
    trusted: TrustedUsers,
) -> Result<IssuedToken, Failure> {
    let Some(endpoint) = &method.authorization_endpoint else {
        return Err(Failure::new(format!("mcpd cannot reach the provider `{}` now", method.name))
            .hint("try again, or sign in with a password: --user NAME"));
    };
    if !is_protected(endpoint) {
        return Err(Failure::new("mcpd names an address of the provider that is not an https address"));
    }
    let (state, nonce, verifier) = (random()?, random()?, random()?);
    // Before the address is known to anyone, so that no other program gets the port.
    let listener = RedirectListener::bind(trusted).await?;
    let port = listener.port();
    let url = authorization_url(endpoint, method, port, &state, &nonce, &verifier);
    // Other users of the machine read the arguments of every process, and the state is in the provider's address.
    let start = if browser::IS_ARGUMENT { listener.start_url() } else { url.to_string() };
    let opened = may_open && browser::open(&start);
    let doing = if opened { "your browser opens; if it does not," } else { "to sign in," };
    note!("{doing} open this address in a browser on this machine:");
    note!("");
    note!("  {url}");
    note!("");
    if !opened && method.device_code {
        note!("hint: without a browser on this machine, sign in with --device");
    }
    let expected = ExpectedAnswer {
        authorization: url,
        state,
        issuer: method.issuer.to_string(),
        names_issuer: method.names_issuer,
    };
    let code = timeout(SIGN_IN_TIMEOUT, listener.wait(&expected)).await.map_err(|_| {
        Failure::new(format!("no answer came within {} minutes", SIGN_IN_TIMEOUT.as_secs() / 60))
            .hint("begin again; on a machine without a browser with --device")
    })??;
    let login = CodeLogin {
        issuer: method.name.to_string(),
        code: SecretValue::new(code),
        verifier: SecretValue::new(verifier),
        nonce,
        redirect_port: port,
    };
    Ok(client.login_with_code(&login).await?)
}

fn authorization_url(
    endpoint: &Url,
    method: &OidcMethod,
    port: u16,
    state: &str,
    nonce: &str,
    verifier: &str,
) -> Url {
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()));
    let mut url = endpoint.clone();
    url.query_pairs_mut()
        .append_pair("response_type", "code")
        .append_pair("client_id", &method.client_id)
        .append_pair("redirect_uri", &redirect_uri(port))
        .append_pair("scope", &method.scopes.join(" "))
        .append_pair("state", state)
        .append_pair("nonce", nonce)
        .append_pair("code_challenge", &challenge)
        .append_pair("code_challenge_method", "S256");
    url
}

/// Signs in with a device code; returns the session's token.
pub async fn with_device_code(client: &Client, method: &OidcMethod) -> Result<IssuedToken, Failure> {
    let begun = client.begin_device(method.name.as_str()).await?;
    if !is_protected(&begun.verification_uri) {
        return Err(Failure::new("mcpd names an address of the provider that is not an https address"));
    }
    let code = one_line(&begun.user_code).into_owned();
    note!("on any machine, open this address in a browser and enter the code:");
    note!("");
    note!("  {}", begun.verification_uri);
    note!("  {code}");
    note!("");
    note!(
        "the page must be one of {}, and show this code; approve only a sign-in that you began yourself",
        method.issuer
    );
    let until = Instant::now() + Duration::from_secs(begun.expires_in);
    let mut interval = Duration::from_secs(begun.interval.max(1));
    let poll = DevicePoll { issuer: method.name.to_string(), device_code: begun.device_code };
    while Instant::now() + interval < until {
        sleep(interval).await;
        match client.poll_device(&poll).await? {
            DeviceAnswer::Issued(issued) => return Ok(issued),
            DeviceAnswer::Pending(pending) if pending.slow_down => interval += SLOW_DOWN,
            DeviceAnswer::Pending(_) => {}
        }
    }
    Err(Failure::new("the code has expired before the sign-in was approved").hint("begin again"))
}

/// 256 random bits.
fn random() -> Result<String, Failure> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|_| Failure::new("the operating system gave no random bytes"))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}
