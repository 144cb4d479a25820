//! Files as editors, PowerShell and generators write them.

use mcpctl_testkit::daemons::Mcpd;

use crate::shell::Shell;

fn encodings(text: &str) -> [(&'static str, Vec<u8>); 5] {
    let utf16 = |mark: &str, bytes: fn(u16) -> [u8; 2]| {
        format!("{mark}{text}").encode_utf16().flat_map(bytes).collect::<Vec<u8>>()
    };
    [
        ("le", utf16("\u{feff}", u16::to_le_bytes)),
        ("be", utf16("\u{feff}", u16::to_be_bytes)),
        ("bare", utf16("", u16::to_le_bytes)),
        ("bom", format!("\u{feff}{text}").into_bytes()),
        ("crlf", text.replace('\n', "\r\n").into_bytes()),
    ]
}

#[tokio::test]
async fn documents_and_contexts_are_read_in_common_encodings() {
    let mcpd = Mcpd::start().await;
    let shell = Shell::signed_in(&mcpd).await;
    for (name, bytes) in
        encodings("%YAML 1.1\n--- # made by a tool\nkind: User\nname: a\nlabels: {of: NAME}\n")
    {
        std::fs::write(shell.path("f.yaml"), bytes).unwrap();
        let output = shell.run(&["apply", "-f", "f.yaml"]).await;
        assert_eq!(output.code, 0, "{name}: {}", output.stderr);
        shell.run(&["delete", "user", "a"]).await.succeeded();
    }
    let contexts = std::fs::read_to_string(shell.contexts()).unwrap();
    for (name, bytes) in encodings(&contexts) {
        std::fs::write(shell.contexts(), bytes).unwrap();
        let output = shell.run(&["whoami"]).await;
        assert_eq!(output.code, 0, "{name}: {}", output.stderr);
    }
    std::fs::write(shell.path("f.yaml"), b"kind: User\nname: caf\xe9\n").unwrap();
    let error = shell.run(&["apply", "-f", "f.yaml"]).await.failed(1);
    assert_eq!(
        error,
        "error: f.yaml:2:10: the byte 0xE9 is not text in UTF-8\nhint: save the file as UTF-8\n"
    );
}
