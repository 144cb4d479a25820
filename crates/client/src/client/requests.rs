//! The requests of the API, each with the type of its response.

use std::time::Duration;

use jiff::{Timestamp, fmt::rfc2822};
use mcpctl_api::{
    Document, Kind, Name, Resource, Revision,
    activity::Activity,
    agent::{AgentStatus, EngineStatus},
    breaker_status::LlmStatus,
    header,
    installation::Installation,
    limit_status::LimitStatus,
    llm_test::LlmTest,
    models::{Model, ModelList},
    question::{ApplyReport, List, Removal},
    signing_keys::{RotateKeys, SigningKeyList},
};
use reqwest::{
    Method, RequestBuilder, Response,
    header::{DATE, HeaderMap, IF_MATCH},
};
use serde::Serialize;
use serde_json::{Value, json, value::RawValue};

use super::Client;
use crate::{
    error::{ClientError, one_line},
    stream::ChatStream,
};

/// A request to a model.
#[derive(Debug, Clone, Serialize)]
pub struct ChatRequest {
    /// The Llm's name.
    pub model: String,
    /// `{role, content}` each.
    pub messages: Vec<Value>,
    /// Maximum number of tokens of the answer; the model's own limit by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// How much chance has to do with the answer; the model's own default by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
}

/// How long a test of an Llm may take: mcpd ends it after 45 s.
const LLM_TEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Resources of one page: the most that mcpd returns.
const PAGE_ITEMS: u32 = 1000;

impl Client {
    /// Every resource of a kind that the caller may view, read page by page. Its revision is that of the first page, so that a
    /// watch that goes on from there misses nothing.
    ///
    /// # Errors
    /// See [`ClientError`]; so for all the requests below.
    pub async fn list(&self, kind: Kind, selector: Option<&str>) -> Result<List<Resource>, ClientError> {
        let mut list = self.page(kind, selector, None).await?;
        while let Some(after) = list.next.take() {
            let page = self.page(kind, selector, Some(&after)).await?;
            // Names only grow from page to page.
            if page.next.as_ref().is_some_and(|next| *next <= after) {
                let reason = "it sends the same page of a list again".to_owned();
                return Err(ClientError::Unreadable { server: self.name(), reason });
            }
            list.items.extend(page.items);
            list.next = page.next;
        }
        Ok(list)
    }

    /// The first resources of a kind that the caller may view, at most 1000: for completion, which has no time for more.
    pub async fn first_page(&self, kind: Kind) -> Result<List<Resource>, ClientError> {
        self.page(kind, None, None).await
    }

    async fn page(
        &self,
        kind: Kind,
        selector: Option<&str>,
        after: Option<&Name>,
    ) -> Result<List<Resource>, ClientError> {
        let mut request = self.request(Method::GET, &["api", "v1", kind.plural()])?;
        request = request.query(&[("limit", PAGE_ITEMS)]);
        if let Some(selector) = selector {
            request = request.query(&[("labelSelector", selector)]);
        }
        if let Some(after) = after {
            request = request.query(&[("after", after)]);
        }
        self.read(request).await
    }

    /// One resource, by id or name.
    pub async fn get(&self, kind: Kind, id_or_name: &str) -> Result<Resource, ClientError> {
        self.read(self.request(Method::GET, &["api", "v1", kind.plural(), id_or_name])?).await
    }

    /// Makes mcpd's next signing key the current one.
    pub async fn rotate_keys(&self, rotation: &RotateKeys) -> Result<SigningKeyList, ClientError> {
        self.read(self.request(Method::POST, &["api", "v1", "admin", "rotate-keys"])?.json(rotation)).await
    }

    /// How mcpd is installed.
    pub async fn installation(&self) -> Result<Installation, ClientError> {
        self.read(self.request(Method::GET, &["api", "v1", "admin", "installation"])?).await
    }

    /// How the counters of a Limit stand.
    pub async fn limit_status(&self, limit: &str) -> Result<LimitStatus, ClientError> {
        self.read(self.request(Method::GET, &["api", "v1", Kind::Limit.plural(), limit, "status"])?).await
    }

    /// How the breakers of an Llm stand, at the replica that answers.
    pub async fn llm_status(&self, llm: &str) -> Result<LlmStatus, ClientError> {
        self.read(self.request(Method::GET, &["api", "v1", Kind::Llm.plural(), llm, "status"])?).await
    }

    /// Tests the way from mcpd to the model of an Llm, which takes a request at each of its targets.
    pub async fn test_llm(&self, llm: &str) -> Result<LlmTest, ClientError> {
        let request = self.untimed(Method::POST, &["api", "v1", Kind::Llm.plural(), llm, "test"])?;
        self.read(request.timeout(LLM_TEST_TIMEOUT)).await
    }

