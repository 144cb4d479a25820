//! `mcpd backup` beside a running daemon, and what a restore of it has.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Child,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use mcpctl_testkit::{
    daemons::{Mcpd, eventually},
    postgres::Postgres,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::installation::{Installation, command, done, files, options, resources};

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap())
}

/// A backup that is stopped while it writes, and what it has written; `None` where it was faster.
async fn stopped_backup(file: &str, data_dir: &Path, database_url: Option<&str>) -> Option<(Child, u64)> {
    let mut backup = command(&["backup", file], data_dir, database_url).spawn().unwrap();
    let dir = Path::new(file).parent().unwrap();
    let draft_bytes = || {
        let mut drafts = std::fs::read_dir(dir).unwrap().flatten();
        drafts
            .find(|draft| draft.path() != Path::new(file))
            .map_or(0, |draft| draft.metadata().map_or(0, |draft| draft.len()))
    };
    loop {
        let held = draft_bytes();
        if held > 0 {
            kill(pid_of(&backup), Signal::SIGSTOP).unwrap();
            let held = draft_bytes();
            if held > 0 {
                return Some((backup, held));
            }
            kill(pid_of(&backup), Signal::SIGCONT).unwrap();
        }
        if let Some(status) = backup.try_wait().unwrap() {
            assert!(status.success());
            return None;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn backup_of_either_database_restores_into_either() {
    let (from, to) = (Postgres::start(), Postgres::start());
    for source in [None, Some(from.url())] {
        let installation = Installation::start(source.as_deref()).await;
        let (mcpd, data_dir) = (&installation.mcpd, installation.mcpd.data_dir());
        let admin = mcpd.admin();
        let before = resources(mcpd, &admin).await;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("nightly.backup");
        let name = file.to_str().unwrap();
        let output = done(&["backup", name], &data_dir, source.as_deref());
        assert!(output.contains(&format!("{name}: the store as it was at ")), "{output}");
        assert!(output.contains("read back and checked"), "{output}");
        assert_eq!(files(dir.path()), ["nightly.backup"]);
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let bytes = std::fs::read(&file).unwrap();
        assert!(bytes.starts_with(b"mcpd backup 1\n"));
        assert!(!bytes.windows(5).any(|part| part == b"alice"), "the backup is encrypted");
        let verified = done(&["backup", "--verify", name], &data_dir, source.as_deref());
        assert!(verified.contains(": whole, "), "{verified}");

        for target in [None, Some(to.url())] {
            let key = installation.key_file();
            let words = ["restore", name, "--replace", "-y", "--master-key-file", key.to_str().unwrap()];
            let restored_dir = tempfile::tempdir().unwrap();
            let restored_dir = restored_dir.path().join("data");
            let output = done(&words, &restored_dir, target.as_deref());
            assert!(output.contains("compared with the backup"), "{output}");
            assert!(output.contains("warning: what was changed after "), "{output}");
            let mut options = options(target.as_deref());
            options.data_dir = Some(restored_dir);
            options.master_key_file = Some(key);
            let mut restored = Mcpd::start_with(options).await;
            assert_eq!(resources(&restored, &admin).await, before);
            assert_eq!(installation.chat(&restored).await, StatusCode::OK);
            let rows = restored.get("/api/v1/audit?action=restore", &admin).await;
            let rows: Value = rows.json().await.unwrap();
            assert_eq!(rows["items"].as_array().unwrap().len(), 1, "{rows}");
            restored.terminate();
            restored.wait();
        }
    }
}

/// Each commit makes two users. A backup that is taken meanwhile has both or none of each pair, and none waits for it: it is halted amid
/// its work until more were acknowledged.
#[tokio::test]
async fn backup_beside_writes_is_of_one_moment_and_holds_up_none() {
    let postgres = Postgres::start();
    for database_url in [None, Some(postgres.url())] {
        let installation = Installation::start(database_url.as_deref()).await;
        let (mcpd, data_dir) = (&installation.mcpd, installation.mcpd.data_dir());
        let admin = mcpd.admin();
        // So many bytes that a backup takes a while.
        let values: serde_json::Map<String, Value> =
            (0..8).map(|at| (format!("key-{at}"), "x".repeat(60_000).into())).collect();
        for at in 0..4 {
            let secret = json!({"kind": "Secret", "name": format!("large-{at}"), "data": values.clone()});
            mcpd.apply(json!([secret])).await;
        }
        let (ended, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let writer = tokio::spawn({
            let request = mcpd.request(Method::POST, "/api/v1/apply?skipCheck=true", &admin);
            let (ended, written) = (Arc::clone(&ended), Arc::clone(&written));
            async move {
                for at in 0.. {
                    let user = |side| json!({"kind": "User", "name": format!("pair-{at}-{side}")});
                    let request = request.try_clone().unwrap().json(&json!([user("a"), user("b")]));
                    assert_eq!(request.send().await.unwrap().status(), StatusCode::OK);
                    written.fetch_add(1, Ordering::SeqCst);
                    if ended.load(Ordering::SeqCst) {
                        return;
                    }
                }
            }
        });
        let more_pairs = async |count: usize| {
            let before = written.load(Ordering::SeqCst);
            let more = || written.load(Ordering::SeqCst) - before;
            eventually("pairs are acknowledged", async || (more() > count).then_some(())).await;
        };
        more_pairs(5).await;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("backup").to_str().unwrap().to_owned();
        let mut attempts = 1..=10;
        loop {
            assert!(attempts.next().is_some(), "no backup could be stopped before it was whole");
            if let Some(stopped) = stopped_backup(&file, &data_dir, database_url.as_deref()).await {
                let (mut backup, held) = stopped;
                more_pairs(5).await;
                kill(pid_of(&backup), Signal::SIGCONT).unwrap();
                let status = tokio::task::spawn_blocking(move || backup.wait().unwrap()).await.unwrap();
                assert!(status.success());
                if held < std::fs::metadata(&file).unwrap().len() {
                    break;
                }
            }
            std::fs::remove_file(&file).unwrap();
        }
        ended.store(true, Ordering::SeqCst);
        writer.await.unwrap();

        let restored_dir = dir.path().join("data");
        let key = installation.key_file();
        done(&["restore", &file, "--master-key-file", key.to_str().unwrap()], &restored_dir, None);
        let mut options = options(None);
        options.data_dir = Some(restored_dir);
        options.master_key_file = Some(key);
        let restored = Mcpd::start_with(options).await;
        let users = resources(&restored, &admin).await["users"].take();
        let names: Vec<&str> =
            users.as_array().unwrap().iter().filter_map(|user| user["name"].as_str()).collect();
        let pairs = names.iter().filter_map(|name| name.strip_suffix("-a"));
        let halves = names.iter().filter(|name| name.starts_with("pair-")).count();
        assert!(halves > 10, "{names:?}");
        assert_eq!(halves, 2 * pairs.filter(|pair| names.contains(&format!("{pair}-b").as_str())).count());
        // Another table, of the same moment.
        let rows = restored.get("/api/v1/audit?action=create&limit=1000", &admin).await;
        let rows: Value = rows.json().await.unwrap();
        let recorded = rows["items"].as_array().unwrap().iter();
        let recorded =
            recorded.filter(|row| row["resourceName"].as_str().unwrap().starts_with("pair-")).count();
        assert_eq!(recorded, halves);
    }
}

#[tokio::test]
async fn backup_to_standard_output_is_the_same_and_leaves_nothing() {
    let mut installation = Installation::start(None).await;
    let data_dir = installation.mcpd.data_dir();
    let before = files(&data_dir);
    let piped = command(&["backup", "-"], &data_dir, None).output().unwrap();
    assert!(piped.status.success());
    assert!(piped.stdout.starts_with(b"mcpd backup 1\n"));
    assert!(String::from_utf8(piped.stderr).unwrap().contains("read back and checked"));
    assert_eq!(files(&data_dir), before);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("piped");
    std::fs::write(&file, piped.stdout).unwrap();
    done(&["backup", "--verify", file.to_str().unwrap()], &data_dir, None);

    // A stopped mcpd is backed up too, and what it wrote last is in it.
    installation.stop();
    let file = dir.path().join("stopped");
    done(&["backup", file.to_str().unwrap()], &data_dir, None);
    done(&["backup", "--verify", file.to_str().unwrap()], &data_dir, None);
}

/// What people do instead of a backup, and what works where mcpd has ended by itself.
#[tokio::test]
async fn file_of_a_stopped_mcpd_is_all_of_it() {
    let mut installation = Installation::start(None).await;
    let (data_dir, admin) = (installation.mcpd.data_dir(), installation.mcpd.admin());
    let before = resources(&installation.mcpd, &admin).await;
    installation.stop();
    let log = data_dir.join("mcpd.sqlite-wal");
    assert!(!log.exists(), "{} bytes", log.metadata().unwrap().len());
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("mcpd.sqlite");
    std::fs::copy(data_dir.join("mcpd.sqlite"), &copy).unwrap();
    // So do commands that write beside a stopped one.
    done(&["bootstrap-token"], &data_dir, None);
    assert!(!log.exists());
    let mut options = options(None);
    (options.data_dir, options.master_key_file) =
        (Some(dir.path().to_owned()), Some(installation.key_file()));
    let mcpd = Mcpd::start_with(options).await;
    assert_eq!(resources(&mcpd, &admin).await, before);
    assert_eq!(installation.chat(&mcpd).await, StatusCode::OK);
}

#[tokio::test]
async fn backup_that_cannot_be_written_leaves_the_earlier_one() {
    let installation = Installation::start(None).await;
    let data_dir = installation.mcpd.data_dir();
    let dir = tempfile::tempdir().unwrap();
    for (file, expected) in [
        (dir.path().join("absent/backup"), "check the name, and that its directory exists"),
        (dir.path().to_owned(), "is not a regular file"),
        ("/dev/null".into(), "is not a regular file"),
    ] {
        let output = crate::installation::refused(&["backup", file.to_str().unwrap()], &data_dir, None);
        assert!(output.contains(expected), "{output}");
    }
    // Files of the installation, there or not, and others that are no backup.
    let other = dir.path().join("mcpd.yaml");
    std::fs::write(&other, "listen: 127.0.0.1:3100").unwrap();
    for (file, expected) in [
        (data_dir.join("master-key"), "is a file of this mcpd"),
        (data_dir.join("master-key.next"), "is a file of this mcpd"),
        (data_dir.join("../data/mcpd.sqlite"), "is a file of this mcpd"),
        (data_dir.join("mcpd.sqlite-wal"), "is a file of this mcpd"),
        (data_dir.join("mcpd.sqlite-journal"), "is a file of this mcpd"),
        (data_dir.join("bootstrap-token"), "exists and is not a backup"),
        (other, "exists and is not a backup"),
    ] {
        let before = std::fs::read(&file).ok();
        let output = crate::installation::refused(&["backup", file.to_str().unwrap()], &data_dir, None);
        assert!(output.contains(expected) && output.contains("hint: name another file"), "{output}");
        assert_eq!(std::fs::read(&file).ok(), before);
    }
    let file = dir.path().join("backup");
    std::fs::write(&file, []).unwrap();
    done(&["backup", file.to_str().unwrap()], &data_dir, None);
    done(&["backup", file.to_str().unwrap()], &data_dir, None);
    let earlier = std::fs::read(&file).unwrap();
    std::fs::rename(data_dir.join("master-key"), data_dir.join("away")).unwrap();
    crate::installation::refused(&["backup", file.to_str().unwrap()], &data_dir, None);
    assert_eq!(std::fs::read(&file).unwrap(), earlier);
    assert_eq!(files(dir.path()), ["backup", "mcpd.yaml"]);
}
