//! Watching changes after the right to view is gone.
