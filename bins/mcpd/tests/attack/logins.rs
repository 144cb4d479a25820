//! Signing in: work without a credential, throttling, guessing.
