//! What a record costs in a database of any size: `records fill DIR ROWS`, then `records time DIR`; `records load DIR` for
//! profiles.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use mcpctl_api::{Id, Kind, Revision};
use mcpctl_store::{AuditRow, Decision, Durability, Location, Ownership, Recorder, Store, UsageRow};

/// Requests one after the other, and of each of the callers at once.
const REQUESTS: usize = 5000;
const CALLERS: usize = 32;
const ACCOUNTS: usize = 200;

#[tokio::main]
async fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["fill", dir, rows] => fill(&open(dir.as_ref()).await, rows.parse().unwrap()).await,
        ["time", dir] => time(&open(dir.as_ref()).await).await,
        ["load", dir] => {
            let recorder = Recorder::new(open(dir.as_ref()).await, Durability::Crash);
            many_callers(&recorder).await;
            recorder.close().await;
        }
        _ => println!("records fill DIR ROWS | records time DIR | records load DIR"),
    }
}

async fn open(dir: &Path) -> Store {
    let database: PathBuf = dir.join("mcpd.sqlite");
    let ownership = Ownership::take(&database).unwrap();
    let store = Store::open_with_key_file(&Location::Sqlite(database), &dir.join("master-key")).await;
    store.unwrap().owned(ownership)
}

/// Accounts, and what they are recorded by.
struct Rows {
    accounts: Vec<(Id, Id)>,
    llm: Id,
}

impl Rows {
    fn new() -> Self {
        Self { accounts: (0..ACCOUNTS).map(|_| (Id::mint(), Id::mint())).collect(), llm: Id::mint() }
    }

    fn audit(&self, n: usize, at: Timestamp) -> AuditRow {
        let (account, token) = &self.accounts[n % ACCOUNTS];
        AuditRow {
            id: uuid::Uuid::now_v7(),
            at,
            principal: format!("User user-{}", n % ACCOUNTS),
            principal_id: Some(account.clone()),
            token_id: Some(token.clone()),
            action: if n.is_multiple_of(2) { "run" } else { "view" }.to_owned(),
            kind: Kind::Llm,
            resource_id: Some(self.llm.clone()),
            resource_name: "claude".to_owned(),
            decision: Decision::Allowed,
            reason: String::new(),
            revision: Revision(7),
            request_id: format!("{n:032x}"),
        }
    }

    fn usage(&self, n: usize, at: Timestamp) -> UsageRow {
        UsageRow {
            id: uuid::Uuid::now_v7(),
            at,
            principal: format!("User user-{}", n % ACCOUNTS),
            principal_id: Some(self.accounts[n % ACCOUNTS].1.clone()),
            token_id: self.accounts[n % ACCOUNTS].1.clone(),
            llm_id: self.llm.clone(),
            llm_name: "claude".to_owned(),
            model: "claude-sonnet-4".to_owned(),
            target: None,
            input_tokens: 1000,
            output_tokens: 100,
            cached_input_tokens: 0,
            cache_write_input_tokens: 0,
            reasoning_tokens: 0,
            estimated: false,
            cost_nanos: Some(4_500_000),
            stream: true,
            outcome: "ok".to_owned(),
            status: 200,
            attempts: 1,
            begins: true,
            fallback: false,
            duration_ms: 900,
            request_id: format!("{n:032x}"),
        }
    }
}

/// Adds as many rows to both tables together, over the last 500 days.
async fn fill(store: &Store, count: usize) {
    const BATCH: usize = 2000;
    let (rows, recorder) = (Rows::new(), Recorder::new(store.clone(), Durability::Crash));
    let begin = Timestamp::now() - SignedDuration::from_hours(500 * 24);
    let step = SignedDuration::from_hours(500 * 24).as_micros() / i128::try_from(count / 2).unwrap();
    let at = |n: usize| {
        begin + SignedDuration::from_micros(i64::try_from(step).unwrap() * i64::try_from(n).unwrap())
    };
    for from in (0..count / 2).step_by(BATCH) {
        recorder.audit((from..from + BATCH).map(|n| rows.audit(n, at(n))).collect()).await.unwrap();
        recorder.usage((from..from + BATCH).map(|n| rows.usage(n, at(n))).collect()).await.unwrap();
    }
    recorder.close().await;
}

async fn time(store: &Store) {
    let recorder = Recorder::new(store.clone(), Durability::Crash);
    one_caller("one caller", &recorder).await;
    many_callers(&recorder).await;

    let pruning = tokio::spawn({
        let store = store.clone();
        async move {
            let before = Timestamp::now() - SignedDuration::from_hours(400 * 24);
            let began = Instant::now();
            let (mut removed, mut longest) = (0, Duration::ZERO);
            while began.elapsed() < Duration::from_secs(10) {
                let batch = Instant::now();
                let here = store.prune_audit(before, 100).await.unwrap()
                    + store.prune_usage(before, 100).await.unwrap();
                longest = longest.max(batch.elapsed());
                removed += here;
                if here == 0 {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            println!("retention: {removed} rows in {:?}, the longest batch {longest:?}", began.elapsed());
        }
    });
    one_caller("one caller beside retention", &recorder).await;
    pruning.await.unwrap();
    recorder.close().await;
}

async fn many_callers(recorder: &Recorder) {
    let began = Instant::now();
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let recorder = recorder.clone();
            tokio::spawn(async move {
                let rows = Rows::new();
                for n in 0..REQUESTS {
                    recorder.audit(vec![rows.audit(n, Timestamp::now())]).await.unwrap();
                    recorder.usage(vec![rows.usage(n, Timestamp::now())]).await.unwrap();
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    let per_second = f64::from(u32::try_from(CALLERS * REQUESTS).unwrap()) / began.elapsed().as_secs_f64();
    println!("{CALLERS} callers: {per_second:.0} requests/s");
}

async fn one_caller(what: &str, recorder: &Recorder) {
    let rows = Rows::new();
    let mut times = Vec::with_capacity(REQUESTS);
    for n in 0..REQUESTS {
        let began = Instant::now();
        recorder.audit(vec![rows.audit(n, Timestamp::now())]).await.unwrap();
        recorder.usage(vec![rows.usage(n, Timestamp::now())]).await.unwrap();
        times.push(began.elapsed());
    }
    times.sort_unstable();
    let at = |part: usize| times[(times.len() - 1) * part / 1000];
    println!("{what}: both rows of a request p50 {:?}, p99 {:?}, p99.9 {:?}", at(500), at(990), at(999));
}
