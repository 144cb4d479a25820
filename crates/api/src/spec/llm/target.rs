//! Where the requests to an Llm go: its `url`, or one of its `targets`.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use url::Url;
use utoipa::ToSchema;

use super::{LlmSpec, ProviderType, SecretKeyRef};
use crate::{
    address::forbidden_host,
    base_url::{anthropic_base_path, azure_base_path, base_path, check_base},
    spec::FieldError,
};

/// One of several addresses that serve an Llm. Its key is the one that is written beside it, and no other target gets that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LlmTarget {
    /// Base address, as `url` of the Llm.
    #[schema(value_type = String, example = "http://gpu-1.example.com:8000/v1")]
    pub url: Url,
    /// The name that the model has there; the Llm's `model` if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The key for this address, kept in a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<SecretKeyRef>,
    /// Its share of the requests, compared with the other targets: 1 to 100.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    #[schema(default = 1, minimum = 1, maximum = 100)]
    pub weight: u8,
}

const fn one() -> u8 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_one(weight: &u8) -> bool {
    *weight == 1
}

/// An address that serves an Llm, with the model and the key that belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upstream<'a> {
    /// Its place in `targets`; `None` for the Llm's own `url`.
    pub place: Option<usize>,
    /// The API that it speaks.
    pub provider: ProviderType,
    /// Base address.
    pub url: &'a Url,
    /// The provider's own name of the model.
    pub model: &'a str,
    /// The key that is sent to this address.
    pub api_key: Option<&'a SecretKeyRef>,
    /// Its share of the requests.
    pub weight: u8,
}

impl Upstream<'_> {
    /// The path of one of its fields in the document, such as `targets[1].url`.
    pub fn field(&self, name: &str) -> String {
        self.place.map_or_else(|| name.to_owned(), |at| format!("targets[{at}].{name}"))
    }

    /// Host and port.
    pub fn host(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        self.url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// Scheme, host, port and base path: the same for every spelling that requests to one address may have.
    pub fn address(&self) -> String {
        let path = match self.provider {
            ProviderType::Openai => base_path(self.url),
            ProviderType::Anthropic => anthropic_base_path(self.url),
            ProviderType::AzureOpenai => azure_base_path(self.url),
        };
        // Without a port that is the scheme's own.
        format!("{}{path}", self.url.origin().ascii_serialization())
    }

    /// Whether both are the same for the state that is kept of it: address, model and key.
    pub fn is_same(&self, other: &Upstream<'_>) -> bool {
        let key = |of: Option<&SecretKeyRef>| of.map(|key| (key.secret.clone(), key.key.clone()));
        self.address() == other.address()
            && self.model == other.model
            && key(self.api_key) == key(other.api_key)
    }

    fn check(&self, provider: ProviderType) -> Result<(), FieldError> {
        let (url, field) = (self.url, self.field("url"));
        if !matches!(url.scheme(), "http" | "https") {
            return Err(FieldError::new(field, format!("`{url}` is neither http nor https")));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(FieldError::new(field, "credentials do not belong into an address")
                .hint("keep the key in a secret and name it in `apiKey: {secret, key}`"));
        }
        // Azure's portal shows addresses with `api-version`, which is a field here.
        let version = url.query_pairs().find(|(name, _)| name == "api-version");
        if let Some((_, version)) = version.filter(|_| provider == ProviderType::AzureOpenai) {
            return Err(FieldError::new(field, "`api-version` does not belong into the address")
                .hint(format!("leave the query out, and write `apiVersion: {version}` of the Llm")));
        }
        check_base(url).map_err(|error| FieldError { param: field.clone(), ..error })?;
        if let Some(why) = forbidden_host(url) {
            return Err(FieldError::new(field, format!("`{url}` is {why}, which is never a provider's"))
                .hint("write the address of the model server itself"));
        }
        if self.model.trim().is_empty() {
            return Err(FieldError::new(self.field("model"), "the provider's model name is empty"));
        }
        Ok(())
    }
}

impl LlmSpec {
    /// The most `targets`.
    pub const MAX_TARGETS: usize = 16;
    /// The highest `weight` of a target.
    pub const MAX_WEIGHT: u8 = 100;

