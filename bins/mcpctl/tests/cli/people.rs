//! What people do for themselves, and what administrators do for many.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    process::Stdio,
    sync::{Arc, Mutex},
};

use mcpctl_testkit::daemons::{Mcpd, McpdOptions, Mcplocal, eventually};
use serde_json::json;

use crate::shell::{Shell, beside};

/// A shell that is signed in with a password.
async fn with_password(mcpd: &Mcpd, user: &str, password: &str) -> Shell {
    mcpd.apply(json!([{"kind": "User", "name": user, "password": password}])).await;
    let shell = Shell::new();
    login(mcpd, &shell, user, password).await;
    shell
}

async fn login(mcpd: &Mcpd, shell: &Shell, user: &str, password: &str) {
    let args = ["login", mcpd.url(), "--user", user, "--password-stdin", "--context", "c"];
    shell.run_with(&args, password).await.succeeded();
}

#[tokio::test]
async fn person_has_own_tokens_without_an_administrator() {
    let mcpd = Mcpd::start().await;
    let mut shell = with_password(&mcpd, "alice", "a long password").await;
    let made = shell.run(&["token", "create", "laptop"]).await;
    assert!(
        made.stderr.starts_with("tokens/alice-laptop created for User alice, expires in 30d; "),
        "{}",
        made.stderr
    );
    let token = made.stdout.trim().to_owned();
    let list = shell.run(&["token", "list"]).await.succeeded();
    let rows: Vec<Vec<&str>> = list.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0].join(" "), "NAME BEGINS WITH STATUS AGE EXPIRES LAST USED");
    assert_eq!(rows[1][..3], ["alice-laptop", &format!("{}…", &token[..11]), "active"], "{list}");
    assert_eq!(rows.len(), 2, "sessions are left out: {list}");
    let none = shell.run(&["get", "tokens"]).await;
    assert!(none.stderr.ends_with("your own tokens: mcpctl token list\n"), "{}", none.stderr);
    let own = shell.run(&["auth", "can-i", "create", "token", "alice-desktop"]).await.succeeded();
    assert_eq!(own, "yes: a person's own tokens take no rule\n");
    let all = shell.run(&["token", "list", "--sessions"]).await.succeeded();
    assert!(all.contains("now, by this command"), "{all}");

    // The token of the context is renewed in place, and not printed.
    shell.run_with(&["login", mcpd.url(), "--token-stdin", "--context", "t"], &token).await.succeeded();
    let rotated = shell.run(&["token", "rotate"]).await;
    assert_eq!(rotated.stdout, "");
    assert!(
        rotated.stderr.ends_with("the old secret is no longer good\ncontext `t` uses the new one\n"),
        "{}",
        rotated.stderr
    );
    shell.run(&["whoami"]).await.succeeded();
    // By its short name it is printed.
    let rotated = shell.run(&["token", "rotate", "laptop", "--grace", "1h", "--context", "c"]).await;
    assert!(rotated.stdout.starts_with("mcpd_"), "{}", rotated.stderr);
    let refused = shell.run(&["token", "rotate", "desktop"]).await.failed(1);
    assert!(refused.starts_with("error: User alice has no token `desktop`\nhint: "), "{refused}");

    let revoked = shell.run(&["token", "revoke", "laptop"]).await;
    assert_eq!(revoked.stdout, "tokens/alice-laptop revoked\n", "{}", revoked.stderr);
    shell.env.push(("MCPCTL_TOKEN", rotated.stdout.trim().to_owned()));
    shell.run(&["whoami"]).await.failed(1);
}

#[tokio::test]
async fn password_is_changed_by_its_owner_or_an_administrator() {
    let mcpd = Mcpd::start().await;
    let shell = with_password(&mcpd, "alice", "the first password").await;
    let wrong = shell.run_with(&["passwd", "--stdin"], "not this one\nthe second password\n").await.failed(1);
    assert!(wrong.starts_with("error: the present password is wrong\nhint: "), "{wrong}");
    let lines = shell.run_with(&["passwd", "--stdin"], "the first password\n").await.failed(2);
    assert!(lines.starts_with("error: standard input lacks the new password\nhint: one a line"), "{lines}");
    shell.run_with(&["passwd", "--stdin"], "a\nb\nc\n").await.failed(2);
    shell.run(&["passwd"]).await.failed(2);
    let output = shell.run_with(&["passwd", "--stdin"], "the first password\nthe second password\n").await;
    assert_eq!(output.stderr, "the password of User alice is changed, and other sessions have ended\n");
    shell.run(&["whoami"]).await.succeeded();
    login(&mcpd, &shell, "alice", "the second password").await;
    // Another's takes the right to make credentials for that account.
    let refused = shell.run_with(&["passwd", "admin", "--stdin"], "another password\n").await.failed(1);
    assert!(refused.contains("`User alice` may not edit users `admin`"), "{refused}");
    let admin = Shell::signed_in(&mcpd).await;
    admin.run_with(&["passwd", "alice", "--stdin"], "the third password\n").await.succeeded();
    shell.run(&["whoami"]).await.failed(1);
    login(&mcpd, &shell, "alice", "the third password").await;
}

