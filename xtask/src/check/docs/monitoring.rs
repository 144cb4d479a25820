//! The dashboard and the alert rules name metrics and labels that the daemons have.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

use super::Text;
use crate::reference;

/// The files that monitoring systems read.
const FILES: [&str; 2] = ["packaging/monitoring/alerts.yaml", "packaging/monitoring/grafana.json"];
/// Where metrics get their labels.
const SOURCES: &str = "crates/telemetry/src/";
/// What names of metrics begin with.
const PREFIXES: [&str; 2] = ["mcpctl_", "gen_ai_"];
/// What a histogram's series have besides its name.
const SERIES: [&str; 3] = ["_bucket", "_sum", "_count"];

/// Names that no metric and no label has.
pub(super) fn findings(root: &Path, sources: &[Text]) -> Result<Vec<String>> {
    let metrics: Vec<String> = reference::metric_names(root)?.into_iter().map(|(name, _)| name).collect();
    let labels: String = sources
        .iter()
        .filter(|text| text.path.starts_with(SOURCES))
        .map(|text| text.content.as_str())
        .collect();
    let mut findings = Vec::new();
    for file in FILES {
        let text = fs::read_to_string(root.join(file)).with_context(|| file.to_owned())?;
        for (number, line) in text.lines().enumerate() {
            let unknown = names(line).filter(|name| !is_metric(name, &metrics) && !is_label(name, &labels));
            findings.extend(unknown.map(|name| format!("{file}:{}: nothing is named `{name}`", number + 1)));
        }
    }
    Ok(findings)
}

/// Names in a line that look like ours.
fn names(line: &str) -> impl Iterator<Item = &str> {
    let words = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| PREFIXES.iter().any(|prefix| word.starts_with(prefix)))
}

fn is_metric(name: &str, metrics: &[String]) -> bool {
    let names = std::iter::once(name).chain(SERIES.iter().filter_map(|series| name.strip_suffix(series)));
    names.into_iter().any(|name| metrics.iter().any(|metric| metric == name))
}

/// Labels are fields of structs, which the encoder names as they are.
fn is_label(name: &str, sources: &str) -> bool {
    sources.contains(&format!("{name}:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_no_metric_and_no_label_are_found() {
        let metrics = ["mcpctl_feeds".to_owned(), "gen_ai_client_token_usage".to_owned()];
        let line = "sum by (gen_ai_request_model) (rate(gen_ai_client_token_usage_sum[5m])) + mcpctl_feds";
        let unknown: Vec<_> = names(line)
            .filter(|name| !is_metric(name, &metrics) && !is_label(name, "gen_ai_request_model: Arc<str>"))
            .collect();
        assert_eq!(unknown, ["mcpctl_feds"]);
    }
}
