//! Writers that get in the way of a revocation.
