//! Reading topics' logs, and the groups that remember where they stand in them.

use std::pin::Pin;
use std::time::Duration;

use api::grpc as g;
use api::grpc::reader_server::Reader;
use broker::views::{self as v, ReadFrom, Record};
use broker::{Read, ReplayError, Session};
use futures_util::StreamExt;
use futures_util::stream;
use net::Drain;
use tokio::sync::OwnedSemaphorePermit;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};
use types::{Offset, Timestamp};

use crate::app::{App, stopping};
use crate::caller::{Caller, session};
use crate::failure::Failure;
use crate::input::{self, known};
use crate::limits::{ANSWER_BYTES, DELIVER_BYTES, MAX_ANSWER_MESSAGES, REPLAY_WAIT};
use crate::views;

type Answer = Result<g::ReplayResponse, Status>;

/// `posthouse.v1.Reader`.
pub(crate) struct Reading(pub(crate) App);

/// The reading of one partition.
struct Follow {
    session: Session,
    drain: Drain,
    topic: String,
    partition: u32,
    at: Offset,
    /// Where a reading that does not follow ends: the log's end when it began.
    until: Option<Offset>,
}

impl Follow {
    /// The next records; `None` at the end.
    async fn next(mut self) -> Option<(Answer, Option<Self>)> {
        loop {
            if self.until.is_some_and(|until| self.at >= until) {
                return None;
            }
            let read = Read {
                partition: self.partition,
                from: ReadFrom::Offset(self.at),
                max: MAX_ANSWER_MESSAGES,
                max_bytes: usize::try_from(DELIVER_BYTES).unwrap_or(usize::MAX),
                wait: if self.until.is_some() { Duration::ZERO } else { REPLAY_WAIT },
            };
            let answer = tokio::select! {
                answer = self.session.read(&self.topic, read) => answer,
                () = self.drain.begun() => return Some((Err(stopping().into()), None)),
            };
            let mut answer = match answer {
                Ok(answer) => answer,
                Err(error) => return Some((Err(Failure::from(error).into()), None)),
            };
            if let Some(until) = self.until {
                answer.records.retain(|record| record.position.offset < until);
            }
            let stuck = answer.next <= self.at;
            self.at = answer.next;
            if answer.records.is_empty() {
                if stuck && self.until.is_some() {
                    return None;
                }
                continue;
            }
            let response = g::ReplayResponse {
                partition: self.partition,
                records: answer.records.into_iter().map(record).collect(),
                next: answer.next.0,
                end: answer.end.0,
            };
            return Some((Ok(response), Some(self)));
        }
    }
}

/// Ends after so many records, and with the first error.
fn bounded(
    answers: impl Stream<Item = Answer> + Send + 'static,
    max: Option<u64>,
    permit: OwnedSemaphorePermit,
) -> impl Stream<Item = Answer> + Send {
    let left = max.unwrap_or(u64::MAX);
    stream::unfold((Box::pin(answers), left, permit), |(mut answers, left, permit)| async move {
        if left == 0 {
            return None;
        }
        let mut answer = answers.next().await?;
        let left = match &mut answer {
            Ok(answer) => {
                answer.records.truncate(usize::try_from(left).unwrap_or(usize::MAX));
                if let Some(last) = answer.records.last().and_then(|record| record.position) {
                    answer.next = answer.next.min(last.offset + 1);
                }
                left - answer.records.len() as u64
            }
            Err(_) => 0,
        };
        Some((answer, (answers, left, permit)))
    })
}

#[tonic::async_trait]
impl Reader for Reading {
    type ReplayStream = Pin<Box<dyn Stream<Item = Answer> + Send>>;

    async fn replay(&self, request: Request<g::ReplayRequest>) -> Result<Response<Self::ReplayStream>, Status> {
        let caller = Caller::of(&self.0, &request).await?;
        let permit = self.0.stream()?;
        let request = request.into_inner();
        let session = caller.session(&self.0, &request.namespace)?;
        let from = start(request.from, ReadFrom::Earliest)?;
        let topic = session.topic(&request.topic).map_err(Failure::from)?;
        let count = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
        if count == 0 {
            return Err(Failure::from(ReplayError::NoLog(request.topic)).into());
        }
        let mut partitions = request.partitions;
        partitions.sort_unstable();
        partitions.dedup();
        if partitions.is_empty() {
            partitions = (0..count).collect();
        }
        let mut parts = Vec::with_capacity(partitions.len().min(topic.partitions.len()));
        for partition in partitions {
            // A first look tells what is wrong with the topic, partition or offset before the stream begins.
            let read = Read { partition, from, max: 1, max_bytes: 1, wait: Duration::ZERO };
            let first = session.read(&request.topic, read).await.map_err(Failure::from)?;
            let at = first.records.first().map_or(first.next, |record| record.position.offset);
            let follow = Follow {
                session: session.clone(),
                drain: caller.drain.clone(),
                topic: request.topic.clone(),
                partition,
                at,
                until: (!request.follow).then_some(first.end),
            };
            let part = stream::unfold(Some(follow), |follow| async move { follow?.next().await });
            parts.push(Box::pin(part));
        }
        Ok(Response::new(Box::pin(bounded(stream::select_all(parts), request.max, permit))))
    }

    async fn last_value(&self, request: Request<g::LastValueRequest>) -> Result<Response<g::Record>, Status> {
        let session = session(&self.0, &request, &request.get_ref().namespace).await?;
        let request = request.into_inner();
        let found = session.last_value(&request.topic, &request.key).map_err(Failure::from)?;
        let missing = || Failure::not_found(format!("topic {:?} has no record of this key", request.topic));
        Ok(Response::new(record(found.ok_or_else(missing)?)))
    }

