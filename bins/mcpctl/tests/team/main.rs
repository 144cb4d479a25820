//! A team's first month, by the commands of `docs/how-to/team.md` and `docs/how-to/backup.md` as they are printed there: real programs, SQLite and
//! PostgreSQL, TLS of a private authority. After each step its effect is checked.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod installation;

use std::{collections::BTreeSet, fmt::Write as _, fs};

use mcpctl_testkit::daemons::eventually;
use serde_json::Value;

use crate::installation::{Installation, Place};

const TEAM: &str = "docs/how-to/team.md";
const BACKUP: &str = "docs/how-to/backup.md";
const GROUPS: [&str; 5] = ["web", "data", "research", "support", "platform"];
const DAILY_BUDGET: &str = "the Limit `person-daily` allows 5 USD per day";

#[tokio::test]
async fn first_month_of_a_team_goes_by_the_documents_alone() {
    if std::process::Command::new("openssl").arg("version").output().is_err() {
        eprintln!("skipped: openssl is not installed");
        return;
    }
    let mut team = Installation::new(&[TEAM, BACKUP]).await;
    set_up(&mut team).await;
    people_and_llms(&mut team).await;
    rights_and_budgets(&mut team).await;
    workstation(&mut team).await;
    certificate_is_renewed(&mut team).await;
    each_week(&mut team).await;
    let backed_up = nightly_backup(&mut team).await;
    leaves(&team).await;
    lost_server_is_restored(&mut team, &backed_up).await;
    moves_to_postgres_and_back(&mut team).await;
    master_key_is_rotated(&mut team).await;
    person_leaves(&mut team).await;
    assert_eq!(team.left(), [], "commands of the documents that were not run");
}

/// The server, and the administrator's first sign-in.
async fn set_up(team: &mut Installation) {
    team.follow(TEAM, "The certificate (server)", Place::Server).await;
    team.follow(TEAM, "The certificate (server)", Place::Server).await;
    team.follow(TEAM, "The daemon (server)", Place::Server).await;
    team.copy("var/lib/mcpd/master-key", "safe/master-key");
    for machine in ["administrator", "workstation"] {
        team.copy("server/ca.pem", &format!("{machine}/ca.pem"));
    }
    let whoami = team.follow(TEAM, "The first administrator (administrator)", Place::Administrator).await;
    assert!(whoami.contains("User admin at https://localhost:"), "{whoami}");
}

/// Thirty people in five groups, and ten Llms, of which the document has the first ones.
async fn people_and_llms(team: &mut Installation) {
    team.follow(TEAM, "Groups and people (administrator)", Place::Administrator).await;
    let mut people = team.read("administrator/people.csv");
    for at in people.lines().count() - 1..30 {
        let group = GROUPS[at % GROUPS.len()];
        writeln!(people, "person{at}@example.com,Person {at},person{at}@example.com,{group}").unwrap();
    }
    team.write("administrator/people.csv", &people, 0o600);
    let made = team.follow(TEAM, "Groups and people (administrator)", Place::Administrator).await;
    assert!(made.contains("30 tokens made in `tokens.csv`"), "{made}");

    team.write("administrator/openai.key", "sk-of-the-team\n", 0o600);
    team.follow(TEAM, "Llms (administrator)", Place::Administrator).await;
    let mut llms = team.read("administrator/llms.yaml");
    let first = llms.split("---\n").next().unwrap().to_owned();
    for name in
        ["web-2", "data-1", "data-2", "research-1", "research-2", "support-1", "support-2", "platform-1"]
    {
        write!(llms, "---\n{}", first.replace("web-gpt", name)).unwrap();
    }
    team.write("administrator/llms.yaml", &llms, 0o600);
    let listed = team.follow(TEAM, "Llms (administrator)", Place::Administrator).await;
    assert!(
        listed.contains("llms/web-gpt created") && listed.contains("llms/platform-1 created"),
        "{listed}"
    );
}

/// Who may use what, and a budget that stops a person.
async fn rights_and_budgets(team: &mut Installation) {
    team.follow(TEAM, "Rights and budgets (administrator)", Place::Administrator).await;
    let shown = team.follow(TEAM, "Rights and budgets (administrator)", Place::Administrator).await;
    assert!(shown.contains("User alice@example.com") && shown.contains("0 of 500 USD per month"), "{shown}");
    for (person, expected) in [
        ("alice@example.com", &["shared-gpt", "web-2", "web-gpt"][..]),
        ("bob@example.com", &["data-1", "data-2", "shared-gpt", "web-2", "web-gpt"]),
        ("person7@example.com", &["research-1", "research-2", "shared-gpt"]),
        ("person8@example.com", &["shared-gpt", "support-1", "support-2"]),
    ] {
        assert_eq!(
            may_use(team, person).await,
            expected.iter().map(|&name| name.to_owned()).collect(),
            "{person}"
        );
    }
    assert_eq!(may_use(team, "carol@example.com").await.len(), 10, "an administrator");

    let (allowed, answer) = chat_as(team, "alice@example.com", "shared-gpt").await;
    assert!(allowed && answer.contains("from the primary"), "{answer}");
    is_over_budget(team).await;
    let (allowed, answer) = chat_as(team, "alice@example.com", "data-1").await;
    assert!(!allowed && answer.contains("may not run llms `data-1`"), "{answer}");
    let (allowed, answer) = chat_as(team, "person8@example.com", "shared-gpt").await;
    assert!(allowed, "the budget is each person's own: {answer}");
}

