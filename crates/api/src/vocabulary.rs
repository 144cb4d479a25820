//! What people who know other programs write, and what takes its place here: each reader of a file has a list of its own, and so has the
//! command line.

mod documents;

use crate::{common_keys::COMMON_KEYS, similar::most_similar};

pub(crate) use documents::DOCUMENTS;
pub use documents::{FLAT, WRAPPERS};

/// Words for one thing in other programs, and what takes their place here.
#[derive(Debug, Clone, Copy)]
pub struct Habit {
    /// Of a file in lower case and without `_`, `-`, `.` and blanks, which do not count: `loglevel` is `log_level` too. Of a command line as
    /// they are typed.
    pub words: &'static [&'static str],
    /// Where the words mean this, because they mean something else at another place: of a file a word that is expected beside them, of a
    /// command line the command before them; empty where they mean it everywhere.
    pub beside: &'static str,
    /// What to write instead.
    pub hint: &'static str,
}

/// The words by which the reader of a file explains mistakes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Vocabulary {
    /// Words of other programs.
    pub habits: &'static [Habit],
    /// Keys whose value is a map or a list of maps, and what one looks like.
    pub forms: &'static [(&'static str, &'static str)],
    /// Whether the keys that every document has are read elsewhere.
    documents: bool,
}

impl Vocabulary {
    /// The words of a configuration file.
    pub const fn of_file(habits: &'static [Habit], forms: &'static [(&'static str, &'static str)]) -> Self {
        Self { habits, forms, documents: false }
    }

    /// What to write in place of an unknown word, where that is clear.
    pub(crate) fn instead<'a>(
        &self,
        word: &str,
        known: impl Iterator<Item = &'a str> + Clone,
    ) -> Option<String> {
        let bare: String = word
            .chars()
            .filter(|c| !matches!(c, '_' | '-' | '.' | ' '))
            .flat_map(char::to_lowercase)
            .collect();
        let fits = |habit: &&Habit| {
            let here = habit.beside.is_empty() || known.clone().any(|other| other == habit.beside);
            here && habit.words.contains(&bare.as_str())
        };
        if let Some(habit) = self.habits.iter().find(fits) {
            return Some(habit.hint.to_owned());
        }
        most_similar(word, known).map(|meant| format!("did you mean `{meant}`?"))
    }

    /// The keys of every document, where those are read elsewhere.
    pub(crate) const fn common_keys(&self) -> &'static [&'static str] {
        if self.documents { &COMMON_KEYS } else { &[] }
    }

    /// What the value of a key looks like.
    pub(crate) fn form(&self, key: &str) -> Option<String> {
        let form = self.forms.iter().find(|(known, _)| *known == key);
        form.map(|(_, form)| format!("write e.g. `{form}`"))
    }
}

/// The message of a type that reads a text which is none of these words; the reader of the file adds the hint.
pub fn not_one_of<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    format!("`{word}`{NOT_ONE_OF}{}", known.join(", "))
}

/// What is between the word and the known ones.
pub(crate) const NOT_ONE_OF: &str = " is not known here, expected one of ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn habit_comes_before_a_similar_word_and_counts_at_its_place_only() {
        const WORDS: Vocabulary = Vocabulary::of_file(
            &[Habit { words: &["loglevel"], beside: "log", hint: "write `log: debug`" }],
            &[("log", "log: debug")],
        );
        let at = |word: &str, known: &[&str]| WORDS.instead(word, known.iter().copied());
        assert_eq!(at("log_Level", &["log", "level"]).as_deref(), Some("write `log: debug`"));
        assert_eq!(at("logLevel", &["logLevels"]).as_deref(), Some("did you mean `logLevels`?"));
        assert_eq!(at("banana", &["log"]), None);
        assert_eq!(WORDS.form("log").as_deref(), Some("write e.g. `log: debug`"));
    }
}
