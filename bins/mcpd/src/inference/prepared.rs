//! What requests need of an Llm, prepared once for each of its revisions: the keys of its upstreams, and their addresses with the
//! credentials that were opened for permitted requests.
//!
//! No decision is kept. Whether a credential is in force is asked of each request's snapshot, and one that was opened is used for
//! the very secret that it was opened from only.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mcpctl_access::{Snapshot, Stored};
use mcpctl_api::{
    Id, Kind, Spec,
    spec::{LlmSpec, Upstream},
};
use mcpctl_upstream::Target;

/// The Llms that were asked for, prepared.
#[derive(Default)]
pub struct PreparedLlms(Mutex<HashMap<Id, Arc<PreparedLlm>>>);

/// One revision of an Llm.
pub struct PreparedLlm {
    stored: Arc<Stored>,
    /// Its specification.
    pub spec: Box<LlmSpec>,
    /// In the order of [`LlmSpec::upstreams`].
    upstreams: Vec<PreparedUpstream>,
}

/// One upstream of an Llm.
pub struct PreparedUpstream {
    /// What its state is kept by.
    pub key: Arc<str>,
    /// Its credential is dropped once the last request with it has ended.
    opened: Mutex<Option<Opened>>,
}

struct Opened {
    /// The secret that the target's credential was opened from.
    secret: Option<Arc<Stored>>,
    target: Target,
}

impl Opened {
    fn is_from(&self, secret: Option<&Arc<Stored>>) -> bool {
        match (&self.secret, secret) {
            (None, None) => true,
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (Some(_), None) | (None, Some(_)) => false,
        }
    }
}

/// What the state of an upstream is kept by: its Llm, address, model and key. So it survives edits of the others, and their order;
/// and an upstream that was corrected begins anew.
pub fn key(llm: &Id, upstream: &Upstream<'_>) -> String {
    let (address, Upstream { model, api_key, .. }) = (upstream.address(), upstream);
    match api_key {
        None => format!("{llm} {address} {model:?}"),
        Some(api_key) => format!("{llm} {address} {model:?} {}/{}", api_key.secret, api_key.key),
    }
}

/// The keys of all upstreams in a snapshot.
pub fn keys(snapshot: &Snapshot) -> HashSet<String> {
    let llms = snapshot.all(Kind::Llm).filter_map(|stored| match &stored.resource.spec {
        Spec::Llm(llm) => Some((stored, llm)),
        _ => None,
    });
    llms.flat_map(|(stored, llm)| llm.upstreams().map(|upstream| key(stored.id(), &upstream))).collect()
}

impl PreparedLlms {
    /// An Llm, prepared now unless it was before; `None` for a resource of another kind.
    pub fn of(&self, llm: &Arc<Stored>) -> Option<Arc<PreparedLlm>> {
        let known = self.llms().get(llm.id()).map(Arc::clone);
        if let Some(known) = known.filter(|known| Arc::ptr_eq(&known.stored, llm)) {
            return Some(known);
        }
        let prepared = Arc::new(PreparedLlm::new(llm)?);
        self.llms().insert(llm.id().clone(), Arc::clone(&prepared));
        Some(prepared)
    }

    /// Forgets the Llms that are gone or have changed, and the credentials that are no longer in force.
    pub fn retain(&self, snapshot: &Snapshot) {
        self.llms().retain(|id, llm| {
            for (upstream, prepared) in llm.upstreams() {
                prepared.close_unless_from(snapshot.secret_in_force(&upstream));
            }
            snapshot.by_id(id).is_some_and(|stored| Arc::ptr_eq(stored, &llm.stored))
        });
    }

    fn llms(&self) -> MutexGuard<'_, HashMap<Id, Arc<PreparedLlm>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PreparedLlm {
    fn new(stored: &Arc<Stored>) -> Option<Self> {
        let Spec::Llm(spec) = stored.resource.spec.clone() else { return None };
        let prepared =
            |upstream| PreparedUpstream { key: key(stored.id(), &upstream).into(), opened: Mutex::default() };
        let upstreams = spec.upstreams().map(prepared).collect();
        Some(Self { stored: Arc::clone(stored), spec, upstreams })
    }

    /// The resource that it was prepared from.
    pub fn stored(&self) -> &Arc<Stored> {
        &self.stored
    }

    /// Its upstreams, in the order of the document.
    pub fn upstreams(&self) -> impl Iterator<Item = (Upstream<'_>, &PreparedUpstream)> {
        self.spec.upstreams().zip(&self.upstreams)
    }
}

