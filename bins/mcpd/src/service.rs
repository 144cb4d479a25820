//! Reports to the service manager that started mcpd (systemd's `sd_notify`): ready, stopping. No-op where mcpd was not started by one.

use sd_notify::NotifyState;

/// Reports that mcpd is ready.
pub fn ready(listen: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(&format!("listening on {listen}"))]);
}

/// Reports that mcpd accepts no more requests.
pub fn stopping() {
    notify(&[NotifyState::Stopping, NotifyState::Status("letting requests end")]);
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager cannot be notified");
    }
}
