//! Directories and files that belong to somebody else, and what the daemon leaves behind.
