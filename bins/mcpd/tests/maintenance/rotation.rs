//! `mcpd rotate-master-key`, complete and interrupted.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use mcpctl_secret::envelope::{Keyring, MasterKey};
use mcpctl_store::{Location, Store};
use mcpctl_testkit::{daemons::eventually, postgres::Postgres};
use reqwest::StatusCode;
use serde_json::json;

use crate::installation::{Installation, done, refused};

/// The old key that a rotation has kept.
fn kept(data_dir: &Path) -> PathBuf {
    let mut kept = fs::read_dir(data_dir).unwrap().map(|entry| entry.unwrap().path()).filter(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with("master-key.") && name != "master-key.next"
    });
    let found = kept.next().expect("the old key");
    assert_eq!(kept.next(), None);
    found
}

#[tokio::test]
async fn rotation_seals_everything_with_a_new_key() {
    let postgres = Postgres::start();
    for database_url in [None, Some(postgres.url())] {
        let database_url = database_url.as_deref();
        let mut installation = Installation::start(database_url).await;
        let (data_dir, key) = (installation.mcpd.data_dir(), installation.key_file());
        let old = fs::read_to_string(&key).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let backup = dir.path().join("before").to_str().unwrap().to_owned();
        done(&["backup", &backup], &data_dir, database_url);
        let output = refused(&["rotate-master-key"], &data_dir, database_url);
        assert!(output.contains("served by another mcpd") || output.contains("mcpd runs on"), "{output}");
        installation.stop();

        let output = done(&["rotate-master-key"], &data_dir, database_url);
        assert!(output.contains("1 secret and 2 signing keys are sealed"), "{output}");
        assert_ne!(fs::read_to_string(&key).unwrap(), old);
        assert_eq!(key.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_to_string(kept(&data_dir)).unwrap(), old);
        assert!(!data_dir.join("master-key.next").exists());
        assert!(done(&["fsck"], &data_dir, database_url).contains("ok"));
        installation.mcpd.restart().await;
        assert_eq!(installation.chat(&installation.mcpd).await, StatusCode::OK);
        installation.mcpd.apply(json!([{"kind": "Secret", "name": "new", "data": {"token": "sk-2"}}])).await;
        installation.stop();

        // A replica with the old key does not start; the old key opens the earlier backup.
        let old_key = kept(&data_dir);
        let old_key = old_key.to_str().unwrap();
        let words = ["serve", "--listen", "127.0.0.1:0", "--master-key-file", old_key];
        let output = refused(&words, &data_dir, database_url);
        assert!(output.contains("the master key is not the one"), "{output}");
        let output = refused(&["backup", "--verify", &backup], &data_dir, database_url);
        assert!(output.contains("after `mcpd rotate-master-key` that is the old one"), "{output}");
        done(&["backup", "--verify", &backup, "--master-key-file", old_key], &data_dir, database_url);
    }
}

/// A replica that was started before the rotation, on another machine.
#[tokio::test]
async fn replica_with_the_earlier_key_is_not_ready_and_names_the_next_step() {
    let installation = Installation::start(None).await;
    let mcpd = &installation.mcpd;
    assert_eq!(mcpd.get("/readyz", "").await.status(), StatusCode::OK);
    let key = MasterKey::from_text(&fs::read_to_string(installation.key_file()).unwrap()).unwrap();
    let location = Location::Sqlite(mcpd.data_dir().join("mcpd.sqlite"));
    let store = Store::open(&location, Arc::new(Keyring::new(key))).await.unwrap();
    store.rotate_master_key(MasterKey::generate().unwrap()).await.unwrap();
    let reason = "the master key was rotated, and this mcpd has the old one";
    eventually("it is not ready", async || {
        let answer = mcpd.get("/readyz", "").await;
        (answer.status() == StatusCode::SERVICE_UNAVAILABLE).then_some(())
    })
    .await;
    let start = Instant::now();
    eventually("it was tried again", async || {
        let body = mcpd.get("/readyz", "").await.text().await.unwrap();
        assert!(body.contains(reason) && body.contains("copy the new master key"), "{body}");
        // A result is used for a second.
        (start.elapsed().as_secs() >= 2).then_some(())
    })
    .await;
    assert_eq!(mcpd.log().matches("not ready").count(), 1, "{}", mcpd.log());
    let secret = json!({"name": "new", "data": {"token": "sk-2"}});
    let refused = mcpd.post("/api/v1/secrets", &mcpd.admin(), &secret).await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    let body = refused.text().await.unwrap();
    assert!(body.contains(reason) && body.contains("copy the new master key"), "{body}");
}

