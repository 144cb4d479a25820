//! Plans what mcpd itself needs in the store: built-in roles, references to secrets by id, and the user `admin` with a
//! token.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use mcpctl_access::{Snapshot, Stored, builtin};
use mcpctl_api::{
    Id, Kind, Name, Resource, Spec,
    spec::{ExternalLink, RoleBindingSpec, Subject, SubjectKind, TokenSpec, UserSpec},
};
use mcpctl_secret::token::TokenHash;

use super::{Batch, Plan, token::TokenDraft};

/// How long a bootstrap token is valid, in days. INVARIANT 15: every credential expires.
const BOOTSTRAP_TOKEN_DAYS: i64 = 30;
const ADMIN: &str = "admin";

/// Brings the store to the state that this version relies on. `admin_token` is the hash of the token of the user `admin`,
/// which only an empty store gets.
///
/// # Errors
/// When a name or a time is out of range.
pub fn prepare(before: &Snapshot, admin_token: Option<TokenHash>, now: Timestamp) -> anyhow::Result<Plan> {
    let mut draft = Draft { before, now, batch: Batch::new(before) };
    draft.put_builtin_roles();
    draft.bind_references();
    if let Some(hash) = admin_token {
        draft.restore_admin(hash)?;
    }
    Ok(Plan::of(before, draft.batch, None))
}

/// Gives the user `admin` a new token, and restores what it needs to be an administrator: the user itself, enabled, and a
/// binding of the role. If anything had to be restored, the other credentials of the user are deleted: they may have been
/// made for a user who was no administrator.
///
/// # Errors
/// When a name or a time is out of range.
pub fn restore_admin(before: &Snapshot, token: TokenHash, now: Timestamp) -> anyhow::Result<Plan> {
    let mut draft = Draft { before, now, batch: Batch::new(before) };
    draft.put_builtin_roles();
    draft.restore_admin(token)?;
    Ok(Plan::of(before, draft.batch, None))
}

struct Draft<'a> {
    before: &'a Snapshot,
    now: Timestamp,
    batch: Batch,
}

impl Draft<'_> {
    /// Stores the built-in roles as this version defines them, so that a list shows what they allow after an upgrade.
    fn put_builtin_roles(&mut self) {
        for (name, spec) in builtin::specs() {
            let spec = Spec::Role(spec);
            let existing = self.before.by_name(Kind::Role, name);
            if existing.is_some_and(|stored| stored.resource.spec == spec) {
                continue;
            }
            if let Ok(name) = name.parse::<Name>() {
                let id = existing.map_or_else(Id::mint, |stored| stored.id().clone());
                self.put(id, name, spec);
            }
        }
    }

    /// Binds references by name, which earlier versions wrote, to the secrets that have these names now.
    fn bind_references(&mut self) {
        let before = self.before;
        for stored in before.all(Kind::Llm) {
            let Spec::Llm(llm) = &stored.resource.spec else { continue };
            let mut llm = llm.clone();
            let mut bound = false;
            for key in llm.api_keys_mut().flatten().filter(|key| key.secret_id.is_none()) {
                // If the secret does not exist, the reference is bound to no secret: a later one of that name is not meant.
                let secret = before.by_name(Kind::Secret, key.secret.as_str());
                key.secret_id = Some(secret.map_or_else(Id::mint, |secret| secret.id().clone()));
                bound = true;
            }
            if bound {
                self.put(stored.id().clone(), stored.name().clone(), Spec::Llm(llm));
            }
        }
    }

    fn restore_admin(&mut self, token: TokenHash) -> anyhow::Result<()> {
        let before = self.before;
        let name: Name = ADMIN.parse()?;
        let subject = Subject { kind: SubjectKind::User, name: name.clone() };
        let user = before.by_name(Kind::User, ADMIN);
        let active = user.filter(|_| before.is_active(&subject));
        let holds_everything = before.subject_holds_everything(&subject);
        if let Some(user) = active.filter(|_| holds_everything) {
            return self.put_token(user.id().clone(), token);
        }
        let id = user.map_or_else(Id::mint, |user| user.id().clone());
        let spec = match user.map(|user| &user.resource.spec) {
            Some(Spec::User(spec)) => UserSpec {
                disabled: false,
                password_set_by: Vec::new(),
                external: ExternalLink::Keep,
                ..spec.clone()
            },
            _ => UserSpec { display_name: Some("the first administrator".to_owned()), ..UserSpec::default() },
        };
        // Without its password, its link to a provider, and its tokens.
        self.put(id.clone(), name.clone(), Spec::User(spec));
        before.tokens_of(&id).for_each(|token| self.batch.remove(token));
        if !holds_everything {
            let taken = before.by_name(Kind::RoleBinding, ADMIN).is_some();
            let binding_name =
                if taken { format!("admin-{}", self.now.as_second()).parse()? } else { name.clone() };
            let binding = RoleBindingSpec { role: name, subjects: vec![subject] };
            self.put(Id::mint(), binding_name, Spec::RoleBinding(binding));
        }
        self.put_token(id, token)
    }

    fn put_token(&mut self, admin: Id, hash: TokenHash) -> anyhow::Result<()> {
        let spec = TokenSpec {
            subject: Subject { kind: SubjectKind::User, name: ADMIN.parse()? },
            subject_id: admin,
            expires_at: self.now.checked_add(SignedDuration::from_hours(24 * BOOTSTRAP_TOKEN_DAYS))?,
            session: false,
            origin: None,
            rotated_from: None,
            begun_with: None,
            prefix: None,
            issued_by: Vec::new(),
            rules: None,
        };
        let draft = TokenDraft { name: format!("bootstrap-{}", Id::mint()).parse()?, spec, hash };
        self.batch.put(draft.into_stored(self.batch.next_revision(), self.now));
        Ok(())
    }

    fn put(&mut self, id: Id, name: Name, spec: Spec) {
        let old = self.before.by_id(&id).map(|stored| &stored.resource);
        let resource = Resource {
            created_at: old.map_or(self.now, |old| old.created_at),
            labels: old.map(|old| old.labels.clone()).unwrap_or_default(),
            annotations: old.map(|old| old.annotations.clone()).unwrap_or_default(),
            id,
            name,
            revision: self.batch.next_revision(),
            updated_at: self.now,
            spec,
        };
        self.batch.put(Arc::new(Stored { resource, confidential: None }));
    }
}
