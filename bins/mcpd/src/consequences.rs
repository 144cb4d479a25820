//! What a planned change of rights does to people: which rights are lost, which stay by another binding, and which requests end. Nothing is
//! stored here; the plan is the one that a dry run makes.

use std::{collections::BTreeSet, sync::Arc};

use mcpctl_access::{Change, Permit, Reason, Withdrawals, Withdrawn, verb::View};
use mcpctl_api::{Kind, Name, Verb, question::HeldRule, spec::Subject};
use tokio::task::JoinError;

use crate::{app::App, caller::Caller, writes::Plan};

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
    pub accounts: Vec<Loss>,
    /// How many more accounts it is about.
    pub more_accounts: usize,
    /// Requests of this replica that end.
    pub requests: usize,
}

/// What an account loses.
#[derive(Debug)]
pub struct Loss {
    /// The account.
    pub account: Subject,
    /// Llms that it may no longer use, as far as the caller may view them.
    lost: Vec<LostUse>,
    /// Llms that it may use as before, and by what.
    pub kept: Vec<(Name, Reason)>,
    /// Other rules that are lost.
    pub rules: Vec<String>,
}

impl Loss {
    /// The Llms that the account may no longer use in this way.
    pub fn of(&self, verb: Verb) -> impl Iterator<Item = &Name> + Clone {
        self.lost.iter().filter(move |lost| lost.verb == verb).map(|lost| &lost.llm)
    }
}

/// A use of an Llm that ends.
#[derive(Debug)]
struct LostUse {
    llm: Name,
    verb: Verb,
}

impl Consequences {
    /// Those of a plan that the caller has made on its own snapshot.
    ///
    /// # Errors
    /// When the work panics.
    pub async fn of(app: Arc<App>, caller: Caller, plan: Plan) -> Result<Self, JoinError> {
        // Many decisions, so other requests do not wait behind it.
        tokio::task::spawn_blocking(move || Self::computed(&app, &caller, &plan)).await
    }

    fn computed(app: &App, caller: &Caller, plan: &Plan) -> Self {
        let Withdrawals { accounts, not_examined } = caller.snapshot.withdrawals(&plan.after, MAX_ACCOUNTS);
        let llms: Vec<Name> = caller
            .snapshot
            .permitted_after::<View>(&caller.principal, Kind::Llm, "")
            .take(MAX_LLMS)
            .map(|permit: Permit<View>| permit.resource().name().clone())
            .collect();
        Self {
            changes: plan.changes.iter().map(described).collect(),
            warnings: plan.warnings.clone(),
            accounts: accounts.into_iter().map(|withdrawn| loss(caller, plan, &llms, withdrawn)).collect(),
            more_accounts: not_examined,
            requests: app.access.would_end(&plan.after),
        }
    }
}

fn described(change: &Change) -> String {
    match change {
        Change::Put(stored) => format!("{} `{}` is changed", stored.kind(), stored.name()),
        Change::Delete { kind, name, .. } => format!("{kind} `{name}` is deleted"),
    }
}

fn loss(caller: &Caller, plan: &Plan, llms: &[Name], withdrawn: Withdrawn) -> Loss {
    let Withdrawn { account, rules } = withdrawn;
    let (mut lost, mut kept) = (Vec::new(), Vec::new());
    for llm in llms {
        for verb in USES {
            let covers = |held: &HeldRule| held.rule.allows(verb, Kind::Llm, llm.as_str());
            if !rules.iter().any(covers) || !may(caller, &account, verb, llm) {
                continue;
            }
            match plan.after.reason_for(&account, verb, Kind::Llm, Some(llm.as_str())) {
                None => lost.push(LostUse { llm: llm.clone(), verb }),
                Some(reason) => kept.push((llm.clone(), reason)),
            }
            // Who may no longer run it is not listed once more for viewing it.
            break;
        }
    }
    let others = rules.iter().filter(|held| !held.rule.is_only_about(&USES, Kind::Llm));
    let rules: BTreeSet<String> = others.map(|held| held.rule.to_string()).collect();
    Loss { account, lost, kept, rules: rules.into_iter().collect() }
}

fn may(caller: &Caller, account: &Subject, verb: Verb, llm: &Name) -> bool {
    caller.snapshot.reason_for(account, verb, Kind::Llm, Some(llm.as_str())).is_some()
}
