//! What goes on record, and how much of it.
