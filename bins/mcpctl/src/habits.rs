//! What people type who know kubectl, and what takes its place here.

use mcpctl_api::vocabulary::Habit;

const NO_NAMESPACES: &str =
    "there are no namespaces: names are unique, and rules name patterns such as `team-*`";
const NO_PROCESS: &str = "an Llm is not a process of mcpd; `mcpctl local` is about those of this machine";
const NO_NODES: &str = "mcpd runs no machines; `mcpctl top` shows Llms and local model servers";
const TEMPLATES: &str = "-o jsonpath='{.items[*].name}', or -o json with jq";
const DELETION: &str = "a deletion is done when the command ends; -y asks no question";
const JUDGED: &str = "mcpd checks every document and records every change; leave it out";
const TIMEOUT: &str = "`timeout 5s mcpctl …` ends a command that takes longer";
const ROLES: &str = "did you mean `roles`? they hold for all resources";

/// The words of kubectl at one command, which is written with those before it: `mcpctl create token`.
const fn at(command: &'static str, words: &'static [&'static str], hint: &'static str) -> Habit {
    Habit { words, beside: command, hint }
}

const fn anywhere(words: &'static [&'static str], hint: &'static str) -> Habit {
    at("", words, hint)
}

/// Commands, at the command that they would be below.
const COMMANDS: &[Habit] = &[
    at(
        "mcpctl",
        &["logs", "log"],
        "mcpd logs to its standard error; `mcpctl local logs` shows those of a local model server",
    ),
    at("mcpctl", &["run"], "mcpctl chat LLM"),
    at("mcpctl", &["exec", "attach", "cp", "debug"], NO_PROCESS),
    at(
        "mcpctl",
        &["scale", "autoscale"],
        "several `targets` of an Llm share its load: mcpctl explain llm.targets",
    ),
    at(
        "mcpctl",
        &["port-forward", "proxy", "expose"],
        "clients use mcpd's own address, or that of `mcplocal` on their machine",
    ),
    at("mcpctl", &["drain", "cordon", "uncordon", "taint"], NO_NODES),
    at("mcpctl", &["rollout"], "keep the files in version control, and apply those of before"),
    at(
        "mcpctl",
        &["cluster-info"],
        "`mcpctl doctor` checks the way to mcpd, `mcpctl version` prints its address",
    ),
    at("mcpctl", &["events"], "mcpctl audit"),
    at("mcpctl", &["api-versions"], "there is one version, `v1`; `mcpctl api-resources` lists the kinds"),
    at(
        "mcpctl",
        &["kustomize"],
        "-f of `apply` reads files, directories with -R, addresses, and - for standard input",
    ),
    at("mcpctl", &["convert"], "there is one version of documents"),
    at("mcpctl", &["plugin"], "there are no plugins"),
    at("mcpctl", &["certificate"], "mcpctl create token NAME --for User/NAME"),
    at("mcpctl auth", &["reconcile"], "mcpctl apply -f FILE"),
    at(
        "mcpctl config",
        &["set-context", "set-cluster", "set-credentials"],
        "mcpctl login URL --context NAME",
    ),
    at("mcpctl config", &["unset", "delete-user", "delete-cluster"], "mcpctl config delete-context NAME"),
    at("mcpctl config", &["get-clusters", "get-users"], "mcpctl config get-contexts"),
    at(
        "mcpctl set",
        &["image", "env", "resources", "selector", "serviceaccount", "subject"],
        "mcpctl patch KIND NAME -p 'FIELD: VALUE'",
    ),
];

