//! Export of spans to an OpenTelemetry collector, as OTLP over HTTP with protobuf. Off unless the operator names a collector,
//! by our configuration or by OpenTelemetry's own environment. A collector that is slow or gone costs spans and nothing else:
//! the queue is bounded, and a full one drops.

use std::{
    env, fmt,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use opentelemetry::KeyValue;
use opentelemetry_http::{Bytes, HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SdkTracerProvider},
};
use reqwest::{Client, redirect::Policy};
use tokio::runtime::Handle;
use url::Url;

/// How long the spans that are still queued may take at the shutdown.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one export may take, where `OTEL_EXPORTER_OTLP_TIMEOUT` is not set.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest answer of a collector that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 64 << 10;
/// Path of traces below the base of a collector (OTLP specification, "OTLP/HTTP request").
const TRACES_PATH: &str = "v1/traces";

/// The key `telemetry` of a daemon's configuration file.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// The base URL of the collector; `v1/traces` is added. Nothing is exported where it is left out.
    pub otlp: Option<OtlpUrl>,
}

/// The base URL of a collector: http or https, without credentials.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct OtlpUrl(Url);

/// Why a text is no URL of a collector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OtlpUrlError {
    /// It is none.
    #[error("the collector's URL cannot be read: {0}")]
    Malformed(url::ParseError),
    /// It has another scheme.
    #[error("the collector's URL begins with `http://` or `https://`")]
    Scheme,
    /// It has a user name or a password.
    #[error("credentials do not belong into the collector's URL: use `OTEL_EXPORTER_OTLP_HEADERS`")]
    Credentials,
}

impl std::str::FromStr for OtlpUrl {
    type Err = OtlpUrlError;

    fn from_str(text: &str) -> Result<Self, OtlpUrlError> {
        let url: Url = text.trim().parse().map_err(OtlpUrlError::Malformed)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(OtlpUrlError::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(OtlpUrlError::Credentials);
        }
        Ok(Self(url))
    }
}

impl TryFrom<String> for OtlpUrl {
    type Error = OtlpUrlError;

    fn try_from(text: String) -> Result<Self, OtlpUrlError> {
        text.parse()
    }
}

impl fmt::Display for OtlpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl OtlpUrl {
    /// The address of traces below the base.
    fn traces(&self) -> Url {
        let mut url = self.0.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(TRACES_PATH.split('/'));
        }
        url
    }
}

/// Why export cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum OtlpError {
    /// A variable of OpenTelemetry's has a value that is not supported.
    #[error("`{variable}` is `{value}`, which is not supported: {supported}")]
    Unsupported {
        /// The variable.
        variable: &'static str,
        /// Its value.
        value: String,
        /// What is.
        supported: &'static str,
    },
    /// A variable names no URL of a collector.
    #[error("`{variable}`: {error}")]
    Url {
        /// The variable.
        variable: &'static str,
        /// What is wrong with it.
        error: OtlpUrlError,
    },
    /// The HTTP client cannot be set up.
    #[error("the client of the collector cannot be set up: {0}")]
    Client(#[from] reqwest::Error),
    /// The exporter cannot be set up.
    #[error("the export of traces cannot be set up: {0}")]
    Exporter(String),
}

/// The running export, or none.
#[derive(Debug, Default)]
pub struct Traces(Option<SdkTracerProvider>);

impl Traces {
    /// Starts the export for the program `service`, where a collector is named: by `argument` (a flag or our own variable),
    /// else by OpenTelemetry's environment, else by `file`. Call it inside of a tokio runtime.
    ///
    /// # Errors
    /// When a value of the environment is not supported, or the client cannot be set up.
    pub fn start(
        service: &'static str,
        argument: Option<&OtlpUrl>,
        file: &TelemetryConfig,
    ) -> Result<Self, OtlpError> {
        let Some(address) = collector(argument, file)? else { return Ok(Self(None)) };
        check_environment()?;
        let tls = mcpctl_tls::client_config().map_err(|error| OtlpError::Exporter(error.to_string()))?;
        let http = Client::builder()
            .tls_backend_preconfigured((*tls).clone())
            .no_proxy()
            .redirect(Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(export_timeout())
            .build()?;
        let client = CollectorClient { http, runtime: Handle::current(), failing: AtomicBool::new(false) };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(address.as_str())
            .with_http_client(client)
            .build()
            .map_err(|error| OtlpError::Exporter(error.to_string()))?;
        let mut resource = Resource::builder();
        if set("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name(service);
        }
        let resource = resource.with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
        let mut provider =
            SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource.build());
        if set("OTEL_TRACES_SAMPLER").is_none() {
            // A caller's flag decides nothing, unless the operator chooses a sampler that follows it.
            provider = provider.with_sampler(Sampler::AlwaysOn);
        }
        let provider = provider.build();
        opentelemetry::global::set_tracer_provider(provider.clone());
        mcpctl_trace::enable();
        tracing::info!(collector = %shown(&address), "traces are exported");
        Ok(Self(Some(provider)))
    }

    /// Exports what is queued, for at most [`DRAIN_TIMEOUT`], and ends the export.
    pub async fn shutdown(self) {
        let Some(provider) = self.0 else { return };
        let ending = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(DRAIN_TIMEOUT));
        match ending.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the last traces could not be exported"),
            Err(error) => tracing::warn!(%error, "the export of traces did not end"),
        }
    }
}

