//! Leases: what mcpd handed out beside an *allowed* so that the same caller may go on using the Llm for some minutes while no
//! verdict can be had. A pure machine: `(Leases, what happened, now) -> Leases`. It does no I/O and reads no clock, and what it
//! holds is in memory only.
//!
//! A lease is counted from the sending of the probe that brought it, and ends when either clock has run its grace out: the one
//! that runs during suspend, or the wall clock. It is void when the wall clock was stepped back, and destroyed by any signed
//! denial of the same caller and Llm.

use std::{collections::VecDeque, time::Duration};

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::{
    bearer::BearerDigest,
    denial::Denial,
    llm::{LlmId, LlmRef},
};

/// Longest grace that is accepted, whatever mcpd signed.
pub const MAX_GRACE: Duration = Duration::from_secs(300);
/// Most leases that are held; beyond them the one that was asked for first is dropped.
pub const MAX_LEASES: usize = 256;
/// Most denials that are remembered; beyond them the oldest is forgotten, and no lease is accepted that was asked for before it.
const MAX_DENIALS: usize = 256;
/// Most names of one Llm that are kept; it has one and an id, unless it is renamed.
const MAX_LEASE_NAMES: usize = 8;
/// How far the wall clock may lag behind the other one within a grace without having been stepped: NTP slews by at most 0.05 %
/// (adjtime), 150 ms in 300 s.
const MAX_WALL_LAG: Duration = Duration::from_secs(1);

/// A reading of both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaseTime {
    /// Since the machine was booted, suspended time included.
    pub boot: Duration,
    /// Since 1970, as the machine's wall clock has it.
    pub wall: Duration,
}

/// A lease that mcpd signed.
#[derive(Clone, PartialEq, Eq, Hash, Zeroize, ZeroizeOnDrop)]
pub struct Lease {
    /// The id of the account that it is for.
    pub subject: String,
    /// The credential that it is for.
    pub bearer: BearerDigest,
    /// The Llm that it is for.
    #[zeroize(skip)]
    pub llm: LlmId,
    /// The agent that it is for.
    pub agent: String,
    /// The revision that mcpd judged.
    pub revision: u64,
    /// How long it covers the caller from the sending of the probe on.
    #[zeroize(skip)]
    pub grace: Duration,
    /// The signed text, for the journal.
    pub token: String,
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { subject, llm, revision, grace, .. } = self;
        write!(f, "Lease({subject}, {llm}, revision {revision}, {grace:?})")
    }
}

/// A lease that covers a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LeaseCover {
    /// The Llm.
    pub llm: LlmId,
    /// The id of the account.
    pub subject: String,
    /// How long it still covers.
    pub remaining: Duration,
    /// The reading of the clock that runs during suspend at which it ends.
    pub ends: Duration,
    /// The signed text, for the journal.
    pub token: String,
}

/// The leases of one agent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Leases {
    agent: String,
    /// In the order in which they were asked for.
    #[expect(
        clippy::vec_box,
        reason = "a vector that moves its elements leaves copies of them, which nothing wipes"
    )]
    held: Vec<Box<HeldLease>>,
    denials: VecDeque<RememberedDenial>,
    /// Leases of probes that were sent at or before this time are refused.
    refused_until: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Zeroize, ZeroizeOnDrop)]
struct HeldLease {
    lease: Lease,
    /// The name that the Llm was asked for by; `None` where only its id was. A request by this name is covered.
    name: Option<String>,
    /// Every name that it was asked for or is configured by, the latest last. A denial of any of them ends the lease.
    names: Vec<String>,
    #[zeroize(skip)]
    sent: LeaseTime,
    /// Whether it came to the user who is signed in.
    signed_in: bool,
}

/// A signed denial. A lease may have been on its way when it came.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct RememberedDenial {
    bearer: BearerDigest,
    /// `None` for every Llm.
    llm: Option<DeniedLlm>,
    revision: Option<u64>,
    at: Duration,
}

/// An Llm that was denied: by its id where mcpd named it, and as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct DeniedLlm {
    id: Option<LlmId>,
    asked: LlmRef,
}

