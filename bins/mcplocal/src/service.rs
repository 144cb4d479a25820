//! What the agent tells the service manager that started it, where one did (systemd's `sd_notify`): that it is ready, that
//! it lives, that it is ending. Without one, nothing is told to nobody.

use std::{sync::Arc, time::Duration};

use sd_notify::NotifyState;
use tokio::time::MissedTickBehavior;

use crate::app::App;

/// It answers from now on. A manager that watches it hears from it until it ends.
pub fn ready(app: &Arc<App>) {
    tell(&[NotifyState::Ready, NotifyState::Status(&format!("listening on {}", app.listen))]);
    if let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()) {
        tokio::spawn(watchdog(Arc::clone(app), limit / 2));
    }
}

/// It takes no more requests.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("letting requests end, then stopping engines")]);
}

/// A runtime that is stuck runs no timer and takes no lock, so it says nothing, and is started again.
async fn watchdog(app: Arc<App>, every: Duration) {
    let mut every = tokio::time::interval(every);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let _ = app.last_failover();
        tell(&[NotifyState::Watchdog]);
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}
