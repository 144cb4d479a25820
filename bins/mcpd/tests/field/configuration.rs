//! `mcpd serve --check` judges a configuration and what a start needs, and changes nothing.

use std::{
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use mcpctl_testkit::{authority::Authority, daemons::Mcpd, postgres::Postgres};

/// A configuration file and a data directory, neither of which exists yet.
struct Place {
    dir: tempfile::TempDir,
    data: PathBuf,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        Self { data: dir.path().join("data"), dir }
    }

    /// The exit code, and what is printed.
    fn check(&self, text: &str, arguments: &[&str]) -> (i32, String) {
        let file = self.dir.path().join("mcpd.yaml");
        std::fs::write(&file, text).unwrap();
        let mut mcpd = Command::new(env!("CARGO_BIN_EXE_mcpd"));
        mcpd.arg("serve").args(arguments).arg("--config").arg(&file);
        let output = mcpd.output().unwrap();
        let printed = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(printed).unwrap())
    }

    fn start(&self, text: &str) -> (i32, String) {
        self.check(&format!("dataDir: {}\n{text}", self.data.display()), &["--check"])
    }

    fn refused(&self, text: &str, reason: &str) {
        let (code, printed) = self.start(text);
        assert!(code == 1 && printed.contains(reason) && printed.contains("\nhint: "), "{text}: {printed}");
        assert!(!printed.contains("ok: "), "{text}: {printed}");
    }
}

#[test]
fn check_accepts_a_good_file_and_names_the_place_of_an_error() {
    let place = Place::new();
    let accepted = |text: &str, scheme: &str| {
        let (code, printed) = place.start(text);
        let expected = format!(
            "ok: mcpd would serve {scheme}://127.0.0.1:0\nok: the store is `{}/mcpd.sqlite`, which the first start makes\nnot checked: ",
            place.data.display()
        );
        assert!(code == 0 && printed.starts_with(&expected), "{printed}");
    };
    accepted("listen: 127.0.0.1:0\n", "http");
    let (code, error) = place.start("listen: 127.0.0.1:0\nlisten-on: x\n");
    assert_eq!(code, 1);
    assert!(error.contains("mcpd.yaml:3:1: unknown field `listen-on`"), "{error}");
    place.refused("listen: 127.0.0.1:0\n console: true\n", "mcpd.yaml:3:2: `console` is indented");
    // What TLS needs is there, and belongs together.
    let (authority, other) = (Authority::new(), Authority::new());
    let (served, stray) = (authority.issue("mcpd", &["localhost"]), other.issue("stray", &["localhost"]));
    let tls = |certificate: &Path, key: &Path| {
        format!(
            "listen: 127.0.0.1:0\ntls: {{certificate: {}, key: {}}}\n",
            certificate.display(),
            key.display()
        )
    };
    accepted(&tls(&served.certificate, &served.key), "https");
    place.refused(&tls(&served.certificate, &stray.key), "is not the one of the certificate in");
    let (code, error) = place.start(&tls(&place.dir.path().join("none.pem"), &served.key));
    assert!(code == 1 && error.starts_with("error: TLS cannot be served: the certificate "), "{error}");
    assert!(!place.data.exists(), "a check makes no data directory");
}

#[test]
fn log_filter_that_writes_nothing_is_refused_wherever_it_is_written() {
    let place = Place::new();
    place.refused("log: verbose\n", "mcpd.yaml:2:6: `verbose` is not a log level");
    place.refused("log: mcpdd=debug\n", "mcpd.yaml:2:6: the log filter `mcpdd=debug` leaves out every line");
    let (code, printed) = place.check("listen: 127.0.0.1:0\n", &["--check", "--log", "verbose"]);
    assert!(code == 2 && printed.contains("\nhint: write trace, debug, info"), "{printed}");
    let mut mcpd = Command::new(env!("CARGO_BIN_EXE_mcpd"));
    let output = mcpd.args(["serve", "--check"]).env("MCPD_LOG", "verbose").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let (code, printed) = place.check("", &["--check", "--listen", "3100"]);
    assert!(code == 2 && printed.contains("\nhint: write e.g. `127.0.0.1:3100`"), "{printed}");
}

#[test]
fn check_finds_what_would_keep_mcpd_from_starting() {
    let place = Place::new();
    let listen = "listen: 127.0.0.1:0\n";
    let (code, printed) = place.check(&format!("{listen}dataDir: /proc/nope\n"), &["--check"]);
    assert!(code == 1 && printed.contains("the data directory is refused: `/proc`"), "{printed}");
    place
        .refused(&format!("{listen}masterKeyFile: /nope/key\n"), "the master key `/nope/key` cannot be made");
    let key = place.dir.path().join("key");
    std::fs::write(&key, "no key\n").unwrap();
    place.refused(&format!("{listen}masterKeyFile: {}\n", key.display()), "is open to others");
    // All that is wrong, and not the first alone.
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap();
    let both = format!("listen: {address}\nmasterKeyFile: /nope/key\n");
    place.refused(&both, "the master key");
    place.refused(&both, &format!("cannot listen on `{address}`"));
    let twice = format!("listen: {address}\ninferenceListen: {address}\n");
    drop(held);
    place.refused(&twice, &format!("cannot listen on `{address}`"));
    let url = "databaseUrl: postgres://u:s3cret@127.0.0.1:1/x\n";
    place.refused(&format!("{listen}{url}"), "the database postgres://127.0.0.1:1/x cannot be opened");
    // The configuration alone is fine, but for the password in it.
    let (code, printed) = place.check(&format!("{listen}{url}"), &["--check=files"]);
    assert!(code == 0 && printed.contains("not checked: directories, master key, database"), "{printed}");
    assert!(
        printed.contains("warning: `databaseUrl` holds a password") && !printed.contains("s3cret"),
        "{printed}"
    );
    assert!(!place.data.exists());
}

#[tokio::test]
async fn check_beside_the_mcpd_that_it_is_to_replace_succeeds() {
    let mcpd = Mcpd::start().await;
    let address = mcpd.url().trim_start_matches("http://").trim_end_matches('/');
    let text = format!("dataDir: {}\nlisten: {address}\n", mcpd.data_dir().display());
    let place = Place::new();
    let (code, printed) = place.check(&text, &["--check"]);
    assert!(code == 0 && printed.contains("is served by another mcpd"), "{printed}");
    assert!(printed.contains("an mcpd runs already: cannot listen on"), "{printed}");
    assert!(printed.contains("mcpd.sqlite`\n"), "the store is there: {printed}");
    let other = place.dir.path().join("other");
    let made =
        Command::new(env!("CARGO_BIN_EXE_mcpd")).args(["master-key", "new", "--file"]).arg(&other).output();
    assert!(made.unwrap().status.success());
    let (code, printed) = place.check(&format!("{text}masterKeyFile: {}\n", other.display()), &["--check"]);
    assert!(code == 1 && printed.contains("key"), "{printed}");
}

#[test]
fn check_of_a_postgresql_leaves_it_empty() {
    let postgres = Postgres::start();
    let place = Place::new();
    let url = place.dir.path().join("url");
    std::fs::write(&url, postgres.url()).unwrap();
    std::fs::set_permissions(&url, std::fs::Permissions::from_mode(0o600)).unwrap();
    let text = format!("listen: 127.0.0.1:0\ndatabaseUrlFile: {}\n", url.display());
    for _ in 0..2 {
        let (code, printed) = place.start(&text);
        assert!(code == 0 && printed.contains(", which the first start makes"), "{printed}");
    }
}
