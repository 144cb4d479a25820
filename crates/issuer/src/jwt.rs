//! Verifies a signed JWT of an issuer. A pure function of the token, the issuer's keys and the time.
//!
//! Only asymmetric algorithms are accepted, each with keys of its own kind only, so that neither `none` nor an issuer's
//! public key as the secret of an HMAC verifies anything (RFC 8725, sections 3.1 and 3.2).

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use jsonwebtoken::{
    Algorithm, DecodingKey, Header, Validation,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse},
};
use mcpctl_api::oidc::IssuerUrl;
use serde::Deserialize;
use serde_json::{Map, Value};

/// Maximum length of a token, in bytes. One with 200 groups, the most that Entra ID includes, has about 10 KiB.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// How far the issuer's clock may differ from ours.
const MAX_SKEW: Duration = Duration::from_secs(60);
/// Maximum length of a subject, in characters (OpenID Connect Core 1.0, section 2).
const MAX_SUBJECT_CHARS: usize = 255;
/// Maximum number of keys that are kept of an issuer.
const MAX_KEYS: usize = 64;

/// The accepted algorithms.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// What a token must be for, besides being signed and in time.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// The issuer, compared character by character.
    pub issuer: &'a IssuerUrl,
    /// The audience that must be among the token's.
    pub audience: &'a str,
    /// What kind of token it is.
    pub kind: TokenKind<'a>,
}

/// The kinds of token, each with its own rules.
#[derive(Debug, Clone, Copy)]
pub enum TokenKind<'a> {
    /// An ID token of a sign-in; the nonce is required where one was sent.
    IdToken {
        /// The nonce of the authorization request.
        nonce: Option<&'a str>,
    },
    /// A token that a workload presents, such as that of a Kubernetes service account.
    Workload,
}

/// The claims of a verified token.
#[derive(Debug, Clone, PartialEq)]
pub struct Claims {
    /// Who it is about, unique within the issuer; 1 to 255 characters.
    pub subject: String,
    /// When it ends.
    pub expires_at: Timestamp,
    /// Every claim, these two included.
    pub all: Map<String, Value>,
}

/// Why a token is rejected. No text contains anything of the token but its algorithm.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is too long, no JWT, or has a header or claims that cannot be read.
    #[error("the token is malformed: {0}")]
    Malformed(&'static str),
    /// Its algorithm is not accepted, or the key is for another one.
    #[error("the token's algorithm is not accepted")]
    Algorithm,
    /// The issuer has no such key.
    #[error("the token is signed with a key that the issuer does not publish")]
    UnknownKey,
    /// The signature is not the issuer's.
    #[error("the token's signature is wrong")]
    Signature,
    /// It is another issuer's.
    #[error("the token is another issuer's")]
    Issuer,
    /// It is for another audience.
    #[error("the token is for another audience")]
    Audience,
    /// It has ended.
    #[error("the token has expired")]
    Expired,
    /// It begins later, or was issued later than now; 60 s of difference are allowed.
    #[error("the token is from the future: the clocks of mcpd and of the issuer differ by more than 60 s")]
    Early,
    /// It was not issued for this sign-in.
    #[error("the token belongs to another sign-in")]
    Nonce,
}

/// The keys that an issuer publishes. Those that verify nothing here are left out.
#[derive(Debug, Clone, Default)]
pub struct Keys(Vec<Jwk>);

impl Keys {
    /// Reads a JWK set (RFC 7517). A key of an unknown kind is skipped, so that it does not make the others useless.
    ///
    /// # Errors
    /// When it is no set, or has too many keys.
    pub fn read(json: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let Set { keys } =
            serde_json::from_slice(json).map_err(|error| format!("it is not a JWK set: {error}"))?;
        if keys.len() > MAX_KEYS {
            return Err(format!("it has {} keys, more than {MAX_KEYS}", keys.len()));
        }
        let keys = keys.into_iter().filter_map(|key| serde_json::from_value(key).ok());
        Ok(Self(keys.filter(signs).collect()))
    }

    /// The one key that the header means. Without `kid` there must be only one that fits.
    fn find(&self, header: &Header) -> Result<&Jwk, TokenError> {
        let named: Vec<&Jwk> = match &header.kid {
            Some(kid) => self.0.iter().filter(|key| key.common.key_id.as_ref() == Some(kid)).collect(),
            None => self.0.iter().collect(),
        };
        if named.is_empty() {
            return Err(TokenError::UnknownKey);
        }
        let mut fitting = named.into_iter().filter(|key| fits(key, header.alg));
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Ok(key),
            (None, _) => Err(TokenError::Algorithm),
            (Some(_), Some(_)) => Err(TokenError::UnknownKey),
        }
    }
}

