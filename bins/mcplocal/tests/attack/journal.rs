//! What the journal records, and what happens when it cannot.
