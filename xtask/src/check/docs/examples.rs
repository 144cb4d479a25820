//! The YAML of the documents is what the programs accept: resources, `mcplocal.yaml`, and mcpd's configuration file. Their JSON,
//! which is for other programs, is JSON.

use std::{
    fs,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{super::metadata::Metadata, Text};
use xtask::{cargo, document};

/// Where the examples keep mcpd's files; a temporary directory takes its place.
const MCPD_FILES: &str = "/etc/mcpd";

/// A block of YAML in a document.
struct Example<'a> {
    /// Line of the block's first line, from 1.
    line: usize,
    yaml: String,
    document: &'a str,
}

/// Examples that the programs reject.
pub(super) fn findings(metadata: &Metadata, documents: &[Text]) -> Result<Vec<String>> {
    cargo::build_programs()?;
    let programs = metadata.target_directory.join("debug");
    let directory = tempfile::tempdir()?;
    let mut findings = Vec::new();
    for example in documents.iter().flat_map(|text| examples(&text.path, &text.content)) {
        let rejected = match top_level_keys(&example.yaml) {
            // Kubernetes has such keys, and no program of ours.
            keys if keys.contains(&"apiVersion") => None,
            keys if keys.contains(&"kind") => check_resources(&example.yaml),
            keys if keys.contains(&"server") => {
                check_file(&programs.join("mcplocal"), &["--check"], &example.yaml, directory.path())?
            }
            _ => check_file(
                &programs.join("mcpd"),
                &["serve", "--check=files"],
                &example.yaml,
                directory.path(),
            )?,
        };
        if let Some(error) = rejected {
            findings.push(format!("{}:{}: the example is rejected: {error}", example.document, example.line));
        }
    }
    for text in documents {
        let blocks = document::blocks(&text.content).into_iter().filter(|block| block.language == "json");
        for block in blocks {
            if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&block.text) {
                findings.push(format!("{}:{}: the block is not JSON: {error}", text.path, block.line));
            }
        }
    }
    Ok(findings)
}

/// Blocks fenced as `yaml`, and here-documents that end at `YAML` in other blocks.
fn examples<'a>(document: &'a str, content: &str) -> Vec<Example<'a>> {
    let mut found = Vec::new();
    for block in document::blocks(content) {
        if block.language == "yaml" {
            found.push(Example { line: block.line, yaml: block.text, document });
            continue;
        }
        let mut open: Option<Example<'a>> = None;
        for (index, line) in block.text.lines().enumerate() {
            match &mut open {
                Some(_) if line.trim() == "YAML" => found.extend(open.take()),
                Some(example) => {
                    example.yaml.push_str(line);
                    example.yaml.push('\n');
                }
                None if line.ends_with("<<'YAML'") => {
                    open = Some(Example { line: block.line + index + 1, yaml: String::new(), document });
                }
                None => {}
            }
        }
    }
    found
}

/// Keys that are not indented.
fn top_level_keys(yaml: &str) -> Vec<&str> {
    let keys = yaml.lines().filter_map(|line| line.split_once(':')).map(|(key, _)| key);
    keys.filter(|key| !key.contains([' ', '#', '-'])).collect()
}

fn check_resources(yaml: &str) -> Option<String> {
    let documents = match mcpctl_api::yaml::read_documents(yaml) {
        Ok(documents) => documents,
        Err(error) => return Some(error.to_string()),
    };
    documents.iter().find_map(|located| {
        let error = located.document.validate().err()?;
        Some(format!("line {}: {error:?}", located.lines.start()))
    })
}

/// Has a program check the example as its configuration file.
fn check_file(program: &Path, args: &[&str], yaml: &str, directory: &Path) -> Result<Option<String>> {
    let private = directory.join("private");
    if !private.exists() {
        fs::DirBuilder::new().mode(0o700).create(&private)?;
        write_private(&private.join("database"), "postgres://mcpd:password@127.0.0.1/mcpd\n")?;
        write_private(&private.join("corp-secret"), "the secret of a client\n")?;
        write_certificates(&private)?;
    }
    let file = private.join("example.yaml");
    write_private(&file, &yaml.replace(MCPD_FILES, &private.display().to_string()))?;
    let output = Command::new(program)
        .args(args)
        .arg("--config")
        .arg(&file)
        .env("HOME", &private)
        .output()
        .with_context(|| format!("`{}` cannot be started", program.display()))?;
    let error = String::from_utf8_lossy(&output.stderr).replace(&private.display().to_string(), "");
    Ok((!output.status.success()).then(|| error.lines().next().unwrap_or_default().to_owned()))
}

/// The files of TLS that examples name, of mcpd and in the home of a person.
fn write_certificates(private: &Path) -> Result<()> {
    let issued = rcgen::generate_simple_self_signed(["mcpd.example.com".to_owned()])?;
    let (certificate, key) = (issued.cert.pem(), issued.signing_key.serialize_pem());
    for name in ["tls.pem", "clients.pem"] {
        write_private(&private.join(name), &certificate)?;
    }
    write_private(&private.join("tls-key.pem"), &key)?;
    let contexts = private.join(".config/mcpctl");
    fs::create_dir_all(&contexts)?;
    write_private(&contexts.join("ca.pem"), &certificate)
}

/// Both programs accept only files that no other user can write.
fn write_private(path: &Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    let mut options = fs::OpenOptions::new();
    options.create(true).write(true).truncate(true).mode(0o600);
    options.open(path)?.write_all(text.as_bytes()).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_and_here_documents_are_found() {
        let content = "text\n```yaml\nkind: Llm\n```\n```sh\nmcpctl apply -f - <<'YAML'\nkind: User\nname: a\nYAML\necho\n```\n";
        let found = examples("README.md", content);
        let blocks: Vec<_> = found.iter().map(|example| (example.line, example.yaml.as_str())).collect();
        assert_eq!(blocks, [(3, "kind: Llm\n"), (7, "kind: User\nname: a\n")]);
    }

    #[test]
    fn a_wrong_resource_is_rejected() {
        assert_eq!(check_resources("kind: User\nname: alice\n"), None);
        assert!(check_resources("kind: User\nname: alice\nnmae: x\n").unwrap().contains("nmae"));
        assert!(
            check_resources("kind: Role\nname: r\nrules: [{kinds: [llms], verbs: [view], names: []}]\n")
                .is_some()
        );
    }
}
