//! Another user who listens where the agent should.
