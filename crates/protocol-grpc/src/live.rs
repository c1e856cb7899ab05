//! What is passed on in memory: live subscriptions, requests and their answers.

use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use api::grpc as g;
use api::grpc::live_server::Live;
use broker::{Inbox, LiveSubscription, Session};
use futures_util::{FutureExt, stream};
use net::Drain;
use tokio::sync::OwnedSemaphorePermit;
use tokio_stream::Stream;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Response, Status, Streaming};
use types::{Message, SubjectPattern};

use crate::app::{App, stopping};
use crate::caller::Caller;
use crate::failure::{Failure, own};
use crate::input;
use crate::limits::{
    DELIVER_BYTES, DELIVER_MESSAGES, MAX_ANSWER_FAILURES, MAX_ANSWERING, MAX_FRAME_MESSAGES, MAX_UNANSWERED, MAX_WAIT,
    OPEN_TIMEOUT, REQUEST_WAIT,
};

/// `posthouse.v1.Live`.
pub(crate) struct Living(pub(crate) App);

#[tonic::async_trait]
impl Live for Living {
    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<g::SubscribeResponse, Status>> + Send>>;
    type ReplyStream = Pin<Box<dyn Stream<Item = Result<g::ReplyRequests, Status>> + Send>>;

    async fn subscribe(
        &self,
        request: Request<g::SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let caller = Caller::of(&self.0, &request).await?;
        let permit = self.0.stream()?;
        let request = request.into_inner();
        let source = match request.inbox.is_empty() {
            true => Source::Subscription(subscription(&self.0, &caller, request)?.1),
            false => Source::Inbox(inbox(&self.0, &caller, &request)?),
        };
        let state = Subscribed { source, drain: caller.drain, opened: false, over: false, _permit: permit };
        Ok(Response::new(Box::pin(stream::unfold(state, |mut state| async move {
            let answer = state.next().await?;
            Some((answer, state))
        }))))
    }

    async fn request(&self, request: Request<g::RequestRequest>) -> Result<Response<g::RequestResponse>, Status> {
        let deadline = deadline(request.metadata())?;
        let caller = Caller::of(&self.0, &request).await?;
        let request = request.into_inner();
        let session = caller.session(&self.0, &request.namespace)?;
        let message = request.message.ok_or_else(|| Failure::invalid("message", "a request has a message"))?;
        let message = message.into_message(self.0.now()).map_err(Failure::from)?;
        let asking = session.request(message, deadline);
        let answer = self.0.waiting(&caller.drain, deadline, asking).await?.ok_or_else(stopping)?;
        let answer = answer.map_err(Failure::from)?;
        Ok(Response::new(g::RequestResponse { message: crate::views::message(answer) }))
    }

    async fn reply(&self, request: Request<Streaming<g::ReplyFrame>>) -> Result<Response<Self::ReplyStream>, Status> {
        let caller = Caller::of(&self.0, &request).await?;
        let permit = self.0.stream()?;
        let opening = Opening { app: self.0.clone(), caller, inbound: request.into_inner(), permit };
        let replying = Replying::Opening(Box::new(opening));
        Ok(Response::new(Box::pin(stream::unfold(replying, |replying| async move { replying.next().await }))))
    }
}

fn subscription(
    app: &App,
    caller: &Caller,
    request: g::SubscribeRequest,
) -> Result<(Session, LiveSubscription), Failure> {
    if !request.inbox.is_empty() {
        return Err(Failure::invalid("inbox", "who answers subscribes to a subject; inboxes are for who asks"));
    }
    let session = caller.session(app, &request.namespace)?;
    let pattern = SubjectPattern::parse(&request.subject);
    let pattern = pattern.map_err(|error| Failure::invalid("subject", error.to_string()))?;
    let subscription = session.subscribe(pattern, request.group)?;
    Ok((session, subscription))
}

fn inbox(app: &App, caller: &Caller, request: &g::SubscribeRequest) -> Result<Inbox, Failure> {
    if !request.subject.is_empty() || request.group.is_some() {
        return Err(Failure::invalid("inbox", "an inbox has a subject of its own, and no group"));
    }
    Ok(caller.session(app, &request.namespace)?.open_inbox_of(&request.inbox)?)
}

/// Where the messages of a stream come from.
enum Source {
    Subscription(LiveSubscription),
    Inbox(Inbox),
}

impl Source {
    async fn next(&mut self) -> Option<Arc<Message>> {
        match self {
            Self::Subscription(subscription) => subscription.next().await,
            Self::Inbox(inbox) => poll_fn(|context| inbox.poll_next(context)).await,
        }
    }

    fn lost(&self) -> u64 {
        match self {
            Self::Subscription(subscription) => subscription.lost(),
            Self::Inbox(inbox) => inbox.lost(),
        }
    }

