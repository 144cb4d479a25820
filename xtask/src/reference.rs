//! `cargo xtask reference`: the pages of the book that are written from the code. They are committed, and `cargo xtask check`
//! compares them with the code.

mod api;
mod cli;
mod configuration;
mod constants;
mod environment;
mod source;

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

pub(crate) use constants::metric_names;

use crate::check::metadata::Metadata;
use xtask::cargo;

/// Where the pages are.
const FOLDER: &str = "docs/reference";

/// A page that is written from the code.
struct Page {
    /// Its file in the folder.
    name: &'static str,
    title: &'static str,
    /// What it is and where it comes from, in one or two sentences.
    about: &'static str,
    content: String,
}

impl Page {
    fn path(&self) -> String {
        format!("{FOLDER}/{}", self.name)
    }

    fn text(&self) -> String {
        let Self { title, about, content, .. } = self;
        format!("<!-- Written by `cargo xtask reference`. -->\n# {title}\n\n{about}\n\n{}\n", content.trim())
    }
}

/// Writes all pages.
pub(crate) fn run() -> Result<()> {
    let root = cargo::root();
    for page in pages(&root)? {
        fs::write(root.join(page.path()), page.text()).with_context(|| page.path())?;
        anstream::println!("{}", page.path());
    }
    Ok(())
}

/// Pages that are not current.
pub(crate) fn findings() -> Result<Vec<String>> {
    let root = cargo::root();
    let old = pages(&root)?.into_iter().filter_map(|page| {
        let committed = fs::read_to_string(root.join(page.path())).unwrap_or_default();
        let text = page.text();
        let same = committed.lines().zip(text.lines()).take_while(|(old, new)| old == new).count();
        let at = same + 1;
        (committed != text)
            .then(|| format!("{}:{at}: not current from here on: run `cargo xtask reference`", page.path()))
    });
    Ok(old.collect())
}

fn pages(root: &Path) -> Result<Vec<Page>> {
    cargo::build_programs()?;
    let programs = Metadata::load()?.target_directory.join("debug");
    Ok(vec![
        Page {
            name: "cli.md",
            title: "Command line",
            about: "Every command of the three programs. `mcpctl man` has the same for `man`; `mcpctl COMMAND --help` in the terminal.",
            content: cli::page(&programs)?,
        },
        Page {
            name: "api.md",
            title: "HTTP API",
            about: "Every route of mcpd, from its OpenAPI document (`GET /openapi.json`). What the routes promise beyond their shape is in the [contract](contract.md).",
            content: api::page(root)?,
        },
        Page {
            name: "configuration.md",
            title: "Configuration files",
            about: "Every key of the files of the three programs. An unknown key is an error with file, line and column; `mcpd serve --check` and `mcplocal --check` judge a file and start nothing. [The contract](contract.md) has whole files as examples, and [Limits](limits.md) what each bound does and its default. \
                    In mcpd a flag comes before a variable of the [environment](environment.md), and that before the file.",
            content: configuration::page(root)?,
        },
        Page {
            name: "environment.md",
            title: "Environment variables",
            about: "Every variable that the programs read. An option comes before its variable.",
            content: environment::page(root)?,
        },
        Page {
            name: "metrics.md",
            title: "Metrics",
            about: "What `GET /metrics` has, at mcpd with a credential that may view all Llms, at mcplocal with the local key. \
                    [Monitoring](../how-to/monitoring.md) has a dashboard and alert rules.",
            content: constants::metrics(root)?,
        },
        Page {
            name: "headers.md",
            title: "Headers",
            about: "The product's own HTTP headers, of requests and answers.",
            content: constants::headers(root)?,
        },
    ])
}

/// A table of Markdown.
fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let mut text = line(head.iter().map(|cell| (*cell).to_owned()).collect());
    text.push_str(&line(head.iter().map(|_| "---".to_owned()).collect()));
    for row in rows {
        text.push_str(&line(row.iter().map(|cell| cell_text(cell)).collect()));
    }
    text
}

/// A text in one cell: on one line, without the character that ends a cell.
fn cell_text(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_on_one_line() {
        let text = table(&["a", "b"], [vec!["x|y".to_owned(), "one\ntwo".to_owned()]]);
        assert_eq!(text, "| a | b |\n| --- | --- |\n| x\\|y | one two |\n");
    }
}
