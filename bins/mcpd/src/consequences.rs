//! What a change does to people: which rights are lost or gained, which stay by another binding, and which requests end. Nothing is stored
//! here; the plan is the one that a dry run makes.

use std::{collections::BTreeSet, sync::Arc};

use mcpctl_access::{Change, Permit, Reason, Snapshot, Stored, Withdrawals, Withdrawn, verb::View};
use mcpctl_api::{Kind, Name, Spec, Verb, question::HeldRule, spec::Subject};
use tokio::task::JoinError;

use crate::{
    app::App,
    caller::Caller,
    commit::{WriteError, WriteFailure, preview},
    writes::{Intent, Plan},
};

/// Maximum of accounts that are examined.
const MAX_ACCOUNTS: usize = 100;
/// Maximum of Llms that are examined for each.
const MAX_LLMS: usize = 500;
/// What people do with Llms.
const USES: [Verb; 2] = [Verb::Run, Verb::View];

/// What a change of rights does.
#[derive(Debug, Default)]
pub struct Consequences {
    /// The resources that change, e.g. `RoleBinding alice-llm-user is deleted`.
    pub changes: Vec<String>,
    /// What the writer should know besides.
    pub warnings: Vec<String>,
    /// What accounts lose, in order.
    pub losses: Vec<RightsDelta>,
    /// What accounts gain, in order.
    pub gains: Vec<RightsDelta>,
    /// How many more accounts it is about.
    pub more_accounts: usize,
    /// Requests of this replica that end.
    pub requests: usize,
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
}

/// A use of an Llm.
#[derive(Debug)]
struct LlmUse {
    llm: Name,
    verb: Verb,
}

/// Why consequences are not shown.
#[derive(Debug, thiserror::Error)]
pub enum NoConsequences {
    /// The change is refused.
    #[error(transparent)]
    Refused(WriteFailure),
    /// The work has panicked.
    #[error(transparent)]
    Panicked(#[from] JoinError),
}

impl Consequences {
    /// Those of a caller's writes, which a dry run plans.
    ///
    /// # Errors
    /// When the writes are refused, or the work panics.
    pub async fn of(app: Arc<App>, caller: Caller, intents: Vec<Intent>) -> Result<Self, NoConsequences> {
        // A plan and many decisions, so other requests do not wait behind it.
        let work = move || {
            let plan = preview(&app, &caller, intents)?;
            Ok(Self::computed(&app, &caller, &plan))
        };
        let computed = tokio::task::spawn_blocking(work).await?;
        computed.map_err(|error: WriteError| NoConsequences::Refused(error.cause))
    }

    fn computed(app: &App, caller: &Caller, plan: &Plan) -> Self {
        let llms: Vec<Name> = caller
            .snapshot
            .permitted_after::<View>(&caller.principal, Kind::Llm, "")
            .take(MAX_LLMS)
            .map(|permit: Permit<View>| permit.resource().name().clone())
            .collect();
        let (losses, more_accounts) = deltas(&caller.snapshot, &plan.after, &llms);
        let (gains, _) = deltas(&plan.after, &caller.snapshot, &llms);
        Self {
            changes: plan.changes.iter().map(|change| described(change, &caller.snapshot)).collect(),
            warnings: plan.warnings.clone(),
            losses,
            gains,
            more_accounts,
            requests: app.access.would_end(&plan.after),
        }
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

/// What `from` gives to accounts and `to` does not, and how many more accounts differ.
fn deltas(from: &Snapshot, to: &Snapshot, llms: &[Name]) -> (Vec<RightsDelta>, usize) {
    let Withdrawals { accounts, not_examined } = from.withdrawals(to, MAX_ACCOUNTS);
    let deltas = accounts.into_iter().map(|withdrawn| delta(from, to, llms, withdrawn));
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
    let others = rules.iter().filter(|held| !held.rule.is_only_about(&USES, Kind::Llm));
    let rules: BTreeSet<String> = others.map(|held| held.rule.to_string()).collect();
    RightsDelta { account, uses, kept, rules: rules.into_iter().collect() }
}
