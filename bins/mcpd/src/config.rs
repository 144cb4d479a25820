//! The configuration of `mcpd`: flags over environment over file over defaults, parsed once at start.

mod database_url;
mod drain_delay;
mod exchange;
mod limits;
mod oidc;
mod public_host;
mod tls;
mod trusted_proxies;
mod upstream;
mod vocabulary;

use std::{net::SocketAddr, path::PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use mcpctl_api::{
    HintedError, encoding,
    yaml::{self, YamlError},
};
use mcpctl_owner::file::{self, Content};
use mcpctl_server::{Origin, socket_address};
use mcpctl_telemetry::{LevelFilter, LogFilter, LogFormat, OtlpUrl, TelemetryConfig};
use mcpctl_tls::ServerFiles;
use serde::Deserialize;

use self::{
    oidc::OidcEntries,
    tls::{TlsArgs, TlsFile},
    vocabulary::VOCABULARY,
};
use crate::prices::Prices;

pub use drain_delay::DrainDelay;
pub use exchange::{ExchangeIssuer, MAX_KEYS_BYTES, TokenExchange};
pub use limits::{
    CaptureLimits, JournalLimits, Limits, LoginLimits, Rate, RecordLimits, StreamLimits, WriteLimits,
};
pub use oidc::OidcConfig;
pub use public_host::PublicHost;
pub use trusted_proxies::TrustedProxies;
pub use upstream::UpstreamAddresses;

/// The arguments of `mcpd serve`. The file, then the defaults, fill in what is left out.
#[derive(Debug, Default, Args)]
pub struct ServeArgs {
    /// Directory of the database, the master key and the bootstrap token [default: $XDG_DATA_HOME/mcpctl/mcpd]
    #[arg(long, env = "MCPD_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Address to listen on [default: 127.0.0.1:3100]
    #[arg(long, env = "MCPD_LISTEN", value_name = "ADDR", value_parser = socket_address)]
    listen: Option<SocketAddr>,
    /// Address of its own for the inference routes, so that they can fail without the rest
    #[arg(long, env = "MCPD_INFERENCE_LISTEN", value_name = "ADDR", value_parser = socket_address)]
    inference_listen: Option<SocketAddr>,
    /// Host name that clients call mcpd by, where it is not a loopback name; others are refused
    #[arg(long, env = "MCPD_PUBLIC_HOST", value_name = "HOST")]
    public_host: Option<PublicHost>,
    #[command(flatten)]
    tls: TlsArgs,
    /// PostgreSQL that several replicas share, without a password: arguments are readable by every user of the machine
    /// [env: MCPD_DATABASE_URL, which may hold one] [default: SQLite in the data directory]
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// File with the URL of the database, for this user alone
    #[arg(long, env = "MCPD_DATABASE_URL_FILE", value_name = "FILE")]
    database_url_file: Option<PathBuf>,
    /// File with the key that encrypts secrets at rest [default: DIR/master-key, made on first start]
    #[arg(long, env = "MCPD_MASTER_KEY_FILE", value_name = "FILE")]
    master_key_file: Option<PathBuf>,
    /// How long to accept requests after the signal to end, with `/readyz` at 503, so that load balancers choose another replica
    /// [default: 0s]
    #[arg(long, env = "MCPD_DRAIN_DELAY", value_name = "DURATION")]
    drain_delay: Option<DrainDelay>,
    /// JSON file with prices of models, before the built-in ones
    #[arg(long, env = "MCPD_PRICES", value_name = "FILE")]
    prices: Option<PathBuf>,
    /// How log lines are written [default: text]
    #[arg(long, env = "MCPD_LOG_FORMAT", value_name = "text|json")]
    log_format: Option<LogFormat>,
    /// Which log lines are written, e.g. `info` or `mcpd=debug` [default: info]
    #[arg(long, env = "MCPD_LOG", value_name = "FILTER")]
    log: Option<LogFilter>,
    /// Collector that traces are sent to, as OTLP over HTTP [env: OTEL_EXPORTER_OTLP_ENDPOINT and OpenTelemetry's others too]
    #[arg(long, env = "MCPD_OTLP", value_name = "URL")]
    otlp: Option<OtlpUrl>,
    /// YAML file with any of the above, in camelCase
    #[arg(long, env = "MCPD_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

/// The configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct File {
    data_dir: Option<PathBuf>,
    listen: Option<SocketAddr>,
    inference_listen: Option<SocketAddr>,
    public_host: Option<PublicHost>,
    tls: TlsFile,
    allow_plain_http: bool,
    /// Web pages that may call mcpd, as in the header `Origin`.
    allowed_origins: Vec<Origin>,
    /// PostgreSQL that several replicas share; a URL with a password belongs into `databaseUrlFile` [default: SQLite in the data directory].
    database_url: Option<String>,
    database_url_file: Option<PathBuf>,
    master_key_file: Option<PathBuf>,
    drain_delay: DrainDelay,
    prices: Option<PathBuf>,
    log_format: Option<LogFormat>,
    log: Option<LogFilter>,
    telemetry: TelemetryConfig,
    /// Whether mcpd serves the console, at `/console/` [default: true].
    console: Option<bool>,
    /// Reverse proxies whose `X-Forwarded-For` is believed.
    trusted_proxies: TrustedProxies,
    upstream_addresses: UpstreamAddresses,
    oidc: OidcEntries,
    token_exchange: TokenExchange,
    limits: Limits,
}

/// The configuration, complete.
#[derive(Debug, Clone)]
pub struct Config {
    /// Directory of the SQLite file, the master key and the bootstrap token.
    pub data_dir: PathBuf,
    /// Address of all routes, or of all but inference.
    pub listen: SocketAddr,
    /// Address of the inference routes, if it is a separate one.
    pub inference_listen: Option<SocketAddr>,
    /// The host name by which clients reach mcpd.
    pub public_host: Option<PublicHost>,
    /// The files of TLS; plain HTTP without them.
    pub tls: Option<ServerFiles>,
    /// Web pages that may call mcpd.
    pub allowed_origins: Vec<Origin>,
    /// Where the database is.
    pub database: mcpctl_store::Location,
    /// Whether the configuration file itself holds the password of a database.
    pub password_in_file: bool,
    /// Whether replicas share the database, so that they must share the master key too.
    pub shared: bool,
    /// The key that encrypts secrets at rest.
    pub master_key_file: PathBuf,
    /// How long requests are accepted after the signal to end.
    pub drain_delay: DrainDelay,
    /// How log lines are written.
    pub log_format: LogFormat,
    /// Which log lines are written.
    pub log: LogFilter,
    /// The collector of the arguments.
    pub otlp: Option<OtlpUrl>,
    /// The collector of the file.
    pub telemetry: TelemetryConfig,
    /// Whether mcpd serves the console.
    pub console: bool,
    /// Reverse proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: TrustedProxies,
    /// Where Llms may point.
    pub upstream_addresses: UpstreamAddresses,
    /// The issuers whose sign-in is accepted.
    pub oidc: Vec<OidcConfig>,
    /// The issuers whose tokens are exchanged.
    pub token_exchange: Vec<ExchangeIssuer>,
    /// Limits of the work that callers can cause.
    pub limits: Limits,
    /// What models cost.
    pub prices: Prices,
}

/// The SQLite database in the data directory.
pub const DATABASE_FILE: &str = "mcpd.sqlite";
const DEFAULT_LISTEN: &str = "127.0.0.1:3100";
/// Maximum size of the file, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

impl ServeArgs {
    /// Merges flags, environment, file and defaults.
    ///
    /// # Errors
    /// A file that cannot be read or does not parse, with its place; no home directory to take a default from.
    pub fn resolve(self) -> anyhow::Result<Config> {
        let file = match &self.config {
            Some(path) => read_file(path)?,
            None => File::default(),
        };
        let data_dir = match self.data_dir.or(file.data_dir) {
            Some(dir) => dir,
            None => default_data_dir()?,
        };
        let password_in_file = file.database_url.as_deref().is_some_and(database_url::may_hold_password);
        let database_url = database_url::resolve(database_url::Sources {
            argument: self.database_url,
            file_argument: self.database_url_file,
            environment: database_url::from_environment()?,
            config: file.database_url,
            config_file: file.database_url_file,
        })?;
        let shared = database_url.is_some();
        let database = match database_url {
            Some(url) => mcpctl_store::Location::Postgres(url),
            None => mcpctl_store::Location::Sqlite(data_dir.join(DATABASE_FILE)),
        };
        let listen = match self.listen.or(file.listen) {
            Some(listen) => listen,
            None => DEFAULT_LISTEN.parse().context("the default address")?,
        };
        let inference_listen = self.inference_listen.or(file.inference_listen);
        let addresses = std::iter::once(listen).chain(inference_listen);
        Ok(Config {
            listen,
            inference_listen,
            tls: self.tls.resolve(file.tls, file.allow_plain_http, addresses)?,
            public_host: self.public_host.or(file.public_host),
            allowed_origins: file.allowed_origins,
            shared,
            database,
            password_in_file,
            master_key_file: self
                .master_key_file
                .or(file.master_key_file)
                .unwrap_or_else(|| data_dir.join("master-key")),
            drain_delay: self.drain_delay.unwrap_or(file.drain_delay),
            log_format: self.log_format.or(file.log_format).unwrap_or_default(),
            log: self.log.or(file.log).unwrap_or_else(|| LogFilter::level(LevelFilter::INFO)),
            otlp: self.otlp,
            telemetry: file.telemetry,
            console: file.console.unwrap_or(true),
            trusted_proxies: file.trusted_proxies,
            upstream_addresses: file.upstream_addresses,
            oidc: file.oidc.resolve()?,
            token_exchange: file.token_exchange.resolve()?,
            limits: file.limits,
            prices: read_prices(self.prices.or(file.prices).as_deref())?,
            data_dir,
        })
    }
}

impl ServeArgs {
    /// The address that mcpd listens on by these arguments, and whether it speaks TLS there. Reads nothing but the configuration file.
    ///
    /// # Errors
    /// A file that cannot be read or does not parse, with its place.
    pub fn served_at(self) -> anyhow::Result<(SocketAddr, bool)> {
        let file = self.config.as_deref().map(read_file).transpose()?.unwrap_or_default();
        let listen = match self.listen.or(file.listen) {
            Some(listen) => listen,
            None => DEFAULT_LISTEN.parse().context("the default address")?,
        };
        let tls = self.tls.resolve(file.tls, file.allow_plain_http, [listen])?;
        Ok((listen, tls.is_some()))
    }
}

/// The URL of another PostgreSQL, from an argument or a file, by the rules for that of `mcpd serve`.
///
/// # Errors
/// As of `mcpd serve`, and where none is given.
pub fn target_url(argument: Option<String>, file: Option<PathBuf>) -> anyhow::Result<String> {
    let sources = database_url::Sources { argument, file_argument: file, ..database_url::Sources::default() };
    database_url::resolve(sources)?.context("no database to move to is given")
}

fn read_file(path: &std::path::Path) -> anyhow::Result<File> {
    let bytes = file::read_named(path, Content::Public, MAX_FILE_BYTES).map_err(|error| {
        HintedError::new(format_args!("the configuration file cannot be read: {error}"), error.hint())
    })?;
    let read = encoding::decode(&bytes)
        .map_err(YamlError::from)
        .and_then(|text| yaml::from_str_with(&text, &VOCABULARY));
    Ok(read
        .map_err(|error| HintedError::new(format_args!("{}:{error}", path.display()), error.hint.as_ref()))?)
}

fn read_prices(path: Option<&std::path::Path>) -> anyhow::Result<Prices> {
    let Some(path) = path else { return Prices::load(None) };
    let bytes = file::read_named(path, Content::Public, MAX_FILE_BYTES).map_err(|error| {
        HintedError::new(format_args!("the price table cannot be read: {error}"), error.hint())
    })?;
    let text = encoding::decode(&bytes).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
    Prices::load(Some(&text)).map_err(|error| {
        HintedError::with(
            format_args!("{}: {error:#}", path.display()),
            "it is an array of `{models, price: {input, output}, date, source}`, in US dollars per million tokens",
        )
        .into()
    })
}

/// `$XDG_DATA_HOME/mcpctl/mcpd`, by default `~/.local/share/mcpctl/mcpd`.
fn default_data_dir() -> anyhow::Result<PathBuf> {
    let from = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = from("XDG_DATA_HOME").or_else(|| Some(from("HOME")?.join(".local/share")));
    match base {
        Some(base) => Ok(base.join("mcpctl/mcpd")),
        None => bail!(HintedError::with(
            "no data directory is given and HOME is not set",
            "give one with --data-dir DIR"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mcpd.yaml");
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    #[test]
    fn flags_override_the_file() {
        let (_dir, path) = file("listen: 127.0.0.1:1\ndataDir: /data\ninferenceListen: 127.0.0.1:2\n");
        let args = ServeArgs {
            config: Some(path),
            listen: Some("127.0.0.1:9".parse().unwrap()),
            ..ServeArgs::default()
        };
        let config = args.resolve().unwrap();
        assert_eq!(config.listen.port(), 9);
        assert_eq!(config.inference_listen.unwrap().port(), 2);
        assert_eq!(config.master_key_file, PathBuf::from("/data/master-key"));
    }

    #[test]
    fn an_unknown_key_is_an_error_with_its_place() {
        let (_dir, path) = file("listen: 127.0.0.1:1\nlisten-inference: x\n");
        let args = ServeArgs { config: Some(path), ..ServeArgs::default() };
        let error = args.resolve().unwrap_err().to_string();
        assert!(error.contains("mcpd.yaml:2:1: unknown field `listen-inference`"), "{error}");
    }

    #[test]
    fn wrong_values_are_errors_with_their_place() {
        for (text, expected) in [
            ("limits: {http: {connections: 0}}", "mcpd.yaml:1:30: `0` is not between"),
            ("limits:\n  http:\n    stall: 0s\n", "mcpd.yaml:3:12: `0s` is not between"),
            (
                "publicHost: https://mcpd.example.com",
                "mcpd.yaml:1:13: `https://mcpd.example.com` is not a host",
            ),
            ("allowedOrigins: ['*']", "mcpd.yaml:1:18: `*` is not an origin"),
        ] {
            let (_dir, path) = file(text);
            let error = ServeArgs { config: Some(path), ..ServeArgs::default() }.resolve().unwrap_err();
            assert!(error.to_string().contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn another_kind_of_database_url_is_refused_and_not_shown() {
        let args = ServeArgs { database_url: Some("mysql://secret@h/d".to_owned()), ..ServeArgs::default() };
        let args = ServeArgs { data_dir: Some("/data".into()), ..args };
        let error = args.resolve().unwrap_err().to_string();
        assert!(error.contains("PostgreSQL") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn limits_are_read_and_checked() {
        let resolve = |text: &str| {
            let (_dir, path) = file(text);
            ServeArgs { config: Some(path), data_dir: Some("/data".into()), ..ServeArgs::default() }.resolve()
        };
        let config = resolve(
            "trustedProxies: [10.0.0.7, 10.1.0.0/16]\nlimits:\n  logins:\n    hashers: 3\n    perName: {burst: 9, every: 1m}\n  records: {audit: 30d}\n",
        );
        let limits = config.unwrap().limits;
        assert_eq!((limits.logins.hashers, limits.logins.per_name), (3, Rate::new(9, 60)));
        assert_eq!(limits.logins.waiting, LoginLimits::default().waiting);
        assert_eq!(limits.records.audit.to_string(), "30d");
        for (text, expected) in [
            ("limits:\n  logins:\n    hashers: 0\n", "mcpd.yaml:3:14: `0` is not between 1 and 64"),
            ("limits: {logins: {waiting: -1}}", "`-1` is not between"),
            ("limits: {logins: {perName: {burst: 0, every: 1s}}}", "`0` is not between"),
            ("limits: {logins: {perNetwork: {burst: 1, every: 0s}}}", "`0s` is not between"),
            ("limits: {records: {audit: 0s}}", "`0s` is not between"),
            ("limits: {records: {usage: 200000d}}", "is longer than 3650d"),
            ("limits: {records: {window: 1d}}", "`1d` is not between"),
            (
                "limits: {records: {durability: none}}",
                "`none` is not known here, expected one of crash, powerCut",
            ),
            ("limits: {records: {rows: {burst: 0, every: 1s}}}", "`0` is not between"),
            ("limits: {captures: {fileBytes: 1KiB}}", "`1KiB` is not between 1.0 MiB and"),
            ("limits: {captures: {bodyBytes: 0KiB}}", "`0KiB` is not between"),
            ("trustedProxies: [0.0.0.0/0]", "too wide"),
            ("trustedProxies: [proxy]", "`proxy` is not a network"),
        ] {
            let error = resolve(text).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("mcpd.yaml:"), "{text}: {error}");
        }
    }
}
