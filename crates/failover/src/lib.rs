#![doc = include_str!("../README.md")]

pub mod access;
pub mod balance;
pub mod bearer;
pub mod breaker;
pub mod breakers;
pub mod class;
pub mod denial;
pub mod lease;
pub mod llm;
pub mod llm_ids;
pub mod machine;
pub mod registry;
pub mod router;
pub mod running;

pub use access::{Access, AccessProbe, AccessVerdict, Allowance, ProbeAnswer, ProbeError, ProbeRequest};
pub use balance::{Balancer, Candidate, Outstanding};
pub use bearer::{Bearer, BearerDigest};
pub use breaker::{Admission, Breaker, BreakerCondition, BreakerPolicy, Verdict};
pub use breakers::{BreakerPermit, BreakerReport, Breakers, OpenBreaker, RequestForm};
pub use class::{FailureClass, RetryRule};
pub use denial::{Denial, FailoverRule, SignedDenial};
pub use lease::LeaseBook;
pub use llm::{LlmId, LlmRef};
pub use llm_ids::LlmIds;
pub use registry::{ProviderRegistry, RegistryError};
pub use router::{
    Classified, FailoverPolicy, FailoverRequest, FailoverRouter, LocalAttempt, LocalCause, LocalError,
    PrimaryAttempt, Routed, Served, Trail,
};
pub use running::{AccessEnded, FeedDecision, FeedReading, RunningRequests};
