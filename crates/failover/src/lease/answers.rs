//! Signed answers of mcpd's that left a caller without a lease: a lease that was on its way when such an answer came must not
//! count.

use std::{collections::VecDeque, time::Duration};

use super::granted::{Lease, LeaseTime, MAX_GRACE};
use crate::{
    bearer::BearerDigest,
    llm::{LlmId, LlmRef},
};

/// Most answers that are remembered; beyond them the oldest is forgotten, and no lease is accepted that was asked for before it.
pub(super) const MAX_ANSWERS: usize = 256;

/// The answers without a lease.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct LeaselessAnswers {
    answers: VecDeque<LeaselessAnswer>,
    /// Leases of probes that were sent at or before this time are refused.
    refused_until: Option<Duration>,
}

/// One answer without a lease.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct LeaselessAnswer {
    pub bearer: BearerDigest,
    /// `None` for every Llm.
    pub llm: Option<JudgedLlm>,
    /// The revision that was judged, where the answer named it: a lease of a later one is newer.
    pub revision: Option<u64>,
    /// When it came, on the clock of the boot.
    pub at: Duration,
}

/// An Llm that was judged: by its id where mcpd named it, and as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct JudgedLlm {
    pub id: Option<LlmId>,
    pub asked: LlmRef,
}

impl LeaselessAnswers {
    /// Remembers an answer. Of two about the same the later time and the higher revision count.
    pub fn remember(&mut self, answer: LeaselessAnswer) {
        let LeaselessAnswer { bearer, llm, mut revision, at } = answer;
        self.answers.retain(|known| {
            let is_same =
                known.bearer == bearer && known.llm == llm && known.revision.is_some() == revision.is_some();
            if is_same {
                revision = revision.max(known.revision);
            }
            !is_same
        });
        self.answers.push_back(LeaselessAnswer { bearer, llm, revision, at });
        while self.answers.len() > MAX_ANSWERS {
            let oldest = self.answers.pop_front().map(|answer| answer.at);
            self.refused_until = self.refused_until.max(oldest);
        }
    }

    /// Whether a lease is older than what mcpd answered since its probe was sent.
    pub fn outlaw(&self, lease: &Lease, llm: &LlmRef, sent: LeaseTime) -> bool {
        self.refused_until.is_some_and(|until| sent.boot <= until)
            || self.answers.iter().any(|answer| answer.outlaws(lease, llm, sent))
    }

    /// Refuses all leases of probes that were sent until now.
    pub fn refuse_until(&mut self, boot: Duration) {
        self.answers.clear();
        self.refused_until = self.refused_until.max(Some(boot));
    }

    /// Forgets answers that are older than any lease: what was on its way when they came has ended since. Later leases of a
    /// lower revision are of an mcpd that was restored from a backup, and count.
    pub fn sweep(&mut self, now: LeaseTime) {
        self.answers.retain(|answer| now.boot.saturating_sub(answer.at) < MAX_GRACE);
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.answers.len()
    }
}

impl LeaselessAnswer {
    fn outlaws(&self, lease: &Lease, llm: &LlmRef, sent: LeaseTime) -> bool {
        let concerns = self.bearer == lease.bearer
            && self.llm.as_ref().is_none_or(|judged| {
                judged.id.as_ref() == Some(&lease.llm)
                    || judged.asked.asked == lease.llm.as_str()
                    || judged.asked.asked == llm.asked
                    || judged.asked.name == llm.name
            });
        let was_sent_before = sent.boot <= self.at;
        concerns
            && self.revision.map_or(was_sent_before, |revision| {
                lease.revision < revision || lease.revision == revision && was_sent_before
            })
    }
}
