//! Refusals to rotate the signing keys.

use axum::http::StatusCode;
use mcpctl_api::{ErrorKind, HumanDuration};
use mcpctl_store::RotationError;

use crate::{clock, http::error::HttpError, signing::ROTATION_INTERVAL};

impl From<RotationError> for HttpError {
    fn from(error: RotationError) -> Self {
        let conflict =
            |code, message| Self::new(StatusCode::CONFLICT, ErrorKind::ConflictError, code, message);
        match error {
            RotationError::NotCurrent { .. } => conflict("keys_rotated", error.to_string())
                .hint("the keys were rotated meanwhile, so there may be nothing left to do"),
            RotationError::TooSoon { rotated_at } => {
                let ago = clock::now().duration_since(rotated_at).as_secs();
                let ago = HumanDuration::from_secs(u64::try_from(ago).unwrap_or_default());
                let until = rotated_at.saturating_add(ROTATION_INTERVAL).unwrap_or(rotated_at);
                let message = format!(
                    "the keys were rotated {ago} ago: agents that have not followed yet would need a new login"
                );
                conflict("keys_rotated_recently", message)
                    .hint(format!("wait until {}, or add `--again`", until.strftime("%H:%M UTC")))
            }
            RotationError::Store(error) => error.into(),
        }
    }
}
