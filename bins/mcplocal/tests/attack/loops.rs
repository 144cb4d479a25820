//! Requests that come back to the agent.
