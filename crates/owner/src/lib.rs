//! Ownership on this machine: of directories, files, and the other end of loopback connections.
//!
//! An address on loopback or a path is no identity: another user of the machine can listen there first, or plant a file
//! or a link. A program or file that our programs trust with a secret must belong to this user, or to root, who can read
//! everything anyway.

pub mod connection;
pub mod dir;
mod error;
pub mod file;
mod trust;
mod user;

pub use error::{PathError, PathProblem, words};
pub use trust::TrustedUsers;
pub use user::{UserNameError, own_uid, user_name};
