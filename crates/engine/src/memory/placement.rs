//! The memory of an engine by its configuration.

/// Which memory an engine uses, and how much.
#[derive(Debug, Clone, PartialEq)]
pub struct Placement {
    /// Engines of one group share the same memory.
    pub group: String,
    /// How much it needs.
    pub need: Need,
    /// The memory of the group, bytes; by default as the GPU drivers report it.
    pub capacity: Option<u64>,
}

/// How much memory an engine needs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Need {
    /// Unknown: it is alone in its group.
    Unknown,
    /// This many bytes, of any GPUs that it sees.
    Bytes(u64),
    /// A share of each of the first GPUs that it sees.
    Share {
        /// The share, more than 0 and at most 1.
        of: f64,
        /// The number of GPUs.
        gpus: u32,
    },
}

impl Default for Placement {
    fn default() -> Self {
        Self { group: "default".to_owned(), need: Need::Unknown, capacity: None }
    }
}
