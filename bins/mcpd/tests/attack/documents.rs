//! Documents that are too large, too deep, or that command a terminal.
