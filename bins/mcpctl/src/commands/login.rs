//! `mcpctl login`, `mcpctl logout`.

mod browser;
mod loopback;
mod sso;

use std::{
    io::IsTerminal as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    pin::pin,
    process::ExitCode,
    time::Duration,
};

use jiff::Timestamp;
use mcpctl_api::{
    Name, credential,
    question::{ExchangeRequest, LoginRequest},
    spec::{SecretValue, Subject},
};
use mcpctl_client::{
    Client, ClientOptions,
    config::{self, Context, default_name},
    expiry,
};
use secrecy::SecretString;
use url::Url;

use crate::{
    Outcome,
    agent::AgentAccount,
    commands::files,
    context::{Global, bearer, check_server, parse_server},
    failure::Failure,
    output::{self, Tone, table::until, terminal},
    server_keys::{KeyArgs, ServerKeys},
};

/// After which time the wait for an answer is explained.
const SLOW_ANSWER: Duration = Duration::from_secs(3);

/// How to sign in.
#[derive(clap::Args)]
pub struct Args {
    /// Address of mcpd, e.g. https://mcpd.example.com
    #[arg(value_name = "SERVER", value_parser = parse_server)]
    address: Url,
    /// Sign in as this user, with a password
    #[arg(long, short)]
    user: Option<String>,
    /// Read the password, or without --user a token, from standard input
    #[arg(long, conflicts_with_all = ["token_file", "token_stdin", "password_stdin", "exchange", "sso", "device"])]
    stdin: bool,
    /// As --stdin with --user
    #[arg(long, requires = "user", hide = true)]
    password_stdin: bool,
    /// Read a token from a file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["user", "token_stdin"])]
    token_file: Option<PathBuf>,
    /// As --stdin without --user
    #[arg(long, conflicts_with_all = ["user", "password_stdin"], hide = true)]
    token_stdin: bool,
    #[command(flatten)]
    keys: KeyArgs,
    /// Exchange the token of this workload, a JWT in a file, for a short-lived one of a service account
    #[arg(long, value_name = "FILE", requires = "service_account", conflicts_with_all = ["user", "token_file", "token_stdin"])]
    exchange: Option<PathBuf>,
    /// The service account to act for
    #[arg(long = "serviceaccount", id = "service_account", value_name = "NAME", requires = "exchange")]
    service_account: Option<Name>,
    /// Sign in with a password, although mcpd trusts an OpenID provider
    #[arg(long, conflicts_with_all = ["token_file", "token_stdin", "exchange"])]
    password: bool,
    /// Sign in at the OpenID provider of this name, or at the only one; the default on a terminal where there is one
    #[arg(long, value_name = "NAME", num_args = 0..=1, require_equals = true,
          conflicts_with_all = ["user", "password", "token_file", "token_stdin", "exchange"])]
    sso: Option<Option<String>>,
    /// Sign in at the provider with a code, in a browser on any machine
    #[arg(long, conflicts_with_all = ["user", "password", "token_file", "token_stdin", "exchange"])]
    device: bool,
    /// Open no browser; the address is printed in any case
    #[arg(long)]
    no_browser: bool,
}

/// Warns about a file that others on this machine can read: what is in it may be known to them.
fn warn_if_readable(path: &Path) {
    let open = |file: &std::fs::Metadata| file.is_file() && file.mode() & 0o077 != 0;
    if path.metadata().is_ok_and(|file| open(&file)) {
        let path = path.display();
        note!(Tone::Warning, "warning:"; " other users of this machine may read the token in `{path}`");
        note!("hint: chmod 600 {path}, and rotate the token if they are not trusted with it");
    }
}

impl Args {
    /// Whether a token comes from standard input.
    fn reads_token(&self) -> bool {
        self.token_stdin || (self.stdin && self.user.is_none() && !self.password)
    }

    /// Whether a password does.
    fn reads_password(&self) -> bool {
        self.password_stdin || (self.stdin && !self.reads_token())
    }
}

