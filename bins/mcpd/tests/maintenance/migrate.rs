//! `mcpd migrate` from SQLite to PostgreSQL and back.

use mcpctl_testkit::{daemons::Mcpd, postgres::Postgres};
use reqwest::StatusCode;
use serde_json::json;

use crate::installation::{Installation, done, options, refused, resources};

#[tokio::test]
async fn store_moves_to_postgres_and_back() {
    let postgres = Postgres::start();
    let url = postgres.url();
    let mut installation = Installation::start(None).await;
    let (data_dir, admin) = (installation.mcpd.data_dir(), installation.mcpd.admin());
    let before = resources(&installation.mcpd, &admin).await;
    let output = refused(&["migrate", "--to", &url], &data_dir, None);
    assert!(output.contains("served by another mcpd"), "{output}");
    installation.stop();
    let output = done(&["migrate", "--to", &url], &data_dir, None);
    assert!(output.contains("and compared both") && output.contains("--database-url-file"), "{output}");
    let output = refused(&["migrate", "--to", &url], &data_dir, None);
    assert!(output.contains("is not empty"), "{output}");

    let mut shared = options(Some(&url));
    shared.data_dir = Some(data_dir.clone());
    let mut moved = Mcpd::start_with(shared).await;
    assert_eq!(resources(&moved, &admin).await, before);
    assert_eq!(installation.chat(&moved).await, StatusCode::OK);
    moved.apply(json!([{"kind": "User", "name": "bob"}])).await;
    let before = resources(&moved, &admin).await;
    let back = tempfile::tempdir().unwrap();
    let back = back.path().join("data");
    let key = installation.key_file();
    let words = ["migrate", "--to", "sqlite", "--master-key-file", key.to_str().unwrap()];
    let output = refused(&words, &back, Some(&url));
    assert!(output.contains("mcpd runs on the database"), "{output}");
    moved.terminate();
    moved.wait();
    // The first file is still there.
    let output = refused(&words, &data_dir, Some(&url));
    assert!(output.contains("is not empty"), "{output}");
    done(&words, &back, Some(&url));
    let mut file = options(None);
    file.data_dir = Some(back);
    file.master_key_file = Some(key);
    let returned = Mcpd::start_with(file).await;
    assert_eq!(resources(&returned, &admin).await, before);
    assert_eq!(installation.chat(&returned).await, StatusCode::OK);
    let carol = json!({"name": "carol"});
    assert_eq!(returned.post("/api/v1/users", &admin, &carol).await.status(), StatusCode::CREATED);

    // The source is as it was.
    installation.mcpd.restart().await;
    assert_eq!(installation.chat(&installation.mcpd).await, StatusCode::OK);
}
