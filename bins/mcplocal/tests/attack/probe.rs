//! What may pass for the centre's answer to the probe.
