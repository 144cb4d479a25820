//! Fills an SQLite store with records, as inferences write them: two rows of audit and one of usage each.

use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use mcpctl_api::{Id, Kind, Revision};
use mcpctl_store::{AuditRow, Decision, Durability, Location, Recorder, Store, UsageRow};
use uuid::Uuid;

/// Rows of one transaction.
const BATCH: usize = 500;
const ACCOUNTS: usize = 200;

/// Records until the file has this size, and returns how many rows.
pub async fn fill(data_dir: &Path, mebibytes: u64) -> usize {
    let file = data_dir.join("mcpd.sqlite");
    let location = Location::Sqlite(file.clone());
    let store = Store::open_with_key_file(&location, &data_dir.join("master-key")).await.unwrap();
    let recorder = Recorder::new(store.clone(), Durability::Crash);
    let accounts: Vec<(Id, Id)> = (0..ACCOUNTS).map(|_| (Id::mint(), Id::mint())).collect();
    let (llm, begun) = (Id::mint(), Timestamp::now() - SignedDuration::from_hours(24 * 90));
    let mut at = 0;
    while file.metadata().unwrap().len() < mebibytes << 20 {
        let (mut audit, mut usage) = (Vec::new(), Vec::new());
        for n in at..at + BATCH {
            let time = begun + SignedDuration::from_secs(i64::try_from(n % 7_000_000).unwrap());
            let (account, token) = &accounts[n % ACCOUNTS];
            for action in ["view", "run"] {
                audit.push(AuditRow {
                    id: Uuid::now_v7(),
                    at: time,
                    principal: format!("User user-{}", n % ACCOUNTS),
                    principal_id: Some(account.clone()),
                    token_id: Some(token.clone()),
                    action: action.to_owned(),
                    kind: Kind::Llm,
                    resource_id: Some(llm.clone()),
                    resource_name: "gpt".to_owned(),
                    decision: Decision::Allowed,
                    reason: String::new(),
                    revision: Revision(7),
                    request_id: Uuid::now_v7().to_string(),
                });
            }
            usage.push(UsageRow {
                id: Uuid::now_v7(),
                at: time,
                principal: format!("User user-{}", n % ACCOUNTS),
                principal_id: Some(account.clone()),
                token_id: token.clone(),
                llm_id: llm.clone(),
                llm_name: "gpt".to_owned(),
                model: "gpt-5".to_owned(),
                target: None,
                input_tokens: 900 + n as u64 % 311,
                output_tokens: 200 + n as u64 % 97,
                cached_input_tokens: 0,
                cache_write_input_tokens: 0,
                reasoning_tokens: 0,
                estimated: false,
                cost_nanos: Some(3_000_000),
                stream: true,
                outcome: "ok".to_owned(),
                status: 200,
                attempts: 1,
                begins: true,
                fallback: false,
                duration_ms: 2_000,
                request_id: Uuid::now_v7().to_string(),
            });
        }
        recorder.audit(audit).await.unwrap();
        recorder.usage(usage).await.unwrap();
        at += BATCH;
    }
    recorder.close().await;
    store.sync().await.unwrap();
    store.close().await;
    3 * at
}
