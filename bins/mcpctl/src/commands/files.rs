//! Documents from files, directories, the web and standard input; errors of the server get the file and line of their document.

use std::{
    ops::RangeInclusive,
    path::{Path, PathBuf},
    rc::Rc,
};

use mcpctl_api::{
    Document, Kind, Name, Spec,
    encoding::{self, NotText},
    selector::Selector,
    yaml,
};
use mcpctl_client::{ClientError, ClientTls, download, shown};
use url::Url;

use crate::{bounded, failure::Failure};

/// Largest file of documents or of people that is read.
const MAX_BYTES: u64 = 64 << 20;
/// Most files that are read of directories, and how deep.
const MAX_FILES: usize = 10_000;
const MAX_DEPTH: usize = 32;

/// `-f` of a command that takes nothing else.
#[derive(Debug, Clone, clap::Args)]
pub struct FileArgs {
    /// File, directory, address (https://…), or - for standard input; several are possible
    #[arg(long = "filename", short = 'f', value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Read directories below the directories too
    #[arg(long, short = 'R')]
    recursive: bool,
}

/// `-f` of a command that takes names too.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct NamedFiles {
    /// What these files name: file, directory, address (https://…), or - for standard input
    #[arg(long = "filename", short = 'f', value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Read directories below the directories too
    #[arg(long, short = 'R', requires = "files")]
    recursive: bool,
}

impl NamedFiles {
    /// Whether there are some.
    pub fn are_given(&self) -> bool {
        !self.files.is_empty()
    }

    /// The resources that the documents name, in order.
    pub async fn targets(&self) -> Result<Vec<(Kind, String)>, Failure> {
        let found = read(&self.files, self.recursive).await?;
        found.iter().map(|found| Ok((found.document.kind(), found.name()?.to_string()))).collect()
    }
}

impl FileArgs {
    /// Every document of the files, in order.
    pub async fn read(&self) -> Result<Vec<FromFile>, Failure> {
        read(&self.files, self.recursive).await
    }
}

/// A document and where it was read.
pub struct FromFile {
    /// What was read.
    pub document: Document,
    file: Rc<File>,
    lines: RangeInclusive<u64>,
}

struct File {
    name: String,
    text: String,
}

/// Reads every document of the files, in order; `-` is standard input, of a directory all `.yaml`, `.yml` and `.json`.
pub async fn read(paths: &[PathBuf], recursive: bool) -> Result<Vec<FromFile>, Failure> {
    let mut found = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            read_text("stdin", stdin()?, &mut found)?;
        } else if let Some(url) = address(path)? {
            let bytes = download(&url, &ClientTls::default(), yaml::MAX_BYTES).await;
            let name = shown(&url);
            let text = decoded(&name, &bytes.map_err(Failure::new)?)?;
            read_text(&name, text, &mut found)?;
        } else if path.is_dir() {
            let mut files = Vec::new();
            files_of(path, if recursive { MAX_DEPTH } else { 0 }, &mut files)?;
            for file in files {
                read_text(&file.display().to_string(), read_file(&file)?, &mut found)?;
            }
        } else {
            read_text(&path.display().to_string(), read_file(path)?, &mut found)?;
        }
    }
    if found.is_empty() {
        return Err(Failure::new("there is no document in what was given").hint(
            "a document begins with `kind:` and `name:`; of a directory, .yaml, .yml and .json are read, with -R those below too",
        ));
    }
    Ok(found)
}

/// The address that a `-f` is, where it is one.
fn address(path: &Path) -> Result<Option<Url>, Failure> {
    match path.to_str() {
        Some(text) if text.starts_with("https://") || text.starts_with("http://") => {
            text.parse().map(Some).map_err(|error| {
                Failure::usage(format!("the address after -f is wrong: {error}"))
                    .hint("write e.g. -f https://example.com/llms.yaml")
            })
        }
        _ => Ok(None),
    }
}

/// The files of a directory, those of the directories in it after its own. Links to directories are not followed.
fn files_of(dir: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let unreadable = |error| Failure::new(format!("`{}`: {error}", dir.display()));
    let (mut own, mut below) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(dir).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let path = entry.path();
        if entry.file_type().map_err(unreadable)?.is_dir() {
            below.push(path);
        } else if path.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json") {
            own.push(path);
        }
    }
    own.sort();
    files.append(&mut own);
    if files.len() > MAX_FILES {
        return Err(Failure::new(format!("`{}`: more than {MAX_FILES} files", dir.display()))
            .hint("name the directories below it, some at a time"));
    }
    if depth > 0 {
        below.sort();
        for dir in below {
            files_of(&dir, depth - 1, files)?;
        }
    }
    Ok(())
}

