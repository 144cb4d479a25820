//! `-o custom-columns=NAME:.name,MODEL:.model`: a table whose columns are paths, as in kubectl.

use std::str::FromStr;

use serde_json::Value;

use super::{
    jsonpath::{self, Path},
    table::Table,
};

/// What a cell shows of a field that is not there.
const NONE: &str = "<none>";

/// Columns, each with its header and its path.
#[derive(Debug, Clone)]
pub struct Columns(Vec<(String, Path)>);

impl FromStr for Columns {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let columns = split(text).into_iter().map(|column| {
            let wrong = || format!("`{column}` is not a column; write e.g. NAME:.name,MODEL:.model");
            let (header, path) = column.split_once(':').ok_or_else(wrong)?;
            let header = header.trim();
            let path = path.trim();
            let path = path.strip_prefix('{').and_then(|path| path.strip_suffix('}')).unwrap_or(path);
            if header.is_empty() || path.is_empty() {
                return Err(wrong());
            }
            Ok((header.to_owned(), path.parse()?))
        });
        columns.collect::<Result<Vec<_>, _>>().map(Self)
    }
}

impl Columns {
    /// Reads what a file has for `custom-columns-file`: a line of headers, and a line of paths below it.
    pub fn from_lines(text: &str) -> Result<Self, String> {
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .filter(|line| !line.is_empty())
            .collect();
        let [headers, paths] = lines.as_slice() else {
            return Err("a line of headers and a line of paths belong into the file".to_owned());
        };
        if headers.len() != paths.len() {
            return Err(format!("the file has {} headers and {} paths", headers.len(), paths.len()));
        }
        let columns = headers.iter().zip(paths).map(|(header, path)| {
            let path = path.strip_prefix('{').and_then(|path| path.strip_suffix('}')).unwrap_or(path);
            Ok(((*header).to_owned(), path.parse()?))
        });
        columns.collect::<Result<Vec<_>, String>>().map(Self)
    }

    /// An empty table with the headers, unless there shall be none, and one before them where it is given. Each row is one line, so
    /// that what is copied from it is whole.
    pub fn table(&self, before: Option<&str>, without_header: bool) -> Table {
        let own = self.0.iter().map(|(header, _)| header.as_str());
        let headers = before.into_iter().chain(own).collect::<Vec<_>>();
        Table::new(&headers).in_one_line(true).without_header(without_header)
    }

    /// The paths.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().map(|(_, path)| path)
    }

    /// The cells of a value.
    pub fn row(&self, value: &Value) -> Vec<String> {
        let cell = |(_, path): &(String, Path)| {
            let found = path.find(value, value).into_iter().map(jsonpath::show).collect::<Vec<_>>();
            if found.is_empty() { NONE.to_owned() } else { found.join(",") }
        };
        self.0.iter().map(cell).collect()
    }
}

/// The parts between commas that are outside of brackets and quotes.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut begin, mut depth, mut quote) = (Vec::new(), 0, 0_usize, None);
    for (at, letter) in text.char_indices() {
        match (quote, letter) {
            (Some(open), _) if open == letter => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(letter),
            (None, '[' | '(' | '{') => depth += 1,
            (None, ']' | ')' | '}') => depth = depth.saturating_sub(1),
            (None, ',') if depth == 0 => {
                parts.extend(text.get(begin..at));
                begin = at + 1;
            }
            (None, _) => {}
        }
    }
    parts.extend(text.get(begin..));
    parts
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_show_values_lists_and_missing_fields() {
        let value = json!({"name": "a", "targets": [{"url": "u"}, {"url": "v"}]});
        let columns: Columns =
            "NAME:.name,URLS:{.targets[*].url},ONE:targets[?(@.url=='u,')].url,NO:.no".parse().unwrap();
        assert_eq!(columns.row(&value), ["a", "u,v", NONE, NONE]);
        for wrong in ["NAME", "NAME:", ":.name", "NAME:.name,", "NAME:.a[x]"] {
            assert!(wrong.parse::<Columns>().is_err(), "{wrong}");
        }
        assert_eq!(
            Columns::from_lines("NAME   FIRST\n.name  .targets[0].url\n").unwrap().row(&value),
            ["a", "u"]
        );
        assert!(Columns::from_lines("NAME A\n.name\n").is_err());
    }
}
