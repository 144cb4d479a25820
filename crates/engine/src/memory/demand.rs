//! The memory that an engine takes of its group: how much, of which GPUs, and whether that fits and is free. Pure: the
//! drivers' readings are arguments.

use super::{
    bytes::{gib, sum},
    gpu::{Gpu, OtherPrograms},
    placement::{Need, Placement},
};

/// The memory that an engine takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Demand {
    /// Bytes in all; `None` where unknown: then it is alone in its group.
    pub(super) need: Option<u64>,
    /// Bytes that the group has by its configuration.
    pub(super) declared: Option<u64>,
    /// The GPUs that it takes them from; empty where no driver reports any that it sees.
    pub(super) parts: Vec<Part>,
    /// Whether it takes them wherever memory is free, not exactly as `parts` has it.
    pub(super) pooled: bool,
}

/// The memory of one GPU that it takes, bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) gpu: u32,
    pub(super) total: u64,
    pub(super) bytes: u64,
}

/// Why a claim can never be satisfied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unsatisfiable {
    GpusMissing { wanted: u32, seen: usize },
    TooBig { need: u64, capacity: u64 },
}

impl Demand {
    /// For an engine that sees these GPUs.
    ///
    /// # Errors
    /// When there can never be enough memory for it.
    pub(super) fn of(place: &Placement, seen: &[Gpu]) -> Result<Self, Unsatisfiable> {
        let declared = place.capacity;
        let all: u64 = sum(seen.iter().map(|gpu| gpu.total));
        let part = |gpu: &Gpu, bytes| Part { gpu: gpu.index, total: gpu.total, bytes };
        let demand = match place.need {
            Need::Unknown => {
                let parts = seen.iter().map(|gpu| part(gpu, 0)).collect();
                Self { need: None, declared, parts, pooled: true }
            }
            // Layers are distributed in proportion to the GPUs' memory.
            Need::Bytes(bytes) => {
                let parts = seen.iter().map(|gpu| part(gpu, portion(bytes, gpu.total, all))).collect();
                Self { need: Some(bytes), declared, parts, pooled: true }
            }
            // Without a driver, only the configured memory of the group can be shared.
            Need::Share { of, .. } if seen.is_empty() => {
                let need = declared.map(|capacity| share(capacity, of));
                Self { need, declared, parts: Vec::new(), pooled: false }
            }
            Need::Share { gpus: wanted, .. } if wanted as usize > seen.len() => {
                return Err(Unsatisfiable::GpusMissing { wanted, seen: seen.len() });
            }
            Need::Share { of, gpus } => {
                let first = seen.iter().take(gpus as usize);
                let parts: Vec<_> = first.map(|gpu| part(gpu, share(gpu.total, of))).collect();
                let need = Some(sum(parts.iter().map(|part| part.bytes)));
                Self { need, declared, parts, pooled: false }
            }
        };
        match demand.need.zip(demand.capacity()) {
            Some((need, capacity)) if need > capacity => Err(Unsatisfiable::TooBig { need, capacity }),
            _ => Ok(demand),
        }
    }

    /// The memory that waking takes, by what each GPU had more of when the engine fell asleep.
    pub(super) fn to_wake(&self, released: &[(u32, u64)]) -> Self {
        // Memory beyond its own was another process's.
        let own = |part: &Part| if self.pooled { self.need.unwrap_or(part.total) } else { part.bytes };
        let came_free = |gpu| released.iter().find(|(other, _)| *other == gpu).map_or(0, |(_, bytes)| *bytes);
        let parts: Vec<_> = self
            .parts
            .iter()
            .map(|part| Part { bytes: came_free(part.gpu).min(own(part)), ..part.clone() })
            .collect();
        let need = Some(sum(parts.iter().map(|part| part.bytes)));
        Self { need, declared: self.declared, parts, pooled: false }
    }

    /// All memory for it, where that is known.
    fn capacity(&self) -> Option<u64> {
        self.declared
            .or_else(|| (!self.parts.is_empty()).then(|| sum(self.parts.iter().map(|part| part.total))))
    }

    /// Whether both may take memory of the same GPU; true where no driver reports their GPUs.
    pub(super) fn shares_gpus(&self, other: &Self) -> bool {
        self.parts.is_empty()
            || other.parts.is_empty()
            || self.parts.iter().any(|part| other.parts.iter().any(|theirs| theirs.gpu == part.gpu))
    }

    /// Whether the other's memory counts against this one's: not where both are known to take theirs from different GPUs.
    pub(super) fn touches(&self, other: &Self) -> bool {
        let known = self.declared.is_none() && self.need.is_some() && other.need.is_some();
        !known || self.shares_gpus(other)
    }

