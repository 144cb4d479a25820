//! Why a path cannot be trusted or used.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::user::user_name;

/// A path that cannot be trusted or used. Prints as one line.
#[derive(Debug, thiserror::Error)]
#[error("`{}` {problem}", path.display())]
pub struct PathError {
    /// The directory, file or link that is wrong.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: PathProblem,
}

/// What is wrong with a path.
#[derive(Debug, thiserror::Error)]
pub enum PathProblem {
    /// The system refused.
    #[error("cannot be used: {}", words(.0))]
    Io(io::Error),
    /// It belongs to another user.
    #[error("belongs to user {}", user_name(*.0))]
    ForeignOwner(u32),
    /// Others can write to it, or replace what is in it.
    #[error("can be written to by other users: its mode is {0:04o}")]
    WritableByOthers(u32),
    /// Others can read it, and it holds a secret.
    #[error("can be read by other users: its mode is {0:04o}")]
    ReadableByOthers(u32),
    /// There is a file instead of a directory.
    #[error("is not a directory")]
    NotADirectory,
    /// There is a directory, pipe, socket or device instead of a file.
    #[error("is not a regular file")]
    NotAFile,
    /// There is a link instead of our own file.
    #[error("is a symbolic link")]
    Link,
    /// The same file has a second name.
    #[error("has a second name (a hard link)")]
    HardLink,
    /// It is longer than the limit.
    #[error("is longer than {0} bytes")]
    TooLong(u64),
}

/// An error of the system in the words of a sentence: without its number.
pub fn words(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::NotFound {
        return "there is no such file or directory".to_owned();
    }
    let text = error.to_string();
    let mut rest = text.split(" (os error ").next().unwrap_or_default().chars();
    rest.next().into_iter().flat_map(char::to_lowercase).chain(rest.clone()).collect()
}

impl PathError {
    pub(crate) fn new(path: &Path, problem: PathProblem) -> Self {
        Self { path: path.to_owned(), problem }
    }

    pub(crate) fn io(path: &Path, error: io::Error) -> Self {
        Self::new(path, PathProblem::Io(error))
    }

    /// Whether there is nothing at the path.
    pub fn is_not_found(&self) -> bool {
        matches!(&self.problem, PathProblem::Io(error) if error.kind() == io::ErrorKind::NotFound)
    }

    /// The next step.
    pub fn hint(&self) -> Option<String> {
        let path = self.path.display();
        Some(match &self.problem {
            PathProblem::Io(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                "run as the user whose it is, or name another".to_owned()
            }
            PathProblem::Io(_) => return None,
            PathProblem::ForeignOwner(_) => {
                "run as that user, or name a path that belongs to you and whose directories only you and root can \
                 write to"
                    .to_owned()
            }
            PathProblem::WritableByOthers(_) => format!("chmod go-w {path}"),
            PathProblem::ReadableByOthers(_) => format!("chmod 600 {path}"),
            PathProblem::NotADirectory | PathProblem::NotAFile | PathProblem::Link => {
                "move it away, or name another path".to_owned()
            }
            PathProblem::HardLink => format!("replace it by a copy: cp {path} {path}.new && mv {path}.new {path}"),
            PathProblem::TooLong(_) => "is it the right file?".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_errors_have_no_numbers() {
        assert_eq!(words(&io::Error::from_raw_os_error(2)), "there is no such file or directory");
        assert_eq!(words(&io::Error::from_raw_os_error(13)), "permission denied");
        assert_eq!(words(&io::Error::other("it is full")), "it is full");
    }
}
