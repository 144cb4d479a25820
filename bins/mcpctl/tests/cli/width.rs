//! Tables and reports on a terminal of 80 columns.

use mcpctl_testkit::{daemons::Mcpd, deployment::Deployment};

use crate::shell::{Shell, beside};

#[tokio::test]
async fn tables_fit_a_terminal_of_80_columns() {
    let deployment = Deployment::start().await;
    let mcpd = &deployment.mcpd;
    let shell = beside(&deployment.agent);
    shell
        .run_with(&["login", mcpd.url(), "--token-stdin", "--context", "administrator"], &mcpd.admin())
        .await
        .succeeded();
    for args in [
        &["create", "serviceaccount", "continuous-integration"][..],
        &["create", "rolebinding", "ci", "--role", "llm-user", "--serviceaccount", "continuous-integration"],
        &["create", "token", "nightly-builds", "--for", "ServiceAccount/continuous-integration"],
        &["admin", "rotate-keys"],
    ] {
        shell.run(args).await.succeeded();
    }
    // A denial by a rule of the Llm, which has a long reason at mcpd and in the journal.
    shell.run(&["patch", "llm", "claude", "-p", "failover: {allowed: false}"]).await.succeeded();
    deployment.overload_provider();
    let error = shell.run(&["chat", "claude", "-p", "Hi"]).await.failed(1);
    let rule = "[no fallback: the local provider `desk` may not be used: the Llm `claude` does not let agents answer in its place";
    assert!(error.contains(rule), "{error}");
    let whole = shell.run(&["audit"]).await.succeeded();
    assert!(whole.contains("   the Llm `claude` does not let agents answer in its place"), "{whole}");

    let config = deployment.agent.config_file().display().to_string();
    for args in [
        &["audit"][..],
        &["local", "journal"],
        &["local", "status"],
        &["local", "doctor", "--config", &config],
        &["doctor"],
        &["config", "get-contexts"],
        &["get", "tokens"],
        &["get", "llms"],
        &["get", "rolebindings"],
        &["auth", "who-can", "run", "llms", "claude"],
    ] {
        let output = shell.run_on(80, args).await.stdout;
        let widest = output.lines().max_by_key(|line| line.chars().count()).unwrap();
        assert!(widest.chars().count() <= 80, "{args:?}\n{output}");
    }
    // What is copied from there is not broken.
    let contexts = shell.run_on(60, &["config", "get-contexts"]).await.succeeded();
    assert!(contexts.contains("administrator") && contexts.contains(mcpd.url()), "{contexts}");
    // On a narrow one each provider has lines of its own, and nothing of the table is lost.
    for args in [&["local", "status"][..], &["local", "history"]] {
        let output = shell.run_on(60, args).await.succeeded();
        let widest = output.lines().max_by_key(|line| line.chars().count()).unwrap();
        assert!(widest.chars().count() <= 60 && output.contains("desk"), "{args:?}\n{output}");
    }
    let output = shell.run_on(40, &["local", "status"]).await.succeeded();
    assert!(
        output.contains("\ndesk external, for claude\n  openai, ") && !output.contains("PROVIDER"),
        "{output}"
    );
    // What was decided stays whole beside names of any length.
    let audit = shell.run_on(80, &["audit"]).await.succeeded();
    let first = audit.lines().filter(|line| !line.starts_with(' ')).skip(1);
    for line in first {
        let word = line.split_whitespace().nth(2).unwrap();
        assert!(["allowed", "denied"].contains(&word), "{audit}");
    }
    let wide = shell.run_on(80, &["audit", "-o", "wide"]).await.succeeded();
    assert!(wide.lines().next().unwrap().contains("REPORTED BY   REQUEST"), "{wide}");
}

