//! `mcpd fsck`: a good store, and each thing that it finds.

use std::path::Path;

use mcpctl_api::Id;
use mcpctl_journal::{CallerKind, ChainHead, JournalEntry, Line, Served};
use mcpctl_testkit::postgres::Postgres;
use reqwest::{Method, StatusCode};
use sqlx::Connection as _;

use crate::installation::{Installation, done, refused};

#[tokio::test]
async fn good_store_has_no_problems() {
    let postgres = Postgres::start();
    for database_url in [None, Some(postgres.url())] {
        let installation = Installation::start(database_url.as_deref()).await;
        let output = done(&["fsck"], &installation.mcpd.data_dir(), database_url.as_deref());
        let parts: Vec<_> = output
            .lines()
            .map(|line| {
                let words: Vec<_> = line.split_whitespace().collect();
                assert_eq!(words.last(), Some(&"ok"), "{output}");
                words[..words.len() - 2].join(" ")
            })
            .collect();
        assert_eq!(parts, ["rows", "resources", "references", "sealed values", "changes", "journal lines"]);
    }
}

#[tokio::test]
async fn each_kind_of_damage_is_found_with_its_place() {
    let mut installation = Installation::start(None).await;
    installation.stop();
    let data_dir = installation.mcpd.data_dir();
    let database = data_dir.join("mcpd.sqlite");
    let good = data_dir.join("good");
    std::fs::copy(&database, &good).unwrap();
    for (damage, place, problem) in [
        ("UPDATE resources SET body = '{' WHERE name = 'gpt'", "Llm `gpt`", "cannot be read"),
        ("UPDATE resources SET name = 'other' WHERE name = 'gpt'", "Llm `other`", "name another resource"),
        ("UPDATE resources SET revision = 9000 WHERE name = 'gpt'", "Llm `gpt`", "the store is at"),
        (
            "UPDATE resources SET confidential = X'00' WHERE kind = 'Secret'",
            "Secret `openai`",
            "the sealed value is malformed",
        ),
        (
            "UPDATE resources SET confidential = NULL WHERE kind = 'Token'",
            "Token `alice-token`",
            "is missing",
        ),
        (
            "DELETE FROM resources WHERE name = 'alice'",
            "Token `alice-token`",
            "its account User alice is not there",
        ),
        ("DELETE FROM changes WHERE revision = 3", "the changes", "do not follow each other"),
        ("UPDATE revision SET current = current + 1", "the changes", "the last is"),
        ("DELETE FROM signing_keys WHERE number = 1", "the signing keys", "instead of two"),
        ("UPDATE signing_keys SET sealed = X'00' WHERE number = 2", "signing key 2", "malformed"),
        ("UPDATE settings SET value = X'00'", "the master key", "is not the one"),
        (
            "UPDATE audit SET agent_id = 'a', line_seq = 1, line = '{}', line_hash = 'b' WHERE id = (SELECT MIN(id) FROM audit)",
            "audit row",
            "is not the one that its hash is of",
        ),
    ] {
        std::fs::copy(&good, &database).unwrap();
        let mut connection = open(&database).await;
        sqlx::raw_sql(damage).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        let output = refused(&["fsck"], &data_dir, None);
        let found = output.lines().any(|line| line.contains(place) && line.contains(problem));
        assert!(found, "{damage}:\n{output}");
        assert!(output.contains("hint: "), "{output}");
    }

    // Pages that are not those of SQLite.
    std::fs::copy(&good, &database).unwrap();
    let mut bytes = std::fs::read(&database).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 8192].fill(0x5a);
    std::fs::write(&database, bytes).unwrap();
    let output = refused(&["fsck"], &data_dir, None);
    assert!(output.contains("hint: "), "{output}");
}

/// So many lines of an agent's journal, with a text that is shown with escapes.
fn lines(head: &mut ChainHead, count: usize) -> String {
    let mut text = String::new();
    for _ in 0..count {
        let served = Served {
            request: "r".to_owned(),
            who: "alice".to_owned(),
            caller: CallerKind::User,
            llm: None,
            llm_id: None,
            provider: "desk \\ \"gpu\" \u{202e}\u{9b}".to_owned(),
        };
        let (line, next) =
            Line::after(*head, &JournalEntry::Own { at: jiff::Timestamp::now(), served }).unwrap();
        *head = next;
        text.push_str(&String::from_utf8(line).unwrap());
        text.push('\n');
    }
    text
}

/// Lines with escapes are checked too, and a gap on record hides no other.
#[tokio::test]
async fn changed_and_missing_lines_of_journals_are_found() {
    let mut installation = Installation::start(None).await;
    let data_dir = installation.mcpd.data_dir();
    let agent = Id::mint();
    let mut head = ChainHead::genesis(&agent);
    for (lost, count, gap) in [(0, 5, false), (3, 5, true)] {
        lines(&mut head, lost);
        let path = format!("/api/v1/agents/{agent}/journal{}", if gap { "?gap=true" } else { "" });
        let request = installation.mcpd.request(Method::POST, &path, &installation.alice);
        let request = request.header("content-type", "application/x-ndjson").body(lines(&mut head, count));
        assert_eq!(request.send().await.unwrap().status(), StatusCode::OK);
    }
    let good = done(&["fsck"], &data_dir, None);
    assert!(good.lines().any(|line| line.starts_with("journal lines") && line.contains(" 10 ")), "{good}");
    installation.stop();
    let database = data_dir.join("mcpd.sqlite");
    let good = data_dir.join("good");
    std::fs::copy(&database, &good).unwrap();
    for (damage, place, problem) in [
        ("UPDATE audit SET line = REPLACE(line, '202e', '202d') WHERE line_seq = 2", "audit row", "its hash"),
        ("UPDATE audit SET line = REPLACE(line, 'desk', 'disk') WHERE line_seq = 2", "audit row", "its hash"),
        ("UPDATE audit SET line_hash = line_prev WHERE line_seq = 3", "line 4 of agent", "does not continue"),
        ("DELETE FROM audit WHERE line_seq = 4", "line 5 of agent", "does not continue"),
        ("DELETE FROM audit WHERE line_seq = 11", "line 12 of agent", "does not continue"),
        ("DELETE FROM audit WHERE action = 'journal-gap'", "line 9 of agent", "does not continue"),
    ] {
        std::fs::copy(&good, &database).unwrap();
        let mut connection = open(&database).await;
        let changed = sqlx::raw_sql(damage).execute(&mut connection).await.unwrap();
        assert_eq!(changed.rows_affected(), 1, "{damage}");
        connection.close().await.unwrap();
        let output = refused(&["fsck"], &data_dir, None);
        let found = output.lines().any(|line| line.contains(place) && line.contains(problem));
        assert!(found, "{damage}:\n{output}");
    }
    // As retention does.
    std::fs::copy(&good, &database).unwrap();
    let mut connection = open(&database).await;
    sqlx::raw_sql("DELETE FROM audit WHERE line_seq <= 3").execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    done(&["fsck"], &data_dir, None);
}

async fn open(database: &Path) -> sqlx::SqliteConnection {
    sqlx::SqliteConnection::connect(&format!("sqlite://{}", database.display())).await.unwrap()
}
