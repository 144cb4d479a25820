//! Metrics and headers: constants with a sentence each, of one file.

use std::path::Path;

use anyhow::Result;
use syn::{Expr, Item};

use super::{
    source::{doc, items, text_of},
    table,
};

const METRICS: &str = "crates/telemetry/src/names.rs";
const HEADERS: &str = "crates/api/src/header.rs";

/// Metrics by name, in the order of the file.
pub(super) fn metrics(root: &Path) -> Result<String> {
    let rows = metric_names(root)?.into_iter().map(|(name, meaning)| vec![format!("`{name}`"), meaning]);
    Ok(table(&["metric", "meaning"], rows))
}

/// Each metric with its meaning.
pub(crate) fn metric_names(root: &Path) -> Result<Vec<(String, String)>> {
    let named = items(root, METRICS)?.into_iter().filter_map(|item| match item {
        Item::Const(constant) => Some((text_of(&constant.expr)?, doc(&constant.attrs))),
        _ => None,
    });
    Ok(named.collect())
}

/// Headers by name, in the order of the file.
pub(super) fn headers(root: &Path) -> Result<String> {
    let rows = items(root, HEADERS)?.into_iter().filter_map(|item| {
        let Item::Const(constant) = item else { return None };
        let Expr::Call(call) = &*constant.expr else { return None };
        let name = text_of(call.args.first()?)?;
        Some(vec![format!("`{name}`"), doc(&constant.attrs)])
    });
    Ok(table(&["header", "meaning"], rows))
}