/// Signs in, and saves the context after the server has confirmed the account.
pub async fn login(global: &Global, args: Args) -> Outcome {
    check_server(&args.address)?;
    let (path, config) = global.config()?;
    let trust = global.trust_at(&args.address, &config)?;
    let options = ClientOptions { trust, ..ClientOptions::default() };
    // Before a credential is sent, so that none goes to a server that shows other keys than the pinned ones.
    let keys =
        ServerKeys::read(&args.address, &options.trust, config.pins_of(&args.address), &args.keys).await?;
    let mut provider = None;
    let token = match (&args.token_file, args.reads_token()) {
        (Some(path), _) => {
            warn_if_readable(path);
            files::read_file(path)?
        }
        (None, true) if std::io::stdin().is_terminal() => terminal::ask_secret("Token", false)?,
        (None, true) => files::stdin()?,
        (None, false) => match (&args.exchange, &args.service_account) {
            (Some(path), Some(account)) => exchanged(&args.address, &options, path, account).await?,
            _ => {
                let signed_in = interactively(&args, &options).await?;
                provider = signed_in.provider;
                signed_in.token
            }
        },
    };
    let token = bearer("the token", &token)?;
    let client = Client::new(args.address.clone(), Some(SecretString::from(token)), &options)?;
    let me = client.whoami().await?;

    let name = match (global.named_context(), &args.service_account) {
        (Some(name), _) => name.to_owned(),
        // Beside a person's context of the same server.
        (None, Some(account)) => format!("{account}@{}", default_name(&args.address)),
        (None, None) => config.context_for(&args.address, &me.subject),
    };
    let is_session = args.token_file.is_none() && !args.reads_token();
    let lost = config.lost_by(&name, &args.address, &me.subject);
    if let Some(lost) = lost
        && let Err(refused) = agree_to_lose(lost, &args.address, &me.subject)
    {
        if is_session {
            end_session(&client, me.expires_at).await;
        }
        return Err(refused);
    }
    let user = me.subject.name.to_string();
    let files = options.trust.tls.files().clone();
    let context = Context {
        name: name.clone(),
        server: args.address.clone(),
        // A workload signs in again by another exchange, not as a user.
        user: args.exchange.is_none().then_some(user),
        account: Some(me.subject.clone()),
        token: Some(SecretValue::new(token)),
        server_user: global.server_user().map(str::to_owned),
        ca: files.ca,
        client_certificate: files.certificate,
        client_key: files.key,
        expires_at: Some(me.expires_at),
        session: is_session,
        provider,
    };
    let before = AgentAccount::now().await;
    // Which one a command uses that names none has changed.
    let other_current = config.context(None).filter(|current| {
        args.exchange.is_none() && current.name != name && global.named_context().is_none()
    });
    let updated = config::update(&path, |config| {
        if config.lost_by(&name, &args.address, &me.subject) != lost {
            return Err(
                Failure::new(format!("another command has changed the context `{name}`")).hint("try again")
            );
        }
        // A job that signs in on a person's machine does not take over what that person works with.
        if args.exchange.is_some() {
            config.put_beside(context);
        } else {
            config.put(context);
        }
        if let Some(keys) = keys.to_pin() {
            config.pin(&args.address, keys, Timestamp::now());
        }
        Ok::<_, Failure>((true, config.clone()))
    });
    let config = match updated {
        Ok(config) => config,
        Err(error) => {
            if is_session {
                end_session(&client, me.expires_at).await;
            }
            return Err(error);
        }
    };
    let server = args.address.as_str().trim_end_matches('/');
    note!("signed in at {server} as {} (context `{name}`)", me.subject);
    if let Some(other) = other_current {
        note!(
            "the current context was `{}`, of {}: mcpctl config use-context {0}",
            other.name,
            other.account_label()
        );
    }
    keys.report(&args.address);
    before.report_change().await;
    if args.exchange.is_some() {
        if config.current_context.as_ref() != Some(&name) {
            note!("the current context stays as it is; use this one with: --context {name}");
        }
        note!("it ends {}; the same command renews it", until(me.expires_at));
    } else if let Some(warning) = config.context(None).and_then(expiry::warning) {
        note!(Tone::Warning, "warning:"; " {warning}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Ends the session that was begun where no context is to hold it.
async fn end_session(client: &Client, expires_at: Timestamp) {
    if let Err(error) = client.logout().await {
        note!("note: the session that was begun stays until {expires_at}: {error}");
    }
}

/// Asks whether the token of another account may go, which this file alone may have.
fn agree_to_lose(lost: &Context, server: &Url, account: &Subject) -> Result<(), Failure> {
    let name = &lost.name;
    let held = format!(
        "the context `{name}` has the token of {} at {}",
        lost.account_label(),
        lost.server.as_str().trim_end_matches('/')
    );
    let question = format!("{held}; replace it by that of {account}?");
    if terminal::can_ask() && terminal::confirm(&question)? {
        return Ok(());
    }
    let beside = default_name(server);
    Err(Failure::new(format!("{held}, so that of {account} was not kept")).hint(format!(
        "keep both with another --context, e.g. {}@{beside}; or first: mcpctl config delete-context {name}",
        account.name
    )))
}

/// A token of a sign-in by a person.
struct SignedIn {
    token: String,
    /// Where it was at an OpenID provider.
    provider: Option<String>,
}

/// Signs in at a provider or with a password.
async fn interactively(args: &Args, options: &ClientOptions) -> Result<SignedIn, Failure> {
    let asked = args.sso.is_some() || args.device;
    let password = args.password || args.user.is_some();
    if password || !(asked || std::io::stdin().is_terminal()) {
        return with_password(args, options).await;
    }
    let client = Client::new(args.address.clone(), None, options)?;
    let methods = match client.sign_in_methods().await {
        Ok(methods) => methods,
        // An mcpd of before knows no other way than a password.
        Err(error) if !asked && error.status().is_some_and(|status| status.as_u16() == 401) => {
            return with_password(args, options).await;
        }
        Err(error) => return Err(error.into()),
    };
    if !asked && methods.oidc.is_empty() {
        return with_password(args, options).await;
    }
    let method = sso::choose(&methods, args.sso.as_ref().and_then(Option::as_deref))?;
    let issued = if args.device {
        sso::with_device_code(&client, method).await?
    } else {
        sso::in_browser(&client, method, !args.no_browser, options.trust.users).await?
    };
    output::warnings(&issued.warnings);
    Ok(SignedIn { token: issued.token.expose().to_owned(), provider: Some(method.name.to_string()) })
}

async fn with_password(args: &Args, options: &ClientOptions) -> Result<SignedIn, Failure> {
    let terminal = std::io::stdin().is_terminal();
    let user = match &args.user {
        Some(user) => user.clone(),
        None if terminal => dialoguer::Input::new().with_prompt("User").interact_text().map_err(prompt)?,
        None => {
            return Err(Failure::usage("there is no terminal to ask for user and password")
                .hint("pass --sso, --stdin, --token-file FILE, or --user NAME --stdin"));
        }
    };
    let password = if args.reads_password() {
        credential::without_line_end(&files::stdin()?).to_owned()
    } else if terminal {
        terminal::ask_secret("Password", false)?
    } else {
        return Err(Failure::usage("there is no terminal to ask for the password").hint("pass --stdin"));
    };
    let client = Client::new(args.address.clone(), None, options)?;
    let login = LoginRequest { user, password: SecretValue::new(password) };
    let mut answer = pin!(client.login(&login));
    let issued = tokio::select! {
        biased;
        issued = &mut answer => issued?,
        () = tokio::time::sleep(SLOW_ANSWER) => {
            note!("waiting: after failed attempts mcpd delays the next one by up to 10 s");
            answer.await?
        }
    };
    Ok(SignedIn { token: issued.token.expose().to_owned(), provider: None })
}

async fn exchanged(
    server: &Url,
    options: &ClientOptions,
    path: &Path,
    account: &Name,
) -> Result<String, Failure> {
    let token = files::read_file(path)?;
    let token = SecretValue::new(bearer("the workload's token", &token)?);
    let client = Client::new(server.clone(), None, options)?;
    let request = ExchangeRequest { service_account: account.clone(), token, expires_in: None };
    Ok(client.exchange(&request).await?.token.expose().to_owned())
}

fn prompt(error: dialoguer::Error) -> Failure {
    Failure::new(error)
}

/// Ends the session at the server where it is one, and forgets the token in any case.
pub async fn logout(global: &Global) -> Outcome {
    let (path, config) = global.config()?;
    let name = config.context(global.named_context()).map(|context| context.name.clone());
    if let (Some(asked), None) = (global.named_context(), &name) {
        return Err(Failure::new(format!("there is no context `{asked}`")).hint("mcpctl config get-contexts"));
    }
    let before = AgentAccount::now().await;
    // Saved first, so that an unreachable server does not prevent the sign-out.
    let forgotten = config::update(&path, |config| {
        let context = config.contexts.iter_mut().find(|context| Some(&context.name) == name.as_ref());
        let forgotten = context.and_then(|context| {
            let token = context.token.take()?;
            context.expires_at = None;
            Some((context.clone(), SecretString::from(token.expose())))
        });
        Ok::<_, Failure>((forgotten.is_some(), forgotten))
    })?;
    let Some((context, token)) = forgotten else {
        return Err(Failure::new("not signed in").hint("`mcpctl config get-contexts` shows the contexts"));
    };
    let server = context.server.clone();
    let options =
        global.trust(Some(&context)).map(|trust| ClientOptions { trust, ..ClientOptions::default() });
    let ended = async {
        let client = Client::new(server.clone(), Some(token), &options?)?;
        match client.logout().await {
            // The token was no longer valid.
            Err(error) if error.status().is_some_and(|status| status.as_u16() == 401) => Ok(()),
            ended => ended.map_err(Failure::from),
        }
    };
    if let Err(failure) = ended.await {
        note!("note: the token is forgotten here, but it is still good: {}", failure.in_one_line());
    }
    note!("signed out at {}", server.as_str().trim_end_matches('/'));
    before.report_change().await;
    Ok(ExitCode::SUCCESS)
}
