//! The signing keys of a server, as a sign-in sees them: shown and pinned at the first contact, followed through a rotation, and
//! refused where they are others than the pinned ones, as OpenSSH does with host keys.

use mcpctl_access::proof::{self, Fingerprint, KeyListClaims, PublicKey, VerifyError};
use mcpctl_client::{KeyListError, Trust, config::ServerPins, fetch_keys, pins};
use url::Url;

use crate::{failure::Failure, output::Tone};

/// What to do about keys that are not pinned.
#[derive(Debug, clap::Args)]
pub struct KeyArgs {
    /// Sign in only where this is the fingerprint of the server's current signing key, and pin it
    #[arg(long, value_name = "FINGERPRINT")]
    pin: Option<Fingerprint>,
    /// Pin the server's signing keys in place of other ones, after comparing the fingerprint with its operator's
    #[arg(long, conflicts_with = "pin")]
    accept_new_keys: bool,
}

/// The keys that a server shows, beside those that are pinned.
#[derive(Debug)]
pub enum ServerKeys {
    /// The pinned ones.
    Pinned,
    /// Nothing was pinned, or the user accepts others.
    New(KeyListClaims),
    /// The current one has the fingerprint that the user named.
    Named(KeyListClaims),
    /// A pinned key signed them.
    Rotated(KeyListClaims),
    /// They cannot be had at the first contact, so nothing is pinned.
    Unknown(KeyListError),
}

impl ServerKeys {
    /// Reads the keys of a server, before a credential is sent there.
    ///
    /// # Errors
    /// When they are others than the pinned ones, or than the one that the arguments name, and when keys are pinned or named and
    /// the server's cannot be had.
    pub async fn read(
        server: &Url,
        trust: &Trust,
        pinned: Option<&ServerPins>,
        args: &KeyArgs,
    ) -> Result<Self, Failure> {
        let list = match fetch_keys(server, trust).await {
            Ok(list) => list,
            Err(error) if args.pin.is_some() || args.accept_new_keys => return Err(Failure::new(error)),
            // A program in its place must not pass by keeping the list back.
            Err(error) if pinned.is_some() => {
                let message = format!(
                    "{error}, so the pinned keys of {} cannot be compared: nothing was sent there",
                    named(server)
                );
                return Err(Failure::new(message).hint("try again when it can be reached"));
            }
            Err(error) => return Ok(Self::Unknown(error)),
        };
        let shown = self_signed(&list.signed).map_err(|error| {
            Failure::new(format!("the signing keys of {} cannot be read: {error}", named(server)))
        })?;
        let current = &shown.current().fingerprint;
        if let Some(pin) = &args.pin {
            if pin != current {
                let message = format!("the signing key of {} is {current}, not {pin}", named(server));
                return Err(Failure::new(message).hint(
                    "another program may answer in its place, or the keys were rotated: ask its operator",
                ));
            }
            return Ok(Self::Named(shown));
        }
        let Some(pinned) = pinned else { return Ok(Self::New(shown)) };
        let keys: Vec<PublicKey> = shown.keys.iter().map(|key| key.public_key).collect();
        match pins::signed_keys(&list.signed, &pinned.keys) {
            Ok(signed) if signed == pinned.keys => Ok(Self::Pinned),
            Ok(signed) if signed == keys => Ok(Self::Rotated(shown)),
            _ if args.accept_new_keys => Ok(Self::New(shown)),
            _ => Err(refused(server, pinned, current)),
        }
    }

    /// Reports what a sign-in learned about the keys.
    pub fn report(&self, server: &Url) {
        match self {
            Self::Pinned => {}
            Self::New(keys) => {
                note!("signing keys of {} are pinned:", named(server));
                show(keys);
                note!(
                    "compare the first with what the operator's mcpd logs at its start (`mcpd fingerprint`); the agent accepts no other server"
                );
            }
            Self::Named(keys) => {
                note!("signing keys of {} are pinned; the current one is the named one:", named(server));
                show(keys);
            }
            Self::Rotated(keys) => {
                note!(
                    "{} has rotated its signing keys; they are signed by a pinned key, and pinned:",
                    named(server)
                );
                show(keys);
            }
            Self::Unknown(error) => {
                note!(Tone::Warning, "warning:"; " {error}, so the agent cannot verify what this server answers");
            }
        }
    }

    /// The keys that are to be pinned.
    pub fn to_pin(&self) -> Option<Vec<PublicKey>> {
        match self {
            Self::New(keys) | Self::Named(keys) | Self::Rotated(keys) => {
                Some(keys.keys.iter().map(|key| key.public_key).collect())
            }
            Self::Pinned | Self::Unknown(_) => None,
        }
    }
}

/// The list in a token that its own current key signed.
pub fn self_signed(signed: &str) -> Result<KeyListClaims, VerifyError> {
    let claimed: KeyListClaims = proof::read_unverified(signed)?;
    proof::verify(signed, &[claimed.current().public_key])
}

/// Prints both fingerprints, the current one first.
fn show(keys: &KeyListClaims) {
    note!("  current  {}", keys.current().fingerprint);
    note!("  next     {}", keys.next().fingerprint);
}

fn refused(server: &Url, pinned: &ServerPins, current: &Fingerprint) -> Failure {
    note!(Tone::Warning, "WARNING:"; " the signing keys of {} are not the pinned ones", named(server));
    for key in &pinned.keys {
        note!("  pinned   {}", key.fingerprint());
    }
    note!("  shown    {current}");
    let message =
        format!("{} shows signing keys that no pinned key signed: nothing was sent there", named(server));
    Failure::new(message).hint(format!(
        "another program may answer in its place; where its operator confirms the fingerprint shown (`mcpd fingerprint`): \
         mcpctl login {} --accept-new-keys",
        named(server)
    ))
}

fn named(server: &Url) -> &str {
    server.as_str().trim_end_matches('/')
}
