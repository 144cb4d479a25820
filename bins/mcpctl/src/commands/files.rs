//! Documents from files, directories and standard input; errors of the server get the file and line of their document.

use std::{
    io::Read,
    path::{Path, PathBuf},
    rc::Rc,
};

use mcpctl_api::{
    Document, Name,
    encoding::{self, NotText},
    yaml,
};
use mcpctl_client::ClientError;

use crate::failure::Failure;

/// Largest file of documents or of people that is read.
const MAX_BYTES: u64 = 64 << 20;

/// A document and where it was read.
pub struct FromFile {
    /// What was read.
    pub document: Document,
    file: Rc<File>,
    line: u64,
}

struct File {
    name: String,
    text: String,
}

/// Reads every document of the files, in order; `-` is standard input, of a directory all `.yaml`, `.yml` and `.json`.
pub fn read(paths: &[PathBuf]) -> Result<Vec<FromFile>, Failure> {
    let mut found = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            read_text("stdin", stdin()?, &mut found)?;
        } else if path.is_dir() {
            for file in files_of(path)? {
                read_text(&file.display().to_string(), read_file(&file)?, &mut found)?;
            }
        } else {
            read_text(&path.display().to_string(), read_file(path)?, &mut found)?;
        }
    }
    if found.is_empty() {
        return Err(Failure::new("there is no document in what was given").hint(
            "a document begins with `kind:` and `name:`; of a directory, .yaml, .yml and .json are read",
        ));
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

/// The text of a file that the user named, in whichever encoding it is written.
pub fn read_file(path: &Path) -> Result<String, Failure> {
    let shown = path.display().to_string();
    let bytes = std::fs::File::open(path).and_then(bounded).map_err(|error| {
        let why = match error.kind() {
            std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
            std::io::ErrorKind::FileTooLarge => error.to_string(),
            kind => kind.to_string(),
        };
        Failure::new(format!("`{shown}` cannot be read: {why}"))
    })?;
    decoded(&shown, &bytes)
}

/// All bytes, where they are not too many.
fn bounded(from: impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        let message = format!("it has more than {} MiB", MAX_BYTES >> 20);
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, message));
    }
    Ok(bytes)
}

/// The text of standard input, in whichever encoding it comes.
pub fn stdin() -> Result<String, Failure> {
    let bytes = bounded(std::io::stdin().lock())
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
        line: located.line,
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
        let missing = || Failure::new(format!("{}:{}: missing field `name`", self.file.name, self.line));
        self.document.name.as_ref().ok_or_else(missing)
    }

    /// Line of the top-level key that a field is below, else of the document.
    fn line_of(&self, field: &str) -> u64 {
        let key = field.split(['.', '[']).next().unwrap_or_default();
        let skip = usize::try_from(self.line).unwrap_or(usize::MAX).saturating_sub(1);
        let own = self.file.text.lines().zip(1..).skip(skip).take_while(|(line, _)| !line.starts_with("---"));
        let found = own.into_iter().find(|(line, _)| {
            !key.is_empty() && line.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with(':'))
        });
        found.map_or(self.line, |(_, at)| at)
    }

    /// An error of the server about this document, with file, line and field.
    pub fn place(&self, field: &str, error: ClientError) -> Failure {
        // An error without a status is not about the document.
        if error.status().is_none() {
            return error.into();
        }
        let named = if field.is_empty() { String::new() } else { format!("{field}: ") };
        let failure = Failure::new(format!("{}:{}: {named}{error}", self.file.name, self.line_of(field)));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endless_files_are_refused() {
        let failure = read_file(Path::new("/dev/zero")).unwrap_err();
        assert_eq!(failure.parts().0, "`/dev/zero` cannot be read: it has more than 64 MiB");
    }
}