    /// The messages that are there, at least one; `None` at the end.
    async fn some(&mut self) -> Option<Vec<Arc<Message>>> {
        let first = self.next().await?;
        let mut bytes = first.weight_bytes() as u64;
        let mut messages = vec![first];
        while messages.len() < DELIVER_MESSAGES && bytes < DELIVER_BYTES {
            let Some(Some(more)) = self.next().now_or_never() else { break };
            bytes += more.weight_bytes() as u64;
            messages.push(more);
        }
        Some(messages)
    }
}

/// How long a request waits: until the call's deadline.
fn deadline(metadata: &MetadataMap) -> Result<Duration, Failure> {
    let Some(timeout) = metadata.get("grpc-timeout") else { return Ok(REQUEST_WAIT) };
    // Up to eight digits and a unit; https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
    let wrong =
        || Failure::invalid("grpc-timeout", "a deadline is up to eight digits and a unit of H, M, S, m, u or n");
    let text = timeout.to_str().map_err(|_| wrong())?;
    let (digits, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let number: u64 = digits.parse().ok().filter(|_| digits.len() <= 8).ok_or_else(wrong)?;
    let deadline = match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return Err(wrong()),
    };
    Ok(deadline.min(MAX_WAIT))
}

/// A live subscription's stream.
struct Subscribed {
    source: Source,
    drain: Drain,
    opened: bool,
    over: bool,
    _permit: OwnedSemaphorePermit,
}

impl Subscribed {
    async fn next(&mut self) -> Option<Result<g::SubscribeResponse, Status>> {
        if self.over {
            return None;
        }
        if !std::mem::replace(&mut self.opened, true) {
            let inbox = match &self.source {
                Source::Subscription(_) => String::new(),
                Source::Inbox(inbox) => String::from_utf8_lossy(inbox.subject()).into_owned(),
            };
            return Some(Ok(g::SubscribeResponse { opened: true, inbox, ..Default::default() }));
        }
        let found = tokio::select! {
            found = self.source.some() => found,
            () = self.drain.begun() => None,
        };
        let Some(messages) = found else {
            self.over = true;
            return Some(Err(stopping().into()));
        };
        let messages = messages.into_iter().filter_map(crate::views::message).collect();
        Some(Ok(g::SubscribeResponse { messages, lost: self.source.lost(), ..Default::default() }))
    }
}

/// A reply stream: it waits for its first frame, serves, or is over.
enum Replying {
    Opening(Box<Opening>),
    Open(Box<Serving>),
    Over,
}

/// What a reply stream is until its first frame has come.
struct Opening {
    app: App,
    caller: Caller,
    inbound: Streaming<g::ReplyFrame>,
    permit: OwnedSemaphorePermit,
}

type Answering = Pin<Box<dyn Future<Output = Option<g::AnswerFailure>> + Send>>;

/// A reply stream that is open.
struct Serving {
    app: App,
    session: Session,
    source: Source,
    inbound: Streaming<g::ReplyFrame>,
    drain: Drain,
    /// Number of the last request.
    last: u64,
    /// What of each request an answer needs, until it is answered.
    waiting: BTreeMap<u64, Message>,
    answering: VecDeque<Answering>,
    /// The client will send no more answers.
    said_all: bool,
    _permit: OwnedSemaphorePermit,
}

impl Replying {
    async fn next(self) -> Option<(Result<g::ReplyRequests, Status>, Self)> {
        let end = |status| Some((Err(status), Self::Over));
        match self {
            Self::Over => None,
            Self::Opening(opening) => match Serving::open(*opening).await {
                Ok(Some(serving)) => {
                    let opened = g::ReplyRequests { opened: true, ..Default::default() };
                    Some((Ok(opened), Self::Open(Box::new(serving))))
                }
                Ok(None) => None,
                Err(status) => end(status),
            },
            Self::Open(mut serving) => match serving.next().await {
                Ok(Some(answer)) => Some((Ok(answer), Self::Open(serving))),
                Ok(None) => None,
                Err(status) => end(status),
            },
        }
    }
}

impl Serving {
    async fn open(opening: Opening) -> Result<Option<Self>, Status> {
        let Opening { app, caller, mut inbound, permit } = opening;
        let late = || {
            let why = format!("no first frame within {} s (OPEN_TIMEOUT)", OPEN_TIMEOUT.as_secs());
            Failure::new(Code::DeadlineExceeded, "timeout", why).limit("OPEN_TIMEOUT")
        };
        let first = tokio::time::timeout(OPEN_TIMEOUT, inbound.message()).await.map_err(|_| late())?;
        let Some(first) = first.map_err(own)? else { return Ok(None) };
        let open = first.open.ok_or_else(input::misplaced_open)?;
        let (session, subscription) = subscription(&app, &caller, open)?;
        let mut serving = Self {
            app,
            session,
            source: Source::Subscription(subscription),
            inbound,
            drain: caller.drain,
            last: 0,
            waiting: BTreeMap::new(),
            answering: VecDeque::new(),
            said_all: false,
            _permit: permit,
        };
        serving.answers(first.answers)?;
        Ok(Some(serving))
    }