/// Options. What one command is meant by comes before what holds for all.
const OPTIONS: &[Habit] = &[
    at("mcpctl get", &["--field-selector"], "-o jsonpath filters: '{.items[?(@.type==\"openai\")].name}'"),
    at("mcpctl get", &["--show-kind"], "names have their kind where several kinds are shown"),
    at("mcpctl get", &["--export"], "-o yaml prints what `mcpctl apply` takes"),
    at(
        "mcpctl get",
        &["--raw"],
        "`mcpctl get KIND -o json`; other addresses take a bearer token: mcpctl create token",
    ),
    at("mcpctl apply", &["--force"], "mcpctl replace --force -f FILE"),
    at("mcpctl apply", &["--wait"], "an apply is done when the command ends"),
    at("mcpctl delete", &["--force", "--wait", "--grace-period", "--now", "--cascade"], DELETION),
    at("mcpctl delete", &["-i", "--interactive"], "on a terminal it asks before what is hard to undo"),
    at("mcpctl version", &["--short"], "it is short already"),
    at("mcpctl edit", &["-o", "--output"], "a document is edited as YAML"),
    at(
        "mcpctl create",
        &["--edit"],
        "`mcpctl edit` opens what exists; `-o yaml --dry-run=client` prints what a file can begin with",
    ),
    at("mcpctl create token", &["--duration"], "--expires-in 1h"),
    at("mcpctl create role", &["--resource", "--resource-name"], "--kind llms --name 'PATTERN'"),
    at("mcpctl create rolebinding", &["--clusterrole"], "--role NAME"),
    at("mcpctl config view", &["--minify"], "`mcpctl config get-contexts` marks the current one"),
    at("mcpctl login", &["-k", "--insecure"], "--ca FILE trusts an authority of your own"),
    anywhere(&["-n", "--namespace", "-A", "--all-namespaces"], NO_NAMESPACES),
    anywhere(&["--show-managed-fields"], "-o yaml shows all fields; none belongs to a program"),
    anywhere(&["--chunk-size", "--limit"], "lists are read to their end, page by page"),
    anywhere(&["--subresource"], "`mcpctl describe` shows the state of a resource"),
    anywhere(&["--template"], TEMPLATES),
    anywhere(
        &["-k", "--kustomize"],
        "-f reads files, directories with -R, addresses, and - for standard input",
    ),
    anywhere(
        &["--as", "--as-group", "--as-uid"],
        "no account acts for another; `mcpctl auth can-i --list --as ACCOUNT` shows what it may do",
    ),
    anywhere(&["--request-timeout"], TIMEOUT),
    anywhere(&["--kubeconfig"], "XDG_CONFIG_HOME is the directory of mcpctl/config.yaml"),
    anywhere(&["--cluster", "-s"], "--context NAME or --server URL"),
    anywhere(&["--user"], "an account signs in: mcpctl login URL --user NAME --context NAME"),
    anywhere(&["--token"], "MCPCTL_TOKEN holds it, where other users of the machine do not see it"),
    anywhere(&["--certificate-authority"], "--ca FILE"),
    anywhere(&["--insecure-skip-tls-verify"], "--ca FILE trusts an authority of your own"),
    anywhere(&["-v", "--v"], "`mcpctl doctor` shows each step of the way to mcpd"),
    anywhere(
        &["--server-side", "--force-conflicts", "--field-manager", "--validate", "--save-config", "--record"],
        JUDGED,
    ),
    anywhere(
        &["--resource-version"],
        "a document with its `revision` is refused after another change: mcpctl replace",
    ),
    anywhere(&["--api-version"], "there is one version"),
];

/// Kinds.
const KINDS: &[Habit] = &[
    anywhere(&["namespaces", "namespace", "ns"], NO_NAMESPACES),
    anywhere(&["events", "event", "ev"], "mcpctl audit"),
    anywhere(&["nodes", "node", "no"], NO_NODES),
    anywhere(
        &[
            "pods",
            "pod",
            "po",
            "deployments",
            "deployment",
            "deploy",
            "statefulsets",
            "statefulset",
            "sts",
            "daemonsets",
            "daemonset",
            "ds",
            "replicasets",
            "replicaset",
            "rs",
            "jobs",
            "job",
            "services",
            "service",
            "svc",
            "ingresses",
            "ingress",
            "ing",
        ],
        "what mcpd serves are Llms: mcpctl get llms",
    ),
    anywhere(
        &["configmaps", "configmap", "cm"],
        "settings are in the file of mcpd; keys and passwords are secrets",
    ),
    anywhere(&["clusterroles", "clusterrole"], ROLES),
    anywhere(
        &["clusterrolebindings", "clusterrolebinding"],
        "did you mean `rolebindings`? they hold for all resources",
    ),
    anywhere(
        &["resourcequotas", "resourcequota", "quota", "limitranges", "limitrange"],
        "did you mean `limits`?",
    ),
    anywhere(&["contexts", "context"], "mcpctl config get-contexts"),
];

