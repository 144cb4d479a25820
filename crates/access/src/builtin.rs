//! The roles that every installation has. They cannot be edited.

use mcpctl_api::{
    Kind, Verb,
    spec::{Allowed, NamePattern, RoleSpec, Rule},
};

/// Names of the built-in roles.
pub const ROLES: [&str; 4] = ["admin", "editor", "viewer", "llm-user"];

fn rule(kinds: Vec<Allowed<Kind>>, verbs: Vec<Allowed<Verb>>) -> Vec<Rule> {
    vec![Rule { kinds, verbs, names: vec![NamePattern::any()] }]
}

/// What a built-in role allows; nothing for other names.
pub(crate) fn rules(name: &str) -> Option<Vec<Rule>> {
    use Allowed::{Any, Only};
    match name {
        "admin" => Some(rule(vec![Any], vec![Any])),
        // Everything but people, roles, Limits and tokens: an editor may be whom a Limit bounds.
        "editor" => Some(rule(
            vec![Only(Kind::Llm), Only(Kind::Secret)],
            vec![
                Only(Verb::View),
                Only(Verb::Run),
                Only(Verb::Use),
                Only(Verb::Create),
                Only(Verb::Edit),
                Only(Verb::Delete),
            ],
        )),
        // Without the records: who used what, and was denied what, is not for all who may view the set-up.
        "viewer" => Some(rule(Kind::RESOURCES.map(Only).to_vec(), vec![Only(Verb::View)])),
        "llm-user" => Some(rule(vec![Only(Kind::Llm)], vec![Only(Verb::View), Only(Verb::Run)])),
        _ => None,
    }
}

/// Whether a role of this name is built in.
pub fn is_builtin(name: &str) -> bool {
    ROLES.contains(&name)
}

/// The documents of the built-in roles, for showing them beside the others.
pub fn specs() -> impl Iterator<Item = (&'static str, RoleSpec)> {
    ROLES.into_iter().filter_map(|name| {
        let description = Some(
            match name {
                "admin" => "everything",
                "editor" => "all but people, roles, limits and tokens",
                "viewer" => "view all resources, but neither usage nor audit",
                _ => "view and run all Llms",
            }
            .to_owned(),
        );
        Some((name, RoleSpec { description, rules: rules(name)? }))
    })
}
