#![doc = include_str!("../README.md")]

pub mod access;
pub mod balance;
pub mod bearer;
pub mod breaker;
pub mod breakers;
pub mod class;
pub mod denial;
pub mod lease;
pub mod lease_book;
pub mod llm;
pub mod llm_ids;
pub mod machine;
pub mod registry;
pub mod router;

pub use access::{Access, AccessProbe, AccessVerdict, Allowance, ProbeAnswer, ProbeError, ProbeRequest};
pub use balance::{Balancer, Candidate, Outstanding};
pub use bearer::{Bearer, BearerDigest};
pub use breaker::{Admission, Breaker, BreakerCondition, BreakerPolicy, Verdict};
pub use breakers::{BreakerPermit, BreakerReport, Breakers, OpenBreaker, RequestForm};
pub use class::{FailureClass, RetryRule};
pub use denial::{Denial, FailoverRule};
pub use lease_book::LeaseBook;
pub use llm::{LlmId, LlmRef};
pub use llm_ids::LlmIds;
pub use registry::{ProviderRegistry, RegistryError};
pub use router::{
    Classified, FailoverPolicy, FailoverRequest, FailoverRouter, LocalAttempt, LocalCause, LocalError,
    PrimaryAttempt, Routed, Served, Trail,
};