#[tokio::test]
async fn interrupted_rotation_leaves_a_key_that_opens_the_store() {
    let mut installation = Installation::start(None).await;
    let (data_dir, key) = (installation.mcpd.data_dir(), installation.key_file());
    let next = data_dir.join("master-key.next");
    installation.stop();

    // After the commit, before the files changed places.
    done(&["rotate-master-key"], &data_dir, None);
    let rotated = fs::read_to_string(&key).unwrap();
    let undo = || {
        fs::rename(&key, &next).unwrap();
        fs::rename(kept(&data_dir), &key).unwrap();
    };
    undo();
    // Every command finds the key of the store beside the old one, and leaves both where they are.
    let dir = tempfile::tempdir().unwrap();
    let backup = dir.path().join("backup").to_str().unwrap().to_owned();
    let postgres = Postgres::start();
    let (old, file) = (fs::read_to_string(&key).unwrap(), key.to_str().unwrap());
    done(&["backup", &backup], &data_dir, None);
    done(&["backup", "--verify", &backup], &data_dir, None);
    assert!(!done(&["fsck"], &data_dir, None).contains("problem"));
    done(&["migrate", "--to", &postgres.url()], &data_dir, None);
    assert!(!done(&["fsck"], &data_dir, Some(&postgres.url())).contains("problem"));
    done(&["restore", &backup, "--master-key-file", file], &dir.path().join("data"), None);
    done(&["restore", &backup, "--replace", "-y"], &data_dir, None);
    assert_eq!(fs::read_to_string(&key).unwrap(), old);
    assert_eq!(fs::read_to_string(&next).unwrap(), rotated);
    // Without it, the store is good all the same, and the next step is no restore.
    fs::rename(&next, data_dir.join("away")).unwrap();
    let output = refused(&["fsck"], &data_dir, None);
    assert!(output.contains("completes a rotation") && !output.contains("mcpd restore"), "{output}");
    fs::rename(data_dir.join("away"), &next).unwrap();
    installation.mcpd.restart().await;
    assert_eq!(installation.chat(&installation.mcpd).await, StatusCode::OK);
    assert_eq!(fs::read_to_string(&key).unwrap(), rotated);
    assert!(!next.exists());
    installation.stop();
    undo();
    let output = done(&["rotate-master-key"], &data_dir, None);
    assert!(output.contains("completed: "), "{output}");
    assert_eq!(fs::read_to_string(&key).unwrap(), rotated);

    // Before the commit: the prepared key is used by the next attempt.
    fs::remove_file(kept(&data_dir)).unwrap();
    let prepared = tempfile::tempdir().unwrap();
    done(&["master-key", "new", "--file", next.to_str().unwrap()], prepared.path(), None);
    let prepared = fs::read_to_string(&next).unwrap();
    installation.mcpd.restart().await;
    assert_eq!(installation.chat(&installation.mcpd).await, StatusCode::OK);
    assert_eq!(fs::read_to_string(&key).unwrap(), rotated);
    installation.stop();
    done(&["rotate-master-key"], &data_dir, None);
    assert_eq!(fs::read_to_string(&key).unwrap(), prepared);
    installation.mcpd.restart().await;
    assert_eq!(installation.chat(&installation.mcpd).await, StatusCode::OK);
}
