//! A browser without a script: it keeps cookies as browsers do, and sends forms with the hidden fields of their page.

use std::{collections::BTreeMap, sync::Mutex};

use mcpctl_testkit::daemons::Mcpd;
use reqwest::{
    Method, Response, StatusCode,
    header::{HeaderMap, HeaderName, HeaderValue},
    redirect::Policy,
};

/// A page as it was answered.
#[derive(Debug)]
pub struct Page {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub html: String,
}

impl Page {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The value of a hidden field, of its first form.
    pub fn hidden(&self, name: &str) -> String {
        let mark = format!("name=\"{name}\" value=\"");
        let rest = self.html.split(&mark).nth(1).unwrap_or_else(|| panic!("no field {name}: {}", self.html));
        rest.split('"').next().unwrap().to_owned()
    }

    /// The hidden fields of the form that is sent to this address; the form token alone where the page has no such form.
    fn hidden_of(&self, to: &str) -> Vec<(String, String)> {
        let Some(form) = self.html.split(&format!("action=\"{to}\"")).nth(1) else {
            return vec![("form_token".to_owned(), self.hidden("form_token"))];
        };
        let fields = form.split("</form>").next().unwrap().split("type=\"hidden\" name=\"").skip(1);
        let field = |field: &str| {
            let (name, rest) = field.split_once("\" value=\"").unwrap();
            (name.to_owned(), rest.split('"').next().unwrap().replace("&#38;", "&"))
        };
        fields.map(field).collect()
    }

    /// The address that the first link with this text leads to.
    pub fn link(&self, text: &str) -> Option<String> {
        let (before, _) = self.html.split_once(&format!("\">{text}</a>"))?;
        let (_, address) = before.rsplit_once("href=\"")?;
        Some(address.replace("&#38;", "&"))
    }

    /// The texts that stand between these marks.
    pub fn between(&self, before: &str, after: &str) -> Vec<String> {
        let parts = self.html.split(before).skip(1);
        parts.map(|part| part.split(after).next().unwrap().to_owned()).collect()
    }

    #[track_caller]
    pub fn is(&self, status: StatusCode) -> &Self {
        assert_eq!(self.status, status, "{}", self.html);
        self
    }

    #[track_caller]
    pub fn has(&self, text: &str) -> &Self {
        assert!(self.html.contains(text), "no `{text}` in {}", self.html);
        self
    }

    #[track_caller]
    pub fn lacks(&self, text: &str) -> &Self {
        assert!(!self.html.contains(text), "`{text}` in {}", self.html);
        self
    }
}

/// A browser at the console of an mcpd.
pub struct Browser {
    url: String,
    client: reqwest::Client,
    pub cookies: Mutex<BTreeMap<String, String>>,
}

impl Browser {
    pub fn at(mcpd: &Mcpd) -> Self {
        Self::at_url(mcpd.url())
    }

    pub fn at_url(url: &str) -> Self {
        let client = reqwest::Client::builder().redirect(Policy::none()).no_proxy().build().unwrap();
        Self { url: url.to_owned(), client, cookies: Mutex::default() }
    }

    /// A browser in which the user of this token is signed in.
    pub async fn signed_in(mcpd: &Mcpd, token: &str) -> Self {
        let browser = Self::at(mcpd);
        let page = browser.post("/console/sign-in", "/console/sign-in", &[("token", token)]).await;
        page.is(StatusCode::SEE_OTHER);
        browser
    }

    /// The value of the cookie whose name has this text.
    pub fn cookie(&self, name: &str) -> Option<String> {
        let cookies = self.cookies.lock().unwrap();
        cookies.iter().find(|(key, _)| key.contains(name)).map(|(_, value)| value.clone())
    }

    pub async fn get(&self, path: &str) -> Page {
        self.send(Method::GET, path, &[], None).await
    }

    /// Sends a form of the page at `from`, with its hidden fields where they are not given.
    pub async fn post(&self, from: &str, to: &str, fields: &[(&str, &str)]) -> Page {
        let page = self.get(from).await;
        let hidden = page.hidden_of(to);
        let given = |name: &str| fields.iter().any(|(other, _)| *other == name);
        let own = hidden.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let mut all: Vec<_> = own.filter(|(name, _)| !given(name)).collect();
        all.extend(fields);
        self.send_form(to, &all, &[]).await
    }

    /// Sends fields from a page of mcpd's own, with these headers in place of a browser's.
    pub async fn send_form(&self, to: &str, fields: &[(&str, &str)], headers: &[(&str, &str)]) -> Page {
        let mut all = vec![("origin", self.url.as_str()), ("sec-fetch-site", "same-origin")];
        all.retain(|(name, _)| !headers.iter().any(|(other, _)| name == other));
        all.extend(headers.iter().filter(|(_, value)| !value.is_empty()));
        self.send(Method::POST, to, &all, Some(fields)).await
    }

    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        form: Option<&[(&str, &str)]>,
    ) -> Page {
        let mut request = self.client.request(method, format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(HeaderName::try_from(*name).unwrap(), *value);
        }
        let cookies: Vec<String> =
            self.cookies.lock().unwrap().iter().map(|(name, value)| format!("{name}={value}")).collect();
        if !cookies.is_empty() {
            request = request.header("cookie", cookies.join("; "));
        }
        if let Some(fields) = form {
            request = request.form(fields);
        }
        self.keep(request.send().await.unwrap()).await
    }

    async fn keep(&self, response: Response) -> Page {
        let (status, headers) = (response.status(), response.headers().clone());
        for cookie in headers.get_all("set-cookie") {
            self.keep_cookie(cookie);
        }
        Page { status, headers, html: response.text().await.unwrap() }
    }

    /// Keeps a cookie by the rules of `__Host-`.
    fn keep_cookie(&self, cookie: &HeaderValue) {
        let text = cookie.to_str().unwrap();
        let mut parts = text.split("; ");
        let (name, value) = parts.next().unwrap().split_once('=').unwrap();
        let attributes: Vec<&str> = parts.collect();
        assert!(name.starts_with("__Host-"), "{text}");
        for needed in ["Path=/", "Secure", "HttpOnly", "SameSite=Lax"] {
            assert!(attributes.contains(&needed), "{text}");
        }
        assert!(!attributes.iter().any(|attribute| attribute.starts_with("Domain")), "{text}");
        let mut cookies = self.cookies.lock().unwrap();
        if attributes.contains(&"Max-Age=0") {
            cookies.remove(name);
        } else {
            cookies.insert(name.to_owned(), value.to_owned());
        }
    }
}
