//! State and configuration that belong to somebody else.
