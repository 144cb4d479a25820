//! The keys that sign what agents rely on, in memory, and kept as the store has them: after a rotation at another replica
//! too.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use jiff::SignedDuration;
use mcpctl_access::proof::{self, Claims, KeyId, KeyListClaims, SignError, SigningKey};
use mcpctl_store::{AuditRow, RotationError, SigningKeys, Store, StoreError};
use tokio::sync::{Mutex, watch};

use crate::clock;

/// How often the store is asked for the keys; a notice of a rotation at another replica comes sooner, and can be lost.
const POLL_INTERVAL: Duration = Duration::from_secs(5);

/// How long agents that run need at most to follow a rotation: they fetch the list of keys every hour.
pub const ROTATION_INTERVAL: SignedDuration = SignedDuration::from_hours(1);

/// Signs with the current key.
pub struct Signing {
    store: Store,
    loaded: watch::Sender<Arc<LoadedKeys>>,
    /// Held while the store is read or changed, so that an older state never replaces a newer one.
    reading: Mutex<()>,
}

/// The keys of one moment.
pub struct LoadedKeys {
    number: i64,
    current: SigningKey,
    /// Both public keys.
    pub list: KeyListClaims,
    /// The list, signed once: its route needs no credential.
    pub signed_list: String,
}

impl LoadedKeys {
    fn new(keys: SigningKeys) -> Result<Self, SignError> {
        let SigningKeys { number, current, next } = keys;
        let list = KeyListClaims::new(current.public(), next.public(), clock::now());
        let signed_list = proof::sign(&list, &current)?;
        Ok(Self { number, current, list, signed_list })
    }
}

impl Signing {
    /// Loads the keys, makes them at the first start, and follows rotations from then on.
    ///
    /// # Errors
    /// When they cannot be loaded.
    pub async fn start(store: Store) -> anyhow::Result<Arc<Self>> {
        let keys = store.signing_keys().await.context("the signing keys cannot be loaded")?;
        let loaded = LoadedKeys::new(keys)?;
        let list = &loaded.list;
        tracing::info!(
            next = %list.next().fingerprint,
            "signing key {}: users who sign in for the first time compare it",
            list.current().fingerprint
        );
        let loaded = watch::Sender::new(Arc::new(loaded));
        let signing = Arc::new(Self { store, loaded, reading: Mutex::default() });
        tokio::spawn(follow(Arc::clone(&signing)));
        Ok(signing)
    }

    /// The keys as last loaded.
    pub fn keys(&self) -> Arc<LoadedKeys> {
        Arc::clone(&self.loaded.borrow())
    }

    /// Signs claims with the current key.
    ///
    /// # Errors
    /// When the claims make no token.
    pub fn sign<C: Claims>(&self, claims: &C) -> Result<String, SignError> {
        proof::sign(claims, &self.keys().current)
    }

    /// Makes the next key the current one, and a new next key; soon after the last rotation only where `again` is set. `row`
    /// records it.
    ///
    /// # Errors
    /// When the current key is not the `expected` one, the last rotation was a short time ago, or the store fails.
    pub async fn rotate(
        &self,
        expected: Option<&KeyId>,
        again: bool,
        row: AuditRow,
    ) -> Result<Arc<LoadedKeys>, RotationError> {
        let _reading = self.reading.lock().await;
        let not_since = if again { None } else { clock::now().checked_sub(ROTATION_INTERVAL).ok() };
        let keys = self.store.rotate_signing_keys(expected, not_since, row).await?;
        self.load(keys).map_err(|error| StoreError::Vault(error.to_string()))?;
        Ok(self.keys())
    }

    /// Loads the keys where the current one of the store is newer, the one of this number, so that an answer that was begun after
    /// a rotation is signed by its key at every replica. Where the store fails, the keys that were loaded stay in use.
    pub async fn catch_up(&self, number: i64) {
        if number <= self.keys().number {
            return;
        }
        if let Err(error) = self.refresh().await {
            tracing::warn!(error = %format!("{error:#}"), "the rotated signing keys cannot be read: the last ones stay in use");
        }
    }

    async fn refresh(&self) -> anyhow::Result<()> {
        let _reading = self.reading.lock().await;
        let keys = self.store.signing_keys().await?;
        // Not only a greater number: a backup may have been restored.
        if keys.number != self.keys().number || keys.current.public() != self.keys().current.public() {
            self.load(keys)?;
        }
        Ok(())
    }

    fn load(&self, keys: SigningKeys) -> Result<(), SignError> {
        let loaded = Arc::new(LoadedKeys::new(keys)?);
        tracing::info!(current = %loaded.list.current().fingerprint, "the signing keys are new");
        self.loaded.send_replace(loaded);
        Ok(())
    }
}

async fn follow(signing: Arc<Signing>) {
    let mut rotations = signing.store.rotations();
    let mut failed = false;
    loop {
        tokio::select! {
            changed = rotations.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(POLL_INTERVAL) => {}
        }
        let refreshed = signing.refresh().await;
        if let Err(error) = &refreshed
            && !failed
        {
            tracing::warn!(error = %format!("{error:#}"), "the signing keys cannot be read: the last ones stay in use");
        }
        failed = refreshed.is_err();
    }
}
