//! The keys of mcpd that the agent goes by: those that `mcplocal.yaml` names, else those that `mcpctl login` pinned for the server.
//!
//! A pin that disappears while the agent runs does not weaken it: what was pinned once counts until other keys are pinned, or
//! the agent is started anew. A rotation is followed by the list of keys that a pinned key signed.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::{FutureExt as _, future::BoxFuture};
use jiff::Timestamp;
use mcpctl_access::proof::PublicKey;
use mcpctl_api::{
    agent::{ProofState, ProofStatus, UnverifiedAnswer},
    signing_keys::SigningKeyList,
};
use mcpctl_client::{
    PinnedKeys, ProofKeys, Trust,
    config::{Config, login_command},
    fetch_keys,
    pins::{self, OtherKeys},
};
use mcpctl_failover::ProbeError;
use tokio::sync::Notify;
use url::Url;

/// The keys of one server.
#[derive(Debug)]
pub struct KeyRing {
    server: Url,
    /// The keys of the configuration; they go before those that are pinned.
    configured: Option<Vec<PublicKey>>,
    /// The file of contexts with the pinned keys.
    contexts: PathBuf,
    state: Mutex<KeyRingState>,
    rotated: Arc<Notify>,
}

#[derive(Debug, Default)]
struct KeyRingState {
    /// The keys that counted last.
    keys: Option<Vec<PublicKey>>,
    /// Whether the log has that the pins are gone.
    reported: AtomicBool,
    /// What mcpd's list of keys showed in place of the pinned ones, and which those were.
    other: Option<(OtherKeys, Vec<PublicKey>, Timestamp)>,
    /// Why the last answer to a probe is not verified.
    unverified: Option<UnverifiedAnswer>,
}

impl KeyRing {
    /// The keys of the server, of which `before` is the ring of the configuration before.
    pub fn new(
        server: Url,
        configured: Option<Vec<PublicKey>>,
        contexts: PathBuf,
        rotated: Arc<Notify>,
        before: Option<&Self>,
    ) -> Self {
        let before = before.filter(|before| before.server == server);
        let kept = before.and_then(|before| before.lock().keys.clone());
        let keys = match (&configured, before) {
            // What a rotation led to stays.
            (Some(now), Some(before)) if before.configured.as_ref() == Some(now) => kept,
            (Some(now), _) => Some(now.clone()),
            (None, _) => kept,
        };
        let state = Mutex::new(KeyRingState { keys, ..KeyRingState::default() });
        Self { server, configured, contexts, state, rotated }
    }

    /// How far answers of mcpd are verified, for the status and the doctor.
    pub async fn status(&self) -> ProofStatus {
        let fingerprints =
            |keys: &[PublicKey]| keys.iter().map(|key| key.fingerprint().to_string()).collect();
        match self.pinned().await {
            PinnedKeys::Keys(keys) => {
                let state = self.lock();
                // After a login that pins other keys, what was found before is no longer true.
                let other = state.other.as_ref().filter(|(_, pinned, _)| *pinned == keys);
                let (hint, unverified) = match other {
                    Some((other, _, at)) => {
                        let unverified = UnverifiedAnswer { reason: other.to_string(), at: *at };
                        (Some(self.hint()), Some(unverified))
                    }
                    None => (None, state.unverified.clone()),
                };
                let fingerprints = fingerprints(&keys);
                ProofStatus { state: ProofState::Pinned, fingerprints, hint, unverified }
            }
            PinnedKeys::None => ProofStatus {
                state: ProofState::Unpinned,
                fingerprints: Vec::new(),
                hint: Some(self.login().await),
                unverified: None,
            },
            PinnedKeys::Unreadable(reason) => ProofStatus {
                state: ProofState::Unreadable,
                fingerprints: Vec::new(),
                hint: Some(reason),
                unverified: None,
            },
        }
    }

    /// Logs once how far answers of mcpd are verified.
    pub async fn log(&self) {
        let ProofStatus { state, fingerprints, hint, .. } = self.status().await;
        match state {
            ProofState::Pinned => {
                tracing::info!(
                    keys = fingerprints.join(" "),
                    "mcpd's answers count by the signature of its pinned keys"
                );
            }
            ProofState::Unpinned => tracing::warn!(
                hint,
                "no key of mcpd is pinned: its answers count by their status alone, and there are no leases"
            ),
            ProofState::Unreadable => {
                tracing::error!(
                    reason = hint,
                    "mcpd's pinned keys cannot be read: nothing runs locally until they can"
                );
            }
        }
    }

