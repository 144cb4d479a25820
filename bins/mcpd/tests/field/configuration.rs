//! `mcpd serve --check` judges a configuration and starts nothing.

use std::{os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use mcpctl_testkit::authority::Authority;

#[test]
fn check_accepts_a_good_file_and_names_the_place_of_an_error() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let (file, data) = (dir.path().join("mcpd.yaml"), dir.path().join("data"));
    let check = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let mut mcpd = Command::new(env!("CARGO_BIN_EXE_mcpd"));
        mcpd.args(["serve", "--check", "--config"]).arg(&file).arg("--data-dir").arg(&data);
        let output = mcpd.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let ok = |scheme| (Some(0), format!("ok: mcpd would serve {scheme}://127.0.0.1:0\n"));
    assert_eq!(check("listen: 127.0.0.1:0\n"), ok("http"));
    let (code, error) = check("listen: 127.0.0.1:0\nlisten-on: x\n");
    assert_eq!(code, Some(1));
    assert!(error.contains("mcpd.yaml:2:1: unknown field `listen-on`"), "{error}");
    // What TLS needs is there, and belongs together.
    let (authority, other) = (Authority::new(), Authority::new());
    let (served, stray) = (authority.issue("mcpd", &["localhost"]), other.issue("stray", &["localhost"]));
    let tls = |certificate: &Path, key: &Path| {
        check(&format!(
            "listen: 127.0.0.1:0\ntls: {{certificate: {}, key: {}}}\n",
            certificate.display(),
            key.display()
        ))
    };
    assert_eq!(tls(&served.certificate, &served.key), ok("https"));
    let (code, error) = tls(&served.certificate, &stray.key);
    assert!(code == Some(1) && error.contains("is not the one of the certificate in"), "{error}");
    let (code, error) = tls(&dir.path().join("none.pem"), &served.key);
    assert!(code == Some(1) && error.starts_with("error: TLS cannot be served: the certificate "), "{error}");
    assert!(!data.exists(), "a check makes no data directory");
}
