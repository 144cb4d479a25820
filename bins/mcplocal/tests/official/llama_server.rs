//! A real llama-server with a real small model, behind mcpd and as an engine of the agent. Its words vary between processors, so that
//! only the shape of answers is checked. Chat completions go to it untouched; responses and messages are translated, or, where the Llm declares
//! them, answered by llama.cpp's own code.

use std::{
    env,
    path::{Path, PathBuf},
    process::Stdio,
};

use mcpctl_testkit::{client_table::Outcome, daemons::closed_address, deployment::Deployment};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::client::{Cell, Client};

/// Context of one slot, tokens.
const CONTEXT: usize = 2048;

/// Requests at a time: one of each client.
const SLOTS: usize = 4;

fn path(variable: &str) -> PathBuf {
    let path = env::var_os(variable);
    path.unwrap_or_else(|| panic!("{variable} is not set: `cargo xtask test` fetches the engine and sets it"))
        .into()
}

/// Calls of tools: the small model's own template has none.
fn template() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/official/tools.jinja").display().to_string()
}

/// A llama-server on a port that it chooses itself.
async fn serve(options: &[&str]) -> (Child, String) {
    let context = (CONTEXT * SLOTS).to_string();
    let slots = SLOTS.to_string();
    let mut child = Command::new(path("MCPCTL_LLAMA_SERVER"))
        .arg("-m")
        .arg(path("MCPCTL_GGUF"))
        .args(["--host", "127.0.0.1", "--port", "0", "--alias", "small", "-c", &context, "-np", &slots])
        .args(["--threads", "1", "--no-ui", "--offline"])
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let url = loop {
        let line = lines.next_line().await.unwrap().expect("it listens before it ends");
        if let Some((_, url)) = line.split_once("listening on ") {
            break url.trim().to_owned();
        }
    };
    // A full pipe would stop it.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    (child, url)
}

/// What is asked of the model, in which words the client's script knows it.
fn scenarios(client: Client, upstream: &str) -> Vec<&'static str> {
    match (client.is_openai(), upstream) {
        (true, "llama-server --embeddings") => vec!["embeddings"],
        (false, "llama-server --embeddings") => vec![],
        // Its own events have no `sequence_number` and no `output_index`, which OpenAI's helpers for streams need, and its own answers
        // follow no schema. Translation has both.
        (true, "llama-server+responses+messages") => vec!["responses plain", "responses tools"],
        (true, _) => vec![
            "chat plain",
            "chat streamed",
            "chat tools streamed",
            "chat structured",
            "chat too long",
            "responses plain",
            "responses streamed",
            "responses tools streamed",
            "responses structured",
            "responses too long",
            "completions",
            "models",
        ],
        (false, "llama-server+responses+messages") => {
            vec![
                "messages plain",
                "messages streamed",
                "messages tools streamed",
                "messages count",
                "messages too long",
            ]
        }
        (false, _) => vec![
            "messages plain",
            "messages streamed",
            "messages tools streamed",
            "messages structured",
            "messages count",
            "messages too long",
            "models",
        ],
    }
}

/// Whether an answer has the right shape, whatever its words are.
fn judge(cell: &Cell, scenario: &str, result: Result<&Value, &str>) -> Outcome {
    let result = match result {
        Ok(result) => result,
        Err(error) => return Outcome::Fail(error.to_owned()),
    };
    let what = scenario.split_once(' ').map_or(scenario, |(_, what)| what);
    let text = |text: &Value| text.as_str().is_some_and(|text| !text.is_empty());
    let model = |name: &Value| name == "small" || cell.daemon == "mcplocal" && name != &cell.input["llm"];
    let holds = match what {
        "plain" | "streamed" => text(&result["text"]) && result["counted"] == true && model(&result["model"]),
        "tools" | "tools streamed" => {
            let calls = result["calls"].as_array().unwrap();
            let city = |call: &Value| call[1]["city"] == "Oslo" || call[1]["city"] == "Rome";
            calls.len() == 1
                && calls.iter().all(|call| call[0] == "weather" && city(call))
                && result["answer"].is_string()
        }
        "structured" => result == "Mia" || result == "Tom",
        "count" => result.as_u64().is_some_and(|count| count > 0),
        // Of the agent's two errors the caller gets the primary's own.
        "too long" if cell.daemon == "mcplocal" => {
            result["class"] == "InternalServerError" && result["status"] == 502
        }
        "too long" => result["class"] == "BadRequestError" && result["status"] == 400,
        "completions" => text(result),
        "embeddings" => result[0] == 2 && result[1].as_array().is_some_and(|vector| vector.len() == 3),
        "models" => result[1] == cell.input["llm"],
        _ => panic!("no such scenario: {scenario}"),
    };
    if holds { Outcome::Pass } else { Outcome::Fail(result.to_string()) }
}

#[tokio::test]
async fn official_clients_work_over_a_real_model() {
    let (_server, url) = serve(&["--chat-template-file", &template()]).await;
    let (_embedding, embedding_url) = serve(&["--embeddings", "--pooling", "mean"]).await;
    let provider = format!(
        "  - name: desk\n    type: llama-server-managed\n    command: {}\n    model: {}\n    contextLength: {CONTEXT}\n    \
         failoverFor: down\n    extraArgs: [--threads, \"1\", --chat-template-file, {}]\n",
        path("MCPCTL_LLAMA_SERVER").display(),
        path("MCPCTL_GGUF").display(),
        template(),
    );
    let deployment = Deployment::builder().providers(&provider).signed_in().start().await;
    let llm = |name: &str, url: &str, more: Value| {
        let mut llm = json!({"kind": "Llm", "name": name, "type": "openai", "url": url, "model": "small",
            "retries": {"max": 0}});
        llm.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        llm
    };
    let documents = json!([
        llm("translated", &url, json!({})),
        llm("own", &url, json!({"capabilities": ["responses", "messages"]})),
        llm("embedding", &embedding_url, json!({})),
        llm("down", &format!("http://{}", closed_address()), json!({})),
    ]);
    deployment.mcpd.apply(documents).await;
    deployment.start_engine("desk").await;

    let cells = |client: Client| -> Vec<Cell> {
        let cell = |upstream: &'static str, daemon: &'static str, llm: &str| Cell {
            upstream,
            daemon,
            input: json!({"url": if daemon == "mcpd" { deployment.mcpd.url() } else { deployment.agent.url() },
                "key": deployment.alice, "llm": llm, "tokens": 8, "words": CONTEXT + 100,
                "scenarios": scenarios(client, upstream)}),
        };
        vec![
            cell("llama-server", "mcpd", "translated"),
            cell("llama-server+responses+messages", "mcpd", "own"),
            cell("llama-server --embeddings", "mcpd", "embedding"),
            cell("llama-server", "mcplocal", "down"),
        ]
    };
    let run = |client: Client| client.run(cells(client), judge);
    let failed = tokio::join!(
        run(Client::OpenaiPython),
        run(Client::OpenaiNode),
        run(Client::AnthropicPython),
        run(Client::AnthropicNode)
    );
    let failed = [failed.0, failed.1, failed.2, failed.3].concat();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
