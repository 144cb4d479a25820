//! What an answer to the probe proves.
//!
//! INVARIANT 4: with pinned keys, nothing but a proof that one of them signed over this request's nonce counts, in either
//! direction: without one the answer is an error. Without pinned keys the status counts, and a proof that nothing verifies may
//! only make it stricter.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, StatusCode};
use mcpctl_access::{
    FailoverReason,
    proof::{LeaseClaims, ProofClaims, ProofQuestion, PublicKey, VerifyError, read_unverified, verify},
};
use mcpctl_api::{
    Id,
    header::{ACCESS_LEASE, ACCESS_PROOF, LLM_ID},
};
use mcpctl_failover::{
    Allowance, BearerDigest, Denial, FailoverRule, LlmId, ProbeAnswer, ProbeError, SignedDenial, lease::Lease,
};

use super::shape::one;

/// An answer to a probe, and whether mcpd's keys were rotated since they were pinned.
pub(super) struct Judged {
    pub(super) answer: Result<ProbeAnswer, ProbeError>,
    /// Whether another key than the first one signed, or none that is pinned.
    pub(super) rotated: bool,
    /// Whether no pinned key signed it.
    pub(super) by_other_key: bool,
}

/// Judges an answer by these pinned keys. `bearer` is the caller's, for the lease.
pub(super) fn by_keys(
    keys: &[PublicKey],
    question: &ProofQuestion,
    status: StatusCode,
    headers: &HeaderMap,
) -> Judged {
    let unsigned = |error| Judged { answer: Err(error), rotated: false, by_other_key: false };
    let proof = match proof_of(headers) {
        Ok(Some(token)) => token,
        Ok(None) => return unsigned(unproven("it is not signed")),
        Err(error) => return unsigned(error),
    };
    let first = verify::<ProofClaims>(proof, keys.get(..1).unwrap_or_default());
    let rotated = first == Err(VerifyError::UnknownKey);
    let verified = if rotated { verify(proof, keys) } else { first };
    let by_other_key = verified == Err(VerifyError::UnknownKey);
    let answer = verified.map_err(|error| unproven(&error.to_string())).and_then(|claims| {
        claims.answers(question).map_err(|error| unproven(&error.to_string()))?;
        proven(&claims, proof, keys, status, headers)
    });
    Judged { answer, rotated, by_other_key }
}

/// The answer of claims that are verified.
fn proven(
    claims: &ProofClaims,
    proof: &str,
    keys: &[PublicKey],
    status: StatusCode,
    headers: &HeaderMap,
) -> Result<ProbeAnswer, ProbeError> {
    let llm = claims.llm.as_ref().map(|id| LlmId::new(id.as_str()));
    if !claims.allows() {
        let signed =
            SignedDenial { llm, known_caller: claims.subject.is_some(), revision: claims.revision.0 };
        let rule = rule_of(claims.reason);
        return Ok(ProbeAnswer::Forbidden(Denial { signed: Some(signed), rule }));
    }
    // mcpd allows by a success alone.
    if !matches!(status, StatusCode::OK | StatusCode::NO_CONTENT) {
        return Err(unproven("its status contradicts its proof"));
    }
    let holds = Duration::from_secs(claims.holds.into());
    let allowance = Allowance { llm, holds, proof: Some(Arc::from(proof)) };
    Ok(ProbeAnswer::Allowed { allowance, lease: lease_of(headers, claims, keys) })
}

/// The lease beside a verified proof. One that is not right is none.
fn lease_of(headers: &HeaderMap, proof: &ProofClaims, keys: &[PublicKey]) -> Option<Lease> {
    let token = one(headers, &ACCESS_LEASE).ok()??;
    let claims: LeaseClaims = verify(token, keys).ok()?;
    claims.accompanies(proof).ok()?;
    Some(Lease {
        subject: claims.subject.id.to_string(),
        bearer: BearerDigest::new(*claims.bearer.as_bytes()),
        llm: LlmId::new(claims.llm.as_str()),
        agent: claims.agent.to_string(),
        revision: claims.revision.0,
        grace: claims.lasts(),
        token: token.to_owned(),
    })
}

