//! Addresses of providers, loops, and what a provider may send back.
