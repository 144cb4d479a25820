//! Relative links of documents lead to files and headings, and the files that comments and documents name exist.

use std::path::{Component, Path, PathBuf};

use super::Text;
use xtask::document::prose;

/// Endings of files of the tree. Files that only exist while the product runs (`mcplocal.yaml`) have others.
const TREE_ENDINGS: [&str; 2] = [".md", ".rs"];

/// Where the pages of the book are.
const BOOK: &str = "docs/";
/// The book's table of contents.
const CONTENTS: &str = "docs/SUMMARY.md";

/// Links to files or headings that do not exist.
pub(super) fn findings(root: &Path, documents: &[Text]) -> Vec<String> {
    let mut findings = Vec::new();
    for document in documents {
        for (number, line) in prose(&document.content) {
            for target in targets(line).filter(|target| !target.contains("://")) {
                let (file, heading) = target.split_once('#').unwrap_or((target, ""));
                let path = if file.is_empty() { document.path.clone() } else { beside(&document.path, file) };
                let at = format!("{}:{number}", document.path);
                if is_page(&document.path) && !path.starts_with(BOOK) {
                    findings
                        .push(format!("{at}: `{target}` leads out of the book: name the file in backquotes"));
                } else if !root.join(&path).exists() {
                    findings.push(format!("{at}: `{target}` leads to no file"));
                } else if let Some(linked) = documents.iter().find(|linked| linked.path == path)
                    && !heading.is_empty()
                    && !headings(&linked.content).any(|slug| slug == heading)
                {
                    findings.push(format!("{at}: `{target}` leads to no heading"));
                }
            }
        }
    }
    findings
}

/// Pages that the book's table of contents does not have, so that they would not be in the book.
pub(super) fn unlisted_pages(documents: &[Text]) -> Vec<String> {
    let contents = documents.iter().find(|document| document.path == CONTENTS);
    let listed: Vec<String> = contents
        .into_iter()
        .flat_map(|contents| prose(&contents.content))
        .flat_map(|(_, line)| targets(line))
        .map(|target| beside(CONTENTS, target))
        .collect();
    let pages = documents.iter().filter(|document| is_page(&document.path) && document.path != CONTENTS);
    let unlisted = pages.filter(|page| !listed.contains(&page.path));
    unlisted.map(|page| format!("{}: the page is not in {CONTENTS}", page.path)).collect()
}

fn is_page(path: &str) -> bool {
    path.starts_with(BOOK)
}

/// Files that comments of the sources, or documents, name and that do not exist.
pub(super) fn named_files(documents: &[Text], sources: &[Text]) -> Vec<String> {
    let paths: Vec<&str> = documents.iter().chain(sources).map(|text| text.path.as_str()).collect();
    let exists = |name: &str| {
        paths
            .iter()
            .any(|path| path.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('/')))
    };
    let mut findings = Vec::new();
    let in_sources = sources.iter().flat_map(|text| comments(&text.content).map(move |line| (text, line)));
    let in_documents = documents.iter().flat_map(|text| prose(&text.content).map(move |line| (text, line)));
    for (text, (number, line)) in in_sources.chain(in_documents) {
        for name in names(line).filter(|name| !exists(name)) {
            findings.push(format!("{}:{number}: there is no file `{name}`", text.path));
        }
    }
    findings
}

/// The numbered comments of a source file, without code before them.
fn comments(content: &str) -> impl Iterator<Item = (usize, &str)> {
    let comment = |line: &'_ str| line.trim_start().starts_with("//");
    content.lines().enumerate().filter(move |(_, line)| comment(line)).map(|(index, line)| (index + 1, line))
}

/// What `[text](target)` leads to, outside code spans.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    let plain = line.split('`').step_by(2);
    plain
        .flat_map(|text| text.split("](").skip(1))
        .filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
}

