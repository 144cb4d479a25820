//! Probes: what every one of this agent has in common, whatever the configuration is; the keys by which their answers count; and
//! who probes besides requests, for leases, ids and the rotation of keys.

pub mod ahead;
pub mod id_questions;
pub mod key_rotation;
pub mod proof_keys;
pub mod signed_in;

use std::{path::PathBuf, sync::Arc, time::Duration};

use mcpctl_api::Id;
use mcpctl_client::{ClientError, Probe};
use mcpctl_failover::{LeaseBook, lease::LeaseTime};
use nix::time::{ClockId, clock_gettime};
use tokio::sync::Notify;

use self::proof_keys::KeyRing;
use crate::{access::DenialHints, config::Config};

/// Who probes, and by which keys answers count.
pub struct Probing {
    /// The agent's id, which mcpd signs.
    pub agent: Id,
    /// Notified when an answer shows that mcpd's keys were rotated.
    pub keys_rotated: Arc<Notify>,
    /// What the signed-in user's feed denies.
    pub hints: Arc<DenialHints>,
    /// The file of contexts with the pinned keys.
    contexts: PathBuf,
}

impl Probing {
    /// Of the agent with this id.
    pub fn new(agent: Id, contexts: PathBuf) -> Self {
        Self { agent, keys_rotated: Arc::default(), hints: Arc::default(), contexts }
    }

    /// No leases yet, of what one mcpd signs with one set of keys.
    pub fn leases(&self) -> Arc<LeaseBook> {
        Arc::new(LeaseBook::new(self.agent.as_str(), lease_time))
    }

    /// The keys by which answers are verified under a configuration.
    pub fn keys(&self, config: &Config, before: Option<&KeyRing>) -> Arc<KeyRing> {
        let (contexts, rotated) = (self.contexts.clone(), Arc::clone(&self.keys_rotated));
        Arc::new(KeyRing::new(config.server.clone(), config.proof_keys.clone(), contexts, rotated, before))
    }

    /// The probe under a configuration.
    ///
    /// # Errors
    /// When the address is none, or TLS cannot be set up.
    pub fn probe(&self, config: &Config, keys: &Arc<KeyRing>) -> Result<Probe, ClientError> {
        let probe = Probe::trusting(config.server.clone(), &config.trust)?;
        Ok(probe.of_agent(self.agent.clone(), Arc::<KeyRing>::clone(keys)))
    }
}

/// Reads the clocks of leases: the one that runs while the machine is suspended, and the wall clock.
fn lease_time() -> Option<LeaseTime> {
    // On Apple's systems the monotonic clock runs during sleep; on Linux only the clock of the boot does.
    #[cfg(target_os = "linux")]
    let running = ClockId::CLOCK_BOOTTIME;
    #[cfg(not(target_os = "linux"))]
    let running = ClockId::CLOCK_MONOTONIC;
    let read = |clock| {
        let time = clock_gettime(clock).ok()?;
        Some(Duration::new(time.tv_sec().try_into().ok()?, time.tv_nsec().try_into().ok()?))
    };
    Some(LeaseTime { boot: read(running)?, wall: read(ClockId::CLOCK_REALTIME)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_clocks_are_read_and_go_on() {
        let (first, second) = (lease_time().unwrap(), lease_time().unwrap());
        assert!(second.boot >= first.boot && first.wall > Duration::from_secs(1_700_000_000));
    }
}
