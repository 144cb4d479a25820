//! The way from this machine to mcpd and through it to the models, step by step; what an earlier step leaves unknown is not tried.

use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use mcpctl_api::{
    HumanDuration, Kind,
    agent::{Finding, FindingState},
    breaker_status::{LlmState, LlmStatus},
    installation::{DatabaseKind, Installation, ProxyState, TlsState},
    llm_test::{LlmTest, StepState},
};
use mcpctl_client::{Certificate, Client, ClientError, Way, expiry};
use serde_json::Value;

use super::report::Report;
use crate::{
    context::Identity,
    failure::Failure,
    output::{llm_state, table::until},
    suggest,
};

/// How long before its end a certificate should have been renewed.
const RENEWAL: SignedDuration = SignedDuration::from_hours(14 * 24);
/// How far the clocks may differ: an answer that mcpd signs for an agent holds for 15 s.
const MAX_CLOCK_DIFFERENCE: SignedDuration = SignedDuration::from_secs(5);
/// Llms that do not work are listed up to so many.
const MAX_LLMS: usize = 20;

/// Checks the way to the server of an identity, and what is behind it; `llms` are tested with a request each.
pub async fn check(report: &mut Report, identity: &Identity, llms: &[String]) -> Result<(), Failure> {
    if !connect(report, identity).await? || !answers(report, identity).await? {
        return Ok(());
    }
    let Some(client) = signed_in(report, identity).await? else { return Ok(()) };
    // Other accounts are denied, and an older mcpd has no such route.
    if let Ok(installed) = client.installation().await {
        installation(report, &installed)?;
    }
    if let Ok(mut statuses) = client.llm_statuses().await {
        // Where some are named, the others are another question.
        if !llms.is_empty() {
            statuses.retain(|status| llms.iter().any(|llm| llm == status.llm.as_str()));
        }
        models(report, &statuses, !llms.is_empty())?;
    }
    for llm in llms {
        match client.test_llm(llm).await {
            Ok(test) => tested(report, &test)?,
            Err(error) => {
                let failure = suggest::not_found(&client, Kind::Llm, llm, error).await;
                report.fail(&format!("llm {llm}"), &failure)?;
            }
        }
    }
    Ok(())
}