    /// The command that pins keys.
    async fn login(&self) -> String {
        let (contexts, server) = (self.contexts.clone(), self.server.clone());
        let command = move || Config::load(&contexts).unwrap_or_default().login_command(&server);
        let loaded = tokio::task::spawn_blocking(command).await;
        loaded.unwrap_or_else(|_| login_command(&self.server, None))
    }

    /// The next step where mcpd's keys are not the pinned ones.
    fn hint(&self) -> String {
        match self.configured {
            Some(_) => "compare the fingerprints with an administrator, and set `proofKeys` anew".to_owned(),
            None => OtherKeys::hint(&self.server),
        }
    }

    /// Compares the list of keys that this mcpd shows now with the pinned ones. Returns the list and those, where there are both.
    pub async fn compare(&self, trust: &Trust) -> Option<(SigningKeyList, Vec<PublicKey>)> {
        let PinnedKeys::Keys(pinned) = self.pinned().await else { return None };
        let list = match fetch_keys(&self.server, trust).await {
            Ok(list) => list,
            Err(error) => {
                tracing::debug!(%error, "the list of mcpd's keys is not there");
                return None;
            }
        };
        let other = pins::other_keys(&list.signed, &pinned);
        self.lock().other = other.map(|other| (other, pinned.clone(), Timestamp::now()));
        Some((list, pinned))
    }

    /// Follows the list of keys that this mcpd shows now.
    pub async fn follow(&self, trust: &Trust) {
        let Some((list, pinned)) = self.compare(trust).await else { return };
        let followed = if self.configured.is_some() {
            pins::signed_keys(&list.signed, &pinned).map_err(|error| error.to_string())
        } else {
            let (path, server) = (self.contexts.clone(), self.server.clone());
            let following = move || pins::follow(&path, &server, &list.signed, Timestamp::now());
            match tokio::task::spawn_blocking(following).await {
                Ok(followed) => followed.map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            }
        };
        match followed {
            Ok(keys) if keys == pinned => {}
            Ok(keys) => {
                let shown: Vec<_> = keys.iter().map(|key| key.fingerprint().to_string()).collect();
                tracing::info!(
                    keys = shown.join(" "),
                    "mcpd's keys were rotated; the new ones are signed by a pinned one"
                );
                self.lock().keys = Some(keys);
            }
            Err(error) => {
                let shown = self.lock().other.as_ref().map(|(other, ..)| other.shown.to_string());
                tracing::warn!(
                    error,
                    shown,
                    hint = self.hint(),
                    "mcpd shows keys that no pinned key signed; the pinned ones stay"
                );
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, KeyRingState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeyRing {
    /// The keys that count where the file of contexts has this.
    fn counting(&self, contexts: Result<Config, String>) -> PinnedKeys {
        let mut state = self.lock();
        let mut login = login_command(&self.server, None);
        let missing = match contexts {
            Ok(config) => match config.pins_of(&self.server) {
                Some(pins) => {
                    state.reported.store(false, Ordering::Relaxed);
                    return PinnedKeys::Keys(state.keys.insert(pins.keys.clone()).clone());
                }
                None => {
                    login = config.login_command(&self.server);
                    None
                }
            },
            Err(error) => Some(error),
        };
        match (&state.keys, missing) {
            (Some(keys), reason) => {
                if !state.reported.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        reason,
                        hint = login,
                        "the pinned keys of mcpd are gone; the agent goes by them until it ends"
                    );
                }
                PinnedKeys::Keys(keys.clone())
            }
            (None, Some(reason)) => PinnedKeys::Unreadable(reason),
            (None, None) => PinnedKeys::None,
        }
    }
}

impl ProofKeys for KeyRing {
    fn pinned(&self) -> BoxFuture<'_, PinnedKeys> {
        async {
            if self.configured.is_some() {
                return PinnedKeys::Keys(self.lock().keys.clone().unwrap_or_default());
            }
            // Each time, so that a login counts at once; beside the requests, because a home may be on a slow disk.
            let contexts = self.contexts.clone();
            let loaded = tokio::task::spawn_blocking(move || Config::load(&contexts)).await;
            let loaded = loaded.map_err(|error| error.to_string());
            self.counting(loaded.and_then(|loaded| loaded.map_err(|error| error.to_string())))
        }
        .boxed()
    }

    fn rotated(&self) {
        self.rotated.notify_one();
    }

    fn judged(&self, failure: Option<&ProbeError>) {
        let mut state = self.lock();
        if failure.is_none() {
            state.other = None;
        }
        state.unverified =
            failure.map(|failure| UnverifiedAnswer { reason: failure.to_string(), at: Timestamp::now() });
    }
}