/// Whose request a lease is for.
#[derive(Debug, Clone, Copy)]
pub struct LeaseCaller<'a> {
    /// The caller's credential.
    pub bearer: &'a BearerDigest,
    /// Whether the caller is the user who is signed in.
    pub signed_in: bool,
}

impl Leases {
    /// The leases of the agent with this id: none yet.
    pub fn of(agent: impl Into<String>) -> Self {
        Self { agent: agent.into(), held: Vec::new(), denials: VecDeque::new(), refused_until: None }
    }

    /// How many are held.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// mcpd allowed the caller this Llm, in a signed answer to a probe that was sent at `sent`. The lease that came with it
    /// replaces the one before; where none came, the Llm has no grace any more, and the one before ends.
    pub fn allowed(
        &mut self,
        caller: LeaseCaller<'_>,
        llm: &LlmRef,
        id: &LlmId,
        lease: Option<Lease>,
        sent: LeaseTime,
        now: LeaseTime,
    ) {
        self.sweep(now);
        let is_same = |held: &HeldLease| held.lease.bearer == *caller.bearer && held.concerns(Some(id), llm);
        let Some(lease) = lease else {
            return self.held.retain(|held| !is_same(held));
        };
        let is_owned = lease.bearer == *caller.bearer && lease.llm == *id;
        if !is_owned || !self.accepts(&lease, llm, sent, now) {
            return;
        }
        let mut name = (llm.asked != id.as_str()).then(|| llm.asked.clone());
        let mut names = vec![llm.asked.clone(), llm.name.clone()];
        for held in self.held.iter_mut().filter(|held| is_same(held) && held.lease.llm == *id) {
            // Answers may overtake each other; what is learned about the name counts all the same.
            if held.sent.boot > sent.boot || held.lease.revision > lease.revision {
                return held.also_known_as(names);
            }
            name = name.or_else(|| held.name.clone());
            held.also_known_as(names);
            names = std::mem::take(&mut held.names);
        }
        // Also the lease of another Llm that had the name before.
        self.held.retain(|held| !is_same(held));
        let held = HeldLease { lease, name, names, sent, signed_in: caller.signed_in };
        let at = self.held.partition_point(|other| other.sent.boot <= sent.boot);
        self.held.insert(at, Box::new(held));
        let surplus = self.held.len().saturating_sub(MAX_LEASES);
        self.held.drain(..surplus);
    }

    /// INVARIANT 1: a lease is for this agent, is short, and was not asked for before the latest denial.
    fn accepts(&self, lease: &Lease, llm: &LlmRef, sent: LeaseTime, now: LeaseTime) -> bool {
        lease.agent == self.agent
            && lease.grace <= MAX_GRACE
            && remaining(lease.grace, sent, now).is_some()
            && self.refused_until.is_none_or(|until| sent.boot > until)
            && !self.denials.iter().any(|denial| denial.outlaws(lease, llm, sent))
    }

    /// The lease that covers a request for which no verdict could be had.
    pub fn cover(&mut self, bearer: &BearerDigest, llm: &LlmRef, now: LeaseTime) -> Option<LeaseCover> {
        self.sweep(now);
        let held = self.held.iter().find(|held| {
            let is_named = held.name.as_ref() == Some(&llm.asked);
            held.lease.bearer == *bearer && (is_named || held.lease.llm.as_str() == llm.asked)
        })?;
        let lease = &held.lease;
        let remaining = remaining(lease.grace, held.sent, now)?;
        Some(LeaseCover {
            llm: lease.llm.clone(),
            subject: lease.subject.clone(),
            remaining,
            ends: now.boot.saturating_add(remaining),
            token: lease.token.clone(),
        })
    }

