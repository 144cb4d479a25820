//! Lines of comma-separated values (RFC 4180), for spreadsheets and programs.

/// A line of these cells, without its end.
pub fn line<T: AsRef<str>>(cells: impl IntoIterator<Item = T>) -> String {
    cells.into_iter().map(|text| cell(text.as_ref())).collect::<Vec<_>>().join(",")
}

/// A spreadsheet takes a text that begins so for a formula, and providers choose the names of models.
fn cell(text: &str) -> String {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = if is_formula { format!("'{text}") } else { text.to_owned() };
    // Spreadsheets of some languages separate by semicolons.
    match text.contains([',', ';', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn cells_are_quoted_and_never_formulas() {
        let line = super::line(["a", "b, c", "say \"x\"", "=HYPERLINK(1)", "a;=1", "", "1.5"]);
        assert_eq!(line, "a,\"b, c\",\"say \"\"x\"\"\",'=HYPERLINK(1),\"a;=1\",,1.5");
    }
}
