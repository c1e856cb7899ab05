//! The API's client.

use std::path::PathBuf;
use std::time::Duration;

use api::Problem;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::Args;
use reqwest::{Method, RequestBuilder, Response, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::failure::{Exit, Failure};
use crate::output::Format;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an answer may take that does not wait for anything.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Most items of a page.
const PAGE_ITEMS: &str = "10000";

/// Reads a server's address.
fn address(given: &str) -> Result<Url, String> {
    let wrong = "give an http or https address, such as http://127.0.0.1:7070";
    let url: Url = given.parse().map_err(|_| wrong.to_owned())?;
    // `localhost:7070` is an address too, of scheme `localhost`.
    let usable = matches!(url.scheme(), "http" | "https") && !url.cannot_be_a_base();
    if usable { Ok(url) } else { Err(wrong.to_owned()) }
}

/// Which server, and as whom.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Server")]
pub(crate) struct ClientArgs {
    /// The server.
    #[arg(long, env = "POSTHOUSE_URL", default_value = "http://127.0.0.1:7070", value_name = "URL", value_parser = address, global = true)]
    url: Url,
    /// The namespace that names belong to.
    #[arg(
        long,
        short = 'n',
        env = "POSTHOUSE_NAMESPACE",
        default_value = "default",
        value_name = "NAME",
        global = true
    )]
    pub(crate) namespace: String,
    /// User, together with a password.
    #[arg(long, env = "POSTHOUSE_USER", value_name = "NAME", global = true)]
    user: Option<String>,
    /// The user's password. Better given as POSTHOUSE_PASSWORD: others on this machine can read a command line.
    #[arg(long, env = "POSTHOUSE_PASSWORD", hide_env_values = true, value_name = "PASSWORD", global = true)]
    password: Option<String>,
    /// API token, instead of user and password. Better given as POSTHOUSE_TOKEN.
    #[arg(
        long,
        env = "POSTHOUSE_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN",
        global = true,
        conflicts_with = "password"
    )]
    token: Option<String>,
    /// Authorities that the server's certificate may be signed by, as PEM, instead of the system's.
    #[arg(long, env = "POSTHOUSE_CA", value_name = "FILE", global = true)]
    ca: Option<PathBuf>,
    /// How results are written.
    #[arg(long, short = 'o', env = "POSTHOUSE_OUTPUT", default_value = "table", value_name = "FORMAT", global = true)]
    pub(crate) output: Format,
}

/// A client of one server.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
    namespace: String,
    user: Option<(String, String)>,
    token: Option<String>,
    pub(crate) format: Format,
}

