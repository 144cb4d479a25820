#![doc = include_str!("../README.md")]

pub mod access;
pub mod balance;
pub mod breaker;
pub mod breakers;
pub mod class;
pub mod machine;
pub mod registry;
pub mod router;

pub use access::{Access, AccessProbe, Bearer, ProbeError, ProbeRequest};
pub use balance::{Balancer, Candidate, Outstanding};
pub use breaker::{Admission, Breaker, BreakerCondition, BreakerPolicy, Verdict};
pub use breakers::{BreakerPermit, BreakerReport, Breakers, OpenBreaker, RequestForm};
pub use class::{FailureClass, RetryRule};
pub use registry::{ProviderRegistry, RegistryError};
pub use router::{
    Classified, FailoverPolicy, FailoverRequest, FailoverRouter, LocalAttempt, LocalCause, LocalError,
    PrimaryAttempt, Routed, Served, Trail,
};
