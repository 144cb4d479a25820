//! What a line of an agent's journal becomes in the audit.

use jiff::{SignedDuration, Timestamp};
use mcpctl_access::{
    Principal,
    proof::{self, LeaseClaims, ProofClaims, ProofSubject, PublicKey},
};
use mcpctl_api::{Id, Kind, Revision, agent::FailoverOutcome, spec::Subject};
use mcpctl_journal::{Break, CallerKind, ChainHead, JournalEntry, Line, Served};
use mcpctl_store::{AuditRow, Decision, ReportedLine};

use crate::{app::App, caller::Caller, clock};

/// Makes rows for the lines that one caller hands over.
pub(super) struct Rows<'a> {
    principal: &'a Principal,
    keys: [PublicKey; 2],
    revision: Revision,
    agent: &'a Id,
    now: Timestamp,
    /// Rows of an earlier time would be removed at once.
    oldest: Timestamp,
}

impl<'a> Rows<'a> {
    pub(super) fn new(app: &App, caller: &'a Caller, agent: &'a Id, now: Timestamp) -> Self {
        let retention = SignedDuration::try_from(app.audit.limits().audit.0).unwrap_or(SignedDuration::MAX);
        let oldest = now.checked_sub(retention).unwrap_or(Timestamp::MIN);
        let (principal, revision) = (&caller.principal, caller.snapshot.revision());
        let keys = app.signing.keys().list.keys.each_ref().map(|key| key.public_key);
        Self { principal, keys, revision, agent, now, oldest }
    }

    /// The row of a line.
    pub(super) fn of_line(&self, bytes: &[u8]) -> ReportedLine {
        let (row, confirmed) = match serde_json::from_slice::<Line>(bytes) {
            Ok(line) => {
                let entry = line.entry.bounded();
                let grant = self.grant(&entry);
                let row = self.of_entry(entry);
                let confirmed = grant.is_some();
                (grant.map_or(row.clone(), |grant| grant.confirm(row)), confirmed)
            }
            // The line stays readable in the row, and the chain goes on over it.
            Err(_) => {
                let reason = "the line is of another version, or is no line of a journal";
                (self.about_journal("journal-line", reason), false)
            }
        };
        ReportedLine { bytes: bytes.to_vec(), row, confirmed }
    }

    /// What mcpd itself signed to allow this failover at this agent; `None` where the line has nothing of the kind.
    fn grant(&self, entry: &JournalEntry) -> Option<Grant> {
        let JournalEntry::Failover { proof: Some(token), served, outcome: FailoverOutcome::Served, .. } =
            entry
        else {
            return None;
        };
        let (agent, grant) = match proof::verify::<ProofClaims>(token, &self.keys) {
            Ok(claims) if claims.allows() => {
                let grant = Grant { subject: claims.subject?, llm: claims.llm?, revision: claims.revision };
                (claims.agent, grant)
            }
            _ => {
                let claims = proof::verify::<LeaseClaims>(token, &self.keys).ok()?;
                let grant = Grant { subject: claims.subject, llm: claims.llm, revision: claims.revision };
                (claims.agent, grant)
            }
        };
        let of_this_llm = served.llm_id.as_deref() == Some(grant.llm.as_str());
        (agent == *self.agent && of_this_llm).then_some(grant)
    }

    fn of_entry(&self, entry: JournalEntry) -> AuditRow {
        let at = entry.at();
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
            JournalEntry::Ended { served, outcome, model, input_tokens, output_tokens, .. } => {
                let model = model.as_deref().unwrap_or("unknown");
                let text = format!(
                    "{outcome}; local provider `{}`, model {model}, tokens: {input_tokens} in, {output_tokens} out",
                    served.provider
                );
                ("failover-end", Decision::Allowed, text)
            }
            JournalEntry::Omitted { refusals, .. } => {
                let text = format!(
                    "and {refusals} more failovers that were not allowed, without lines of their own"
                );
                ("failover", Decision::Denied, text)
            }
            JournalEntry::Lost { from, to, reason, .. } => {
                let text = format!("the lines {from} to {to} are lost: {reason}");
                return AuditRow { at: self.time(at), ..self.about_journal("journal-lost", &text) };
            }
        };
        let mut row = AuditRow { at: self.time(at), decision, reason, ..self.about_journal(action, "") };
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

    /// The row about a place where the chain does not continue.
    pub(super) fn of_break(&self, before: &ChainHead, broken: Option<Break>) -> AuditRow {
        let after = before.seq;
        let (action, text) = match broken {
            Some(Break::Missing { from, to }) => {
                ("journal-gap", format!("the lines {from} to {to} were never handed over"))
            }
            Some(Break::OutOfOrder) => (
                "journal-fork",
                format!("another line follows line {after}, with a number that was used before it"),
            ),
            Some(Break::PreviousChanged) => {
                ("journal-fork", format!("the line after line {after} has another hash for it"))
            }
            Some(Break::Unreadable) | None => {
                ("journal-fork", format!("what follows line {after} is no line of a journal"))
            }
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

    /// The agent's time, where it is neither in the future nor beyond the retention of rows.
    fn time(&self, at: Timestamp) -> Timestamp {
        if (self.oldest..=self.now).contains(&at) { at } else { clock::now() }
    }
}

/// A decision that mcpd signed.
struct Grant {
    subject: ProofSubject,
    llm: Id,
    revision: Revision,
}

impl Grant {
    /// The row, about the principal whom mcpd allowed it.
    fn confirm(self, row: AuditRow) -> AuditRow {
        let Self { subject: ProofSubject { kind, name, id }, llm, revision } = self;
        AuditRow {
            principal: Subject { kind, name }.to_string(),
            principal_id: Some(id),
            resource_id: Some(llm),
            revision,
            ..row
        }
    }
}
