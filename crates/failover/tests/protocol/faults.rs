//! Mistakes that a driver of the machine, or mcpd, could make. Each is made in the model, so that it shows whether the model would
//! find it in the product.

use crate::state::Violation;

/// One thing that is done wrongly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A signed answer counts for any probe.
    NonceIsNotCompared,
    /// An answer counts that no pinned key has signed.
    UnsignedAnswersCount,
    /// Without an answer a request goes on.
    SilenceAllows,
    /// mcpd reads the id of a deleted Llm as the name that it had.
    IdsMeanNamesakes,
    /// A verdict of an earlier request is kept.
    VerdictsAreCached,
    /// Nothing is asked again after a cold start.
    ColdStartsAreNotProbed,
    /// Every failure fails over.
    EveryClassFailsOver,
    /// A lease is counted from the arrival of the answer.
    LeasesCountFromArrival,
    /// Leases are counted on a clock that stands still during suspend.
    LeasesSleep,
    /// Only the clock of the boot is read, which a paused virtual machine stops.
    WallClockIsNotRead,
    /// A lease begins anew when it is used.
    LeasesRenewThemselves,
    /// A denial leaves leases alone.
    DenialsKeepLeases,
    /// A lease is looked up before the verdict is read.
    LeasesComeFirst,
    /// A lease that was found is not looked up again when the engine is ready.
    RunsDoNotCheckLeases,
    /// A lease covers every caller.
    LeasesAreShared,
}

impl Fault {
    /// Every fault, and what it leads to.
    pub const ALL: [(Self, Violation); 15] = [
        (Self::NonceIsNotCompared, Violation::WithoutAllow),
        (Self::UnsignedAnswersCount, Violation::WithoutAllow),
        (Self::SilenceAllows, Violation::WithoutAllow),
        (Self::IdsMeanNamesakes, Violation::WithoutAllow),
        (Self::VerdictsAreCached, Violation::WithoutAllow),
        (Self::ColdStartsAreNotProbed, Violation::OldAllow),
        (Self::EveryClassFailsOver, Violation::WithoutFailure),
        (Self::LeasesCountFromArrival, Violation::LeaseTooOld),
        (Self::LeasesSleep, Violation::LeaseTooOld),
        (Self::WallClockIsNotRead, Violation::LeaseTooOld),
        (Self::LeasesRenewThemselves, Violation::LeaseTooOld),
        (Self::DenialsKeepLeases, Violation::LeaseAfterDenial),
        (Self::LeasesComeFirst, Violation::LeaseDespiteVerdict),
        (Self::RunsDoNotCheckLeases, Violation::LeaseAfterDenial),
        (Self::LeasesAreShared, Violation::WithoutAllow),
    ];
}
