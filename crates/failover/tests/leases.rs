//! What the router does by a lease, between the probe that had no answer and the local run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use mcpctl_failover::{
    AccessProbe, Allowance, Bearer, Classified, Denial, FailoverRequest, FailoverRouter, FailureClass,
    LeaseBook, LlmId, LlmRef, LocalAttempt, LocalError, ProbeAnswer, ProbeError, ProbeRequest,
    ProviderRegistry, SignedDenial, Trail,
    lease::{Lease, LeaseTime},
    machine::AccessGrant,
};

/// Answers in order, then none.
#[derive(Clone)]
struct Answers(Arc<Mutex<VecDeque<ProbeAnswer>>>);

impl AccessProbe for Answers {
    async fn probe(&self, _: &ProbeRequest) -> Result<ProbeAnswer, ProbeError> {
        self.0.lock().unwrap().pop_front().ok_or_else(|| ProbeError("partitioned".to_owned()))
    }
}

#[derive(Debug, PartialEq)]
struct Down;

impl Classified for Down {
    fn class(&self) -> FailureClass {
        FailureClass::Connect
    }
}

/// A local engine; while it starts, another request of the same caller is denied where `denies`.
struct Engine<'a> {
    leases: &'a LeaseBook,
    denies: AtomicBool,
}

impl LocalAttempt<(), &'static str> for Engine<'_> {
    type Ready = ();

    async fn prepare(&self, (): &(), _: &Trail) -> Result<(), LocalError> {
        if self.denies.load(Ordering::Relaxed) {
            let denial = SignedDenial { llm: None, known_caller: true, revision: 8 };
            let (llm, bearer) = (LlmRef::named("claude"), Bearer::new("alice's").digest());
            self.leases.denied(&bearer, &llm, &Denial { signed: Some(denial), rule: None });
        }
        Ok(())
    }

    async fn run(&self, (): &(), (): (), _: AccessGrant, _: &Trail) -> Result<&'static str, LocalError> {
        Ok("local")
    }
}

#[tokio::test]
async fn inv_01_lease_is_checked_again_when_the_engine_is_ready() {
    let (bearer, id) = (Bearer::new("alice's"), LlmId::new("id-1"));
    let lease = Lease {
        subject: "alice".to_owned(),
        bearer: bearer.digest(),
        llm: id.clone(),
        agent: "agent-1".to_owned(),
        revision: 7,
        grace: Duration::from_secs(60),
        token: "lease".to_owned(),
    };
    let allowance = Allowance { llm: Some(id), holds: Allowance::HOLDS, proof: Some("proof".into()) };
    let answers = Answers(Arc::new(Mutex::new(VecDeque::from([ProbeAnswer::Allowed {
        allowance,
        lease: Some(lease),
    }]))));
    let clock =
        || Some(LeaseTime { boot: Duration::from_secs(100), wall: Duration::from_secs(1_700_000_000) });
    let leases = Arc::new(LeaseBook::new("agent-1", clock));
    leases.keep_signed_in(Some(&bearer.digest()));
    let router = FailoverRouter::new(answers).with_leases(Arc::clone(&leases));
    let mut registry = ProviderRegistry::default();
    registry.register("desk", ()).unwrap();
    registry.register_failover("claude", "desk").unwrap();
    let request: FailoverRequest =
        FailoverRequest { llm: LlmRef::named("claude"), bearer, signed_in: true, form: || () };

    let engine = Engine { leases: &leases, denies: AtomicBool::new(false) };
    for (what, denies, expected) in [
        ("an allow, which brings the lease", false, Ok("local")),
        ("the lease", false, Ok("local")),
        ("a lease that a denial destroyed meanwhile", true, Err(Down)),
        ("no lease any more", false, Err(Down)),
    ] {
        engine.denies.store(denies, Ordering::Relaxed);
        let routed = router.run(&registry, &request, || async { Err(Down) }, &engine).await;
        assert_eq!(routed.result.map(|served| served.value), expected, "{what}");
        if denies {
            assert_eq!(routed.trail.local_error.unwrap().reason, "the lease ended while the engine started");
        }
    }
}
