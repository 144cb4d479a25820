//! The browser of tests: that it acts as a person does, and that it notices what it is there to notice.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{fs, net::SocketAddr};

use mcpctl_browser::{Browser, Key, SCREENSHOTS, View};
use mcpctl_testkit::daemons::eventually;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

const HEAD: &str = "<!doctype html><html lang=en><head><title>A page</title>\
    <meta name=viewport content='width=device-width'><meta name=color-scheme content='light dark'><link rel=icon href='data:,'></head>";
const FORM: &str = "<body><main><h1>Colours</h1>\
    <form action='/chosen'><p><label for=colour>Colour</label> <input id=colour name=colour></p>\
    <p><label>Shade <select name=shade><option>pale<option>deep</select></label></p>\
    <p><label><input type=checkbox name=mixed> Mixed</label></p><button>Choose</button></form></main>";
const REFUSED: &str =
    "<body><main><h1>Refused</h1><p id=out>before</p></main><script>out.textContent = 'after'</script>";
const POOR: &str = "<body><main><h1>Poor</h1><img src='data:image/gif;base64,R0lGODlhAQABAAAAACw='></main>";
const WIDE: &str = "<body><main><h1>Wide</h1><pre>";

/// Serves the pages above on a free port, with a strict policy.
async fn pages() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = vec![0; 16 << 10];
                let read = stream.read(&mut request).await.unwrap();
                let request = String::from_utf8_lossy(&request[..read]).into_owned();
                let target = request.split_whitespace().nth(1).unwrap_or_default();
                let body = match target {
                    "/form" => FORM.to_owned(),
                    "/refused" => REFUSED.to_owned(),
                    "/poor" => POOR.to_owned(),
                    "/wide" => format!("{WIDE}{}</pre></main>", "long".repeat(400)),
                    _ => format!("<body><main><h1>Chosen</h1><p>{target}</p></main>"),
                };
                let page = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\
                     Content-Security-Policy: default-src 'none'; img-src data:; form-action 'self'\r\n\r\n{HEAD}{body}"
                );
                stream.write_all(page.as_bytes()).await.unwrap();
            });
        }
    });
    address
}

#[tokio::test]
async fn form_is_filled_by_its_labels() {
    let (address, browser) = (pages().await, Browser::start().await);
    browser.open(&format!("http://{address}/form")).await;
    browser.inspect("browser-form").await;
    browser.fill("Colour", "blue").await;
    browser.choose("Shade", "deep").await;
    browser.check("Mixed").await;
    browser.click("Choose").await;
    browser.shows("/chosen?colour=blue&shade=deep&mixed=on").await;
    assert_eq!(browser.title().await, "A page");
    let target = std::env::current_exe().unwrap();
    let target = target.ancestors().find(|folder| folder.ends_with("target")).unwrap();
    let screenshots = View::ALL.map(|view| {
        let file = format!("{SCREENSHOTS}/browser-form-{}.png", view.name());
        let image = fs::read(target.join(&file)).unwrap();
        assert!(image.starts_with(b"\x89PNG"), "{file}");
        image
    });
    assert!(screenshots[0] != screenshots[1] && screenshots[0] != screenshots[2]);
}

#[tokio::test]
async fn keyboard_alone_fills_a_form_without_scripts() {
    let (address, browser) = (pages().await, Browser::start_without_scripts().await);
    browser.open(&format!("http://{address}/form")).await;
    browser.tab_to("Colour").await;
    browser.type_text("green").await;
    browser.tab_to("Choose").await;
    browser.press(Key::Enter).await;
    browser.shows("/chosen?colour=green&shade=pale").await;
    browser.open(&format!("http://{address}/refused")).await;
    browser.shows("before").await;
    browser.inspect("browser-without-scripts").await;
}

#[tokio::test]
async fn faults_of_a_page_are_noticed() {
    let (address, browser) = (pages().await, Browser::start().await);
    browser.open(&format!("http://{address}/refused")).await;
    let complaints = browser.complaints().await;
    assert!(complaints.iter().any(|line| line.contains("Content Security Policy")), "{complaints:?}");
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    browser.open(&format!("http://{address}/poor")).await;
    let violations = browser.violations().await;
    assert!(violations.iter().any(|line| line.starts_with("image-alt: ")), "{violations:?}");
    browser.open(&format!("http://{address}/wide")).await;
    assert_ne!(browser.wider_than_window().await, Vec::<String>::new());
}

#[tokio::test]
async fn browser_ends_with_a_test_that_panics() {
    let browser = Browser::start().await;
    let processes = browser.processes();
    assert!(processes.running().len() > 1, "{processes:?}");
    let test = tokio::spawn(async move {
        browser.open("data:text/html,<title>t</title>").await;
        panic!("a test fails");
    });
    assert!(test.await.unwrap_err().is_panic());
    eventually("Chromium has ended", async || processes.running().is_empty().then_some(())).await;
}
