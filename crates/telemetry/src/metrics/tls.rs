//! The metrics of TLS. They have no series where TLS is not served: a zero would read as a certificate that ended long ago.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};

use super::register;
use crate::names;

/// No label.
type Unlabelled = [(&'static str, &'static str); 0];

/// The certificate of a server.
#[derive(Debug)]
pub struct TlsMetrics {
    valid_until: Family<Unlabelled, Gauge>,
    refused: Family<Unlabelled, Gauge<u64, AtomicU64>>,
}

impl TlsMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self { valid_until: Family::default(), refused: Family::default() };
        let help = "End of the TLS certificate in use, in seconds since 1970";
        register(registry, names::TLS_VALID_UNTIL, help, &metrics.valid_until);
        let help = "Whether changed TLS files cannot be used, so that the former ones are in use";
        register(registry, names::TLS_FILES_REFUSED, help, &metrics.refused);
        metrics
    }

    /// Sets the end of the certificate, in seconds since 1970.
    pub fn valid_until(&self, seconds: i64) {
        self.valid_until.get_or_create(&[]).set(seconds);
    }

    /// Sets whether the files as they are now cannot be used.
    pub fn refused(&self, refused: bool) {
        self.refused.get_or_create(&[]).set(refused.into());
    }
}
