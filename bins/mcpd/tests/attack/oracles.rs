//! What a refusal shows about resources that the caller may not view.
