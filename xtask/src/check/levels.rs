//! The levels of ARCHITECTURE.md: a crate uses crates of a lower level only, the two lowest levels know no server, no
//! client, no database and no runtime, and the test kit never gets into a program.

use std::collections::{HashMap, VecDeque};

use anyhow::Result;

use super::metadata::{Kind, Metadata, Package};

/// Every crate of `crates/` and its level; programs stand above all of them.
const LEVELS: [(&str, u8); 21] = [
    ("mcpctl-api", 0),
    ("mcpctl-dialect", 0),
    ("mcpctl-owner", 0),
    ("mcpctl-trace", 0),
    ("mcpctl-access", 1),
    ("mcpctl-failover", 1),
    ("mcpctl-journal", 1),
    ("mcpctl-secret", 1),
    ("mcpctl-tls", 1),
    ("mcpctl-store", 2),
    ("mcpctl-upstream", 2),
    ("mcpctl-supervisor", 2),
    ("mcpctl-client", 2),
    ("mcpctl-server", 2),
    ("mcpctl-telemetry", 2),
    ("mcpctl-backup", 3),
    ("mcpctl-engine", 3),
    ("mcpctl-issuer", 3),
    ("mcpctl-relay", 3),
    ("mcpctl-testkit", 3),
    ("mcpctl-browser", 4),
];
/// Programs, tasks, benchmarks and fuzz targets, which may use every crate.
const PROGRAMS: [&str; 6] = ["mcpctl-bench", "mcpctl-fuzz", "mcpd", "mcplocal", "mcpctl", "xtask"];
const PROGRAM_LEVEL: u8 = 5;
/// The demo, which uses what the tasks share.
const DEMO: (&str, u8) = ("demo", 6);

/// The highest level that decides and does nothing.
const PURE: u8 = 1;
/// What such a crate must not reach through normal dependencies.
const IMPURE: [&str; 4] = ["axum", "reqwest", "sqlx", "tokio"];

/// Tests alone may use these; the second uses the first.
const FOR_TESTS: [&str; 2] = ["mcpctl-testkit", "mcpctl-browser"];

/// What breaks the levels.
pub(crate) fn findings(metadata: &Metadata) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for member in metadata.members() {
        let Some(level) = level(&member.name) else {
            findings.push(format!("`{}` has no level: add it to xtask/src/check/levels.rs", member.name));
            continue;
        };
        for used in metadata.dependencies(member, &[Kind::Normal, Kind::Build]) {
            let for_tests = |name: &str| FOR_TESTS.contains(&name);
            if for_tests(&used.name) && !for_tests(&member.name) {
                findings.push(format!("`{}` uses `{}` outside its tests", member.name, used.name));
            } else if let Some(other) = self::level(&used.name).filter(|other| *other >= level) {
                findings.push(format!(
                    "`{}` (level {level}) uses `{}` (level {other}): only lower levels may be used",
                    member.name, used.name
                ));
            }
        }
        if level <= PURE {
            findings.extend(path_to_impure(metadata, member).map(|path| {
                format!("`{}` (level {level}) must not reach `{}`: {}", member.name, path.0, path.1)
            }));
        }
    }
    Ok(findings)
}

fn level(name: &str) -> Option<u8> {
    let program = PROGRAMS.contains(&name).then_some(PROGRAM_LEVEL);
    program
        .or_else(|| LEVELS.iter().chain([&DEMO]).find(|(known, _)| *known == name).map(|(_, level)| *level))
}

