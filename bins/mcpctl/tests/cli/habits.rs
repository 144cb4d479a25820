//! The table of kubectl's habits: each line is run as it is printed, and does what the table claims of it.

use std::{collections::HashMap, path::Path};

use tokio::io::AsyncReadExt as _;

use crate::examples::World;

struct Row {
    habit: String,
    ours: Option<String>,
    claim: String,
    why: String,
}

fn rows() -> Vec<Row> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/kubectl.md");
    let text = std::fs::read_to_string(page).unwrap();
    let lines = text.lines().filter(|line| line.starts_with("| `"));
    let row = |line: &str| {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let code =
            |cell: &str| cell.strip_prefix('`').and_then(|cell| cell.strip_suffix('`')).map(str::to_owned);
        Row {
            habit: code(cells[0]).unwrap(),
            ours: code(cells[1]),
            claim: cells[2].to_owned(),
            why: cells.get(3).copied().unwrap_or_default().trim_end_matches('|').trim().to_owned(),
        }
    };
    lines.map(row).collect()
}

/// What a command shows, where success alone shows too little.
const SHOWN: &[(&str, &str)] = &[
    ("mcpctl get llms gpt claude", "claude"),
    ("mcpctl get llms,users", "users/alice"),
    ("mcpctl get all", "groups/team"),
    ("mcpctl get llm gpt -o yaml", "kind: Llm"),
    ("mcpctl get llms -o name", "llms/claude\nllms/gpt\n"),
    ("mcpctl get llms --show-labels", "team=red"),
    ("mcpctl get llms -L team", "TEAM"),
    ("mcpctl get users -l team=red", "alice"),
    ("mcpctl describe user alice", "# groups: team"),
    ("mcpctl explain llm.failover", "offlineGrace"),
    ("mcpctl apply -f llms.yaml --dry-run=server", "dry run"),
    ("mcpctl create sa nightly --dry-run=client -o yaml", "kind: ServiceAccount"),
    ("mcpctl label llm gpt tier=gold", "labeled"),
    ("mcpctl replace -f llms.yaml", "llms/file-gpt"),
    ("mcpctl auth can-i run llms/gpt", "yes"),
    ("mcpctl auth whoami", "User admin"),
    ("mcpctl audit", "TIME"),
    ("mcpctl top --once", "gpt"),
];

#[tokio::test]
async fn every_habit_does_what_the_table_claims() {
    let world = World::start().await;
    world.shell.file("other.yaml", "kind: Group\nname: team\ndescription: other\n");
    let rows = rows();
    assert!(rows.len() >= 40, "{}", rows.len());
    let mut unused: HashMap<&str, &str> = SHOWN.iter().copied().collect();
    for Row { habit, ours, claim, why } in &rows {
        let same = habit.replacen("kubectl", "mcpctl", 1);
        match (claim.as_str(), ours) {
            ("works", Some(ours)) => assert_eq!(*ours, same, "what works is the same"),
            ("differs", Some(ours)) => assert!(*ours != same && !why.is_empty(), "{habit} differs, and why?"),
            ("missing", None) => {
                assert!(!why.is_empty(), "{habit} is missing, and why?");
                let (code, text) = world.run(&same).await;
                assert_eq!(code, 2, "`{same}` is missing: {text}");
                continue;
            }
            _ => panic!("{habit}: {claim} is no claim"),
        }
        let ours = ours.as_ref().unwrap();
        if ours.ends_with(" -w") {
            let mut child = world.command(ours).spawn().unwrap();
            let read = child.stdout.take().unwrap().read(&mut [0]).await.unwrap();
            assert_eq!(read, 1, "`{ours}` printed nothing");
            continue;
        }
        let (code, text) = world.run(ours).await;
        let expected = i32::from(ours.starts_with("mcpctl diff"));
        assert_eq!(code, expected, "`{ours}`: {text}");
        if let Some(shown) = unused.remove(ours.as_str()) {
            assert!(text.contains(shown), "`{ours}` does not show {shown:?}: {text}");
        }
        if claim == "differs" {
            let (code, text) = world.run(&same).await;
            assert!(code != 0 || text.contains("hint: did you mean"), "`{same}` works too: {text}");
        }
    }
    assert!(unused.is_empty(), "of no row: {unused:?}");
}
