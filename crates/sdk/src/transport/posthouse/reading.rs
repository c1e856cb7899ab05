//! Reading topics' logs: from a place on, by key, and from where a name stands.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use api::grpc as g;
use futures_util::future::BoxFuture;
use tokio_stream::Stream;
use tonic::Streaming;
use types::Timestamp;

use super::core::{CallError, Core, Keep};
use super::fault::Fault;
use crate::backoff::Pace;
use crate::transport::{Position, Reader, Record, StartAt, TransportError};

/// Records of one page of a key.
const PAGE: u32 = 1000;

/// A reading of all partitions of a topic.
pub(super) struct Reading {
    core: Keep,
    topic: String,
    parts: Vec<Part>,
    follow: bool,
    /// Which part is looked at first, so that none starves.
    turn: usize,
    pace: Pace,
}

/// The reading of one partition.
struct Part {
    partition: u32,
    from: g::start_at::At,
    /// Where a reading that does not follow ends.
    until: Option<u64>,
    stream: Option<Streaming<g::ReplayResponse>>,
    over: bool,
}

impl Reading {
    pub(super) async fn open(core: &Keep, topic: &str, from: StartAt, follow: bool) -> Result<Self, TransportError> {
        let request = g::GetTopicRequest { namespace: core.namespace.clone(), name: topic.to_owned() };
        let what = format!("topic {topic:?}");
        let found = core
            .call(&what, || {
                let (mut admin, request) = (core.admin(), request.clone());
                async move { admin.get_topic(request).await }
            })
            .await?;
        if found.partitions.is_empty() {
            return Err(TransportError::Invalid(format!("topic {topic:?} keeps no log; give it a retention")));
        }
        let part = |partition: &g::Partition| {
            let from = place(&from, partition);
            let is_empty =
                partition.start >= partition.end || matches!(from, g::start_at::At::Offset(at) if at >= partition.end);
            Part {
                partition: partition.partition,
                from,
                until: (!follow).then_some(partition.end),
                stream: None,
                over: !follow && is_empty,
            }
        };
        let parts = found.partitions.iter().map(part).collect();
        Ok(Self { core: core.clone(), topic: topic.to_owned(), parts, follow, turn: 0, pace: core.pace() })
    }

    async fn take(&mut self) -> Result<Option<Vec<Record>>, TransportError> {
        loop {
            if self.core.closing.is_cancelled() {
                return Err(TransportError::Closed);
            }
            if self.parts.iter().all(|part| part.over) {
                return Ok(None);
            }
            if let Err(fault) = self.connect().await {
                self.heal(fault).await?;
                continue;
            }
            let closing = self.core.closing.clone();
            let answer = tokio::select! {
                biased;
                () = closing.cancelled() => return Err(TransportError::Closed),
                answer = self.next_answer() => answer,
            };
            match answer {
                (at, Ok(Some(answer))) => {
                    self.pace.reset();
                    let records = self.records(at, answer);
                    if !records.is_empty() {
                        return Ok(Some(records));
                    }
                }
                (at, Ok(None)) => {
                    if let Some(part) = self.parts.get_mut(at) {
                        part.stream = None;
                        part.over = !self.follow;
                    }
                }
                (at, Err(status)) => {
                    if let Some(part) = self.parts.get_mut(at) {
                        part.stream = None;
                    }
                    self.heal(Fault::of_status(&status)).await?;
                }
            }
        }
    }

    async fn heal(&mut self, fault: Fault) -> Result<(), TransportError> {
        if !fault.heals() {
            return Err(fault.into_transport(&format!("topic {:?}", self.topic), &self.core.address));
        }
        if self.core.pause(&mut self.pace).await { Ok(()) } else { Err(TransportError::Closed) }
    }

    /// Opens the streams that are not.
    async fn connect(&mut self) -> Result<(), Fault> {
        for part in self.parts.iter_mut().filter(|part| part.stream.is_none() && !part.over) {
            let request = g::ReplayRequest {
                namespace: self.core.namespace.clone(),
                topic: self.topic.clone(),
                partitions: vec![part.partition],
                from: Some(g::StartAt { at: Some(part.from) }),
                follow: self.follow,
                max: None,
            };
            match self.core.reader().replay(request).await {
                Ok(stream) => part.stream = Some(stream.into_inner()),
                Err(status) => return Err(Fault::of_status(&status)),
            }
        }
        Ok(())
    }

    /// What any of the streams gives next.
    async fn next_answer(&mut self) -> (usize, Result<Option<g::ReplayResponse>, tonic::Status>) {
        let count = self.parts.len();
        self.turn = (self.turn + 1) % count;
        let (turn, parts) = (self.turn, &mut self.parts);
        poll_fn(move |context| {
            for at in (turn..count).chain(0..turn) {
                let Some(stream) = parts.get_mut(at).and_then(|part| part.stream.as_mut()) else { continue };
                if let Poll::Ready(answer) = Pin::new(stream).poll_next(context) {
                    return Poll::Ready((at, answer.transpose()));
                }
            }
            Poll::Pending
        })
        .await
    }

    fn records(&mut self, at: usize, answer: g::ReplayResponse) -> Vec<Record> {
        let Some(part) = self.parts.get_mut(at) else { return Vec::new() };
        part.from = g::start_at::At::Offset(answer.next);
        let mut records: Vec<_> = answer.records.into_iter().filter_map(record).collect();
        if let Some(until) = part.until {
            records.retain(|record| record.position.offset < until);
            if answer.next >= until {
                (part.over, part.stream) = (true, None);
            }
        }
        records
    }
}

