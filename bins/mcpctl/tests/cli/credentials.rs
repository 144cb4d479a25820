//! Keys and tokens as files, variables and clipboards contain them.

use std::os::unix::fs::PermissionsExt as _;

use mcpctl_testkit::{
    daemons::{Mcpd, McpdOptions},
    issuer::ScriptedIssuer,
};
use serde_json::json;

use crate::shell::Shell;

#[tokio::test]
async fn key_from_a_file_is_sent_as_written_or_rejected() {
    let mcpd = Mcpd::start().await;
    let shell = Shell::signed_in(&mcpd).await;
    for (name, bytes) in [
        ("lf", b"sk-good\n".to_vec()),
        ("crlf", b"sk-good\r\n".to_vec()),
        ("powershell", "\u{feff}sk-good\r\n".encode_utf16().flat_map(u16::to_le_bytes).collect()),
    ] {
        std::fs::write(shell.path("key"), bytes).unwrap();
        let output = shell.run(&["create", "secret", name, "--from-file", "token=key"]).await;
        assert_eq!(output.code, 0, "{name}: {}", output.stderr);
        let expected =
            format!("warning: the line end after `data.token` of Secret `{name}` is left out of the value\n");
        assert_eq!(output.stderr, expected);
    }
    for (bytes, why) in [
        (&b"sk-hunter2\nsk-b"[..], "it has a line end inside"),
        (b"sk-hunter2 \n", "it has a blank at its begin or end"),
        (b"sk-hunter2\x07", "its character 11 (U+0007) cannot be sent in a header"),
    ] {
        std::fs::write(shell.path("key"), bytes).unwrap();
        let output = shell.run(&["create", "secret", "k", "--from-file", "token=key"]).await;
        assert_eq!(output.code, 2, "{}", output.stderr);
        assert!(output.stderr.starts_with(&format!("error: data.token: {why}\nhint: ")), "{}", output.stderr);
        assert!(!output.stderr.contains("hunter2"), "{}", output.stderr);
    }
    std::fs::write(shell.path("key"), b"sk-\xff").unwrap();
    let output = shell.run(&["create", "secret", "k", "--from-file", "token=key"]).await;
    assert_eq!(
        output.stderr,
        "error: key:1:4: the byte 0xFF is not text in UTF-8\nhint: save the file as UTF-8\n"
    );
    // In a document, the error has the place.
    shell.file("f.yaml", "kind: Secret\nname: k\ndata:\n  token: \"sk-\\nhunter2\"\n");
    let output = shell.run(&["apply", "-f", "f.yaml"]).await;
    assert!(
        output.stderr.starts_with("error: f.yaml:3:1: data.token: it has a line end inside\nhint: "),
        "{}",
        output.stderr
    );
}

#[tokio::test]
async fn pasted_token_works_or_its_mistake_is_reported() {
    let mcpd = Mcpd::start().await;
    let mut shell = Shell::signed_in(&mcpd).await;
    let token = mcpd.admin();
    let (half, rest) = token.split_at(12);
    for (pasted, why) in [
        (format!("{token}\n"), None),
        (format!("\u{feff}{token}\r\n"), None),
        (format!(" {token} "), None),
        (format!("{half}\n{rest}"), Some("it has a line end inside")),
        (format!("Bearer {token}"), Some("it begins with `Bearer `")),
        (format!("\"{token}\""), Some("is in quotes")),
        (format!("{token}\u{200b}"), Some("(U+200B) cannot be sent in a header")),
    ] {
        std::fs::write(shell.path("token"), &pasted).unwrap();
        let login = shell.run(&["login", mcpd.url(), "--token-file", "token"]).await;
        shell.env.push(("MCPCTL_TOKEN", pasted.clone()));
        let variable = shell.run(&["whoami"]).await;
        shell.env.pop();
        for output in [login, variable] {
            match why {
                None => assert_eq!(output.code, 0, "{pasted:?}: {}", output.stderr),
                Some(why) => {
                    assert!(output.code == 1 && output.stderr.contains(why), "{pasted:?}: {}", output.stderr)
                }
            }
            assert!(!output.stderr.contains(rest), "{}", output.stderr);
        }
    }
}

#[tokio::test]
async fn token_file_that_others_can_read_is_warned_of() {
    let mcpd = Mcpd::start().await;
    let shell = Shell::signed_in(&mcpd).await;
    let file = shell.path("token");
    std::fs::write(&file, mcpd.admin()).unwrap();
    for (mode, warned) in [(0o644, true), (0o640, true), (0o600, false), (0o400, false)] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let login = shell.run(&["login", mcpd.url(), "--token-file", "token"]).await;
        assert_eq!(login.code, 0, "{}", login.stderr);
        assert_eq!(login.stderr.contains("hint: chmod 600 token"), warned, "{mode:o}: {}", login.stderr);
    }
}

