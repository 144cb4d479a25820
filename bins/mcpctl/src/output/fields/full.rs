//! For tests: a resource of each kind in which every field is set. Nothing is left to defaults, so a new field has to be added here.

use std::{fmt::Debug, str::FromStr};

use jiff::Timestamp;
use mcpctl_api::{
    HumanDuration, Id, Kind, Resource, Spec,
    resource::Revision,
    spec::{
        Allowance, Allowed, Breaker, Budget, Capability, Capture, Currency, ExternalIdentity, ExternalLink,
        Failover, FailoverVerb, Fallback, FallbackClass, GroupClaim, GroupSpec, LimitScope, LimitSpec,
        LlmSpec, LlmTarget, MidStream, NewPassword, Period, Price, ProviderType, Retries, RoleBindingSpec,
        RoleSpec, Rule, SecretKeyRef, SecretSpec, SecretValue, ServiceAccountSpec, Subject, SubjectKind,
        Timeouts, TokenOrigin, TokenSpec, TrustedWorkload, UserSpec,
    },
};
use serde::de::DeserializeOwned;
use serde_json::json;

/// A resource with all fields.
pub fn resource(kind: Kind) -> Resource {
    let texts = || [("key".to_owned(), "value".to_owned())].into();
    Resource {
        id: Id::mint(),
        name: parsed("name"),
        labels: texts(),
        annotations: texts(),
        revision: Revision(7),
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
        spec: spec(kind),
    }
}

fn parsed<T: FromStr<Err: Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

fn read<T: DeserializeOwned>(text: &str) -> T {
    serde_json::from_value(json!(text)).unwrap()
}

fn text() -> String {
    "text".to_owned()
}

fn spec(kind: Kind) -> Spec {
    match kind {
        Kind::Llm => Spec::Llm(Box::new(llm())),
        Kind::Secret => Spec::Secret(SecretSpec {
            description: Some(text()),
            data: [("key".to_owned(), Some(SecretValue::new("value")))].into(),
            hosts: vec![read("api.example.com")],
        }),
        Kind::User => Spec::User(UserSpec {
            display_name: Some(text()),
            email: Some("a@example.com".to_owned()),
            disabled: true,
            password: NewPassword::Set(SecretValue::new("password")),
            password_set_by: vec![Id::mint()],
            throttle_lifted_at: Some(Timestamp::UNIX_EPOCH),
            external: ExternalLink::Set(Box::new(ExternalIdentity {
                issuer: parsed("https://issuer.example.com"),
                subject: text(),
                groups: vec![text()],
                linked_by: vec![Id::mint()],
            })),
        }),
        Kind::Group => Spec::Group(GroupSpec {
            description: Some(text()),
            members: vec![subject()],
            claims: vec![GroupClaim { issuer: parsed("https://issuer.example.com"), value: text() }],
        }),
        Kind::ServiceAccount => Spec::ServiceAccount(ServiceAccountSpec {
            description: Some(text()),
            disabled: true,
            trust: vec![TrustedWorkload {
                issuer: parsed("https://issuer.example.com"),
                audience: read("mcpd"),
                subject: read("repo:team/app:ref:refs/heads/main"),
            }],
            trust_set_by: vec![Id::mint()],
        }),
        Kind::Role => Spec::Role(RoleSpec { description: Some(text()), rules: vec![rule()] }),
        Kind::RoleBinding => {
            Spec::RoleBinding(RoleBindingSpec { role: parsed("view"), subjects: vec![subject()] })
        }
        Kind::Token => Spec::Token(TokenSpec {
            subject: subject(),
            subject_id: Id::mint(),
            expires_at: Timestamp::UNIX_EPOCH,
            session: true,
            origin: Some(TokenOrigin { issuer: parsed("https://issuer.example.com"), subject: text() }),
            issued_by: vec![Id::mint()],
            rules: Some(vec![rule()]),
            rotated_from: Some(Id::mint()),
            begun_with: Some(Id::mint()),
            prefix: Some(text()),
        }),
        Kind::Limit => Spec::Limit(LimitSpec {
            description: Some(text()),
            subjects: Some(vec![subject()]),
            llms: Some(vec![parsed("team-*")]),
            per: LimitScope::All,
            requests: Some(allowance()),
            tokens: Some(allowance()),
            cost: Some(Budget {
                max: parsed("1.5"),
                currency: Currency::Usd,
                window: Some(seconds(60)),
                period: Some(Period::Day),
            }),
        }),
        Kind::Usage | Kind::Audit => unreachable!("{kind} has no resources"),
    }
}

fn llm() -> LlmSpec {
    LlmSpec {
        provider: ProviderType::AzureOpenai,
        url: Some(parsed("https://api.example.com")),
        model: text(),
        targets: vec![LlmTarget {
            url: parsed("https://api.example.com"),
            model: Some(text()),
            api_key: Some(key()),
            weight: 3,
        }],
        capabilities: vec![Capability::Responses],
        api_version: Some(text()),
        api_key: Some(key()),
        allow_fields: vec![text()],
        stream_usage: false,
        price: Some(Price {
            input: parsed("1"),
            output: parsed("2"),
            cached_input: Some(parsed("3")),
            cache_write: Some(parsed("4")),
            reasoning: Some(parsed("5")),
        }),
        description: Some(text()),
        timeouts: Timeouts {
            connect: seconds(1),
            response: seconds(2),
            answer: seconds(3),
            first_token: seconds(4),
            idle: seconds(5),
        },
        retries: Retries { max: 1 },
        breaker: Breaker { failures: 9, open: seconds(9) },
        fallbacks: vec![Fallback { llm: parsed("other"), on: vec![FallbackClass::Connect] }],
        mid_stream: MidStream::Restart,
        failover: Failover { allowed: true, require: FailoverVerb::View, offline_grace: seconds(9) },
        capture: Capture { bodies: true },
    }
}

fn key() -> SecretKeyRef {
    SecretKeyRef {
        secret: parsed("secret"),
        key: text(),
        secret_id: Some(Id::mint()),
        attached_by: vec![Id::mint()],
    }
}

fn subject() -> Subject {
    Subject { kind: SubjectKind::User, name: parsed("alice") }
}

fn rule() -> Rule {
    Rule { kinds: vec![Allowed::Any], verbs: vec![Allowed::Any], names: vec![parsed("*")] }
}

fn allowance() -> Allowance<u64> {
    Allowance { max: 1, window: Some(seconds(60)), period: Some(Period::Day) }
}

const fn seconds(seconds: u64) -> HumanDuration {
    HumanDuration::from_secs(seconds)
}
