//! What a doctor found: printed as it is found, or kept for programs.

use mcpctl_api::agent::{Finding, FindingState};

use crate::{
    failure::Failure,
    output::{Shape, Tone, finding::found},
};

/// The findings so far.
pub struct Report {
    shape: Shape,
    findings: Vec<Finding>,
}

impl Report {
    /// An empty one.
    pub fn new(shape: Shape) -> Self {
        Self { shape, findings: Vec::new() }
    }

    /// Reports something that works.
    pub fn ok(&mut self, what: &str, text: impl Into<String>) -> Result<(), Failure> {
        self.add(Finding::new(what, FindingState::Ok, text))
    }

    /// Reports something that works, but may not for long.
    pub fn warn(&mut self, what: &str, text: &str, hint: Option<&str>) -> Result<(), Failure> {
        self.add(Finding::new(what, FindingState::Warning, text).hint(hint.map(str::to_owned)))
    }

    /// Reports something that does not work.
    pub fn fail(&mut self, what: &str, failure: &Failure) -> Result<(), Failure> {
        let (message, hint) = failure.parts();
        self.add(Finding::new(what, FindingState::Failed, message).hint(hint.map(str::to_owned)))
    }

    /// Adds a finding.
    pub fn add(&mut self, finding: Finding) -> Result<(), Failure> {
        if matches!(self.shape, Shape::Table | Shape::Wide) {
            print(&finding)?;
        }
        self.findings.push(finding);
        Ok(())
    }

    /// What was found so far.
    #[cfg(test)]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Prints the findings for programs, where they are for programs; returns whether nothing failed.
    pub fn end(self) -> Result<bool, Failure> {
        let well = self.findings.iter().all(|finding| finding.state != FindingState::Failed);
        self.shape.print(&self.findings)?;
        Ok(well)
    }
}

/// The report is the output of the command, so failures go to stdout too.
fn print(finding: &Finding) -> Result<(), Failure> {
    let (tone, word) = match finding.state {
        FindingState::Ok => (Tone::Good, "ok  "),
        FindingState::Warning => (Tone::Warning, "warn"),
        FindingState::Failed => (Tone::Bad, "FAIL"),
    };
    let text = match &finding.hint {
        Some(hint) => format!("{} ({hint})", finding.message),
        None => finding.message.clone(),
    };
    found(tone, word, &finding.what, &text)
}
