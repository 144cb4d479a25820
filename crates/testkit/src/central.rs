//! An mcpd and the model server behind it, connected as most tests of mcpd need them.

use serde_json::Value;

use crate::{
    daemons::Mcpd,
    model_server::{ModelServer, Reply},
};

/// An mcpd whose Llms are all served by one model server, and a user `alice`.
pub struct Central {
    /// The mcpd.
    pub mcpd: Mcpd,
    /// The model server behind every Llm; it answers "hello there".
    pub provider: ModelServer,
    /// A token of `alice`.
    pub alice: String,
}

impl Central {
    /// Starts one with these Llms. `alice` may run all of them: a binding `alice-llm-user` gives her the role `llm-user`.
    pub async fn start(llms: &[&str]) -> Self {
        let (mcpd, provider) = serve(llms).await;
        let alice = mcpd.user("alice", Some("llm-user")).await;
        Self { mcpd, provider, alice }
    }

    /// Starts one with these Llms, where `alice` has just these rules.
    pub async fn start_with_rules(llms: &[&str], rules: Value) -> Self {
        let (mcpd, provider) = serve(llms).await;
        let alice = mcpd.user_with_rules("alice", rules).await;
        Self { mcpd, provider, alice }
    }
}

async fn serve(llms: &[&str]) -> (Mcpd, ModelServer) {
    let mcpd = Mcpd::start().await;
    let provider = ModelServer::with_default(Reply::text("hello there")).await;
    for llm in llms {
        mcpd.llm(llm, &provider.base_url()).await;
    }
    (mcpd, provider)
}