#[tokio::test]
async fn deletion_warns_of_what_it_changes_elsewhere() {
    let mcpd = Mcpd::start().await;
    let shell = Shell::signed_in(&mcpd).await;
    shell.file(
        "f.yaml",
        "kind: Secret\nname: prod\ndata: {k: v}\n---\nkind: Llm\nname: gpt\ntype: openai\nurl: http://127.0.0.1:1/v1\n\
         model: m\napiKey: {secret: prod, key: k}\n---\nkind: User\nname: bob\n---\nkind: RoleBinding\nname: b\n\
         role: llm-user\nsubjects: [{kind: User, name: bob}]\n---\nkind: Group\nname: g\nmembers: [{kind: User, name: bob}]\n",
    );
    shell.run(&["apply", "-f", "f.yaml"]).await.succeeded();
    let warning = "warning: Llm `gpt` has no key any more: it referred to Secret `prod`\n";
    let output = shell.run(&["delete", "secret", "prod", "--dry-run"]).await;
    assert_eq!(
        (output.stdout.as_str(), output.stderr.as_str()),
        ("secrets/prod deleted (dry run)\n", warning)
    );
    let output = shell.run(&["delete", "secret", "prod"]).await;
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("secrets/prod deleted\n", warning));
    // The deletion of an account has one warning per changed resource.
    let output = shell.run(&["delete", "user", "bob"]).await;
    let expected = "warning: RoleBinding `b` is deleted too: it named nothing but User bob\n\
                    warning: Group `g` no longer names User bob\n";
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("users/bob deleted\n", expected));
}

#[tokio::test]
async fn token_is_narrowed_by_rules_and_shows_them() {
    let mcpd = Mcpd::start().await;
    let mut shell = Shell::signed_in(&mcpd).await;
    shell.run(&["create", "serviceaccount", "ci"]).await.succeeded();
    shell
        .run(&["create", "rolebinding", "ci", "--role", "llm-user", "--serviceaccount", "ci"])
        .await
        .succeeded();
    let create = |args: &'static [&'static str]| {
        [&["create", "token"][..], args, &["--for", "ServiceAccount/ci"]].concat()
    };
    let narrowed =
        shell.run(&create(&["one", "--rule", "run llm/claude", "--rule", "view llms claude,team-*"])).await;
    assert!(
        narrowed.stderr.ends_with("it may only: run llms claude\n  it may only: view llms claude,team-*\n"),
        "{}",
        narrowed.stderr
    );
    let options = create(&["two", "--verb", "view,run", "--kind", "llms", "--name", "claude"]);
    assert!(shell.run(&options).await.stderr.ends_with("it may only: view,run llms claude\n"));
    let refused = shell.run(&create(&["three", "--rule", "delete llm/claude"])).await.failed(1);
    assert!(
        refused.starts_with(
            "error: rule 1 of the token is more than ServiceAccount ci may do: delete llms `claude`\nhint: "
        ),
        "{refused}"
    );
    for (args, why) in [
        (create(&["four", "--rule", "run llms"]), "a rule is VERBS KINDS NAMES"),
        (create(&["four", "--rule", "fly llms claude"]), "`fly` is not a verb"),
        (create(&["four", "--verb", "run"]), "--kind"),
    ] {
        let refused = shell.run(&args).await.failed(2);
        assert!(refused.contains(why), "{args:?}: {refused}");
    }
    shell.env.push(("MCPCTL_TOKEN", narrowed.stdout.trim().to_owned()));
    let me = shell.run(&["whoami"]).await.succeeded();
    assert!(
        me.contains(
            "token:   one\nonly:    run llms claude\n         view llms claude,team-*\nexpires: in 30d "
        ),
        "{me}"
    );
    let can_i = shell.run(&["auth", "can-i", "delete", "llms"]).await;
    assert_eq!(can_i.stdout, "no: this token is narrowed, and none of its rules allows it\n");
}

