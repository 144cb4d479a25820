//! Rules for the fallbacks of Llms: each exists, the writer may view it, and they lead neither in a circle nor too far.
//!
//! A fallback is named, and a rename or deletion of the Llm that has the name changes the reference in the same commit, so that a
//! name always means the Llm that it meant when it was written.

use std::{collections::HashMap, sync::Arc};

use mcpctl_access::Stored;
use mcpctl_api::{
    Id, Kind, Name, Spec, Verb,
    spec::{Capability, Fallback, FallbackClass, LlmSpec, MidStream},
};

use super::{Planner, Refusal, invalid, invalid_hint};

/// The most Llms that one request may fall back to in a row.
pub const MAX_DEPTH: usize = 4;

/// The ways of fallbacks that lead from an Llm or to it.
struct Ways<'a, N> {
    /// The Llms that are one step away from an Llm.
    steps: N,
    /// The longest way from each Llm that was visited; `None` while it is being looked for.
    known: HashMap<&'a Id, Option<usize>>,
}

impl<'a, N: Fn(&'a Stored) -> Vec<&'a Arc<Stored>>> Ways<'a, N> {
    fn new(steps: N) -> Self {
        Self { steps, known: HashMap::new() }
    }

    /// The longest way that begins at an Llm, in steps; `None` where a way leads in a circle.
    fn longest(&mut self, from: &'a Stored) -> Option<usize> {
        if let Some(known) = self.known.get(from.id()) {
            return *known;
        }
        // Met again before it is known: a circle.
        self.known.insert(from.id(), None);
        let mut longest = 0;
        for next in (self.steps)(from) {
            longest = longest.max(self.longest(next)? + 1);
        }
        self.known.insert(from.id(), Some(longest));
        Some(longest)
    }
}

impl Planner<'_> {
    /// Checks the fallbacks of a written Llm. A writer that left a fallback as it was need not be able to view it.
    pub(super) fn check_fallbacks(&mut self, stored: &Stored, llm: &LlmSpec) -> Result<(), Refusal> {
        if llm.fallbacks.is_empty() {
            return Ok(());
        }
        let old = self.before.by_id(stored.id());
        let was_there = |name: &Name| {
            old.is_some_and(|old| fallbacks_of(old).iter().any(|fallback| fallback.llm == *name))
        };
        for (at, Fallback { llm: name, .. }) in llm.fallbacks.iter().enumerate() {
            // Whether an Llm of this name exists may be confidential.
            if !was_there(name) && !self.is_new(Kind::Llm, name.as_str()) {
                self.before.authorize_name(self.actor, Verb::View, Kind::Llm, name.as_str())?;
            }
            if self.batch.by_name(Kind::Llm, name.as_str()).is_none() {
                return Err(invalid_hint(
                    &format!("fallbacks[{at}].llm"),
                    format!("there is no Llm `{name}`"),
                    "make it first, or put it into the same file",
                ));
            }
        }
        // Names no Llm on the way, because the writer may not be able to view it.
        let snapshot = &self.batch.after;
        let onwards = |from: &Stored| {
            let names = fallbacks_of(from).iter().map(|fallback| fallback.llm.as_str());
            names.filter_map(|name| snapshot.by_name(Kind::Llm, name)).collect()
        };
        let Some(after) = Ways::new(onwards).longest(stored) else {
            return Err(invalid("fallbacks", "they lead in a circle"));
        };
        let backwards = |from: &Stored| snapshot.falling_back_to(from.name()).collect();
        let before = Ways::new(backwards).longest(stored).unwrap_or(0);
        if before + after > MAX_DEPTH {
            let message =
                format!("the chain is {} fallbacks long, and at most {MAX_DEPTH} are tried", before + after);
            return Err(invalid_hint(
                "fallbacks",
                message,
                "list several Llms here instead of one after the other",
            ));
        }
        self.warn_of_midstream(stored, llm);
        Ok(())
    }

    /// Warns where `midStream` does less than its value promises. Judges only by fallbacks that the writer may view.
    fn warn_of_midstream(&mut self, stored: &Stored, llm: &LlmSpec) {
        if llm.mid_stream == MidStream::Error {
            return;
        }
        let for_breaks =
            llm.fallbacks.iter().filter(|fallback| fallback.on.contains(&FallbackClass::ServerError));
        let fallbacks: Vec<_> = for_breaks.collect();
        let continues = |fallback: &&Fallback| {
            let name = fallback.llm.as_str();
            let may_view = self.is_new(Kind::Llm, name)
                || self.before.authorize_name(self.actor, Verb::View, Kind::Llm, name).is_ok();
            let can = |stored: Arc<Stored>| matches!(&stored.resource.spec, Spec::Llm(spec) if spec.can(Capability::Prefill));
            !may_view || self.batch.by_name(Kind::Llm, name).is_some_and(can)
        };
        let name = stored.name();
        if fallbacks.is_empty() {
            self.warnings.push(format!(
                "Llm `{name}`: a broken stream counts as `server_error`, which no fallback has in `on`, so that `midStream` has no effect"
            ));
        } else if llm.mid_stream == MidStream::Continue && !fallbacks.iter().any(continues) {
            self.warnings.push(format!(
                "Llm `{name}`: no fallback has `capabilities: [prefill]`, so that `midStream: continue` is the same as `restart`"
            ));
        }
    }

    /// Replaces an Llm's name in the fallbacks of others, or removes it.
    pub(super) fn replace_fallback(&mut self, old: &Name, new: Option<&Name>) {
        let mut hidden = 0;
        let falling_back: Vec<_> = self.batch.after.falling_back_to(old).cloned().collect();
        for stored in falling_back {
            let Spec::Llm(llm) = &stored.resource.spec else { continue };
            let renamed = |fallback: &Fallback| match new {
                _ if fallback.llm != *old => Some(fallback.clone()),
                Some(new) => Some(Fallback { llm: new.clone(), ..fallback.clone() }),
                None => None,
            };
            let fallbacks: Vec<_> = llm.fallbacks.iter().filter_map(renamed).collect();
            // Without a fallback it would be invalid at the next write.
            let mid_stream = if fallbacks.is_empty() { MidStream::Error } else { llm.mid_stream };
            let mut text = match new {
                Some(new) => format!("falls back to `{new}` instead of `{old}`"),
                None => format!("no longer falls back to `{old}`"),
            };
            if mid_stream != llm.mid_stream {
                text.push_str(", and has `midStream: error`");
            }
            self.replace_spec(
                &stored,
                Spec::Llm(Box::new(LlmSpec { fallbacks, mid_stream, ..LlmSpec::clone(llm) })),
            );
            self.warn_of_effect(&stored, &text, &mut hidden);
        }
        self.warn_of_hidden(hidden, "Llm(s)");
    }
}

fn fallbacks_of(stored: &Stored) -> &[Fallback] {
    match &stored.resource.spec {
        Spec::Llm(llm) => &llm.fallbacks,
        _ => &[],
    }
}