    /// mcpd denied the caller this Llm. An unsigned denial changes nothing, because anyone can make one.
    pub fn denied(&mut self, bearer: &BearerDigest, llm: &LlmRef, denial: &Denial, now: LeaseTime) {
        self.sweep(now);
        if !denial.authenticated {
            return;
        }
        let denied = denial.known_caller.then(|| DeniedLlm { id: denial.llm.clone(), asked: llm.clone() });
        self.held.retain(|held| {
            let is_denied = denied.as_ref().is_none_or(|denied| held.concerns(denied.id.as_ref(), llm));
            held.lease.bearer != *bearer || !is_denied
        });
        // Leases may be on their way.
        self.denials.retain(|known| known.bearer != *bearer || known.llm != denied);
        self.denials.push_back(RememberedDenial {
            bearer: bearer.clone(),
            llm: denied,
            revision: denial.revision,
            at: now.boot,
        });
        while self.denials.len() > MAX_DENIALS {
            let oldest = self.denials.pop_front().map(|denial| denial.at);
            self.refused_until = self.refused_until.max(oldest);
        }
    }

    /// Drops all leases and accepts none any more: no clock tells how old they are.
    pub fn forget(&mut self) {
        self.held.clear();
        self.refused_until = Some(Duration::MAX);
    }

    /// Drops all leases, and refuses those that are on their way.
    pub fn clear(&mut self, now: LeaseTime) {
        self.held.clear();
        self.denials.clear();
        self.refused_until = self.refused_until.max(Some(now.boot));
    }

    /// Drops the leases of users who were signed in before this one; `None` where no user is signed in now.
    pub fn keep_signed_in(&mut self, user: Option<&BearerDigest>) {
        self.held.retain(|held| !held.signed_in || Some(&held.lease.bearer) == user);
    }

    /// Drops the leases that have ended or are void.
    pub fn sweep(&mut self, now: LeaseTime) {
        self.held.retain(|held| remaining(held.lease.grace, held.sent, now).is_some());
    }
}

impl HeldLease {
    fn also_known_as(&mut self, names: Vec<String>) {
        self.names.retain(|known| !names.contains(known));
        self.names.extend(names);
        self.names.dedup();
        let surplus = self.names.len().saturating_sub(MAX_LEASE_NAMES);
        self.names.drain(..surplus);
    }

    /// Whether it is of the Llm with this id, or of one that goes by what was asked for.
    fn concerns(&self, id: Option<&LlmId>, llm: &LlmRef) -> bool {
        let is_named = self.names.contains(&llm.asked) || self.names.contains(&llm.name);
        Some(&self.lease.llm) == id || self.lease.llm.as_str() == llm.asked || is_named
    }
}

impl RememberedDenial {
    /// Whether it is newer than what the lease was handed out by.
    fn outlaws(&self, lease: &Lease, llm: &LlmRef, sent: LeaseTime) -> bool {
        let concerns = self.bearer == lease.bearer
            && self.llm.as_ref().is_none_or(|denied| {
                denied.id.as_ref() == Some(&lease.llm)
                    || denied.asked.asked == lease.llm.as_str()
                    || denied.asked.asked == llm.asked
                    || denied.asked.name == llm.name
            });
        let was_sent_before = sent.boot <= self.at;
        concerns
            && self.revision.map_or(was_sent_before, |revision| {
                lease.revision < revision || lease.revision == revision && was_sent_before
            })
    }
}