#[tokio::test]
async fn description_of_a_user_has_groups_rights_and_tokens() {
    let mcpd = Mcpd::start().await;
    let shell = with_password(&mcpd, "alice", "a long password").await;
    shell.run(&["token", "create", "laptop"]).await.succeeded();
    let admin = Shell::signed_in(&mcpd).await;
    admin.run(&["create", "group", "team", "--member", "User/alice"]).await.succeeded();
    admin.run(&["create", "rolebinding", "team", "--role", "llm-user", "--group", "team"]).await.succeeded();
    let described = admin.run(&["describe", "user", "alice"]).await.succeeded();
    for part in [
        "# groups: team\n# may:\n#   view,run llms * (role llm-user, binding team via group team)\n",
        "# last used: ",
        "# sessions: 1, last used ",
        "# tokens:\n#   alice-laptop mcpd_",
        "… active, made ",
        ", ends in 30d, last used never\n",
    ] {
        assert!(described.contains(part), "{part}: {described}");
    }
    let list = admin.run(&["auth", "can-i", "--list", "--as", "alice"]).await.succeeded();
    assert_eq!(
        list,
        "MAY               ROLE       BINDING   VIA GROUP\nview,run llms *   llm-user   team      team\n"
    );
    let yes = admin.run(&["auth", "can-i", "run", "llm", "x", "--as", "User/alice"]).await.succeeded();
    assert_eq!(yes, "yes: role `llm-user`, given to group `team` by rolebinding `team`\n");
    let no = admin.run(&["auth", "can-i", "edit", "llm", "x", "--as", "alice"]).await;
    assert_eq!((no.code, no.stdout.as_str()), (1, "no: no rule allows it\n"));
    let own = shell.run(&["auth", "can-i", "--list"]).await;
    assert!(
        own.stdout.contains("view,run llms *") && own.stderr.contains("another account made this credential")
    );
    shell.run(&["auth", "can-i", "--list", "--as", "admin"]).await.failed(1);
    shell.run(&["auth", "can-i"]).await.failed(2);
}

#[tokio::test]
async fn token_that_ends_soon_is_warned_of_with_the_command_that_renews_it() {
    let mcpd = Mcpd::start().await;
    let admin = Shell::signed_in(&mcpd).await;
    admin.run(&["create", "user", "alice"]).await.succeeded();
    let token = ["create", "token", "short", "--for", "User/alice", "--expires-in", "6d"];
    let token = admin.run(&token).await.succeeded();
    let shell = Shell::new();
    let login = ["login", mcpd.url(), "--token-stdin", "--context", "a"];
    let warning = format!(
        "warning: your token at {} ends in 6d; renew it: mcpctl token rotate --context a\n",
        mcpd.url()
    );
    let output = shell.run_with(&login, &token).await;
    assert!(output.stderr.contains(&warning), "{}", output.stderr);
    let whoami = shell.run(&["whoami"]).await;
    assert!(whoami.code == 0 && whoami.stderr == warning, "{}", whoami.stderr);
    let doctor = shell.run(&["doctor"]).await;
    assert!(doctor.stdout.contains("warn token: your token at http://127.0.0.1"), "{}", doctor.stdout);
    // An agent that runs as a service warns in its log, once.
    let mut agent = Mcplocal::start(&format!("server: {}\n", mcpd.url())).await;
    let local = beside(&agent);
    local.run_with(&login, &token).await.succeeded();
    assert!(local.run(&["local", "status"]).await.stdout.contains("warning: your token at"));
    agent.kill();
    agent.restart().await;
    let logged = || async {
        let log = agent.log();
        log.contains("ends in 6d").then_some(log)
    };
    let log = eventually("the warning in the log", logged).await;
    assert!(log.contains("mcpctl token rotate --context a") && !log.contains(token.trim()), "{log}");
    shell.run(&["token", "rotate", "--context", "a"]).await.succeeded();
}

