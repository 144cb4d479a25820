//! What people write into `mcpd.yaml` who know other programs, and what takes its place.

use mcpctl_api::vocabulary::{Habit, Vocabulary};

/// The words of the file.
pub(super) const VOCABULARY: Vocabulary = Vocabulary::of_file(&HABITS, &FORMS);

const RESOURCES: &str = "Llms, secrets and people are resources, kept in the database: `mcpctl create llm`, or `mcpctl apply -f FILE`";

const HABITS: [Habit; 22] = [
    Habit {
        words: &["loglevel", "level", "logging", "verbosity", "verbose", "debug", "loggers"],
        beside: "dataDir",
        hint: "write e.g. `log: debug` or `log: mcpd=debug`",
    },
    Habit {
        words: &[
            "port",
            "host",
            "bind",
            "bindaddress",
            "address",
            "addr",
            "listenaddr",
            "listenaddress",
            "server",
            "http",
            "web",
        ],
        beside: "dataDir",
        hint: "write the address and the port: `listen: 127.0.0.1:3100`",
    },
    Habit {
        words: &["data", "datapath", "datadirectory", "storage", "dir", "directory", "path", "statedir"],
        beside: "dataDir",
        hint: "write `dataDir: /var/lib/mcpd`",
    },
    Habit {
        words: &["db", "dsn", "postgres", "postgresql", "sqlite", "sql", "database"],
        beside: "dataDir",
        hint: "SQLite is in `dataDir`; for PostgreSQL write `databaseUrlFile`, a file with its URL",
    },
    Habit {
        words: &[
            "modellist",
            "models",
            "model",
            "llms",
            "llm",
            "providers",
            "upstreams",
            "endpoints",
            "secrets",
            "users",
            "groups",
            "roles",
            "teams",
            "keys",
            "routersettings",
            "litellmsettings",
            "kind",
            "apiversion",
            "metadata",
            "spec",
        ],
        beside: "dataDir",
        hint: RESOURCES,
    },
    Habit {
        words: &["generalsettings", "settings", "config", "global", "mcpd", "environmentvariables"],
        beside: "dataDir",
        hint: "there are no such sections: its keys stand at the left margin, e.g. `listen: 127.0.0.1:3100`",
    },
    Habit {
        words: &["adminpassword", "admin", "adminuser", "rootpassword", "bootstraptoken", "token"],
        beside: "dataDir",
        hint: "the first start writes a token for `admin` into the data directory; sign in with it",
    },
    Habit {
        words: &["cors", "corsorigins", "origins", "alloworigins"],
        beside: "dataDir",
        hint: "write e.g. `allowedOrigins: [https://app.example.com]`",
    },
    Habit {
        words: &["otlp", "otel", "opentelemetry", "tracing", "traces"],
        beside: "dataDir",
        hint: "write e.g. `telemetry: {otlp: http://127.0.0.1:4318}`",
    },
    Habit {
        words: &["metrics", "prometheus"],
        beside: "dataDir",
        hint: "leave it out: metrics are always at `/metrics`",
    },
    Habit {
        words: &["endpoint", "url", "exporter", "collector"],
        beside: "otlp",
        hint: "write e.g. `otlp: http://127.0.0.1:4318`",
    },
    Habit {
        words: &["auth", "sso", "authentication", "oauth", "openid"],
        beside: "dataDir",
        hint: "write `oidc`, a list of providers",
    },
    Habit {
        words: &["ui", "dashboard", "webui"],
        beside: "dataDir",
        hint: "write `console: true` or `console: false`",
    },
    Habit {
        words: &["domain", "hostname", "externalurl", "publicurl", "rooturl", "baseurl"],
        beside: "dataDir",
        hint: "write the name that clients call: `publicHost: mcpd.example.com`",
    },
    Habit {
        words: &[
            "timeout",
            "timeouts",
            "requesttimeout",
            "retries",
            "budget",
            "budgets",
            "ratelimit",
            "ratelimits",
        ],
        beside: "dataDir",
        hint: "an Llm has `timeouts` and `retries`, a Limit what people may use: `mcpctl explain llm`, `mcpctl explain limit`",
    },
    Habit {
        words: &["cert", "certfile", "crt", "certpath", "sslcert"],
        beside: "clientCa",
        hint: "write `certificate`, a file in PEM",
    },
    Habit {
        words: &["keyfile", "keypath", "privatekey", "sslkey"],
        beside: "clientCa",
        hint: "write `key`, a file in PEM",
    },
    Habit {
        words: &["ca", "cafile", "clientcafile", "cacert"],
        beside: "clientCa",
        hint: "write `clientCa`, the authority of clients' certificates",
    },
    Habit {
        words: &["requests", "rps", "concurrency", "inflight", "maxinflight"],
        beside: "inference",
        hint: "write e.g. `inference: {perPrincipal: 64, total: 1024}`",
    },
    Habit {
        words: &["timeout", "timeouts", "readtimeout", "writetimeout", "requesttimeout"],
        beside: "requestHead",
        hint: "write `requestHead` and `bodyTime` for a request, `idle` and `stall` for a connection",
    },
    Habit {
        words: &["strict", "full", "fsync", "always", "power"],
        beside: "powerCut",
        hint: "write `powerCut`",
    },
    Habit {
        words: &["audience", "clientid"],
        beside: "keysFile",
        hint: "leave it out: a ServiceAccount's `trust` names the audience and the subject",
    },
];

