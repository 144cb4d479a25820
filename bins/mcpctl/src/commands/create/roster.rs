//! People in a CSV file: `name,displayName,email,groups`, one row each. All rows are checked before any is used, and each error has
//! its line and column. What is done with them is in `onboarding`.

use std::collections::HashMap;

use csv::StringRecord;
use mcpctl_api::{Name, Spec, spec::UserSpec};

use crate::failure::Failure;

/// Errors of one file that are shown.
const MAX_ERRORS: usize = 10;
const COLUMNS: [&str; 4] = ["name", "displayName", "email", "groups"];

/// A person of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Person {
    pub line: u64,
    pub name: Name,
    /// `None` where the file has no such column, or nothing in it.
    pub display_name: Option<String>,
    pub email: Option<String>,
    /// With the column that they are in.
    pub groups: Vec<Name>,
    pub groups_column: usize,
}

/// Reads all rows.
///
/// # Errors
/// Every row that is wrong, each with line and column.
pub(super) fn read(file: &str, text: &str) -> Result<Vec<Person>, Failure> {
    // The reader takes the end of the file for the end of the quotation.
    if !text.matches('"').count().is_multiple_of(2) {
        let line = text.get(..text.rfind('"').unwrap_or_default()).unwrap_or_default().matches('\n').count();
        return Err(wrong(file, line as u64 + 1, 1, "a quotation begins here, and does not end")
            .hint("nothing was written; is the file whole?"));
    }
    let header_line = text.lines().next().unwrap_or_default();
    // Spreadsheets of some languages separate by semicolons.
    let delimiter = if header_line.contains(';') && !header_line.contains(',') { b';' } else { b',' };
    let mut reader =
        csv::ReaderBuilder::new().delimiter(delimiter).trim(csv::Trim::All).from_reader(text.as_bytes());
    let header = reader.headers().map_err(|error| unreadable(file, &error))?.clone();
    let columns = Columns::of(file, &header)?;
    let (mut people, mut errors) = (Vec::new(), Vec::new());
    let mut seen: HashMap<Name, u64> = HashMap::new();
    for record in reader.records() {
        let person = match record {
            Ok(record) => columns.person(&record, line_of(&record, text)),
            Err(error) => {
                errors.push(unreadable(file, &error));
                // What follows a broken quotation is no row.
                break;
            }
        };
        match person {
            Err((line, column, message)) => errors.push(wrong(file, line, column, &message)),
            Ok(person) => match seen.insert(person.name.clone(), person.line) {
                Some(first) => errors.push(wrong(
                    file,
                    person.line,
                    columns.name + 1,
                    &format!("`{}` is on line {first} already", person.name),
                )),
                None => people.push(person),
            },
        }
    }
    all(errors, "nothing was written; correct the file and run it again")?;
    if people.is_empty() {
        return Err(Failure::new(format!("{file}: there is no row below the header"))
            .hint("write a row for each person"));
    }
    Ok(people)
}

/// All errors as one: the first ones are reported, the last one is returned, with the next step.
pub(super) fn all(mut errors: Vec<Failure>, hint: &str) -> Result<(), Failure> {
    let more = errors.len().saturating_sub(MAX_ERRORS);
    errors.truncate(MAX_ERRORS);
    let Some(last) = errors.pop() else { return Ok(()) };
    for error in &errors {
        crate::output::report(error);
    }
    if more > 0 {
        note!("and {more} more");
    }
    Err(last.hint(hint))
}

/// An error at a place of the file; columns count from 1.
pub(super) fn wrong(file: &str, line: u64, column: usize, message: &str) -> Failure {
    Failure::new(format!("{file}:{line}:{column}: {message}"))
}

/// The line of a row. Its position is the end of the row before, and empty lines between are no rows.
fn line_of(record: &StringRecord, text: &str) -> u64 {
    let Some(position) = record.position() else { return 1 };
    let from = usize::try_from(position.byte()).ok().and_then(|from| text.get(from..)).unwrap_or_default();
    let ends = from.bytes().take_while(|byte| matches!(byte, b'\r' | b'\n')).filter(|byte| *byte == b'\n');
    position.line().saturating_add(u64::try_from(ends.count()).unwrap_or_default())
}

fn unreadable(file: &str, error: &csv::Error) -> Failure {
    let line = error.position().map_or(1, csv::Position::line);
    let message = match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("the row has {len} fields, and the header {expected_len}")
        }
        csv::ErrorKind::Utf8 { .. } => "it is not text in UTF-8".to_owned(),
        _ => error.to_string(),
    };
    wrong(file, line, 1, &message)
}

