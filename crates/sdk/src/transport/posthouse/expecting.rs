//! Conditional publishes: a call of their own each, whose end is found out also when the connection was lost under way.

use api::grpc as g;
use tokio::time::Instant;

use super::core::Core;
use super::fault::Fault;
use super::ledger::found;
use crate::Envelope;
use crate::transport::{Expected, PublishError, Published, Record};

impl Core {
    pub(super) async fn publish_expecting(
        &self,
        topic: &str,
        messages: Vec<Envelope>,
        expected: Expected,
    ) -> Result<Vec<Published>, PublishError> {
        let Some(key) = messages.first().map(|message| message.key.clone()) else { return Ok(Vec::new()) };
        let Some(key) = key.filter(|key| messages.iter().all(|message| message.key.as_ref() == Some(key))) else {
            let why = "the messages of a conditional publish have one key, which all of them share";
            return Err(PublishError::Refused(why.to_owned()));
        };
        let version = match expected {
            Expected::Nothing => None,
            Expected::Version(offset) => Some(offset),
        };
        let expect = g::Expect { of: g::expect::Of::Key.into(), version };
        let request = g::PublishRequest {
            namespace: self.namespace.clone(),
            to: Some(g::Target { to: Some(g::target::To::Topic(topic.to_owned())) }),
            messages: messages.iter().cloned().map(g::Message::from).collect(),
            options: Some(g::PublishOptions { expect: Some(expect), ..g::PublishOptions::default() }),
            subject: g::PublishRequest::default().subject,
        };
        let since = Instant::now();
        let until = since + self.options.confirm_timeout;
        let (mut pace, mut is_in_doubt) = (self.pace(), false);
        loop {
            let mut client = self.publisher();
            let answer = tokio::select! {
                biased;
                () = self.closing.cancelled(), if !is_in_doubt => return Err(PublishError::Closed),
                answer = tokio::time::timeout_at(until, client.publish(request.clone())) => answer,
            };
            let fault = match answer {
                Ok(Ok(answer)) => return Ok(answer.into_inner().published.iter().map(found).collect()),
                Ok(Err(status)) => Fault::of_status(&status),
                Err(_) => return Err(PublishError::Unconfirmed { waited: since.elapsed() }),
            };
            if is_in_doubt && fault.reason() == "wrong-version" {
                // Perhaps it is our own that went through before the connection was lost.
                let from = version.map_or(0, |version| version + 1);
                let count = u32::try_from(messages.len()).unwrap_or(u32::MAX);
                return match self.read_key(topic, &key, from, count).await {
                    Ok(stored) if is_ours(&stored, &messages) => Ok(stored.iter().map(again).collect()),
                    Ok(_) => Err(fault.into_publish(since.elapsed())),
                    Err(_) => Err(PublishError::Unconfirmed { waited: since.elapsed() }),
                };
            }
            let is_worth_trying = fault.leaves_open() || fault.is_stopping();
            if !is_worth_trying {
                return Err(fault.into_publish(since.elapsed()));
            }
            is_in_doubt |= fault.leaves_open();
            let wait = pace.next();
            if Instant::now() + wait >= until {
                let waited = since.elapsed();
                return Err(if is_in_doubt {
                    PublishError::Unconfirmed { waited }
                } else {
                    fault.into_publish(waited)
                });
            }
            tokio::time::sleep(wait).await;
        }
    }
}

/// Whether these records are these messages, by their ids.
fn is_ours(stored: &[Record], messages: &[Envelope]) -> bool {
    let mut pairs = stored.iter().zip(messages);
    stored.len() == messages.len()
        && pairs.all(|(record, message)| message.id.is_some() && record.message.id == message.id)
}

fn again(record: &Record) -> Published {
    Published { routed: Some(true), duplicate: false, position: Some(record.position) }
}
