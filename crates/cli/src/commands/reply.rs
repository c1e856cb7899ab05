//! `reply`: answers requests by a fixed text or by a command.

use std::time::Duration;

use api::Message;
use clap::Args;

use super::{messages, shell};
use crate::client::{Client, with_query};
use crate::failure::{Exit, Failure};
use crate::output;

/// Most bytes of one event that is still incomplete; a server that sends more is none of ours.
const MAX_EVENT_BYTES: usize = 256 * 1024 * 1024;
/// A command that works on a request is not hurried.
const BEAT: Duration = Duration::from_secs(3600);

/// Answer the requests on a subject.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  posthouse reply stock.check '{\"left\": 3}'\n  posthouse reply 'math.*' --exec 'bc' --max 1\n\nA command of --exec gets the request's body on its standard input, and what it writes is the answer."
)]
pub(crate) struct Reply {
    /// Subject pattern: * is one word, # any number of words.
    subject: String,
    /// The answer.
    #[arg(required_unless_present = "exec", conflicts_with = "exec")]
    body: Option<String>,
    /// Run this shell command for each request; what it writes is the answer.
    #[arg(long, value_name = "COMMAND")]
    exec: Option<String>,
    /// Of those who answer under the same group name each request reaches one.
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// End after so many requests.
    #[arg(long, value_name = "COUNT")]
    max: Option<u64>,
    #[command(flatten)]
    message: messages::Flags,
}

pub(crate) async fn run(client: Client, reply: Reply) -> Result<(), Failure> {
    let query = api::LiveQuery { subject: reply.subject.clone(), group: reply.group.clone() };
    let mut stream = client.stream(with_query(client.within(&["live"]), &query)?).await?;
    output::remark(format!("answering requests on {}", reply.subject));
    let mut events = Events::default();
    let mut left = reply.max.unwrap_or(u64::MAX);
    loop {
        let chunk = tokio::select! {
            chunk = stream.chunk() => chunk,
            _ = tokio::signal::ctrl_c() => return Ok(()),
        };
        let chunk = match chunk {
            Ok(Some(chunk)) => chunk,
            Ok(None) => return Err(Failure::new(Exit::Connection, "the server ended the subscription")),
            Err(error) => return Err(Failure::new(Exit::Connection, format!("the subscription broke: {error}"))),
        };
        for (event, data) in events.feed(&chunk)? {
            if event == "lost" {
                output::remark(format!("requests were lost: too many came at once ({data})"));
                continue;
            }
            let request: Message = serde_json::from_str(&data)
                .map_err(|error| Failure::new(Exit::Failed, format!("the server sent what is no message: {error}")))?;
            answer(&client, &reply, &request).await?;
            left = left.saturating_sub(1);
            if left == 0 {
                return Ok(());
            }
        }
    }
}

async fn answer(client: &Client, reply: &Reply, request: &Message) -> Result<(), Failure> {
    // A message that nobody waits for an answer to reached the same subject.
    let Some(reply_to) = &request.reply_to else { return Ok(()) };
    let body = match (&reply.exec, &reply.body) {
        (Some(command), _) => {
            let ended = shell::run(command, request, 1, true, BEAT, || async {}).await?;
            if ended.code != Some(0) {
                output::remark(format!(
                    "the command failed for a request on {}",
                    request.subject.clone().unwrap_or_default()
                ));
                return Ok(());
            }
            ended.output
        }
        (None, body) => body.clone().unwrap_or_default().into_bytes(),
    };
    let answer = reply.message.message(body);
    let query = api::ReplyQuery { correlation_id: request.correlation_id.clone() };
    let url = with_query(client.within(&["reply", reply_to]), &query)?;
    let body = serde_json::to_vec(&answer).map_err(std::io::Error::from)?;
    match client.tell_as(url, api::MESSAGE_TYPE, body).await {
        // Whoever asked may have stopped waiting; others are still to be answered.
        Err(failure) if failure.exit != Exit::Connection => {
            output::remark(failure.to_string());
            Ok(())
        }
        done => done,
    }
}

/// Takes a stream of Server-Sent Events apart. (WHATWG HTML, section 9.2.6.)
#[derive(Default)]
struct Events {
    rest: Vec<u8>,
    name: String,
    data: Vec<String>,
}

impl Events {
    /// Takes what came, and gives the events that it completes, as name and data.
    fn feed(&mut self, chunk: &[u8]) -> Result<Vec<(String, String)>, Failure> {
        self.rest.extend_from_slice(chunk);
        if self.rest.len() > MAX_EVENT_BYTES {
            return Err(Failure::new(Exit::Failed, "the server sent an event without an end"));
        }
        let mut events = Vec::new();
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\r', '\n']);
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => value.clone_into(&mut self.name),
                "data" => self.data.push(value.to_owned()),
                "" if line.is_empty() => {
                    let name = std::mem::take(&mut self.name);
                    let data = std::mem::take(&mut self.data);
                    if !data.is_empty() {
                        events.push((name, data.join("\n")));
                    }
                }
                _ => {}
            }
        }
        Ok(events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_pieces() {
        let mut events = Events::default();
        assert_eq!(events.feed(b": keep alive\n\nevent: mess").unwrap(), []);
        assert_eq!(events.feed(b"age\ndata: {\"a\":\ndata:1}\r\n").unwrap(), []);
        let both = events.feed(b"\ndata: x\n\n").unwrap();
        assert_eq!(both, [("message".to_owned(), "{\"a\":\n1}".to_owned()), (String::new(), "x".to_owned())]);
    }
}