    /// How every Llm that the caller may view does, at the replica that answers, read page by page.
    pub async fn llm_statuses(&self) -> Result<Vec<LlmStatus>, ClientError> {
        let (mut all, mut after) = (Vec::new(), None::<Name>);
        loop {
            let mut request = self.request(Method::GET, &["api", "v1", "llm-status"])?;
            request = request.query(&[("limit", PAGE_ITEMS)]);
            if let Some(after) = &after {
                request = request.query(&[("after", after)]);
            }
            let page: List<LlmStatus> = self.read(request).await?;
            all.extend(page.items);
            // Names only grow from page to page.
            match page.next {
                Some(next) if after.as_ref().is_none_or(|after| next > *after) => after = Some(next),
                _ => return Ok(all),
            }
        }
    }

    /// What the Llms that the caller may view are doing, at the replica that answers.
    pub async fn llm_activity(&self) -> Result<Activity, ClientError> {
        self.read(self.request(Method::GET, &["api", "v1", "llm-activity"])?).await
    }

    /// Makes a resource. This, `put` and `patch` store nothing in a [dry run](Client::as_dry_run).
    pub async fn create(&self, document: &Document) -> Result<Changed, ClientError> {
        let request = self.request(Method::POST, &["api", "v1", document.kind().plural()])?;
        self.changed(self.write(request).json(document)).await
    }

    /// Replaces a resource, where `expected` is given only at that revision.
    pub async fn put(
        &self,
        id_or_name: &str,
        document: &Document,
        expected: Option<Revision>,
    ) -> Result<Changed, ClientError> {
        let request = self.request(Method::PUT, &["api", "v1", document.kind().plural(), id_or_name])?;
        self.changed(if_match(self.write(request), expected).json(document)).await
    }

    /// Changes fields of a resource (RFC 7396).
    pub async fn patch(
        &self,
        kind: Kind,
        id_or_name: &str,
        patch: &Value,
        expected: Option<Revision>,
    ) -> Result<Changed, ClientError> {
        let request = self.request(Method::PATCH, &["api", "v1", kind.plural(), id_or_name])?;
        self.changed(if_match(self.write(request), expected).json(patch)).await
    }

    fn write(&self, request: RequestBuilder) -> RequestBuilder {
        let request = if self.skip_check { request.query(&[("skipCheck", true)]) } else { request };
        if self.dry_run { request.query(&[("dryRun", true)]) } else { request }
    }

    /// Removes a resource, where `expected` is given only at that revision; answers what the writer should know. In a dry run it
    /// removes nothing.
    pub async fn delete(
        &self,
        kind: Kind,
        id_or_name: &str,
        expected: Option<Revision>,
    ) -> Result<Vec<String>, ClientError> {
        let mut request = self.request(Method::DELETE, &["api", "v1", kind.plural(), id_or_name])?;
        if self.dry_run {
            request = request.query(&[("dryRun", true)]);
        }
        self.send(if_match(request, expected)).await.map(|answer| warnings(&answer))
    }

    /// Makes or changes all documents, or none.
    pub async fn apply(&self, documents: &[&Document]) -> Result<ApplyReport, ClientError> {
        self.apply_batch(&Batch { documents, delete: &[], shows_resources: false }).await
    }

    /// Removes resources and makes or changes all documents, or does none of it.
    pub async fn apply_batch(&self, batch: &Batch<'_>) -> Result<ApplyReport, ClientError> {
        let mut request = self.write(self.request(Method::POST, &["api", "v1", "apply"])?);
        // An older mcpd knows neither this nor removals.
        if batch.shows_resources {
            request = request.query(&[("resources", true)]);
        }
        let request = match batch.delete {
            [] => request.json(batch.documents),
            _ => request.json(batch),
        };
        self.read(request).await
    }

    /// The models that the caller may run.
    pub async fn models(&self) -> Result<Vec<Model>, ClientError> {
        self.models_with(HeaderMap::new()).await
    }

    /// The same with more headers, for a program that asks for its own caller.
    pub async fn models_with(&self, headers: HeaderMap) -> Result<Vec<Model>, ClientError> {
        let list: ModelList =
            self.read(self.request(Method::GET, &["v1", "models"])?.headers(headers)).await?;
        Ok(list.data)
    }

    /// One of them, by name or id.
    pub async fn model(&self, model: &str) -> Result<Model, ClientError> {
        self.model_with(model, HeaderMap::new()).await
    }

    /// The same with more headers, for a program that asks for its own caller.
    pub async fn model_with(&self, model: &str, headers: HeaderMap) -> Result<Model, ClientError> {
        self.read(self.request(Method::GET, &["v1", "models", model])?.headers(headers)).await
    }

    /// The status of an mcplocal.
    pub async fn local_status(&self) -> Result<AgentStatus, ClientError> {
        self.read(self.request(Method::GET, &["status"])?).await
    }

