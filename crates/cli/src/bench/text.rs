//! What the drivers of the JSON protocols share.

use std::time::Instant;

use api::SettleResult;
use bytes::Bytes;

use super::driver::{Answered, Frame};
use crate::failure::Failure;

/// Batches in JSON. Frames of a run are mostly alike, so that the last one is kept: a client that writes the same JSON again and again
/// would only take processor time from the broker.
#[derive(Debug, Default)]
pub(super) struct Batches {
    last: Option<(Bytes, u32, Bytes)>,
}

impl Batches {
    /// `{"messages":[..]}` of a frame.
    ///
    /// # Errors
    /// If the body is no text.
    pub(super) fn of(&mut self, frame: &Frame) -> Result<Bytes, Failure> {
        if let Some((body, count, text)) = &self.last
            && *count == frame.count
            && body.as_ptr() == frame.body.as_ptr()
        {
            return Ok(text.clone());
        }
        let text = Bytes::from(format!("{{\"messages\":{}}}", messages(frame)?));
        self.last = Some((frame.body.clone(), frame.count, text.clone()));
        Ok(text)
    }
}

/// A frame's messages as a list in JSON.
///
/// # Errors
/// If the body is no text.
pub(super) fn messages(frame: &Frame) -> Result<String, Failure> {
    let message = message(&frame.body)?;
    let mut text = String::with_capacity((message.len() + 1) * frame.count as usize + 2);
    text.push('[');
    for at in 0..frame.count {
        if at > 0 {
            text.push(',');
        }
        text.push_str(&message);
    }
    text.push(']');
    Ok(text)
}

/// A message of this body in JSON.
///
/// # Errors
/// If the body is no text.
pub(super) fn message(body: &[u8]) -> Result<String, Failure> {
    let body = std::str::from_utf8(body).map_err(std::io::Error::other)?;
    let body = serde_json::to_string(body).map_err(std::io::Error::from)?;
    Ok(format!("{{\"text\":{body}}}"))
}

/// What became of acknowledgements that were sent at this time.
pub(super) fn settled(since: Instant, results: Vec<SettleResult>) -> Answered {
    let mut answered = Answered { since, done: 0, failed: 0, why: None };
    for result in results {
        if result.ok {
            answered.done += 1;
        } else {
            answered.failed += 1;
            answered.why = answered.why.or(result.problem.map(|problem| problem.detail));
        }
    }
    answered
}

#[cfg(test)]
mod tests {
    use super::super::clock::now;
    use super::*;

    #[test]
    fn a_batch_is_what_the_api_reads() {
        let frame = Frame { to: 0, body: Bytes::from_static(b"a\"b"), count: 3, since: now() };
        let mut batches = Batches::default();
        let text = batches.of(&frame).unwrap();
        let batch: api::Batch = serde_json::from_slice(&text).unwrap();
        let bodies: Vec<_> = batch.messages.iter().map(|message| message.text.as_deref()).collect();
        assert_eq!(bodies, [Some("a\"b"); 3]);
        assert_eq!(batches.of(&frame).unwrap().as_ptr(), text.as_ptr(), "the second time it is there already");
        let other = Frame { body: Bytes::from_static(b"c"), ..frame };
        assert_ne!(batches.of(&other).unwrap(), text);
    }
}
