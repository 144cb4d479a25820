//! What surrounds each page: its title, the navigation, and the way back to the pages above it.

use super::{
    assets::{ICON, SCRIPT, STYLE},
    links::Link,
    visit::{FormToken, Visit},
};

/// A part of the console that the navigation leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// Llms and their state.
    Llms,
    /// A prompt and its answer.
    Playground,
    /// Keys of providers.
    Secrets,
    /// The caller's own tokens.
    Tokens,
    /// Who may use which Llm.
    Access,
    /// Users, service accounts and groups.
    People,
    /// Usage and cost.
    Usage,
    /// The failover ledger.
    Failovers,
    /// Agents that report, and their engines.
    Agents,
    /// The audit.
    Audit,
}

impl Section {
    /// In the order of the navigation.
    pub const ALL: [Self; 10] = [
        Self::Llms,
        Self::Playground,
        Self::Access,
        Self::People,
        Self::Usage,
        Self::Failovers,
        Self::Agents,
        Self::Audit,
        Self::Secrets,
        Self::Tokens,
    ];

    /// Its name.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Llms => "Llms",
            Self::Playground => "Playground",
            Self::Secrets => "Secrets",
            Self::Tokens => "Your tokens",
            Self::Access => "Access",
            Self::People => "People",
            Self::Usage => "Usage",
            Self::Failovers => "Failovers",
            Self::Agents => "Agents",
            Self::Audit => "Audit",
        }
    }

    /// Its first page.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Llms => "/console/llms",
            Self::Playground => "/console/playground",
            Self::Secrets => "/console/secrets",
            Self::Tokens => "/console/tokens",
            Self::Access => "/console/access",
            Self::People => "/console/people",
            Self::Usage => "/console/usage",
            Self::Failovers => "/console/failovers",
            Self::Agents => "/console/agents",
            Self::Audit => "/console/audit",
        }
    }

    /// A link to it.
    pub fn link(self) -> Link {
        Link { title: self.label().to_owned(), address: self.path().to_owned() }
    }
}

/// What surrounds a page.
pub struct Frame {
    /// The title: the page's own, before that of the console.
    pub title: String,
    /// The section that it belongs to.
    pub section: Option<Section>,
    /// The account that is signed in.
    pub account: Option<String>,
    /// Of each form.
    pub form_token: FormToken,
}

impl Frame {
    /// The frame of a page.
    pub fn new(visit: &Visit, section: Option<Section>, title: impl Into<String>) -> Self {
        Self { title: title.into(), section, account: visit.account.clone(), form_token: visit.form_token }
    }

    /// The sections of the navigation.
    pub fn sections(&self) -> &'static [Section] {
        if self.account.is_some() { &Section::ALL } else { &[] }
    }

    /// Whether a section is the page's own.
    pub fn is_in(&self, section: &Section) -> bool {
        self.section == Some(*section)
    }

    /// Whether the page is the first of its section.
    pub fn is_first(&self) -> bool {
        self.section.is_some_and(|section| section.label() == self.title)
    }

    /// The address of the style sheet.
    pub fn style(&self) -> &'static str {
        &STYLE.address
    }

    /// The address of the script.
    pub fn script(&self) -> &'static str {
        &SCRIPT.address
    }

    /// The address of the icon.
    pub fn icon(&self) -> &'static str {
        &ICON.address
    }
}