/// The budget that alice has used up denies her, and goes on to deny her wherever the store is.
async fn is_over_budget(team: &Installation) {
    let (allowed, answer) = chat_as(team, "alice@example.com", "shared-gpt").await;
    assert!(!allowed && answer.contains(DAILY_BUDGET), "{answer}");
}

/// bob's: the first token is void, and a local model takes over.
async fn workstation(team: &mut Installation) {
    let token = token_of(team, "bob@example.com");
    team.write("workstation/my-token", &token, 0o600);
    team.follow(TEAM, "A person (workstation)", Place::Workstation).await;
    let (valid, answer) = as_person(team, &token, "mcpctl whoami").await;
    assert!(!valid && answer.contains("credential is not valid"), "{answer}");
    let answer = team.follow(TEAM, "A person (workstation)", Place::Workstation).await;
    assert!(answer.contains("from the primary"), "{answer}");
    answers(team, "from the primary").await;
    team.provider.refuse().await;
    answers(team, "from the desk").await;
    team.provider.listen();
}

/// The agent's answer to bob.
async fn answers(team: &Installation, expected: &str) {
    let answered = async || {
        let (success, answer) = team.attempt(Place::Workstation, "mcpctl chat web-gpt -p Hi").await;
        (success && answer.contains(expected)).then_some(())
    };
    eventually(expected, answered).await;
}

/// Under a daemon that runs on, with an agent that does.
async fn certificate_is_renewed(team: &mut Installation) {
    let served = async |team: &Installation| {
        let script = "echo | openssl s_client -connect ADDRESS -CAfile ca.pem -verify_return_error 2> /dev/null | openssl x509 -noout -serial";
        team.run(Place::Server, &script.replace("ADDRESS", team.url().trim_start_matches("https://"))).await
    };
    let (daemon, before) = (team.read("mcpd.pid"), served(team).await);
    let commands = xtask::document::blocks_of(TEAM);
    let commands =
        commands.iter().filter(|block| block.heading == "The certificate (server)").nth(1).unwrap();
    team.run(Place::Server, &commands.text).await;
    eventually("the new certificate is served", async || (served(team).await != before).then_some(())).await;
    assert_eq!(team.read("mcpd.pid"), daemon);
    answers(team, "from the primary").await;
}

async fn each_week(team: &mut Installation) {
    let shown = team.follow(TEAM, "Each week (administrator)", Place::Administrator).await;
    assert!(shown.contains("web") && shown.contains("support") && shown.contains(DAILY_BUDGET), "{shown}");
}

