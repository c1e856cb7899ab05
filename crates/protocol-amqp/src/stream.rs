//! Reading a stream: the log of its topic, from a place on.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use broker::queue::Credit;
use broker::views::ReadFrom;
use broker::{Read, ReadAnswer, ReplayError, Session};
use types::limits::MAX_RECEIVE_WAIT;
use types::{Headers, Timestamp, Value};

use crate::connection::Item;
use crate::fault::Fault;
use crate::limits::{DELIVER_BYTES, DELIVER_MESSAGES};

/// Where a consumer begins.
const OFFSET: &str = "x-stream-offset";

type Reading = Pin<Box<dyn Future<Output = Result<ReadAnswer, ReplayError>> + Send>>;

/// Reads a stream's records one after the other. Each reader has a place of its own; nothing is taken from the stream.
pub(crate) struct StreamReader {
    session: Session,
    topic: String,
    next: ReadFrom,
    reading: Option<Reading>,
    /// What was read and not handed out yet.
    ahead: VecDeque<Item>,
}

impl StreamReader {
    pub(crate) fn new(session: Session, topic: String, from: ReadFrom) -> Self {
        Self { session, topic, next: from, reading: None, ahead: VecDeque::new() }
    }

    /// The next records within the credit.
    ///
    /// # Errors
    /// See [`ReplayError`].
    pub(crate) fn poll_next(
        &mut self,
        context: &mut Context<'_>,
        credit: Credit,
    ) -> Poll<Result<Vec<Item>, ReplayError>> {
        if credit.messages == 0 {
            return Poll::Pending;
        }
        loop {
            if !self.ahead.is_empty() {
                let count = self.ahead.len().min(credit.messages);
                return Poll::Ready(Ok(self.ahead.drain(..count).collect()));
            }
            let reading = self.reading.get_or_insert_with(|| begin(&self.session, &self.topic, self.next));
            let answer = match std::task::ready!(reading.as_mut().poll(context)) {
                Err(ReplayError::OutOfRange { asked, start, end }) => {
                    self.reading = None;
                    // What is asked for is gone, or is still to come: the nearest there is, as RabbitMQ has it.
                    let nearest = if asked < start { ReadFrom::Earliest } else { ReadFrom::Offset(end) };
                    if self.next == nearest {
                        return Poll::Ready(Err(ReplayError::OutOfRange { asked, start, end }));
                    }
                    self.next = nearest;
                    continue;
                }
                answer => answer?,
            };
            self.reading = None;
            self.next = ReadFrom::Offset(answer.next);
            self.ahead = answer.records.into_iter().map(item).collect();
        }
    }
}

fn begin(session: &Session, topic: &str, from: ReadFrom) -> Reading {
    let (session, topic) = (session.clone(), topic.to_owned());
    let max_bytes = usize::try_from(DELIVER_BYTES).unwrap_or(usize::MAX);
    let read = Read { partition: 0, from, max: DELIVER_MESSAGES, max_bytes, wait: MAX_RECEIVE_WAIT };
    Box::pin(async move { session.read(&topic, read).await })
}

fn item(record: broker::views::Record) -> Item {
    Item {
        message: record.message,
        receipt: None,
        redelivered: false,
        attempt: 1,
        offset: Some(record.position.offset.0),
    }
}

/// Where a consumer's arguments say that it begins; behind the newest record if they say nothing. `last` is where the newest record is.
///
/// # Errors
/// 406 if they make no sense.
pub(crate) fn start(arguments: &Headers, last: ReadFrom, now: Timestamp) -> Result<ReadFrom, Fault> {
    let Some((_, value)) = arguments.iter().find(|(name, _)| name.as_str() == OFFSET) else {
        return Ok(ReadFrom::Latest);
    };
    let offset = |offset| ReadFrom::Offset(types::Offset(offset));
    let found = match value {
        Value::Text(text) => match text.as_str() {
            "first" => Some(ReadFrom::Earliest),
            // RabbitMQ's is its last chunk of records; a record is the smallest of chunks.
            "last" => Some(last),
            "next" => Some(ReadFrom::Latest),
            interval => before(interval).map(|ms| ReadFrom::Time(Timestamp(now.0.saturating_sub(ms)))),
        },
        Value::Timestamp(time) => Some(ReadFrom::Time(*time)),
        Value::Int { value, .. } => u64::try_from(*value).ok().map(offset),
        Value::Uint { value, .. } => Some(offset(*value)),
        _ => None,
    };
    found.ok_or_else(|| {
        let why = "invalid arg 'x-stream-offset': 'first', 'last', 'next', an offset, a timestamp or an interval such as '1h'";
        Fault::precondition_failed(why)
    })
}

/// An interval such as `7D` or `30m`, in milliseconds.
fn before(interval: &str) -> Option<i64> {
    let (digits, unit) = interval.split_at_checked(interval.len().checked_sub(1)?)?;
    let seconds = match unit {
        "Y" => 365 * 24 * 3600,
        "M" => 30 * 24 * 3600,
        "D" => 24 * 3600,
        "h" => 3600,
        "m" => 60,
        "s" => 1,
        _ => return None,
    };
    digits.parse::<i64>().ok().filter(|count| *count >= 0)?.checked_mul(seconds * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consumer_begins_where_its_arguments_say() {
        let now = Timestamp(10_000_000);
        let at = |value: Value| start(&vec![(OFFSET.into(), value)], ReadFrom::Offset(types::Offset(3)), now);
        assert_eq!(start(&Vec::new(), ReadFrom::Earliest, now), Ok(ReadFrom::Latest));
        assert_eq!(at("first".into()), Ok(ReadFrom::Earliest));
        assert_eq!(at("next".into()), Ok(ReadFrom::Latest));
        assert_eq!(at("last".into()), Ok(ReadFrom::Offset(types::Offset(3))));
        assert_eq!(at(Value::int(7)), Ok(ReadFrom::Offset(types::Offset(7))));
        assert_eq!(at(Value::Timestamp(Timestamp(5_000))), Ok(ReadFrom::Time(Timestamp(5_000))));
        assert_eq!(at("1h".into()), Ok(ReadFrom::Time(Timestamp(10_000_000 - 3_600_000))));
        for wrong in [Value::from("soon"), Value::from("h"), Value::int(-1), Value::Bool(true), Value::from("")] {
            assert_eq!(at(wrong.clone()).unwrap_err().code, 406, "{wrong:?}");
        }
    }
}
