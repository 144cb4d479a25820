//! What a change does to people: which rights are lost or gained, which stay by another binding, and which requests end. Nothing is stored
//! here; the plan is the one that a dry run makes.

use std::{collections::BTreeSet, sync::Arc};

use mcpctl_access::{Change, Permit, Reason, Snapshot, Stored, Withdrawals, Withdrawn, verb::View};
use mcpctl_api::{
    Id, Kind, Name, Spec, Verb,
    question::HeldRule,
    spec::{Rule, Subject},
};

use crate::{
    app::App,
    caller::Caller,
    commit::{WriteError, WriteFailure, preview},
    record_questions::NoAnswer,
    writes::{Intent, Plan},
};

/// Maximum of accounts that are examined.
const MAX_ACCOUNTS: usize = 100;
/// Maximum of Llms that are examined for each.
const MAX_LLMS: usize = 500;
/// Llms of an account that are named; others are counted.
const SHOWN_LLMS: usize = 20;
/// What people do with Llms.
const USES: [Verb; 2] = [Verb::Run, Verb::View];

/// What a change does to rights, where it can only take them or only give them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Accounts lose rights.
    Loss,
    /// Accounts gain rights.
    Gain,
}

/// What a change of rights does.
#[derive(Debug, Default)]
pub struct Consequences {
    /// The resources that change, e.g. `RoleBinding alice-llm-user is deleted`.
    pub changes: Vec<String>,
    /// What the writer should know besides.
    pub warnings: Vec<String>,
    /// What accounts lose or gain, in order.
    pub deltas: Vec<RightsDelta>,
    /// How many more accounts it is about.
    pub more_accounts: usize,
    /// Requests of this replica that end.
    pub requests: usize,
    /// Whether the credential in use is not accepted any more.
    pub signs_out: bool,
}

/// Rights that an account has on one side of a change alone.
#[derive(Debug)]
pub struct RightsDelta {
    /// The account.
    pub account: Subject,
    /// Llms that it may use on that side alone, as far as the caller may view them.
    uses: Vec<LlmUse>,
    /// Llms that it may use on both sides, and by what on the other one.
    pub kept: Vec<(Name, Reason)>,
    /// Other rules.
    pub rules: Vec<String>,
}

impl RightsDelta {
    /// The Llms that the account may use in this way.
    pub fn of(&self, verb: Verb) -> impl Iterator<Item = &Name> + Clone {
        self.uses.iter().filter(move |used| used.verb == verb).map(|used| &used.llm)
    }

    /// What the account would lose, in sentences.
    fn losses(&self) -> Vec<String> {
        let Subject { kind, name } = &self.account;
        let uses = USES
            .into_iter()
            .filter(|verb| self.of(*verb).next().is_some())
            .map(|verb| format!("{kind} `{name}` may no longer {} {}", verb.as_str(), listed(self.of(verb))));
        let rules = self.rules.iter().map(|rule| format!("{kind} `{name}` loses the rule {rule}"));
        uses.chain(rules).collect()
    }
}

/// A use of an Llm.
#[derive(Debug)]
struct LlmUse {
    llm: Name,
    verb: Verb,
}

/// Why consequences are not shown.
#[derive(Debug, thiserror::Error)]
pub enum ConsequencesError {
    /// The change is refused.
    #[error(transparent)]
    Refused(WriteFailure),
    /// The question about them has no answer.
    #[error(transparent)]
    NoAnswer(#[from] NoAnswer),
}

impl Consequences {
    /// Those of a caller's writes, which a dry run plans; those for rights, where a direction is given.
    ///
    /// # Errors
    /// When the writes are refused, or the question has no answer.
    pub async fn of(
        app: &Arc<App>,
        caller: &Caller,
        intents: Vec<Intent>,
        direction: Option<Direction>,
    ) -> Result<Self, ConsequencesError> {
        let (of_app, of_caller) = (Arc::clone(app), caller.clone());
        let work = move || {
            let plan = preview(&of_app, &of_caller, intents)?;
            Ok(Self::computed(&of_app, &of_caller, &plan, direction))
        };
        let computed = app.record_questions.answer(&caller.principal.id, work).await?;
        computed.map_err(|error: WriteError| ConsequencesError::Refused(error.cause))
    }