    /// The log of an engine of an mcplocal, as it comes.
    pub async fn engine_logs(
        &self,
        engine: &str,
        previous: bool,
        follow: bool,
    ) -> Result<Response, ClientError> {
        let request = self.untimed(Method::GET, &["api", "v1", "engines", engine, "logs"])?;
        self.send(request.query(&[("previous", previous), ("follow", follow)])).await
    }

    /// Starts or stops an engine of an mcplocal; `action` is `start` or `stop`.
    pub async fn engine_action(&self, engine: &str, action: &str) -> Result<EngineStatus, ClientError> {
        self.read(self.untimed(Method::POST, &["api", "v1", "engines", engine, action])?).await
    }

    /// Makes a new local key for an mcplocal; the old one is refused from then on.
    pub async fn rotate_local_key(&self) -> Result<(), ClientError> {
        self.send(self.request(Method::POST, &["api", "v1", "local-key", "rotate"])?).await.map(drop)
    }

    /// Changes as server-sent events; resumable by the revision of the last event.
    pub async fn watch(&self, kinds: &[Kind], since: Option<Revision>) -> Result<Response, ClientError> {
        let kinds = kinds.iter().map(|kind| kind.plural()).collect::<Vec<_>>().join(",");
        let mut request = self.untimed(Method::GET, &["api", "v1", "watch"])?.query(&[("kinds", kinds)]);
        if let Some(Revision(since)) = since {
            request = request.query(&[("since", since)]);
        }
        self.send(request).await
    }

    /// The OpenAPI document.
    pub async fn openapi(&self) -> Result<Value, ClientError> {
        self.read(self.request(Method::GET, &["openapi.json"])?).await
    }

    /// Whether mcpd can decide and record; answers its clock, to the second, where the answer has one.
    ///
    /// # Errors
    /// Besides, when it cannot: the reason.
    pub async fn readiness(&self) -> Result<Option<Timestamp>, ClientError> {
        let answer = self.send(self.request(Method::GET, &["readyz"])?).await?;
        let date = answer.headers().get(DATE).and_then(|date| date.to_str().ok());
        Ok(date.and_then(|date| rfc2822::parse(date).ok()).map(|date| date.timestamp()))
    }

    /// Asks a model; the answer streams.
    pub async fn chat(&self, chat: &ChatRequest) -> Result<ChatStream, ClientError> {
        #[derive(Serialize)]
        struct Streamed<'a> {
            #[serde(flatten)]
            chat: &'a ChatRequest,
            stream: bool,
            stream_options: Value,
        }
        let body = Streamed { chat, stream: true, stream_options: json!({"include_usage": true}) };
        let request = self.untimed(Method::POST, &["v1", "chat", "completions"])?.json(&body);
        self.send(request).await.map(ChatStream::new)
    }

    async fn changed(&self, request: RequestBuilder) -> Result<Changed, ClientError> {
        /// What is shown to a writer who may not view the resource, and more where they may.
        #[derive(serde::Deserialize)]
        struct Written {
            kind: Kind,
            name: Name,
            revision: Revision,
        }
        let answer = self.send(request).await?;
        let warnings = warnings(&answer);
        let body: Box<RawValue> = self.json(answer).await?;
        let written = serde_json::from_str(body.get());
        let Written { kind, name, revision } =
            written.map_err(|error| self.unreadable(one_line(&error.to_string())))?;
        let resource = Resource::from_json_as(kind, body.get()).ok();
        Ok(Changed { kind, name, revision, warnings, resource })
    }
}

fn warnings(answer: &Response) -> Vec<String> {
    let warnings = answer.headers().get_all(header::WARNING).iter();
    // mcpd puts all of them into one header.
    let texts = warnings.filter_map(|warning| warning.to_str().ok());
    texts.flat_map(|text| text.split("; ")).map(str::to_owned).collect()
}

/// What an apply does in one commit.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Batch<'a> {
    /// Written after the removals.
    pub documents: &'a [&'a Document],
    /// What is removed.
    pub delete: &'a [Removal],
    /// Whether each result has the resource as it is then, or would be.
    #[serde(skip)]
    pub shows_resources: bool,
}

/// Which resource a change left, and what the writer should know.
#[derive(Debug, Clone, PartialEq)]
pub struct Changed {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: Name,
    /// The revision of the change.
    pub revision: Revision,
    /// E.g. that a credential was detached.
    pub warnings: Vec<String>,
    /// The resource as it is then, or would be after a dry run; `None` where the writer may not view it.
    pub resource: Option<Resource>,
}

fn if_match(request: RequestBuilder, expected: Option<Revision>) -> RequestBuilder {
    match expected {
        Some(revision) => request.header(IF_MATCH, format!("\"{revision}\"")),
        None => request,
    }
}
