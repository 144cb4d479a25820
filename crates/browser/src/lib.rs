//! A headless Chromium that uses pages as a person does: by the words on them. It collects what the browser complains about,
//! and checks pages with axe-core. Only a dev-dependency.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "only tests use this crate; a broken fixture fails the test that uses it"
)]

mod chromedriver;
mod view;

use std::{
    cell::RefCell,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use thirtyfour::{By, Capabilities, WebDriver};

use self::chromedriver::Chromedriver;
pub use self::chromedriver::Processes;
pub use self::view::View;
pub use thirtyfour::{Key, WebElement};

use mcpctl_testkit::{client_table::target, node};

/// The folder in the target folder that gets the screenshots.
pub const SCREENSHOTS: &str = "console-screenshots";
/// A page that is longer is cut off in its screenshot, CSS pixels.
const MAX_SCREENSHOT_HEIGHT: u64 = 4000;
/// How long a test waits for something that has to happen, before it fails: long enough for two loaded cores.
const TIMEOUT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A Chromium with a profile of its own; it ends when dropped.
pub struct Browser {
    driver: WebDriver,
    process: Chromedriver,
    /// Whether pages may run scripts.
    scripts: bool,
}

impl Browser {
    /// Starts one.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts one that trusts servers with the public key of this pin, besides those of the authorities that Chromium knows.
    pub async fn start_trusting(pin: &str) -> Self {
        Self::start_with(&[format!("--ignore-certificate-errors-spki-list={pin}")]).await
    }

    async fn start_with(more: &[String]) -> Self {
        let process = Chromedriver::start().await;
        let Value::Object(capabilities) = process.capabilities(more) else {
            panic!("capabilities are an object")
        };
        let driver = WebDriver::builder(process.url(), Capabilities::from(capabilities))
            .request_timeout(TIMEOUT)
            .connect()
            .await
            .expect("a session");
        let browser = Self { driver, process, scripts: true };
        browser.driver.set_script_timeout(TIMEOUT).await.expect("the timeout");
        browser.see(View::Light).await;
        browser
    }

    /// Starts one that runs no script of any page.
    pub async fn start_without_scripts() -> Self {
        let mut browser = Self::start().await;
        browser.scripts = false;
        browser.allow_scripts(false).await;
        browser
    }

    /// Opens an address and waits until the page is loaded.
    pub async fn open(&self, url: &str) {
        self.driver.goto(url).await.expect("a page");
    }

    /// The processes of this Chromium.
    pub fn processes(&self) -> Processes {
        self.process.processes()
    }

    /// The address of the page.
    pub async fn url(&self) -> String {
        self.driver.current_url().await.expect("an address").into()
    }

    /// The title of the page.
    pub async fn title(&self) -> String {
        self.driver.title().await.expect("a title")
    }

    /// The visible text of the page.
    pub async fn text(&self) -> String {
        self.driver.find(By::Tag("body")).await.expect("a body").text().await.expect("its text")
    }

    /// The source of the page as it is now.
    pub async fn source(&self) -> String {
        self.driver.source().await.expect("the source")
    }

    /// Waits until the page shows a text.
    pub async fn shows(&self, text: &str) {
        let what = format!("the page shows `{text}`");
        self.until(&what, async || self.visible().await?.contains(text).then_some(())).await;
    }

    /// Waits until the page does not show a text.
    pub async fn shows_no(&self, text: &str) {
        let what = format!("the page does not show `{text}`");
        self.until(&what, async || (!self.visible().await?.contains(text)).then_some(())).await;
    }

    /// Waits until the address of the page ends with this.
    pub async fn is_at(&self, end: &str) {
        let at = async || self.driver.current_url().await.ok()?.as_str().ends_with(end).then_some(());
        self.until(&format!("the page is at `{end}`"), at).await;
    }

    /// Clicks the first link, button or summary with this text.
    pub async fn click(&self, text: &str) {
        self.click_by(&control(text)).await;
    }

    /// Clicks the first element of a CSS selector.
    pub async fn click_at(&self, selector: &str) {
        self.click_by(&By::Css(selector)).await;
    }

    /// Replaces what the field with this label contains.
    pub async fn fill(&self, label: &str, value: &str) {
        let field = self.wait_for(&field(label)).await;
        field.clear().await.expect("an empty field");
        field.send_keys(value).await.expect("a filled field");
    }

    /// Chooses an option, by its text, of the list with this label.
    pub async fn choose(&self, label: &str, option: &str) {
        let list = self.wait_for(&field(label)).await;
        let path = format!("./option[normalize-space(.)={}]", quoted(option));
        list.find(By::XPath(path)).await.expect("the option").click().await.expect("a choice");
    }

    /// Sets the checkbox or radio button with this label.
    pub async fn check(&self, label: &str) {
        let field = self.wait_for(&field(label)).await;
        if !field.is_selected().await.expect("its state") {
            field.click().await.expect("a choice");
        }
    }

    /// What the first field with this label contains.
    pub async fn value(&self, label: &str) -> String {
        self.wait_for(&field(label)).await.prop("value").await.expect("its value").unwrap_or_default()
    }

    /// The first element of a CSS selector, once there is one.
    pub async fn element(&self, selector: &str) -> WebElement {
        self.wait_for(&By::Css(selector)).await
    }

    /// The visible texts of all elements of a CSS selector.
    pub async fn texts(&self, selector: &str) -> Vec<String> {
        let mut texts = Vec::new();
        for element in self.driver.find_all(By::Css(selector)).await.expect("elements") {
            texts.push(element.text().await.expect("its text"));
        }
        texts
    }

    /// Presses a key where the focus is.
    pub async fn press(&self, key: Key) {
        let chain = self.driver.action_chain();
        chain.send_keys(key).perform().await.expect("a key");
    }

    /// Types where the focus is.
    pub async fn type_text(&self, text: &str) {
        self.driver.action_chain().send_keys(text).perform().await.expect("keys");
    }

    /// The element that has the focus.
    pub async fn focused(&self) -> WebElement {
        self.driver.active_element().await.expect("the focus")
    }

    /// Presses the tab key until a link, button, summary or field with this text or label has the focus; fails the test where
    /// the whole page has no such stop.
    pub async fn tab_to(&self, text: &str) {
        const MAX_STOPS: usize = 200;
        let mut stops = Vec::new();
        for _ in 0..MAX_STOPS {
            self.press(Key::Tab).await;
            let stop = self.focused().await;
            let name = self.accessible_name(&stop).await;
            if name == text {
                return;
            }
            stops.push(name);
        }
        panic!("`{text}` is not reached by the tab key: {stops:?}");
    }

    /// The name that a screen reader reads for an element.
    pub async fn accessible_name(&self, element: &WebElement) -> String {
        let id = element.cdp_backend_node_id().await.expect("the node");
        let tree = self
            .devtools("Accessibility.getPartialAXTree", json!({"backendNodeId": id, "fetchRelatives": false}))
            .await;
        tree["nodes"][0]["name"]["value"].as_str().unwrap_or_default().trim().to_owned()
    }

    /// Evaluates an expression in the page.
    pub async fn evaluate(&self, expression: &str) -> Value {
        let answer = self.driver.execute(format!("return {expression}"), Vec::new()).await.expect("a value");
        answer.json().clone()
    }

    /// Every cookie, with its attributes as WebDriver names them.
    pub async fn cookies(&self) -> Value {
        let cookies = self.driver.get_all_cookies().await.expect("the cookies");
        serde_json::to_value(cookies).expect("values are JSON")
    }

    /// What the browser complained about since the last call: errors of scripts, violations of the content security policy,
    /// addresses that could not be loaded.
    pub async fn complaints(&self) -> Vec<String> {
        let entries = self.driver.browser_log().await.expect("the log");
        let grave = entries.into_iter().filter(|entry| matches!(entry.level.as_str(), "SEVERE" | "WARNING"));
        grave.map(|entry| entry.message).collect()
    }

    /// What axe-core finds in the page as it is seen now, a line for each element.
    pub async fn violations(&self) -> Vec<String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("axe");
        let modules = tokio::task::spawn_blocking(move || node::packages(&folder)).await.expect("npm");
        let axe = fs::read_to_string(modules.join("axe-core/axe.min.js")).expect("axe-core");
        // Without scripts no promise is kept. What the page itself would run was skipped when it was loaded.
        self.allow_scripts(true).await;
        self.driver.execute(axe, Vec::new()).await.expect("axe-core runs");
        let answer = self.driver.execute_async(RUN_AXE, Vec::new()).await.expect("the findings");
        self.allow_scripts(self.scripts).await;
        answer.convert().expect("lines")
    }

    /// Elements that make the page wider than its window, which then scrolls sideways.
    pub async fn wider_than_window(&self) -> Vec<String> {
        serde_json::from_value(self.evaluate(WIDER_THAN_WINDOW).await).expect("lines")
    }

    /// Parts of the page that scroll sideways; a matrix, which has as many columns as it needs, is left out.
    pub async fn scrolled_sideways(&self) -> Vec<String> {
        serde_json::from_value(self.evaluate(SCROLLED_SIDEWAYS).await).expect("lines")
    }

    /// Looks at the page in each [`View`]: takes a screenshot `NAME-VIEW.png`, and fails the test where axe-core finds something,
    /// the page is wider than the window, a part of it has to be scrolled sideways at the width of a telephone, or the browser complained about anything since the last look.
    pub async fn inspect(&self, name: &str) {
        for view in View::ALL {
            self.see(view).await;
            self.screenshot(&format!("{name}-{}", view.name()), view).await;
            let violations = self.violations().await;
            assert!(violations.is_empty(), "{name}, {}: {violations:#?}", view.name());
            let wide = self.wider_than_window().await;
            assert!(wide.is_empty(), "{name}, {}: wider than the window: {wide:#?}", view.name());
            if view == View::Narrow {
                let sideways = self.scrolled_sideways().await;
                assert!(sideways.is_empty(), "{name}: has to be scrolled sideways: {sideways:#?}");
            }
        }
        self.see(View::Light).await;
        let complaints = self.complaints().await;
        assert!(complaints.is_empty(), "{name}: {complaints:#?}");
    }

    /// Shows the page in a view from now on.
    pub async fn see(&self, view: View) {
        self.devtools("Emulation.setEmulatedMedia", view.media()).await;
        let (width, height) = view.size();
        self.resize(width, height).await;
    }

    /// Gives pages that are loaded from now on the clock of this zone, e.g. `Europe/Berlin`.
    pub async fn in_zone(&self, zone: &str) {
        self.devtools("Emulation.setTimezoneOverride", json!({"timezoneId": zone})).await;
    }

    async fn resize(&self, width: u64, height: u64) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", size).await;
    }

    /// Writes a screenshot of the whole page, which is seen in this view.
    async fn screenshot(&self, name: &str, view: View) {
        let (width, height) = view.size();
        let metrics = self.devtools("Page.getLayoutMetrics", json!({})).await;
        let content = metrics["cssContentSize"]["height"].as_f64().expect("a height");
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a height in pixels")]
        let content = content.ceil() as u64;
        self.resize(width, content.clamp(height, MAX_SCREENSHOT_HEIGHT)).await;
        let folder = target().join(SCREENSHOTS);
        fs::create_dir_all(&folder).expect("a folder");
        self.driver.screenshot(&folder.join(format!("{name}.png"))).await.expect("a screenshot");
        self.resize(width, height).await;
    }

    async fn allow_scripts(&self, allowed: bool) {
        self.devtools("Emulation.setScriptExecutionDisabled", json!({"value": !allowed})).await;
    }

    async fn devtools(&self, method: &str, parameters: Value) -> Value {
        self.driver.cdp().send_raw(method, parameters).await.expect(method)
    }

    async fn visible(&self) -> Option<String> {
        // A page that is about to be replaced has no body for a moment.
        self.driver.find(By::Tag("body")).await.ok()?.text().await.ok()
    }

    /// Polls `condition` until it returns a value; fails the test with what the page shows then.
    async fn until<T>(&self, what: &str, condition: impl AsyncFn() -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(value) = condition().await {
                return value;
            }
            if start.elapsed() > TIMEOUT {
                let (url, text) = (self.url().await, self.text().await);
                panic!("{what}: not within {} s; {url} shows:\n{text}", TIMEOUT.as_secs());
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    async fn wait_for(&self, by: &By) -> WebElement {
        self.until(&format!("{by:?} is there"), async || self.driver.find(by.clone()).await.ok()).await
    }

    /// Clicks an element, and another one in its place where the page was replaced at that moment.
    async fn click_by(&self, by: &By) {
        let refused = RefCell::new(String::new());
        let click = async || {
            let clicked = self.wait_for(by).await.click().await;
            clicked.map_err(|error| refused.replace(error.to_string())).ok()
        };
        let what = format!("{by:?} can be clicked");
        if tokio::time::timeout(TIMEOUT / 2, self.until(&what, click)).await.is_err() {
            panic!("{what}: {}", refused.take());
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The session ends with its process; a request that ends it would block the runtime of the test.
        let _ = self.driver.clone().leak();
    }
}

/// Reads the findings of axe-core as lines.
const RUN_AXE: &str = "
    const done = arguments[arguments.length - 1];
    const lines = result => result.violations.flatMap(({id, help, nodes}) =>
        nodes.map(node => `${id}: ${help}: ${node.html}: ${node.failureSummary}`));
    axe.run(document, {resultTypes: ['violations'], preload: false})
        .then(result => done(lines(result)), error => done([String(error)]));";

/// Some of the elements that make the page wider than its window.
const WIDER_THAN_WINDOW: &str = "(() => {
    const {clientWidth, scrollWidth} = document.documentElement;
    if (scrollWidth <= clientWidth) return [];
    const wide = [...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > clientWidth);
    return [`${scrollWidth} > ${clientWidth}`, ...wide.slice(0, 5).map(e => e.outerHTML.slice(0, 120))];
})()";

/// Parts that are wider than the place they have, and get a scroll bar.
const SCROLLED_SIDEWAYS: &str = "[...document.querySelectorAll('main *')]
    .filter(e => getComputedStyle(e).overflowX === 'auto' && e.scrollWidth > e.clientWidth && !e.querySelector('.matrix'))
    .map(e => `${e.scrollWidth} > ${e.clientWidth}: ${e.outerHTML.slice(0, 120)}`)";

/// A link, a button or a summary with this text.
fn control(text: &str) -> By {
    let text = quoted(text);
    By::XPath(format!(
        "//*[self::a or self::button or self::summary][normalize-space(.)={text} or @aria-label={text}]"
    ))
}

/// A field with this label.
fn field(label: &str) -> By {
    let label = quoted(label);
    By::XPath(format!(
        "//*[self::input or self::select or self::textarea]\
         [@id=//label[normalize-space(.)={label}]/@for or @aria-label={label} or ancestor::label[normalize-space(text())={label}]]"
    ))
}

/// A string of XPath, which has no escapes.
fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') { '"' } else { '\'' };
    format!("{quote}{text}{quote}")
}