const FORMS: [(&str, &str); 9] = [
    ("tls", "tls: {certificate: /etc/mcpd/tls.pem, key: /etc/mcpd/tls.key}"),
    ("telemetry", "telemetry: {otlp: http://127.0.0.1:4318}"),
    ("upstreamAddresses", "upstreamAddresses: {loopback: false}"),
    ("networks", "networks: [10.0.0.0/24]"),
    ("oidc", "oidc: [{name: corp, issuer: https://id.example.com, clientId: mcpctl}]"),
    ("tokenExchange", "tokenExchange: {issuers: [{issuer: https://id.example.com}]}"),
    ("allowedOrigins", "allowedOrigins: [https://app.example.com]"),
    ("trustedProxies", "trustedProxies: [10.0.0.7]"),
    ("limits", "limits: {http: {connections: 4096}}"),
];

#[cfg(test)]
mod tests {
    use mcpctl_api::yaml;

    use super::{super::File, *};

    fn hint(text: &str) -> String {
        let error = yaml::from_str_with::<File>(text, &VOCABULARY).unwrap_err();
        error.hint.unwrap_or_else(|| panic!("{text}: {}: no hint", error.message))
    }

    #[test]
    fn words_of_other_programs_lead_to_ours() {
        for (text, expected) in [
            ("logLevel: debug", "`log: debug`"),
            ("log: {level: debug}", "write the value alone"),
            ("port: 3100", "`listen: 127.0.0.1:3100`"),
            ("listen: ':3100'", "`127.0.0.1:3100`"),
            ("model_list: []", "are resources"),
            ("apiVersion: v1", "are resources"),
            ("general_settings: {}", "left margin"),
            ("tls: {certFile: /a}", "`certificate`"),
            ("oidc: {issuer: 'https://a.example'}", "oidc: [{name: corp"),
            ("logFormat: JSON", "did you mean `json`?"),
            ("console: {enabled: true}", "write the value alone"),
            ("limits: {records: {durability: fsync}}", "`powerCut`"),
            ("limits: {http: {readTimeout: 5s}}", "`bodyTime`"),
            ("limits: {http: {maxConnections: 5}}", "did you mean `connections`?"),
            ("upstreamAddresses: {networks: [10.0.0.1]}", "`10.0.0.7/32`"),
        ] {
            assert!(hint(text).contains(expected), "{text}: {}", hint(text));
        }
    }

    #[test]
    fn each_word_has_its_hint_at_a_place_of_the_file() {
        let places = [
            "WORD: 1",
            "telemetry: {WORD: 1}",
            "tls: {WORD: 1}",
            "limits: {WORD: 1}",
            "limits: {http: {WORD: 1}}",
            "limits: {records: {durability: WORD}}",
            "tokenExchange: {issuers: [{WORD: 1}]}",
        ];
        for Habit { words, hint, .. } in HABITS {
            for word in words {
                let has_hint = |place: &&str| {
                    let text = place.replace("WORD", word);
                    let error = yaml::from_str_with::<File>(&text, &VOCABULARY).err();
                    error.and_then(|error| error.hint).as_deref() == Some(hint)
                };
                assert!(places.iter().any(has_hint), "{word}: {hint}");
            }
        }
    }

    #[test]
    fn key_of_documents_is_not_proposed() {
        let error = yaml::from_str_with::<File>("labls: {}", &VOCABULARY).unwrap_err();
        assert_eq!(error.hint, None);
    }

    #[test]
    fn forms_are_read_as_they_are_shown() {
        for (key, form) in FORMS {
            assert!(form.starts_with(&format!("{key}: ")), "{form}");
            let text =
                if key == "networks" { format!("upstreamAddresses: {{{form}}}") } else { form.to_owned() };
            assert!(yaml::from_str_with::<File>(&text, &VOCABULARY).is_ok(), "{text}");
        }
    }
}
