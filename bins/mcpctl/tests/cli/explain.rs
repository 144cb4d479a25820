//! `mcpctl explain`: fields of documents, without a server.

use crate::shell::Shell;

#[tokio::test]
async fn fields_are_explained_without_a_server() {
    let shell = Shell::new();
    let llm = shell.run(&["explain", "llm"]).await.succeeded();
    assert!(llm.starts_with("KIND:  Llm\n") && llm.contains("\n  model  <string> -required-\n"), "{llm}");
    assert!(llm.contains("EXAMPLE:\n  kind: Llm\n  name: gpt\n"), "{llm}");
    let url = shell.run(&["explain", "llms.targets.url"]).await.succeeded();
    assert!(url.contains("FIELD: targets.url <string> -required-\n"), "{url}");
    assert!(url.contains("  e.g. http://gpu-1.example.com:8000/v1\n"), "{url}");
    let all = shell.run(&["explain", "rb", "--recursive"]).await.succeeded();
    assert!(all.contains("\n  subjects  <[]Subject> -required-\n    kind  <string> -required-\n"), "{all}");
    // What it prints as an example is what `apply` takes.
    let group = shell.run(&["create", "group", "-h"]).await.succeeded();
    assert!(group.contains("As a document, for `apply`:\n  kind: Group\n  name: team\n"), "{group}");
    for (args, message, hint) in [
        ("llm.modle", "`llm` has no field `modle`", "did you mean `model`?"),
        ("llm.failover.alowed", "`llm.failover` has no field `alowed`", "did you mean `allowed`?"),
        ("llm.model.x", "`llm.model` has no field `x`", "it has no fields below it"),
        ("lmls", "`lmls` is not a kind", "did you mean `llms`?"),
    ] {
        let error = shell.run(&["explain", args]).await.failed(2);
        assert!(error.contains(message) && error.contains(hint), "{error}");
    }
}
