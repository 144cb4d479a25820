//! What people type who know kubectl, and what takes its place here.

/// A place where kubectl has something else.
type Habit = (&'static [&'static str], &'static str);

const NO_NAMESPACES: &str =
    "there are no namespaces: names are unique, and rules name patterns such as `team-*`";
const NO_PROCESS: &str = "an Llm is not a process of mcpd; `mcpctl local` is about those of this machine";
const NO_NODES: &str = "mcpd runs no machines; `mcpctl top` shows Llms and local model servers";
const TEMPLATES: &str = "-o jsonpath='{.items[*].name}', or -o json with jq";
const DELETION: &str = "a deletion is done when the command ends; -y asks no question";
const JUDGED: &str = "mcpd checks every document and records every change; leave it out";
const TIMEOUT: &str = "`timeout 5s mcpctl …` ends a command that takes longer";

/// Commands.
const COMMANDS: &[Habit] = &[
    (
        &["logs", "log"],
        "mcpd logs to its standard error; `mcpctl local logs` shows those of a local model server",
    ),
    (&["whoami"], "mcpctl whoami"),
    (&["run"], "mcpctl chat LLM"),
    (&["exec", "attach", "cp", "debug"], NO_PROCESS),
    (&["scale", "autoscale"], "several `targets` of an Llm share its load: mcpctl explain llm.targets"),
    (
        &["port-forward", "proxy", "expose"],
        "clients use mcpd's own address, or that of `mcplocal` on their machine",
    ),
    (&["drain", "cordon", "uncordon", "taint"], NO_NODES),
    (&["rollout"], "keep the files in version control, and apply those of before"),
    (&["cluster-info"], "`mcpctl doctor` checks the way to mcpd, `mcpctl version` prints its address"),
    (&["events"], "mcpctl audit"),
    (&["api-versions"], "there is one version, `v1`; `mcpctl api-resources` lists the kinds"),
    (&["kustomize"], "-f of `apply` reads files, directories with -R, addresses, and - for standard input"),
    (&["convert"], "there is one version of documents"),
    (&["plugin"], "there are no plugins"),
    (&["certificate"], "mcpctl create token NAME --for User/NAME"),
    (&["set-context", "set-cluster", "set-credentials"], "mcpctl login URL --context NAME"),
    (&["unset"], "mcpctl config delete-context NAME"),
    (&["get-clusters", "get-users"], "mcpctl config get-contexts"),
    (&["reconcile"], "mcpctl apply -f FILE"),
    (&["image", "env", "resources"], "mcpctl patch KIND NAME -p 'FIELD: VALUE'"),
];

/// Options, of all commands.
const OPTIONS: &[Habit] = &[
    (&["-n", "--namespace", "-A", "--all-namespaces", "--current"], NO_NAMESPACES),
    (&["--field-selector"], "-o jsonpath filters: '{.items[?(@.type==\"openai\")].name}'"),
    (&["--show-managed-fields"], "-o yaml shows all fields; none belongs to a program"),
    (&["--chunk-size", "--limit"], "lists are read to their end, page by page"),
    (&["--subresource"], "`mcpctl describe` shows how a resource does"),
    (&["--show-kind"], "names have their kind where several kinds are shown"),
    (&["--export"], "-o yaml prints what `mcpctl apply` takes"),
    (&["--template"], TEMPLATES),
    (&["--raw"], "`mcpctl get KIND -o json`; other addresses take a bearer token: mcpctl create token"),
    (&["-k", "--kustomize"], "-f reads files, directories with -R, addresses, and - for standard input"),
    (
        &["--as", "--as-group", "--as-uid"],
        "no account acts for another; `mcpctl auth can-i --list --as ACCOUNT` shows what it may do",
    ),
    (&["--request-timeout"], TIMEOUT),
    (&["--kubeconfig"], "XDG_CONFIG_HOME is the directory of mcpctl/config.yaml"),
    (&["--cluster", "-s"], "--context NAME or --server URL"),
    (&["--user"], "an account signs in: mcpctl login URL --user NAME --context NAME"),
    (&["--token"], "MCPCTL_TOKEN holds it, where other users of the machine do not see it"),
    (&["--certificate-authority"], "--ca FILE"),
    (&["--insecure-skip-tls-verify"], "--ca FILE trusts an authority of your own"),
    (&["-v", "--v"], "`mcpctl doctor` shows each step of the way to mcpd"),
    (
        &["--server-side", "--force-conflicts", "--field-manager", "--validate", "--save-config", "--record"],
        JUDGED,
    ),
    (&["--grace-period", "--now", "--cascade"], DELETION),
    (&["--minify"], "`mcpctl config get-contexts` marks the current one"),
    (
        &["--resource-version"],
        "a document with its `revision` is refused after another change: mcpctl replace",
    ),
    (&["--duration"], "--expires-in 1h"),
    (&["--resource", "--resource-name"], "--kind llms --name 'PATTERN'"),
    (&["--clusterrole"], "--role NAME"),
    (
        &["--edit"],
        "`mcpctl edit` opens what exists; `-o yaml --dry-run=client` prints what a file can begin with",
    ),
    (&["--api-version"], "there is one version"),
    (&["-i", "--interactive"], "on a terminal it asks before what is hard to undo"),
];