    async fn read_key(&self, request: Request<g::ReadKeyRequest>) -> Result<Response<g::Records>, Status> {
        let session = session(&self.0, &request, &request.get_ref().namespace).await?;
        let request = request.into_inner();
        let max = input::max_messages(request.max, 100)?;
        let from = Offset(request.from.unwrap_or(0));
        let found = session.read_key(&request.topic, &request.key, from, max).map_err(Failure::from)?;
        Ok(Response::new(records(found)))
    }

    async fn join_group(
        &self,
        request: Request<g::JoinGroupRequest>,
    ) -> Result<Response<g::JoinGroupResponse>, Status> {
        let session = session(&self.0, &request, &request.get_ref().namespace).await?;
        let request = request.into_inner();
        let joined = session.join_group(&request.group, &request.member).map_err(Failure::from)?;
        let (generation, partitions) = joined;
        Ok(Response::new(g::JoinGroupResponse { generation, partitions }))
    }

    async fn leave_group(
        &self,
        request: Request<g::LeaveGroupRequest>,
    ) -> Result<Response<g::LeaveGroupResponse>, Status> {
        let session = session(&self.0, &request, &request.get_ref().namespace).await?;
        let request = request.into_inner();
        session.leave_group(&request.group, &request.member).map_err(Failure::from)?;
        Ok(Response::new(g::LeaveGroupResponse {}))
    }

    async fn fetch_group(&self, request: Request<g::FetchGroupRequest>) -> Result<Response<g::Records>, Status> {
        let caller = Caller::of(&self.0, &request).await?;
        let request = request.into_inner();
        let session = caller.session(&self.0, &request.namespace)?;
        let (wait, max) = (input::wait(request.wait_ms)?, input::max_messages(request.max, 100)?);
        let fetching = session.fetch_group(&request.group, &request.member, request.generation, max, wait);
        let found = self.0.waiting(&caller.drain, wait, fetching).await?.transpose().map_err(Failure::from)?;
        Ok(Response::new(records(found.unwrap_or_default())))
    }

    async fn commit_group(
        &self,
        request: Request<g::CommitGroupRequest>,
    ) -> Result<Response<g::CommitGroupResponse>, Status> {
        let session = session(&self.0, &request, &request.get_ref().namespace).await?;
        let request = request.into_inner();
        let member = match (&request.member, request.generation) {
            (Some(member), Some(generation)) => Some((member.as_str(), generation)),
            (None, None) => None,
            _ => return Err(Failure::invalid("member", "`member` and `generation` go together").into()),
        };
        let offsets: Vec<_> = request.offsets.iter().map(|at| (at.partition, Offset(at.offset))).collect();
        session.commit_group(&request.group, member, &offsets).await.map_err(Failure::from)?;
        Ok(Response::new(g::CommitGroupResponse {}))
    }

    async fn seek_group(&self, request: Request<g::SeekGroupRequest>) -> Result<Response<g::GroupPositions>, Status> {
        let session = session(&self.0, &request, &request.get_ref().namespace).await?;
        let request = request.into_inner();
        let Some(to) = request.to else {
            return Err(Failure::invalid("to", "`to` says where the group goes").into());
        };
        let to = start(Some(to), ReadFrom::Earliest)?;
        let moved = session.seek_group(&request.group, request.partition, to).await.map_err(Failure::from)?;
        Ok(Response::new(g::GroupPositions { partitions: moved.into_iter().map(group_partition).collect() }))
    }
}

fn start(from: Option<g::StartAt>, default: ReadFrom) -> Result<ReadFrom, Failure> {
    use g::start_at::{At, Named};
    let Some(from) = from else { return Ok(default) };
    match from.at {
        Some(At::Offset(offset)) => Ok(ReadFrom::Offset(Offset(offset))),
        Some(At::TimeMs(ms)) => Ok(ReadFrom::Time(Timestamp(ms))),
        Some(At::Named(named)) => match known("from.named", named)? {
            Named::Earliest => Ok(ReadFrom::Earliest),
            Named::Latest => Ok(ReadFrom::Latest),
            Named::Unspecified => Err(Failure::invalid("from.named", "a place has a name, an offset or a time")),
        },
        None => Err(Failure::invalid("from", "a place has a name, an offset or a time")),
    }
}

fn record(info: Record) -> g::Record {
    g::Record {
        position: Some(views::position(info.position)),
        appended_ms: info.appended.0,
        message: views::message(info.message),
    }
}

/// Records of a unary answer, as many as stock clients take; one whatever it weighs.
fn records(found: Vec<Record>) -> g::Records {
    let mut left = ANSWER_BYTES;
    let count = found.len();
    let fits = found.into_iter().enumerate().take_while(|(at, one)| {
        let bytes = one.message.weight_bytes() as u64;
        let fits = *at == 0 || bytes <= left;
        left = left.saturating_sub(bytes);
        fits
    });
    let records: Vec<_> = fits.map(|(_, one)| record(one)).collect();
    g::Records { more: records.len() < count, records }
}

pub(crate) fn group_partition(info: v::GroupPartition) -> g::GroupPartition {
    g::GroupPartition {
        partition: info.partition,
        committed: info.committed.map(|offset| offset.0),
        end: info.end.0,
        lag: info.lag,
    }
}
