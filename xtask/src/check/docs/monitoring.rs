//! The dashboard and the alert rules name metrics and labels that the daemons have; where Prometheus is installed, its promtool reads the
//! rules, runs their tests and reads each query of the dashboard.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::Text;
use crate::{programs, reference};

/// The files that monitoring systems read.
const FILES: [&str; 2] = ["packaging/monitoring/alerts.yaml", DASHBOARD];
const DASHBOARD: &str = "packaging/monitoring/grafana.json";
/// Where promtool finds the rules and their tests.
const FOLDER: &str = "packaging/monitoring";
const PROMTOOL: &str = "promtool";
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
    if programs::is_installed(PROMTOOL) {
        findings.extend(promtool(&root.join(FOLDER), &["check", "rules", "alerts.yaml"])?);
        findings.extend(promtool(&root.join(FOLDER), &["test", "rules", "alerts-test.yaml"])?);
        findings.extend(queries(root)?);
    } else {
        anstream::eprintln!("without the tests of the alert rules: {PROMTOOL} is not installed");
    }
    Ok(findings)
}

/// What promtool complains about.
fn promtool(folder: &Path, args: &[&str]) -> Result<Option<String>> {
    let mut command = Command::new(PROMTOOL);
    let output = command.args(args).current_dir(folder).stdin(Stdio::null()).output().context(PROMTOOL)?;
    let text = || {
        String::from_utf8_lossy(&[output.stdout.as_slice(), output.stderr.as_slice()].concat()).into_owned()
    };
    Ok((!output.status.success()).then(|| format!("{PROMTOOL} {}: {}", args.join(" "), text())))
}

/// Queries of the dashboard that Prometheus does not read. promtool reads no dashboards, so each is a rule of a file of its own.
fn queries(root: &Path) -> Result<Option<String>> {
    let text = fs::read_to_string(root.join(DASHBOARD)).context(DASHBOARD)?;
    let dashboard: Value = serde_json::from_str(&text).context(DASHBOARD)?;
    let queries = queries_of(&dashboard);
    if queries.is_empty() {
        return Ok(Some(format!("{DASHBOARD}: it has no queries")));
    }
    let rules =
        queries.iter().enumerate().map(|(at, query)| json!({"record": format!("query:{at}"), "expr": query}));
    let place = tempfile::tempdir()?;
    let file = json!({"groups": [{"name": "dashboard", "rules": rules.collect::<Vec<_>>()}]});
    fs::write(place.path().join("queries.yaml"), file.to_string())?;
    promtool(place.path(), &["check", "rules", "queries.yaml"])
}

/// Every query, with a time in place of Grafana's variables.
fn queries_of(value: &Value) -> Vec<String> {
    let below = |values: &mut dyn Iterator<Item = &Value>| values.flat_map(queries_of).collect::<Vec<_>>();
    match value {
        Value::Array(items) => below(&mut items.iter()),
        Value::Object(fields) => {
            let mut found = below(&mut fields.values());
            if let Some(query) = fields.get("expr").and_then(Value::as_str) {
                found.push(
                    query
                        .replace("$__rate_interval", "5m")
                        .replace("$__range", "1h")
                        .replace("$__interval", "1m"),
                );
            }
            found
        }
        _ => Vec::new(),
    }
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
    fn queries_are_found_at_any_depth() {
        let dashboard =
            json!({"panels": [{"panels": [{"targets": [{"expr": "rate(a[$__rate_interval])"}]}]}]});
        assert_eq!(queries_of(&dashboard), ["rate(a[5m])"]);
    }

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
