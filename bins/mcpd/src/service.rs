//! Reports to the service manager that started mcpd (systemd's `sd_notify`): ready, stopping. No-op where mcpd was not started by one.
//! And the time between its signal and the drain.

use std::time::Duration;

use mcpctl_api::HumanDuration;
use mcpctl_server::ShutdownSignal;
use sd_notify::NotifyState;

use crate::config::DrainDelay;

/// Reports that mcpd is ready.
pub fn ready(listen: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(&format!("listening on {listen}"))]);
}

/// Reports that mcpd is about to end, which takes so long at most.
pub fn stopping(within: Duration) {
    let micros = u32::try_from(within.as_micros()).unwrap_or(u32::MAX);
    notify(&[
        NotifyState::Stopping,
        NotifyState::Status("letting requests end"),
        // However short the unit's time to stop is.
        NotifyState::ExtendTimeoutUsec(micros),
    ]);
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager cannot be notified");
    }
}

/// Waits until load balancers, which ask `/readyz`, choose other replicas; a second signal ends the wait.
pub async fn wait_for_load_balancers(delay: DrainDelay, shutdown: &mut ShutdownSignal) {
    if delay == DrainDelay::default() {
        return;
    }
    tracing::info!(delay = %HumanDuration(delay.0), "shutdown: not ready any more, accepting requests until load balancers notice");
    tokio::select! {
        () = tokio::time::sleep(delay.0) => {}
        () = shutdown.recv() => {}
    }
}
