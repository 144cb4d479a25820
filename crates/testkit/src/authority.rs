//! A private certificate authority, and the files that it issues.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose, PublicKeyData as _, date_time_ymd,
};
use tempfile::TempDir;

/// An authority with a directory of its own.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: Arc<TempDir>,
}

/// A certificate and its key, in PEM.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The file of the certificate.
    pub certificate: PathBuf,
    /// The file of the key.
    pub key: PathBuf,
    _dir: Arc<TempDir>,
}

impl Authority {
    /// A new authority, whose certificate is in [`Authority::ca_file`].
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let dir = tempfile::Builder::new().prefix("ca-").tempdir().expect("a temporary directory");
        params.distinguished_name = named(&dir.path().display().to_string());
        let issuer = CertifiedIssuer::self_signed(params, key()).expect("the authority");
        let dir = Arc::new(dir);
        let authority = Self { issuer, dir };
        fs::write(authority.ca_file(), authority.issuer.pem()).expect("the authority's certificate");
        authority
    }

    /// The file of its certificate.
    pub fn ca_file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// Its certificate in PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Issues a certificate of a server or a client for these names and addresses, in files of this name.
    pub fn issue(&self, file: &str, names: &[&str]) -> Issued {
        self.issue_with(file, names, |_| ())
    }

    /// As [`Authority::issue`], a certificate that expired.
    pub fn issue_expired(&self, file: &str, names: &[&str]) -> Issued {
        self.issue_with(file, names, |params| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        })
    }

    /// As [`Authority::issue`], a certificate that ends in so many days.
    pub fn issue_ending(&self, file: &str, names: &[&str], days: i64) -> Issued {
        let now = jiff::Timestamp::now();
        let end = now.saturating_add(jiff::SignedDuration::from_hours(24 * days)).expect("a time");
        let date = end.to_zoned_datetime(jiff::tz::TimeZone::UTC).date();
        let part = |part: i8| u8::try_from(part).expect("a part of a date");
        self.issue_with(file, names, |params| {
            params.not_after = date_time_ymd(date.year().into(), part(date.month()), part(date.day()));
        })
    }

    fn issue_with(&self, file: &str, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Issued {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name = named(file);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = key();
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let path = |kind: &str| self.dir.path().join(format!("{file}{kind}.pem"));
        let issued = Issued { certificate: path(""), key: path("-key"), _dir: Arc::clone(&self.dir) };
        replace(&issued.certificate, &certificate.pem(), 0o644);
        replace(&issued.key, &key.serialize_pem(), 0o600);
        issued
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Issued {
    /// Puts the content of these files in place of other ones, first the certificate.
    pub fn replace(&self, other: &Self) {
        replace(&other.certificate, &fs::read_to_string(&self.certificate).expect("a certificate"), 0o644);
        replace(&other.key, &fs::read_to_string(&self.key).expect("a key"), 0o600);
    }

    /// The SHA-256 of its public key in base64, as Chromium names a key that it is to trust.
    pub fn public_key_pin(&self) -> String {
        let key = KeyPair::from_pem(&fs::read_to_string(&self.key).expect("a key")).expect("a key");
        STANDARD.encode(digest(&SHA256, &key.subject_public_key_info()))
    }

    /// Both in one text, as reqwest reads an identity.
    pub fn pem(&self) -> String {
        [&self.certificate, &self.key].map(|path| fs::read_to_string(path).expect("a file")).concat()
    }
}

/// Replaces a file at once, so that no half of it can be read.
fn replace(path: &Path, text: &str, mode: u32) {
    let draft = path.with_extension("draft");
    fs::write(&draft, text).expect("a file");
    fs::set_permissions(&draft, Permissions::from_mode(mode)).expect("permissions");
    fs::rename(draft, path).expect("a file");
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}