/// Whether a key is one for signatures of an accepted kind.
fn signs(key: &Jwk) -> bool {
    matches!(key.common.public_key_use, None | Some(PublicKeyUse::Signature))
        && ALGORITHMS.into_iter().any(|algorithm| fits(key, algorithm))
}

/// Whether the key is of the algorithm's kind, and not published for another algorithm.
fn fits(key: &Jwk, algorithm: Algorithm) -> bool {
    let kind = match (&key.algorithm, algorithm) {
        (
            AlgorithmParameters::RSA(_),
            Algorithm::RS256
            | Algorithm::RS384
            | Algorithm::RS512
            | Algorithm::PS256
            | Algorithm::PS384
            | Algorithm::PS512,
        ) => true,
        (AlgorithmParameters::EllipticCurve(key), Algorithm::ES256) => key.curve == EllipticCurve::P256,
        (AlgorithmParameters::EllipticCurve(key), Algorithm::ES384) => key.curve == EllipticCurve::P384,
        (AlgorithmParameters::OctetKeyPair(key), Algorithm::EdDSA) => key.curve == EllipticCurve::Ed25519,
        _ => false,
    };
    let published = key.common.key_algorithm.as_ref();
    kind && published.is_none_or(|published| published.to_string() == format!("{algorithm:?}"))
}

/// The issuer that a token names, unverified: only to choose among the issuers that are trusted.
pub fn named_issuer(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        iss: String,
    }
    let claims = token.split('.').nth(1).filter(|_| token.len() <= MAX_TOKEN_BYTES)?;
    let Named { iss } = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
    Some(iss)
}

/// The audiences that a token names, unverified: only to verify it for one of them.
pub fn named_audiences(token: &str) -> Vec<String> {
    #[derive(Deserialize)]
    struct Named {
        aud: Value,
    }
    let claims = token.split('.').nth(1).filter(|_| token.len() <= MAX_TOKEN_BYTES);
    let json = claims.and_then(|claims| URL_SAFE_NO_PAD.decode(claims).ok());
    let named = json.and_then(|json| serde_json::from_slice::<Named>(&json).ok());
    named.map(|named| audiences(&named.aud)).unwrap_or_default()
}

/// The audiences of the claim `aud`, which is one text or a list of them (RFC 7519, section 4.1.3).
pub fn audiences(claim: &Value) -> Vec<String> {
    match claim {
        Value::String(one) => vec![one.clone()],
        Value::Array(several) => several.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    }
}

/// Verifies a token: signature first, then its claims.
///
/// # Errors
/// The first rule that it breaks. [`TokenError::UnknownKey`] may be cured by newer keys.
pub fn verify(
    token: &str,
    keys: &Keys,
    expected: &Expected<'_>,
    now: Timestamp,
) -> Result<Claims, TokenError> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(TokenError::Malformed("it is longer than 16 KiB"));
    }
    let header = read_header(token, &expected.kind)?;
    let key = keys.find(&header)?;
    let key = DecodingKey::from_jwk(key).map_err(|_| TokenError::Algorithm)?;
    // Only the signature is left to the library; the claims are checked below, at a time that tests choose.
    let mut validation = Validation::new(header.alg);
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    let decoded = jsonwebtoken::decode::<Map<String, Value>>(token, &key, &validation);
    let claims = decoded.map_err(|error| match error.kind() {
        jsonwebtoken::errors::ErrorKind::Json(_) => TokenError::Malformed("its claims cannot be read"),
        _ => TokenError::Signature,
    })?;
    check(claims.claims, expected, now)
}

