//! Licences of all dependencies: each package's SPDX expression must be satisfiable with permissive licences.

use super::metadata::Metadata;

/// Licences that ask for no more than notices, by SPDX id.
const PERMISSIVE: [&str; 13] = [
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "NCSA",
    "Unicode-3.0",
    "Zlib",
];

/// Packages whose licence is not permissive, not stated, or not readable.
pub(crate) fn findings(metadata: &Metadata) -> Vec<String> {
    let refused = metadata.packages.iter().filter_map(|package| {
        let licence = package.license.as_deref().unwrap_or("none stated");
        let refused = !permissive(licence);
        refused.then(|| format!("`{} {}` has the licence `{licence}`", package.name, package.version))
    });
    refused.collect()
}

/// Whether the expression can be satisfied with permissive licences; what cannot be read cannot.
fn permissive(expression: &str) -> bool {
    // `/` is how old packages wrote `OR`.
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = tokens.as_slice();
    either(&mut rest) == Some(true) && rest.is_empty()
}

/// `both (OR both)*`
fn either(rest: &mut &[&str]) -> Option<bool> {
    let mut satisfied = both(rest)?;
    while eat(rest, "OR") {
        satisfied |= both(rest)?;
    }
    Some(satisfied)
}

/// `one (AND one)*`
fn both(rest: &mut &[&str]) -> Option<bool> {
    let mut satisfied = one(rest)?;
    while eat(rest, "AND") {
        satisfied &= one(rest)?;
    }
    Some(satisfied)
}

/// `( either )` or `id [WITH exception]`; an exception only ever permits more.
fn one(rest: &mut &[&str]) -> Option<bool> {
    if eat(rest, "(") {
        let inner = either(rest)?;
        return eat(rest, ")").then_some(inner);
    }
    let id = next(rest)?;
    if eat(rest, "WITH") {
        next(rest)?;
    }
    Some(PERMISSIVE.contains(&id))
}

fn next<'a>(rest: &mut &[&'a str]) -> Option<&'a str> {
    let (first, others) = rest.split_first()?;
    *rest = others;
    Some(first)
}

fn eat(rest: &mut &[&str], token: &str) -> bool {
    let found = rest.first() == Some(&token);
    if found {
        next(rest);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn permissive_expressions_pass() {
        for expression in [
            "MIT",
            "MIT OR Apache-2.0",
            "MIT/Apache-2.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-2.0-only",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "GPL-3.0-only OR MIT AND ISC",
        ] {
            assert!(permissive(expression), "{expression}");
        }
    }

    #[test]
    fn others_and_unreadable_ones_do_not() {
        for expression in [
            "GPL-3.0-only",
            "MPL-2.0",
            "MIT AND GPL-3.0-only",
            "(MIT OR GPL-2.0-only) AND AGPL-3.0-only",
            "MIT AND ISC OR",
            "(MIT",
            "MIT)",
            "MIT ISC",
            "WITH",
            "none stated",
            "",
        ] {
            assert!(!permissive(expression), "{expression}");
        }
    }

    #[test]
    fn a_package_that_states_none_is_found() {
        let package = |name: &str, license: Option<&str>| json!({"id": name, "name": name, "version": "1.0.0", "license": license});
        let metadata: Metadata = serde_json::from_value(json!({
            "packages": [package("a", Some("MIT")), package("b", None), package("c", Some("SSPL-1.0"))],
            "workspace_members": [], "resolve": {"nodes": []}, "target_directory": "",
        }))
        .unwrap();
        assert_eq!(
            findings(&metadata),
            ["`b 1.0.0` has the licence `none stated`", "`c 1.0.0` has the licence `SSPL-1.0`"]
        );
    }
}
