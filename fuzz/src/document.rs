//! Documents: JSON as a request's body, or YAML as a file has it.

use mcpctl_api::{Document, Kind, yaml};

/// What is read as a document is written as one that reads the same, in either format and by either way of naming its kind.
pub fn run(data: &[u8]) {
    let Some((choice, text)) = crate::choice(data) else { return };
    if choice % 2 == 0 {
        if let Ok(document) = Document::from_json(text) {
            check(&document);
        }
        for kind in Kind::RESOURCES {
            if let Ok(document) = Document::from_json_as(kind, text) {
                assert_eq!(document.kind(), kind, "a path gives the kind");
                check(&document);
            }
        }
        return;
    }
    let Ok(text) = str::from_utf8(text) else { return };
    for located in yaml::read_documents(text).into_iter().flatten() {
        check(&located.document);
    }
}

fn check(document: &Document) {
    if document.validate().is_err() {
        return;
    }
    let written = serde_json::to_vec(document).expect("a document is written");
    let again = Document::from_json(&written);
    assert_eq!(again.as_ref(), Ok(document), "{}", String::from_utf8_lossy(&written));
    // JSON is YAML, so that what one prints the other reads.
    let text = str::from_utf8(&written).expect("JSON is UTF-8");
    let read: Vec<_> =
        yaml::read_documents(text).expect("JSON is YAML").into_iter().map(|one| one.document).collect();
    assert_eq!(read.as_slice(), std::slice::from_ref(document), "{text}");
}
