//! Level: see ARCHITECTURE.md.
