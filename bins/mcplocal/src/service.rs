//! Reports to the service manager that started the agent (systemd's `sd_notify`): ready, alive, stopping. No-op where the
//! agent was not started by one.

use std::{sync::Arc, time::Duration};

use sd_notify::NotifyState;
use tokio::time::MissedTickBehavior;

use crate::app::App;

/// Reports that the agent is ready, and starts the watchdog if the manager wants one.
pub fn ready(app: &Arc<App>) {
    notify(&[NotifyState::Ready, NotifyState::Status(&format!("listening on {}", app.listen))]);
    if let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()) {
        tokio::spawn(watchdog(Arc::clone(app), limit / 2));
    }
}

/// Reports that the agent accepts no more requests.
pub fn stopping() {
    notify(&[NotifyState::Stopping, NotifyState::Status("letting requests end, then stopping engines")]);
}

/// Reports that the agent is alive. A stuck runtime runs no timer and takes no lock, so it stops reporting, and the manager
/// restarts it.
async fn watchdog(app: Arc<App>, every: Duration) {
    let mut every = tokio::time::interval(every);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let _ = app.last_failover();
        notify(&[NotifyState::Watchdog]);
    }
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager cannot be notified");
    }
}
