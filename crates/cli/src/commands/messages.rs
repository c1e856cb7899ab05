//! Messages on the command line: the flags that make one, and how one is shown.

use api::{HeaderValue, Headers, Message, RawJson};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::Args;

use crate::failure::Failure;
use crate::values::{header, millis};

/// Characters of a body that a table shows.
const EXCERPT_CHARS: usize = 60;

/// What a message has besides its body. With several messages, each of them gets it.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Message")]
pub(crate) struct Flags {
    /// Ordering and partitioning key.
    #[arg(long, value_name = "TEXT")]
    key: Option<String>,
    /// A header: NAME=TEXT, or NAME:=JSON for what is not text. May be given several times.
    #[arg(long, value_name = "HEADER", value_parser = header)]
    header: Vec<(String, HeaderValue)>,
    /// MIME type of the body. Without it, a body that is a JSON object or list is `application/json`.
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// Queues do not deliver it before this time has passed.
    #[arg(long, value_name = "TIME", value_parser = millis)]
    delay: Option<u64>,
    /// Queues do not deliver it after this time has passed.
    #[arg(long, value_name = "TIME", value_parser = millis)]
    ttl: Option<u64>,
    /// 0 (lowest) to 255.
    #[arg(long, value_name = "NUMBER")]
    priority: Option<u8>,
    /// What request this answers, or what conversation it belongs to.
    #[arg(long, value_name = "TEXT")]
    correlation_id: Option<String>,
    /// Where an answer goes.
    #[arg(long, value_name = "SUBJECT")]
    reply_to: Option<String>,
    /// What tells this message from all others.
    #[arg(long, value_name = "TEXT")]
    id: Option<String>,
    /// Where a dedup window holds, a message of the same dedup id is taken once.
    #[arg(long, value_name = "TEXT")]
    dedup_id: Option<String>,
    /// It may be lost with the server's process.
    #[arg(long)]
    transient: bool,
}

impl Flags {
    /// Whether something is given that must not stand on more than one message.
    pub(crate) fn names_one(&self) -> bool {
        self.id.is_some() || self.dedup_id.is_some()
    }

    /// Whether messages that have no key of their own get one.
    pub(crate) fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// Puts into a message what it does not have itself.
    pub(crate) fn fill(&self, message: &mut Message) {
        fn put<T: Clone>(to: &mut Option<T>, given: &Option<T>) {
            if to.is_none() {
                to.clone_from(given);
            }
        }
        put(&mut message.key, &self.key);
        put(&mut message.content_type, &self.content_type);
        put(&mut message.delay_ms, &self.delay);
        put(&mut message.ttl_ms, &self.ttl);
        put(&mut message.priority, &self.priority);
        put(&mut message.correlation_id, &self.correlation_id);
        put(&mut message.reply_to, &self.reply_to);
        put(&mut message.id, &self.id);
        put(&mut message.dedup_id, &self.dedup_id);
        message.transient |= self.transient;
        let headers = self.header.iter().map(|(name, value)| (name.clone().into(), value.0.clone()));
        message.headers.0.extend(headers);
    }

    /// A message with this body, in the form that fits it.
    pub(crate) fn message(&self, body: Vec<u8>) -> Message {
        let mut message = Message::default();
        self.fill(&mut message);
        set_body(&mut message, body);
        message
    }
}

/// Gives a message a body: JSON if it says so, or if it is an object or a list and says nothing.
pub(crate) fn set_body(message: &mut Message, body: Vec<u8>) {
    let body = match String::from_utf8(body) {
        Ok(text) => text,
        Err(bytes) => {
            message.base64 = Some(to_base64(bytes.as_bytes()));
            return;
        }
    };
    let may_be_json = match &message.content_type {
        Some(kind) => api::is_json(kind),
        None => body.starts_with(['{', '[']),
    };
    // Blanks around the value would be lost in `body`.
    let json = may_be_json.then(|| RawJson::parse(&body).ok()).flatten().filter(|json| json.get().len() == body.len());
    match json {
        Some(json) => message.body = Some(json),
        None => message.text = Some(body),
    }
}