/// What is left of a grace; `None` where it has ended, or a clock shows that the time since `sent` is not known.
fn remaining(grace: Duration, sent: LeaseTime, now: LeaseTime) -> Option<Duration> {
    let boot = now.boot.checked_sub(sent.boot)?;
    // Void: the wall clock was stepped back.
    let wall = now.wall.checked_sub(sent.wall)?;
    if wall.saturating_add(MAX_WALL_LAG) < boot {
        return None;
    }
    // A paused virtual machine stops the clock of the boot, and its wall clock is set right afterwards.
    grace.checked_sub(boot.max(wall)).filter(|left| !left.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGENT: &str = "agent-1";

    fn at(seconds: u64) -> LeaseTime {
        LeaseTime {
            boot: Duration::from_secs(1000 + seconds),
            wall: Duration::from_secs(1_700_000_000 + seconds),
        }
    }

    fn bearer(number: u8) -> BearerDigest {
        BearerDigest::new([number; 32])
    }

    fn claude() -> LlmRef {
        LlmRef::named("claude")
    }

    fn id() -> LlmId {
        LlmId::new("id-1")
    }

    fn lease(revision: u64) -> Lease {
        lease_of(bearer(1), id(), revision)
    }

    fn lease_of(bearer: BearerDigest, llm: LlmId, revision: u64) -> Lease {
        Lease {
            subject: "alice".to_owned(),
            bearer,
            llm,
            agent: AGENT.to_owned(),
            revision,
            grace: Duration::from_secs(60),
            token: format!("lease at {revision}"),
        }
    }

    fn caller(bearer: &BearerDigest) -> LeaseCaller<'_> {
        LeaseCaller { bearer, signed_in: true }
    }

    /// One lease of Alice's, asked for at 0 by name.
    fn held() -> Leases {
        let mut leases = Leases::of(AGENT);
        leases.allowed(caller(&bearer(1)), &claude(), &id(), Some(lease(5)), at(0), at(0));
        leases
    }

    fn covers(leases: &Leases, llm: &LlmRef, now: LeaseTime) -> bool {
        leases.clone().cover(&bearer(1), llm, now).is_some()
    }

    fn denial() -> Denial {
        Denial { authenticated: true, llm: None, known_caller: true, revision: Some(6), rule: None }
    }

    #[test]
    fn lease_covers_its_caller_and_llm_for_its_grace() {
        let mut leases = held();
        let cover = leases.cover(&bearer(1), &claude(), at(20)).unwrap();
        assert_eq!((cover.llm, cover.subject.as_str(), cover.token.as_str()), (id(), "alice", "lease at 5"));
        assert_eq!((cover.remaining, cover.ends), (Duration::from_secs(40), at(60).boot));
        assert!(covers(&leases, &LlmRef::by_id(&id(), "claude"), at(59)), "by id too");
        assert!(
            !covers(&leases, &LlmRef::by_id(&LlmId::new("id-2"), "claude"), at(1)),
            "made again: another Llm"
        );
        assert!(!covers(&leases, &LlmRef::named("gpt"), at(1)));
        assert!(leases.cover(&bearer(2), &claude(), at(1)).is_none(), "another bearer");
        assert!(leases.cover(&bearer(1), &claude(), at(60)).is_none());
        assert!(leases.is_empty(), "what has ended is dropped");
    }

    #[test]
    fn lease_that_came_by_id_covers_no_name() {
        let mut leases = Leases::of(AGENT);
        let by_id = LlmRef::by_id(&id(), "claude");
        leases.allowed(caller(&bearer(1)), &by_id, &id(), Some(lease(5)), at(0), at(0));
        assert!(covers(&leases, &by_id, at(1)));
        assert!(!covers(&leases, &claude(), at(1)), "the name may be another Llm's by now");
        let mut denied = leases.clone();
        denied.denied(&bearer(1), &claude(), &denial(), at(1));
        assert!(denied.is_empty(), "a denial by the name that it is configured by ends it");
        // An answer by name that was overtaken tells the name, too.
        let mut overtaken = Leases::of(AGENT);
        overtaken.allowed(
            caller(&bearer(1)),
            &LlmRef::by_id(&id(), id().as_str()),
            &id(),
            Some(lease(5)),
            at(1),
            at(1),
        );
        overtaken.allowed(caller(&bearer(1)), &claude(), &id(), Some(lease(5)), at(0), at(1));
        overtaken.denied(&bearer(1), &claude(), &denial(), at(1));
        assert!(overtaken.is_empty());
        // A renewal by name covers both from then on, and one by id takes the name away from neither.
        leases.allowed(caller(&bearer(1)), &claude(), &id(), Some(lease(5)), at(1), at(1));
        leases.allowed(caller(&bearer(1)), &by_id, &id(), Some(lease(5)), at(2), at(2));
        assert!(covers(&leases, &by_id, at(61)) && covers(&leases, &claude(), at(61)));
        assert_eq!(leases.len(), 1);
    }

    #[test]
    fn leases_of_others_and_long_ones_are_refused() {
        let accepted = |change: &dyn Fn(&mut Lease)| {
            let (mut leases, mut lease) = (Leases::of(AGENT), lease(5));
            change(&mut lease);
            leases.allowed(caller(&bearer(1)), &claude(), &id(), Some(lease), at(0), at(0));
            leases.len() == 1
        };
        assert!(accepted(&|_| ()));
        assert!(!accepted(&|lease| lease.bearer = bearer(2)));
        assert!(!accepted(&|lease| lease.llm = LlmId::new("id-2")));
        assert!(!accepted(&|lease| lease.agent = "agent-2".to_owned()));
        assert!(!accepted(&|lease| lease.grace = Duration::ZERO));
        assert!(accepted(&|lease| lease.grace = MAX_GRACE));
        assert!(!accepted(&|lease| lease.grace = MAX_GRACE + Duration::from_nanos(1)));
    }

    #[test]
    fn lease_is_counted_from_the_sending_of_the_probe() {
        let mut leases = Leases::of(AGENT);
        leases.allowed(caller(&bearer(1)), &claude(), &id(), Some(lease(5)), at(0), at(50));
        assert!(covers(&leases, &claude(), at(59)) && !covers(&leases, &claude(), at(60)));
        leases.allowed(caller(&bearer(1)), &claude(), &id(), Some(lease(5)), at(0), at(60));
        assert!(!covers(&leases, &claude(), at(60)), "an answer that took longer than the grace brings none");
    }

    #[test]
    fn either_clock_ends_a_lease_and_a_step_back_voids_it() {
        let time = |boot, wall| LeaseTime { boot: at(boot).boot, wall: at(wall).wall };
        for (now, holds) in [
            (time(59, 59), true),
            // Slewed within what NTP may do.
            (time(59, 58), true),
            // Stepped back: by less than has passed, and by more.
            (time(59, 57), false),
            (LeaseTime { wall: Duration::from_secs(1), ..at(10) }, false),
            // A paused machine: the clock of the boot stood still.
            (time(1, 60), false),
            // Suspended: it did not.
            (time(60, 59), false),
            // A restored snapshot of the machine.
            (LeaseTime { boot: Duration::from_secs(1), ..at(10) }, false),
        ] {
            assert_eq!(covers(&held(), &claude(), now), holds, "{now:?}");
        }
        // Void is void, also when the clock is set right again.
        let mut leases = held();
        leases.sweep(LeaseTime { wall: Duration::from_secs(1), ..at(10) });
        assert!(!covers(&leases, &claude(), at(10)));
    }

    #[test]
    fn signed_denial_destroys_the_lease() {
        let by_id = LlmRef::by_id(&id(), "claude");
        let unknown = Denial { known_caller: false, ..denial() };
        for (asked, denial, who, survives) in [
            (claude(), denial(), 1, false),
            (by_id, denial(), 1, false),
            (LlmRef::named("alias"), Denial { llm: Some(id()), ..denial() }, 1, false),
            (LlmRef::named("gpt"), unknown, 1, false),
            (LlmRef::named("gpt"), denial(), 1, true),
            // A lease is found by the name that its id is configured by, too.
            (LlmRef::by_id(&LlmId::new("id-9"), "claude"), denial(), 1, false),
            (claude(), denial(), 2, true),
            (claude(), Denial { authenticated: false, ..denial() }, 1, true),
        ] {
            let mut leases = held();
            leases.denied(&bearer(who), &asked, &denial, at(1));
            assert_eq!(covers(&leases, &claude(), at(1)), survives, "{asked:?} {denial:?}");
        }
    }

    #[test]
    fn lease_that_a_denial_overtook_is_refused() {
        let accepted = |revision: u64, sent: u64, denial: &Denial| {
            let mut leases = Leases::of(AGENT);
            leases.denied(&bearer(1), &claude(), denial, at(10));
            leases.allowed(caller(&bearer(1)), &claude(), &id(), Some(lease(revision)), at(sent), at(20));
            leases.len() == 1
        };
        assert!(!accepted(5, 9, &denial()), "it was on its way");
        assert!(!accepted(5, 11, &denial()), "an older revision after a newer one");
        assert!(!accepted(6, 10, &denial()));
        assert!(accepted(6, 11, &denial()), "asked again, and allowed");
        assert!(accepted(7, 9, &denial()), "granted again");
        let unknown = Denial { known_caller: false, revision: None, ..denial() };
        assert!(!accepted(7, 10, &unknown) && accepted(7, 11, &unknown));
    }

    #[test]
    fn latest_verdict_decides_about_the_lease() {
        let mut leases = held();
        // An answer that was overtaken.
        leases.allowed(caller(&bearer(1)), &claude(), &id(), Some(lease(4)), at(1), at(2));
        assert_eq!(leases.cover(&bearer(1), &claude(), at(2)).unwrap().token, "lease at 5");
        leases.allowed(caller(&bearer(1)), &claude(), &id(), Some(lease(6)), at(3), at(3));
        assert_eq!(leases.cover(&bearer(1), &claude(), at(3)).unwrap().ends, at(63).boot);
        // The Llm was made again under its name.
        let two = LlmId::new("id-2");
        let lease_two = lease_of(bearer(1), two.clone(), 7);
        leases.allowed(caller(&bearer(1)), &claude(), &two, Some(lease_two), at(4), at(4));
        assert_eq!((leases.len(), leases.cover(&bearer(1), &claude(), at(4)).unwrap().llm), (1, two.clone()));
        // `offlineGrace` was taken away.
        leases.allowed(caller(&bearer(1)), &claude(), &two, None, at(5), at(5));
        assert!(leases.is_empty());
    }

    #[test]
    fn another_user_or_configuration_drops_leases() {
        let others = || {
            let (mut leases, token) = (held(), LeaseCaller { bearer: &bearer(2), signed_in: false });
            let lease = lease_of(bearer(2), id(), 5);
            leases.allowed(token, &claude(), &id(), Some(lease), at(0), at(0));
            leases
        };
        let mut leases = others();
        leases.keep_signed_in(Some(&bearer(1)));
        assert_eq!(leases.len(), 2);
        leases.keep_signed_in(None);
        assert!(leases.len() == 1 && leases.cover(&bearer(2), &claude(), at(0)).is_some());

        let mut leases = others();
        leases.clear(at(1));
        leases.allowed(caller(&bearer(1)), &claude(), &id(), Some(lease(9)), at(1), at(2));
        assert!(leases.is_empty(), "it was on its way");
        leases.allowed(caller(&bearer(1)), &claude(), &id(), Some(lease(9)), at(2), at(2));
        assert_eq!(leases.len(), 1);
        leases.forget();
        leases.allowed(caller(&bearer(1)), &claude(), &id(), Some(lease(9)), at(3), at(3));
        assert!(leases.is_empty(), "without a clock there are no leases");
    }

    #[test]
    fn leases_and_denials_have_bounds() {
        let (mut leases, numbers) = (Leases::of(AGENT), 0..MAX_LEASES + 10);
        for number in numbers {
            let (llm, sent) = (LlmId::new(&format!("id-{number}")), at(0));
            let sent = LeaseTime { boot: sent.boot + Duration::from_millis(number as u64), ..sent };
            let lease = lease_of(bearer(1), llm.clone(), 5);
            let asked = LlmRef::named(format!("llm-{number}"));
            leases.allowed(caller(&bearer(1)), &asked, &llm, Some(lease), sent, sent);
        }
        assert_eq!(leases.len(), MAX_LEASES);
        assert!(
            !covers(&leases, &LlmRef::named("llm-9"), at(1))
                && covers(&leases, &LlmRef::named("llm-10"), at(1))
        );

        for number in 0..MAX_DENIALS + 1 {
            let sent = LeaseTime { boot: at(1).boot + Duration::from_millis(number as u64), ..at(1) };
            leases.denied(&bearer(1), &LlmRef::named(format!("x-{number}")), &denial(), sent);
        }
        assert_eq!(leases.denials.len(), MAX_DENIALS);
        leases.allowed(caller(&bearer(1)), &claude(), &id(), Some(lease(9)), at(1), at(2));
        assert!(!covers(&leases, &claude(), at(2)), "it was asked for before a denial that is forgotten");
    }

    #[test]
    fn leases_do_not_print_their_token() {
        let text = format!("{:?}", held());
        assert!(text.contains("alice") && !text.contains("lease at 5"), "{text}");
    }
}
