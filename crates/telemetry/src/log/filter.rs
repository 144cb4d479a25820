//! Which log lines are written. A filter that leaves the program itself without a line is refused, because it is a typing error
//! far more often than a wish, for which there is `off`.

use std::{fmt, str::FromStr};

use mcpctl_api::HintedError;
use serde::Deserialize;
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

/// What a filter looks like.
const FORM: &str = "write trace, debug, info, warn, error or off, or levels of parts after it, as in `info,mcpctl_engine=debug`";

/// A level, or a list of `target=level`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct LogFilter(String);

/// A text is no filter of log lines. Prints its hint too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilterError(HintedError);

impl fmt::Display for LogFilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.lines())
    }
}

impl std::error::Error for LogFilterError {}

impl LogFilter {
    /// The filter that consists of a level.
    pub fn level(level: LevelFilter) -> Self {
        Self(level.to_string())
    }

    /// The filter as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn read(&self) -> Result<EnvFilter, tracing_subscriber::filter::ParseError> {
        // The library takes no blanks between the parts.
        EnvFilter::builder().parse(directives(&self.0).collect::<Vec<_>>().join(","))
    }
}

impl FromStr for LogFilter {
    type Err = LogFilterError;

    fn from_str(text: &str) -> Result<Self, LogFilterError> {
        check(text).map_err(LogFilterError)?;
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for LogFilter {
    type Error = LogFilterError;

    fn try_from(text: String) -> Result<Self, LogFilterError> {
        text.parse()
    }
}

fn check(text: &str) -> Result<(), HintedError> {
    if text.trim().is_empty() {
        return Err(HintedError::with("the log filter is empty", FORM));
    }
    let filter = LogFilter(text.to_owned());
    filter
        .read()
        .map_err(|error| HintedError::with(format_args!("`{text}` is not a log filter: {error}"), FORM))?;
    let mut writes = false;
    for directive in directives(text) {
        match directive.rsplit_once('=') {
            // A level, for the program and all of its libraries.
            None if directive.parse::<LevelFilter>().is_ok() => writes = true,
            None => {
                let message = format!("`{directive}` is not a log level");
                let hint =
                    format!("{FORM}; for all lines of the part `{directive}` write `info,{directive}=trace`");
                let is_part = is_own(directive) || directive.contains("::");
                return Err(HintedError::with(message, if is_part { &hint } else { FORM }));
            }
            Some((target, level)) => {
                let on = level.trim().parse().is_ok_and(|level: LevelFilter| level != LevelFilter::OFF);
                writes |= on && is_own(target);
            }
        }
    }
    if writes {
        return Ok(());
    }
    let message = format!("the log filter `{text}` leaves out every line of this program");
    Err(HintedError::with(
        message,
        format_args!("put a level before it: `info,{text}`, or write `off` alone"),
    ))
}

/// The parts between commas; those in braces belong to a span's fields.
fn directives(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_u32;
    let parts = text.split(move |c| {
        match c {
            '{' | '[' => depth = depth.saturating_add(1),
            '}' | ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    });
    parts.map(str::trim).filter(|directive| !directive.is_empty())
}

/// Whether a target is of our own lines: a crate of ours, or the access log.
fn is_own(target: &str) -> bool {
    let part = target.trim().split([':', '[']).next().unwrap_or_default();
    // `[span]` is of every part, and a target is of each part whose name begins with it.
    part.is_empty()
        || ["mcpd", "mcplocal", super::ACCESS_TARGET].iter().any(|own| own.starts_with(part))
        || part.starts_with("mcpctl_")
        || "mcpctl_".starts_with(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> HintedError {
        let LogFilterError(error) = text.parse::<LogFilter>().unwrap_err();
        error
    }

    #[test]
    fn levels_and_levels_of_parts_are_filters() {
        for text in [
            "info",
            "INFO",
            "off",
            "warn,mcpd=debug",
            "info,access=off",
            "mcpd=debug",
            "mcpd::inference=trace",
            "mcpctl=debug",
            "mcpctl_engine=trace",
            "access=info",
            "info, sqlx=debug",
            "[request{id=\"a\"}]=trace",
        ] {
            assert_eq!(text.parse::<LogFilter>().map(|filter| filter.0), Ok(text.to_owned()), "{text}");
        }
    }

    #[test]
    fn word_that_is_no_level_is_refused_with_the_levels() {
        for text in ["verbose", "warning", "mcpd", "info,verbose", "mcpd::http"] {
            let error = refused(text);
            assert!(error.message.ends_with("is not a log level"), "{error}");
            assert!(
                error.hint.unwrap().starts_with("write trace, debug, info, warn, error or off"),
                "{text}"
            );
        }
        assert!(refused("mcpd").hint.unwrap().contains("`info,mcpd=trace`"));
        for text in ["info,=?", "mcpd=verbose", ""] {
            assert_eq!(refused(text).hint.unwrap(), FORM, "{text}");
        }
    }

    #[test]
    fn filter_that_silences_the_program_by_leaving_it_out_is_refused() {
        for text in ["mcpdd=debug", "sqlx=debug", "access=off", "mcpd=off,hyper=info"] {
            let error = refused(text);
            assert!(error.message.contains("leaves out every line"), "{error}");
            assert!(error.hint.unwrap().contains(&format!("`info,{text}`")), "{text}");
        }
    }
}