#[tokio::test]
async fn token_is_rotated_and_its_last_use_shown() {
    let mcpd = Mcpd::start().await;
    let mut shell = Shell::signed_in(&mcpd).await;
    shell.run(&["create", "user", "ann"]).await.succeeded();
    shell.run(&["create", "rolebinding", "ann", "--role", "admin", "--user", "ann"]).await.succeeded();
    shell.run(&["create", "serviceaccount", "ci"]).await.succeeded();
    let old =
        shell.run(&["create", "token", "ann", "--for", "User/ann", "--expires-in", "2d"]).await.succeeded();
    shell.run_with(&["login", mcpd.url(), "--token-stdin", "--context", "ann"], &old).await.succeeded();
    shell.run(&["create", "token", "ci", "--for", "ServiceAccount/ci"]).await.succeeded();
    let rotated = shell.run(&["rotate", "token", "ci", "--grace", "1h", "--expires-in", "9d"]).await;
    assert!(rotated.stdout.starts_with("mcpd_") && rotated.stdout.lines().count() == 1, "{}", rotated.stdout);
    assert!(
        rotated.stderr.starts_with("tokens/ci rotated, expires in 9d; ")
            && rotated.stderr.ends_with("it is shown this once; the old secret is good for 1h more\n"),
        "{}",
        rotated.stderr
    );
    // The token of the context is saved there.
    let rotated = shell.run(&["rotate", "token", "ann"]).await;
    assert!(
        rotated.stderr.ends_with("the old secret is no longer good\ncontext `ann` uses the new one\n"),
        "{}",
        rotated.stderr
    );
    shell.run(&["whoami"]).await.succeeded();
    shell.env.push(("MCPCTL_TOKEN", old.trim().to_owned()));
    shell.run(&["whoami"]).await.failed(1);
    shell.env.pop();

    let wide = shell.run(&["get", "tokens", "ann", "ci", "-o", "wide"]).await.succeeded();
    let rows: Vec<Vec<&str>> = wide
        .lines()
        .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
        .collect();
    assert_eq!(&rows[0][..7], ["NAME", "SUBJECT", "EXPIRES", "STATUS", "AGE", "LAST USED", "MAY ONLY"]);
    assert!(rows[1][0] == "ann" && rows[1][3] == "active" && rows[1][5].ends_with(" ago"), "{wide}");
    assert!(rows[2][0] == "ci" && rows[2][5] == "never", "{wide}");
    // The next one first; the bootstrap token has 30 days.
    let expiring = shell.run(&["get", "tokens", "--expiring", "10d", "-o", "name"]).await.succeeded();
    let names: Vec<&str> = expiring.lines().collect();
    assert!(
        names[0].starts_with("tokens/ci-old-") && names[1..] == ["tokens/ann", "tokens/ci"],
        "{expiring}"
    );
    shell.run(&["get", "llms", "--expiring", "10d"]).await.failed(2);

    shell.run(&["config", "use-context", "c"]).await.succeeded();
    shell.run(&["delete", "user", "ann"]).await.succeeded();
    let described = shell.run(&["describe", "token", "ci"]).await.succeeded();
    assert!(
        described.contains("# status: void: an account that made the credential is gone or disabled\n#   an administrator takes it over with: mcpctl rotate token ci\n"),
        "{described}"
    );
    shell.run(&["rotate", "token", "ci"]).await.succeeded();
    assert!(shell.run(&["describe", "token", "ci"]).await.succeeded().contains("# status: active\n"));
}

#[tokio::test]
async fn workload_signs_in_by_an_exchange_of_its_token() {
    let issuer = ScriptedIssuer::start().await;
    let config = format!("tokenExchange: {{issuers: [{{issuer: '{}'}}]}}\n", issuer.url());
    let mcpd = Mcpd::start_with(McpdOptions { config: Some(config), ..McpdOptions::default() }).await;
    let trust = json!([{"issuer": issuer.url(), "audience": "mcpd", "subject": "job-*"}]);
    mcpd.apply(json!([{"kind": "ServiceAccount", "name": "ci", "trust": trust}])).await;
    let shell = Shell::new();
    shell.file("jwt", &format!("{}\n", issuer.sign(&issuer.claims("mcpd", "job-7"))));
    let login = ["login", mcpd.url(), "--exchange", "jwt", "--serviceaccount", "ci"];
    let output = shell.run(&login).await;
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert!(
        output.stderr.starts_with("signed in at http://127.0.0.1:")
            && output.stderr.contains(" as ServiceAccount ci (context `")
            && output.stderr.ends_with("; the same command renews it\n"),
        "{}",
        output.stderr
    );
    assert!(shell.run(&["whoami"]).await.succeeded().starts_with("ServiceAccount ci at "));
    // A person's context of the same server stays the current one.
    let person = Shell::signed_in(&mcpd).await;
    person.file("jwt", &format!("{}\n", issuer.sign(&issuer.claims("mcpd", "job-7"))));
    let output = person.run(&login).await;
    let host = mcpd.url().trim_start_matches("http://");
    assert!(
        output.stderr.contains(&format!("use this one with: --context ci@{host}\n")),
        "{}",
        output.stderr
    );
    assert_eq!(person.run(&["config", "current-context"]).await.succeeded(), "c\n");
    let contexts = person.run(&["config", "get-contexts"]).await.succeeded();
    assert!(contexts.lines().nth(2).unwrap().contains("ServiceAccount ci"), "{contexts}");
    shell.file("jwt", &issuer.sign(&issuer.claims("mcpd", "other")));
    let refused = shell.run(&login).await.failed(1);
    assert!(refused.starts_with("error: the service account does not trust this token\nhint: "), "{refused}");
    shell.run(&["login", mcpd.url(), "--exchange", "jwt"]).await.failed(2);
}
