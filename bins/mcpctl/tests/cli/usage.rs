//! Mistakes that mcpctl finds itself: one error with exit code 2, or 1 where a file is at fault. No server runs.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _, process::Stdio};

use crate::shell::Shell;

#[tokio::test]
async fn wrong_usage_is_exit_code_2_without_a_server() {
    let shell = Shell::new();
    for (args, expected) in [
        (&["get"][..], "required arguments were not provided"),
        (&["get", "lmls"], "`lmls` is not a kind"),
        (&["get", "llms", ".."], "`..` is not a name"),
        (&["get", ","], "`,` has an empty part"),
        (&["get", "llms,"], "`llms,` has an empty part"),
        (&["get", "llms", "-o", "jsonpath-file=/dev/zero"], "it has more than 1 MiB"),
        (&["get", "llms", "-o", "custom-columns-file=/dev/zero"], "it has more than 1 MiB"),
        (&["get", "llms", "-o", "jsonpath-file=none"], "`none` cannot be read: there is no such file"),
        (&["get", "llms/a", "b"], "`b` is not KIND/NAME"),
        (
            &["get", "llms", "-o", "xml"],
            "formats are table, wide, json, yaml, name, jsonpath=TEMPLATE, custom-columns=HEADER:PATH",
        ),
        (&["get", "llms", "-o", "jsonpath={.a"], "a `{` has no `}`"),
        (&["get", "llm", "a", "-l", "team=a"], "either names or a selector"),
        (&["get", "llms", "-l", "team>1"], "is not understood at character 5"),
        (&["delete", "llms"], "which of the llms?"),
        (&["delete"], "required arguments were not provided"),
        (&["describe", "llm", "a", "-l", "team=a"], "either names or a selector"),
        (&["patch", "llm", "a", "-p", "{"], "the patch is neither JSON nor YAML"),
        (&["patch", "llm", "a", "-p", "[]"], "the patch is a list"),
        (&["apply"], "--filename <FILE>"),
        (&["create"], "Usage: mcpctl create"),
        (&["get"], "provided: <KIND"),
        (&["create", "user", "Alice"], "`Alice` is not a name"),
        (&["create", "role", "r", "--verb", "fly", "--kind", "llms", "--name", "*"], "`fly` is not a verb"),
        (&["create", "role", "r", "--verb", "view", "--kind", "llm s", "--name", "*"], "is not a kind"),
        (&["create", "rolebinding", "b", "--role", "r"], "a binding without subjects"),
        (&["create", "group", "g", "--member", "Alice"], "`Alice` is not a name"),
        (&["create", "group", "g", "--member", "Group/h"], "groups do not nest"),
        (&["create", "token", "t", "--for", "Llm/a"], "is neither User/…, Group/… nor ServiceAccount/…"),
        (&["create", "token", "t", "--for", "User/a", "--expires-in", "soon"], "is not a length of time"),
        (&["create", "secret", "s"], "a secret without values"),
        (
            &["create", "llm", "a", "--url", "nonsense", "--model", "m"],
            "write e.g. https://api.openai.com/v1",
        ),
        (
            &["create", "llm", "a", "--url", "https://u:p@h", "--model", "m"],
            "credentials do not belong into an address",
        ),
        (&["auth", "can-i", "fly", "llms"], "`fly` is not a verb"),
        (&["auth", "who-can", "run", "llms"], "which of the llms?"),
        (&["login", "mcpd.example.com"], "write it with its scheme: https://mcpd.example.com"),
        (&["login", "https://h", "--password-stdin"], "--user"),
        (&["login", "https://h"], "there is no terminal to ask"),
        (&["chat", "a"], "the prompt is empty"),
        (&["chat", "a", "-p", ""], "the prompt is empty"),
        (&["--server", "https://u:p@h", "get", "llms"], "it has credentials in it"),
        (&["completion", "tcsh"], "possible values"),
    ] {
        let output = shell.run(args).await;
        assert_eq!(output.code, 2, "{args:?}: {}{}", output.stdout, output.stderr);
        assert!(output.stderr.contains(expected), "{args:?}: {}", output.stderr);
        assert_eq!(output.stdout, "", "{args:?}: errors are on stderr");
        let lines = output.stderr.lines().count();
        assert!(lines <= 2 || *args == ["create"], "{args:?}: {}", output.stderr);
        assert!(
            !output.stderr.contains('\x1b') && !output.stderr.contains("u:p@"),
            "{args:?}: {}",
            output.stderr
        );
    }
    assert!(!shell.path("config").exists(), "nothing was written");
}

