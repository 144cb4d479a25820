//! `label`, `annotate` and `wait`.

use mcpctl_testkit::daemons::Mcpd;
use tokio::io::AsyncReadExt as _;

use crate::shell::Shell;

const WORLD: &str = "kind: Llm\nname: gpt\ntype: openai\nurl: http://127.0.0.1:1/v1\nmodel: m\nlabels: {team: a}\n---\n\
                     kind: Llm\nname: claude\ntype: openai\nurl: http://127.0.0.1:1/v1\nmodel: m\n";

async fn world(mcpd: &Mcpd) -> Shell {
    let shell = Shell::signed_in(mcpd).await;
    shell.run_with(&["apply", "-f", "-"], WORLD).await.succeeded();
    shell
}

#[tokio::test]
async fn labels_are_set_removed_and_kept_from_being_overwritten() {
    let mcpd = Mcpd::start().await;
    let shell = world(&mcpd).await;
    let label = async |words: &str| {
        let output = shell.run(&[&["label"], &words.split(' ').collect::<Vec<_>>()[..]].concat()).await;
        (output.code, format!("{}{}", output.stdout, output.stderr))
    };
    assert_eq!(label("llm gpt tier=gold").await, (0, "llms/gpt labeled\n".to_owned()));
    assert_eq!(label("llms/gpt tier=gold").await, (0, "llms/gpt not labeled\n".to_owned()));
    let (code, refused) = label("llm gpt claude tier=silver").await;
    assert_eq!(code, 1);
    assert!(refused.contains("llms/claude labeled\n"), "the others are labelled: {refused}");
    assert!(
        refused.contains("error: llms/gpt: labels has `tier` already, as `gold`\nhint: --overwrite"),
        "{refused}"
    );
    assert_eq!(label("llm gpt tier=silver old- --overwrite").await.1, "llms/gpt labeled\n");
    assert_eq!(label("llm gpt tier-").await.1, "llms/gpt unlabeled\n");
    assert_eq!(label("llm gpt tier-").await.1, "llms/gpt not labeled\n");
    assert_eq!(label("llms --all region=eu").await.1, "llms/claude labeled\nllms/gpt labeled\n");
    assert_eq!(label("llms -l team=a region- --dry-run").await.1, "llms/gpt unlabeled (dry run)\n");
    let client =
        shell.run(&["label", "llm", "gpt", "x=why", "--dry-run=client", "-o", "yaml"]).await.succeeded();
    assert!(client.contains("  x: why\n"), "{client}");
    let listed = label("llm gpt --list").await.1;
    assert_eq!(listed, "region=eu\nteam=a\nlabels of llms/gpt:\n");
    for (words, expected) in [
        ("llm gpt", "no labels are given"),
        ("llm gpt a=b a-", "`a` is given twice"),
        ("llm gpt -- -a=b", "`-a`: a label's key has"),
        ("llm gpt a=b/c", "`a`: a label's value has"),
        ("llms a=b", "which of the llms?"),
        ("llm gpt a=b -l team", "either names or a selector"),
        ("llms a=b -l ", "an empty selector means all llms"),
    ] {
        let (code, error) = label(words).await;
        assert!(code == 2 && error.contains(expected), "{words}: {error}");
    }
    assert_eq!(label("llm nope a=b").await.0, 1);
    let selected = shell.run(&["get", "llms", "-l", "region=eu,team=a", "-o", "name"]).await.succeeded();
    assert_eq!(selected, "llms/gpt\n");
}

