//! A backup with any byte changed, or cut anywhere, is not taken.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use mcpctl_backup::{BackupError, Header, Reader, Writer};
use mcpctl_secret::envelope::{Keyring, MasterKey};
use mcpctl_store::transfer::{Batch, Column, ColumnKind, Layout, Table, Tally};
use serde_json::json;

fn batch() -> Batch {
    let columns = json!([{"text": ["alice", null]}, {"integer": [1, 2]}, {"bytes": ["AAE=", null]}]);
    serde_json::from_value(json!({"table": 0, "columns": columns})).unwrap()
}

/// A backup of one table with two rows.
fn backup(key: &MasterKey) -> Vec<u8> {
    let column = |name: &str, kind| Column { name: name.to_owned(), kind };
    let columns = vec![
        column("name", ColumnKind::Text),
        column("revision", ColumnKind::Integer),
        column("sealed", ColumnKind::Bytes),
    ];
    let layout =
        Layout { version: 1, tables: vec![Table { name: "resources".to_owned(), columns, rows: 2 }] };
    let header =
        Header { created_at: "2026-11-27T00:00:00Z".parse().unwrap(), mcpd: "0.1.0".to_owned(), layout };
    let mut writer = Writer::begin(Vec::new(), key, header).unwrap();
    writer.write(&batch()).unwrap();
    let mut tally = Tally::default();
    tally.add(&batch());
    writer.finish(&[tally]).unwrap()
}

/// Reads all of a backup; a `Batch` of one that turns out damaged counts for nothing.
fn read(bytes: &[u8], keys: &Keyring) -> Result<Vec<Batch>, BackupError> {
    let mut reader = Reader::open(bytes, keys)?;
    let mut batches = Vec::new();
    while let Some(batch) = reader.next_batch()? {
        batches.push(batch);
    }
    Ok(batches)
}

#[test]
fn every_changed_bit_and_every_cut_is_found() {
    let key = MasterKey::generate().unwrap();
    let bytes = backup(&key);
    let keys = Keyring::new(key);
    assert_eq!(read(&bytes, &keys).unwrap(), [batch()]);
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            assert!(read(&changed, &keys).is_err(), "byte {at} of {}, bit {bit}", bytes.len());
        }
        assert!(read(&bytes[..at], &keys).is_err(), "cut after {at} of {} bytes", bytes.len());
    }
    for at in 0..=bytes.len() {
        let mut longer = bytes.clone();
        longer.insert(at, 0);
        assert!(read(&longer, &keys).is_err(), "one byte more at {at} of {}", bytes.len());
    }
}

/// Parts of two backups with one key make no third one.
#[test]
fn parts_of_two_backups_are_not_one() {
    let key = MasterKey::generate().unwrap();
    let (one, other) = (backup(&key), backup(&key));
    let keys = Keyring::new(key);
    assert_eq!(one.len(), other.len());
    let length = 14 + 4 + usize::try_from(u32::from_be_bytes(one[14..18].try_into().unwrap())).unwrap();
    let mixed = [&one[..length], &other[length..]].concat();
    assert!(read(&mixed, &keys).is_err());
}
