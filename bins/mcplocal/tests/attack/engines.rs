//! What a managed engine learns, and who can reach it.
