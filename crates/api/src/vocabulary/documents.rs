//! The words of documents: what people write who know Kubernetes, LiteLLM or the configuration of a model server.

use super::{Habit, Vocabulary};

/// The words of resources.
pub(crate) const DOCUMENTS: Vocabulary = Vocabulary { habits: &HABITS, forms: &FORMS, documents: true };

/// Keys of Kubernetes around the fields of a document.
pub const WRAPPERS: [&str; 2] = ["metadata", "spec"];
/// What to write in place of those.
pub const FLAT: &str =
    "documents are flat: `kind`, `name`, `labels`, then the fields of the kind, e.g. `mcpctl explain llm`";

const HABITS: [Habit; 38] = [
    Habit { words: &WRAPPERS, beside: "", hint: FLAT },
    Habit { words: &["apiversion", "status"], beside: "", hint: FLAT },
    // Kinds.
    Habit {
        words: &["model", "models", "provider", "upstream", "endpoint"],
        beside: "RoleBinding",
        hint: "write `kind: Llm`",
    },
    Habit {
        words: &["clusterrolebinding", "binding", "grant", "permission", "policy", "access"],
        beside: "RoleBinding",
        hint: "write `kind: RoleBinding`",
    },
    Habit { words: &["clusterrole"], beside: "RoleBinding", hint: "write `kind: Role`" },
    Habit {
        words: &["budget", "quota", "resourcequota", "ratelimit", "limitrange"],
        beside: "RoleBinding",
        hint: "write `kind: Limit`",
    },
    Habit {
        words: &["account", "bot", "robot", "machine"],
        beside: "RoleBinding",
        hint: "write `kind: ServiceAccount`",
    },
    Habit { words: &["team", "organization"], beside: "RoleBinding", hint: "write `kind: Group`" },
    Habit { words: &["person", "human"], beside: "RoleBinding", hint: "write `kind: User`" },
    Habit {
        words: &["apikey", "credential", "key", "virtualkey"],
        beside: "RoleBinding",
        hint: "write `kind: Secret` for a provider's key, `kind: Token` for a caller's",
    },
    // Llm.
    Habit {
        words: &["provider", "backend", "engine", "api", "customllmprovider"],
        beside: "midStream",
        hint: "write `type`: openai, anthropic or azure-openai",
    },
    Habit {
        words: &["baseurl", "apibase", "endpoint", "address", "server", "host", "azureendpoint"],
        beside: "url",
        hint: "write `url`, the provider's base address, e.g. `url: https://api.openai.com/v1`",
    },
    Habit {
        words: &["secretref", "secretkeyref", "secret", "token", "key", "credentials", "valuefrom"],
        beside: "apiKey",
        hint: "write `apiKey: {secret: openai, key: token}`; `mcpctl create secret` keeps the key",
    },
    Habit {
        words: &["secretkeyref", "valuefrom", "secretname"],
        beside: "secretId",
        hint: "write `apiKey: {secret: openai, key: token}`",
    },
    Habit {
        words: &["modelname", "deployment", "azuredeployment"],
        beside: "midStream",
        hint: "write `model`, the provider's name of the model",
    },
    Habit {
        words: &["maxtokens", "temperature", "topp", "stop", "seed"],
        beside: "midStream",
        hint: "each request sets it",
    },
    Habit {
        words: &["timeout", "requesttimeout"],
        beside: "timeouts",
        hint: "write e.g. `timeouts: {response: 30s, answer: 10m}`",
    },
    Habit {
        words: &["numretries", "maxretries", "retry"],
        beside: "retries",
        hint: "write e.g. `retries: {max: 2}`",
    },
    Habit {
        words: &["rpm", "tpm", "ratelimit", "ratelimits", "budget", "maxbudget", "limits", "quota"],
        beside: "midStream",
        hint: "a Limit is a resource of its own: `mcpctl explain limit`",
    },
    Habit {
        words: &["inputcostpertoken", "outputcostpertoken", "cost", "pricing"],
        beside: "price",
        hint: "write `price`, in US dollars per million tokens: `mcpctl explain llm.price`",
    },
    Habit { words: &["attempts", "count", "times"], beside: "max", hint: "write e.g. `retries: {max: 2}`" },
    Habit {
        words: &[
            "ollama",
            "lmstudio",
            "llamacpp",
            "llamaserver",
            "vllm",
            "sglang",
            "tgi",
            "localai",
            "openrouter",
            "groq",
            "mistral",
            "deepseek",
            "together",
            "litellm",
            "openaicompatible",
        ],
        beside: "azure-openai",
        hint: "it speaks OpenAI's API: write `type: openai` and its address as `url`",
    },
    Habit {
        words: &["gemini", "google", "vertex", "vertexai"],
        beside: "azure-openai",
        hint: "its OpenAI-compatible address works: `type: openai` and that as `url`",
    },
    Habit { words: &["claude"], beside: "azure-openai", hint: "write `type: anthropic`" },
    Habit { words: &["gpt", "chatgpt"], beside: "azure-openai", hint: "write `type: openai`" },
    // Secret.
    Habit {
        words: &["stringdata", "value", "values", "token", "key", "apikey", "password"],
        beside: "hosts",
        hint: "write `data: {token: VALUE}`, in plain text",
    },
    // People and rights.
    Habit {
        words: &["users", "people", "subjects", "memberof"],
        beside: "members",
        hint: "write e.g. `members: [{kind: User, name: alice}]`",
    },
    Habit {
        words: &["groups", "memberof", "roles", "role"],
        beside: "displayName",
        hint: "a Group lists its members, a RoleBinding its subjects: `mcpctl create group`, `mcpctl create rolebinding`",
    },
    Habit {
        words: &["apigroups", "apigroup"],
        beside: "verbs",
        hint: "leave it out: a rule has `kinds`, `verbs` and `names`",
    },
    Habit {
        words: &["resources", "resource", "objects"],
        beside: "kinds",
        hint: "write e.g. `kinds: [llms]`",
    },
    Habit {
        words: &["resourcenames", "llms", "models"],
        beside: "verbs",
        hint: "write e.g. `names: [gpt]`, or `names: [\"*\"]` for all",
    },
    Habit {
        words: &["roleref", "clusterrole", "roles"],
        beside: "role",
        hint: "write the role's name: `role: NAME`",
    },
    Habit {
        words: &["users", "members", "groups", "user", "group", "serviceaccounts"],
        beside: "role",
        hint: "write e.g. `subjects: [{kind: Group, name: team}]`",
    },
    Habit {
        words: &["apigroup", "namespace"],
        beside: "kind",
        hint: "leave it out: `{kind: User, name: alice}`",
    },
    // Limit.
    Habit {
        words: &["budget", "maxbudget", "spend", "usd", "money"],
        beside: "cost",
        hint: "write e.g. `cost: {max: \"200\", period: month}`",
    },
    Habit {
        words: &["rpm", "rps", "maxrequests", "tpm", "maxtokens"],
        beside: "cost",
        hint: "write e.g. `requests: {max: 60, window: 1m}` or `tokens: {max: 100000, window: 1m}`",
    },
    Habit {
        words: &["duration", "budgetduration", "interval", "every", "per"],
        beside: "window",
        hint: "write `window: 1m`, or `period`: day, week or month",
    },
    Habit { words: &["monthly", "daily", "weekly"], beside: "month", hint: "write `day`, `week` or `month`" },
];

