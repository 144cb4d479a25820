//! An OpenID provider that follows a script, on a free loopback port: it signs what a test wants it to sign, so that
//! every fault can be had. What holds of it is tested on a real provider too.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

/// The provider; it stops when dropped.
pub struct ScriptedIssuer {
    address: SocketAddr,
    shared: Arc<Mutex<Script>>,
    accepting: JoinHandle<()>,
}

/// A response that a test prescribes.
#[derive(Debug, Clone)]
pub struct Prescribed {
    /// The status.
    pub status: u16,
    /// Headers besides the content type, which is JSON.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Bytes,
}

impl Prescribed {
    /// A JSON response.
    pub fn json(status: u16, body: &Value) -> Self {
        Self { status, headers: Vec::new(), body: body.to_string().into() }
    }
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct ReceivedRequest {
    /// Its path.
    pub path: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body as a form.
    pub form: HashMap<String, String>,
}

struct Script {
    /// Signs ID tokens; the last one is in use.
    keys: Vec<(String, EncodingKey)>,
    /// Responses by path, instead of the usual ones.
    prescribed: HashMap<String, Prescribed>,
    received: Vec<ReceivedRequest>,
}

impl ScriptedIssuer {
    /// Starts one with one key, `key-1`.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let script = Script { keys: Vec::new(), prescribed: HashMap::new(), received: Vec::new() };
        let shared = Arc::new(Mutex::new(script));
        let accepting = tokio::spawn(accept(listener, format!("http://{address}"), Arc::clone(&shared)));
        let issuer = Self { address, shared, accepting };
        issuer.rotate("key-1");
        issuer
    }

    /// Its identity.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Replaces all keys by a new one of this id.
    pub fn rotate(&self, kid: &str) {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key");
        let key = EncodingKey::from_ec_der(key.as_ref());
        self.shared.lock().unwrap().keys = vec![(kid.to_owned(), key)];
    }

    /// Responds with this at this path from now on.
    pub fn prescribe(&self, path: &str, response: Prescribed) {
        self.shared.lock().unwrap().prescribed.insert(path.to_owned(), response);
    }

    /// Responds as usual at this path again.
    pub fn relent(&self, path: &str) {
        self.shared.lock().unwrap().prescribed.remove(path);
    }

    /// The requests at this path so far.
    pub fn received(&self, path: &str) -> Vec<ReceivedRequest> {
        let script = self.shared.lock().unwrap();
        script.received.iter().filter(|request| request.path == path).cloned().collect()
    }

    /// The claims of an ID token for this client, valid now.
    pub fn claims(&self, client: &str, subject: &str) -> Value {
        let now = jsonwebtoken::get_current_timestamp();
        json!({"iss": self.url(), "aud": client, "sub": subject, "iat": now, "exp": now + 300})
    }

    /// A token with these claims, signed with the key in use.
    pub fn sign(&self, claims: &Value) -> String {
        let script = self.shared.lock().unwrap();
        let (kid, _) = script.keys.last().expect("a key");
        self.sign_as(&script, kid, claims)
    }

    /// As [`ScriptedIssuer::sign`], under another key id.
    pub fn sign_under(&self, kid: &str, claims: &Value) -> String {
        self.sign_as(&self.shared.lock().unwrap(), kid, claims)
    }

    fn sign_as(&self, script: &Script, kid: &str, claims: &Value) -> String {
        let (_, key) = script.keys.last().expect("a key");
        let header = Header { kid: Some(kid.to_owned()), ..Header::new(Algorithm::ES256) };
        jsonwebtoken::encode(&header, claims, key).expect("a token")
    }

    /// Responds to every exchange with an ID token of these claims.
    pub fn grant(&self, claims: &Value) {
        self.grant_token(&self.sign(claims));
    }

    /// Responds to every exchange with this ID token.
    pub fn grant_token(&self, id_token: &str) {
        let body = json!({"access_token": "unused", "token_type": "Bearer", "id_token": id_token});
        self.prescribe("/token", Prescribed::json(200, &body));
    }
}

impl Drop for ScriptedIssuer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// The discovery document of a provider at this address.
pub fn discovery(url: &str) -> Value {
    json!({
        "issuer": url,
        "authorization_endpoint": format!("{url}/authorize"),
        "token_endpoint": format!("{url}/token"),
        "device_authorization_endpoint": format!("{url}/device"),
        "jwks_uri": format!("{url}/keys"),
        "code_challenge_methods_supported": ["S256"],
    })
}

async fn accept(listener: TcpListener, url: String, shared: Arc<Mutex<Script>>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (url, shared) = (url.clone(), Arc::clone(&shared));
        let service = service_fn(move |request| {
            let (url, shared) = (url.clone(), Arc::clone(&shared));
            async move { Ok::<_, Infallible>(respond(&url, &shared, request).await) }
        });
        tokio::spawn(
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
        );
    }
}

async fn respond(url: &str, shared: &Mutex<Script>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let mut form = HashMap::new();
    if head.method == Method::POST {
        form = form_urlencoded::parse(&body).into_owned().collect();
    }
    let path = head.uri.path().to_owned();
    let mut script = shared.lock().unwrap();
    script.received.push(ReceivedRequest { path: path.clone(), headers: head.headers, form });
    let usual = match path.as_str() {
        "/.well-known/openid-configuration" => Prescribed::json(200, &discovery(url)),
        "/keys" => Prescribed::json(200, &script.public()),
        "/device" => Prescribed::json(
            200,
            &json!({
                "device_code": "device-code-1", "user_code": "WDJB-MJHT", "interval": 1, "expires_in": 60,
                "verification_uri": format!("{url}/device/enter"),
            }),
        ),
        "/token" => Prescribed::json(400, &json!({"error": "invalid_grant"})),
        _ => Prescribed::json(404, &json!({"error": "not_found"})),
    };
    let Prescribed { status, headers, body } = script.prescribed.get(&path).cloned().unwrap_or(usual);
    let mut response = Response::builder().status(status).header("content-type", "application/json");
    for (name, value) in headers {
        response = response.header(name, value);
    }
    response.body(Full::new(body)).expect("a response")
}

impl Script {
    fn public(&self) -> Value {
        let keys = self.keys.iter().map(|(kid, key)| {
            let jwk = Jwk::from_encoding_key(key, Algorithm::ES256).expect("a public key");
            let mut jwk = serde_json::to_value(jwk).expect("JSON");
            jwk["kid"] = kid.clone().into();
            jwk
        });
        json!({"keys": keys.collect::<Vec<_>>()})
    }
}