/// Options of a command that mean something else elsewhere.
const OPTIONS_OF: &[(&str, Habit)] = &[
    ("delete", (&["--force", "--wait"], DELETION)),
    ("apply", (&["--force"], "mcpctl replace --force -f FILE")),
    ("apply", (&["--wait"], "an apply is done when the command ends")),
    ("version", (&["--short"], "it is short already")),
    ("edit", (&["-o", "--output"], "a document is edited as YAML")),
];

/// Words after a command that takes none, or fewer.
const WORDS_OF: &[Habit] = &[
    (&["top"], "it shows Llms and local model servers, all of them"),
    (&["secret"], "there is one type of secrets: mcpctl create secret NAME --from-literal KEY=VALUE"),
    (&["apply", "diff", "replace"], "files come after -f"),
];

/// Kinds.
const KINDS: &[Habit] = &[
    (&["namespaces", "namespace", "ns"], NO_NAMESPACES),
    (&["events", "event", "ev"], "mcpctl audit"),
    (&["nodes", "node", "no"], NO_NODES),
    (
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
    (&["configmaps", "configmap", "cm"], "settings are in the file of mcpd; keys and passwords are secrets"),
    (&["clusterroles", "clusterrole"], "did you mean `roles`? they hold for all resources"),
    (
        &["clusterrolebindings", "clusterrolebinding"],
        "did you mean `rolebindings`? they hold for all resources",
    ),
    (&["resourcequotas", "resourcequota", "quota", "limitranges", "limitrange"], "did you mean `limits`?"),
    (&["contexts", "context"], "mcpctl config get-contexts"),
];

/// Verbs of rules.
const VERBS: &[Habit] = &[
    (&["get", "list", "watch", "describe"], "did you mean `view`?"),
    (&["update", "patch", "apply"], "did you mean `edit`?"),
    (&["deletecollection"], "did you mean `delete`?"),
    (&["impersonate"], "no account acts for another"),
    (&["bind", "escalate"], "did you mean `grant`?"),
    (&["*"], "one verb at a time; `mcpctl auth can-i --list` shows all that is allowed"),
];

/// Formats of `-o`.
const FORMATS: &[Habit] = &[
    (&["go-template", "go-template-file", "template", "templatefile"], TEMPLATES),
    (&["jsonpath", "jsonpath-as-json"], "-o jsonpath='{.items[*].name}'"),
    (&["jsonpath-file", "custom-columns-file"], "it takes a file: FORMAT=FILE"),
    (&["custom-columns"], "-o custom-columns=NAME:.name,MODEL:.model"),
    (&["yml"], "did you mean `yaml`?"),
    (&["JSON"], "did you mean `json`?"),
    (&["YAML"], "did you mean `yaml`?"),
];

fn of(habits: &'static [Habit], word: &str) -> Option<&'static str> {
    habits.iter().find(|(words, _)| words.contains(&word)).map(|(_, hint)| *hint)
}

/// What takes the place of a command that is not known; after `create` it is a kind.
pub fn command(word: &str) -> Option<&'static str> {
    of(COMMANDS, word).or_else(|| kind(word))
}

/// What takes the place of an option, or of a word too many, of a command.
pub fn argument(command: &str, argument: &str) -> Option<&'static str> {
    if !argument.starts_with('-') {
        return of(WORDS_OF, command);
    }
    let own = OPTIONS_OF.iter().filter(|(of, _)| *of == command).map(|(_, habit)| habit);
    let own = own.into_iter().find(|(words, _)| words.contains(&argument)).map(|(_, hint)| *hint);
    own.or_else(|| of(OPTIONS, argument))
}

/// What takes the place of a kind.
pub fn kind(word: &str) -> Option<&'static str> {
    of(KINDS, &word.to_ascii_lowercase())
}

/// What takes the place of a value that an argument does not take.
pub fn value(argument: &str, value: &str) -> Option<&'static str> {
    if argument.starts_with("--output") {
        let (format, rest) = value.split_once('=').unwrap_or((value, ""));
        // What is wrong within a template is in the message.
        return of(FORMATS, format).filter(|hint| rest.is_empty() || *hint == TEMPLATES);
    }
    if argument.contains("VERB") { of(VERBS, value) } else { None }
}
