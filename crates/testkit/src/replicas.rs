//! Two replicas of mcpd on one PostgreSQL.

use tempfile::TempDir;

use crate::{
    daemons::{Mcpd, McpdOptions},
    postgres::Postgres,
};

/// Two replicas of mcpd on one PostgreSQL, which may reach model servers on this machine. Fields are dropped in this order: the
/// daemons end before their database.
pub struct Replicas {
    /// The one that was started first; its `admin` token is good at both.
    pub one: Mcpd,
    /// The other one.
    pub two: Mcpd,
    /// Their database.
    pub postgres: Postgres,
    /// The folder of their `master-key`.
    pub key: TempDir,
}

impl Replicas {
    /// Starts both.
    pub async fn start() -> Self {
        Self::start_with("").await
    }

    /// As [`Replicas::start`], with more lines of configuration.
    pub async fn start_with(lines: &str) -> Self {
        let postgres = Postgres::start();
        let key = tempfile::tempdir().expect("a temporary directory");
        let file = key.path().join("master-key");
        // Replicas share a key, so it is made before either starts; a single daemon makes its own.
        let single = Mcpd::start().await;
        std::fs::copy(single.data_dir().join("master-key"), &file).expect("the key");
        let options = McpdOptions {
            config: Some(format!("upstreamAddresses: {{loopback: true}}\n{lines}")),
            database_url: Some(postgres.url()),
            master_key_file: Some(file),
            ..McpdOptions::default()
        };
        let one = Mcpd::start_with(options.clone()).await;
        let two = Mcpd::start_with(options).await;
        Self { one, two, postgres, key }
    }
}
