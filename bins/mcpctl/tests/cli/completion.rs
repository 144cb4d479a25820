//! Completion, as bash asks for it: commands, options, kinds and live names.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::examples::World;

impl World {
    /// What bash offers for the last word of a line.
    async fn completed(&self, line: &str) -> Vec<String> {
        let script = format!(
            r#"eval "$(mcpctl completion bash)"
               COMP_WORDS=({line}); [[ '{line}' == *' ' ]] && COMP_WORDS+=('')
               COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
               _clap_complete_mcpctl mcpctl "${{COMP_WORDS[COMP_CWORD]}}"
               printf '%s\n' "${{COMPREPLY[@]}}""#
        );
        let (code, text) = self.run(&script).await;
        assert_eq!(code, 0, "{line}: {text}");
        // Older versions of bash split the words themselves.
        text.split(['\n', '\u{b}']).filter(|word| !word.is_empty()).map(str::to_owned).collect()
    }
}

#[tokio::test]
async fn bash_completes_commands_kinds_and_live_names() {
    let world = World::start().await;
    world.shell.file("complete-me.yaml", "");
    std::fs::create_dir(world.shell.path("complete-dir")).unwrap();
    for (line, expected) in [
        ("mcpctl desc", &["describe"][..]),
        ("mcpctl get rolebi", &["rolebindings"]),
        ("mcpctl get llms,us", &["llms,users"]),
        ("mcpctl get llm g", &["gpt"]),
        ("mcpctl describe users ", &["admin", "alice", "bob"]),
        ("mcpctl get llms/c", &["llms/claude"]),
        ("mcpctl chat c", &["claude"]),
        ("mcpctl delete rolebinding alice", &["alice-uses-llms"]),
        ("mcpctl create token x --for User/a", &["User/admin", "User/alice"]),
        ("mcpctl create rolebinding x --role llm-u", &["llm-user"]),
        ("mcpctl config use-context s", &["spare"]),
        ("mcpctl explain llm.fail", &["llm.failover"]),
        ("mcpctl get llms -o js", &["json", "jsonpath="]),
        ("mcpctl get llms --show-l", &["--show-labels"]),
        ("mcpctl create token x --for a", &["admin", "alice"]),
        ("mcpctl create token x --for G", &[]),
        ("mcpctl create group x --member G", &["Group/"]),
        ("mcpctl auth can-i r", &["run"]),
        ("mcpctl create role r --verb=view,e", &["--verb=view,edit"]),
        ("mcpctl usage --by user,h", &["user,hour"]),
        ("mcpctl audit --action failover-", &["failover-end"]),
        ("mcpctl create limit x --per ", &["all", "subject"]),
        ("mcpctl apply -f complete-m", &["complete-me.yaml"]),
        ("mcpctl create -f ./complete-m", &["./complete-me.yaml"]),
        ("mcpctl login https://mcpd.example.com --token-file complete-d", &["complete-dir/"]),
    ] {
        assert_eq!(world.completed(line).await, expected, "{line}");
    }
}

#[tokio::test]
async fn names_are_those_that_the_caller_may_view_and_none_where_mcpd_is_silent() {
    let mut world = World::start().await;
    let rules = json!([{"kinds": ["llms"], "verbs": ["view"], "names": ["gpt"]}]);
    let token = world.mcpd.user_with_rules("carol", rules).await;
    world.shell.env.push(("MCPCTL_TOKEN", token));
    assert_eq!(world.completed("mcpctl get llm ").await, ["gpt"]);
    let offered = world.completed("mcpctl get secret ").await;
    assert!(offered.iter().all(|word| word.starts_with("--")), "{offered:?}");
    world.shell.env.pop();

    // A server that accepts connections and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    world.shell.env.push(("MCPCTL_SERVER", url));
    let begun = Instant::now();
    let offered = world.completed("mcpctl get llm ").await;
    assert!(offered.iter().all(|word| word.starts_with("--")), "{offered:?}");
    // Far more than it takes, because the machine may be busy; without the bound it is a request's whole timeout.
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(world.completed("mcpctl get llm").await, ["llms"], "kinds need no server");
}
