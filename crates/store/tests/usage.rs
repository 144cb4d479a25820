//! Sums of usage on SQLite and on PostgreSQL: each row counts once, whenever it comes and whatever ends meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

#[path = "support/database.rs"]
mod database;

use std::time::Duration;

use database::Database;
use jiff::{SignedDuration, Timestamp};
use mcpctl_api::Id;
use mcpctl_store::{
    Durability, Recorder, Store, UsageAccount, UsageFilter, UsagePart, UsageParts, UsageQuery, UsageRow,
    UsageSums,
};
use uuid::Uuid;

const HOUR: i64 = 3600;

/// An hour in 2027.
fn hour(number: i64) -> Timestamp {
    Timestamp::from_second((500_000 + number) * HOUR + 60).unwrap()
}

fn row(account: &Id, llm: &Id, at: Timestamp) -> UsageRow {
    UsageRow {
        id: Uuid::now_v7(),
        at,
        principal: "User ann".to_owned(),
        principal_id: Some(account.clone()),
        token_id: account.clone(),
        llm_id: llm.clone(),
        llm_name: "claude".to_owned(),
        model: "claude-4".to_owned(),
        target: None,
        input_tokens: 100,
        output_tokens: 10,
        cached_input_tokens: 5,
        cache_write_input_tokens: 3,
        reasoning_tokens: 2,
        estimated: false,
        cost_nanos: Some(7),
        stream: false,
        outcome: "ok".to_owned(),
        status: 200,
        attempts: 1,
        begins: true,
        fallback: false,
        duration_ms: 1,
        request_id: String::new(),
    }
}

async fn parts(store: &Store, query: UsageQuery) -> Vec<UsagePart> {
    let mut parts = Vec::new();
    let query = UsageQuery { until: i64::MAX, ..query };
    store
        .usage_sums(&query, |part| {
            parts.push(part);
            true
        })
        .await
        .unwrap();
    parts.sort_by_key(|part| (part.hour, part.principal.clone(), part.llm_name.clone(), part.model.clone()));
    parts
}

async fn requests(store: &Store) -> u64 {
    parts(store, UsageQuery::default()).await[0].sums.requests
}

async fn sums_are_those_of_the_rows(database: Database) {
    let store = database.open().await;
    let recorder = Recorder::new(store.clone(), Durability::default());
    let [ann, claude, gpt] = [(); 3].map(|()| Id::mint());
    assert_eq!(parts(&store, UsageQuery::default()).await[0].sums, UsageSums::default(), "none yet");
    let failed = UsageRow { outcome: "connect".to_owned(), ..row(&ann, &claude, hour(1)) };
    let fallback = UsageRow {
        llm_name: "gpt".to_owned(),
        begins: false,
        fallback: true,
        cost_nanos: None,
        estimated: true,
        ..row(&ann, &gpt, hour(1))
    };
    let cancelled = UsageRow { outcome: "cancelled".to_owned(), ..row(&ann, &claude, hour(2)) };
    let old =
        UsageRow { principal_id: None, principal: "User bob".to_owned(), ..row(&ann, &claude, hour(25)) };
    recorder.usage(vec![failed, fallback, cancelled, old]).await.unwrap();
    assert_eq!(store.count_usage(3).await.unwrap(), 3);
    assert_eq!(store.count_usage(3).await.unwrap(), 1);
    assert_eq!(store.count_usage(3).await.unwrap(), 0);

    let all = &parts(&store, UsageQuery::default()).await[0];
    let expected = UsageSums {
        requests: 3,
        fallbacks: 1,
        failures: 1,
        input_tokens: 400,
        output_tokens: 40,
        cached_input_tokens: 20,
        cache_write_input_tokens: 12,
        reasoning_tokens: 8,
        estimated: 1,
        unpriced: 1,
        cost_nanos: 21,
    };
    assert_eq!((all.sums, all.principal.as_str(), all.hour), (expected, "", 0));

    let every = UsageParts { account: true, llm: true, model: true, hours: Some(24) };
    let found = parts(&store, UsageQuery { parts: every, ..UsageQuery::default() }).await;
    let shown: Vec<_> = found
        .iter()
        .map(|part| {
            (part.hour - 500_000, part.principal.as_str(), part.llm_name.as_str(), part.sums.requests)
        })
        .collect();
    // 500,000 hours are no whole days.
    assert_eq!(
        shown,
        [(-8, "User ann", "claude", 2), (-8, "User ann", "gpt", 0), (16, "User bob", "claude", 1)]
    );
    assert_eq!((found[0].account.as_ref(), found[2].account.as_ref()), (Some(&ann), None));

    let of = async |query: UsageQuery| parts(&store, query).await[0].sums.requests;
    assert_eq!(of(UsageQuery { since: 500_002, ..UsageQuery::default() }).await, 2);
    assert_eq!(
        of(UsageQuery { account: Some(UsageAccount::Id(ann.clone())), ..UsageQuery::default() }).await,
        2
    );
    let named = UsageAccount::Named("User bob".to_owned());
    assert_eq!(of(UsageQuery { account: Some(named), ..UsageQuery::default() }).await, 1);
    for llm in [claude.to_string(), "claude".to_owned()] {
        assert_eq!(of(UsageQuery { llm: Some(llm), ..UsageQuery::default() }).await, 3);
    }
    let mut taken = 0;
    let some = |_| {
        taken += 1;
        taken < 2
    };
    store
        .usage_sums(&UsageQuery { until: i64::MAX, parts: every, ..UsageQuery::default() }, some)
        .await
        .unwrap();
    assert_eq!(taken, 2, "a reader stops where it wants");
}

