//! `mcpd health`: asks a running mcpd whether it can serve. For the health checks of containers, whose image has no other program.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;
use mcpctl_api::{HintedError, HumanDuration};
use mcpctl_client::{Client, ClientError, ClientFiles, ClientOptions, ClientTls, HealthQuestion, Trust};
use url::Url;

use crate::{config::ServeArgs, print, with_hint};

/// How long a program that has mcpd's address may take to answer.
const IN_USE_TIMEOUT: Duration = Duration::from_secs(2);

/// The arguments of `mcpd health`.
#[derive(Debug, Args)]
pub struct HealthArgs {
    /// Address to ask, e.g. https://mcpd.example.com [default: where mcpd listens by the arguments, environment and file of
    /// `mcpd serve`; its certificate may be for any name then]
    url: Option<Url>,
    /// Ask only whether the process answers, and not whether it can decide and record
    #[arg(long)]
    live: bool,
    /// How long the answer may take
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    timeout: HumanDuration,
    /// Authority of the certificate at URL, in PEM [default: those that this machine trusts]
    #[arg(long, value_name = "FILE", requires = "url")]
    ca: Option<PathBuf>,
    /// Certificate to present, where mcpd wants one of its clients
    #[arg(long, value_name = "FILE", requires = "client_key", env = "MCPD_HEALTH_CLIENT_CERTIFICATE")]
    client_certificate: Option<PathBuf>,
    /// The key of that certificate
    #[arg(long, value_name = "FILE", requires = "client_certificate", env = "MCPD_HEALTH_CLIENT_KEY")]
    client_key: Option<PathBuf>,
    #[command(flatten)]
    serve: ServeArgs,
}

/// Asks once, and prints the answer.
///
/// # Errors
/// When mcpd is not healthy, or cannot be asked.
pub async fn run(args: HealthArgs) -> anyhow::Result<()> {
    let HealthArgs { url, live, timeout, ca, client_certificate, client_key, serve } = args;
    let files = ClientFiles { ca, certificate: client_certificate, key: client_key };
    let (server, tls) = match url {
        Some(url) => (url, ClientTls::read(files)),
        // No name is known that the certificate has to be for; no credential is sent.
        None => (own_address(serve)?, ClientTls::read_unverified(files)),
    };
    let tls = tls.map_err(|error| HintedError::new(error.to_string(), error.hint()))?;
    let (timeout, trust) = (timeout.0, Trust { tls, ..Trust::default() });
    let options = ClientOptions { connect_timeout: timeout, timeout, trust, ..ClientOptions::default() };
    let failed = |error: ClientError| with_hint(error.to_string(), error.hint());
    let client = Client::anonymous(server, &options).map_err(failed)?;
    let (question, healthy) =
        if live { (HealthQuestion::Live, "live") } else { (HealthQuestion::Ready, "ready") };
    client.health(question).await.map_err(|error| match error {
        ClientError::Refused { .. } => {
            let server = client.server().as_str().trim_end_matches('/');
            with_hint(format!("{server} is not {healthy}: {error}"), error.hint())
        }
        // It names the server.
        _ => failed(error),
    })?;
    print(healthy)
}

/// Whether an mcpd answers where this address is bound on this machine.
pub async fn is_mcpd(listen: SocketAddr, tls: bool) -> bool {
    let ask = async {
        let trust = Trust { tls: ClientTls::read_unverified(ClientFiles::default())?, ..Trust::default() };
        let (connect_timeout, timeout) = (IN_USE_TIMEOUT, IN_USE_TIMEOUT);
        let options = ClientOptions { connect_timeout, timeout, trust, ..ClientOptions::default() };
        let client = Client::anonymous(url(listen, tls)?, &options)?;
        client.health(HealthQuestion::Live).await?;
        anyhow::Ok(())
    };
    ask.await.is_ok()
}

/// How this machine reaches the mcpd of these arguments.
fn own_address(serve: ServeArgs) -> anyhow::Result<Url> {
    let (listen, tls) = serve.served_at()?;
    url(listen, tls)
}

fn url(listen: SocketAddr, tls: bool) -> anyhow::Result<Url> {
    let scheme = if tls { "https" } else { "http" };
    Url::parse(&format!("{scheme}://{}", reachable(listen))).context("the address that mcpd listens on")
}

/// An address to connect to; one that listens on all addresses is reached by loopback.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_addresses_are_reached_by_loopback() {
        let reached = |listen: &str| reachable(listen.parse().unwrap()).to_string();
        assert_eq!(reached("0.0.0.0:3100"), "127.0.0.1:3100");
        assert_eq!(reached("[::]:3100"), "[::1]:3100");
        assert_eq!(reached("192.0.2.7:443"), "192.0.2.7:443");
    }
}
