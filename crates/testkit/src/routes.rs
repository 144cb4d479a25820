//! The inference routes, as mcpd documents them: tests of every route take them from here, so that none is forgotten.

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::daemons::Mcpd;

/// One route of the OpenAPI document.
#[derive(Debug, Clone)]
pub struct InferenceRoute {
    /// Its method; a GET route takes HEAD too.
    pub method: Method,
    template: String,
}

impl InferenceRoute {
    /// Every inference route of an mcpd.
    pub async fn all(mcpd: &Mcpd) -> Vec<Self> {
        let document: Value = mcpd.get("/openapi.json", "").await.json().await.expect("JSON");
        let paths = document["paths"].as_object().expect("paths");
        let inference = paths.iter().filter(|(path, _)| path.starts_with("/v1/") || path.ends_with("/infer"));
        let routes = inference.flat_map(|(path, methods)| {
            let methods = methods.as_object().expect("methods").keys();
            let method = |name: &String| name.to_uppercase().parse().expect("a method");
            methods.map(move |name| Self { method: method(name), template: path.clone() })
        });
        let routes: Vec<_> = routes.collect();
        assert!(routes.len() >= 9, "{routes:?}");
        routes
    }

    /// Its path, where that names a model.
    pub fn path(&self, model: &str) -> String {
        self.template.replace("{idOrName}", &model.replace('/', "%2F"))
    }

    /// Whether it runs a model.
    pub fn runs(&self) -> bool {
        self.method == Method::POST
    }

    /// Whether it lists models, so that it denies nothing and shows less.
    pub fn lists(&self) -> bool {
        self.method == Method::GET && !self.template.contains('{')
    }

    /// Adds the body of a short request for this model.
    pub fn with_body(&self, request: RequestBuilder, model: &str) -> RequestBuilder {
        if !self.runs() {
            return request;
        }
        let messages = json!([{"role": "user", "content": "Hi"}]);
        let body = match self.template.as_str() {
            "/v1/completions" => json!({"model": model, "prompt": "Hi"}),
            "/v1/embeddings" | "/v1/responses" => json!({"model": model, "input": "Hi"}),
            "/v1/messages" => json!({"model": model, "max_tokens": 8, "messages": messages}),
            _ => json!({"model": model, "messages": messages}),
        };
        request.json(&body)
    }
}