    fn computed(app: &App, caller: &Caller, plan: &Plan, direction: Option<Direction>) -> Self {
        let before = &caller.snapshot;
        let (deltas, more_accounts) = match direction {
            Some(Direction::Loss) => deltas(before, &plan.after, caller),
            Some(Direction::Gain) => deltas(&plan.after, before, caller),
            None => (Vec::new(), 0),
        };
        let changes = plan.changes.iter().filter(|change| !is_warned_of(change, before, &plan.after));
        Self {
            changes: changes.map(|change| described(change, before)).collect(),
            warnings: plan.warnings.clone(),
            deltas,
            more_accounts,
            requests: app.access.would_end(&plan.after),
            signs_out: caller.within(Arc::new(plan.after.clone())).is_err(),
        }
    }
}

/// What accounts lose by a planned change, as the warnings of a dry run; for a caller who may view the rights of all.
///
/// # Errors
/// When the question has no answer.
pub async fn losses(app: &Arc<App>, caller: Caller, after: Snapshot) -> Result<Vec<String>, NoAnswer> {
    let (of_app, account) = (Arc::clone(app), caller.principal.id.clone());
    let work = move || {
        let (deltas, more_accounts) = deltas(&caller.snapshot, &after, &caller);
        // An account that is deleted has a warning of its own.
        let stays = |of: &Subject| after.by_name(of.kind.kind(), of.name.as_str()).is_some();
        let of_others = deltas.iter().filter(|delta| stays(&delta.account));
        let mut lines: Vec<String> = of_others.flat_map(RightsDelta::losses).collect();
        if more_accounts > 0 {
            lines.push(format!("{more_accounts} more accounts are affected and were not examined"));
        }
        match of_app.access.would_end(&after) {
            0 => {}
            requests => lines.push(format!("running requests of this replica that would end: {requests}")),
        }
        lines
    };
    app.record_questions.answer(&account, work).await
}

/// Names of a list, and how many more there are.
pub fn listed<'a>(names: impl Iterator<Item = &'a Name> + Clone) -> String {
    let shown: Vec<&str> = names.clone().take(SHOWN_LLMS).map(Name::as_str).collect();
    match names.count().saturating_sub(SHOWN_LLMS) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Whether the change is stated by a warning already: the end of what came of a token that ends too.
fn is_warned_of(change: &Change, before: &Snapshot, after: &Snapshot) -> bool {
    let Change::Delete { id, .. } = change else { return false };
    let ends = |token: &Id| before.by_id(token).is_some() && after.by_id(token).is_none();
    match before.by_id(id).map(|stored| &stored.resource.spec) {
        Some(Spec::Token(token)) => token.begun_with.iter().chain(&token.rotated_from).any(ends),
        _ => false,
    }
}

fn described(change: &Change, before: &Snapshot) -> String {
    let is_disabled = |stored: &Stored| match &stored.resource.spec {
        Spec::User(user) => user.disabled,
        Spec::ServiceAccount(account) => account.disabled,
        _ => false,
    };
    match change {
        Change::Put(stored) => {
            let was_disabled = before.by_id(stored.id()).is_some_and(|old| is_disabled(old));
            let verb = match (was_disabled, is_disabled(stored)) {
                (false, true) => "disabled",
                (true, false) => "enabled",
                _ => "changed",
            };
            format!("{} `{}` is {verb}", stored.kind(), stored.name())
        }
        Change::Delete { kind, name, .. } => format!("{kind} `{name}` is deleted"),
    }
}

/// What `from` gives to accounts and `to` does not, at the Llms that the caller may view, and how many more accounts differ.
fn deltas(from: &Snapshot, to: &Snapshot, caller: &Caller) -> (Vec<RightsDelta>, usize) {
    let llms: Vec<Name> = caller
        .snapshot
        .permitted_after::<View>(&caller.principal, Kind::Llm, "")
        .take(MAX_LLMS)
        .map(|permit: Permit<View>| permit.resource().name().clone())
        .collect();
    let Withdrawals { accounts, not_examined } = from.withdrawals(to, MAX_ACCOUNTS);
    let deltas = accounts.into_iter().map(|withdrawn| delta(from, to, &llms, withdrawn));
    (deltas.collect(), not_examined)
}

fn delta(from: &Snapshot, to: &Snapshot, llms: &[Name], withdrawn: Withdrawn) -> RightsDelta {
    let Withdrawn { account, rules } = withdrawn;
    let (mut uses, mut kept) = (Vec::new(), Vec::new());
    let reason = |snapshot: &Snapshot, verb, llm: &Name| {
        snapshot.reason_for(&account, verb, Kind::Llm, Some(llm.as_str()))
    };
    for llm in llms {
        for verb in USES {
            let covers = |held: &HeldRule| held.rule.allows(verb, Kind::Llm, llm.as_str());
            if !rules.iter().any(covers) || reason(from, verb, llm).is_none() {
                continue;
            }
            match reason(to, verb, llm) {
                None => uses.push(LlmUse { llm: llm.clone(), verb }),
                Some(reason) => kept.push((llm.clone(), reason)),
            }
            // Who may run it on one side alone is not listed once more for viewing it.
            break;
        }
    }
    // A rule that comes by another role, binding or group on the other side is not lost; a disabled account has none.
    let left = if to.is_active(&account) { to.rules_for(&account) } else { Vec::new() };
    let is_kept = |rule: &Rule| left.iter().any(|held| held.rule.covers(rule));
    let others =
        rules.iter().filter(|held| !held.rule.is_only_about(&USES, Kind::Llm) && !is_kept(&held.rule));
    let rules: BTreeSet<String> = others.map(|held| held.rule.to_string()).collect();
    RightsDelta { account, uses, kept, rules: rules.into_iter().collect() }
}