impl PreparedUpstream {
    /// The upstream with the credential from this secret, which is in force; `open` opens it unless it is open.
    ///
    /// # Errors
    /// Those of `open`.
    pub fn target<E>(
        &self,
        secret: Option<&Arc<Stored>>,
        open: impl FnOnce() -> Result<Target, E>,
    ) -> Result<Target, E> {
        let mut opened = self.opened();
        if let Some(opened) = opened.as_ref().filter(|opened| opened.is_from(secret)) {
            return Ok(opened.target.clone());
        }
        *opened = None;
        let target = open()?;
        *opened = Some(Opened { secret: secret.cloned(), target: target.clone() });
        Ok(target)
    }

    /// Forgets an opened credential, unless it is from this secret.
    pub fn close_unless_from(&self, secret: Option<&Arc<Stored>>) {
        let mut opened = self.opened();
        if opened.as_ref().is_some_and(|opened| !opened.is_from(secret)) {
            *opened = None;
        }
    }

    fn opened(&self) -> MutexGuard<'_, Option<Opened>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use mcpctl_api::{Resource, spec::SecretSpec};
    use mcpctl_upstream::{Api, AttemptTimeouts, TargetConfig, UpstreamKind};
    use secrecy::{ExposeSecret as _, SecretString};
    use serde_json::json;

    use super::*;

    fn stored(spec: Spec) -> Arc<Stored> {
        let resource = Resource {
            id: Id::mint(),
            name: "r".parse().unwrap(),
            labels: Default::default(),
            annotations: Default::default(),
            revision: Default::default(),
            created_at: Default::default(),
            updated_at: Default::default(),
            spec,
        };
        Arc::new(Stored { resource, confidential: None })
    }

    fn secret() -> Arc<Stored> {
        let secret: SecretSpec = serde_json::from_value(json!({"data": {"key": null}})).unwrap();
        stored(Spec::Secret(secret))
    }

    fn llm() -> Arc<Stored> {
        let key = json!({"secret": "s", "key": "key"});
        let llm = json!({"type": "openai", "url": "http://a.example", "model": "m", "apiKey": key});
        stored(Spec::Llm(serde_json::from_value(llm).unwrap()))
    }

    fn opened(text: &str) -> Result<Target, ()> {
        Ok(Target::new(TargetConfig {
            base_url: "http://a.example".parse().unwrap(),
            socket: None,
            model: None,
            credential: Some(SecretString::from(text)),
            timeouts: AttemptTimeouts::default(),
            api: Api::Openai,
            kind: UpstreamKind::Provider,
        }))
    }

    fn credential(target: &Target) -> &str {
        target.credential.as_ref().unwrap().expose_secret()
    }

    #[test]
    fn an_opened_key_is_used_for_its_own_secret_only() {
        let llms = PreparedLlms::default();
        let prepared = llms.of(&llm()).unwrap();
        let (_, upstream) = prepared.upstreams().next().unwrap();
        let (one, other) = (secret(), secret());
        assert_eq!(credential(&upstream.target(Some(&one), || opened("one")).unwrap()), "one");
        let again = upstream.target(Some(&one), || Err("not opened again"));
        assert_eq!(credential(&again.unwrap()), "one");
        assert_eq!(credential(&upstream.target(Some(&other), || opened("other")).unwrap()), "other");
        assert_eq!(upstream.target(None, || Err("no key")).unwrap_err(), "no key");
        let again = upstream.target(Some(&other), || Err("forgotten"));
        assert_eq!(again.unwrap_err(), "forgotten");
    }

    #[test]
    fn llms_that_are_gone_and_keys_that_are_void_are_forgotten() {
        let (llms, llm) = (PreparedLlms::default(), llm());
        let prepared = llms.of(&llm).unwrap();
        let (_, upstream) = prepared.upstreams().next().unwrap();
        let secret = secret();
        drop(upstream.target(Some(&secret), || opened("key")).unwrap());
        // The snapshot has no such secret.
        llms.retain(&Snapshot::new(Default::default(), [Arc::clone(&llm)]));
        assert!(Arc::ptr_eq(&prepared, &llms.of(&llm).unwrap()));
        let again = upstream.target(Some(&secret), || Err("forgotten"));
        assert_eq!(again.unwrap_err(), "forgotten");
        llms.retain(&Snapshot::default());
        assert!(llms.llms().is_empty());
    }

    #[test]
    fn a_changed_llm_is_prepared_anew() {
        let (llms, before) = (PreparedLlms::default(), llm());
        let prepared = llms.of(&before).unwrap();
        assert!(Arc::ptr_eq(&prepared, &llms.of(&before).unwrap()));
        let mut after = Stored::clone(&before);
        let Spec::Llm(spec) = &mut after.resource.spec else { panic!("an Llm") };
        spec.model = "other".to_owned();
        let changed = llms.of(&Arc::new(after)).unwrap();
        assert_eq!(changed.spec.model, "other");
        assert_ne!(changed.upstreams[0].key, prepared.upstreams[0].key);
        assert!(llms.of(&secret()).is_none());
    }
}
