//! The URL of the database. It may contain a password, so it does not belong into the arguments of a process, which every
//! user of the machine can read, and no message repeats it.

use std::{
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::bail;
use mcpctl_api::HintedError;
use url::Url;

/// Maximum size of a file with a URL, in bytes.
const MAX_FILE_BYTES: u64 = 8192;

/// The sources of the URL, in order of precedence.
#[derive(Debug, Default)]
pub struct Sources {
    /// `--database-url`
    pub argument: Option<String>,
    /// `--database-url-file`, or its variable
    pub file_argument: Option<PathBuf>,
    /// `MCPD_DATABASE_URL`
    pub environment: Option<String>,
    /// `databaseUrl` of the configuration file
    pub config: Option<String>,
    /// `databaseUrlFile` of the configuration file
    pub config_file: Option<PathBuf>,
}

const VARIABLE: &str = "MCPD_DATABASE_URL";

/// The value of the variable. Other users cannot read a process's environment.
///
/// # Errors
/// When the value is not UTF-8.
pub fn from_environment() -> anyhow::Result<Option<String>> {
    let value = std::env::var_os(VARIABLE).map(|value| value.into_string());
    value.transpose().map_err(|_| anyhow::anyhow!("the variable {VARIABLE} is not text in UTF-8"))
}

const TWICE: &str = "the database url is given twice";

/// The URL of a PostgreSQL server, or `None` for SQLite.
///
/// # Errors
/// A URL of another kind, a password in the arguments, a file that cannot be read or that others can read.
pub fn resolve(sources: Sources) -> anyhow::Result<Option<String>> {
    let Sources { argument, file_argument, environment, config, config_file } = sources;
    if argument.as_deref().is_some_and(may_hold_password) {
        bail!(HintedError::with(
            "`--database-url` holds a password, and every user of this machine can read the arguments of a process",
            "change the password, and write the url into a file for --database-url-file or into the variable MCPD_DATABASE_URL"
        ));
    }
    let url = match (argument, file_argument, environment, config, config_file) {
        (Some(_), Some(_), ..) => {
            bail!(HintedError::with(TWICE, "leave out --database-url or --database-url-file"))
        }
        (None, None, None, Some(_), Some(_)) => {
            bail!(HintedError::with(TWICE, "leave out `databaseUrl` or `databaseUrlFile`"))
        }
        (Some(url), ..) => url,
        (_, Some(path), ..) => read(&path)?,
        (_, _, Some(url), ..) | (_, _, _, Some(url), _) => url,
        (_, _, _, _, Some(path)) => read(&path)?,
        (None, None, None, None, None) => return Ok(None),
    };
    if !is_postgres(&url) {
        bail!(HintedError::with(
            "the database url is not one of PostgreSQL",
            "write postgres://USER:PASSWORD@HOST/DATABASE, or leave it out for SQLite"
        ));
    }
    // A password with one of these characters ends the host's part early, and would name another server.
    if !Url::parse(&url).is_ok_and(|url| has_server_where_written(&url)) {
        bail!(HintedError::with(
            "the database url cannot be read",
            "write postgres://USER:PASSWORD@HOST:PORT/DATABASE, and in its password `%2F` for `/`, `%23` for `#`, `%3F` for \
             `?`, `%40` for `@` and `%25` for `%`"
        ));
    }
    Ok(Some(url))
}

/// Whether no `@` is left behind the host, where a password that is not escaped puts it.
fn has_server_where_written(url: &Url) -> bool {
    !url.path().contains('@')
        && !url.fragment().is_some_and(|fragment| fragment.contains('@'))
        && !url.query_pairs().any(|(key, _)| key.contains('@'))
}

fn is_postgres(url: &str) -> bool {
    url.starts_with("postgres://") || url.starts_with("postgresql://")
}

/// Whether there may be a password in a URL. What cannot be read as one may hold one.
pub fn may_hold_password(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else { return true };
    url.password().is_some()
        || url.query_pairs().any(|(key, _)| key.to_ascii_lowercase().contains("password"))
}

fn read(path: &Path) -> anyhow::Result<String> {
    let failed = |error: std::io::Error| {
        let (path, reason) = (path.display(), mcpctl_owner::words(&error));
        anyhow::anyhow!("the file of the database url `{path}` cannot be read: {reason}")
    };
    let file = std::fs::File::open(path).map_err(failed)?;
    // The opened file's mode, not the path's, so that it cannot be exchanged in between.
    let mode = file.metadata().map_err(failed)?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        let path = path.display();
        bail!(HintedError::with(
            format_args!("the file of the database url `{path}` is open to others: its mode is {mode:04o}"),
            format_args!("chmod 600 {path}")
        ));
    }
    let mut text = String::new();
    file.take(MAX_FILE_BYTES).read_to_string(&mut text).map_err(failed)?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn argument(url: &str) -> Sources {
        Sources { argument: Some(url.to_owned()), ..Sources::default() }
    }

    #[test]
    fn a_password_in_the_arguments_is_refused_and_not_repeated() {
        for url in [
            "postgres://u:s3cret@h/d",
            "postgres://u@h/d?password=s3cret",
            "postgres://u@h/d?sslmode=require&PASSWORD=s3cret",
            "postgres://u@h/d?pass%77ord=s3cret",
            "postgres://u:s3cret@h:x/d",
        ] {
            let error = format!("{:#}", resolve(argument(url)).unwrap_err());
            assert!(error.contains("every user") && !error.contains("s3cret"), "{url}: {error}");
        }
        let open = resolve(argument("postgres://u@h/d?sslmode=require")).unwrap();
        assert_eq!(open.as_deref(), Some("postgres://u@h/d?sslmode=require"));
    }

    #[test]
    fn the_environment_and_the_configuration_may_hold_a_password() {
        let url = || Some("postgresql://u:s3cret@h/d".to_owned());
        let environment = Sources { environment: url(), ..Sources::default() };
        assert_eq!(resolve(environment).unwrap(), url());
        let config = Sources { config: url(), ..Sources::default() };
        assert_eq!(resolve(config).unwrap(), url());
        let both = Sources { environment: url(), ..argument("postgres://other@h/d") };
        assert_eq!(resolve(both).unwrap().as_deref(), Some("postgres://other@h/d"));
        assert_eq!(resolve(Sources::default()).unwrap(), None);
    }

    #[test]
    fn another_kind_of_url_is_refused_and_not_repeated() {
        let mysql = Sources { environment: Some("mysql://u:s3cret@h/d".to_owned()), ..Sources::default() };
        let error = resolve(mysql).unwrap_err().to_string();
        assert!(error.contains("PostgreSQL") && !error.contains("s3cret"), "{error}");
    }

    #[test]
    fn unescaped_password_is_refused_with_the_way_to_escape_it() {
        for password in ["a/b", "a#b", "a?b", "12/3", "12#3", "12?3"] {
            let environment = Some(format!("postgres://u:{password}@h/d"));
            let error = resolve(Sources { environment, ..Sources::default() }).unwrap_err();
            let error = error.downcast::<HintedError>().unwrap();
            assert!(!error.to_string().contains(password), "{error}");
            assert!(error.hint.unwrap().contains("%2F"));
        }
        for url in ["postgres://u:a@b@h/d", "postgres://u:a%2Fb@h/d", "postgres:///d?host=/run&user=a@b"] {
            let environment = Sources { environment: Some(url.to_owned()), ..Sources::default() };
            assert_eq!(resolve(environment).unwrap().as_deref(), Some(url));
        }
    }

    #[test]
    fn a_file_is_read_if_it_is_for_this_user_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("url");
        std::fs::write(&path, "postgres://u:s3cret@h/d\n").unwrap();
        let resolve = || resolve(Sources { file_argument: Some(path.clone()), ..Sources::default() });
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = resolve().unwrap_err().downcast::<HintedError>().unwrap();
        assert!(error.message.contains("0644"), "{error}");
        assert!(error.hint.unwrap().starts_with("chmod 600"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(resolve().unwrap().as_deref(), Some("postgres://u:s3cret@h/d"));
        let twice = Sources { file_argument: Some(path.clone()), ..argument("postgres://u@h/d") };
        assert!(super::resolve(twice).unwrap_err().to_string().contains("twice"));
    }
}