/// Where traces go to; `None` where none are exported.
fn collector(argument: Option<&OtlpUrl>, file: &TelemetryConfig) -> Result<Option<Url>, OtlpError> {
    if set("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
        || set("OTEL_TRACES_EXPORTER").is_some_and(|value| value == "none")
    {
        return Ok(None);
    }
    if let Some(url) = argument {
        return Ok(Some(url.traces()));
    }
    let from = |variable: &'static str| {
        let parsed = set(variable).map(|text| text.parse::<OtlpUrl>());
        parsed.transpose().map_err(|error| OtlpError::Url { variable, error })
    };
    // The variable for traces alone is the whole address, the other one a base (OTLP exporter specification).
    if let Some(url) = from("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")? {
        return Ok(Some(url.0));
    }
    let base = from("OTEL_EXPORTER_OTLP_ENDPOINT")?.or_else(|| file.otlp.clone());
    Ok(base.map(|url| url.traces()))
}

/// Refuses what OpenTelemetry's SDK would replace silently by something else.
fn check_environment() -> Result<(), OtlpError> {
    let rules: [(&str, &[&str], &str); 4] = [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", &["http/protobuf"], "it is `http/protobuf`"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", &["http/protobuf"], "it is `http/protobuf`"),
        ("OTEL_TRACES_EXPORTER", &["otlp"], "it is `otlp` or `none`"),
        (
            "OTEL_TRACES_SAMPLER",
            &[
                "always_on",
                "always_off",
                "traceidratio",
                "parentbased_always_on",
                "parentbased_always_off",
                "parentbased_traceidratio",
            ],
            "it is `always_on`, `always_off` or `traceidratio`, or one of these after `parentbased_`",
        ),
    ];
    for (variable, values, supported) in rules {
        if let Some(value) = set(variable).filter(|value| !values.contains(&value.as_str())) {
            return Err(OtlpError::Unsupported { variable, value, supported });
        }
    }
    let variable = "OTEL_TRACES_SAMPLER_ARG";
    let is_ratio = |value: &String| value.parse().is_ok_and(|ratio: f64| (0.0..=1.0).contains(&ratio));
    match set(variable).filter(|value| !is_ratio(value)) {
        Some(value) => {
            Err(OtlpError::Unsupported { variable, value, supported: "it is a ratio from 0 to 1" })
        }
        None => Ok(()),
    }
}

/// A variable of the environment that is not empty.
fn set(variable: &str) -> Option<String> {
    env::var(variable).ok().filter(|value| !value.is_empty())
}

/// `OTEL_EXPORTER_OTLP_TIMEOUT`, in milliseconds.
fn export_timeout() -> Duration {
    let set = set("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT").or_else(|| set("OTEL_EXPORTER_OTLP_TIMEOUT"));
    let configured = set.and_then(|text| text.parse().ok()).map(Duration::from_millis);
    configured.filter(|timeout| !timeout.is_zero()).unwrap_or(EXPORT_TIMEOUT)
}

/// The address without its query, which may hold a key.
fn shown(address: &Url) -> String {
    format!("{}{}", address.origin().ascii_serialization(), address.path())
}

/// Sends to the collector on the daemon's runtime: the exporter calls it on a thread of its own. Reports in the log when the
/// collector begins to fail and when it is back, not every failure between.
#[derive(Debug)]
struct CollectorClient {
    http: Client,
    runtime: Handle,
    failing: AtomicBool,
}

impl CollectorClient {
    fn failed(&self, reason: &dyn fmt::Display) {
        if !self.failing.swap(true, Ordering::Relaxed) {
            tracing::warn!(%reason, "traces cannot be exported; requests go on, and spans are dropped meanwhile");
        }
    }

    fn succeeded(&self) {
        if self.failing.swap(false, Ordering::Relaxed) {
            tracing::info!("traces are exported again");
        }
    }
}

#[async_trait::async_trait]
impl HttpClient for CollectorClient {
    async fn send_bytes(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
        let http = self.http.clone();
        let sent = self.runtime.spawn(async move { send(&http, request).await }).await;
        match sent.map_err(HttpError::from).flatten() {
            Ok(answer) if answer.status().is_success() => {
                self.succeeded();
                Ok(answer)
            }
            Ok(answer) => {
                self.failed(&format_args!("the collector answers with status {}", answer.status().as_u16()));
                Ok(answer)
            }
            Err(error) => {
                self.failed(&root_cause(&*error));
                Err(error)
            }
        }
    }
}

async fn send(http: &Client, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
    let mut response = http.execute(request.try_into()?).await.map_err(reqwest::Error::without_url)?;
    let mut answer = http::Response::builder().status(response.status());
    if let Some(headers) = answer.headers_mut() {
        *headers = std::mem::take(response.headers_mut());
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err("the collector's answer is too long".into());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(answer.body(body.into())?)
}

/// The innermost error, which names the reason.
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_of_traces_is_added_to_the_base() {
        for (base, traces) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("https://otel.example.com/base/", "https://otel.example.com/base/v1/traces"),
        ] {
            assert_eq!(base.parse::<OtlpUrl>().unwrap().traces().as_str(), traces);
        }
    }

    #[test]
    fn only_plain_http_addresses_are_collectors() {
        for text in ["127.0.0.1:4318", "grpc://collector", "http://user:secret@collector", ""] {
            let error = text.parse::<OtlpUrl>().unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
