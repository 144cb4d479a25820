//! The OpenAPI document in the repository must be what `mcpd openapi` writes today.

use std::{fs, process::Command};

use anyhow::{Context as _, Result, bail};

use super::metadata::Metadata;
use xtask::cargo;

/// Where the generated document is committed.
const COMMITTED: &str = "bins/mcpd/openapi.json";

/// A finding where the committed document is not the generated one.
pub(crate) fn findings(metadata: &Metadata) -> Result<Vec<String>> {
    cargo::build_programs()?;
    let program = metadata.target_directory.join("debug/mcpd");
    let output = Command::new(&program)
        .arg("openapi")
        .current_dir(cargo::root())
        .output()
        .with_context(|| format!("`{}` cannot be started", program.display()))?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("`mcpd openapi` failed ({}): {}", output.status, error.trim());
    }
    let generated = String::from_utf8(output.stdout).context("`mcpd openapi` did not write text")?;
    let committed = fs::read_to_string(cargo::root().join(COMMITTED)).context(COMMITTED)?;
    Ok(difference(&committed, &generated).into_iter().collect())
}

fn difference(committed: &str, generated: &str) -> Option<String> {
    let generate = format!("run `cargo run -p mcpd -- openapi > {COMMITTED}`");
    if serde_json::from_str::<serde_json::Value>(generated).is_err() {
        return Some("`mcpd openapi` did not write JSON".to_owned());
    }
    if committed == generated {
        return None;
    }
    let same = committed.lines().zip(generated.lines()).take_while(|(old, new)| old == new).count();
    Some(format!("{COMMITTED} is not current from line {} on: {generate}", same + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_or_empty_document_is_found() {
        let current = "{\n  \"openapi\": \"3.1.0\"\n}\n";
        assert_eq!(difference(current, current), None);
        let old = difference("{\n  \"openapi\": \"3.0.0\"\n}\n", current).unwrap();
        assert!(
            old.starts_with("bins/mcpd/openapi.json is not current from line 2 on: run `cargo run"),
            "{old}"
        );
        // A program that writes nothing must not agree with a document that holds nothing.
        assert_eq!(difference("", "").unwrap(), "`mcpd openapi` did not write JSON");
    }
}
