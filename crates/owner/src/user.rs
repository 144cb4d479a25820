//! Users of this machine, by number and by name.

use nix::unistd::{Gid, Group, Uid, User, geteuid};

/// The superuser, who can read and replace everything of every user.
pub(crate) const ROOT: u32 = 0;

/// The effective user of this process.
pub fn own_uid() -> u32 {
    geteuid().as_raw()
}

/// A user for messages: `alice` (1000), or the number where it has no name.
pub fn user_name(uid: u32) -> String {
    match User::from_uid(Uid::from_raw(uid)) {
        Ok(Some(user)) => format!("`{}` (uid {uid})", user.name),
        Ok(None) | Err(_) => format!("uid {uid}"),
    }
}

/// A name that is no user of this machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no user `{0}` on this machine")]
pub struct UserNameError(pub String);

/// The number of a user, by name or number.
pub(crate) fn uid_of(name: &str) -> Result<u32, UserNameError> {
    if let Ok(uid) = name.parse() {
        return Ok(uid);
    }
    match User::from_name(name) {
        Ok(Some(user)) => Ok(user.uid.as_raw()),
        Ok(None) | Err(_) => Err(UserNameError(name.to_owned())),
    }
}

/// Whether a group is the private group of this user: their primary group, of their name, with no other members.
/// Distributions that make such groups let them write by default (umask 002).
pub(crate) fn is_private_group(gid: u32) -> bool {
    let Ok(Some(user)) = User::from_uid(geteuid()) else { return false };
    let Ok(Some(group)) = Group::from_gid(Gid::from_raw(gid)) else { return false };
    gid != 0
        && user.gid == group.gid
        && group.name == user.name
        && group.mem.iter().all(|member| *member == user.name)
}