#[tokio::test]
async fn members_are_added_and_removed_beside_other_changes() {
    let mcpd = Mcpd::start().await;
    let shell = Shell::signed_in(&mcpd).await;
    shell.run(&["create", "group", "team", "--member", "User/first"]).await.succeeded();
    let names: Vec<String> = (0..8).map(|number| format!("u{number}")).collect();
    let add = |name: &'static str| shell.command(&["group", "add", "team", name]).output();
    let names: Vec<&'static str> = names.into_iter().map(|name| &*name.leak()).collect();
    for output in futures::future::join_all(names.iter().map(|name| add(name))).await {
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let members =
        async || shell.run(&["get", "group", "team", "-o", "jsonpath={.members[*].name}"]).await.succeeded();
    let all = members().await;
    assert!(names.iter().all(|name| all.contains(name)) && all.contains("first"), "no change is lost: {all}");
    let again = shell.run(&["group", "add", "team", "User/u0"]).await;
    assert!(again.code == 0 && again.stdout.is_empty(), "{}", again.stderr);
    assert!(again.stderr.contains("User u0 is in groups/team already"), "{}", again.stderr);
    let removed = shell.run(&["group", "remove", "team", "first", "u1", "nobody"]).await;
    assert_eq!(removed.stdout, "User first removed from groups/team\nUser u1 removed from groups/team\n");
    assert!(removed.stderr.ends_with("User nobody is not in groups/team\n"), "{}", removed.stderr);
    assert!(!members().await.contains("first"));
    let missing = shell.run(&["group", "add", "none", "u1"]).await.failed(1);
    assert!(missing.starts_with("error: there is no Group `none`"), "{missing}");
    shell.run(&["group", "add", "team", "Group/team"]).await.failed(2);
}

#[tokio::test]
async fn secret_is_set_without_the_history_of_the_shell() {
    let mcpd = Mcpd::start().await;
    let shell = Shell::signed_in(&mcpd).await;
    let set = ["set", "secret", "openai", "token", "--from-stdin"];
    assert_eq!(shell.run_with(&set, "sk-one\n").await.succeeded(), "secrets/openai created with `token`\n");
    let other = ["set", "secret", "openai", "other", "--from-stdin"];
    assert_eq!(
        shell.run_with(&other, "sk-two").await.succeeded(),
        "secrets/openai has a new value of `other`\n"
    );
    let keys = shell.run(&["get", "secret", "openai"]).await.succeeded();
    assert!(keys.contains("other, token"), "{keys}");
    let empty = shell.run_with(&set, "\n").await.failed(2);
    assert!(empty.starts_with("error: data.token: the value is empty\nhint: "), "{empty}");
    let refused = shell.run(&["set", "secret", "openai", "token"]).await.failed(2);
    assert_eq!(
        refused,
        "error: there is no terminal to ask for the value\nhint: pass --stdin or --from-file FILE\n"
    );
}

/// Types on a terminal, each line once what it answers is shown and the terminal has stopped to echo; returns what the terminal showed.
async fn typed(shell: &Shell, args: &[&str], lines: &[(&str, &str)]) -> (i32, String) {
    let pty = nix::pty::openpty(None, None).unwrap();
    let mut command = shell.command(args);
    command.stdin(Stdio::from(pty.slave.try_clone().unwrap()));
    command.stdout(Stdio::from(pty.slave.try_clone().unwrap())).stderr(Stdio::from(pty.slave));
    let mut child = command.spawn().unwrap();
    drop(command);
    let shown = Arc::new(Mutex::new(Vec::new()));
    let (mut terminal, seen) = (File::from(pty.master), Arc::clone(&shown));
    let mut keyboard = terminal.try_clone().unwrap();
    let reading = tokio::task::spawn_blocking(move || {
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = terminal.read(&mut buffer) {
            seen.lock().unwrap().extend_from_slice(&buffer[..read]);
        }
    });
    let text = || String::from_utf8(shown.lock().unwrap().clone()).unwrap();
    for (prompt, line) in lines {
        eventually(prompt, || async {
            let echoes = nix::sys::termios::tcgetattr(&keyboard).unwrap().local_flags;
            let is_hidden = !echoes.contains(nix::sys::termios::LocalFlags::ECHO);
            (text().contains(prompt) && is_hidden).then_some(())
        })
        .await;
        writeln!(keyboard, "{line}").unwrap();
    }
    let code = child.wait().await.unwrap().code().unwrap();
    drop(keyboard);
    reading.await.unwrap();
    (code, text())
}

#[tokio::test]
async fn secrets_and_passwords_are_asked_for_without_an_echo() {
    let mcpd = Mcpd::start().await;
    let shell = with_password(&mcpd, "alice", "the first password").await;
    let lines = [
        ("Present password of alice", "the first password"),
        ("New password of alice", "the second password"),
        ("The same again", "the second password"),
    ];
    let (code, shown) = typed(&shell, &["passwd"], &lines).await;
    assert!(code == 0 && !shown.contains("first password") && !shown.contains("second password"), "{shown}");
    login(&mcpd, &shell, "alice", "the second password").await;
    let admin = Shell::signed_in(&mcpd).await;
    let lines = [("Value of `token` in secrets/openai", "sk-typed")];
    let (code, shown) = typed(&admin, &["set", "secret", "openai", "token"], &lines).await;
    assert!(
        code == 0 && shown.contains("secrets/openai created with `token`") && !shown.contains("sk-typed"),
        "{shown}"
    );
    // A name that is not there is reported before anything is asked for.
    assert!(shown.starts_with("there is no Secret `openai`; it is made"), "{shown}");
    let (_, shown) = typed(&admin, &["set", "secret", "opnai", "token"], &[("Value of", "sk-typed")]).await;
    assert!(shown.starts_with("there is no Secret `opnai` (did you mean `openai`?); it is made"), "{shown}");
    let (code, shown) = typed(&admin, &["passwd", "alcie"], &[]).await;
    assert!(code == 1 && shown.contains("there is no User `alcie`") && shown.contains("`alice`?"), "{shown}");
}

#[tokio::test]
async fn people_of_a_file_are_made_whole_or_not_at_all() {
    let mcpd = Mcpd::start().await;
    let shell = Shell::signed_in(&mcpd).await;
    shell.run(&["create", "group", "team-a"]).await.succeeded();
    shell.run(&["create", "group", "team-b", "--member", "User/admin"]).await.succeeded();
    let create = ["create", "-f", "people.csv", "--tokens", "tokens.csv"];
    // Nothing is written where a row is wrong, here or at mcpd.
    for (rows, error) in [
        ("alice@example.com,Alice,team-a\nBob,,\n", "error: people.csv:3:1: `Bob` is not a name"),
        ("alice@example.com,Alice,team-c\n", "error: people.csv:2:3: there is no Group `team-c`"),
    ] {
        shell.file("people.csv", &format!("name,displayName,groups\n{rows}"));
        let refused = shell.run(&create).await.failed(1);
        assert!(refused.starts_with(error), "{refused}");
        assert!(refused.contains("hint: nothing was written; "), "{refused}");
        assert_eq!(shell.run(&["get", "users", "-o", "name"]).await.succeeded(), "users/admin\n");
    }
    shell.file(
        "people.csv",
        "name,displayName,groups\nalice@example.com,\"Alice, A.\",team-a team-b\nbob,,team-a\n",
    );
    let made = shell.run(&create).await;
    assert_eq!(
        made.stdout,
        "users/alice@example.com created\nusers/bob created\ngroups/team-a configured\ngroups/team-b configured\n",
        "{}",
        made.stderr
    );
    assert!(
        made.stderr
            .ends_with("2 tokens made in `tokens.csv`, which only you may read; they are shown this once\n")
    );
    let path = shell.path("tokens.csv");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let tokens = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = tokens.lines().collect();
    assert!(lines.len() == 3 && lines[0] == "name,token", "{tokens}");
    let token = lines[1].strip_prefix("alice@example.com,").unwrap();

    // The same file again changes nothing and makes no second token, not even in place of one that was revoked.
    shell.run(&["delete", "token", "bob-first"]).await.succeeded();
    let again = shell.run(&create).await;
    assert_eq!((again.code, again.stdout.as_str()), (0, ""), "{}", again.stderr);
    assert!(again.stderr.starts_with("2 people were there before, and get no token;"), "{}", again.stderr);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), tokens);
    // Unless it is asked for; a name that another account has taken is reported.
    let missing = ["create", "-f", "people.csv", "--tokens", "tokens.csv", "--missing-tokens"];
    shell.run(&["create", "token", "bob-first", "--for", "User/admin"]).await.succeeded();
    let taken = shell.run(&missing).await;
    assert!(
        taken.code == 1
            && taken
                .stderr
                .starts_with("User bob has no token yet: the name `bob-first` is another token's;"),
        "{}",
        taken.stderr
    );
    shell.run(&["delete", "token", "bob-first"]).await.succeeded();
    shell.run(&missing).await.succeeded();
    assert!(std::fs::read_to_string(&path).unwrap().lines().last().unwrap().starts_with("bob,mcpd_"));
    // What the file does not have stays as it is; a new row is added.
    shell.run(&["patch", "user", "bob", "-p", "labels: {site: x}"]).await.succeeded();
    shell.file("people.csv", "name,email,groups\nbob,bob@example.com,team-b\ncarol,,\n");
    let third = shell.run(&["create", "-f", "people.csv"]).await;
    assert_eq!(
        third.stdout, "users/bob configured\nusers/carol created\ngroups/team-b configured\n",
        "{}",
        third.stderr
    );
    let bob = shell.run(&["get", "user", "bob", "-o", "json"]).await.succeeded();
    assert!(bob.contains("\"site\": \"x\"") && bob.contains("bob@example.com"), "{bob}");

    // A name with an @ works wherever names do.
    let person = Shell::new();
    person.run_with(&["login", mcpd.url(), "--token-stdin", "--context", "p"], token).await.succeeded();
    assert!(person.run(&["whoami"]).await.succeeded().starts_with("User alice@example.com at "));
    let own = person.run(&["token", "create", "laptop"]).await;
    assert!(own.stderr.starts_with("tokens/alice@example.com-laptop created"), "{}", own.stderr);
    person.run(&["token", "revoke", "laptop"]).await.succeeded();
    shell.file(
        "b.yaml",
        "kind: RoleBinding\nname: b\nrole: llm-user\nsubjects: [{kind: User, name: alice@example.com}]\n",
    );
    shell.run(&["apply", "-f", "b.yaml"]).await.succeeded();
    let can = ["auth", "can-i", "run", "llm", "x", "--as", "alice@example.com"];
    assert!(shell.run(&can).await.succeeded().starts_with("yes: "));
    let audit = shell.run(&["audit", "--subject", "user/alice@example.com"]).await.succeeded();
    assert!(audit.contains("User alice@example.com"), "{audit}");
    let refused = shell.run(&["create", "group", "a@example.com"]).await.failed(1);
    assert!(
        refused.contains("`a@example.com` is an e-mail address, and only a user's name may be one"),
        "{refused}"
    );
    shell.run(&["delete", "user", "alice@example.com"]).await.succeeded();
    person.run(&["whoami"]).await.failed(1);
}

