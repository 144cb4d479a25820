//! The file of contexts: private, whole, and refused with its place where it is wrong.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use mcpctl_api::spec::SecretValue;
use mcpctl_client::config::{Config, Context, same_server, write_private};
use tempfile::TempDir;

fn context(name: &str, server: &str, token: Option<&str>) -> Context {
    let user = Some("alice".to_owned());
    Context {
        name: name.to_owned(),
        server: server.parse().unwrap(),
        user,
        account: None,
        token: token.map(SecretValue::new),
        server_user: None,
        ca: None,
        client_certificate: None,
        client_key: None,
        expires_at: None,
        session: false,
        provider: None,
    }
}

fn file() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mcpctl/config.yaml");
    (dir, path)
}

fn write(path: &Path, text: &str, mode: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn saved_file_is_private_and_reads_back() {
    let (_dir, path) = file();
    assert_eq!(Config::load(&path).unwrap(), Config::default(), "no file is an empty one");
    let mut config = Config::default();
    config.put(context("a", "https://a.example.com", Some("mcpd_one")));
    config.put(context("b", "http://127.0.0.1:3100", None));
    config.save(&path).unwrap();
    assert_eq!(Config::load(&path).unwrap(), config);
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no draft is left");
    assert!(!format!("{config:?}").contains("mcpd_one"), "Debug shows no token");
}

#[test]
fn file_readable_by_others_is_rejected_with_a_fix() {
    let (_dir, path) = file();
    for mode in [0o644, 0o640, 0o604, 0o660] {
        write(&path, "contexts: []\n", mode);
        let error = Config::load(&path).unwrap_err();
        let shown = path.display();
        assert_eq!(error.to_string(), format!("`{shown}` can be read by others, and it holds tokens"));
        assert_eq!(error.hint(), Some(format!("chmod 600 {shown}")));
    }
}

#[test]
fn left_over_draft_of_a_killed_process_is_not_used() {
    let (_dir, path) = file();
    write(&path.with_extension(format!("{}.draft", std::process::id())), "", 0o666);
    write_private(&path, b"x").unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn errors_have_a_position_and_no_token() {
    let (_dir, path) = file();
    for (text, expected) in [
        ("contexts:\n  - name: a\n    sever: https://a\n", ":3:5: unknown field `sever`"),
        ("contexts:\n  - name: a\n    server: nonsense\n    token: hunter2\n", ":3:13: "),
        ("contexts: [\n", ":1:11: "),
    ] {
        write(&path, text, 0o600);
        let error = Config::load(&path).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with(&format!("{}{expected}", path.display())), "{text}");
        assert!(!text.contains("hunter2") && !text.contains('\n'), "{text}");
        assert_eq!(error.hint().as_deref(), Some("fix it, or remove it and sign in again"));
    }
    write(&path, "contexts:\n- {name: a, server: https://a}\n- {name: a, server: https://b}\n", 0o600);
    let error = Config::load(&path).unwrap_err();
    assert!(error.to_string().ends_with("there are two contexts `a`"), "{error}");
}

#[test]
fn put_replaces_a_namesake_and_becomes_current() {
    let mut config = Config::default();
    config.put(context("a", "https://a.example.com", Some("one")));
    config.put(context("b", "https://b.example.com", Some("two")));
    assert_eq!(config.context(None).unwrap().name, "b");
    config.put(context("a", "https://a.example.com", Some("three")));
    assert_eq!((config.contexts.len(), config.context(None).unwrap().name.as_str()), (2, "a"));
    assert_eq!(config.context(Some("a")).unwrap().token.as_ref().unwrap().expose(), "three");
    assert_eq!(config.context(Some("c")), None);
    config.put_beside(context("c", "https://c.example.com", Some("four")));
    assert_eq!((config.contexts.len(), config.context(None).unwrap().name.as_str()), (3, "a"));
    let mut first = Config::default();
    first.put_beside(context("c", "https://c.example.com", Some("four")));
    assert_eq!(first.context(None).unwrap().name, "c", "it is the only one");
}

#[test]
fn only_the_current_context_is_signed_in() {
    let mut config = Config::default();
    config.put(context("first", "https://a.example.com", Some("one")));
    config.put(context("second", "https://a.example.com/", Some("two")));
    config.put(context("elsewhere", "https://b.example.com", Some("three")));
    let at = |config: &Config, server: &str| {
        config.signed_in_at(&server.parse().unwrap()).map(|context| context.name.clone())
    };
    assert_eq!(at(&config, "https://a.example.com"), None, "the current one is of another server");
    assert_eq!(at(&config, "https://b.example.com").as_deref(), Some("elsewhere"));
    config.current_context = Some("second".to_owned());
    assert_eq!(at(&config, "https://a.example.com").as_deref(), Some("second"));
    config.contexts[1].token = None;
    assert_eq!(at(&config, "https://a.example.com"), None, "another account of the server does not count");
    config.current_context = None;
    assert_eq!(at(&config, "https://a.example.com"), None);
    config.current_context = Some("first".to_owned());
    assert_eq!(at(&config, "https://a.example.com").as_deref(), Some("first"));
    assert_eq!(at(&config, "https://c.example.com"), None);
    assert_eq!(
        at(&config, "http://a.example.com"),
        None,
        "a token does not go where it can be read on the way"
    );
}

#[test]
fn servers_are_equal_by_origin_and_path() {
    let same = |a: &str, b: &str| same_server(&a.parse().unwrap(), &b.parse().unwrap());
    assert!(
        same("https://h", "https://h/")
            && same("https://h:443", "https://h")
            && same("https://h/m/", "https://h/m")
    );
    for other in ["http://h", "https://h:444", "https://i", "https://h/m"] {
        assert!(!same("https://h", other), "{other}");
    }
}
