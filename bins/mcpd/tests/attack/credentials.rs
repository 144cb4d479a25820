//! Credentials for somebody else: who may make them, and what they are good for later.