    /// Whether it fits beside others that it touches.
    pub(super) fn fits_beside<'a>(&self, others: impl Iterator<Item = &'a Self> + Clone) -> bool {
        if others.clone().next().is_none() {
            return true;
        }
        let Some(need) = self.need else { return false };
        if others.clone().any(|other| other.need.is_none()) {
            return false;
        }
        if let Some(capacity) = self.declared {
            return sum(others.filter_map(|other| other.need)).saturating_add(need) <= capacity;
        }
        if self.parts.is_empty() {
            return false;
        }
        let taken = |part: &Part| sum(others.clone().map(|other| other.takes_of(part.gpu)));
        if self.pooled {
            let total = sum(self.parts.iter().map(|part| part.total));
            sum(self.parts.iter().map(taken)).saturating_add(need) <= total
        } else {
            self.parts.iter().all(|part| taken(part).saturating_add(part.bytes) <= part.total)
        }
    }

    fn takes_of(&self, gpu: u32) -> u64 {
        if self.parts.is_empty() {
            // Its GPUs are unknown.
            return self.need.unwrap_or(u64::MAX);
        }
        self.parts.iter().find(|part| part.gpu == gpu).map_or(0, |part| part.bytes)
    }

    /// Whether it is free by a driver's reading. A driver that stopped responding counts as none.
    pub(super) fn is_free(&self, read: &[Gpu]) -> bool {
        self.is_within(read, |gpu| gpu.free)
    }

    /// Whether it would be free if every engine had left, and the other programs stayed.
    pub(super) fn fits_beside_programs(&self, read: &[Gpu], programs: &OtherPrograms) -> bool {
        self.is_within(read, |gpu| gpu.total.saturating_sub(programs.hold_of(gpu)))
    }

    /// Whether its GPUs have it, where each has so much.
    fn is_within(&self, read: &[Gpu], has: impl Fn(&Gpu) -> u64) -> bool {
        if self.pooled {
            let mut ours = self.ours(read).peekable();
            ours.peek().is_none() || sum(ours.map(has)) >= self.need.unwrap_or(0)
        } else {
            self.parts.iter().all(|part| {
                read.iter().find(|gpu| gpu.index == part.gpu).is_none_or(|gpu| has(gpu) >= part.bytes)
            })
        }
    }

    /// What is free of its GPUs, bytes.
    pub(super) fn free(&self, read: &[Gpu]) -> u64 {
        sum(self.ours(read).map(|gpu| gpu.free))
    }

    /// Why it is not free, as text: both numbers, with those of its GPUs where it does not see all, and who holds the rest.
    pub(super) fn shortage(&self, read: &[Gpu], programs: &OtherPrograms) -> String {
        let total = sum(self.ours(read).map(|gpu| gpu.total));
        let (need, free) = (gib(self.need.unwrap_or(0)), gib(self.free(read)));
        let ours: Vec<_> = self.ours(read).map(|gpu| gpu.index.to_string()).collect();
        let place =
            if ours.len() == read.len() { String::new() } else { format!(" on GPU {}", ours.join(", ")) };
        let holders = programs.describe(self.ours(read));
        let holders = holders.unwrap_or_else(|| "other programs hold the rest".to_owned());
        format!("needs {need} of GPU memory, and {free} of {} are free{place}; {holders}", gib(total))
    }

    /// How much more each of its GPUs has free in the second reading; `None` where one of them cannot be read.
    pub(super) fn came_free(&self, before: &[Gpu], after: &[Gpu]) -> Option<Vec<(u32, u64)>> {
        let free =
            |read: &[Gpu], part: &Part| read.iter().find(|gpu| gpu.index == part.gpu).map(|gpu| gpu.free);
        let more = |part: &Part| Some((part.gpu, free(after, part)?.saturating_sub(free(before, part)?)));
        self.parts.iter().map(more).collect()
    }

    fn ours<'a>(&'a self, read: &'a [Gpu]) -> impl Iterator<Item = &'a Gpu> {
        read.iter().filter(|gpu| self.parts.iter().any(|part| part.gpu == gpu.index))
    }
}