    /// The next requests, or the failures of answers; `None` at the end.
    async fn next(&mut self) -> Result<Option<g::ReplyRequests>, Status> {
        loop {
            if self.said_all && self.answering.is_empty() {
                return Ok(None);
            }
            let room = !self.said_all && self.answering.len() < MAX_ANSWERING;
            tokio::select! {
                biased;
                () = self.drain.begun() => return Err(stopping().into()),
                failures = answered(&mut self.answering) => {
                    if !failures.is_empty() {
                        return Ok(Some(g::ReplyRequests { failures, ..Default::default() }));
                    }
                }
                frame = self.inbound.message(), if room => match frame.map_err(own)? {
                    None => self.said_all = true,
                    Some(frame) if frame.open.is_some() => return Err(input::misplaced_open().into()),
                    Some(frame) => self.answers(frame.answers)?,
                },
                found = self.source.some(), if !self.said_all => {
                    let Some(found) = found else { return Err(stopping().into()) };
                    return Ok(Some(self.requests(found)));
                }
            }
        }
    }

    fn requests(&mut self, found: Vec<Arc<Message>>) -> g::ReplyRequests {
        let first = self.last + 1;
        let mut requests = Vec::with_capacity(found.len());
        for message in found {
            self.last += 1;
            let asked = Message {
                reply_to: message.reply_to.clone(),
                correlation_id: message.correlation_id.clone(),
                ..Message::default()
            };
            self.waiting.insert(self.last, asked);
            requests.extend(crate::views::message(message));
        }
        while self.waiting.len() > MAX_UNANSWERED {
            self.waiting.pop_first();
        }
        g::ReplyRequests { first, requests, lost: self.source.lost(), ..Default::default() }
    }

    fn answers(&mut self, answers: Vec<g::Answer>) -> Result<(), Failure> {
        if answers.len() > MAX_FRAME_MESSAGES {
            let why = format!("a frame has at most {MAX_FRAME_MESSAGES} answers (MAX_FRAME_MESSAGES)");
            return Err(Failure::too_large(why, "MAX_FRAME_MESSAGES"));
        }
        let now = self.app.now();
        for g::Answer { request, message } in answers {
            let asked = self.waiting.remove(&request);
            let message = message.unwrap_or_default().into_message(now);
            let session = self.session.clone();
            let work = async move {
                let gone = || Failure::new(Code::NotFound, "nobody-waits", "nobody waits for this answer any more");
                let unknown = || Failure::not_found(format!("this stream has no request {request} without an answer"));
                let done = match (asked, message) {
                    (None, _) => Err(unknown()),
                    (_, Err(fault)) => Err(fault.into()),
                    (Some(asked), Ok(answer)) => match session.reply(&asked, answer).await {
                        Ok(true) => Ok(()),
                        Ok(false) => Err(gone()),
                        Err(error) => Err(error.into()),
                    },
                };
                done.err().map(|failure: Failure| g::AnswerFailure { request, problem: Some(failure.problem()) })
            };
            self.answering.push_back(Box::pin(work));
        }
        Ok(())
    }
}

/// Drives the answers on their way, and gives the failures of those that are done. Never ready while there is nothing to drive.
async fn answered(answering: &mut VecDeque<Answering>) -> Vec<g::AnswerFailure> {
    poll_fn(|context| {
        let (mut failures, mut done) = (Vec::new(), 0);
        answering.retain_mut(|answer| {
            if failures.len() >= MAX_ANSWER_FAILURES {
                return true;
            }
            match pin!(answer).poll(context) {
                Poll::Pending => true,
                Poll::Ready(failure) => {
                    done += 1;
                    failures.extend(failure);
                    false
                }
            }
        });
        if done > 0 { Poll::Ready(failures) } else { Poll::Pending }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_read_as_the_protocol_writes_it() {
        let of = |text: &'static str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-timeout", text.parse().unwrap());
            deadline(&metadata).ok()
        };
        assert_eq!(deadline(&MetadataMap::new()).unwrap(), REQUEST_WAIT);
        assert_eq!(of("250m"), Some(Duration::from_millis(250)));
        assert_eq!(of("2S"), Some(Duration::from_secs(2)));
        assert_eq!(of("99999999H"), Some(MAX_WAIT));
        for wrong in ["", "S", "5", "123456789S", "1x", "-1S"] {
            assert_eq!(of(wrong), None, "{wrong:?}");
        }
    }
}
