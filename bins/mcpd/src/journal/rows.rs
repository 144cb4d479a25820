//! What a line of an agent's journal becomes in the audit.

use jiff::{SignedDuration, Timestamp};
use mcpctl_access::{Principal, Snapshot, proof::ProofSubject};
use mcpctl_api::{
    Id, Kind, Revision,
    agent::FailoverOutcome,
    error::{ACCESS_REVOKED, ACCESS_UNCONFIRMED},
    spec::Subject,
    visible,
};
use mcpctl_journal::{Break, CallerKind, ChainHead, JournalEntry, Line, LineHash, Served, TokenCount};
use mcpctl_store::{AuditRow, Confirmation, Decision, Discontinuity, ReportedLine, UsageRow};

use super::grants::{Grant, Grants, NotConfirmed};
use crate::{app::App, caller::Caller};

/// Maximum of bytes that are kept of a line that mcpd cannot read.
const MAX_UNREADABLE_BYTES: usize = 1 << 10;
/// The model of a row of usage about a local answer: which one it was, mcpd knows from the agent alone.
const LOCAL_MODEL: &str = "(local)";

/// Makes rows for the lines that one caller hands over.
pub(super) struct Rows<'a> {
    principal: &'a Principal,
    snapshot: &'a Snapshot,
    grants: Grants,
    revision: Revision,
    agent: &'a Id,
    /// When they are received: by this time rows are ordered, so that no agent can put one into a time that was read already.
    now: Timestamp,
}

impl<'a> Rows<'a> {
    pub(super) fn new(app: &App, caller: &'a Caller, agent: &'a Id, now: Timestamp) -> Self {
        let retention = SignedDuration::try_from(app.audit.limits().audit.0).unwrap_or(SignedDuration::MAX);
        let oldest = now.checked_sub(retention).unwrap_or(Timestamp::MIN);
        let (principal, revision) = (&caller.principal, caller.snapshot.revision());
        let keys = app.signing.keys().list.keys.each_ref().map(|key| key.public_key);
        let grants = Grants::new(keys, agent.clone(), oldest);
        Self { principal, snapshot: &caller.snapshot, grants, revision, agent, now }
    }

    /// The row of a line.
    pub(super) fn of_line(&self, bytes: &[u8]) -> ReportedLine {
        let text = String::from_utf8_lossy(bytes);
        let shown = visible::one_line(&text);
        let line = serde_json::from_slice::<Line>(bytes).ok();
        // An agent writes no line whose hash does not show from what is kept of it, and `mcpd fsck` could not check it.
        let Some(line) = line.filter(|_| LineHash::of(bytes).is_of_shown(&shown)) else {
            // Its beginning stays readable in the row, and the chain goes on over it.
            let reason = "the line is of another version, or is not a line of a journal";
            let row = self.about_journal("journal-line", reason);
            let text = visible::short(&text, MAX_UNREADABLE_BYTES);
            return ReportedLine { bytes: bytes.to_vec(), text, at: None, row, confirmation: None };
        };
        let entry = line.entry.bounded();
        let (at, grant) = (Some(entry.at()), self.grant(&entry));
        let row = self.of_entry(entry);
        let (row, confirmation) = match grant {
            None => (row, None),
            Some(Err(why)) => (not_confirmed(row, why), None),
            Some(Ok(grant)) => {
                let nonce = grant.nonce.map(|nonce| nonce.to_string());
                let used_up = not_confirmed(row.clone(), NotConfirmed::Used);
                let usage = self.usage(&grant, &row);
                (row.clone(), Some(Confirmation { row: grant.confirm(row), nonce, used_up, usage }))
            }
        };
        ReportedLine { bytes: bytes.to_vec(), text: shown.into_owned(), at, row, confirmation }
    }

    /// What mcpd itself signed to allow this failover; `None` where the line has nothing of the kind.
    fn grant(&self, entry: &JournalEntry) -> Option<Result<Grant, NotConfirmed>> {
        match entry {
            JournalEntry::Failover {
                at,
                proof: Some(token),
                served,
                outcome: FailoverOutcome::Served,
                access,
                ..
            } => Some(self.grants.confirm(token, access.last().map(String::as_str), served, *at)),
            _ => None,
        }
    }

    /// By which a failover that mcpd allowed counts. The request itself is counted where mcpd got it, and tokens of a local answer are
    /// the agent's statement. A lease confirms any number of lines, so it counts for the account that hands them over alone.
    fn usage(&self, grant: &Grant, row: &AuditRow) -> Option<UsageRow> {
        if grant.nonce.is_none() && grant.subject.id != self.principal.id {
            return None;
        }
        let ProofSubject { kind, name, id } = grant.subject.clone();
        let llm_name = self.snapshot.by_id(&grant.llm).map_or(grant.llm.as_str(), |llm| llm.name().as_str());
        Some(UsageRow {
            id: row.id,
            at: self.now,
            principal: Subject { kind, name }.to_string(),
            principal_id: Some(id),
            token_id: self.principal.token.clone(),
            llm_name: llm_name.to_owned(),
            llm_id: grant.llm.clone(),
            model: LOCAL_MODEL.to_owned(),
            target: None,
            input_tokens: 0,
            output_tokens: 0,
            cached_input_tokens: 0,
            cache_write_input_tokens: 0,
            reasoning_tokens: 0,
            estimated: false,
            cost_nanos: Some(0),
            stream: false,
            outcome: "ok".to_owned(),
            status: 0,
            attempts: 0,
            begins: false,
            fallback: true,
            duration_ms: 0,
            request_id: row.request_id.clone(),
        })
    }