impl Reader for Reading {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Vec<Record>>, TransportError>> {
        Box::pin(self.take())
    }
}

/// Where the reading of a partition begins. The newest place is an offset from the beginning, so that nothing is missed before the stream is open.
fn place(from: &StartAt, partition: &g::Partition) -> g::start_at::At {
    use g::start_at::{At, Named};
    match from {
        StartAt::Earliest => At::Named(Named::Earliest.into()),
        StartAt::Latest => At::Offset(partition.end),
        StartAt::Time(time) => At::TimeMs(time.0),
        StartAt::Positions(positions) => positions
            .iter()
            .find(|at| at.partition == partition.partition)
            .map_or(At::Named(Named::Earliest.into()), |at| At::Offset(at.offset)),
    }
}

pub(super) fn record(record: g::Record) -> Option<Record> {
    let at = record.position?;
    let message = record.message?.into_message(Timestamp(0)).ok()?;
    Some(Record { position: Position { partition: at.partition, offset: at.offset }, message })
}

impl Core {
    pub(super) async fn read_key(
        &self,
        topic: &str,
        key: &[u8],
        mut from: u64,
        max: u32,
    ) -> Result<Vec<Record>, TransportError> {
        self.check_open()?;
        let mut found = Vec::new();
        let mut left = max;
        while left > 0 {
            let page = left.min(PAGE);
            let request = g::ReadKeyRequest {
                namespace: self.namespace.clone(),
                topic: topic.to_owned(),
                key: key.to_vec().into(),
                max: Some(page),
                from: Some(from),
            };
            let what = format!("topic {topic:?}");
            let answer = self
                .call(&what, || {
                    let (mut reader, request) = (self.reader(), request.clone());
                    async move { reader.read_key(request).await }
                })
                .await?;
            let (count, more) = (u32::try_from(answer.records.len()).unwrap_or(u32::MAX), answer.more);
            found.extend(answer.records.into_iter().filter_map(record));
            left = left.saturating_sub(count);
            if count < page && !more {
                break;
            }
            from = found.last().map_or(from, |record| record.position.offset + 1);
        }
        Ok(found)
    }

    pub(super) async fn last_of_key(&self, topic: &str, key: &[u8]) -> Result<Option<Record>, TransportError> {
        let request = g::LastValueRequest {
            namespace: self.namespace.clone(),
            topic: topic.to_owned(),
            key: key.to_vec().into(),
        };
        let answer = self
            .try_call(|| {
                let (mut reader, request) = (self.reader(), request.clone());
                async move { reader.last_value(request).await }
            })
            .await;
        match answer {
            Ok(found) => Ok(record(found)),
            // A key without a record and a topic that is not there have the same type; the topic's own text names no key.
            Err(CallError::Failed(fault))
                if fault.is_not_found() && fault.detail().contains("no record of this key") =>
            {
                Ok(None)
            }
            Err(error) => Err(error.into_transport(&format!("topic {topic:?}"), &self.address)),
        }
    }

    pub(super) async fn committed(&self, topic: &str, name: &str) -> Result<Vec<Position>, TransportError> {
        let request = g::GetGroupRequest { namespace: self.namespace.clone(), name: group(topic, name) };
        let answer = self
            .try_call(|| {
                let (mut admin, request) = (self.admin(), request.clone());
                async move { admin.get_group(request).await }
            })
            .await;
        match answer {
            Ok(group) => Ok(group
                .partitions
                .into_iter()
                .filter_map(|at| Some(Position { partition: at.partition, offset: at.committed? }))
                .collect()),
            Err(CallError::Failed(fault)) if fault.is_not_found() => Ok(Vec::new()),
            Err(error) => Err(error.into_transport(&format!("the positions of {name:?}"), &self.address)),
        }
    }

    pub(super) async fn commit(&self, topic: &str, name: &str, next: Vec<Position>) -> Result<(), TransportError> {
        let offsets: VecDeque<_> =
            next.into_iter().map(|at| g::Position { partition: at.partition, offset: at.offset }).collect();
        let request = g::CommitGroupRequest {
            namespace: self.namespace.clone(),
            group: group(topic, name),
            offsets: offsets.into(),
            ..g::CommitGroupRequest::default()
        };
        let commit = || {
            let (mut reader, request) = (self.reader(), request.clone());
            async move { reader.commit_group(request).await }
        };
        let what = format!("the positions of {name:?}");
        match self.try_call(commit).await {
            Ok(_) => return Ok(()),
            Err(CallError::Failed(fault)) if fault.is_not_found() => {}
            Err(error) => return Err(error.into_transport(&what, &self.address)),
        }
        // The first commit under this name. Whoever makes the group at the same time makes the same one.
        let config = g::GroupConfig { topic: topic.to_owned(), ..g::GroupConfig::default() };
        let make = g::PutGroupRequest {
            namespace: self.namespace.clone(),
            name: group(topic, name),
            config: Some(config),
            keep: true,
        };
        self.call(&what, || {
            let (mut admin, make) = (self.admin(), make.clone());
            async move { admin.put_group(make).await }
        })
        .await?;
        self.call(&what, commit).await.map(drop)
    }
}

/// The group that keeps the positions of a name in a topic.
fn group(topic: &str, name: &str) -> String {
    format!("{name}@{topic}")
}