/// By hand and by the unit, and the drill; returns what is in the backup.
async fn nightly_backup(team: &mut Installation) -> Vec<Value> {
    let backed_up = everything(team).await;
    team.follow(BACKUP, "A nightly backup", Place::Server).await;
    let units = xtask::document::blocks_of(BACKUP);
    let service = units.iter().find(|block| block.text.contains("mcpd-backup.service")).unwrap();
    for command in service.text.lines().filter_map(|line| line.strip_prefix("ExecStart=")) {
        team.run(Place::Server, &command.replace("%%", "%").replace("*.backup", "'*.backup'")).await;
    }
    let files: Vec<_> =
        fs::read_dir(team.path("var/backups/mcpd")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    let drill = team.follow(BACKUP, "A drill", Place::Server).await;
    assert!(drill.contains("compared with the backup") && drill.contains("research-2"), "{drill}");
    assert!(!drill.contains("problem"), "{drill}");
    let context = team.run(Place::Administrator, "mcpctl config current-context").await;
    assert!(context.starts_with("localhost:"), "{context}");
    backed_up
}

/// After the backup bob loses his rights.
async fn leaves(team: &Installation) {
    team.run(Place::Administrator, "mcpctl patch user bob@example.com -p 'disabled: true'").await;
    let (allowed, answer) = team.attempt(Place::Workstation, "mcpctl chat web-gpt -p Hi").await;
    assert!(!allowed && !answer.contains("from the"), "{answer}");
}

/// On a new disk, from the backup and the key that was kept elsewhere: everything of the night before, and clients that go on.
async fn lost_server_is_restored(team: &mut Installation, backed_up: &[Value]) {
    let seen = revision(team).await;
    let lost = "systemctl stop mcpd; cp /var/backups/mcpd/*.backup 2026-11-27.backup; cp /safe/place/master-key .; \
                mv /var/lib/mcpd ../lost; mkdir -m 700 /var/lib/mcpd";
    team.run(Place::Server, lost).await;
    team.follow(BACKUP, "Restoring", Place::Server).await;
    assert_eq!(everything(team).await, backed_up);
    let now = revision(team).await;
    assert!(now > seen, "{now} after {seen}");
    // As the document warns, the access that ended since the backup is there again.
    answers(team, "from the primary").await;
    is_over_budget(team).await;
    let restored = team.json("mcpctl audit --action restore -o json").await;
    assert_eq!(restored["items"].as_array().unwrap().len(), 1, "{restored}");
}

async fn moves_to_postgres_and_back(team: &mut Installation) {
    for expected in ["postgres://", "mcpd.sqlite"] {
        let (before, rows) = (everything(team).await, audit(team).await);
        let moved = team.follow(BACKUP, "From SQLite to PostgreSQL, and back", Place::Server).await;
        assert!(moved.contains("and compared both"), "{moved}");
        let place = moved.lines().find(|line| line.starts_with("moved ")).unwrap();
        assert!(place.contains(expected), "{place}");
        assert_eq!(everything(team).await, before);
        assert!(audit(team).await.is_superset(&rows));
        answers(team, "from the primary").await;
        is_over_budget(team).await;
        let checked = team.run(Place::Server, "sudo -u mcpd mcpd fsck --config /etc/mcpd/mcpd.yaml").await;
        assert!(checked.lines().all(|line| line.ends_with("ok")), "{checked}");
    }
}

async fn master_key_is_rotated(team: &mut Installation) {
    let rotated = team.follow(BACKUP, "Rotating the master key", Place::Server).await;
    assert!(rotated.contains("rotated: 1 secret and 2 signing keys are sealed"), "{rotated}");
    answers(team, "from the primary").await;
    let verify = "mcpd backup --verify --config /etc/mcpd/mcpd.yaml /var/backups/mcpd/*.backup";
    let (opens, output) = team.attempt(Place::Server, verify).await;
    assert!(!opens && output.contains("after `mcpd rotate-master-key` that is the old one"), "{output}");
    team.run(Place::Server, &format!("{verify} --master-key-file /safe/place/master-key")).await;
}

/// Neither mcpd nor a local model answers bob, whatever fails.
async fn person_leaves(team: &mut Installation) {
    team.provider.refuse().await;
    answers(team, "from the desk").await;
    let answered = team.desk.inferences().len();
    team.follow(TEAM, "A person leaves (administrator)", Place::Administrator).await;
    let (allowed, answer) = team.attempt(Place::Workstation, "mcpctl chat web-gpt -p Hi").await;
    assert!(!allowed && !answer.contains("from the"), "{answer}");
    assert_eq!(team.desk.inferences().len(), answered);
    let groups = team.run(Place::Administrator, "mcpctl get groups -o yaml").await;
    assert!(!groups.contains("bob@example.com") && groups.contains("alice@example.com"), "{groups}");
}

/// The first token of a person, as the administrator's file has it.
fn token_of(team: &Installation, person: &str) -> String {
    let tokens = team.read("administrator/tokens.csv");
    let found = tokens.lines().find_map(|line| line.strip_prefix(person)?.strip_prefix(','));
    found.unwrap_or_else(|| panic!("{person} has no token")).to_owned()
}

async fn as_person(team: &Installation, token: &str, command: &str) -> (bool, String) {
    let variables = format!("MCPCTL_CA=ca.pem MCPCTL_SERVER={} MCPCTL_TOKEN={token}", team.url());
    team.attempt(Place::Administrator, &format!("{variables} {command}")).await
}

async fn chat_as(team: &Installation, person: &str, llm: &str) -> (bool, String) {
    as_person(team, &token_of(team, person), &format!("mcpctl chat {llm} --direct -p Hi")).await
}

/// The Llms that a person sees.
async fn may_use(team: &Installation, person: &str) -> BTreeSet<String> {
    let (success, output) = as_person(team, &token_of(team, person), "mcpctl get llms -o name").await;
    assert!(success, "{person}: {output}");
    output.lines().map(|line| line.trim_start_matches("llms/").to_owned()).collect()
}

/// All resources and what was used, without times of use.
async fn everything(team: &Installation) -> Vec<Value> {
    let mut all = Vec::new();
    for kind in ["llms", "secrets", "users", "groups", "roles", "rolebindings", "limits", "tokens"] {
        let mut list = team.json(&format!("mcpctl get {kind} -o json")).await;
        for item in list["items"].as_array_mut().unwrap() {
            item.as_object_mut().unwrap().remove("lastUsedAt");
        }
        all.push(list["items"].take());
    }
    let mut usage = team.json("mcpctl usage --since 30d --by user,llm -o json").await;
    all.push(usage["items"].take());
    all
}

/// The ids of what is recorded.
async fn audit(team: &Installation) -> BTreeSet<String> {
    let rows = team.json("mcpctl audit -n 1000 -o json").await;
    rows["items"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
}

/// The store's revision, by a resource that is written now.
async fn revision(team: &Installation) -> u64 {
    team.run(Place::Administrator, "mcpctl create group now > /dev/null").await;
    let group = team.json("mcpctl get group now -o json").await;
    team.run(Place::Administrator, "mcpctl delete group now").await;
    group["revision"].as_u64().unwrap()
}
