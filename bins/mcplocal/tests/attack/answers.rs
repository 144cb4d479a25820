//! What answers in the centre's place, and what of it reaches the client.
