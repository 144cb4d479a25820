//! Rows on their way from one database to another, column by column, and the digests by which both ends are compared.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::layout::{ColumnKind, Table};

/// Maximum of rows in a batch.
const MAX_ROWS: usize = 1000;
/// Bytes of a batch from which it takes no further row.
const FULL_BYTES: usize = 1 << 20;

/// Rows of one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// The table's place in its [`super::Layout`].
    pub table: usize,
    /// The values of each column, in the layout's order: as many of each as there are rows.
    pub columns: Vec<Values>,
    #[serde(skip)]
    bytes: usize,
}

/// The values of a column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Values {
    /// TEXT.
    Text(Vec<Option<String>>),
    /// BIGINT.
    Integer(Vec<Option<i64>>),
    /// Bytes, written as base64.
    Bytes(#[serde(with = "base64_values")] Vec<Option<Vec<u8>>>),
}

impl Values {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Text(values) => values.len(),
            Self::Integer(values) => values.len(),
            Self::Bytes(values) => values.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    const fn kind(&self) -> ColumnKind {
        match self {
            Self::Text(_) => ColumnKind::Text,
            Self::Integer(_) => ColumnKind::Integer,
            Self::Bytes(_) => ColumnKind::Bytes,
        }
    }

    /// Adds one value to a digest, so that two different rows never look alike.
    fn digest_into(&self, row: usize, digest: &mut Sha256) {
        let mut add = |bytes: Option<&[u8]>| match bytes {
            None => digest.update([0]),
            Some(bytes) => {
                digest.update([1]);
                digest.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
                digest.update(bytes);
            }
        };
        match self {
            Self::Text(values) => add(values.get(row).and_then(Option::as_deref).map(str::as_bytes)),
            Self::Integer(values) => {
                let value = values.get(row).copied().flatten().map(i64::to_be_bytes);
                add(value.as_ref().map(<[u8; 8]>::as_slice));
            }
            Self::Bytes(values) => add(values.get(row).and_then(Option::as_deref)),
        }
    }
}

impl Batch {
    /// A batch without rows.
    pub(super) fn new(place: usize, table: &Table) -> Self {
        let columns = table.columns.iter().map(|column| match column.kind {
            ColumnKind::Text => Values::Text(Vec::new()),
            ColumnKind::Integer => Values::Integer(Vec::new()),
            ColumnKind::Bytes => Values::Bytes(Vec::new()),
        });
        Self { table: place, columns: columns.collect(), bytes: 0 }
    }

    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.columns.first().map_or(0, Values::len)
    }

    /// Whether the table has these columns, with as many values of each.
    pub fn is_of(&self, table: &Table) -> bool {
        let rows = self.rows();
        self.columns.len() == table.columns.len()
            && self
                .columns
                .iter()
                .zip(&table.columns)
                .all(|(values, column)| values.len() == rows && values.kind() == column.kind)
    }

    /// Counts the bytes of a value that was added.
    pub(super) const fn grow(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    pub(super) fn is_full(&self) -> bool {
        self.rows() >= MAX_ROWS || self.bytes >= FULL_BYTES
    }
}

/// How many rows a table has, and a digest of them that does not depend on their order: databases sort differently. It finds errors;
/// against forgers a backup is authenticated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tally {
    /// The number of rows.
    pub rows: u64,
    /// The sum of the SHA-256 of each row, modulo 2^128 in each half.
    digest: (u128, u128),
}

impl Tally {
    /// Adds the rows of a batch.
    pub fn add(&mut self, batch: &Batch) {
        for row in 0..batch.rows() {
            let mut digest = Sha256::new();
            for values in &batch.columns {
                values.digest_into(row, &mut digest);
            }
            let bytes: [u8; 32] = digest.finalize().into();
            let (high, low) = bytes.split_at(16);
            let half =
                |bytes: &[u8]| bytes.iter().fold(0_u128, |number, byte| number << 8 | u128::from(*byte));
            self.digest = (self.digest.0.wrapping_add(half(high)), self.digest.1.wrapping_add(half(low)));
            self.rows += 1;
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows with digest {:016x}", self.rows, self.digest.0 >> 64)
    }
}

mod base64_values {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(
        values: &[Option<Vec<u8>>],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(values.iter().map(|value| value.as_ref().map(|bytes| STANDARD.encode(bytes))))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<Option<Vec<u8>>>, D::Error> {
        let texts = Vec::<Option<String>>::deserialize(deserializer)?;
        let bytes = texts.into_iter().map(|text| text.map(|text| STANDARD.decode(text)).transpose());
        bytes.collect::<Result<_, _>>().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(names: &[Option<&str>], numbers: &[Option<i64>]) -> Batch {
        let names = names.iter().map(|name| name.map(str::to_owned)).collect();
        Batch { table: 0, columns: vec![Values::Text(names), Values::Integer(numbers.to_vec())], bytes: 0 }
    }

    fn tally(batches: &[Batch]) -> Tally {
        let mut tally = Tally::default();
        batches.iter().for_each(|batch| tally.add(batch));
        tally
    }

    #[test]
    fn tally_depends_on_rows_and_not_on_their_order() {
        let one = tally(&[batch(&[Some("a"), Some("b"), None], &[Some(1), None, Some(0)])]);
        let other = tally(&[batch(&[None, Some("b")], &[Some(0), None]), batch(&[Some("a")], &[Some(1)])]);
        assert_eq!(one, other);
        for different in [
            batch(&[Some("b"), Some("a"), None], &[Some(1), None, Some(0)]),
            batch(&[Some("a"), Some("b"), Some("")], &[Some(1), None, Some(0)]),
            batch(&[Some("a"), Some("b")], &[Some(1), None]),
        ] {
            assert_ne!(one, tally(&[different]));
        }
    }

    #[test]
    fn batch_comes_back_from_json() {
        let bytes = Values::Bytes(vec![Some(vec![0, 255]), None, Some(Vec::new())]);
        let text = Values::Text(vec![Some("a\n\"é".to_owned()), None, Some(String::new())]);
        let integer = Values::Integer(vec![Some(i64::MIN), None, Some(i64::MAX)]);
        let batch = Batch { table: 3, columns: vec![bytes, text, integer], bytes: 0 };
        let json = serde_json::to_string(&batch).unwrap();
        assert_eq!(serde_json::from_str::<Batch>(&json).unwrap(), batch);
    }
}
