//! Documents: JSON as a request's body, or YAML as a file has it.

use mcpctl_api::{Document, Kind, yaml};

/// What is read as a document is written as one that reads the same.
pub fn run(data: &[u8]) {
    let Some((choice, text)) = crate::choice(data) else { return };
    if choice % 2 == 0 {
        if let Ok(document) = Document::from_json(text) {
            check(&document);
        }
        return;
    }
    let Ok(text) = str::from_utf8(text) else { return };
    for located in yaml::read_documents(text).into_iter().flatten() {
        check(&located.document);
    }
}

fn check(document: &Document) {
    // Documents of these kinds have parts that are not written: values of secrets, and passwords.
    if matches!(document.kind(), Kind::Secret | Kind::User) || document.validate().is_err() {
        return;
    }
    let written = serde_json::to_vec(document).expect("a document is written");
    let again = Document::from_json(&written);
    assert_eq!(again.as_ref(), Ok(document), "{}", String::from_utf8_lossy(&written));
}