#[tokio::test]
async fn what_is_copied_from_a_table_is_whole() {
    let mcpd = Mcpd::start().await;
    let mut shell = Shell::signed_in(&mcpd).await;
    let name = "the-person-of-a-longer-name";
    shell
        .run(&["create", "user", name, "--display-name", "A display name that is long, and that wraps"])
        .await
        .succeeded();
    let columns = "custom-columns=NAME:.name,ID:.id,MADE:.createdAt";
    let table = shell.run_on(60, &["get", "users", "-o", columns]).await.succeeded();
    let id = shell.run(&["get", "user", name, "-o", "jsonpath={.id}"]).await.succeeded();
    assert!(table.contains(&format!("{name}   {}   ", id.trim())), "{table}");
    let table = shell.run_on(60, &["get", "users,groups"]).await.succeeded();
    assert!(table.contains(&format!("users/{name}  ")), "{table}");
    // A shell may export the width of its terminal; a pipe has none.
    shell.env.push(("COLUMNS", "40".to_owned()));
    let table = shell.run(&["get", "users"]).await.succeeded();
    assert!(table.contains(&format!("{name}   A display name that is long, and that wraps   ")), "{table}");
}

/// A line is wider than the terminal only where one text alone is.
#[tokio::test]
async fn no_line_is_wider_than_the_terminal_unless_a_name_alone_is() {
    let mcpd = Mcpd::start().await;
    let shell = Shell::signed_in(&mcpd).await;
    for length in [25, 45, 63] {
        let name = |begin: &str| format!("{begin}{}", "x".repeat(length - begin.len()));
        let (user, group, account) = (name("user-"), name("group-"), name("account-"));
        let (llm, secret, role) = (name("llm-"), name("secret-"), name("role-"));
        mcpd.apply(serde_json::json!([
            {"kind": "Secret", "name": secret, "data": {"a-key-of-some-length": "v", "another-key": "v"}},
            {"kind": "Llm", "name": llm, "type": "azure-openai", "url": "http://127.0.0.1:1/v1", "apiVersion": "preview",
             "model": "a-model-of-the-provider-with-a-date-2026-11-27"},
            {"kind": "User", "name": user, "displayName": "A display name of several words"},
            {"kind": "ServiceAccount", "name": account},
            {"kind": "Group", "name": group, "members": [{"kind": "User", "name": user}, {"kind": "ServiceAccount", "name": account}]},
            {"kind": "Role", "name": role, "rules": [{"kinds": ["llms"], "verbs": ["view", "run"], "names": [llm]}]},
            {"kind": "RoleBinding", "name": name("binding-"), "role": role, "subjects": [{"kind": "Group", "name": group}, {"kind": "User", "name": user}]},
            {"kind": "Limit", "name": name("limit-"), "per": "all", "requests": {"max": 60, "window": "1m"},
             "llms": [llm], "subjects": [{"kind": "User", "name": user}]},
        ]))
        .await;
        shell.run(&["create", "token", &name("token-"), "--for", &format!("User/{user}")]).await.succeeded();
        shell.run(&["login", mcpd.url(), "--token-stdin", "--context", &name("context-")]).await;
        let user_name = format!("User/{user}");
        for columns in [60, 80] {
            for args in [
                &["get", "all"][..],
                &["get", "llms"],
                &["get", "tokens"],
                &["get", "limits", "--show-labels"],
                &["get", "rolebindings", "-L", "team"],
                &["auth", "can-i", "--list", "--as", &user_name],
                &["auth", "who-can", "run", "llms", &llm],
                &["audit"],
                &["config", "get-contexts"],
                &["api-resources"],
                &["token", "list"],
                &["top", "--once"],
                &["usage"],
            ] {
                let output = shell.run_on(columns, args).await.succeeded();
                for line in output.lines() {
                    let is_one_text = !line.trim().contains(' ');
                    assert!(
                        is_one_text || line.chars().count() <= usize::from(columns),
                        "{args:?} on {columns}: {line}\n{output}"
                    );
                }
            }
            // A name is copied from here.
            let llms = shell.run_on(columns, &["get", "llms"]).await.succeeded();
            assert!(llms.contains(&llm), "{llms}");
        }
    }
}