/// Verbs of rules.
const VERBS: &[Habit] = &[
    anywhere(&["get", "list", "watch", "describe"], "did you mean `view`?"),
    anywhere(&["update", "patch", "apply"], "did you mean `edit`?"),
    anywhere(&["deletecollection"], "did you mean `delete`?"),
    anywhere(&["impersonate"], "no account acts for another"),
    anywhere(&["bind", "escalate"], "did you mean `grant`?"),
    anywhere(&["*"], "one verb at a time; `mcpctl auth can-i --list` shows all that is allowed"),
];

/// Formats of `-o`.
const FORMATS: &[Habit] = &[
    anywhere(&["go-template", "go-template-file", "template", "templatefile"], TEMPLATES),
    anywhere(&["jsonpath", "jsonpath-as-json"], "-o jsonpath='{.items[*].name}'"),
    anywhere(&["jsonpath-file", "custom-columns-file"], "it takes a file: FORMAT=FILE"),
    anywhere(&["custom-columns"], "-o custom-columns=NAME:.name,MODEL:.model"),
    anywhere(&["yml"], "did you mean `yaml`?"),
    anywhere(&["JSON"], "did you mean `json`?"),
    anywhere(&["YAML"], "did you mean `yaml`?"),
];

/// What takes the place of a word at a command.
fn of(habits: &'static [Habit], command: &str, word: &str) -> Option<&'static str> {
    let fits =
        |habit: &&Habit| habit.words.contains(&word) && (habit.beside.is_empty() || habit.beside == command);
    habits.iter().find(fits).map(|habit| habit.hint)
}

/// What takes the place of a command below another one; below `create` it is a kind.
pub fn command(parent: &str, word: &str) -> Option<&'static str> {
    of(COMMANDS, parent, word).or_else(|| if parent == "mcpctl create" { kind(word) } else { None })
}

/// What takes the place of an option, or of a word too many, of a command.
pub fn argument(command: &str, argument: &str) -> Option<&'static str> {
    if argument.starts_with('-') {
        return of(OPTIONS, command, argument);
    }
    match command {
        "mcpctl top" => Some("it shows Llms and local model servers, all of them"),
        "mcpctl create secret" => {
            Some("there is one type of secrets: mcpctl create secret NAME --from-literal KEY=VALUE")
        }
        "mcpctl apply" | "mcpctl diff" | "mcpctl replace" => Some("files come after -f"),
        _ => None,
    }
}

/// What takes the place of a kind.
pub fn kind(word: &str) -> Option<&'static str> {
    of(KINDS, "", &word.to_ascii_lowercase())
}

/// What takes the place of a value that an argument does not take.
pub fn value(argument: &str, value: &str) -> Option<&'static str> {
    if argument.starts_with("--output") {
        let (format, rest) = value.split_once('=').unwrap_or((value, ""));
        // What is wrong within a template is in the message.
        return of(FORMATS, "", format).filter(|hint| rest.is_empty() || *hint == TEMPLATES);
    }
    if argument.contains("VERB") { of(VERBS, "", value) } else { None }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::commands::Cli;

    #[test]
    fn every_habit_is_at_a_command_and_none_takes_its_word() {
        for habit in COMMANDS.iter().chain(OPTIONS).filter(|habit| !habit.beside.is_empty()) {
            let mut words = habit.beside.split(' ');
            assert_eq!(words.next(), Some("mcpctl"));
            let mut command = Cli::command();
            for word in words {
                command = command.find_subcommand(word).unwrap_or_else(|| panic!("{habit:?}")).clone();
            }
            for word in habit.words {
                assert!(command.find_subcommand(word).is_none(), "{word} is a command of {}", habit.beside);
                let long = word.strip_prefix("--");
                let takes =
                    command.get_arguments().any(|arg| arg.get_long().is_some() && arg.get_long() == long);
                assert!(!takes, "{word} is an option of {}", habit.beside);
            }
        }
    }
}
