//! Publishing: a stream of frames, or calls of their own.

use std::collections::VecDeque;
use std::time::Instant;

use api::grpc::publisher_client::PublisherClient;
use api::grpc::{Message, PublishConfirm, PublishFrame, PublishOpen, PublishRequest, Target};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tonic::Streaming;

use super::connection::{Connection, MAX_FRAME_BYTES};
use super::{OUTBOUND_FRAMES, gone, outbound, refused};
use crate::bench::driver::{Answered, Frame, Sender};
use crate::failure::{Exit, Failure};

/// A connection that publishes.
pub(in crate::bench) enum Publisher {
    Stream(Stream),
    Calls(Calls),
}

impl Publisher {
    pub(super) async fn open(
        connection: Connection,
        namespace: &str,
        targets: Vec<Target>,
        unary: bool,
    ) -> Result<Self, Failure> {
        let origin = connection.origin();
        let client = PublisherClient::with_origin(connection, origin).max_decoding_message_size(MAX_FRAME_BYTES);
        if unary {
            let (namespace, in_flight) = (namespace.to_owned(), FuturesUnordered::new());
            return Ok(Self::Calls(Calls { client, namespace, targets, in_flight }));
        }
        Stream::open(client, namespace, targets).await.map(Self::Stream)
    }
}

impl Sender for Publisher {
    async fn send(&mut self, frame: Frame) -> Result<(), Failure> {
        match self {
            Self::Stream(stream) => stream.send(frame).await,
            Self::Calls(calls) => {
                calls.send(frame);
                Ok(())
            }
        }
    }

    async fn answered(&mut self) -> Result<Answered, Failure> {
        match self {
            Self::Stream(stream) => stream.answered().await,
            Self::Calls(calls) => match calls.in_flight.next().await {
                Some(answered) => answered,
                None => std::future::pending().await,
            },
        }
    }
}

fn messages(body: &Bytes, count: u32) -> Vec<Message> {
    let message = || Message::from(types::Message { body: Some(body.clone()), ..types::Message::default() });
    (0..count).map(|_| message()).collect()
}

/// A publish stream.
pub(in crate::bench) struct Stream {
    frames: mpsc::Sender<PublishFrame>,
    confirms: Streaming<PublishConfirm>,
    /// What frames say of their target; nothing if there is only one, which the opening frame named.
    targets: Vec<Target>,
    fates: Fates,
}

impl Stream {
    async fn open(
        mut client: PublisherClient<Connection>,
        namespace: &str,
        mut targets: Vec<Target>,
    ) -> Result<Self, Failure> {
        let (frames, waiting) = mpsc::channel(OUTBOUND_FRAMES);
        let to = if targets.len() == 1 { targets.pop() } else { None };
        let open = PublishOpen { namespace: namespace.to_owned(), to, ..PublishOpen::default() };
        let first = PublishFrame { open: Some(open), ..PublishFrame::default() };
        frames.send(first).await.map_err(|_| gone())?;
        let answer = client.publish_stream(outbound(waiting)).await.map_err(|status| refused(&status))?;
        let mut confirms = answer.into_inner();
        confirms.message().await.map_err(|status| refused(&status))?.ok_or_else(gone)?;
        Ok(Self { frames, confirms, targets, fates: Fates::default() })
    }

    async fn send(&mut self, frame: Frame) -> Result<(), Failure> {
        self.fates.sent(frame.since, frame.count);
        let to = self.targets.get(frame.to).cloned();
        let frame = PublishFrame { to, messages: messages(&frame.body, frame.count), ..PublishFrame::default() };
        if self.frames.send(frame).await.is_ok() {
            return Ok(());
        }
        // The stream itself says why.
        Err(self.confirms.message().await.map_or_else(|status| refused(&status), |_| gone()))
    }

    async fn answered(&mut self) -> Result<Answered, Failure> {
        loop {
            if let Some(answered) = self.fates.next() {
                return Ok(answered);
            }
            let confirm = self.confirms.message().await.map_err(|status| refused(&status))?.ok_or_else(gone)?;
            for failure in confirm.failures {
                let why = failure.problem.map(|problem| problem.detail).unwrap_or_default();
                self.fates.failed(failure.first, failure.count, why);
            }
            self.fates.known(confirm.confirmed);
        }
    }
}

