//! Documents as people write them: which are read, which are rejected, and the message and position of each rejection.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use insta::assert_snapshot;
use mcpctl_api::{Document, Id, Kind, Name, Resource, Revision, Spec, yaml};

const GOOD: &str = r#"
# the platform team's file
kind: Llm
name: claude
type: openai
url: https://api.example.com/v1
model: big-1
apiKey: {secret: provider, key: token}
timeouts: {firstToken: 10s}
---
kind: Secret
name: provider
data: {token: "s3cret"}
---
kind: Role
name: llm-reader
rules: [{kinds: [llms], verbs: [view, run], names: ["claude", "team-a-*"]}]
---
kind: RoleBinding
name: team-a
role: llm-reader
subjects: [{kind: Group, name: team-a}]
"#;

fn refusal(text: &str) -> String {
    match yaml::read_documents(text) {
        Ok(found) => panic!("it reads: {found:?}"),
        Err(error) => match &error.hint {
            Some(hint) => format!("{error}\nhint: {hint}"),
            None => error.to_string(),
        },
    }
}

#[test]
fn a_file_of_documents_reads_in_order() {
    let found = yaml::read_documents(GOOD).unwrap();
    let kinds: Vec<_> = found.iter().map(|d| (d.document.kind(), *d.lines.start())).collect();
    assert_eq!(kinds, [(Kind::Llm, 1), (Kind::Secret, 11), (Kind::Role, 15), (Kind::RoleBinding, 19)]);
    let Spec::Llm(llm) = &found[0].document.spec else { panic!() };
    assert_eq!(llm.timeouts.first_token.to_string(), "10s");
    assert_eq!(llm.timeouts.idle.to_string(), "1m");
}

#[test]
fn secrets_do_not_print() {
    let found = yaml::read_documents(GOOD).unwrap();
    assert!(!format!("{found:?}").contains("s3cret"));
}

#[test]
fn refusals_name_line_and_column() {
    let cases = [
        "kind: Llm\nname: a\ntype: openai\nurl: http://x/v1\nmodel: m\nmodle: n\n",
        "name: a\n",
        "kind: Lm\nname: a\n",
        "kind: Group\nname: g\n---\nkind: User\nname: Bad\n",
        "kind: User\nname: cabcdefghijklmnopqrstuvwx\n",
        "kind: User\nname: [\n",
        "kind: User\nname: a\nname: b\n",
        "kind: Role\nname: r\nrules:\n  - kinds: [llmz]\n    verbs: [view]\n    names: ['*']\n",
        "kind: Role\nname: r\nrules:\n  - kinds: [llms]\n    verbs: [view]\n",
        "kind: Role\nname: r\nrules:\n  - {kinds: [llms], verbs: [], names: ['*']}\n",
        "kind: Llm\nname: a\ntype: openai\nurl: ftp://x/\nmodel: m\n",
        "kind: Llm\nname: a\ntype: openai\nurl: http://u:p@x/\nmodel: m\n",
        "kind: Llm\nname: a\ntype: openai\nurl: http://x\nmodel: m\ntimeouts: {idle: 0s}\n",
        "kind: Llm\nname: a\ntype: openai\nurl: http://x\nmodel: m\ntimeouts: {idle: 5}\n",
        "kind: Llm\nname: a\ntype: openai\nurl: not a url\nmodel: m\n",
    ];
    let reported: Vec<_> = cases.iter().map(|case| format!("{case}=> {}\n", refusal(case))).collect();
    assert_snapshot!(reported.join("\n"));
}

#[test]
fn json_refusals_name_the_field() {
    let cases = [
        r#"{"kind":"Llm","name":"a","type":"openai","url":"http://x","model":"m","timeouts":{"idel":"1s"}}"#,
        r#"{"kind":"User","name":"A B"}"#,
        r#"{"kind":"Role","name":"r","rules":[{"kinds":["x"],"verbs":["view"],"names":["*"]}]}"#,
        r#"{"kind":"User"} trailing"#,
        r#"{"kind":"User","name":"a","password":"short"}"#,
        "[]",
        "",
    ];
    let reported = cases.map(|case| {
        let error = Document::from_json(case.as_bytes()).unwrap_err();
        format!("{case}\n=> {} [{}]\n", error.message, error.param)
    });
    assert_snapshot!(reported.join("\n"));
}

