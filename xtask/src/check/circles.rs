//! No circles between the files of a package, and no arrow from a daemon's rules to its HTTP face. Paths are read from the
//! syntax of each file, without its tests; what a macro's arguments name is not seen.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use syn::{
    ItemMod, ItemUse, UseTree,
    visit::{self, Visit},
};

use xtask::cargo;

/// Folders of packages, from the root.
const PACKAGES: [&str; 2] = ["crates", "bins"];
/// Packages whose module `http` only the root and `http` itself may use.
const DAEMONS: [&str; 2] = ["mcpd", "mcplocal"];
const FACE: &str = "http";

/// A module's path from the package's root; empty for the root itself.
type Module = Vec<String>;
/// What each module uses of the same package.
type Uses = BTreeMap<Module, BTreeSet<Module>>;

/// Circles, and arrows to a face.
pub(crate) fn findings() -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for folder in PACKAGES {
        let folder = cargo::root().join(folder);
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let package = entry?;
            let name = package.file_name().to_string_lossy().into_owned();
            let uses = uses(&package.path().join("src"))?;
            findings
                .extend(circles(&uses).iter().map(|circle| format!("{name}: a circle of files: {circle}")));
            if DAEMONS.contains(&name.as_str()) {
                findings.extend(arrows_to_face(&uses).iter().map(|module| {
                    format!("{name}: `{module}` uses `{FACE}`: only the face knows of statuses and responses")
                }));
            }
        }
    }
    findings.sort();
    Ok(findings)
}

/// Reads the files of a package.
fn uses(source: &Path) -> Result<Uses> {
    let mut files = BTreeMap::new();
    collect(source, source, &mut files)?;
    let mut uses = Uses::new();
    for (module, path) in &files {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let file = syn::parse_file(&text).with_context(|| path.display().to_string())?;
        let mut names = Names { module, names: BTreeSet::new() };
        names.visit_file(&file);
        // The root of a library re-exports what others define, so what is used by way of it has no one place.
        let file_of =
            |name: &Module| files.keys().filter(|file| name.starts_with(file)).max_by_key(|file| file.len());
        let used = names.names.iter().filter_map(file_of).filter(|used| *used != module && !used.is_empty());
        let used = used.cloned().collect();
        if !(module.is_empty() && path.ends_with("lib.rs")) {
            uses.insert(module.clone(), used);
        }
    }
    Ok(uses)
}

fn collect(source: &Path, folder: &Path, files: &mut BTreeMap<Module, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            collect(source, &path, files)?;
            continue;
        }
        let module = path.strip_prefix(source)?.with_extension("");
        let mut module: Module = module.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        if module == ["main"] || module == ["lib"] {
            module.clear();
        }
        if path.extension().is_some_and(|extension| extension == "rs")
            && module.last().is_none_or(|last| last != "tests")
        {
            files.insert(module, path);
        }
    }
    Ok(())
}

/// Collects the paths into the own package, as modules and items from its root.
struct Names<'a> {
    module: &'a Module,
    names: BTreeSet<Module>,
}

impl Names<'_> {
    fn add(&mut self, path: &[String]) {
        let (first, rest) = match path.split_first() {
            Some((first, rest)) => (first.as_str(), rest),
            None => return,
        };
        let mut name = match first {
            "crate" => Module::new(),
            "self" | "super" => self.module.clone(),
            _ => return,
        };
        if first == "super" {
            name.pop();
        }
        for part in rest {
            match part.as_str() {
                "super" => drop(name.pop()),
                "self" => {}
                part => name.push(part.to_owned()),
            }
        }
        self.names.insert(name);
    }

    fn add_tree(&mut self, before: &mut Vec<String>, tree: &UseTree) {
        let length = before.len();
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.add_tree(before, &path.tree);
            }
            UseTree::Name(name) => {
                before.push(name.ident.to_string());
                self.add(before);
            }
            UseTree::Rename(name) => {
                before.push(name.ident.to_string());
                self.add(before);
            }
            UseTree::Glob(_) => self.add(before),
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.add_tree(before, tree);
                }
            }
        }
        before.truncate(length);
    }
}

impl<'ast> Visit<'ast> for Names<'_> {
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.add_tree(&mut Vec::new(), &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let parts: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if parts.len() > 1 {
            self.add(&parts);
        }
        visit::visit_path(self, path);
    }

    /// Modules in a file are those of tests.
    fn visit_item_mod(&mut self, _: &'ast ItemMod) {}
}

/// Groups of files each of which reaches the others.
fn circles(uses: &Uses) -> Vec<String> {
    let reached: BTreeMap<&Module, BTreeSet<&Module>> =
        uses.keys().map(|module| (module, reachable(uses, module))).collect();
    let mut seen = BTreeSet::new();
    let mut circles = Vec::new();
    for (module, reaches) in &reached {
        if !reaches.contains(*module) || !seen.insert(*module) {
            continue;
        }
        let back = |other: &&&Module| reached.get(**other).is_some_and(|back| back.contains(*module));
        let circle: BTreeSet<&Module> = reaches.iter().filter(back).copied().collect();
        seen.extend(&circle);
        circles.push(circle.iter().map(|module| name(module)).collect::<Vec<_>>().join(", "));
    }
    circles
}

/// What a module uses, directly or by way of others.
fn reachable<'a>(uses: &'a Uses, from: &Module) -> BTreeSet<&'a Module> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&Module> = uses.get(from).into_iter().flatten().collect();
    while let Some(module) = next.pop() {
        if reached.insert(module) {
            next.extend(uses.get(module).into_iter().flatten());
        }
    }
    reached
}

fn arrows_to_face(uses: &Uses) -> Vec<String> {
    let is_face = |module: &Module| module.first().is_some_and(|first| first == FACE);
    let outside = uses.iter().filter(|(module, _)| !module.is_empty() && !is_face(module));
    outside.filter(|(_, used)| used.iter().any(is_face)).map(|(module, _)| name(module)).collect()
}

fn name(module: &Module) -> String {
    if module.is_empty() { "main".to_owned() } else { module.join("::") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(files: &[(&str, &str)]) -> Uses {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        uses(dir.path()).unwrap()
    }

    #[test]
    fn circle_is_found_through_every_kind_of_path() {
        let uses = package(&[
            ("main.rs", "mod a; mod b; mod c; fn main() { a::run() }"),
            ("a.rs", "mod inner; use super::b::{self, Thing}; fn run() {}"),
            ("a/inner.rs", "use crate::c;"),
            ("b.rs", "fn x() -> crate::a::inner::Value { todo() }"),
            ("c.rs", "impl X for super::b::Thing {}"),
            ("d.rs", "use crate::a; #[cfg(test)] mod tests { use crate::e::E; }"),
            ("e.rs", "use crate::d::D;"),
        ]);
        assert_eq!(circles(&uses), ["a::inner, b, c"]);
    }

    #[test]
    fn root_of_a_library_is_no_part_of_a_circle() {
        let uses = package(&[
            ("lib.rs", "mod a; mod b; pub use a::A;"),
            ("a.rs", "use crate::b::B;"),
            ("b.rs", "use crate::A;"),
        ]);
        assert_eq!(circles(&uses), [""; 0]);
    }

    #[test]
    fn only_the_root_and_the_face_use_the_face() {
        let uses = package(&[
            ("main.rs", "mod http; mod rules; use http::error::E;"),
            ("http.rs", "mod error;"),
            ("http/error.rs", "use super::Router;"),
            ("rules.rs", "fn x() -> Result<(), crate::http::error::E> {}"),
        ]);
        assert_eq!(arrows_to_face(&uses), ["rules"]);
    }
}