#[tokio::test]
async fn habits_of_kubectl_have_a_hint() {
    for (args, hint) in [
        (&["logs", "llm/gpt"][..], "`mcpctl local logs` shows those of a local model server"),
        (&["run", "gpt"], "hint: mcpctl chat LLM"),
        (&["get", "llms", "-n", "team"], "hint: there are no namespaces"),
        (&["get", "llms", "--namespace=team"], "hint: there are no namespaces"),
        (&["describe", "llms", "-A"], "hint: there are no namespaces"),
        (&["cluster-info"], "hint: `mcpctl doctor`"),
        (&["exec", "-it", "gpt", "--", "sh"], "hint: an Llm is not a process"),
        (&["config", "set-context", "--current"], "hint: mcpctl login URL --context NAME"),
        (&["create", "configmap", "c"], "hint: settings are in the file of mcpd"),
        (&["create", "namespace", "c"], "hint: there are no namespaces"),
        (
            &["create", "secret", "tls", "s", "--from-literal=a=b"],
            "hint: there is one type: mcpctl create secret",
        ),
        (&["create", "role", "r", "--verb=get", "--resource=llms"], "hint: did you mean `view`?"),
        (&["create", "role", "r", "--verb=view", "--resource=llms"], "hint: --kind llms"),
        (&["create", "token", "ci", "--duration=1h"], "hint: --expires-in 1h"),
        (&["auth", "can-i", "get", "llms"], "hint: did you mean `view`?"),
        (&["auth", "can-i", "*", "*"], "hint: one verb at a time"),
        (&["get", "po"], "hint: what mcpd serves are Llms: mcpctl get llms"),
        (&["get", "Events"], "hint: mcpctl audit"),
        (&["describe", "ns", "x"], "hint: there are no namespaces"),
        (&["get", "llms", "--field-selector", "type=openai"], "hint: -o jsonpath filters"),
        (&["get", "llms", "--show-managed-fields"], "hint: -o yaml shows all fields"),
        (&["get", "llms", "--as", "alice"], "hint: no account acts for another"),
        (&["get", "llms", "--request-timeout=5s"], "hint: `timeout 5s mcpctl …`"),
        (&["get", "llms", "-o", "go-template={{.items}}"], "hint: -o jsonpath='{.items[*].name}'"),
        (&["get", "llms", "-o", "jsonpath"], "hint: -o jsonpath='{.items[*].name}'"),
        (&["get", "llms", "-o", "jsonpath="], "the template is empty"),
        (&["get", "llms", "-o", "yml"], "hint: did you mean `yaml`?"),
        (&["apply", "-k", "."], "hint: -f reads files"),
        (&["apply", "w.yaml"], "hint: files come after -f"),
        (&["apply", "-f", "w.yaml", "--server-side"], "hint: mcpd checks every document"),
        (&["apply", "-f", "w.yaml", "--force"], "hint: mcpctl replace --force"),
        (&["delete", "user", "alice", "--force"], "hint: a deletion is done when the command ends"),
        (&["top", "pods"], "hint: it shows Llms"),
        (&["set", "image", "llm/gpt", "a=b"], "hint: mcpctl patch KIND NAME"),
        (&["explain", "llm.spec.model"], "hint: documents are flat"),
        (&["explain", "llm.metadata.name"], "hint: documents are flat"),
        (&["patch", "llm", "gpt", "-p", "{spec: {model: m}}"], "hint: documents are flat"),
        (&["wait", "llm", "gpt", "--for=create", "--timeout=2"], "`2` has no unit; write e.g. `2s` or `2m`"),
        (&["audit", "--since", "2"], "`2` has no unit; write e.g. `2s` or `2m`"),
        (&["edit", "llm", "gpt", "-o", "json"], "hint: a document is edited as YAML"),
        (&["get", "llms", "--watch=true"], "hint: the option stands alone"),
        // An option that is not known is not taken for a value.
        (&["get", "llms", "--frobnicate"], "hint: usage: mcpctl get"),
    ] {
        let error = Shell::new().run(args).await.failed(2);
        assert!(error.contains(hint) && error.lines().count() == 2, "{args:?}: {error}");
    }
}

#[tokio::test]
async fn habit_counts_at_its_command_and_not_elsewhere() {
    for (args, hint) in [
        // A command of this name stands below another one.
        (&["env"][..], "hint: did you mean `mcpctl local env`?"),
        (&["can-i", "run", "llms"], "hint: did you mean `mcpctl auth can-i`?"),
        (&["auth", "get"], "hint: did you mean `mcpctl get`?"),
        (&["resources"], "hint: a similar subcommand exists: 'api-resources'"),
        (&["image"], "hint: a similar subcommand exists: 'usage'"),
        (&["local", "run"], "hint: usage: mcpctl local"),
        (&["token", "run", "x"], "hint: usage: mcpctl token"),
        (&["set", "secret", "a", "b", "c"], "hint: usage: mcpctl set secret"),
        (&["usage", "--duration", "1h"], "hint: usage: mcpctl usage"),
        (&["get", "llms", "--clusterrole", "x"], "hint: usage: mcpctl get"),
        (&["login", "-k", "https://a"], "hint: --ca FILE trusts"),
        // A name or a value is not a command, even if there is one of the same name.
        (&["--context", "delete", "apply", "-f", "x", "--force"], "hint: mcpctl replace --force"),
        (&["get", "delete", "--force"], "hint: usage: mcpctl get"),
    ] {
        let error = Shell::new().run(args).await.failed(2);
        assert!(error.contains(hint) && error.lines().count() == 2, "{args:?}: {error}");
    }
}