/// The first forbidden package that `from` reaches, and one of the shortest ways there.
fn path_to_impure(metadata: &Metadata, from: &Package) -> Option<(String, String)> {
    let mut came_from: HashMap<&str, Option<&Package>> = HashMap::from([(from.id.as_str(), None)]);
    let mut queue = VecDeque::from([from]);
    while let Some(package) = queue.pop_front() {
        if IMPURE.contains(&package.name.as_str()) {
            let mut path = vec![package.name.as_str()];
            let mut at = package;
            while let Some(Some(previous)) = came_from.get(at.id.as_str()) {
                path.push(&previous.name);
                at = previous;
            }
            path.reverse();
            return Some((package.name.clone(), path.join(" → ")));
        }
        for next in metadata.dependencies(package, &[Kind::Normal]) {
            if !came_from.contains_key(next.id.as_str()) {
                came_from.insert(&next.id, Some(package));
                queue.push_back(next);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// A workspace of these edges: `(from, to, kind)`; whatever is no library of ours is not a member.
    fn workspace(edges: &[(&str, &str, Option<&str>)]) -> Metadata {
        let mut names: Vec<&str> = edges.iter().flat_map(|edge| [edge.0, edge.1]).collect();
        names.sort_unstable();
        names.dedup();
        let member = |name: &&&str| name.starts_with("mcp") || **name == "xtask";
        let packages: Vec<Value> = names
            .iter()
            .map(|name| json!({"id": name, "name": name, "version": "1.0.0", "license": "MIT"}))
            .collect();
        let nodes: Vec<Value> = names
            .iter()
            .map(|name| {
                let deps: Vec<Value> = edges
                    .iter()
                    .filter(|edge| edge.0 == *name)
                    .map(|edge| json!({"pkg": edge.1, "dep_kinds": [{"kind": edge.2}]}))
                    .collect();
                json!({"id": name, "deps": deps})
            })
            .collect();
        let members: Vec<&&str> = names.iter().filter(member).collect();
        serde_json::from_value(json!({
            "packages": packages, "workspace_members": members,
            "resolve": {"nodes": nodes}, "target_directory": "target",
        }))
        .unwrap()
    }

    fn found(edges: &[(&str, &str, Option<&str>)]) -> Vec<String> {
        findings(&workspace(edges)).unwrap()
    }

    #[test]
    fn the_house_as_designed_passes() {
        let edges = [
            ("mcpctl-access", "mcpctl-api", None),
            ("mcpctl-relay", "mcpctl-failover", None),
            ("mcpctl-store", "tokio", None),
            ("mcpd", "mcpctl-relay", None),
            ("mcpd", "mcpctl-testkit", Some("dev")),
            ("mcpctl-access", "tokio", Some("dev")),
        ];
        assert_eq!(found(&edges), Vec::<String>::new());
    }

    #[test]
    fn a_crate_that_uses_its_own_or_a_higher_level_is_found() {
        let up = found(&[("mcpctl-access", "mcpctl-store", None)]);
        assert_eq!(
            up,
            ["`mcpctl-access` (level 1) uses `mcpctl-store` (level 2): only lower levels may be used"]
        );
        assert_eq!(found(&[("mcpctl-store", "mcpctl-engine", None)]).len(), 1);
        assert_eq!(found(&[("mcpctl-store", "mcpctl-engine", Some("build"))]).len(), 1);
        assert_eq!(found(&[("mcpctl-relay", "mcpd", None)]).len(), 1);
    }

    #[test]
    fn pure_crate_that_reaches_the_runtime_is_found() {
        let edges = [
            ("mcpctl-api", "a", None),
            ("a", "b", None),
            ("b", "tokio", None),
            ("a", "proptest", Some("dev")),
        ];
        assert_eq!(
            found(&edges),
            ["`mcpctl-api` (level 0) must not reach `tokio`: mcpctl-api → a → b → tokio"]
        );
        // Through development or build dependencies it may: neither gets into a program.
        for kind in ["dev", "build"] {
            assert!(found(&[("mcpctl-api", "a", None), ("a", "tokio", Some(kind))]).is_empty(), "{kind}");
        }
        for impure in IMPURE {
            assert_eq!(found(&[("mcpctl-failover", impure, None)]).len(), 1, "{impure}");
        }
    }

    #[test]
    fn the_test_kit_in_a_program_is_found() {
        for (kind, name) in
            [None, Some("build")].into_iter().flat_map(|kind| FOR_TESTS.map(|name| (kind, name)))
        {
            assert_eq!(found(&[("mcpd", name, kind)]), [format!("`mcpd` uses `{name}` outside its tests")]);
        }
        assert!(found(&[("mcpctl-browser", "mcpctl-testkit", None)]).is_empty());
    }

    #[test]
    fn a_crate_without_a_level_is_found() {
        let findings = found(&[("mcpctl-new", "serde", None)]);
        assert_eq!(findings, ["`mcpctl-new` has no level: add it to xtask/src/check/levels.rs"]);
    }
}
