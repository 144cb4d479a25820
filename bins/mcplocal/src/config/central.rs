//! The mcpd of the agent: its addresses and what proves that a program there is mcpd, from the file, else from the current
//! context of mcpctl.
//!
//! A context is taken over as a whole or not at all: an address, a certificate or a key that the file names beside the server of
//! whichever context is the current one would be used for another mcpd after the next sign-in.

use std::path::{Path, PathBuf};

use mcpctl_api::{base_url::check_base, yaml::YamlError};
use mcpctl_client::{
    ClientFiles, ClientTls, Trust, TrustedUsers,
    config::{Config as Contexts, Context},
};
use serde_saphyr::Spanned;
use url::Url;

use super::{
    Config, ConfigFile,
    check::{is_loopback, place, whole_path, wrong},
};

/// Where the address of mcpd is from, where the file does not name it.
#[derive(Debug, Clone, Copy)]
pub enum DefaultServer<'a> {
    /// The current context of mcpctl, in the file of contexts at this path.
    Context(&'a Path),
    /// This configuration, which runs: another context must not redirect running clients.
    Running(&'a Config),
}

/// The mcpd of a configuration.
pub(super) struct Central {
    pub(super) server: Url,
    pub(super) inference: Url,
    pub(super) trust: Trust,
    pub(super) context: Option<String>,
}

/// Reads the part of the file that is about mcpd.
pub(super) fn read(file: &ConfigFile, default: DefaultServer<'_>) -> Result<Central, YamlError> {
    let Some(server) = &file.server else { return without_server(file, default) };
    check_server(server)?;
    if let Some(inference) = &file.inference {
        check_server(inference)?;
    }
    Ok(Central {
        inference: prefix(file.inference.as_ref().unwrap_or(server).value.clone()),
        server: prefix(server.value.clone()),
        trust: Trust { users: trusted(file, server)?, tls: tls(file, server)? },
        context: None,
    })
}

fn without_server(file: &ConfigFile, default: DefaultServer<'_>) -> Result<Central, YamlError> {
    fn at<T>(value: Option<&Spanned<T>>) -> Option<(u64, u64)> {
        value.map(place)
    }
    let beside = [
        ("inference", at(file.inference.as_ref())),
        ("serverUser", at(file.server_user.as_ref())),
        ("ca", at(file.ca.as_ref())),
        ("clientCertificate", at(file.client_certificate.as_ref())),
        ("clientKey", at(file.client_key.as_ref())),
        ("proofKeys", at(file.proof_keys.as_ref())),
    ];
    for (key, at) in beside {
        if let Some((line, column)) = at {
            let message = format!("`{key}` is of one mcpd, and the file does not name it");
            let hint = Some("write `server` too; a context of mcpctl has its own".to_owned());
            return Err(YamlError { line, column, message, hint });
        }
    }
    match default {
        DefaultServer::Running(config) => Ok(Central {
            server: config.server.clone(),
            inference: config.inference.clone(),
            trust: config.trust.clone(),
            context: config.context.clone(),
        }),
        DefaultServer::Context(path) => of_context(path),
    }
}

fn of_context(path: &Path) -> Result<Central, YamlError> {
    let here = |message: String, hint: Option<String>| YamlError { line: 1, column: 1, message, hint };
    let contexts = Contexts::load(path).map_err(|error| {
        here(format!("`server` is missing, and the contexts of mcpctl cannot be read: {error}"), error.hint())
    })?;
    let Some(context) = contexts.context(None) else {
        let hint = "sign in with `mcpctl login https://mcpd.example.com`, or write it as `server`";
        let message = "`server` is missing, and mcpctl has no current context".to_owned();
        return Err(here(message, Some(hint.to_owned())));
    };
    let of_it =
        |message: String| format!("`server` is missing, and of the context `{}`: {message}", context.name);
    check_address(&context.server).map_err(|(message, hint)| here(of_it(message), hint))?;
    let trust = trust_of(context).map_err(|(message, hint)| here(of_it(message), hint))?;
    let server = prefix(context.server.clone());
    Ok(Central { inference: server.clone(), server, trust, context: Some(context.name.clone()) })
}

fn trust_of(context: &Context) -> Result<Trust, (String, Option<String>)> {
    let users = context.trusted().map_err(|error| (error.to_string(), None))?;
    let tls = ClientTls::read(context.tls_files()).map_err(|error| (error.to_string(), error.hint()))?;
    Ok(Trust { users, tls })
}

fn check_server(url: &Spanned<Url>) -> Result<(), YamlError> {
    check_address(&url.value).map_err(|(message, hint)| YamlError { hint, ..wrong(url, message) })
}

/// Checks the address of an mcpd; fails with a message and the next step.
fn check_address(address: &Url) -> Result<(), (String, Option<String>)> {
    if !matches!(address.scheme(), "http" | "https") {
        let hint = "write it with its scheme, e.g. `https://mcpd.example.com`".to_owned();
        return Err((format!("`{address}` is neither http nor https"), Some(hint)));
    }
    // Bearers are sent to it, so the network must not be able to read them.
    if address.scheme() == "http" && !is_loopback(address) {
        let hint = "use https, or http with a loopback address".to_owned();
        return Err((format!("`{address}` is not encrypted, and callers' tokens travel to it"), Some(hint)));
    }
    if !address.username().is_empty() || address.password().is_some() {
        return Err(("credentials do not belong into an address".to_owned(), None));
    }
    check_base(address).map_err(|error| (error.message, error.hint))
}

/// The base of mcpd's own paths: without repeated slashes, and without the `/v1` that OpenAI clients are configured with.
fn prefix(mut address: Url) -> Url {
    let mut segments: Vec<&str> = address.path().split('/').filter(|segment| !segment.is_empty()).collect();
    segments.pop_if(|last| *last == "v1");
    let path = segments.join("/");
    address.set_path(&path);
    address
}

fn trusted(file: &ConfigFile, server: &Spanned<Url>) -> Result<TrustedUsers, YamlError> {
    let Some(user) = &file.server_user else { return Ok(TrustedUsers::default()) };
    let mut urls = [Some(server), file.inference.as_ref()].into_iter().flatten();
    if !urls.any(|url| url.value.scheme() == "http") {
        let mut error = wrong(user, "`serverUser` is for an mcpd that is reached over plain http");
        error.hint = Some("leave it out: over https the certificate identifies the server".to_owned());
        return Err(error);
    }
    user.value.parse().map_err(|error| {
        let mut error = wrong(user, error);
        error.hint = Some("name the user that mcpd runs as".to_owned());
        error
    })
}

/// The certificates by which mcpd and the agent know each other, read here so that a mistake has its place.
fn tls(file: &ConfigFile, server: &Spanned<Url>) -> Result<ClientTls, YamlError> {
    let named = [&file.ca, &file.client_certificate, &file.client_key];
    let Some(first) = named.into_iter().find_map(Option::as_ref) else { return Ok(ClientTls::default()) };
    let mut urls = [Some(server), file.inference.as_ref()].into_iter().flatten();
    if !urls.any(|url| url.value.scheme() == "https") {
        let mut error = wrong(first, "this is for an mcpd that is reached over https");
        error.hint = Some("leave it out, or write https:// in `server`".to_owned());
        return Err(error);
    }
    let path = |path: &Option<Spanned<PathBuf>>| {
        path.as_ref().map(|path| whole_path(path, "~/.config/mcpctl/ca.pem")).transpose()
    };
    let files = ClientFiles {
        ca: path(&file.ca)?,
        certificate: path(&file.client_certificate)?,
        key: path(&file.client_key)?,
    };
    ClientTls::read(files).map_err(|error| YamlError { hint: error.hint(), ..wrong(first, error) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contexts(text: &str) -> (tempfile::TempDir, PathBuf) {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.yaml");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        (dir, path)
    }

    const TWO: &str = "currentContext: b\ncontexts:\n- {name: a, server: 'https://a.example.com'}\n\
                       - {name: b, server: 'https://b.example.com/v1'}\n";

    #[test]
    fn server_is_that_of_the_current_context() {
        let (_dir, path) = contexts(TWO);
        let config = Config::parse_with("providers: []\n", DefaultServer::Context(&path)).unwrap();
        assert_eq!(config.server.as_str(), "https://b.example.com/");
        assert_eq!((config.inference, config.context.as_deref()), (config.server, Some("b")));
        let named =
            Config::parse_with("server: https://c.example.com\n", DefaultServer::Context(&path)).unwrap();
        assert_eq!((named.server.as_str(), named.context), ("https://c.example.com/", None));
    }

    #[test]
    fn running_agent_keeps_its_server() {
        let (_dir, path) = contexts(TWO);
        let running = Config::parse_with("", DefaultServer::Context(&path)).unwrap();
        std::fs::write(&path, TWO.replace("Context: b", "Context: a")).unwrap();
        let again = Config::parse_with("listen: 127.0.0.1:1\n", DefaultServer::Running(&running)).unwrap();
        assert_eq!((again.server, again.context), (running.server, running.context));
    }

    #[test]
    fn key_of_one_mcpd_needs_its_server() {
        let (_dir, path) = contexts(TWO);
        for line in [
            "inference: https://other.example.com",
            "serverUser: root",
            "ca: /ca.pem",
            "clientCertificate: /c.pem",
            "clientKey: /k.pem",
            "proofKeys: [ZGVmZGVmZGVmZGVmZGVmZGVmZGVmZGVmZGVmZGVmZGU]",
        ] {
            let error = Config::parse_with(&format!("{line}\n"), DefaultServer::Context(&path)).unwrap_err();
            let key = line.split(':').next().unwrap();
            assert!(error.message.starts_with(&format!("`{key}` is of one mcpd")), "{error}");
        }
    }

    #[test]
    fn context_is_checked_like_the_file() {
        for (text, expected) in [
            ("", "mcpctl has no current context"),
            ("currentContext: gone\ncontexts: []\n", "mcpctl has no current context"),
            ("contexts: [", "cannot be read"),
            (
                "currentContext: a\ncontexts:\n- {name: a, server: 'http://a.example.com'}\n",
                "is not encrypted",
            ),
            (
                "currentContext: a\ncontexts:\n- {name: a, server: 'https://a.example.com', ca: /gone.pem}\n",
                "of the context `a`: ",
            ),
        ] {
            let (_dir, path) = contexts(text);
            let error = Config::parse_with("", DefaultServer::Context(&path)).unwrap_err();
            assert!(
                error.message.contains(expected) && error.message.contains("`server`"),
                "{text}: {error}"
            );
        }
    }
}