#[test]
fn a_resource_survives_json_and_comes_back_as_a_document() {
    let document = yaml::read_documents(GOOD).unwrap().remove(0).document;
    let resource = Resource {
        id: Id::mint(),
        name: document.name.clone().unwrap(),
        labels: [("team".to_owned(), "a".to_owned())].into(),
        annotations: [("note".to_owned(), "two\nlines".to_owned())].into(),
        revision: Revision(7),
        created_at: "2026-01-02T03:04:05Z".parse().unwrap(),
        updated_at: "2026-01-02T03:04:06Z".parse().unwrap(),
        spec: document.spec,
    };
    let json = serde_json::to_string(&resource).unwrap();
    assert_eq!(serde_json::from_str::<Resource>(&json).unwrap(), resource);
    assert_eq!(Resource::from_json_as(Kind::Llm, &json).unwrap(), resource);
    assert!(Resource::from_json_as(Kind::Secret, &json).is_err(), "another kind");
    for wrong in
        [json.replace("createdAt", "createdat"), json.replace(r#""updatedAt":"2"#, r#""updatedAt":"x"#)]
    {
        assert_ne!(wrong, json);
        assert!(Resource::from_json_as(Kind::Llm, &wrong).is_err(), "{wrong}");
    }
    assert!(Resource::from_json_as(Kind::Llm, &format!("{json} {{}}")).is_err(), "more than one");
    let back = Document::from_json(json.as_bytes()).unwrap();
    assert_eq!(back, resource.to_document());
    assert_eq!(back.name, Some("claude".parse::<Name>().unwrap()));
}

#[test]
fn lists_that_would_slow_decisions_are_rejected() {
    let names = vec!["\"n\""; 1001].join(",");
    let rules = vec![r#"{"kinds":["llms"],"verbs":["view"],"names":["n"]}"#; 257].join(",");
    let subjects = vec![r#"{"kind":"User","name":"u"}"#; 5001].join(",");
    for (json, param) in [
        (
            format!(
                r#"{{"kind":"Role","name":"r","rules":[{{"kinds":["llms"],"verbs":["view"],"names":[{names}]}}]}}"#
            ),
            "rules[0].names",
        ),
        (format!(r#"{{"kind":"Role","name":"r","rules":[{rules}]}}"#), "rules"),
        (format!(r#"{{"kind":"Group","name":"g","members":[{subjects}]}}"#), "members"),
        (format!(r#"{{"kind":"RoleBinding","name":"b","role":"r","subjects":[{subjects}]}}"#), "subjects"),
    ] {
        let error = Document::from_json(json.as_bytes()).unwrap_err();
        assert_eq!(error.param, param, "{error}");
        assert!(error.hint.is_some());
    }
}

/// Mistakes that people made, and what is printed: position, message and hint.
#[test]
fn messages_are_in_plain_words() {
    const LLM: &str = "kind: Llm\nname: a\ntype: openai\nurl: http://x/v1\nmodel: m\n";
    let with = |from: &str, to: &str| LLM.replace(from, to);
    let user = |line: &str| format!("kind: User\nname: a\n{line}\n");
    let inputs = [
        with("model: m", "model: ~"),
        with("http://x/v1", "null"),
        with("http://x/v1", "foo"),
        with("http://x/v1", "[a]"),
        with("openai", "~"),
        with("model: m", "model: {{ .Values.model }}"),
        with("model: m", "model:m"),
        with("model: m", " model: m"),
        with("model: m", "model: \"m"),
        with("model: m", "model: \"\\q\""),
        with("model: m", "model: @m"),
        with("model: m", "model: *m"),
        with("model: m", "model: \u{201c}m\u{201d}"),
        with("model: m", "\u{201c}model\u{201d}: m"),
        with("model: m", "model:\u{a0}m"),
        with("model: m", "model: m\u{a0}x"),
        with("model: m", "\u{200b}model: m"),
        format!("{LLM}labels: ~\n"),
        format!("{LLM}labels: team=a\n"),
        format!("{LLM}labels: {{a: ~}}\n"),
        format!("{LLM}timeouts:\n\tconnect: 3s\n"),
        format!("{LLM}timeouts:\n\u{a0}\u{a0}connect: 3s\n"),
        format!("{LLM}apiKey: sk-hunter2\n"),
        format!("{LLM}retries: {{max: -1}}\n"),
        format!("{LLM}revision: abc\n"),
        format!("{LLM}model: n\n"),
        format!("{LLM}%YAML 1.2\n"),
        format!("<<<<<<< HEAD\n{LLM}"),
        user("disabled: maybe"),
        "kind: Group\nname: a\nmembers: {kind: User, name: b}\n".to_owned(),
        "kind: Group\nname: a\nmembers: [bob]\n".to_owned(),
        "kind: Secret\nname: a\ndata: hunter2\n".to_owned(),
        "kind: Secret\nname: a\ndata: {a: {b: hunter2}}\n".to_owned(),
        "kind: Role\nname: a\nrules: [{kinds: [*], verbs: [view], names: [a]}]\n".to_owned(),
        "{\"items\": [{\"name\": \"a\"}]}".to_owned(),
        "- a\n".to_owned(),
        "hello\n".to_owned(),
    ];
    let jargon = [
        "scalar",
        "mapping",
        "sequence",
        "Option",
        "unit",
        "u8",
        "u64",
        "invalid type",
        "deserialize",
        "without a base",
    ];
    let mut out = String::new();
    for input in inputs {
        let error = yaml::read_documents(&input).unwrap_err();
        let printed = format!("{error}\n{}\n", error.hint.clone().unwrap_or_default());
        assert!(!jargon.iter().any(|word| printed.contains(word)), "{printed}");
        assert!(!printed.contains("hunter2"), "{printed}");
        out.push_str(&printed);
    }
    for json in [
        r#"{"kind":"Llm","name":"a","type":"openai","url":null,"model":"m"}"#,
        r#"{"kind":"Llm","name":"a","type":"openai","url":"foo","model":"m"}"#,
        r#"{"kind":"Llm","name":"a","type":"openai","url":"http://x","model":1.0}"#,
        r#"{"kind":"User","name":"a","disabled":"yes"}"#,
        r#"{"kind":"Group","name":"a","members":{}}"#,
        r#"{"kind":"Secret","name":"a","data":"hunter2"}"#,
        r#"{"kind":"Secret","name":"a","data":{"a":["hunter2"]}}"#,
    ] {
        let error = Document::from_json(json.as_bytes()).unwrap_err();
        let printed = format!("{}: {error}\n{}\n", error.param, error.hint.clone().unwrap_or_default());
        assert!(!jargon.iter().any(|word| printed.contains(word)), "{printed}");
        assert!(!printed.contains("hunter2"), "{printed}");
        out.push_str(&printed);
    }
    assert_snapshot!(out);
}