fn to_base64(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

/// A message's body as bytes.
///
/// # Errors
/// If the server sent what is no message.
pub(crate) fn body(message: &Message) -> Result<Vec<u8>, Failure> {
    Ok(match message {
        Message { body: Some(json), .. } => json.get().as_bytes().to_vec(),
        Message { text: Some(text), .. } => text.as_bytes().to_vec(),
        Message { base64: Some(text), .. } => BASE64
            .decode(text)
            .map_err(|_| Failure::new(crate::failure::Exit::Failed, "the server sent a body that is not base64"))?,
        _ => Vec::new(),
    })
}

/// A body as far as a table shows it, on one line.
pub(crate) fn excerpt(message: &Message) -> String {
    let text = match message {
        Message { body: Some(json), .. } => json.get(),
        Message { text: Some(text), .. } => text,
        Message { base64: Some(text), .. } => return format!("({} bytes, not text)", text.len() / 4 * 3),
        _ => return "(no body)".to_owned(),
    };
    let mut shown: String = text.chars().take(EXCERPT_CHARS).map(printable).collect();
    if text.chars().nth(EXCERPT_CHARS).is_some() {
        shown.push_str("...");
    }
    shown
}

/// Control characters could drive the terminal: a message's body must not.
pub(crate) fn printable(c: char) -> char {
    if c.is_control() { '\u{fffd}' } else { c }
}

/// Headers on one line.
pub(crate) fn headers(headers: &Headers) -> String {
    let one = |(name, value): &(types::Text, types::Value)| {
        let value = match value {
            types::Value::Text(text) => text.as_str().to_owned(),
            other => serde_json::to_string(&HeaderValue(other.clone())).unwrap_or_default(),
        };
        format!("{}={}", name.as_str(), value).chars().map(printable).collect()
    };
    let all: Vec<String> = headers.0.iter().map(one).collect();
    all.join(" ")
}

/// A message for people: a head line, and the body below it.
pub(crate) fn describe(message: &Message, place: &str) -> String {
    let mut head = message.subject.clone().unwrap_or_else(|| "(no subject)".to_owned());
    if let Some(key) = &message.key {
        head.push_str(&format!(" key={key}"));
    }
    head.push_str(&format!(" {place}"));
    let mut head: String = head.chars().map(printable).collect();
    if !message.headers.is_empty() {
        head.push_str(&format!(" {}", headers(&message.headers)));
    }
    let body: String = match message {
        Message { body: Some(json), .. } => json.get().to_owned(),
        Message { text: Some(text), .. } => text.clone(),
        other => excerpt(other),
    };
    let body: String = body.chars().map(|c| if matches!(c, '\n' | '\t') { c } else { printable(c) }).collect();
    format!("{head}\n  {}", body.replace('\n', "\n  "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_takes_the_form_that_fits() {
        let form = |body: &str, kind: Option<&str>| {
            let message = Flags { content_type: kind.map(str::to_owned), ..Flags::default() }.message(body.into());
            serde_json::to_string(&message).unwrap()
        };
        assert_eq!(form(r#"{"a": 1}"#, None), r#"{"body":{"a": 1}}"#);
        assert_eq!(form("5", None), r#"{"text":"5"}"#);
        assert_eq!(form("5", Some("application/json")), r#"{"body":5,"content_type":"application/json"}"#);
        assert_eq!(form(r#"{"a": 1}"#, Some("text/plain")), r#"{"text":"{\"a\": 1}","content_type":"text/plain"}"#);
        assert_eq!(form(" {}", Some("application/json")), r#"{"text":" {}","content_type":"application/json"}"#);
        assert_eq!(form("{no json", None), r#"{"text":"{no json"}"#);
        let bytes = Flags::default().message(vec![0xff]);
        assert_eq!(body(&bytes).unwrap(), [0xff]);
    }

    #[test]
    fn what_is_shown_cannot_drive_a_terminal() {
        let message = Flags::default().message(b"\x1b[2J\nx".to_vec());
        assert!(!excerpt(&message).contains(['\x1b', '\n']));
    }
}