#[tokio::test]
async fn annotations_are_kept_shown_and_watched() {
    let mcpd = Mcpd::start().await;
    let shell = world(&mcpd).await;
    let mut watch = shell.command(&["get", "llms", "-w", "-o", "json"]).spawn().unwrap();
    let text = "OPS-1: two lines,\nand more than a label takes";
    let set = format!("example.com/ticket={text}");
    assert_eq!(shell.run(&["annotate", "llm", "gpt", &set]).await.succeeded(), "llms/gpt annotated\n");
    let shown = shell.run(&["get", "llm", "gpt", "-o", "json"]).await.succeeded();
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["annotations"]["example.com/ticket"], text);
    let described = shell.run(&["describe", "llm", "gpt"]).await.succeeded();
    assert!(described.contains("annotations:") && described.contains("OPS-1"), "{described}");
    // A change of annotations alone is a change; a document without them removes them, as it does labels.
    let yaml = shell.run(&["get", "llm", "gpt", "-o", "yaml"]).await.succeeded();
    let same = shell.run_with(&["apply", "-f", "-"], &yaml).await.succeeded();
    assert_eq!(same, "llms/gpt unchanged\n");
    let error = shell.run(&["annotate", "llm", "gpt", "example.com/ticket=other"]).await.failed(1);
    assert!(error.contains("annotations has `example.com/ticket` already"), "{error}");
    let long = format!("note={}", "x".repeat(17 * 1024));
    let error = shell.run(&["annotate", "llm", "gpt", &long]).await.failed(1);
    assert!(error.contains("the annotations of a resource have at most 16384 bytes"), "{error}");
    // They select nothing.
    let selected = shell.run(&["get", "llms", "-l", "example.com/ticket", "-o", "name"]).await.succeeded();
    assert_eq!(selected, "");
    assert_eq!(
        shell.run(&["annotate", "llm", "gpt", "example.com/ticket-"]).await.succeeded(),
        "llms/gpt unannotated\n"
    );
    let mut seen = String::new();
    let mut out = watch.stdout.take().unwrap();
    let mut buffer = [0; 4096];
    while !seen.contains("OPS-1") {
        let read = out.read(&mut buffer).await.unwrap();
        assert!(read > 0, "{seen}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
}

#[tokio::test]
async fn wait_ends_when_it_is_met_and_at_its_time() {
    let mcpd = Mcpd::start().await;
    let shell = world(&mcpd).await;
    let met = |what: &str| format!("{what} condition met\n");
    let wait = async |args: &[&str]| shell.run(&[&["wait"], args].concat()).await;
    let ready = ["llms", "--all", "--for=condition=ready"];
    assert_eq!(wait(&ready).await.succeeded(), met("llms/claude") + &met("llms/gpt"));
    assert_eq!(wait(&["llm", "gpt", "--for=jsonpath={.model}=m"]).await.succeeded(), met("llms/gpt"));
    assert_eq!(
        wait(&["llm", "gpt", "--for=jsonpath={.model}", "--timeout=0s"]).await.succeeded(),
        met("llms/gpt")
    );
    assert_eq!(wait(&["llm", "nope", "--for=delete"]).await.succeeded(), met("llms/nope"));
    let error = wait(&["llm", "gpt", "--for=jsonpath={.model}=x", "--timeout=200ms"]).await.failed(1);
    assert!(error.starts_with("error: llms/gpt: not met after 200ms\nhint: "), "{error}");
    let error = wait(&["llm", "gpt", "--for=condition=available", "--timeout=0s"]).await.failed(1);
    assert!(error.contains("not met after"), "{error}");
    let error = wait(&["llm", "nope", "--for=condition=ready"]).await.failed(1);
    assert!(error.contains("there is no Llm `nope`"), "{error}");
    let error = wait(&["user", "admin", "--for=condition=ready"]).await.failed(2);
    assert!(error.contains("only an Llm has conditions"), "{error}");
    let error = wait(&["llm", "gpt", "--for=ready"]).await.failed(2);
    assert!(error.contains("write create, delete, jsonpath="), "{error}");

    // Changes that come while it waits, and a restart of mcpd between.
    let field = shell
        .command(&["wait", "llm", "gpt", "--for=jsonpath={.model}=new", "--timeout=2m"])
        .spawn()
        .unwrap();
    let made = shell.command(&["wait", "group", "late", "--for=create", "--timeout=2m"]).spawn().unwrap();
    let gone = shell.command(&["wait", "llm", "claude", "--for=delete", "--timeout=2m"]).spawn().unwrap();
    let lost = shell
        .command(&["wait", "llm", "claude", "--for=jsonpath={.model}=x", "--timeout=2m"])
        .spawn()
        .unwrap();
    let mut mcpd = mcpd;
    mcpd.kill();
    mcpd.restart().await;
    shell.run(&["patch", "llm", "gpt", "-p", "model: new"]).await.succeeded();
    shell.run(&["create", "group", "late"]).await.succeeded();
    for (child, what) in [(field, "llms/gpt"), (made, "groups/late")] {
        let output = child.wait_with_output().await.unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), met(what), "{output:?}");
    }
    shell.run(&["delete", "llm", "claude"]).await.succeeded();
    let output = gone.wait_with_output().await.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), met("llms/claude"), "{output:?}");
    let output = lost.wait_with_output().await.unwrap();
    assert!(!output.status.success(), "{output:?}");
}
