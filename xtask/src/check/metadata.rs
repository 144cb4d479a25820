//! The part of `cargo metadata` that the rules read: packages, and who depends on whom in which way.

use std::{collections::HashMap, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use xtask::cargo;

/// `cargo metadata --format-version 1`.
#[derive(Deserialize)]
pub(crate) struct Metadata {
    pub packages: Vec<Package>,
    workspace_members: Vec<String>,
    resolve: Resolve,
    pub target_directory: PathBuf,
}

#[derive(Deserialize)]
pub(crate) struct Package {
    pub id: String,
    pub name: String,
    pub version: String,
    pub license: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<DepKind>,
}

#[derive(Deserialize)]
struct DepKind {
    kind: Option<Kind>,
}

/// How one package depends on another; cargo writes a normal dependency as `null`.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Normal,
    Build,
    Dev,
}

impl Metadata {
    /// Asks cargo, for this machine's platform, with the lock file as it is committed.
    pub(crate) fn load() -> Result<Self> {
        let version = Command::new("rustc").arg("-vV").output().context("rustc cannot be started")?;
        let version = String::from_utf8(version.stdout)?;
        let host =
            version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc has no host")?;
        let json =
            cargo::output(&["metadata", "--format-version", "1", "--locked", "--filter-platform", host])?;
        serde_json::from_slice(&json).context("`cargo metadata` cannot be read")
    }

    /// The workspace's own packages.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| self.workspace_members.contains(&package.id))
    }

    /// What `package` depends on directly in one of these ways.
    pub(crate) fn dependencies(&self, package: &Package, kinds: &[Kind]) -> Vec<&Package> {
        let node = self.resolve.nodes.iter().find(|node| node.id == package.id);
        let wanted = node.into_iter().flat_map(|node| &node.deps).filter(|dependency| {
            dependency.dep_kinds.iter().any(|kind| kinds.contains(&kind.kind.unwrap_or(Kind::Normal)))
        });
        let by_id: HashMap<_, _> =
            self.packages.iter().map(|package| (package.id.as_str(), package)).collect();
        wanted.filter_map(|dependency| by_id.get(dependency.pkg.as_str()).copied()).collect()
    }
}
