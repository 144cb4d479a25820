//! What a test of an Llm found, as it travels: `POST /api/v1/llms/:idOrName/test`.

use serde::{Deserialize, Serialize};
use url::Url;
use utoipa::ToSchema;

use crate::Name;

/// `POST /api/v1/llms/:idOrName/test`: one small request at each of the Llm's targets, step by step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LlmTest {
    /// The Llm's name.
    #[schema(value_type = String)]
    pub llm: Name,
    /// Whether every target answered.
    pub ok: bool,
    /// Its address, or its targets in the order of the document.
    pub targets: Vec<TargetTest>,
}

/// The test of one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetTest {
    /// Its address as in the document, for those who may view and edit the Llm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub url: Option<Url>,
    /// Whether it answered.
    pub ok: bool,
    /// Milliseconds from the beginning to the end of the answer, or to the failure.
    pub millis: u64,
    /// All steps, in the order in which they are made.
    pub steps: Vec<TestStep>,
    /// Why the step failed that did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<TestProblem>,
}

/// One step on the way to the model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TestStep {
    /// Which one.
    pub step: Step,
    /// What came of it.
    pub state: StepState,
    /// How long it took; absent of a step that was over with the one before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub millis: Option<u64>,
    /// What is worth knowing of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A step on the way to a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum Step {
    /// The host's name has addresses.
    Name,
    /// One of them accepts a connection.
    Connect,
    /// The certificate is trusted, and of this host.
    Tls,
    /// What answers there is a model server's API.
    Api,
    /// It accepts the Llm's key.
    Credential,
    /// It has the model.
    Model,
    /// The model writes.
    FirstToken,
    /// The answer comes to its end.
    Answer,
}

impl Step {
    /// All of them, in order.
    pub const ALL: [Self; 8] = [
        Self::Name,
        Self::Connect,
        Self::Tls,
        Self::Api,
        Self::Credential,
        Self::Model,
        Self::FirstToken,
        Self::Answer,
    ];

    /// For people.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Connect => "connect",
            Self::Tls => "TLS",
            Self::Api => "API",
            Self::Credential => "credential",
            Self::Model => "model",
            Self::FirstToken => "first token",
            Self::Answer => "answer",
        }
    }
}

/// What came of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum StepState {
    /// It works.
    Ok,
    /// It failed; the steps after it were not made.
    Failed,
    /// It was not made: not needed here, or not reached.
    Skipped,
}

/// Why a step failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TestProblem {
    /// The class of the failure, as requests of that kind are recorded.
    pub class: String,
    /// What is wrong, in one line.
    pub reason: String,
    /// The next step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_in_the_order_of_their_values() {
        assert!(Step::ALL.is_sorted());
        assert_eq!(serde_json::to_string(&Step::FirstToken).unwrap(), "\"firstToken\"");
    }
}
