//! A deployment with people, traffic and failovers, and a browser at its console.

use mcpctl_browser::Browser;
use mcpctl_testkit::{
    daemons::{Mcpd, eventually},
    deployment::Deployment,
};
use reqwest::StatusCode;
use serde_json::{Value, json};

/// What the pages show.
pub struct World {
    pub deployment: Deployment,
    /// A token of `bob`, who may use nothing but `gpt`, as a member of `devs`.
    pub bob: String,
}

impl World {
    /// Starts it: `alice` uses every Llm by a binding of her own, and `gpt` by the group `devs` too.
    pub async fn start() -> Self {
        let deployment = Deployment::builder().signed_in().start().await;
        let mcpd = &deployment.mcpd;
        for llm in ["gpt", "embeddings-of-a-long-name"] {
            mcpd.llm_with_default_timeouts(llm, &deployment.provider.base_url()).await;
        }
        let bob = mcpd.user("bob", None).await;
        let of = |kind: &str, name: &str| json!({"kind": kind, "name": name});
        mcpd.apply(json!([
            {"kind": "User", "name": "bob", "displayName": "Bob <b>of</b> the \"tests\"", "email": "bob@example.com"},
            {"kind": "User", "name": "carol", "disabled": true},
            {"kind": "ServiceAccount", "name": "ci", "description": "builds"},
            {"kind": "Group", "name": "devs", "description": "who writes programs", "members": [of("User", "alice"), of("User", "bob")]},
            {"kind": "Role", "name": "gpt-user", "rules": [
                {"kinds": ["llms"], "verbs": ["view", "run"], "names": ["gpt"]},
                {"kinds": ["limits"], "verbs": ["view"], "names": ["team-*"]},
            ]},
            {"kind": "Secret", "name": "openai", "description": "the team's key", "data": {"token": "sk-1"}, "hosts": ["api.openai.com"]},
            {"kind": "RoleBinding", "name": "devs-use-gpt", "role": "gpt-user", "subjects": [of("Group", "devs"), of("ServiceAccount", "ci")]},
        ]))
        .await;
        let laptop = json!({"name": "admin-laptop", "subject": of("User", "admin"), "expiresIn": "7d"});
        let made = mcpd.post("/api/v1/tokens", &mcpd.admin(), &laptop).await;
        assert_eq!(made.status(), StatusCode::CREATED);
        Self { deployment, bob }
    }

    /// As [`World::start`], with requests, and with a failover that the agent has reported.
    pub async fn with_records() -> Self {
        let world = Self::start().await;
        let deployment = &world.deployment;
        for _ in 0..3 {
            assert_eq!(deployment.chat().await.status(), StatusCode::OK);
        }
        deployment.overload_provider();
        assert!(deployment.chat().await.text().await.unwrap().contains("from the desk"));
        let rows = "/api/v1/audit?action=failover";
        eventually("the failover is reported", async || {
            let page: Value = deployment.mcpd.get(rows, &deployment.mcpd.admin()).await.json().await.unwrap();
            (!page["items"].as_array()?.is_empty()).then_some(())
        })
        .await;
        world
    }

    pub fn mcpd(&self) -> &Mcpd {
        &self.deployment.mcpd
    }

    /// The address of a page.
    pub fn at(&self, path: &str) -> String {
        format!("{}{path}", self.mcpd().url())
    }

    /// Signs in at the console, from whichever page the browser shows.
    pub async fn sign_in(&self, browser: &Browser, token: &str) {
        browser.open(&self.at("/console/sign-in")).await;
        browser.fill("Token", token).await;
        browser.click("Sign in with the token").await;
        browser.is_at("/console/llms").await;
    }

    /// A browser in which the administrator is signed in.
    pub async fn administrator(&self) -> Browser {
        let browser = Browser::start().await;
        self.sign_in(&browser, &self.mcpd().admin()).await;
        browser
    }
}
