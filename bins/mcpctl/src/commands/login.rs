//! `mcpctl login`, `mcpctl logout`.

use std::{
    io::{IsTerminal as _, Read as _},
    path::PathBuf,
    process::ExitCode,
};

use mcpctl_api::{question::LoginRequest, spec::SecretValue};
use mcpctl_client::{Client, Options, config::Context};
use secrecy::SecretString;
use url::Url;

use crate::{
    Outcome,
    context::{Global, check_server},
    failure::Failure,
};

/// How to sign in.
#[derive(clap::Args)]
pub struct Args {
    /// Address of mcpd, e.g. https://mcpd.example.com
    server: Url,
    /// Sign in as this user, with a password
    #[arg(long, short)]
    user: Option<String>,
    /// Read the password from standard input
    #[arg(long, requires = "user")]
    password_stdin: bool,
    /// Read a token from a file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["user", "token_stdin"])]
    token_file: Option<PathBuf>,
    /// Read a token from standard input
    #[arg(long, conflicts_with = "user")]
    token_stdin: bool,
}

/// Signs in, and remembers it only once the server has said who it is.
pub async fn login(global: &Global, args: Args) -> Outcome {
    check_server(&args.server)?;
    let token = match (&args.token_file, args.token_stdin) {
        (Some(path), _) => std::fs::read_to_string(path)
            .map_err(|error| Failure::new(format!("`{}`: {error}", path.display())))?,
        (None, true) => stdin()?,
        (None, false) => with_password(&args).await?,
    };
    let token = token.trim();
    if token.is_empty() {
        return Err(Failure::new("the token is empty"));
    }
    let client = Client::new(args.server.clone(), Some(SecretString::from(token)), &Options::default())?;
    let me = client.whoami().await?;

    let (path, mut config) = global.config()?;
    let name = match &global.context {
        Some(name) => name.clone(),
        None => match (args.server.host_str(), args.server.port()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (Some(host), None) => host.to_owned(),
            (None, _) => "default".to_owned(),
        },
    };
    let user = me.subject.name.to_string();
    config.put(Context {
        name: name.clone(),
        server: args.server.clone(),
        user: Some(user.clone()),
        token: Some(SecretValue::new(token)),
    });
    config.save(&path)?;
    anstream::eprintln!("signed in at {} as {} (context `{name}`)", args.server, me.subject);
    Ok(ExitCode::SUCCESS)
}

async fn with_password(args: &Args) -> Result<String, Failure> {
    let terminal = std::io::stdin().is_terminal();
    let user = match &args.user {
        Some(user) => user.clone(),
        None if terminal => dialoguer::Input::new().with_prompt("User").interact_text().map_err(prompt)?,
        None => {
            return Err(Failure::new("there is no terminal to ask for user and password")
                .hint("say --token-stdin, --token-file FILE, or --user NAME --password-stdin"));
        }
    };
    let password = if args.password_stdin {
        stdin()?.trim_end_matches(['\r', '\n']).to_owned()
    } else if terminal {
        dialoguer::Password::new().with_prompt("Password").interact().map_err(prompt)?
    } else {
        return Err(Failure::new("there is no terminal to ask for the password").hint("say --password-stdin"));
    };
    let client = Client::new(args.server.clone(), None, &Options::default())?;
    let issued = client.login(&LoginRequest { user, password: SecretValue::new(password) }).await?;
    Ok(issued.token.expose().to_owned())
}

fn prompt(error: dialoguer::Error) -> Failure {
    Failure::new(error)
}

fn stdin() -> Result<String, Failure> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    Ok(text)
}

/// Ends the session at the server where it is one, and forgets the token in any case.
pub async fn logout(global: &Global) -> Outcome {
    let (path, mut config) = global.config()?;
    let name = config.context(global.context.as_deref()).map(|context| context.name.clone());
    let context = config.contexts.iter_mut().find(|context| Some(&context.name) == name.as_ref());
    let Some(context) = context.filter(|context| context.token.is_some()) else {
        return Err(Failure::new("nobody is signed in"));
    };
    let token = context.token.take().map(|token| SecretString::from(token.expose()));
    let client = Client::new(context.server.clone(), token, &Options::default())?;
    let ended = client.logout().await;
    let server = context.server.clone();
    config.save(&path)?;
    if let Err(error) = ended {
        anstream::eprintln!("note: the token is forgotten here, but it is still good: {error}");
    }
    anstream::eprintln!("signed out at {server}");
    Ok(ExitCode::SUCCESS)
}