/// Names of files of the tree in a line. A pattern (`bins/*/tests`) and a list (`{a,b}.rs`) are no names.
fn names(line: &str) -> impl Iterator<Item = &str> {
    let part_of_path = |c: char| c.is_ascii_alphanumeric() || "_-./*{},".contains(c);
    let words = line.split(move |c: char| !part_of_path(c)).map(|word| word.trim_end_matches(['.', ',']));
    words.filter(|word| {
        let stem = TREE_ENDINGS.iter().find_map(|ending| word.strip_suffix(ending));
        stem.is_some_and(|stem| {
            !stem.is_empty() && !word.contains(['*', '{', ',']) && !word.starts_with(['/', '.'])
        })
    })
}

/// `file` as named in `document`, from the root.
fn beside(document: &str, file: &str) -> String {
    let mut path = PathBuf::from(document);
    path.pop();
    for component in Path::new(file).components() {
        match component {
            Component::ParentDir => drop(path.pop()),
            Component::Normal(part) => path.push(part),
            _ => {}
        }
    }
    path.display().to_string()
}

/// The anchors of a document's headings, as code hosts derive them: lower case, spaces as hyphens, no other punctuation.
fn headings(content: &str) -> impl Iterator<Item = String> {
    prose(content).filter_map(|(_, line)| {
        let title = line.strip_prefix('#')?.trim_start_matches('#').trim();
        let kept = title
            .to_lowercase()
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
            .collect::<String>();
        Some(kept.replace(' ', "-"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &str, content: &str) -> Text {
        Text { path: path.to_owned(), content: content.to_owned() }
    }

    #[test]
    fn links_lead_to_files_and_headings() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("docs")).unwrap();
        for file in ["README.md", "docs/limits.md", "docs/other.md"] {
            std::fs::write(root.path().join(file), "").unwrap();
        }
        let readme = "[a](docs/limits.md) [b](docs/limits.md#the-2-limits) [c](#use-it)\n# Use it\n[web](https://x.example/y) `[a](0)`";
        let limits = "# The 2 limits!\n[on](other.md)\n```\n[code](nowhere.md)\n```\n";
        let documents = [text("README.md", readme), text("docs/limits.md", limits)];
        assert_eq!(findings(root.path(), &documents), [""; 0]);
        let broken = [
            text("README.md", "\n[a](docs/none.md) [b](#nothing)"),
            text("docs/limits.md", "[back](../README.md#use-it)"),
        ];
        assert_eq!(
            findings(root.path(), &broken),
            [
                "README.md:2: `docs/none.md` leads to no file",
                "README.md:2: `#nothing` leads to no heading",
                "docs/limits.md:1: `../README.md#use-it` leads out of the book: name the file in backquotes",
            ]
        );
    }

    #[test]
    fn pages_outside_of_the_contents_are_found() {
        let contents = text("docs/SUMMARY.md", "# Summary\n- [A](a.md)\n    - [B](b/c.md)\n");
        let pages = ["docs/a.md", "docs/b/c.md", "docs/d.md", "README.md"].map(|path| text(path, ""));
        let documents: Vec<_> = pages.into_iter().chain([contents]).collect();
        assert_eq!(unlisted_pages(&documents), ["docs/d.md: the page is not in docs/SUMMARY.md"]);
    }

    #[test]
    fn a_named_file_must_exist() {
        let sources = [
            text(
                "crates/a/src/lib.rs",
                "// See `a/src/lib.rs`, lib.rs, docs/x.md and bins/*/keys.rs.\nlet x = \"b.rs\";",
            ),
            text("crates/a/src/gone.rs", "/// As in `b/src/lib.rs`."),
        ];
        let documents = [text("docs/x.md", "`xlib.rs`, mcplocal.yaml\n```\nnone.rs\n```")];
        assert_eq!(
            named_files(&documents, &sources),
            [
                "crates/a/src/gone.rs:1: there is no file `b/src/lib.rs`",
                "docs/x.md:1: there is no file `xlib.rs`"
            ]
        );
    }
}
