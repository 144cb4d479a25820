//! Scripted upstreams of every dialect, behind mcpd, behind the agent, and as the local providers of the agent when the primary is down.

use mcpctl_testkit::{
    client_table::Outcome,
    daemons::{Mcplocal, closed_address},
    deployment::Deployment,
    model_server::ModelServer,
    scripted_model::{self, CITIES, CUT, LIMITED, THINK, THOUGHT},
};
use serde_json::{Value, json};

use crate::client::{Cell, Client};

/// Upstreams of mcpd: the name in the table, which is the Llm's too, and what its document has besides.
fn upstreams() -> [(&'static str, Value); 4] {
    [
        ("openai", json!({"type": "openai"})),
        ("openai+responses+messages", json!({"type": "openai", "capabilities": ["responses", "messages"]})),
        ("anthropic", json!({"type": "anthropic"})),
        ("azure-openai", json!({"type": "azure-openai"})),
    ]
}

/// Local providers of the agent: the name in the table, and lines of the configuration.
const LOCAL: [(&str, &str); 3] = [
    ("openai", "type: openai"),
    (
        "openai+responses+messages",
        "type: openai\n    capabilities: [tools, vision, embeddings, responses, messages]",
    ),
    ("anthropic", "type: anthropic"),
];

/// The name of an Llm.
fn llm(upstream: &str) -> String {
    upstream.replace('+', "-")
}

/// A deployment with an Llm for each upstream, one that is used up, and an agent that stands in for each of three Llms whose
/// provider is down.
struct Table {
    deployment: Deployment,
    agent: Mcplocal,
    stranger: String,
    _upstream: ModelServer,
}

impl Table {
    async fn start() -> Self {
        let deployment = Deployment::start().await;
        let upstream = ModelServer::start().await;
        upstream.answer_with(scripted_model::reply_to);
        let base = format!("http://{}", upstream.address());
        let mut documents = Vec::new();
        let mut add = |name: &str, url: &str, more: &Value| {
            let mut llm =
                json!({"kind": "Llm", "name": name, "url": url, "model": "central", "retries": {"max": 0}});
            llm.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            documents.push(llm);
        };
        for (name, more) in upstreams() {
            add(&llm(name), &base, &more);
        }
        add("limited", &base, &json!({"type": "openai"}));
        for (name, _) in LOCAL {
            add(
                &format!("{}-down", llm(name)),
                &format!("http://{}", closed_address()),
                &json!({"type": "openai"}),
            );
        }
        documents.push(
            json!({"kind": "Limit", "name": "used-up", "per": "subject", "llms": ["limited"], "requests": {"max": 1, "window": "1h"}}),
        );
        deployment.mcpd.apply(json!(documents)).await;
        let used = json!({"model": "limited", "messages": [{"role": "user", "content": "Hi"}]});
        let answer = deployment.mcpd.post("/v1/chat/completions", &deployment.alice, &used).await;
        assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
        // May list what she may not run.
        let rules = json!([{"kinds": ["llms"], "verbs": ["run"], "names": ["limited"]}]);
        let stranger = deployment.mcpd.user_with_rules("mallory", rules).await;
        let mut config = format!("server: {}\nproviders:\n", deployment.mcpd.url());
        for (name, lines) in LOCAL {
            let name = llm(name);
            config += &format!(
                "  - name: {name}\n    {lines}\n    url: {base}/v1\n    model: local\n    failoverFor: {name}-down\n"
            );
        }
        let agent = Mcplocal::start(&config).await;
        Self { deployment, agent, stranger, _upstream: upstream }
    }

    fn cells(&self, client: Client) -> Vec<Cell> {
        let of = |upstream: &str, daemon: &str| {
            scenarios(client)
                .into_iter()
                .filter(|scenario| {
                    // A local provider that refuses leads to the primary's own error, which is that it is down.
                    let local = daemon == "mcplocal";
                    !(local && (scenario.ends_with("unknown field") || scenario.ends_with("rate limit")))
                        && !(upstream == "openai+responses+messages" && scenario.starts_with("chat"))
                })
                .collect::<Vec<_>>()
        };
        let cell = |upstream: &'static str, daemon: &'static str, url: &str, llm: &str| Cell {
            upstream,
            daemon,
            input: json!({"url": url, "key": self.deployment.alice, "llm": llm, "stranger": self.stranger,
                "limited": "limited", "vision": true, "scenarios": of(upstream, daemon)}),
        };
        let mut cells = Vec::new();
        for (upstream, _) in upstreams() {
            for (daemon, url) in [("mcpd", self.deployment.mcpd.url()), ("via-mcplocal", self.agent.url())] {
                cells.push(cell(upstream, daemon, url, &llm(upstream)));
            }
        }
        for (upstream, _) in LOCAL {
            cells.push(cell(upstream, "mcplocal", self.agent.url(), &format!("{}-down", llm(upstream))));
        }
        cells
    }
}

/// All scenarios of a client.
fn scenarios(client: Client) -> Vec<String> {
    let errors =
        ["wrong key", "forbidden", "unknown model", "unknown field", "rate limit", "quota", "broken stream"];
    let of = |api: &str, own: &[&str]| -> Vec<String> {
        let common =
            ["plain", "streamed", "tools", "tools streamed", "structured", "image", "reasoning"].iter();
        common.chain(own).chain(&errors).map(|scenario| format!("{api} {scenario}")).collect()
    };
    let mut all = if client.is_openai() {
        let mut all = of("chat", &[]);
        all.extend(of("responses", &[]));
        all.extend(["completions", "embeddings"].map(str::to_owned));
        all
    } else {
        of("messages", &["reasoning streamed", "count"])
    };
    all.push("models".to_owned());
    all
}

/// What a scenario has to give.
fn judge(cell: &Cell, scenario: &str, result: Result<&Value, &str>) -> Outcome {
    let (api, what) = scenario.split_once(' ').unwrap_or(("", scenario));
    let local = cell.daemon == "mcplocal";
    if cell.upstream == "anthropic" && ["completions", "embeddings"].contains(&what) {
        // Anthropic has neither. Of the agent's two errors the caller gets the primary's.
        let (class, named) =
            if local { ("InternalServerError", "cannot be reached") } else { ("BadRequestError", what) };
        return match result {
            Err(error) if error.starts_with(class) && error.contains(named) => Outcome::Refused,
            other => Outcome::Fail(format!("expected {class} that has `{named}`, got {other:?}")),
        };
    }
    let result = match result {
        Ok(result) => result,
        Err(error) => return Outcome::Fail(error.to_owned()),
    };
    let model = if local { "local" } else { "central" };
    let (ended, called) = match api {
        "responses" => ("completed", "completed"),
        "messages" => ("end_turn", "tool_use"),
        _ => ("stop", "tool_calls"),
    };
    let calls: Vec<Value> = CITIES.iter().map(|city| json!(["weather", {"city": city}])).collect();
    let seen = if api == "chat" { "" } else { " and 1 image" };
    let tools = |thought: &str| {
        json!({"reason": called, "calls": calls, "thought": thought,
            "answer": format!("It is Oslo: rain and Rome: sun{seen}.")})
    };
    let error = |class: &str, status: u16| {
        result["class"] == class && result["status"] == status && result["request"] == true
    };
    let holds = match what {
        "plain" | "streamed" => {
            *result == json!({"model": model, "reason": ended, "text": "Briefly: Hi", "counted": true})
        }
        "tools" | "tools streamed" => *result == tools(""),
        "reasoning" | "reasoning streamed" => *result == tools(THOUGHT),
        "structured" => result == "Mia",
        "image" => result == "I see 1 image.",
        "count" => result.as_u64().is_some_and(|count| count > 0),
        "completions" => result == "You said: Hi",
        "embeddings" => *result == json!([2, [0.25, -0.5, 0]]) || *result == json!([2, [0.25, -0.5, 0.0]]),
        "models" => {
            let llm = &cell.input["llm"];
            result[0].as_array().is_some_and(|listed| listed.contains(llm)) && result[1] == *llm
        }
        "wrong key" => error("AuthenticationError", 401),
        "forbidden" => error("PermissionDeniedError", 403),
        "unknown model" => error("NotFoundError", 404),
        "unknown field" => {
            let named = result["message"].as_str().is_some_and(|message| message.contains("no_such_field"));
            error("BadRequestError", 400)
                && named
                && (api == "messages" || result["param"] == "no_such_field")
        }
        "rate limit" => error("RateLimitError", 429) && result["retry_after"] == "60",
        "quota" => error("RateLimitError", 429) && result["retry_after"].is_string(),
        "broken stream" => {
            let whole = format!("You said: {CUT}");
            let text = result["text"].as_str().unwrap_or_default();
            result["raised"] == true
                && !text.is_empty()
                && text.len() < whole.len()
                && whole.starts_with(text)
        }
        _ => panic!("no such scenario: {scenario}"),
    };
    if holds { Outcome::Pass } else { Outcome::Fail(result.to_string()) }
}

async fn run(client: Client) {
    let table = Table::start().await;
    let failed = client.run(table.cells(client), judge).await;
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn scripts_know_what_the_model_answers_specially() {
    for script in ["openai/client.py", "openai/client.cjs", "anthropic/client.py", "anthropic/client.cjs"] {
        let path = format!("{}/tests/official/{script}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).unwrap();
        for prompt in [LIMITED, CUT, THINK] {
            assert!(text.contains(prompt), "{path}: {prompt}");
        }
    }
}

#[tokio::test]
async fn openai_for_python_works_over_every_upstream() {
    run(Client::OpenaiPython).await;
}

#[tokio::test]
async fn openai_for_node_works_over_every_upstream() {
    run(Client::OpenaiNode).await;
}

#[tokio::test]
async fn anthropic_for_python_works_over_every_upstream() {
    run(Client::AnthropicPython).await;
}

#[tokio::test]
async fn anthropic_for_node_works_over_every_upstream() {
    run(Client::AnthropicNode).await;
}
