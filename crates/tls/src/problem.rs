//! What an error of TLS means for the person who can change an address, a file or a clock.

use std::{io, time::Duration};

use jiff::Timestamp;
use rustls::{
    AlertDescription, CertificateError, Error,
    pki_types::{ServerName, UnixTime},
};

/// What an error means, in one line, and the next step where there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsProblem {
    /// What is wrong.
    pub reason: String,
    /// The next step, where the server is an mcpd.
    pub hint: Option<&'static str>,
    /// What kind of fault it is.
    pub fault: TlsFault,
}

/// A kind of fault of a TLS connection, seen from the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsFault {
    /// The server does not speak TLS at all.
    Plain,
    /// Its certificate is of an authority that is not trusted.
    Authority,
    /// Its certificate is of another name.
    Name,
    /// Its certificate has expired, or is not valid yet.
    Time,
    /// It does not accept the client's certificate, or the client has none.
    Client,
    /// Another one.
    Other,
}

const CA: &str = "is it the right server? Name the file of its private authority, where it has one: `--ca FILE` of mcpctl, `ca` in mcplocal.yaml";
const OWN_CA: &str = "issue the server a certificate of its own from it, with `basicConstraints=CA:FALSE`";
const NAME: &str = "use a name of the certificate as the address, or have one issued for this name";
const EXPIRED: &str = "renew it: mcpd uses a new file within seconds; and check the clock of this machine";
const CLIENT: &str = "present one: `--client-certificate FILE --client-key FILE` of mcpctl, `clientCertificate` and `clientKey` in mcplocal.yaml";
const CLIENT_CA: &str = "present a valid one of the authority in `tls.clientCa` of that mcpd";

/// What a server sends that does not accept a client's certificate.
const REFUSALS: [AlertDescription; 8] = [
    AlertDescription::BadCertificate,
    AlertDescription::UnsupportedCertificate,
    AlertDescription::CertificateRevoked,
    AlertDescription::CertificateExpired,
    AlertDescription::CertificateUnknown,
    AlertDescription::UnknownCA,
    AlertDescription::DecryptError,
    AlertDescription::AccessDenied,
];
/// What it sends where none was presented.
const MISSING: [AlertDescription; 2] =
    [AlertDescription::CertificateRequired, AlertDescription::NoCertificate];

impl TlsProblem {
    /// What this error of a client means.
    pub fn of(error: &Error) -> Self {
        match error {
            Error::InvalidMessage(_) => problem(TlsFault::Plain, "it does not speak TLS", None),
            Error::InvalidCertificate(error) => certificate(error),
            Error::AlertReceived(alert) if MISSING.contains(alert) => problem(
                TlsFault::Client,
                "it asks for a client's certificate, and none was presented",
                Some(CLIENT),
            ),
            Error::AlertReceived(alert) if REFUSALS.contains(alert) => problem(
                TlsFault::Client,
                format!("it does not accept the client's certificate ({alert:?})"),
                Some(CLIENT_CA),
            ),
            Error::AlertReceived(AlertDescription::ProtocolVersion) | Error::PeerIncompatible(_) => problem(
                TlsFault::Other,
                format!("it has no version of TLS and no cipher that both know: {error}"),
                None,
            ),
            other => problem(TlsFault::Other, format!("TLS: {other}"), None),
        }
    }

    /// What an error of I/O means that holds only the words of an alert, as HTTP/2 connections report them; `None` where it is none
    /// about a client's certificate. In TLS 1.3 such an alert comes after the handshake.
    pub fn of_words(error: &io::Error) -> Option<Self> {
        let words = (error.kind() == io::ErrorKind::InvalidData).then(|| error.to_string())?;
        let mut alerts = MISSING.into_iter().chain(REFUSALS).map(Error::AlertReceived);
        alerts.find(|alert| alert.to_string() == words).map(|alert| Self::of(&alert))
    }
}

fn problem(fault: TlsFault, reason: impl Into<String>, hint: Option<&'static str>) -> TlsProblem {
    TlsProblem { reason: reason.into(), hint, fault }
}

fn certificate(error: &CertificateError) -> TlsProblem {
    const CLOCK: Option<&str> = Some("check the clock of this machine");
    match error {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => problem(
            TlsFault::Authority,
            "its certificate is of an authority that is not trusted here",
            Some(CA),
        ),
        CertificateError::NotValidForNameContext { expected, presented } => {
            let presented: Vec<_> = presented.iter().map(|name| bare(name)).collect();
            let (expected, presented) = (shown(expected), presented.join(", "));
            let reason = format!("its certificate is not for `{expected}`, only for: {presented}");
            problem(TlsFault::Name, reason, Some(NAME))
        }
        CertificateError::NotValidForName => {
            problem(TlsFault::Name, "its certificate is for another name", Some(NAME))
        }
        CertificateError::ExpiredContext { not_after, .. } => {
            let reason = format!("its certificate expired {}", date(*not_after));
            problem(TlsFault::Time, reason, Some(EXPIRED))
        }
        CertificateError::Expired => problem(TlsFault::Time, "its certificate has expired", Some(EXPIRED)),
        CertificateError::NotValidYetContext { not_before, .. } => {
            let reason = format!("its certificate is valid from {} on", date(*not_before));
            problem(TlsFault::Time, reason, CLOCK)
        }
        CertificateError::NotValidYet => problem(TlsFault::Time, "its certificate is not valid yet", CLOCK),
        // The verifier has no kind of its own for it. `openssl req -x509` makes such certificates.
        CertificateError::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            problem(TlsFault::Other, "its certificate is one of an authority, not of a server", Some(OWN_CA))
        }
        other => problem(TlsFault::Other, format!("its certificate cannot be trusted: {other}"), None),
    }
}

fn shown(name: &ServerName<'_>) -> String {
    match name {
        ServerName::IpAddress(address) => std::net::IpAddr::from(*address).to_string(),
        _ => name.to_str().into_owned(),
    }
}

/// A name of a certificate without the library's name of its type: `DnsName("a.example")`.
fn bare(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
    inner.trim_matches('"')
}

fn date(time: UnixTime) -> String {
    let time = Timestamp::UNIX_EPOCH.saturating_add(Duration::from_secs(time.as_secs()));
    time.map_or_else(|_| "long ago".to_owned(), |time| time.strftime("%F %H:%M UTC").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_certificates_are_shown_bare() {
        assert_eq!(bare("DnsName(\"a.example\")"), "a.example");
        assert_eq!(bare("IpAddress(127.0.0.1)"), "127.0.0.1");
        assert_eq!(bare("a.example"), "a.example");
    }

    #[test]
    fn alerts_about_a_clients_certificate_are_known_by_their_words() {
        let reported = |words: &str| TlsProblem::of_words(&io::Error::new(io::ErrorKind::InvalidData, words));
        for alert in MISSING.into_iter().chain(REFUSALS).map(Error::AlertReceived) {
            assert_eq!(reported(&alert.to_string()), Some(TlsProblem::of(&alert)), "{alert}");
        }
        assert_eq!(reported("received fatal alert: InternalError"), None);
    }
}