    fn of_entry(&self, entry: JournalEntry) -> AuditRow {
        let (action, decision, reason) = match &entry {
            JournalEntry::Failover { class, access, outcome, reason, served, .. } => {
                let class = class.as_deref().unwrap_or("connect");
                let (decision, word) = match outcome {
                    FailoverOutcome::Served => (Decision::Allowed, "answered"),
                    FailoverOutcome::Failed => (Decision::Allowed, "failed"),
                    FailoverOutcome::Refused => (Decision::Denied, "not asked"),
                };
                let mut text = format!(
                    "primary: {class}; probe: {}; local provider `{}`: {word}",
                    access.join(", "),
                    served.provider
                );
                if let Some(reason) = reason {
                    text = format!("{text}: {reason}");
                }
                ("failover", decision, text)
            }
            JournalEntry::Own { served, .. } => {
                ("run-local", Decision::Allowed, format!("the user's own provider `{}`", served.provider))
            }
            JournalEntry::Ended { served, outcome, model, tokens, .. } => {
                let model = model.as_deref().unwrap_or("unknown");
                let tokens = match tokens {
                    Some(TokenCount { input_tokens, output_tokens }) => {
                        format!("{input_tokens} in, {output_tokens} out")
                    }
                    None => "not counted".to_owned(),
                };
                let text = format!(
                    "{outcome}; local provider `{}`, model {model}, tokens: {tokens}",
                    served.provider
                );
                // As of a central answer whose caller lost access.
                let revoked = [ACCESS_REVOKED, ACCESS_UNCONFIRMED].contains(&outcome.as_str());
                ("failover-end", if revoked { Decision::Denied } else { Decision::Allowed }, text)
            }
            JournalEntry::Omitted { refusals, .. } => {
                let text = format!(
                    "and {refusals} more failovers that were not allowed, without lines of their own"
                );
                ("failover", Decision::Denied, text)
            }
            JournalEntry::Lost { from, to, reason, .. } => {
                let text = format!("the lines {from} to {to} are lost: {reason}");
                return self.about_journal("journal-lost", &text);
            }
        };
        let mut row = AuditRow { decision, reason, ..self.about_journal(action, "") };
        row.kind = Kind::Llm;
        row.resource_id = None;
        row.resource_name = String::new();
        if let Some(served) = entry.served() {
            self.describe(&mut row, served);
        }
        row
    }

    fn describe(&self, row: &mut AuditRow, served: &Served) {
        let Served { request, who, caller, llm, llm_id, provider } = served;
        row.request_id.clone_from(request);
        row.resource_name = llm.clone().unwrap_or_else(|| format!("local/{provider}"));
        row.resource_id = llm_id.as_ref().and_then(|id| id.parse().ok());
        // A statement of the reporter about itself has its name. Any other name is only what the agent wrote, in a form that no
        // principal has.
        let own = *caller == CallerKind::User && *who == self.principal.subject.name.as_str();
        if !own {
            row.principal = format!("(reported) {who}");
            row.principal_id = None;
        }
    }

    /// The row about a line that follows no known line, or one that another line follows already.
    pub(super) fn of_discontinuity(&self, before: &ChainHead, discontinuity: Discontinuity) -> AuditRow {
        let after = before.seq;
        let (action, text) = match discontinuity {
            Discontinuity::Break(Break::Missing { from, to }) => {
                ("journal-gap", format!("the lines {from} to {to} were never handed over"))
            }
            Discontinuity::Break(Break::OutOfOrder) => (
                "journal-fork",
                format!("another line follows line {after}, with a number that was used before it"),
            ),
            Discontinuity::Break(Break::PreviousChanged) => {
                ("journal-fork", format!("the line after line {after} has another hash for it"))
            }
            Discontinuity::Break(Break::Unreadable) => {
                ("journal-fork", format!("what follows line {after} is not a line of a journal"))
            }
            Discontinuity::Fork => (
                "journal-fork",
                format!(
                    "a second line follows line {after}: the journal was copied, set back or written anew"
                ),
            ),
        };
        self.about_journal(action, &text)
    }

    /// A row about the agent's journal itself, as an account of the reporter.
    fn about_journal(&self, action: &str, reason: &str) -> AuditRow {
        AuditRow {
            id: uuid::Uuid::now_v7(),
            at: self.now,
            principal: self.principal.subject.to_string(),
            principal_id: Some(self.principal.id.clone()),
            token_id: Some(self.principal.token.clone()),
            action: action.to_owned(),
            kind: self.principal.subject.kind.kind(),
            resource_id: Some(self.principal.id.clone()),
            resource_name: self.principal.subject.name.to_string(),
            decision: Decision::Denied,
            reason: format!("agent {}: {reason}", self.agent),
            revision: self.revision,
            request_id: mcpctl_server::request_id(),
        }
    }
}

/// The row of a line whose proof does not confirm it.
fn not_confirmed(row: AuditRow, why: NotConfirmed) -> AuditRow {
    // First: the texts of the line that follow may be long.
    AuditRow { reason: format!("not confirmed, {why}; {}", row.reason), ..row }
}

impl Grant {
    /// The row, about the principal whom mcpd allowed it.
    fn confirm(self, row: AuditRow) -> AuditRow {
        let Self { subject: ProofSubject { kind, name, id }, llm, revision, nonce: _ } = self;
        AuditRow {
            principal: Subject { kind, name }.to_string(),
            principal_id: Some(id),
            resource_id: Some(llm),
            revision,
            ..row
        }
    }
}
