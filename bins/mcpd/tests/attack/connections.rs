//! Connections that are silent, slow, or never read.
