//! `mcpd migrate` from SQLite to PostgreSQL and back.

use mcpctl_testkit::{daemons::Mcpd, postgres::Postgres};
use reqwest::StatusCode;
use serde_json::json;
use sqlx::Connection as _;

use crate::installation::{Installation, done, options, refused, resources};

/// The connection that listens for changes may be lost at the moment at which a command looks for it.
#[tokio::test]
async fn mcpd_whose_listener_is_gone_is_noticed() {
    let postgres = Postgres::start();
    let url = postgres.url();
    let installation = Installation::start(Some(&url)).await;
    let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
    let cutting = tokio::spawn(async move {
        let cut =
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'mcpd listens'";
        loop {
            sqlx::raw_sql(cut).execute(&mut connection).await.unwrap();
            tokio::task::yield_now().await;
        }
    });
    let key = installation.key_file();
    let dir = tempfile::tempdir().unwrap();
    let words = ["migrate", "--to", "sqlite", "--master-key-file", key.to_str().unwrap()];
    let target = dir.path().join("data");
    let refused = tokio::task::spawn_blocking({
        let (words, url) = (words.map(str::to_owned), url.clone());
        move || refused(&words.each_ref().map(String::as_str), &target, Some(&url))
    });
    let output = refused.await.unwrap();
    assert!(output.contains("mcpd runs on the database"), "{output}");
    cutting.abort();
}

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