fn read_header(token: &str, kind: &TokenKind<'_>) -> Result<Header, TokenError> {
    #[derive(Deserialize)]
    struct Algorithms {
        alg: String,
    }
    let encoded = token.split('.').next().unwrap_or_default();
    let json = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| TokenError::Malformed("it is not a JWT"))?;
    let Algorithms { alg } =
        serde_json::from_slice(&json).map_err(|_| TokenError::Malformed("its header cannot be read"))?;
    if !ALGORITHMS.into_iter().any(|accepted| format!("{accepted:?}") == alg) {
        return Err(TokenError::Algorithm);
    }
    let header =
        jsonwebtoken::decode_header(token).map_err(|_| TokenError::Malformed("its header cannot be read"))?;
    // RFC 7515, section 4.1.11: what is critical and not understood rejects the token.
    if header.crit.is_some() || header.enc.is_some() || header.zip.is_some() {
        return Err(TokenError::Malformed("its header has an extension that is not supported"));
    }
    // An access token or a logout token of the same issuer is no ID token (RFC 9068, RFC 8725, section 3.11).
    let typ = header.typ.as_deref().map(str::to_ascii_lowercase);
    if let TokenKind::IdToken { .. } = kind
        && !matches!(typ.as_deref(), None | Some("jwt" | "application/jwt"))
    {
        return Err(TokenError::Malformed("it is of another type"));
    }
    Ok(header)
}

fn check(claims: Map<String, Value>, expected: &Expected<'_>, now: Timestamp) -> Result<Claims, TokenError> {
    if text(&claims, "iss") != Some(expected.issuer.as_str()) {
        return Err(TokenError::Issuer);
    }
    check_audience(&claims, expected)?;
    let seconds = now.as_second();
    let skew = i64::try_from(MAX_SKEW.as_secs()).unwrap_or(0);
    let expiry = time(&claims, "exp")?.ok_or(TokenError::Malformed("it has no `exp`"))?;
    if expiry.saturating_add(skew) <= seconds {
        return Err(TokenError::Expired);
    }
    let issued = time(&claims, "iat")?.ok_or(TokenError::Malformed("it has no `iat`"))?;
    let begins = time(&claims, "nbf")?.unwrap_or(issued);
    if issued.max(begins).saturating_sub(skew) > seconds {
        return Err(TokenError::Early);
    }
    if let TokenKind::IdToken { nonce: Some(nonce) } = expected.kind
        && text(&claims, "nonce") != Some(nonce)
    {
        return Err(TokenError::Nonce);
    }
    let subject = text(&claims, "sub").ok_or(TokenError::Malformed("it has no `sub`"))?;
    let count = subject.chars().count();
    if !(1..=MAX_SUBJECT_CHARS).contains(&count) || subject.chars().any(char::is_control) {
        return Err(TokenError::Malformed("its `sub` is not 1 to 255 characters"));
    }
    let expires_at = Timestamp::from_second(expiry).unwrap_or(Timestamp::MAX);
    Ok(Claims { subject: subject.to_owned(), expires_at, all: claims })
}

fn check_audience(claims: &Map<String, Value>, expected: &Expected<'_>) -> Result<(), TokenError> {
    let audiences: Vec<&str> = match claims.get("aud") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(many)) => {
            let texts: Option<Vec<&str>> = many.iter().map(Value::as_str).collect();
            texts.ok_or(TokenError::Malformed("its `aud` cannot be read"))?
        }
        _ => return Err(TokenError::Audience),
    };
    if !audiences.contains(&expected.audience) {
        return Err(TokenError::Audience);
    }
    // OpenID Connect Core 1.0, section 3.1.3.7: with several audiences the token names the one that it was issued to.
    if let TokenKind::IdToken { .. } = expected.kind {
        let party = claims.get("azp");
        let ours = party.and_then(Value::as_str) == Some(expected.audience);
        if (audiences.len() > 1 || party.is_some()) && !ours {
            return Err(TokenError::Audience);
        }
    }
    Ok(())
}

fn text<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    claims.get(name).and_then(Value::as_str)
}

/// A `NumericDate` (RFC 7519, section 2), in seconds; fractions are cut off.
fn time(claims: &Map<String, Value>, name: &'static str) -> Result<Option<i64>, TokenError> {
    const MALFORMED: TokenError = TokenError::Malformed("one of its times cannot be read");
    match claims.get(name) {
        None => Ok(None),
        Some(Value::Number(number)) => {
            let whole = number.as_i64().or_else(|| {
                let seconds = number.as_f64().filter(|seconds| (0.0..1e15).contains(seconds))?;
                #[expect(clippy::cast_possible_truncation, reason = "within the range of i64")]
                Some(seconds as i64)
            });
            whole.filter(|seconds| *seconds >= 0).map(Some).ok_or(MALFORMED)
        }
        Some(_) => Err(MALFORMED),
    }
}

#[cfg(test)]
mod tests;