/// Rows are recorded by two replicas, some of them late, while both replicas count, and often are interrupted.
async fn every_row_counts_once(database: Database) {
    const WRITERS: i64 = 4;
    const ROWS: i64 = 60;
    let stores = [database.open().await, database.open().await];
    let (ann, claude) = (Id::mint(), Id::mint());
    let writers = (0..WRITERS).map(|writer| {
        let recorder = Recorder::new(stores[usize::from(writer % 2 == 0)].clone(), Durability::default());
        let (ann, claude) = (ann.clone(), claude.clone());
        tokio::spawn(async move {
            for n in 0..ROWS {
                // Hours of different ages, the oldest last.
                let late = SignedDuration::from_hours(n * writer);
                recorder.usage(vec![row(&ann, &claude, hour(1000) - late)]).await.unwrap();
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    let counters: Vec<_> = stores
        .iter()
        .cloned()
        .map(|store| {
            tokio::spawn(async move {
                for n in 0_u64.. {
                    // At another point each time: before it begins, within it, after it.
                    let patience = Duration::from_micros(n * 37 % 3000);
                    let _ = tokio::time::timeout(patience, store.count_usage(7)).await;
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    counters.iter().for_each(tokio::task::JoinHandle::abort);
    while stores[0].count_usage(1000).await.unwrap() > 0 {}
    let expected = u64::try_from(WRITERS * ROWS).unwrap();
    assert_eq!(requests(&stores[0]).await, expected);
    let hours = UsageParts { hours: Some(1), ..UsageParts::default() };
    let hours = parts(&stores[1], UsageQuery { parts: hours, ..UsageQuery::default() }).await;
    assert!(hours.len() > 100, "{}", hours.len());
    assert_eq!(hours.iter().map(|part| part.sums.input_tokens).sum::<u64>(), 100 * expected);
}

async fn sums_outlast_the_rows(database: Database) {
    let store = database.open().await;
    let recorder = Recorder::new(store.clone(), Durability::default());
    let (ann, claude) = (Id::mint(), Id::mint());
    let rows = |count: i64| (0..count).map(|n| row(&ann, &claude, hour(n))).collect::<Vec<_>>();
    recorder.usage(rows(10)).await.unwrap();
    assert_eq!(store.prune_usage(hour(5), 100).await.unwrap(), 0, "what is not counted stays");
    store.count_usage(100).await.unwrap();
    assert_eq!(store.prune_usage(hour(5), 100).await.unwrap(), 5);
    let left = store.usage(&UsageFilter { limit: 100, ..UsageFilter::default() }).await.unwrap();
    assert_eq!((left.len(), requests(&store).await), (5, 10));
    assert_eq!(store.prune_usage_sums(500_003, 2).await.unwrap(), 2);
    assert_eq!(store.prune_usage_sums(500_003, 2).await.unwrap(), 1);
    assert_eq!(store.prune_usage_sums(500_003, 2).await.unwrap(), 0);
    assert_eq!(requests(&store).await, 7);
}

macro_rules! on_both {
    ($($case:ident)*) => {
        mod sqlite { $( #[tokio::test] async fn $case() { super::$case(super::Database::sqlite()).await } )* }
        mod postgres { $( #[tokio::test] async fn $case() { super::$case(super::Database::postgres()).await } )* }
    };
}

on_both! {
    sums_are_those_of_the_rows
    every_row_counts_once
    sums_outlast_the_rows
}
