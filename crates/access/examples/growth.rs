//! What a change and a decision cost as a store grows: `cargo run --release -p mcpctl-access --example growth -- BINDINGS`.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::indexing_slicing, missing_docs)]

use std::{hint::black_box, sync::Arc, time::Instant};

use jiff::Timestamp;
use mcpctl_access::{Change, Confidential, Snapshot, Stored, builtin, verb::Run};
use mcpctl_api::{Id, Kind, Resource, Revision, Spec, spec::TokenSpec, yaml};

const ROUNDS: u32 = 20;
const DECISIONS: u32 = 10_000;

fn stored(name: &str, spec: Spec, confidential: Option<Confidential>, revision: u64) -> Arc<Stored> {
    let resource = Resource {
        id: Id::mint(),
        name: name.parse().unwrap(),
        labels: Default::default(),
        annotations: Default::default(),
        revision: Revision(revision),
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
        spec,
    };
    Arc::new(Stored { resource, confidential })
}

fn spec(yaml: &str) -> Spec {
    yaml::read_documents(yaml).unwrap().remove(0).document.spec
}

fn hash(at: usize) -> [u8; 32] {
    let mut hash = [0; 32];
    hash[..8].copy_from_slice(&at.to_le_bytes());
    hash
}

fn binding(user: usize) -> Spec {
    spec(&format!(
        "kind: RoleBinding\nname: b\nrole: llm-user\nsubjects: [{{kind: User, name: user-{user}}}]\n"
    ))
}

fn token(owner: &Stored, at: usize) -> Arc<Stored> {
    let spec = TokenSpec {
        subject: owner.as_subject().unwrap(),
        subject_id: owner.id().clone(),
        expires_at: Timestamp::MAX,
        session: false,
        origin: None,
        rotated_from: None,
        begun_with: None,
        prefix: None,
        issued_by: Vec::new(),
        rules: None,
    };
    stored(&format!("token-{at}"), Spec::Token(spec), Some(Confidential::TokenHash(hash(at))), 1)
}

fn kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn main() {
    let bindings: usize = std::env::args().nth(1).map_or(100_000, |text| text.parse().unwrap());
    let (users, llms) = ((bindings / 10).max(1), (bindings / 100).max(1));
    let mut all: Vec<_> =
        builtin::specs().map(|(name, role)| stored(name, Spec::Role(role), None, 1)).collect();
    let admin = stored("admin", spec("kind: User\nname: admin\n"), None, 1);
    all.push(token(&admin, users));
    all.push(Arc::clone(&admin));
    all.push(stored(
        "admin",
        spec("kind: RoleBinding\nname: b\nrole: admin\nsubjects: [{kind: User, name: admin}]\n"),
        None,
        1,
    ));
    let llm = spec("kind: Llm\nname: l\ntype: openai\nurl: http://x\nmodel: m\n");
    all.extend((0..llms).map(|at| stored(&format!("llm-{at}"), llm.clone(), None, 1)));
    for at in 0..users {
        let user = stored(&format!("user-{at}"), spec("kind: User\nname: u\n"), None, 1);
        all.push(token(&user, at));
        all.push(user);
    }
    all.extend((0..bindings).map(|at| stored(&format!("binding-{at}"), binding(at % users), None, 1)));
    let (count, without) = (all.len(), kib());
    let began = Instant::now();
    let snapshot = Snapshot::new(Revision(1), all);
    println!(
        "{bindings} bindings, {count} resources: built in {:?}, indexes {} MiB, process {} MiB",
        began.elapsed(),
        (kib() - without) >> 10,
        kib() >> 10
    );
    let admin = snapshot.authenticate(&hash(users), Timestamp::UNIX_EPOCH).unwrap();
    let write = |what: &str, put: &dyn Fn(u32) -> Arc<Stored>| {
        let began = Instant::now();
        for round in 0..ROUNDS {
            let after = snapshot.after(Revision(2), [Change::Put(put(round))]);
            snapshot.check_step(&after, &admin).unwrap();
            assert!(
                snapshot.has_administrator(Timestamp::UNIX_EPOCH)
                    && after.has_administrator(Timestamp::UNIX_EPOCH)
            );
        }
        println!("  {what}: {:?}", began.elapsed() / ROUNDS);
    };
    write("a binding is made and judged", &|round| stored(&format!("new-{round}"), binding(0), None, 2));
    write("a user is made and judged", &|round| {
        stored(&format!("new-{round}"), spec("kind: User\nname: u\n"), None, 2)
    });
    let owner = snapshot.by_name(Kind::User, "user-0").unwrap();
    write("a token is made and judged", &|round| {
        let token = token(owner, users + 1);
        let mut resource = token.resource.clone();
        resource.name = format!("new-{round}").parse().unwrap();
        Arc::new(Stored { resource, confidential: token.confidential.clone() })
    });
    let order: Vec<_> = (0..DECISIONS as usize)
        .map(|round| (hash(round * 7919 % users), format!("llm-{}", round * 7919 % llms)))
        .collect();
    let began = Instant::now();
    let callers: Vec<_> =
        order.iter().map(|(hash, _)| snapshot.authenticate(hash, Timestamp::UNIX_EPOCH).unwrap()).collect();
    println!("  a caller is authenticated: {:?}", began.elapsed() / DECISIONS);
    let began = Instant::now();
    for (caller, (_, llm)) in callers.iter().zip(&order) {
        black_box(snapshot.authorize::<Run>(caller, Kind::Llm, llm).unwrap());
    }
    println!("  a caller is authorized: {:?}", began.elapsed() / DECISIONS);
}
