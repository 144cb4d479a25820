//! The documents agree with the tree: links, files that comments name, invariants, attacks and their tests, error codes,
//! the examples, the commands, and the metrics that dashboards name. mdBook and promtool look at what they read where they are installed.

mod attacks;
mod commands;
mod errors;
mod examples;
mod invariants;
mod links;
mod monitoring;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::metadata::Metadata;
use crate::book;
use xtask::cargo;

/// A file of the tree.
struct Text {
    /// Relative to the root, with `/`.
    path: String,
    content: String,
}

/// Disagreements, each with its place.
pub(crate) fn findings(metadata: &Metadata) -> Result<Vec<String>> {
    let root = cargo::root();
    let documents = texts(&root, &["md"])?;
    let sources = texts(&root, &["rs"])?;
    let mut findings = links::findings(&root, &documents);
    findings.extend(links::unlisted_pages(&documents));
    findings.extend(links::named_files(&documents, &sources));
    findings.extend(invariants::findings(&documents, &sources)?);
    findings.extend(attacks::findings(&documents, &sources)?);
    findings.extend(examples::findings(metadata, &documents)?);
    findings.extend(commands::findings(metadata, &documents)?);
    findings.extend(monitoring::findings(&root, &sources)?);
    findings.extend(book::findings()?);
    findings.extend(errors::findings(&documents, &sources)?);
    Ok(findings)
}

/// Files with one of these endings that git does not ignore, ordered by path.
fn texts(root: &Path, endings: &[&str]) -> Result<Vec<Text>> {
    let listed = git_files(root)?;
    let wanted = |path: &&str| {
        let ending = Path::new(path).extension().and_then(|ending| ending.to_str());
        ending.is_some_and(|ending| endings.contains(&ending))
    };
    let mut texts = Vec::new();
    for path in listed.lines().filter(wanted) {
        let file: PathBuf = root.join(path);
        // A deleted file is listed until its deletion is committed.
        if file.is_file() {
            let content = fs::read_to_string(&file).with_context(|| path.to_owned())?;
            texts.push(Text { path: path.to_owned(), content });
        }
    }
    texts.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(texts)
}

/// Paths of the files that git tracks or would track.
fn git_files(root: &Path) -> Result<String> {
    let args = ["ls-files", "--cached", "--others", "--exclude-standard"];
    let output =
        Command::new("git").args(args).current_dir(root).output().context("git cannot be started")?;
    if !output.status.success() {
        bail!("`git ls-files` failed ({})", output.status);
    }
    String::from_utf8(output.stdout).context("a path is not UTF-8")
}
