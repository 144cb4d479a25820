//! How a person sees a page: colours and width of the window.

use serde_json::{Value, json};

/// One way to see a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// A wide window in a light desktop.
    Light,
    /// A wide window in a dark desktop.
    Dark,
    /// The width of a telephone, light.
    Narrow,
}

impl View {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Light, Self::Dark, Self::Narrow];

    /// What a screenshot's file has in its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Light => "light",
            Self::Dark => "dark",
            Self::Narrow => "narrow",
        }
    }

    /// Width and height of the window, CSS pixels.
    pub(super) const fn size(self) -> (u64, u64) {
        match self {
            Self::Light | Self::Dark => (1280, 900),
            Self::Narrow => (360, 740),
        }
    }

    /// The media features of the DevTools' `Emulation.setEmulatedMedia`.
    pub(super) fn media(self) -> Value {
        let scheme = if self == Self::Dark { "dark" } else { "light" };
        let features = json!([
            {"name": "prefers-color-scheme", "value": scheme},
            // A screenshot shows the end of a transition.
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]);
        json!({ "features": features })
    }
}