#[tokio::test]
async fn argument_that_is_no_text_is_wrong_usage() {
    let shell = Shell::new();
    let argument = OsStr::from_bytes(b"\xff");
    let output = shell.command(&["get", "llm"]).arg(argument).output().await.unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && errors.contains("invalid UTF-8"), "{errors}");
    // As a word that is completed it has no candidates.
    let mut completes = shell.command(&["--", "mcpctl", "get"]);
    let output = completes.arg(argument).env("MCPCTL_COMPLETE", "fish").output().await.unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && errors.is_empty(), "{errors}");
}

#[tokio::test]
async fn wrong_usage_names_the_next_step() {
    let shell = Shell::new();
    shell.file("a.csv", "name\nx\n");
    for args in [
        "get llms gpt -l a=b",
        "describe llms gpt -l a=b",
        "delete llms gpt -l a=b",
        "delete llms -f x.yaml",
        "describe llms -f x.yaml",
        "edit llms a b",
        "auth can-i view llms a b",
        "auth can-i view usage a b",
        "get llms/a b",
        "create -f a.csv -o yaml",
        "create -f a.csv -f a.csv",
        "create secret s --from-literal a=b --from-literal a=c",
        "label llm gpt a=b a-",
        "patch llm gpt -p {",
        "apply -f https://",
    ] {
        let words: Vec<&str> = args.split(' ').collect();
        let error = shell.run(&words).await.failed(2);
        assert!(error.contains("\nhint: "), "{args}: {error}");
    }
}

#[tokio::test]
async fn usage_names_no_option_that_a_variable_sets() {
    let mut shell = Shell::new();
    shell.env.push(("MCPCTL_CONTEXT", "c".to_owned()));
    let error = shell.run(&["create", "user"]).await.failed(2);
    assert!(error.ends_with("hint: usage: mcpctl create user <NAME>\n"), "{error}");
}

#[tokio::test]
async fn value_on_the_command_line_is_not_repeated() {
    for wrong in ["hunter2", "=hunter2"] {
        let error = Shell::new().run(&["create", "secret", "s", "--from-literal", wrong]).await.failed(2);
        assert!(
            error.ends_with("error: --from-literal: write KEY=…\n") && !error.contains("hunter2"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn wrong_file_is_reported_with_its_place_without_a_server() {
    let shell = Shell::new();
    shell.file("bad.yaml", "kind: Llm\nname: a\nmodle: m\n");
    shell.file("empty.yaml", "# nothing\n---\n");
    std::fs::create_dir(shell.path("dir")).unwrap();
    shell.file("dir/notes.txt", "kind: Llm");
    for (args, expected) in [
        (["apply", "-f", "bad.yaml"], "error: bad.yaml:3:1: unknown field `modle`"),
        (["diff", "-f", "bad.yaml"], "error: bad.yaml:3:1: unknown field `modle`"),
        (["create", "-f", "bad.yaml"], "error: bad.yaml:3:1: unknown field `modle`"),
        (["delete", "-f", "bad.yaml"], "error: bad.yaml:3:1: unknown field `modle`"),
        (["apply", "-f", "empty.yaml"], "error: there is no document in what was given"),
        (["apply", "-f", "dir"], "error: there is no document in what was given"),
        (["apply", "-f", "none.yaml"], "error: `none.yaml` cannot be read: there is no such file"),
    ] {
        // For `diff` 1 means that something differs.
        let error = shell.run(&args).await.failed(if args[0] == "diff" { 2 } else { 1 });
        assert!(error.starts_with(expected), "{args:?}: {error}");
    }
    let error = shell.run_with(&["apply", "-f", "-"], "kind: Lmm\nname: a\n").await.failed(1);
    assert!(error.starts_with("error: stdin:1:1: `Lmm` is not a kind\nhint: did you mean `Llm`?"), "{error}");
}

#[tokio::test]
async fn reader_that_leaves_ends_the_command_quietly() {
    for args in
        [&["api-resources"][..], &["completion", "bash"], &["config", "view"], &["version"], &["--help"]]
    {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let child = Shell::new().command(args).stdout(Stdio::from(writer)).spawn().unwrap();
        let output = child.wait_with_output().await.unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && errors.is_empty(), "{args:?}: {} {errors}", output.status);
    }
}

#[tokio::test]
async fn every_shell_has_its_completion() {
    let shell = Shell::new();
    for name in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = shell.run(&["completion", name]).await.succeeded();
        assert!(script.contains("MCPCTL_COMPLETE"), "{name}: {script}");
    }
}