/// The text of a file that the user named, in whichever encoding it is written.
pub fn read_file(path: &Path) -> Result<String, Failure> {
    let shown = path.display().to_string();
    let bytes = std::fs::File::open(path)
        .and_then(|file| bounded::read(file, MAX_BYTES))
        .map_err(|error| Failure::new(format!("`{shown}` cannot be read: {}", bounded::reason(&error))))?;
    decoded(&shown, &bytes)
}

/// The text of standard input, in whichever encoding it comes.
pub fn stdin() -> Result<String, Failure> {
    let bytes = bounded::read(std::io::stdin().lock(), MAX_BYTES)
        .map_err(|error| Failure::new(format!("standard input cannot be read: {error}")))?;
    decoded("stdin", &bytes)
}

fn decoded(name: &str, bytes: &[u8]) -> Result<String, Failure> {
    encoding::decode(bytes).map_err(|error| Failure::new(format!("{name}:{error}")).hint(NotText::HINT))
}

fn read_text(name: &str, text: String, found: &mut Vec<FromFile>) -> Result<(), Failure> {
    let documents = yaml::read_documents(&text).map_err(|error| wrong(name, &error))?;
    let file = Rc::new(File { name: name.to_owned(), text });
    found.extend(documents.into_iter().map(|located| FromFile {
        document: located.document,
        file: Rc::clone(&file),
        lines: located.lines,
    }));
    Ok(())
}

/// An error of the YAML, with the file before line and column.
pub fn wrong(file: &str, error: &yaml::YamlError) -> Failure {
    let failure = Failure::new(format!("{file}:{error}"));
    match &error.hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

impl FromFile {
    /// The document's name.
    pub fn name(&self) -> Result<&Name, Failure> {
        let missing =
            || Failure::new(format!("{}:{}: missing field `name`", self.file.name, self.lines.start()));
        self.document.name.as_ref().ok_or_else(missing)
    }

    /// Where a field of the document is, as `FILE:LINE`.
    pub fn place_of(&self, field: &str) -> String {
        let line = yaml::line_of_field(&self.file.text, &self.lines, field);
        format!("{}:{line}", self.file.name)
    }

    /// Whether it is what `get` shows of a token. Its secret is shown to its maker alone, and only once, so that nothing can be made
    /// or changed with it.
    pub fn is_shown_token(&self) -> bool {
        matches!(self.document.spec, Spec::Token(_)) && self.document.id.is_some()
    }

    /// An error of the server about this document, with file, line and field.
    pub fn place(&self, field: &str, error: ClientError) -> Failure {
        // An error without a status is not about the document.
        if error.status().is_none() {
            return error.into();
        }
        let named = if field.is_empty() { String::new() } else { format!("{field}: ") };
        let failure = Failure::new(format!("{}: {named}{error}", self.place_of(field)));
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

/// An error of the server about a batch: the server names the document by its index, `[2].apiKey.secret`, and people look for a
/// file and a line.
pub fn place(error: ClientError, documents: &[FromFile]) -> Failure {
    let found = error.param().and_then(|param| {
        let (index, field) = param.strip_prefix('[')?.split_once(']')?;
        let document = documents.get(index.parse::<usize>().ok()?)?;
        Some((document, field.trim_start_matches('.').to_owned()))
    });
    match found {
        Some((document, field)) => document.place(&field, error),
        None => error.into(),
    }
}

/// What of the documents can be written: not the tokens that `get` shows, and only what the selector selects.
pub fn writable(found: Vec<FromFile>, selector: Option<&Selector>) -> Vec<FromFile> {
    let mut tokens = 0_usize;
    let found = found.into_iter().filter(|found| {
        let is_token = found.is_shown_token();
        tokens += usize::from(is_token);
        !is_token && selector.is_none_or(|selector| selector.matches(&found.document.labels))
    });
    let found = found.collect();
    match tokens {
        0 => {}
        1 => note!("1 token is skipped: a token is made anew, by `mcpctl create token`"),
        _ => note!("{tokens} tokens are skipped: a token is made anew, by `mcpctl create token`"),
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endless_files_are_refused() {
        let failure = read_file(Path::new("/dev/zero")).unwrap_err();
        assert_eq!(failure.parts().0, "`/dev/zero` cannot be read: it has more than 64 MiB");
    }
}
