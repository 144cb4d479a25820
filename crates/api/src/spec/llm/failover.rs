//! What agents may do where an Llm cannot be reached through mcpd.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{HumanDuration, Verb, spec::FieldError};

/// Whether agents may fall back to a local provider, and what the caller needs for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Failover {
    /// Whether agents may fall back at all.
    pub allowed: bool,
    /// The verb that the caller needs on the Llm, besides `view`.
    pub require: FailoverVerb,
    /// How long after an allowing answer an agent that gets no answer may still fall back, for the same caller; 0 to 300
    /// seconds.
    pub offline_grace: HumanDuration,
}

/// The verb that a caller needs for a failover.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum FailoverVerb {
    /// To see the Llm.
    #[default]
    View,
    /// To send inference through it.
    Run,
}

impl FailoverVerb {
    /// As a verb of rules.
    pub const fn verb(self) -> Verb {
        match self {
            Self::View => Verb::View,
            Self::Run => Verb::Run,
        }
    }
}

/// The defaults of docs/reference/contract.md.
impl Default for Failover {
    fn default() -> Self {
        Self { allowed: true, require: FailoverVerb::View, offline_grace: HumanDuration::from_secs(0) }
    }
}

impl Failover {
    /// The longest `offlineGrace`. A revocation can stay without effect at an agent without a connection for this long, so it is
    /// no setting.
    pub const MAX_OFFLINE_GRACE: HumanDuration = HumanDuration::from_secs(300);

    /// Whether it has the defaults.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn validate(self) -> Result<(), FieldError> {
        let grace = self.offline_grace;
        if grace > Self::MAX_OFFLINE_GRACE {
            let message = format!("it is at most {}, `{grace}` asked for", Self::MAX_OFFLINE_GRACE);
            return Err(FieldError::new("failover.offlineGrace", message));
        }
        if grace.0.subsec_nanos() != 0 {
            return Err(FieldError::new("failover.offlineGrace", "it is in whole seconds"));
        }
        // Beside `allowed: false` the rest has no effect and is kept, so that one field stops agents and lets them go on.
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offline_grace_is_bounded() {
        let refused = |text: &str| {
            let failover: Failover = serde_json::from_str(text).unwrap();
            failover.validate().err().map(|error| error.to_string())
        };
        for accepted in [
            "{}",
            r#"{"allowed": false}"#,
            r#"{"offlineGrace": "5m", "require": "run"}"#,
            r#"{"offlineGrace": "5m", "allowed": false}"#,
        ] {
            assert_eq!(refused(accepted), None, "{accepted}");
        }
        for rejected in [r#"{"offlineGrace": "301s"}"#, r#"{"offlineGrace": "1500ms"}"#] {
            assert!(refused(rejected).unwrap().contains("failover.offlineGrace"), "{rejected}");
        }
        for unreadable in [r#"{"offlineGrace": 60}"#, r#"{"require": "edit"}"#, r#"{"offline": "1s"}"#] {
            assert!(serde_json::from_str::<Failover>(unreadable).is_err(), "{unreadable}");
        }
    }
}