/// Judges an answer by its status, where no keys are pinned.
pub(super) fn by_status(
    question: Option<&ProofQuestion>,
    status: StatusCode,
    headers: &HeaderMap,
) -> Result<ProbeAnswer, ProbeError> {
    let llm = one(headers, &LLM_ID)?.filter(|text| Id::has_shape(text)).map(LlmId::new);
    let answer = ProbeAnswer::of_status(status.as_u16(), llm)?;
    let (ProbeAnswer::Allowed { allowance, lease }, Some(question), Some(token)) =
        (&answer, question, proof_of(headers)?)
    else {
        return Ok(answer);
    };
    let claims: ProofClaims = read_unverified(token).map_err(|error| unproven(&error.to_string()))?;
    claims.answers(question).map_err(|error| unproven(&error.to_string()))?;
    if !claims.allows() {
        let rule = rule_of(claims.reason);
        return Ok(ProbeAnswer::Forbidden(Denial { rule, ..Denial::UNSIGNED }));
    }
    // Stricter only: it may hold for less than a status does.
    let holds = allowance.holds.min(Duration::from_secs(claims.holds.into()));
    let allowance = Allowance { holds, ..allowance.clone() };
    Ok(ProbeAnswer::Allowed { allowance, lease: lease.clone() })
}

/// The rule of the Llm that denied. It explains a denial and decides nothing, so that an unverified proof may name it too.
const fn rule_of(reason: FailoverReason) -> Option<FailoverRule> {
    match reason {
        FailoverReason::FailoverOff => Some(FailoverRule::Off),
        FailoverReason::RunRequired => Some(FailoverRule::RunRequired),
        FailoverReason::Allowed
        | FailoverReason::Unauthenticated
        | FailoverReason::Forbidden
        | FailoverReason::NotFound => None,
    }
}

fn proof_of(headers: &HeaderMap) -> Result<Option<&str>, ProbeError> {
    one(headers, &ACCESS_PROOF)
}