/// What became of numbered items that were sent in groups, as far as it is known.
#[derive(Debug, Default)]
pub(super) struct Fates {
    /// Groups whose end is not known.
    groups: VecDeque<(Instant, u32)>,
    /// Number of the first item that was not yet given out.
    given: u64,
    /// Items before this number have their fate.
    known: u64,
    /// First number, how many and why, of failures.
    failures: VecDeque<(u64, u64, String)>,
}

impl Fates {
    pub(super) fn sent(&mut self, since: Instant, count: u32) {
        self.groups.push_back((since, count));
    }

    pub(super) fn failed(&mut self, first: u64, count: u64, why: String) {
        self.failures.push_back((first, count, why));
    }

    pub(super) fn known(&mut self, until: u64) {
        self.known = self.known.max(until);
    }

    /// The next items of one group that have their fate.
    pub(super) fn next(&mut self) -> Option<Answered> {
        let (since, left) = self.groups.front_mut()?;
        let known = u32::try_from(self.known.saturating_sub(self.given)).unwrap_or(u32::MAX);
        let count = known.min(*left);
        if count == 0 {
            return None;
        }
        let since = *since;
        *left -= count;
        if *left == 0 {
            self.groups.pop_front();
        }
        let (from, to) = (self.given, self.given + u64::from(count));
        self.given = to;
        let (mut failed, mut why) = (0, None);
        for (first, count, reason) in &self.failures {
            let overlap = (first + count).min(to).saturating_sub((*first).max(from));
            failed += u32::try_from(overlap).unwrap_or(u32::MAX);
            if overlap > 0 && why.is_none() {
                why = Some(reason.clone());
            }
        }
        self.failures.retain(|(first, count, _)| first + count > to);
        Some(Answered { since, done: count - failed.min(count), failed, why })
    }
}

/// Publishes that are calls of their own.
pub(in crate::bench) struct Calls {
    client: PublisherClient<Connection>,
    namespace: String,
    targets: Vec<Target>,
    in_flight: FuturesUnordered<LocalBoxFuture<'static, Result<Answered, Failure>>>,
}

impl Calls {
    fn send(&mut self, frame: Frame) {
        let mut client = self.client.clone();
        let request = PublishRequest {
            namespace: self.namespace.clone(),
            to: self.targets.get(frame.to).cloned(),
            messages: messages(&frame.body, frame.count),
            ..PublishRequest::default()
        };
        let (since, count) = (frame.since, frame.count);
        self.in_flight.push(Box::pin(async move {
            match client.publish(request).await {
                Ok(answer) => {
                    let routed = answer.get_ref().published.iter().filter(|published| published.routed).count();
                    let done = u32::try_from(routed).unwrap_or(u32::MAX).min(count);
                    let why = (done < count).then(|| "no queue took it".to_owned());
                    Ok(Answered { since, done, failed: count - done, why })
                }
                Err(status) => match refused(&status) {
                    failure if failure.exit == Exit::Connection => Err(failure),
                    failure => Ok(Answered::refused(since, count, failure.what)),
                },
            }
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::clock::now;
    use super::*;

    fn next(fates: &mut Fates) -> Option<(u32, u32)> {
        fates.next().map(|answered| (answered.done, answered.failed))
    }

    #[test]
    fn an_answer_may_end_several_groups_or_a_part_of_one() {
        let mut fates = Fates::default();
        fates.sent(now(), 10);
        fates.sent(now(), 5);
        assert_eq!(next(&mut fates), None);
        fates.known(12);
        assert_eq!(next(&mut fates), Some((10, 0)));
        assert_eq!(next(&mut fates), Some((2, 0)));
        assert_eq!(next(&mut fates), None);
        fates.known(15);
        assert_eq!(next(&mut fates), Some((3, 0)));
        assert_eq!(next(&mut fates), None);
    }

    #[test]
    fn failures_count_where_their_numbers_are() {
        let mut fates = Fates::default();
        fates.sent(now(), 4);
        fates.sent(now(), 4);
        fates.failed(3, 2, "full".to_owned());
        fates.known(8);
        let first = fates.next().unwrap();
        assert_eq!((first.done, first.failed, first.why.as_deref()), (3, 1, Some("full")));
        assert_eq!(next(&mut fates), Some((3, 1)));
        assert!(fates.failures.is_empty(), "what was told is forgotten");
    }
}
