//! What the tests of the features share: one namespace over HTTP, in a user's words.

use std::time::Instant;

use serde_json::{Value, json};

use crate::harness::{PATIENCE, Server};
use crate::http::{BATCH, Http, JSON};

/// A namespace of a server, over one connection.
pub(crate) struct Api {
    http: Http,
    namespace: &'static str,
}

impl Api {
    pub(crate) fn new(server: &Server) -> Self {
        Self::within(server, "default")
    }

    pub(crate) fn within(server: &Server, namespace: &'static str) -> Self {
        Self { http: Http::new(server), namespace }
    }

    fn path(&self, path: &str) -> String {
        match path.starts_with('/') {
            true => path.to_owned(),
            false => format!("/v1/{}/{path}", self.namespace),
        }
    }

    /// A request that must succeed. Paths are within the namespace unless they begin with a slash.
    #[track_caller]
    pub(crate) fn get(&mut self, path: &str) -> Value {
        self.http.get(&self.path(path))
    }

    #[track_caller]
    pub(crate) fn put(&mut self, path: &str, body: &Value) -> Value {
        self.http.put(&self.path(path), body)
    }

    #[track_caller]
    pub(crate) fn post(&mut self, path: &str, body: &Value) -> Value {
        self.http.post(&self.path(path), body)
    }

    #[track_caller]
    pub(crate) fn delete(&mut self, path: &str) -> Value {
        self.http.call("DELETE", &self.path(path), "", b"").unwrap().ok()
    }

    /// A request that must fail with this status and problem; gives the problem.
    #[track_caller]
    pub(crate) fn refused(&mut self, status: u16, slug: &str, method: &str, path: &str, body: &Value) -> Value {
        let (kind, bytes) = if body.is_null() { ("", String::new()) } else { (JSON, body.to_string()) };
        let answer = self.http.call(method, &self.path(path), kind, bytes.as_bytes()).unwrap();
        let (found, problem) = answer.problem(status);
        assert_eq!(found, slug, "{problem}");
        problem
    }

    /// Publishes messages as one batch; gives what became of each.
    #[track_caller]
    pub(crate) fn publish(&mut self, to: &str, messages: &[Value]) -> Vec<Value> {
        let (path, body) = (self.path(&batch_path(to)), json!({ "messages": messages }).to_string());
        let answer = self.http.call("POST", &path, BATCH, body.as_bytes()).unwrap().ok();
        answer["published"].as_array().unwrap().clone()
    }

    /// Publishes one text.
    #[track_caller]
    pub(crate) fn text(&mut self, to: &str, text: &str) -> Value {
        self.publish(to, &[json!({ "text": text })]).remove(0)
    }

    /// A publish that must be refused; gives the problem.
    #[track_caller]
    pub(crate) fn publish_refused(&mut self, status: u16, slug: &str, to: &str, messages: &[Value]) -> Value {
        let (path, body) = (self.path(&batch_path(to)), json!({ "messages": messages }).to_string());
        let (found, problem) = self.http.call("POST", &path, BATCH, body.as_bytes()).unwrap().problem(status);
        assert_eq!(found, slug, "{problem}");
        problem
    }

    /// Publishes, and gives the status that is answered.
    pub(crate) fn http_status(&mut self, to: &str, messages: &[Value]) -> u16 {
        let (path, body) = (self.path(&batch_path(to)), json!({ "messages": messages }).to_string());
        self.http.call("POST", &path, BATCH, body.as_bytes()).unwrap().status
    }

    /// Takes what is there, or the first that comes within `wait_ms`.
    #[track_caller]
    pub(crate) fn receive(&mut self, queue: &str, max: u32, wait_ms: u64) -> Vec<Value> {
        let answer = self.post(&format!("queues/{queue}/receive"), &json!({"max": max, "wait_ms": wait_ms}));
        answer["deliveries"].as_array().unwrap().clone()
    }

    /// Takes the next message, which must come.
    #[track_caller]
    pub(crate) fn next(&mut self, queue: &str) -> Value {
        let taken = self.receive(queue, 1, 30_000);
        taken.into_iter().next().unwrap_or_else(|| panic!("nothing came out of {queue}"))
    }

    /// Takes and acknowledges all that is ready; gives the texts.
    #[track_caller]
    pub(crate) fn drain(&mut self, queue: &str) -> Vec<String> {
        let answer = self.post(&format!("queues/{queue}/receive"), &json!({"max": 1000, "auto_ack": true}));
        answer["deliveries"].as_array().unwrap().iter().map(text).collect()
    }

    /// Takes and acknowledges until so many came; gives the texts in order.
    #[track_caller]
    pub(crate) fn take(&mut self, queue: &str, count: usize) -> Vec<String> {
        let mut texts = Vec::new();
        while texts.len() < count {
            let delivery = self.next(queue);
            self.settle(queue, "ack", &delivery);
            texts.push(text(&delivery));
        }
        texts
    }

    /// Settles a delivery.
    #[track_caller]
    pub(crate) fn settle(&mut self, queue: &str, how: &str, delivery: &Value) {
        self.post(&format!("queues/{queue}/{how}"), &json!({ "receipt": delivery["receipt"] }));
    }

    /// Asks until the answer is as wanted: for what happens soon, but not at once.
    #[track_caller]
    pub(crate) fn until(&mut self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // What is asked about may not be there yet.
            let found = self.http.call("GET", &self.path(path), "", b"").unwrap();
            let answer = found.json();
            if found.status / 100 == 2 && wanted(&answer) {
                return answer;
            }
            assert!(Instant::now() < deadline, "{path} still says {answer:#}");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    /// The metrics page's value of a series.
    #[track_caller]
    pub(crate) fn metric(&mut self, series: &str) -> f64 {
        let page = self.http.call("GET", "/metrics", "", b"").unwrap();
        let page = String::from_utf8(page.body).unwrap();
        let line = page.lines().find(|line| line.rsplit_once(' ').is_some_and(|(name, _)| name == series));
        let line = line.unwrap_or_else(|| panic!("{series} is not in\n{page}"));
        line.rsplit_once(' ').unwrap().1.parse().unwrap()
    }
}

fn batch_path(to: &str) -> String {
    match to.split_once('?') {
        Some((to, query)) => format!("{to}/messages?{query}"),
        None => format!("{to}/messages"),
    }
}

/// The text of a delivery, a browsed message or a record.
pub(crate) fn text(of: &Value) -> String {
    of["message"]["text"].as_str().unwrap_or_default().to_owned()
}

/// The texts of the records or messages in an answer's list.
pub(crate) fn texts(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(text).collect()
}
