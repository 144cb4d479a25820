//! Who can have a secret's value sent where.