impl Client {
    /// # Errors
    /// If the options do not go together or a file cannot be read.
    pub(crate) fn new(args: &ClientArgs) -> Result<Self, Failure> {
        let user = match (&args.user, &args.password) {
            (Some(user), Some(password)) => Some((user.clone(), password.clone())),
            (None, None) => None,
            (Some(_), None) if args.token.is_some() => None,
            (Some(_), None) => return Err(Failure::usage("--user needs --password (or POSTHOUSE_PASSWORD)")),
            (None, Some(_)) => return Err(Failure::usage("--password needs --user (or POSTHOUSE_USER)")),
        };
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("posthouse/", env!("CARGO_PKG_VERSION")));
        if let Some(path) = &args.ca {
            let wrong = |why: String| Failure::usage(format!("--ca {}: {why}", path.display()));
            let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
            let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| wrong(error.to_string()))?;
            if certificates.is_empty() {
                return Err(wrong("there is no certificate in it".to_owned()));
            }
            builder = builder.tls_certs_only(certificates);
        } else if args.url.scheme() == "http" {
            // Reading the system's authorities takes longer than many a command.
            builder = builder.tls_certs_only([]);
        }
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = builder.build().map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
        Ok(Self {
            http,
            base: args.url.clone(),
            namespace: args.namespace.clone(),
            user,
            token: args.token.clone(),
            format: args.output,
        })
    }

    /// The server.
    pub(crate) fn base(&self) -> &Url {
        &self.base
    }

    /// What an `Authorization` header says, for connections that are not this client's own.
    pub(crate) fn authorization(&self) -> Option<String> {
        match (&self.token, &self.user) {
            (Some(token), _) => Some(format!("Bearer {token}")),
            (None, Some((user, password))) => Some(format!("Basic {}", BASE64.encode(format!("{user}:{password}")))),
            (None, None) => None,
        }
    }

    /// The namespace that names belong to.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The address of something outside of namespaces.
    pub(crate) fn admin(&self, segments: &[&str]) -> Url {
        self.at(&["admin", "v1"], segments)
    }

    /// The address of something in the namespace.
    pub(crate) fn within(&self, segments: &[&str]) -> Url {
        self.at(&["v1", &self.namespace], segments)
    }

    fn at(&self, root: &[&str], segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(root).extend(segments);
        }
        url
    }

    fn request(&self, method: Method, url: Url) -> RequestBuilder {
        let request = self.http.request(method, url);
        match (&self.token, &self.user) {
            (Some(token), _) => request.bearer_auth(token),
            (None, Some((user, password))) => request.basic_auth(user, Some(password)),
            (None, None) => request,
        }
    }

    /// Sends, and gives the answer if it is a good one. `wait` is how long the server itself may wait before it answers; `None` has no
    /// end, for streams.
    async fn send(&self, request: RequestBuilder, wait: Option<Duration>) -> Result<Response, Failure> {
        let request = match wait {
            Some(wait) => request.timeout(wait + ANSWER_TIMEOUT),
            None => request,
        };
        let answer = request.send().await.map_err(|error| self.unreachable(&error))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        let body = answer.bytes().await.map_err(|error| self.unreachable(&error))?;
        Err(match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => problem.into(),
            Err(_) => Failure::new(Exit::Failed, format!("{} answered {status}", self.base))
                .hint("is it a Posthouse server? Its address is given by --url or POSTHOUSE_URL"),
        })
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let why = innermost(error);
        if error.is_timeout() {
            return Failure::new(Exit::Timeout, format!("{} did not answer in time: {why}", self.base));
        }
        let failure = Failure::new(Exit::Connection, format!("{} cannot be reached: {why}", self.base));
        if why.contains("certificate") || why.contains("UnknownIssuer") {
            return failure.hint("--ca FILE names the authority that signed the server's certificate");
        }
        failure.hint("is it running? `posthouse serve` starts one; --url or POSTHOUSE_URL says where it is")
    }

    async fn read<T: DeserializeOwned>(&self, answer: Response) -> Result<T, Failure> {
        let body = answer.bytes().await.map_err(|error| self.unreachable(&error))?;
        serde_json::from_slice(&body).map_err(|error| {
            Failure::new(Exit::Failed, format!("{} answered what this version does not understand: {error}", self.base))
                .hint("is the server of another version? `posthouse status` says which")
        })
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, url: Url) -> Result<T, Failure> {
        self.get_waiting(url, Duration::ZERO).await
    }

    /// As [`get`](Self::get), of what the server may wait for.
    pub(crate) async fn get_waiting<T: DeserializeOwned>(&self, url: Url, wait: Duration) -> Result<T, Failure> {
        let answer = self.send(self.request(Method::GET, url), Some(wait)).await?;
        self.read(answer).await
    }

    /// An answer that is no JSON.
    pub(crate) async fn text(&self, url: Url) -> Result<String, Failure> {
        let answer = self.send(self.request(Method::GET, url), Some(Duration::ZERO)).await?;
        answer.text().await.map_err(|error| self.unreachable(&error))
    }

    pub(crate) async fn put<T: DeserializeOwned>(&self, url: Url, body: &impl Serialize) -> Result<T, Failure> {
        let answer = self.send(self.request(Method::PUT, url).json(body), Some(Duration::ZERO)).await?;
        self.read(answer).await
    }

    pub(crate) async fn post<T: DeserializeOwned>(&self, url: Url, body: &impl Serialize) -> Result<T, Failure> {
        self.post_waiting(url, body, Duration::ZERO).await
    }

    /// As [`post`](Self::post), of what the server may wait for.
    pub(crate) async fn post_waiting<T: DeserializeOwned>(
        &self,
        url: Url,
        body: &impl Serialize,
        wait: Duration,
    ) -> Result<T, Failure> {
        let answer = self.send(self.request(Method::POST, url).json(body), Some(wait)).await?;
        self.read(answer).await
    }

    /// Posts JSON that is not `application/json`, such as a batch.
    pub(crate) async fn post_as<T: DeserializeOwned>(
        &self,
        url: Url,
        content_type: &str,
        body: impl Into<reqwest::Body>,
        wait: Duration,
    ) -> Result<T, Failure> {
        let request = self.request(Method::POST, url).header("content-type", content_type).body(body);
        let answer = self.send(request, Some(wait)).await?;
        self.read(answer).await
    }

    /// As [`post_as`](Self::post_as), looking only at whether it went well.
    pub(crate) async fn tell_as(&self, url: Url, content_type: &str, body: Vec<u8>) -> Result<(), Failure> {
        let request = self.request(Method::POST, url).header("content-type", content_type).body(body);
        self.send(request, Some(Duration::ZERO)).await.map(drop)
    }

    /// Posts and looks only at whether it went well.
    pub(crate) async fn tell(&self, url: Url, body: &impl Serialize) -> Result<(), Failure> {
        self.send(self.request(Method::POST, url).json(body), Some(Duration::ZERO)).await.map(drop)
    }

    /// Deletes; gives the answer's body if there is one.
    pub(crate) async fn delete(&self, url: Url) -> Result<serde_json::Value, Failure> {
        let answer = self.send(self.request(Method::DELETE, url), Some(Duration::ZERO)).await?;
        let body = answer.bytes().await.map_err(|error| self.unreachable(&error))?;
        Ok(serde_json::from_slice(&body).unwrap_or(serde_json::Value::Null))
    }

    /// All pages of a list.
    pub(crate) async fn list<T: DeserializeOwned>(&self, url: Url) -> Result<Vec<T>, Failure> {
        let mut items = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let mut url = url.clone();
            url.query_pairs_mut().append_pair("limit", PAGE_ITEMS);
            if let Some(after) = &after {
                url.query_pairs_mut().append_pair("after", after);
            }
            let page: api::Page<T> = self.get(url).await?;
            items.extend(page.items);
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(items),
            }
        }
    }

    /// Asks for what is too large to be held, and may take long.
    pub(crate) async fn download(&self, url: Url) -> Result<Response, Failure> {
        self.send(self.request(Method::GET, url), None).await
    }

    /// Opens a stream of events.
    pub(crate) async fn stream(&self, url: Url) -> Result<Response, Failure> {
        self.send(self.request(Method::GET, url).header("accept", "text/event-stream"), None).await
    }
}

/// The cause at the bottom: what is above it says only that there is one.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut at = error;
    while let Some(deeper) = at.source() {
        at = deeper;
    }
    at.to_string()
}

/// Adds to an address what a query type says.
///
/// # Errors
/// If the type is none that a query can hold, which is a mistake of ours.
pub(crate) fn with_query(mut url: Url, query: &impl Serialize) -> Result<Url, Failure> {
    let fields = serde_json::to_value(query).map_err(std::io::Error::from)?;
    for (name, value) in fields.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
        let text = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
        url.query_pairs_mut().append_pair(name, &text);
    }
    Ok(url)
}
