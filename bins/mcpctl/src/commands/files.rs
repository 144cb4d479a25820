//! Documents from files, directories and standard input, and errors of the server brought back to their place.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use mcpctl_api::{Document, yaml};
use mcpctl_client::ClientError;

use crate::failure::Failure;

/// A document and where it was read.
pub struct FromFile {
    /// What was read.
    pub document: Document,
    file: String,
    line: u64,
}

/// Reads every document of the files, in order; `-` is standard input, of a directory all `.yaml`, `.yml` and `.json`.
pub fn read(paths: &[PathBuf]) -> Result<Vec<FromFile>, Failure> {
    let mut found = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            read_text("stdin", &text, &mut found)?;
        } else if path.is_dir() {
            for file in files_of(path)? {
                read_file(&file, &mut found)?;
            }
        } else {
            read_file(path, &mut found)?;
        }
    }
    if found.is_empty() {
        return Err(Failure::new("there is no document in what was given"));
    }
    Ok(found)
}

fn files_of(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let unreadable = |error| Failure::new(format!("`{}`: {error}", dir.display()));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read_file(path: &Path, found: &mut Vec<FromFile>) -> Result<(), Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::new(format!("`{}`: {error}", path.display())))?;
    read_text(&path.display().to_string(), &text, found)
}

fn read_text(file: &str, text: &str, found: &mut Vec<FromFile>) -> Result<(), Failure> {
    let documents = yaml::read_documents(text).map_err(|error| {
        let failure = Failure::new(format!("{file}:{error}"));
        match error.hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    })?;
    found.extend(documents.into_iter().map(|located| FromFile {
        document: located.document,
        file: file.to_owned(),
        line: located.line,
    }));
    Ok(())
}

/// The server names a document by its place in the batch, `[2].apiKey.secret`; people look for a file and a line.
pub fn place(error: ClientError, documents: &[FromFile]) -> Failure {
    let found = error.param().and_then(|param| {
        let (index, field) = param.strip_prefix('[')?.split_once(']')?;
        let document = documents.get(index.parse::<usize>().ok()?)?;
        Some((document, field.trim_start_matches('.').to_owned()))
    });
    let Some((document, field)) = found else { return error.into() };
    let field = if field.is_empty() { String::new() } else { format!("{field}: ") };
    let failure = Failure::new(format!("{}:{}: {field}{error}", document.file, document.line));
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
