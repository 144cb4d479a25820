//! Requests that are malformed, ambiguous or oversized on the wire.