const FORMS: [(&str, &str); 17] = [
    ("apiKey", "apiKey: {secret: openai, key: token}"),
    ("targets", "targets: [{url: http://10.0.0.1:8000/v1}]"),
    ("timeouts", "timeouts: {response: 30s, answer: 10m}"),
    ("retries", "retries: {max: 2}"),
    ("breaker", "breaker: {failures: 3, open: 10s}"),
    ("fallbacks", "fallbacks: [{llm: other}]"),
    ("failover", "failover: {require: run, offlineGrace: 60s}"),
    ("capture", "capture: {bodies: true}"),
    ("members", "members: [{kind: User, name: alice}]"),
    ("subjects", "subjects: [{kind: User, name: alice}]"),
    ("rules", "rules: [{kinds: [llms], verbs: [view, run], names: [gpt]}]"),
    ("requests", "requests: {max: 60, window: 1m}"),
    ("tokens", "tokens: {max: 100000, window: 1m}"),
    ("cost", "cost: {max: \"200\", period: month}"),
    ("data", "data: {token: VALUE}"),
    ("labels", "labels: {team: a}"),
    ("annotations", "annotations: {note: text}"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml;

    #[test]
    fn forms_are_read_as_they_are_shown() {
        let llm = |url: &str| format!("kind: Llm\nname: a\ntype: openai\nmodel: m\n{url}");
        let beside = |key: &str| match key {
            "targets" => llm(""),
            "members" => "kind: Group\nname: a\n".to_owned(),
            "subjects" => "kind: RoleBinding\nname: a\nrole: view\n".to_owned(),
            "rules" => "kind: Role\nname: a\n".to_owned(),
            "requests" | "tokens" | "cost" => "kind: Limit\nname: a\nper: all\n".to_owned(),
            "data" => "kind: Secret\nname: a\n".to_owned(),
            _ => llm("url: http://10.0.0.1/v1\n"),
        };
        for (key, form) in DOCUMENTS.forms {
            let text = format!("{}{form}\n", beside(key));
            assert!(form.starts_with(&format!("{key}: ")), "{form}");
            assert_eq!(yaml::read_documents(&text).map(|read| read.len()), Ok(1), "{text}");
        }
    }

    #[test]
    fn each_word_has_its_hint_at_a_place_of_a_document() {
        let places = [
            "kind: WORD\nname: a\n",
            "kind: Llm\nname: a\nWORD: 1\n",
            "kind: Llm\nname: a\ntype: WORD\n",
            "kind: Llm\nname: a\napiKey: {WORD: 1}\n",
            "kind: Llm\nname: a\nretries: {WORD: 1}\n",
            "kind: Secret\nname: a\nWORD: 1\n",
            "kind: Group\nname: a\nWORD: 1\n",
            "kind: User\nname: a\nWORD: 1\n",
            "kind: Role\nname: a\nrules: [{WORD: 1}]\n",
            "kind: RoleBinding\nname: a\nWORD: 1\n",
            "kind: RoleBinding\nname: a\nsubjects: [{WORD: 1}]\n",
            "kind: Limit\nname: a\nWORD: 1\n",
            "kind: Limit\nname: a\nrequests: {WORD: 1}\n",
            "kind: Limit\nname: a\ncost: {period: WORD}\n",
        ];
        for Habit { words, hint, .. } in HABITS {
            for word in words {
                let has_hint = |place: &&str| {
                    let error = yaml::read_documents(&place.replace("WORD", word)).err();
                    error.and_then(|error| error.hint).as_deref() == Some(hint)
                };
                assert!(places.iter().any(has_hint), "{word}: {hint}");
            }
        }
    }

    #[test]
    fn words_of_other_programs_lead_to_ours() {
        let llm = "kind: Llm\nname: a\ntype: openai\nmodel: m\n";
        for (text, hint) in [
            (format!("{llm}base_url: http://x/v1\n"), "write `url`"),
            (format!("{llm}max_budget: 5\n"), "a Limit is a resource"),
            (format!("{llm}modle: m\n"), "did you mean `model`?"),
            (format!("{llm}metadata: {{}}\n"), "documents are flat"),
            (llm.replace("openai", "ollama"), "it speaks OpenAI's API"),
            (format!("{llm}fallbacks: [other]\n"), "write e.g. `fallbacks: [{llm: other}]`"),
            ("kind: Model\nname: a\n".to_owned(), "write `kind: Llm`"),
            (
                "kind: Role\nname: a\nrules:\n- {apiGroups: [], verbs: [view]}\n".to_owned(),
                "leave it out: a rule",
            ),
            ("kind: RoleBinding\nname: a\nroleRef: {}\n".to_owned(), "write the role's name"),
            ("kind: Group\nname: a\nusers: []\n".to_owned(), "write e.g. `members: "),
            ("kind: Limit\nname: a\nper: all\nrpm: 5\n".to_owned(), "write e.g. `requests: "),
        ] {
            let error = yaml::read_documents(&text).unwrap_err();
            let found = error.hint.as_deref().unwrap_or_default();
            assert!(found.starts_with(hint), "{text}: {error}: {found}");
        }
    }
}