impl Unsatisfiable {
    /// The reason, and the next step.
    pub(super) fn describe(&self) -> (String, &'static str) {
        match self {
            Self::GpusMissing { wanted, seen } => {
                (format!("wants {wanted} GPUs, and sees {seen}"), "lower `tensorParallelSize`")
            }
            Self::TooBig { need, capacity } => {
                let reason = format!("needs {}, and there are {} in all", gib(*need), gib(*capacity));
                (reason, "choose a smaller model, or give it less memory")
            }
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "bytes of memory, to be compared and shown; the share is between 0 and 1"
)]
fn share(total: u64, of: f64) -> u64 {
    (total as f64 * of) as u64
}

/// The part of `bytes` that is proportional to `part` of `whole`.
fn portion(bytes: u64, part: u64, whole: u64) -> u64 {
    let portion = u128::from(bytes) * u128::from(part) / u128::from(whole.max(1));
    u64::try_from(portion).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::gpu::Maker;

    const GB: u64 = 1 << 30;

    /// GPUs of so many GiB, of which so many are free.
    fn gpus(sizes: &[(u64, u64)]) -> Vec<Gpu> {
        let gpu = |(index, (total, free)): (u32, &(u64, u64))| Gpu {
            index,
            uuid: None,
            maker: Maker::Nvidia,
            name: String::new(),
            total: total * GB,
            free: free * GB,
        };
        (0..).zip(sizes).map(gpu).collect()
    }

    const TWO: &[(u64, u64)] = &[(24, 24), (24, 24)];

    fn demand(need: Need, capacity: Option<u64>, seen: &[Gpu]) -> Demand {
        let place = Placement { need, capacity, ..Placement::default() };
        Demand::of(&place, seen).unwrap()
    }

    fn share(of: f64, count: u32) -> Demand {
        demand(Need::Share { of, gpus: count }, None, &gpus(TWO))
    }

    fn bytes(gib: u64, seen: &[Gpu]) -> Demand {
        demand(Need::Bytes(gib * GB), None, seen)
    }

    fn fit(one: &Demand, other: &Demand) -> bool {
        one.fits_beside(std::iter::once(other))
    }

    #[test]
    fn a_share_has_to_fit_on_each_of_its_gpus() {
        assert_eq!((share(0.5, 1).need, share(0.5, 2).need), (Some(12 * GB), Some(24 * GB)));
        assert!(fit(&share(0.5, 2), &share(0.5, 1)));
        assert!(!fit(&share(0.5, 2), &share(0.75, 1)), "although there would be enough of both");
        let only_the_second = demand(Need::Share { of: 1.0, gpus: 1 }, None, &gpus(TWO)[1..]);
        assert!(!only_the_second.touches(&share(0.75, 1)) && only_the_second.touches(&share(0.5, 2)));
    }

    #[test]
    fn bytes_are_spread_over_all_gpus_and_taken_wherever_there_are_some() {
        let seen = gpus(&[(24, 10), (8, 8)]);
        let spread = bytes(16, &seen);
        assert_eq!(spread.parts.iter().map(|part| part.bytes / GB).collect::<Vec<_>>(), [12, 4]);
        assert!(fit(&share(0.5, 1), &spread) && !fit(&share(0.6, 1), &spread));
        assert!(fit(&bytes(20, &seen), &share(0.5, 1)) && !fit(&bytes(21, &seen), &share(0.5, 1)));
        assert!(spread.is_free(&seen) && bytes(18, &seen).is_free(&seen) && !bytes(19, &seen).is_free(&seen));
        assert!(!share(0.5, 1).is_free(&seen), "of the first alone");
        assert!(bytes(19, &seen).is_free(&[]) && share(1.0, 2).is_free(&[]), "a driver that does not answer");
    }

    #[test]
    fn configured_memory_is_shared_by_the_whole_group() {
        let claimed = |seen: &[Gpu]| demand(Need::Share { of: 0.5, gpus: 1 }, Some(20 * GB), seen);
        let (first, second) = (claimed(&gpus(TWO)), claimed(&gpus(TWO)[1..]));
        assert!(second.touches(&first) && !fit(&second, &first));
        assert_eq!(claimed(&[]).need, Some(10 * GB), "without a driver it is a share of that");
        assert_eq!(demand(Need::Share { of: 0.5, gpus: 1 }, None, &[]).need, None);
    }

    #[test]
    fn waking_needs_at_most_what_the_engine_had() {
        let (before, after) = (gpus(&[(24, 2), (24, 24)]), gpus(&[(24, 22), (24, 24)]));
        let vllm = share(0.75, 1);
        assert_eq!(vllm.came_free(&before, &after), Some(vec![(0, 20 * GB)]));
        assert_eq!(vllm.came_free(&before, &after[1..]), None, "it cannot be read any more");
        assert_eq!(vllm.to_wake(&[(0, 20 * GB)]).need, Some(18 * GB));
        assert_eq!(vllm.to_wake(&[(0, 9 * GB)]).need, Some(9 * GB));
    }
}
