//! TLS of mcpd's listeners: `tls` of the configuration file, and its flags.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;
use mcpctl_api::HintedError;
use mcpctl_tls::ServerFiles;
use serde::Deserialize;

/// The flags.
#[derive(Debug, Default, Args)]
pub struct TlsArgs {
    /// Certificate that mcpd serves TLS with, in PEM with its chain; read again when it changes
    #[arg(long, env = "MCPD_TLS_CERTIFICATE", value_name = "FILE")]
    tls_certificate: Option<PathBuf>,
    /// The key of that certificate, for this user alone
    #[arg(long, env = "MCPD_TLS_KEY", value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Authority of which every client has to present a certificate, besides its token
    #[arg(long, env = "MCPD_TLS_CLIENT_CA", value_name = "FILE")]
    tls_client_ca: Option<PathBuf>,
    /// Listen without TLS where other machines reach the address: for a reverse proxy with TLS alone
    #[arg(long, env = "MCPD_ALLOW_PLAIN_HTTP")]
    allow_plain_http: bool,
}

/// `tls` of the file.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TlsFile {
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    client_ca: Option<PathBuf>,
}

impl TlsArgs {
    /// The files; none where mcpd speaks plain HTTP.
    ///
    /// # Errors
    /// One file without the others that it needs; an address that other machines reach, without TLS and without the permission.
    pub fn resolve(
        self,
        file: TlsFile,
        allow_plain_http: bool,
        addresses: impl IntoIterator<Item = SocketAddr>,
    ) -> Result<Option<ServerFiles>, HintedError> {
        let certificate = self.tls_certificate.or(file.certificate);
        let key = self.tls_key.or(file.key);
        let client_ca = self.tls_client_ca.or(file.client_ca);
        match (certificate, key, client_ca) {
            (Some(certificate), Some(key), client_ca) => {
                Ok(Some(ServerFiles { certificate, key, client_ca }))
            }
            (None, None, None) => {
                let exposed = addresses.into_iter().find(|address| !address.ip().is_loopback());
                match exposed {
                    Some(address) if !(allow_plain_http || self.allow_plain_http) => {
                        Err(exposed_plain(address))
                    }
                    _ => Ok(None),
                }
            }
            (None, None, Some(_)) => Err(HintedError::with(
                "clients have to present a certificate, and mcpd has none itself",
                "set `tls.certificate` and `tls.key` too, or `--tls-certificate` and `--tls-key`",
            )),
            (Some(_), None, _) => Err(half("certificate", "key")),
            (None, Some(_), _) => Err(half("key", "certificate")),
        }
    }
}

fn half(given: &str, missing: &str) -> HintedError {
    HintedError::with(
        format_args!("`tls.{given}` is set without `tls.{missing}`"),
        format_args!("set `tls.{missing}`, or `--tls-{missing}`"),
    )
}

fn exposed_plain(address: SocketAddr) -> HintedError {
    HintedError::with(
        format_args!(
            "other machines reach `{address}`, and without TLS they could read passwords, tokens and prompts on the way"
        ),
        "set `tls.certificate` and `tls.key` (`--tls-certificate`, `--tls-key`); `--allow-plain-http` is for an address that a \
         reverse proxy with TLS alone reaches",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(file: &str, allowed: bool, address: &str) -> Result<Option<ServerFiles>, String> {
        let file = mcpctl_api::yaml::from_str(file).unwrap();
        let resolved = TlsArgs::default().resolve(file, allowed, [address.parse().unwrap()]);
        resolved.map_err(|error| error.message)
    }

    #[test]
    fn plain_http_is_for_loopback_unless_it_is_allowed() {
        assert_eq!(resolve("{}", false, "127.0.0.1:1"), Ok(None));
        assert_eq!(resolve("{}", false, "[::1]:1"), Ok(None));
        assert_eq!(resolve("{}", true, "0.0.0.0:1"), Ok(None));
        assert!(
            resolve("{}", false, "0.0.0.0:1").unwrap_err().starts_with("other machines reach `0.0.0.0:1`")
        );
        assert!(resolve("{}", false, "[::]:1").is_err());
        assert!(resolve("{certificate: /c, key: /k}", false, "0.0.0.0:1").unwrap().is_some());
    }

    #[test]
    fn files_that_belong_together_are_set_together() {
        let error = |file: &str| resolve(file, true, "127.0.0.1:1").unwrap_err();
        assert_eq!(error("{certificate: /c}"), "`tls.certificate` is set without `tls.key`");
        assert_eq!(error("{key: /k}"), "`tls.key` is set without `tls.certificate`");
        assert!(error("{clientCa: /a}").starts_with("clients have to present"));
        assert!(error("{certificate: /c, clientCa: /a}").contains("without `tls.key`"));
    }
}