fn unproven(why: &str) -> ProbeError {
    ProbeError(format!("the answer proves nothing: {why}"))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use mcpctl_access::proof::{BearerHash, Claims, Decision, ProofSubject, SigningKey, sign};
    use mcpctl_api::{Revision, Verb, spec::SubjectKind};
    use mcpctl_failover::Bearer;

    use super::*;

    fn id(text: &str) -> Id {
        format!("c{text:0>24}").parse().unwrap()
    }

    fn question() -> ProofQuestion {
        ProofQuestion {
            nonce: [7; 16].into(),
            agent: id("agent"),
            bearer: Some(BearerHash::of("alice's own")),
            asked: "claude".to_owned(),
        }
    }

    fn allow() -> ProofClaims {
        let ProofQuestion { nonce, agent, bearer, asked } = question();
        let subject =
            ProofSubject { kind: SubjectKind::User, name: "alice".parse().unwrap(), id: id("alice") };
        ProofClaims {
            nonce,
            agent,
            subject: Some(subject),
            bearer,
            asked,
            llm: Some(id("llm")),
            verb: Verb::View,
            decision: Decision::Allow,
            reason: FailoverReason::Allowed,
            revision: Revision(9),
            iat: jiff::Timestamp::UNIX_EPOCH,
            holds: 12,
            expires_at: Some(jiff::Timestamp::MAX),
        }
    }

    fn deny(reason: FailoverReason) -> ProofClaims {
        ProofClaims { decision: Decision::Deny, reason, holds: 0, ..allow() }
    }

    fn lease(proof: &ProofClaims) -> LeaseClaims {
        LeaseClaims {
            nonce: proof.nonce,
            agent: proof.agent.clone(),
            subject: proof.subject.clone().unwrap(),
            bearer: proof.bearer.unwrap(),
            llm: proof.llm.clone().unwrap(),
            revision: proof.revision,
            iat: proof.iat,
            grace: 60,
        }
    }

    fn headers(pairs: &[(http::HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn signed<C: Claims>(claims: &C, key: &SigningKey) -> String {
        sign(claims, key).unwrap()
    }

    struct Keys {
        current: SigningKey,
        next: SigningKey,
        foreign: SigningKey,
    }

    impl Keys {
        fn new() -> Self {
            let key = || SigningKey::generate().unwrap();
            Self { current: key(), next: key(), foreign: key() }
        }

        fn judge(&self, status: u16, headers: &HeaderMap) -> Judged {
            let pinned = [*self.current.public(), *self.next.public()];
            by_keys(&pinned, &question(), StatusCode::from_u16(status).unwrap(), headers)
        }
    }

    #[test]
    fn inv_04_without_a_valid_proof_no_answer_counts() {
        let keys = Keys::new();
        let good = signed(&allow(), &keys.current);
        let proof = |token: &str| headers(&[(ACCESS_PROOF, token)]);
        let control = keys.judge(200, &proof(&good));
        assert!(matches!(control.answer, Ok(ProbeAnswer::Allowed { .. })) && !control.rotated, "the control");
        let other = |change: &dyn Fn(&mut ProofClaims)| {
            let mut claims = allow();
            change(&mut claims);
            proof(&signed(&claims, &keys.current))
        };
        let mut bent = good.clone();
        bent.replace_range(60..61, if &bent[60..61] == "A" { "B" } else { "A" });
        for (what, status, headers) in [
            ("no proof", 200, HeaderMap::new()),
            ("no proof of a denial", 403, headers(&[(LLM_ID, id("llm").as_str())])),
            ("of an unknown caller", 401, HeaderMap::new()),
            ("signed by another mcpd", 200, proof(&signed(&allow(), &keys.foreign))),
            (
                "a denial by another mcpd",
                403,
                proof(&signed(&deny(FailoverReason::Forbidden), &keys.foreign)),
            ),
            ("altered", 200, proof(&bent)),
            ("nonsense", 200, proof("v4.public.AAAA")),
            ("two", 200, headers(&[(ACCESS_PROOF, &good), (ACCESS_PROOF, &good)])),
            ("a lease", 200, proof(&signed(&lease(&allow()), &keys.current))),
            ("replayed", 200, other(&|claims| claims.nonce = [8; 16].into())),
            ("of another agent", 200, other(&|claims| claims.agent = id("other"))),
            ("of another bearer", 200, other(&|claims| claims.bearer = Some(BearerHash::of("bob's own")))),
            ("of another Llm", 200, other(&|claims| claims.asked = "gpt".to_owned())),
            ("of the Llm's id", 200, other(&|claims| claims.asked = id("llm").to_string())),
            ("an allow under a denial's status", 403, proof(&good)),
            ("an allow under a portal's status", 302, proof(&good)),
        ] {
            let judged = keys.judge(status, &headers);
            assert!(judged.answer.is_err(), "{what}: {:?}", judged.answer);
            let names_no_pinned_key = what.ends_with("another mcpd");
            assert_eq!(
                (judged.rotated, judged.by_other_key),
                (names_no_pinned_key, names_no_pinned_key),
                "{what}"
            );
        }
    }

    #[test]
    fn verified_decision_counts_and_not_the_status() {
        let keys = Keys::new();
        for (reason, status, known_caller) in [
            (FailoverReason::FailoverOff, 200, true),
            (FailoverReason::RunRequired, 200, true),
            (FailoverReason::NotFound, 404, true),
            (FailoverReason::Forbidden, 403, true),
            (FailoverReason::Unauthenticated, 401, false),
            (FailoverReason::Forbidden, 500, true),
        ] {
            let mut claims = deny(reason);
            claims.llm = claims.llm.filter(|_| status == 200);
            if !known_caller {
                (claims.subject, claims.expires_at) = (None, None);
            }
            let judged = keys.judge(status, &headers(&[(ACCESS_PROOF, &signed(&claims, &keys.current))]));
            let llm = claims.llm.map(|id| LlmId::new(id.as_str()));
            let rule = rule_of(reason);
            assert_eq!(
                rule.map_or("", FailoverRule::as_str),
                if status == 200 { reason.as_str() } else { "" }
            );
            let denial = Denial { signed: Some(SignedDenial { llm, known_caller, revision: 9 }), rule };
            assert_eq!(judged.answer, Ok(ProbeAnswer::Forbidden(denial)), "{reason:?}");
        }
        // The next key signs after a rotation.
        let token = signed(&allow(), &keys.next);
        let judged = keys.judge(204, &headers(&[(ACCESS_PROOF, &token)]));
        let allowance = Allowance {
            llm: Some(LlmId::new(id("llm").as_str())),
            holds: Duration::from_secs(12),
            proof: Some(token.as_str().into()),
        };
        assert_eq!(judged.answer, Ok(ProbeAnswer::Allowed { allowance, lease: None }));
        assert!(judged.rotated && !judged.by_other_key);
    }

    #[test]
    fn lease_counts_beside_its_own_proof_only() {
        let keys = Keys::new();
        let proof = signed(&allow(), &keys.current);
        let lease_beside = |token: &str| {
            let judged = keys.judge(200, &headers(&[(ACCESS_PROOF, &proof), (ACCESS_LEASE, token)]));
            let Ok(ProbeAnswer::Allowed { lease, .. }) = judged.answer else { panic!("{:?}", judged.answer) };
            lease
        };
        let token = signed(&lease(&allow()), &keys.current);
        let good = lease_beside(&token).unwrap();
        assert_eq!(
            (good.subject.as_str(), good.agent.as_str()),
            (id("alice").as_str(), id("agent").as_str())
        );
        assert_eq!(good.bearer, Bearer::new("alice's own").digest());
        assert_eq!(
            (good.revision, good.grace, good.llm.as_str()),
            (9, Duration::from_secs(60), id("llm").as_str())
        );
        assert_eq!(good.token, token);

        let changed = |change: &dyn Fn(&mut LeaseClaims)| {
            let mut claims = lease(&allow());
            change(&mut claims);
            lease_beside(&signed(&claims, &keys.current))
        };
        assert_eq!(changed(&|claims| claims.nonce = [8; 16].into()), None, "an earlier one");
        assert_eq!(changed(&|claims| claims.llm = id("other")), None);
        assert_eq!(changed(&|claims| claims.agent = id("other")), None);
        assert_eq!(changed(&|claims| claims.bearer = BearerHash::of("bob's own")), None);
        assert_eq!(lease_beside(&signed(&lease(&allow()), &keys.foreign)), None);
        assert_eq!(lease_beside(&proof), None, "a proof is no lease");
        // Beside a denial there is none.
        let denial = signed(&deny(FailoverReason::FailoverOff), &keys.current);
        let judged = keys.judge(200, &headers(&[(ACCESS_PROOF, &denial), (ACCESS_LEASE, &token)]));
        assert!(matches!(judged.answer, Ok(ProbeAnswer::Forbidden(_))));
    }

    #[test]
    fn unverified_proof_makes_a_status_stricter_only() {
        let keys = Keys::new();
        let judge = |status: u16, headers: &HeaderMap| {
            by_status(Some(&question()), StatusCode::from_u16(status).unwrap(), headers)
        };
        let of = |claims: &ProofClaims| headers(&[(ACCESS_PROOF, &signed(claims, &keys.foreign))]);
        let llm = headers(&[(LLM_ID, id("llm").as_str())]);
        let allowed = |llm| Ok(ProbeAnswer::Allowed { allowance: Allowance::of_status(llm), lease: None });
        assert_eq!(judge(200, &HeaderMap::new()), allowed(None));
        assert_eq!(judge(200, &llm), allowed(Some(LlmId::new(id("llm").as_str()))));
        assert_eq!(judge(200, &headers(&[(LLM_ID, "claude")])), allowed(None), "no id");
        let shorter = Allowance { holds: Duration::from_secs(12), ..Allowance::of_status(None) };
        assert_eq!(
            judge(200, &of(&allow())),
            Ok(ProbeAnswer::Allowed { allowance: shorter.clone(), lease: None })
        );
        let forbidden = Ok(ProbeAnswer::Forbidden(Denial::UNSIGNED));
        let off = Denial { rule: Some(FailoverRule::Off), ..Denial::UNSIGNED };
        assert_eq!(judge(200, &of(&deny(FailoverReason::FailoverOff))), Ok(ProbeAnswer::Forbidden(off)));
        assert_eq!(judge(403, &of(&allow())), forbidden);
        assert!(judge(404, &of(&allow())).is_err());
        assert!(judge(200, &headers(&[(ACCESS_PROOF, "nonsense")])).is_err());
        assert!(judge(200, &of(&ProofClaims { nonce: [8; 16].into(), ..allow() })).is_err(), "replayed");
        // A lease is never taken from it.
        let both = headers(&[
            (ACCESS_PROOF, &signed(&allow(), &keys.foreign)),
            (ACCESS_LEASE, &signed(&lease(&allow()), &keys.foreign)),
        ]);
        assert_eq!(judge(200, &both), Ok(ProbeAnswer::Allowed { allowance: shorter, lease: None }));
    }
}
