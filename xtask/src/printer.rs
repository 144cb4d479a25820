//! Output of tasks that take long: in colour and with bars on a terminal, plainly in logs.

use std::io::Write as _;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use owo_colors::OwoColorize as _;

/// Prints to stdout.
#[derive(Debug)]
pub struct Printer {
    plain: bool,
    step: std::cell::Cell<u32>,
}

impl Printer {
    /// A printer; `plain` is without colours and bars.
    pub fn new(plain: bool) -> Self {
        Self { plain, step: std::cell::Cell::new(0) }
    }

    /// The title of a task.
    pub fn title(&self, text: &str) {
        if self.plain { anstream::println!("{text}") } else { anstream::println!("\n{}", text.bold()) }
    }

    /// The heading of the next step, with its number.
    pub fn step(&self, text: &str) {
        self.step.set(self.step.get() + 1);
        let text = format!("{}. {text}", self.step.get());
        if self.plain {
            anstream::println!("\n{text}")
        } else {
            anstream::println!("\n{}", text.cyan().bold())
        }
    }

    /// An explanation.
    pub fn text(&self, text: &str) {
        if self.plain { anstream::println!("   {text}") } else { anstream::println!("   {}", text.dimmed()) }
    }

    /// What is done next.
    pub fn note(&self, text: &str) {
        anstream::println!("   … {text}");
    }

    /// A command that the demo runs, as a person would type it.
    pub fn command(&self, text: &str) {
        if self.plain {
            anstream::println!("   $ {text}")
        } else {
            anstream::println!("   {} {text}", "$".green())
        }
    }

    /// What was seen, and is as it should be.
    pub fn seen(&self, text: &str) {
        if self.plain {
            anstream::println!("   ok: {text}")
        } else {
            anstream::println!("   {} {text}", "✓".green())
        }
    }

    /// The final success.
    pub fn good(&self, text: &str) {
        if self.plain {
            anstream::println!("\nok: {text}")
        } else {
            anstream::println!("\n{}", text.green().bold())
        }
    }

    /// A piece of an answer, as it comes.
    pub fn piece(&self, text: &str) {
        let text = text.replace('\n', "\n     ");
        if self.plain {
            anstream::print!("{text}")
        } else {
            anstream::print!("{}", text.yellow())
        }
        let _ = std::io::stdout().flush();
    }

    /// Ends a line of pieces.
    pub fn line_end(&self) {
        anstream::println!();
    }

    /// A bar for so many bytes; silent where there is no terminal.
    pub fn bar(&self, bytes: u64, what: &str) -> ProgressBar {
        let bar = ProgressBar::new(bytes);
        if self.plain {
            bar.set_draw_target(ProgressDrawTarget::hidden());
            self.note(what);
        }
        let template = "   {msg} {wide_bar} {bytes} of about {total_bytes}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        bar
    }
}
