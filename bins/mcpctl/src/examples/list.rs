//! The examples, in the order of the help. Add a command's here; they name the resources of the test's world
//! (`tests/cli/examples.rs`): Llms `gpt` and `claude`, Secret `openai`, Users `alice` and `bob`, Group `team`, ServiceAccount
//! `ci`, and the files that the test writes.

/// An example: what it does, and the command line.
pub type Example = (&'static str, &'static str);

/// The examples of each command, by its path.
pub const EXAMPLES: &[(&str, &[Example])] = &[
    (
        "",
        &[
            ("sign in", "mcpctl login https://mcpd.example.com"),
            ("the Llms that you may see, and how they do", "mcpctl get llms"),
            ("talk to one", "mcpctl chat gpt"),
            ("why it does not work", "mcpctl doctor"),
        ],
    ),
    (
        "login",
        &[
            ("in a browser, where mcpd trusts an OpenID provider", "mcpctl login https://mcpd.example.com"),
            (
                "with a code, in a browser on another machine",
                "mcpctl login https://mcpd.example.com --device",
            ),
            ("with a password", "mcpctl login https://mcpd.example.com --user alice"),
            (
                "with a token, as a context of its own",
                "mcpctl login https://mcpd.example.com --context ci --token-file token.txt",
            ),
        ],
    ),
    ("logout", &[("end the session of the current context", "mcpctl logout")]),
    (
        "whoami",
        &[("who is signed in, and until when", "mcpctl whoami"), ("for a program", "mcpctl whoami -o json")],
    ),
    (
        "passwd",
        &[
            ("your own", "mcpctl passwd"),
            ("another user's, as an administrator", "mcpctl passwd alice --stdin < password.txt"),
        ],
    ),
    ("token", &[("list your own", "mcpctl token list"), ("make one", "mcpctl token create laptop")]),
    (
        "token list",
        &[
            ("your tokens", "mcpctl token list"),
            ("and the sessions that sign-ins began", "mcpctl token list --sessions"),
        ],
    ),
    (
        "token create",
        &[
            ("for 30 days, with all your rights", "mcpctl token create laptop"),
            (
                "for one Llm and nothing else, into a file",
                "mcpctl token create editor --rule 'view,run llm/gpt' --expires-in 90d > editor-token",
            ),
        ],
    ),
    (
        "token rotate",
        &[
            ("the one in use; the context gets the new secret", "mcpctl token rotate"),
            ("another one, while the old secret works for an hour", "mcpctl token rotate phone --grace 1h"),
        ],
    ),
    ("token revoke", &[("at once", "mcpctl token revoke phone")]),
    (
        "config",
        &[("the contexts", "mcpctl config get-contexts"), ("use another", "mcpctl config use-context c")],
    ),
    ("config get-contexts", &[("the known servers and accounts", "mcpctl config get-contexts")]),
    ("config current-context", &[("the name, for a prompt", "mcpctl config current-context")]),
    ("config use-context", &[("from now on", "mcpctl config use-context c")]),
    ("config rename-context", &[("a name of your own", "mcpctl config rename-context spare old")]),
    ("config delete-context", &[("forget it and its token", "mcpctl config delete-context old")]),
    ("config view", &[("the whole file, tokens hidden", "mcpctl config view")]),
    (
        "get",
        &[
            ("every Llm, with its state", "mcpctl get llms"),
            ("two of them, as documents that `apply` takes", "mcpctl get llm gpt claude -o yaml"),
            ("go on with every change", "mcpctl get llms -w"),
            ("those with a label, and a label as a column", "mcpctl get users -l team=red -L team"),
            ("tokens that end within a week", "mcpctl get tokens --expiring 7d"),
            ("several kinds, and everything", "mcpctl get llms,users; mcpctl get all"),
            ("one field", "mcpctl get llm gpt -o jsonpath='{.model}'"),
            (
                "columns of one's own, in order",
                "mcpctl get llms -o custom-columns=NAME:.name,MODEL:.model --sort-by .model",
            ),
        ],
    ),
    (
        "describe",
        &[
            ("its fields, state, and who may run it", "mcpctl describe llm gpt"),
            ("groups, rights, tokens and last use of a person", "mcpctl describe user alice"),
            ("all with a label", "mcpctl describe users -l team=red"),
        ],
    ),
    (
        "create",
        &[
            ("a person", "mcpctl create user carol --display-name 'Carol Jones'"),
            ("what files describe", "mcpctl create -f new.yaml"),
            ("a document to begin with", "mcpctl create group crew --dry-run=client -o yaml > crew.yaml"),
        ],
    ),
    (
        "create user",
        &[
            ("with a first token, in a group", "mcpctl create user carol --group team --token"),
            ("with a password", "mcpctl create user carol --stdin < password.txt"),
        ],
    ),
    ("create group", &[("with a member", "mcpctl create group ops --member User/alice")]),
    (
        "create serviceaccount",
        &[("for a program", "mcpctl create serviceaccount nightly --description 'nightly evaluation'")],
    ),
    (
        "create token",
        &[(
            "into a file that only you can read",
            "(umask 077; mcpctl create token alice-laptop --for User/alice > alice-token)",
        )],
    ),
    (
        "create secret",
        &[
            (
                "from a file, for one provider",
                "mcpctl create secret key --from-file token=key.txt --host api.openai.com",
            ),
            ("from a variable", "mcpctl create secret key --from-env token=OPENAI_API_KEY"),
        ],
    ),
    (
        "create role",
        &[("run two Llms", "mcpctl create role model-user --verb view,run --kind llms --name gpt,claude")],
    ),
    (
        "create rolebinding",
        &[("a group may run every Llm", "mcpctl create rolebinding team-llms --role llm-user --group team")],
    ),
    (
        "create limit",
        &[
            (
                "a bound on cost that a group shares",
                "mcpctl create limit team-cost --group team --per all --cost 200/month",
            ),
            (
                "a bound for each account",
                "mcpctl create limit pace --per subject --requests 60/1m --tokens 200000/1h",
            ),
        ],
    ),
    (
        "create llm",
        &[
            (
                "at OpenAI, with a key from a secret",
                "mcpctl create llm o3 --url https://api.openai.com/v1 --model o3 --secret openai --key token",
            ),
            (
                "a server without a key",
                "mcpctl create llm local --url http://127.0.0.1:8000/v1 --model qwen3",
            ),
        ],
    ),
    (
        "apply",
        &[
            ("all documents of a file, or none", "mcpctl apply -f llms.yaml"),
            ("what it would do", "mcpctl apply -f llms.yaml --dry-run"),
            ("from standard input", "mcpctl apply -f - < llms.yaml"),
            (
                "those with a label, and remove what has it and is in no file",
                "mcpctl apply -R -f crew -l team=blue --prune -y",
            ),
        ],
    ),
    ("edit", &[("in $VISUAL, $EDITOR or vi", "mcpctl edit llm gpt")]),
    (
        "patch",
        &[
            ("change a field", "mcpctl patch llm gpt -p '{model: gpt-5.2}'"),
            ("remove one", "mcpctl patch llm gpt -p '{description: null}'"),
            (
                "change one item of a list (RFC 6902)",
                "mcpctl patch group team --type json -p '[{op: remove, path: /members/0}]' --dry-run",
            ),
        ],
    ),
    (
        "replace",
        &[
            ("only what exists", "mcpctl replace -f world.yaml"),
            ("delete it and make it anew", "mcpctl replace -f new.yaml --force"),
        ],
    ),
    (
        "label",
        &[
            ("set one", "mcpctl label llm gpt claude tier=gold"),
            ("change and remove", "mcpctl label user alice team=blue old- --overwrite"),
            ("of all that are selected", "mcpctl label llms -l team=red region=eu"),
            ("show them", "mcpctl label llm gpt --list"),
        ],
    ),
    (
        "annotate",
        &[
            ("a text for people", "mcpctl annotate llm gpt example.com/ticket='OPS-1: the new contract'"),
            ("remove it", "mcpctl annotate llm gpt example.com/ticket-"),
        ],
    ),
    (
        "wait",
        &[
            ("until mcpd would send it a request", "mcpctl wait llm gpt --for=condition=ready"),
            ("until a field has a value", "mcpctl wait llm gpt --for=jsonpath={.type}=openai --timeout=10s"),
            ("until it is gone", "mcpctl wait user carol --for=delete --timeout=1m"),
        ],
    ),
    (
        "delete",
        &[
            ("revoke", "mcpctl delete rolebinding alice-uses-llms"),
            ("what would go with it", "mcpctl delete user bob --dry-run"),
            ("what files describe", "mcpctl delete -f llms.yaml --ignore-not-found"),
            ("all with a label, without a question", "mcpctl delete users -l team=none -y"),
        ],
    ),
    ("group", &[("add a member", "mcpctl group add team bob")]),
    ("group add", &[("users and service accounts", "mcpctl group add team bob ServiceAccount/ci")]),
    ("group remove", &[("a user", "mcpctl group remove team alice")]),
    ("set", &[("a new provider key", "mcpctl set secret openai token --from-file key.txt")]),
    (
        "set secret",
        &[
            ("from a file", "mcpctl set secret openai token --from-file key.txt"),
            ("from another program", "mcpctl set secret openai token --stdin < key.txt"),
        ],
    ),
    ("rotate", &[("a token", "mcpctl rotate token alice-phone --grace 1h")]),
    (
        "rotate token",
        &[(
            "the old secret works for an hour more",
            "mcpctl rotate token alice-phone --grace 1h > new-token",
        )],
    ),
    ("diff", &[("what `apply` would change", "mcpctl diff -f llms.yaml")]),
    (
        "explain",
        &[
            ("the fields of a document, with an example", "mcpctl explain llm"),
            ("one of them, and what is below it", "mcpctl explain llm.failover"),
            ("all names, at a glance", "mcpctl explain llm --recursive"),
        ],
    ),
    ("api-resources", &[("kinds and their short names", "mcpctl api-resources")]),
    ("auth", &[("may I?", "mcpctl auth can-i run llm gpt"), ("who may?", "mcpctl auth who-can run llm gpt")]),
    (
        "auth can-i",
        &[
            ("by exit code", "mcpctl auth can-i run llm gpt"),
            ("everything that alice may do, and why", "mcpctl auth can-i --list --as alice"),
        ],
    ),
    ("auth who-can", &[("run an Llm", "mcpctl auth who-can run llm gpt")]),
    (
        "audit",
        &[
            ("what was denied since yesterday", "mcpctl audit --denied --since yesterday"),
            ("about one account", "mcpctl audit --user alice"),
            ("go on with every row", "mcpctl audit -f -o json"),
        ],
    ),
    (
        "usage",
        &[
            ("of the last 30 days, by user and Llm", "mcpctl usage"),
            ("what each group cost today", "mcpctl usage --by group --since today"),
            ("for a spreadsheet", "mcpctl usage --by user,llm,day --since 7d -o csv > usage.csv"),
        ],
    ),
    ("top", &[("every 2 s; q ends it", "mcpctl top"), ("once, for a program", "mcpctl top --once -o json")]),
    ("admin", &[("a user is locked out", "mcpctl admin lift-throttle --user alice")]),
    ("admin rotate-keys", &[("the keys that sign answers to probes", "mcpctl admin rotate-keys --again")]),
    (
        "admin lift-throttle",
        &[
            ("sign-ins as a user", "mcpctl admin lift-throttle --user alice"),
            ("sign-ins from a network", "mcpctl admin lift-throttle --address 192.0.2.7"),
        ],
    ),
    ("llm", &[("what fails on the way to a model", "mcpctl llm test gpt")]),
    ("llm test", &[("step by step, with one small request", "mcpctl llm test gpt")]),
    (
        "chat",
        &[
            ("a conversation", "mcpctl chat gpt"),
            ("one question", "mcpctl chat gpt 'What is a lease?'"),
            ("about what is piped in", "cat question.txt | mcpctl chat gpt 'Sum up'"),
            ("about files", "mcpctl chat gpt 'What is in it?' -f question.txt -f llms.yaml"),
            ("for a script: who answered, tokens, times", "mcpctl chat gpt -p 'What is a lease?' -o json"),
        ],
    ),
    (
        "local",
        &[
            ("write its configuration", "mcpctl local init"),
            ("start the agent", "mcpctl local up"),
            ("point clients at it", "eval \"$(mcpctl local env)\""),
            ("what it is doing", "mcpctl local status"),
        ],
    ),
    (
        "local init",
        &[
            ("with questions", "mcpctl local init"),
            ("look at the proposal", "mcpctl local init --dry-run"),
            ("in a script", "mcpctl local init --yes --model ~/models/qwen.gguf --failover-for gpt,claude"),
        ],
    ),
    ("local status", &[("now", "mcpctl local status"), ("every second", "mcpctl local status -w")]),
    ("local doctor", &[("check the set-up of this machine", "mcpctl local doctor")]),
    ("local up", &[("in the background", "mcpctl local up")]),
    ("local down", &[("let requests end, and stop", "mcpctl local down")]),
    (
        "local install",
        &[
            ("with every login", "mcpctl local install"),
            ("show the service's file", "mcpctl local install --print"),
        ],
    ),
    ("local uninstall", &[("stop and remove the service", "mcpctl local uninstall")]),
    (
        "local history",
        &[
            ("what fell back today", "mcpctl local history --since today"),
            ("what was not allowed", "mcpctl local history --denied"),
        ],
    ),
    (
        "local journal",
        &[
            ("failovers of an Llm", "mcpctl local journal --event failover --llm gpt"),
            ("for a program", "mcpctl local journal -o json"),
        ],
    ),
    ("local journal verify", &[("whether a line is missing", "mcpctl local journal verify")]),
    (
        "local env",
        &[
            ("for this shell", "eval \"$(mcpctl local env)\""),
            ("for fish", "mcpctl local env --shell fish"),
            ("lines for Codex's own file", "mcpctl local env --for codex --llm gpt"),
            ("put into Claude Code's settings", "mcpctl local env --for claude-code --llm gpt --write"),
            ("taken out again", "mcpctl local env --for claude-code --remove"),
        ],
    ),
    ("local key", &[("for a client at this address", "mcpctl local key --at http://127.0.0.1:3200")]),
    ("local rotate-key", &[("clients need the new one", "mcpctl local rotate-key")]),
    ("local logs", &[("as it grows", "mcpctl local logs desk -f")]),
    ("local start", &[("before the first request needs it", "mcpctl local start desk")]),
    (
        "local stop",
        &[("free its memory", "mcpctl local stop desk"), ("every one", "mcpctl local stop --all")],
    ),
    (
        "doctor",
        &[
            ("from here to mcpd", "mcpctl doctor"),
            ("on to a model, with one small request", "mcpctl doctor --llm gpt"),
        ],
    ),
    (
        "completion",
        &[
            ("bash, in ~/.bashrc", "eval \"$(mcpctl completion bash)\""),
            ("zsh, in ~/.zshrc", "eval \"$(mcpctl completion zsh)\""),
            ("fish", "mcpctl completion fish > ~/.config/fish/completions/mcpctl.fish"),
        ],
    ),
    (
        "man",
        &[
            ("the page of a command", "mcpctl man create token | man -l -"),
            ("all pages, as packages have them", "mcpctl man --dir man1"),
        ],
    ),
    ("options", &[("the options that every command has", "mcpctl options")]),
    (
        "version",
        &[("of mcpctl, mcpd and mcplocal", "mcpctl version"), ("of mcpctl alone", "mcpctl version --client")],
    ),
];
