//! Checks that several parts of the configuration share, and errors with the place of a value.

use std::{fmt, path::PathBuf};

use mcpctl_api::{HumanDuration, yaml::YamlError};
use serde_saphyr::Spanned;
use url::Url;

/// An error at the place of a value.
pub(super) fn wrong<T>(at: &Spanned<T>, message: impl fmt::Display) -> YamlError {
    let (line, column) = place(at);
    YamlError { line, column, message: message.to_string(), hint: None }
}

pub(super) fn place<T>(at: &Spanned<T>) -> (u64, u64) {
    (at.referenced.line().max(1), at.referenced.column().max(1))
}

/// Maximum of every duration in the file.
pub(super) const MAX_DURATION: HumanDuration = HumanDuration::from_secs(30 * 24 * 60 * 60);

/// INVARIANT 15: a zero limit is never "forever", and one beyond any use is a mistake, so both are refused where they are
/// written.
pub(super) fn check_duration(name: &str, time: HumanDuration) -> Result<(), String> {
    if time.is_zero() {
        return Err(format!("`{name}` is more than zero"));
    }
    if time > MAX_DURATION { Err(format!("`{name}` is at most {MAX_DURATION}")) } else { Ok(()) }
}

/// A path below the home directory, or a whole one, because the agent may be started in any directory.
pub(super) fn whole_path(written: &Spanned<PathBuf>, example: &str) -> Result<PathBuf, YamlError> {
    let hint = || Some(format!("write an absolute path, or one from `~/`, e.g. `{example}`"));
    match mcpctl_engine::expand(&written.value) {
        Ok(path) if path.is_absolute() => Ok(path),
        Ok(path) => {
            let message = format!("`{}` is not an absolute path", path.display());
            Err(YamlError { hint: hint(), ..wrong(written, message) })
        }
        Err(error) => Err(YamlError { hint: hint(), ..wrong(written, error) }),
    }
}

pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        None => false,
    }
}