    /// The addresses that serve it: its own, or its targets in the order of the document.
    pub fn upstreams(&self) -> impl Iterator<Item = Upstream<'_>> {
        let own = self.url.iter().map(|url| Upstream {
            place: None,
            provider: self.provider,
            url,
            model: &self.model,
            api_key: self.api_key.as_ref(),
            weight: 1,
        });
        let targets = self.targets.iter().enumerate().map(|(at, target)| Upstream {
            place: Some(at),
            provider: self.provider,
            url: &target.url,
            model: target.model.as_deref().unwrap_or(&self.model),
            api_key: target.api_key.as_ref(),
            weight: target.weight,
        });
        own.chain(targets)
    }

    /// The references to secrets, in the order of [`LlmSpec::upstreams`]; of an upstream without a key, its empty place.
    pub fn api_keys_mut(&mut self) -> impl Iterator<Item = &mut Option<SecretKeyRef>> {
        let own = self.url.is_some().then_some(&mut self.api_key);
        own.into_iter().chain(self.targets.iter_mut().map(|target| &mut target.api_key))
    }

    pub(super) fn validate_upstreams(&self) -> Result<(), FieldError> {
        match (&self.url, self.targets.is_empty()) {
            (Some(_), true) => {}
            (None, true) => {
                return Err(FieldError::new("url", "missing field `url`").hint(
                    "write the base address of the provider, or several in `targets: [{url}, {url}]`",
                ));
            }
            (Some(_), false) => {
                return Err(FieldError::new("targets", "an Llm has either `url` or `targets`")
                    .hint("move `url` into the list, and `apiKey` with it"));
            }
            (None, false) if self.api_key.is_some() => {
                return Err(FieldError::new("apiKey", "with `targets`, each key belongs to one address")
                    .hint("write `apiKey` beside the `url` of each target that gets it"));
            }
            (None, false) => {}
        }
        if self.targets.len() > Self::MAX_TARGETS {
            let message = format!("at most {} targets may be named", Self::MAX_TARGETS);
            return Err(FieldError::new("targets", message));
        }
        let mut seen = HashSet::new();
        for upstream in self.upstreams() {
            upstream.check(self.provider)?;
            if !(1..=Self::MAX_WEIGHT).contains(&upstream.weight) {
                let message = format!("a weight is 1 to {}, {} asked for", Self::MAX_WEIGHT, upstream.weight);
                return Err(FieldError::new(upstream.field("weight"), message));
            }
            let key = upstream.api_key.map(|key| (&key.secret, &key.key));
            if !seen.insert((upstream.address(), upstream.model, key)) {
                let message = format!("`{}` is named twice with the same model and key", upstream.url);
                return Err(FieldError::new(upstream.field("url"), message)
                    .hint("write it once, with a higher `weight`"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn llm(more: Value) -> LlmSpec {
        let mut document = json!({"type": "openai", "model": "m"});
        document.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(document).unwrap()
    }

    #[test]
    fn one_way_to_write_where_requests_go() {
        let key = json!({"secret": "s", "key": "k"});
        let many =
            json!((0..17).map(|at| json!({"url": format!("http://h{at}.example")})).collect::<Vec<_>>());
        for (document, field) in [
            (json!({}), "url"),
            (json!({"targets": []}), "url"),
            (json!({"url": "http://a.example", "targets": [{"url": "http://b.example"}]}), "targets"),
            (json!({"apiKey": key, "targets": [{"url": "http://b.example"}]}), "apiKey"),
            (json!({"targets": many}), "targets"),
            (
                json!({"targets": [{"url": "http://a.example"}, {"url": "http://169.254.169.254"}]}),
                "targets[1].url",
            ),
            (json!({"targets": [{"url": "http://metadata.google.internal"}]}), "targets[0].url"),
            (json!({"targets": [{"url": "http://u:p@a.example"}]}), "targets[0].url"),
            (json!({"targets": [{"url": "ftp://a.example"}]}), "targets[0].url"),
            (json!({"targets": [{"url": "http://a.example/v1/chat/completions"}]}), "targets[0].url"),
            (json!({"targets": [{"url": "http://a.example", "model": " "}]}), "targets[0].model"),
            (json!({"targets": [{"url": "http://a.example", "weight": 0}]}), "targets[0].weight"),
            (json!({"targets": [{"url": "http://a.example", "weight": 101}]}), "targets[0].weight"),
            (
                json!({"targets": [{"url": "http://a.example"}, {"url": "http://A.example/"}]}),
                "targets[1].url",
            ),
            (
                json!({"targets": [{"url": "http://a.example"}, {"url": "http://a.example", "model": "m"}]}),
                "targets[1].url",
            ),
            (
                json!({"targets": [{"url": "https://a.example/v1"}, {"url": "https://A.example:443//v1/"}]}),
                "targets[1].url",
            ),
            (
                json!({"targets": [{"url": "http://a.example"}, {"url": "http://a.example/v1"}]}),
                "targets[1].url",
            ),
        ] {
            let error = llm(document.clone()).validate().unwrap_err();
            assert_eq!(error.param, field, "{document}: {error:?}");
        }
        for document in [
            json!({"targets": [{"url": "https://a.example"}, {"url": "http://a.example"},
                               {"url": "https://a.example:8443"}, {"url": "https://a.example/v2"}]}),
            json!({"url": "http://a.example", "apiKey": key}),
            json!({"targets": [{"url": "http://a.example", "weight": 100}]}),
            json!({"targets": [{"url": "http://a.example", "apiKey": key}, {"url": "http://a.example"},
                               {"url": "http://a.example", "model": "n"}]}),
        ] {
            llm(document.clone()).validate().unwrap_or_else(|error| panic!("{document}: {error:?}"));
        }
    }

    #[test]
    fn upstream_has_its_own_key_and_model_only() {
        let (one, two) = (json!({"secret": "s", "key": "1"}), json!({"secret": "s", "key": "2"}));
        let mut llm = llm(json!({"targets": [
            {"url": "http://a.example", "apiKey": one}, {"url": "http://b.example"},
            {"url": "http://c.example", "model": "n", "apiKey": two, "weight": 3},
        ]}));
        let seen: Vec<_> = llm
            .upstreams()
            .map(|of| (of.host(), of.model.to_owned(), of.api_key.map(|key| key.key.clone()), of.weight))
            .collect();
        let (a, b, c) = ("a.example".to_owned(), "b.example".to_owned(), "c.example".to_owned());
        let (m, n) = ("m".to_owned(), "n".to_owned());
        let (first, second) = (Some("1".to_owned()), Some("2".to_owned()));
        assert_eq!(seen, [(a, m.clone(), first.clone(), 1), (b, m, None, 1), (c, n, second.clone(), 3)]);
        let keys: Vec<_> = llm.api_keys_mut().map(|key| key.as_ref().map(|key| key.key.clone())).collect();
        assert_eq!(keys, [first, None, second]);
    }
}
