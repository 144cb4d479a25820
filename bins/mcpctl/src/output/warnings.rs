//! Warnings of mcpd. Those of many resources that differ in one quoted name alone are one line.

use super::Tone;

/// A line names so many, and the number of the others.
const MAX_NAMED: usize = 10;

/// Warnings of several requests, shown together.
#[derive(Debug, Default)]
pub struct Warnings(Vec<Line>);

/// One line: the text between the backticks, and what is quoted where it differs.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    /// The text between backticks is at the odd places.
    parts: Vec<String>,
    /// Where the quotation is that differs, and what is there in each.
    differs: Option<(usize, Vec<String>)>,
}

impl Warnings {
    /// Adds some.
    pub fn add(&mut self, warnings: &[String]) {
        for warning in warnings {
            let parts: Vec<String> = warning.split('`').map(str::to_owned).collect();
            if !self.0.iter_mut().any(|line| line.takes(&parts)) {
                self.0.push(Line { parts, differs: None });
            }
        }
    }

    /// Prints them on stderr.
    pub fn show(self) {
        for line in self.lines() {
            note!(Tone::Warning, "warning:"; " {line}");
        }
    }

    /// Their texts.
    pub fn lines(self) -> Vec<String> {
        self.0.into_iter().map(Line::text).collect()
    }
}

impl Line {
    /// Adds a warning that differs from it in one quotation at most, always the same one; returns whether it does.
    fn takes(&mut self, parts: &[String]) -> bool {
        if parts.len() != self.parts.len() {
            return false;
        }
        let mut places = (0..parts.len()).filter(|at| parts.get(*at) != self.parts.get(*at));
        let (place, others) = (places.next(), places.next());
        let Some(place) = place else { return true };
        // After an odd number of backticks text is not quoted.
        let is_quoted = place % 2 == 1 && parts.len() % 2 == 1;
        let (Some(own), Some(new)) = (self.parts.get(place), parts.get(place)) else { return false };
        match &mut self.differs {
            _ if others.is_some() || !is_quoted => return false,
            None => self.differs = Some((place, vec![own.clone(), new.clone()])),
            Some((at, names)) if *at == place => {
                if !names.contains(new) {
                    names.push(new.clone());
                }
            }
            Some(_) => return false,
        }
        true
    }

    fn text(self) -> String {
        let Some((place, names)) = self.differs else { return self.parts.join("`") };
        let more = names.len().saturating_sub(MAX_NAMED);
        let mut named = names.into_iter().take(MAX_NAMED).collect::<Vec<_>>().join("`, `");
        let mut parts = self.parts;
        if more > 0 {
            named.push_str(&format!("` and {more} more"));
            // The backtick that would follow stands before the number.
            if let Some(after) = parts.get_mut(place + 1) {
                let after = std::mem::take(after);
                named.push_str(&after);
                parts.remove(place + 1);
            }
        }
        if let Some(part) = parts.get_mut(place) {
            *part = named;
        }
        parts.join("`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(warnings: &[&str]) -> Vec<String> {
        let mut all = Warnings::default();
        all.add(&warnings.iter().map(|&text| text.to_owned()).collect::<Vec<_>>());
        all.lines()
    }

    #[test]
    fn warnings_that_differ_in_one_name_are_one_line() {
        let shown = lines(&[
            "Limit `l` denies Llm `a`: write its `price`",
            "Llm `a` sends no key",
            "Limit `l` denies Llm `b`: write its `price`",
            "Limit `l` denies Llm `b`: write its `price`",
            "Limit `m` denies Llm `b`: write its `price`",
            "Limit `l` denies Llm `c`: write its `price`",
        ]);
        assert_eq!(
            shown,
            [
                "Limit `l` denies Llm `a`, `b`, `c`: write its `price`",
                "Llm `a` sends no key",
                "Limit `m` denies Llm `b`: write its `price`",
            ]
        );
        assert_eq!(lines(&["1 token of `a`", "2 tokens of `a`", "odd ` x", "odd ` y"]).len(), 4);
    }

    #[test]
    fn line_names_ten_and_the_number_of_the_others() {
        let many: Vec<String> = (0..13).map(|at| format!("Llm `l{at}` is old")).collect();
        let mut all = Warnings::default();
        many.chunks(2).for_each(|some| all.add(some));
        assert_eq!(
            all.lines(),
            ["Llm `l0`, `l1`, `l2`, `l3`, `l4`, `l5`, `l6`, `l7`, `l8`, `l9` and 3 more is old"]
        );
    }
}
