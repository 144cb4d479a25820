//! Sums of usage on SQLite and on PostgreSQL: each row counts once, whenever it comes and whatever ends meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

#[path = "support/database.rs"]
mod database;

use std::{collections::BTreeMap, time::Duration};

use database::Database;
use jiff::{SignedDuration, Timestamp};
use mcpctl_api::Id;
use mcpctl_store::{
    Durability, Recorder, Store, UsageAccount, UsageFilter, UsagePart, UsageParts, UsageQuery, UsageRow,
    UsageSums, UsageTime,
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

/// The parts in order, each once.
async fn parts(store: &Store, query: UsageQuery) -> Vec<UsagePart> {
    let mut parts: BTreeMap<_, UsagePart> = BTreeMap::new();
    let query = UsageQuery { until: if query.until == 0 { i64::MAX } else { query.until }, ..query };
    store
        .usage_sums(&query, |part| {
            let key = (part.time, part.principal.clone(), part.llm_name.clone(), part.model.clone());
            match parts.get_mut(&key) {
                Some(there) => there.sums.add(&part.sums),
                None => drop(parts.insert(key, part)),
            }
            true
        })
        .await
        .unwrap();
    parts.into_values().collect()
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
    assert_eq!((all.sums, all.principal.as_str(), all.time), (expected, "", 0));

    let every =
        UsageParts { account: true, llm: true, model: true, time: Some(UsageTime::Day { offset: 0 }) };
    let found = parts(&store, UsageQuery { parts: every, ..UsageQuery::default() }).await;
    let shown: Vec<_> = found
        .iter()
        .map(|part| (part.time - 20_833, part.principal.as_str(), part.llm_name.as_str(), part.sums.requests))
        .collect();
    // 500,000 hours are 20,833 days and 8 hours.
    assert_eq!(
        shown,
        [(0, "User ann", "claude", 2), (0, "User ann", "gpt", 0), (1, "User bob", "claude", 1)]
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
    // Whichever sums are read.
    for account in [false, true] {
        for time in [None, Some(UsageTime::Hour), Some(UsageTime::Day { offset: 0 })] {
            let wanted = UsageParts { account, time, ..UsageParts::default() };
            let found = parts(&stores[1], UsageQuery { parts: wanted, ..UsageQuery::default() }).await;
            let tokens: u64 = found.iter().map(|part| part.sums.input_tokens).sum();
            assert_eq!(tokens, 100 * expected, "{wanted:?}");
            assert!(time != Some(UsageTime::Hour) || found.len() > 100, "{}", found.len());
        }
    }
}

/// Compares many questions with the rows themselves.
async fn every_question_has_the_sums_of_its_rows(database: Database) {
    use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
    let mut rng = StdRng::seed_from_u64(12);
    let store = database.open().await;
    let recorder = Recorder::new(store.clone(), Durability::default());
    let accounts = [Id::mint(), Id::mint()];
    let llms = [(Id::mint(), "claude"), (Id::mint(), "gpt")];
    let rows: Vec<UsageRow> = (0..400)
        .map(|_| {
            let at = hour(rng.random_range(0..2400));
            let who = rng.random_range(0..2);
            let (llm, name) = llms.choose(&mut rng).unwrap();
            UsageRow {
                principal: format!("User {who}"),
                llm_name: (*name).to_owned(),
                model: format!("m-{}", rng.random_range(0..2)),
                input_tokens: rng.random_range(0..1000),
                ..row(&accounts[who], llm, at)
            }
        })
        .collect();
    recorder.usage(rows.clone()).await.unwrap();
    while store.count_usage(90).await.unwrap() > 0 {}
    for _ in 0..150 {
        let since = 500_000 + rng.random_range(-10..2400);
        let until = since + *[1, 30, 800, 2400].choose(&mut rng).unwrap();
        let time = match rng.random_range(0..8) {
            0 | 1 => None,
            2 => Some(UsageTime::Hour),
            _ => {
                let offset = *[0, 0, 3600, 19_800, -18_000].choose(&mut rng).unwrap();
                Some(UsageTime::Day { offset })
            }
        };
        let wanted = UsageParts { account: rng.random(), llm: rng.random(), model: rng.random(), time };
        let account = rng.random_bool(0.3).then(|| UsageAccount::Id(accounts[0].clone()));
        let llm = rng.random_bool(0.3).then(|| "gpt".to_owned());
        let mut expected: BTreeMap<_, (u64, u64)> = BTreeMap::new();
        for row in &rows {
            let hour = row.at.as_second() / HOUR;
            let other =
                account.is_some() && row.principal != "User 0" || llm.is_some() && row.llm_name != "gpt";
            if other || hour < since || hour >= until {
                continue;
            }
            let part = match time {
                None => 0,
                Some(UsageTime::Hour) => hour,
                Some(UsageTime::Day { offset }) => (hour * HOUR + i64::from(offset)) / (24 * HOUR),
            };
            let text = |kept: bool, text: &str| if kept { text.to_owned() } else { String::new() };
            let key = (
                part,
                text(wanted.account, &row.principal),
                text(wanted.llm, &row.llm_name),
                text(wanted.model, &row.model),
            );
            let sums = expected.entry(key).or_default();
            *sums = (sums.0 + 1, sums.1 + row.input_tokens);
        }
        let query = UsageQuery { since, until, account, llm, parts: wanted };
        let found: BTreeMap<_, (u64, u64)> = parts(&store, query.clone())
            .await
            .into_iter()
            .filter(|part| part.sums.requests > 0)
            .map(|part| {
                let sums = (part.sums.requests, part.sums.input_tokens);
                ((part.time, part.principal, part.llm_name, part.model), sums)
            })
            .collect();
        assert_eq!(found, expected, "{query:?}");
    }
}

async fn sums_outlast_the_rows(database: Database) {
    let store = database.open().await;
    let recorder = Recorder::new(store.clone(), Durability::default());
    let (ann, claude) = (Id::mint(), Id::mint());
    // One in each 30 days.
    let rows = (0..10).map(|n| row(&ann, &claude, hour(720 * n))).collect();
    recorder.usage(rows).await.unwrap();
    let half = hour(720 * 5);
    assert_eq!(store.prune_usage(half, 100).await.unwrap(), 0, "what is not counted stays");
    store.count_usage(100).await.unwrap();
    assert_eq!(store.prune_usage(half, 100).await.unwrap(), 5);
    let left = store.usage(&UsageFilter { limit: 100, ..UsageFilter::default() }).await.unwrap();
    assert_eq!((left.len(), requests(&store).await), (5, 10));
    // Of two rows: each is in sums of an hour, a day and 30 days, and of an hour and a day of all accounts.
    let removed = async || store.prune_usage_sums(500_000 + 720 * 2, 7).await.unwrap();
    assert_eq!([removed().await, removed().await, removed().await], [7, 3, 0]);
    for account in [false, true] {
        for time in [None, Some(UsageTime::Hour), Some(UsageTime::Day { offset: 0 })] {
            let wanted = UsageParts { account, time, ..UsageParts::default() };
            let found = parts(&store, UsageQuery { parts: wanted, ..UsageQuery::default() }).await;
            assert_eq!(found.iter().map(|part| part.sums.requests).sum::<u64>(), 8, "{wanted:?}");
        }
    }
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
    every_question_has_the_sums_of_its_rows
    sums_outlast_the_rows
}