/// Name, connection and TLS; whether all of it works.
async fn connect(report: &mut Report, identity: &Identity) -> Result<bool, Failure> {
    let way = Way::to(&identity.server, &identity.trust)?;
    let begun = Instant::now();
    let addresses = match way.addresses().await {
        Ok(addresses) => addresses,
        Err(error) => {
            let hint = "check the name in the server's address, and the DNS of this machine";
            return report.fail("name", &Failure::new(error).hint(hint)).map(|()| false);
        }
    };
    if let (Some(name), Some(first)) = (way.name(), addresses.first()) {
        let more = match addresses.len() {
            0 | 1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        report.ok("name", format!("{name} is {}{more} ({})", first.ip(), took(begun)))?;
    }
    let begun = Instant::now();
    let connected = match way.connect(&addresses).await {
        Ok(connected) => connected,
        Err(error @ ClientError::Unreachable { .. }) => {
            let hint = "is mcpd running there, and is its port open to this machine?";
            return report.fail("connect", &Failure::new(error).hint(hint)).map(|()| false);
        }
        Err(error) => return report.fail("connect", &error.into()).map(|()| false),
    };
    report.ok("connect", format!("{} ({})", connected.peer, took(begun)))?;
    if !way.has_tls() {
        return Ok(true);
    }
    let begun = Instant::now();
    match way.secure(connected).await {
        Ok(certificate) => tls(report, identity, &certificate, begun).map(|()| true),
        Err(error) => report.fail("TLS", &error.into()).map(|()| false),
    }
}

fn tls(
    report: &mut Report,
    identity: &Identity,
    certificate: &Certificate,
    begun: Instant,
) -> Result<(), Failure> {
    let by = match &identity.trust.tls.files().ca {
        Some(ca) => format!("trusted by {}", ca.display()),
        None => "trusted by this machine".to_owned(),
    };
    let Some(end) = certificate.valid_until else {
        return report.ok("TLS", format!("{by} ({})", took(begun)));
    };
    let text = format!("{by}, ends {} ({})", until(end), took(begun));
    if Timestamp::now().saturating_add(RENEWAL).is_ok_and(|then| then >= end) {
        return report.warn("TLS", &text, Some("renew the certificate: mcpd uses a new file within seconds"));
    }
    report.ok("TLS", text)
}

/// Whether mcpd is ready, its version and its clock.
async fn answers(report: &mut Report, identity: &Identity) -> Result<bool, Failure> {
    let at = identity.server.as_str().trim_end_matches('/');
    let client = Client::new(identity.server.clone(), None, &identity.options())?;
    let asked = Timestamp::now();
    let date = match client.readiness().await {
        Ok(date) => date,
        Err(error) => return report.fail("server", &error.into()).map(|()| false),
    };
    let answered = Timestamp::now();
    let document = client.openapi().await;
    let version = document.as_ref().ok().and_then(|document| document.pointer("/info/version"));
    let version = version.and_then(Value::as_str).map(|version| format!(", mcpd {version}"));
    match (version, document) {
        (None, Err(error)) => return report.fail("server", &error.into()).map(|()| false),
        (version, _) => report.ok("server", format!("{at}{}, ready", version.unwrap_or_default()))?,
    }
    if let Some(date) = date {
        clock(report, date, asked, answered)?;
    }
    Ok(true)
}

/// Compares the clocks: mcpd has written its time, without the part of a second, between the two times of this machine.
fn clock(report: &mut Report, date: Timestamp, asked: Timestamp, answered: Timestamp) -> Result<(), Failure> {
    let (behind, ahead) =
        (date.duration_since(answered), asked.duration_since(date) - SignedDuration::from_secs(1));
    let (difference, way) = if behind > ahead { (behind, "behind") } else { (ahead, "ahead of") };
    if difference <= MAX_CLOCK_DIFFERENCE {
        return report.ok("clock", "as mcpd's, within seconds");
    }
    let by = HumanDuration::from_secs(difference.as_secs().unsigned_abs()).in_two_units();
    let text = format!("this machine's is {by} {way} mcpd's");
    report.warn(
        "clock",
        &text,
        Some("set both by NTP: tokens, certificates and signed answers end by the clock"),
    )
}

/// Who is signed in; a client of that account.
async fn signed_in(report: &mut Report, identity: &Identity) -> Result<Option<Client>, Failure> {
    let client = match identity.clone().client() {
        Ok(client) => client,
        Err(failure) => return report.fail("signed in", &failure).map(|()| None),
    };
    let me = match client.whoami().await {
        Ok(me) => me,
        Err(error) => return report.fail("signed in", &error.into()).map(|()| None),
    };
    report.ok("signed in", me.subject.to_string())?;
    let warning = identity.context.as_ref().and_then(|context| expiry::warning_of(context, me.expires_at));
    match warning {
        Some(warning) => report.warn("token", &warning.to_string(), None)?,
        None => report.ok("token", format!("ends {}", until(me.expires_at)))?,
    }
    Ok(Some(client))
}

/// What goes on where mcpd fails.
fn installation(report: &mut Report, installed: &Installation) -> Result<(), Failure> {
    let Installation { database, inference_listener, proxy, tls, .. } = installed;
    match database {
        DatabaseKind::Postgres => report.ok("replicas", "PostgreSQL: several mcpd can serve it")?,
        DatabaseKind::Sqlite => report.warn(
            "replicas",
            "one mcpd on SQLite: while it is down, only agents with an `offlineGrace` answer (mcpctl explain llm.failover.offlineGrace)",
            None,
        )?,
    }
    if *inference_listener {
        report.ok("inference", "has an address of its own: agents fail over where it alone fails")?;
    } else {
        report.warn(
            "inference",
            "shares mcpd's address, so that no probe is answered where it fails: start it with `--inference-listen`",
            None,
        )?;
    }
    match proxy {
        ProxyState::None => {}
        ProxyState::Trusted => report.ok("proxy", "mcpd trusts its `X-Forwarded-For`")?,
        ProxyState::Untrusted => report.warn(
            "proxy",
            "mcpd does not trust it, so that all people behind it share one login throttle: name it in `trustedProxies`",
            None,
        )?,
    }
    if let Some(TlsState { refused: Some(refused), .. }) = tls {
        let failure = Failure::new(format!("mcpd still uses the former one: {refused}"));
        report.fail("certificate", &failure)?;
    }
    Ok(())
}

/// The states of the Llms that the caller may view.
fn models(report: &mut Report, statuses: &[LlmStatus], named: bool) -> Result<(), Failure> {
    if statuses.is_empty() && named {
        return Ok(());
    }
    if statuses.is_empty() {
        let text = "there is none that this account may view";
        let hint = "an administrator makes one (`mcpctl create llm -h`), or binds the account to a role such as llm-user";
        return report.warn("llms", text, Some(hint));
    }
    let failing = [LlmState::Failing, LlmState::BreakerOpen, LlmState::BreakerHalfOpen];
    let count = |wanted: &[LlmState]| statuses.iter().filter(|llm| wanted.contains(&llm.state)).count();
    let counts = [
        (count(&[LlmState::Ok]), "ok"),
        (count(&[LlmState::Unknown]), "not used since mcpd's start"),
        (count(&failing), "failing"),
        (count(&[LlmState::NoCredential]), "without a credential"),
        (count(&[LlmState::Other]), "in a state not known to this version"),
    ];
    let shown = counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
    let shown = shown.collect::<Vec<_>>().join(", ");
    match count(&failing) + count(&[LlmState::NoCredential]) {
        0 => report.ok("llms", shown)?,
        _ => report.warn("llms", &shown, None)?,
    }
    let broken = |llm: &&LlmStatus| !matches!(llm.state, LlmState::Ok | LlmState::Unknown | LlmState::Other);
    for llm in statuses.iter().filter(broken).take(MAX_LLMS) {
        let class =
            llm.last_failure.as_ref().map(|last| format!(", last: {}", last.class)).unwrap_or_default();
        let hint = match llm.state {
            LlmState::NoCredential => {
                format!("mcpctl describe llm {} shows which, and how to attach it again", llm.llm)
            }
            _ => format!("mcpctl llm test {} shows where", llm.llm),
        };
        report.fail(
            &format!("llm {}", llm.llm),
            &Failure::new(format!("{}{class}", llm_state(llm))).hint(hint),
        )?;
    }
    let more = statuses.iter().filter(broken).count().saturating_sub(MAX_LLMS);
    if more > 0 {
        report.fail("llms", &Failure::new(format!("{more} more do not work")).hint("mcpctl get llms"))?;
    }
    Ok(())
}

/// What a test of an Llm has found, a finding for each step that was made.
fn tested(report: &mut Report, test: &LlmTest) -> Result<(), Failure> {
    let many = test.targets.len() > 1;
    for (at, target) in test.targets.iter().enumerate() {
        let llm =
            if many { format!("llm {} target {}", test.llm, at + 1) } else { format!("llm {}", test.llm) };
        for step in &target.steps {
            let what = format!("{llm}, {}", step.step.describe());
            let took = step.millis.map(|millis| format!("{millis} ms"));
            let text = [took, step.note.clone()].into_iter().flatten().collect::<Vec<_>>().join(", ");
            let text = if text.is_empty() { "accepted".to_owned() } else { text };
            match (step.state, &target.problem) {
                (StepState::Skipped, _) => {}
                (StepState::Failed, Some(problem)) => {
                    let finding = Finding::new(what, FindingState::Failed, &problem.reason);
                    report.add(finding.hint(problem.hint.clone()))?;
                }
                (StepState::Ok | StepState::Failed, _) => report.ok(&what, text)?,
            }
        }
    }
    Ok(())
}

fn took(begun: Instant) -> String {
    format!("{} ms", begun.elapsed().as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Shape;

    fn difference(seconds: i64) -> (FindingState, String) {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let mut report = Report::new(Shape::Json);
        clock(&mut report, now + SignedDuration::from_secs(seconds), now, now).unwrap();
        let finding = report.findings().first().unwrap();
        (finding.state, finding.message.clone())
    }

    #[test]
    fn clocks_may_differ_by_seconds() {
        for seconds in [-6, 0, 5] {
            assert_eq!(difference(seconds).0, FindingState::Ok, "{seconds}");
        }
        assert_eq!(
            difference(90),
            (FindingState::Warning, "this machine's is 1m30s behind mcpd's".to_owned())
        );
        assert_eq!(
            difference(-91),
            (FindingState::Warning, "this machine's is 1m30s ahead of mcpd's".to_owned())
        );
    }
}
