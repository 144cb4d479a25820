//! Which users may hold the other end of a loopback connection.

use std::str::FromStr;

use crate::user::{ROOT, UserNameError, own_uid, uid_of};

/// The users whose processes are trusted with what this user sends over loopback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TrustedUsers {
    /// This user and root.
    #[default]
    OwnAndRoot,
    /// This user, root and one other, e.g. the system user that mcpd runs as.
    Also(u32),
    /// Every user; written `*`. For systems that do not report who holds a connection, and for forwarded ports.
    Any,
}

impl TrustedUsers {
    /// Whether a process of this user is trusted.
    pub fn contains(self, uid: u32) -> bool {
        let own_or_root = uid == own_uid() || uid == ROOT;
        match self {
            Self::OwnAndRoot => own_or_root,
            Self::Also(other) => own_or_root || uid == other,
            Self::Any => true,
        }
    }
}

/// A name or number of a user, or `*`.
impl FromStr for TrustedUsers {
    type Err = UserNameError;

    fn from_str(text: &str) -> Result<Self, UserNameError> {
        if text == "*" { Ok(Self::Any) } else { uid_of(text).map(Self::Also) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_users_are_trusted_only_by_name() {
        let stranger = own_uid() + 4711;
        assert!(TrustedUsers::default().contains(own_uid()));
        assert!(TrustedUsers::default().contains(ROOT));
        assert!(!TrustedUsers::default().contains(stranger));
        let named: TrustedUsers = stranger.to_string().parse().unwrap();
        assert!(named.contains(stranger) && named.contains(own_uid()));
        assert!(!named.contains(stranger + 1));
        assert_eq!("root".parse(), Ok(TrustedUsers::Also(ROOT)));
        assert!("*".parse::<TrustedUsers>().unwrap().contains(stranger));
        assert_eq!("no such user".parse::<TrustedUsers>(), Err(UserNameError("no such user".to_owned())));
        assert!("".parse::<TrustedUsers>().is_err());
    }
}