#[tokio::test]
async fn user_is_made_with_groups_and_a_token() {
    let mcpd = Mcpd::start().await;
    let shell = Shell::signed_in(&mcpd).await;
    shell.run(&["create", "group", "team"]).await.succeeded();
    let missing = shell.run(&["create", "user", "dora", "--group", "none"]).await.failed(1);
    assert!(missing.starts_with("error: there is no Group `none`"), "{missing}");
    shell.run(&["get", "user", "dora"]).await.failed(1);
    let made = shell.run(&["create", "user", "dora", "--group", "team", "--token"]).await;
    assert!(made.stdout.starts_with("mcpd_") && made.stdout.lines().count() == 1, "{}", made.stderr);
    assert!(
        made.stderr.starts_with(
            "users/dora created\nUser dora added to groups/team\ntokens/dora-first created for User dora"
        ),
        "{}",
        made.stderr
    );
    let again = shell.run(&["create", "user", "dora", "--group", "team"]).await.failed(1);
    assert!(again.starts_with("error: there is a User `dora` already"), "{again}");
    let made = shell.run(&["create", "user", "emil", "--group", "team"]).await;
    assert_eq!(made.stdout, "users/emil created\nUser emil added to groups/team\n");
}

#[tokio::test]
async fn throttled_sign_in_is_lifted_by_an_administrator() {
    let config = Some("limits: {logins: {perName: {burst: 1, every: 300s}}}\n".to_owned());
    let mcpd = Mcpd::start_with(McpdOptions { config, ..McpdOptions::default() }).await;
    let shell = with_password(&mcpd, "alice", "a long password").await;
    let login = ["login", mcpd.url(), "--user", "alice", "--password-stdin", "--context", "c"];
    shell.run_with(&login, "a wrong password").await.failed(1);
    let refused = shell.run_with(&login, "a long password").await.failed(1);
    assert!(refused.contains("as this user from your network; try again in 2"), "{refused}");
    assert!(refused.contains("hint: wait, or ask an administrator to lift it"), "{refused}");
    let admin = Shell::signed_in(&mcpd).await;
    let lifted = admin.run(&["admin", "lift-throttle", "--user", "alice"]).await.succeeded();
    assert_eq!(lifted, "attempts to sign in as User alice count anew\n");
    shell.run_with(&login, "a long password").await.succeeded();
    admin.run(&["admin", "lift-throttle"]).await.failed(2);
    admin.run(&["admin", "lift-throttle", "--address", "127.0.0.1"]).await.succeeded();
}