/// Where the columns are.
struct Columns {
    name: usize,
    display_name: Option<usize>,
    email: Option<usize>,
    groups: Option<usize>,
}

impl Columns {
    fn of(file: &str, header: &StringRecord) -> Result<Self, Failure> {
        let mut found: HashMap<&str, usize> = HashMap::new();
        for (at, title) in header.iter().enumerate() {
            let Some(known) = COLUMNS.iter().find(|known| known.eq_ignore_ascii_case(title)) else {
                return Err(wrong(file, 1, at + 1, &format!("`{title}` is not a column"))
                    .hint(format!("the first line names the columns: {}", COLUMNS.join(","))));
            };
            if found.insert(known, at).is_some() {
                return Err(wrong(file, 1, at + 1, &format!("the column `{known}` is there twice")));
            }
        }
        let at = |column: &str| found.get(column).copied();
        let Some(name) = at("name") else {
            return Err(wrong(file, 1, 1, "there is no column `name`")
                .hint(format!("the first line names the columns: {}", COLUMNS.join(","))));
        };
        Ok(Self { name, display_name: at("displayName"), email: at("email"), groups: at("groups") })
    }

    /// The person of a row; an error has its line, its column and what is wrong.
    fn person(&self, record: &StringRecord, line: u64) -> Result<Person, (u64, usize, String)> {
        let text = |column: Option<usize>| {
            let text = column.and_then(|column| record.get(column)).unwrap_or_default();
            (!text.is_empty()).then(|| text.to_owned())
        };
        let name = record.get(self.name).unwrap_or_default();
        let name = name.parse::<Name>().map_err(|error| (line, self.name + 1, error.to_string()))?;
        let groups_column = self.groups.map_or(1, |column| column + 1);
        let groups = text(self.groups).unwrap_or_default();
        let groups = groups
            .split(|c: char| c.is_whitespace() || matches!(c, ',' | ';' | '|'))
            .filter(|group| !group.is_empty())
            .map(|group| group.parse::<Name>().map_err(|error| (line, groups_column, error.to_string())))
            .collect::<Result<Vec<_>, _>>()?;
        let (display_name, email) = (text(self.display_name), text(self.email));
        let spec = UserSpec { display_name, email, ..UserSpec::default() };
        let document = super::document(name.clone(), Spec::User(spec.clone()));
        document.validate().map_err(|error| {
            let column = if error.param == "email" { self.email } else { self.display_name };
            (line, column.map_or(1, |column| column + 1), error.to_string())
        })?;
        let UserSpec { display_name, email, .. } = spec;
        Ok(Person { line, name, display_name, email, groups, groups_column })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        read("p.csv", text).unwrap_err().parts().0.to_owned()
    }

    #[test]
    fn rows_are_read_with_their_groups() {
        let people = read(
            "p.csv",
            "Name,email,groups,displayName\nalice@example.com,alice@example.com,team-a team-b,\"Alice, A.\"\n\nbob,,,\n",
        )
        .unwrap();
        assert_eq!(people[0].name.as_str(), "alice@example.com");
        assert_eq!(people[0].groups.iter().map(Name::as_str).collect::<Vec<_>>(), ["team-a", "team-b"]);
        assert_eq!(people[0].display_name.as_deref(), Some("Alice, A."));
        assert_eq!((people[1].line, &people[1].email, people[1].groups.len()), (4, &None, 0));
        let people = read("p.csv", "name;groups\nalice;\"a;b\"\n").unwrap();
        assert_eq!(people[0].groups.len(), 2);
    }

    #[test]
    fn errors_have_line_and_column() {
        for (text, expected) in [
            ("", "p.csv:1:1: there is no column `name`"),
            ("name\n", "p.csv: there is no row below the header"),
            ("name\na1\n\"a2\n", "p.csv:3:1: a quotation begins here, and does not end"),
            ("name,mail\na,b\n", "p.csv:1:2: `mail` is not a column"),
            ("name,name\na,b\n", "p.csv:1:2: the column `name` is there twice"),
            ("email\na@b\n", "p.csv:1:1: there is no column `name`"),
            ("email,name\nx,alice\ny,Bob\n", "p.csv:3:2: `Bob` is not a name"),
            ("name,email\nalice\n", "p.csv:2:1: the row has 1 fields, and the header 2"),
            ("name\nalice\nbob\nalice\n", "p.csv:4:1: `alice` is on line 2 already"),
            ("name,groups\nalice,a B\n", "p.csv:2:2: `B` is not a name"),
            ("name,email\nalice,a\u{200b}b\n", "p.csv:2:2: email: U+200B"),
        ] {
            assert!(error(text).starts_with(expected), "{text:?}: {}", error(text));
        }
    }
}
