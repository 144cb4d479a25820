//! What the caller of a test gets of one target. Only those who may edit the Llm learn more than the step that failed.

use std::time::Duration;

use mcpctl_api::llm_test::{Step, StepState, TargetTest, TestStep};

use super::{
    diagnosis::{self, Diagnosis},
    way::{End, Way},
};

/// The report of a way that is over.
pub fn of(way: &Way<'_>, end: &End<'_>, may_edit: bool) -> TargetTest {
    let diagnosis = diagnosis::of(way, end);
    let steps = Step::ALL.map(|step| {
        let state = state(way, step, diagnosis.as_ref());
        let took = if state == StepState::Skipped { None } else { way.took(step) };
        let note = if may_edit { way.note(step, state, end) } else { None };
        TestStep { step, state, millis: took.map(millis), note }
    });
    TargetTest {
        url: may_edit.then(|| way.upstream.url.clone()),
        ok: diagnosis.is_none(),
        millis: millis(way.ended.duration_since(way.begun)),
        steps: steps.to_vec(),
        problem: diagnosis.map(|found| if may_edit { found.problem } else { diagnosis::for_callers(found) }),
    }
}

fn state(way: &Way<'_>, step: Step, diagnosis: Option<&Diagnosis>) -> StepState {
    let is_made = match diagnosis {
        Some(found) if step == found.step => return StepState::Failed,
        Some(found) => step < found.step && Some(step) <= found.proven,
        None => true,
    };
    if is_made && way.is_needed(step) { StepState::Ok } else { StepState::Skipped }
}

fn millis(took: Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}
