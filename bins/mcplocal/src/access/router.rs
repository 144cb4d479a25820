//! The router's probe and leases as the check of running requests.

use futures::{FutureExt as _, future::BoxFuture};
use mcpctl_client::Probe;
use mcpctl_dialect::Form;
use mcpctl_failover::{
    AccessVerdict, Bearer, FailoverRouter, LlmRef,
    lease::{LeaseCover, LeaseTime},
};

use super::group::AccessCheck;

impl AccessCheck for FailoverRouter<Probe, Form> {
    fn check<'a>(
        &'a self,
        llm: &'a LlmRef,
        bearer: &'a Bearer,
        signed_in: bool,
    ) -> BoxFuture<'a, AccessVerdict> {
        self.check_access(llm, bearer, signed_in).boxed()
    }

    fn lease(&self, llm: &LlmRef, bearer: &Bearer) -> Option<LeaseCover> {
        self.cover(llm, bearer)
    }

    fn lease_time(&self) -> Option<LeaseTime> {
        self.lease_time()
    }
}
