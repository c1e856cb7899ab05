//! A publish stream. It is one task: what a client sends is read, published and confirmed where the answer is written, and what waits is
//! published together. A client that does not read its confirmations is not read itself.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use api::grpc as g;
use broker::{PublishOptions, PublishTo, Publishes, Session};
use bytes::Bytes;
use net::Drain;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;
use tokio_stream::Stream;
use tonic::{Code, Status, Streaming};
use types::{Message, Timestamp};

use super::run::{Calls, Outcome, Run};
use crate::app::{App, stopping};
use crate::caller::Caller;
use crate::failure::{Failure, own};
use crate::input;
use crate::limits::{
    MAX_ANSWER_FAILURES, MAX_CREDIT, MAX_FRAME_BYTES, MAX_FRAME_MESSAGES, MAX_PENDING_BYTES, MAX_PENDING_MESSAGES,
    OPEN_TIMEOUT, RUN_MESSAGES,
};
use crate::views;

type Waiting = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What answers a publish stream.
pub(super) struct PublishStream {
    app: App,
    caller: Caller,
    inbound: Streaming<g::PublishFrame>,
    /// `None` until the first frame has come.
    open: Option<Open>,
    /// The first frame is awaited until then.
    opening: Pin<Box<Sleep>>,
    drain: Waiting,
    /// Why nothing is read any more; `Ok` if the client has said all.
    end: Option<Result<(), Status>>,
    _permit: OwnedSemaphorePermit,
}

struct Open {
    session: Session,
    to: Option<Arc<PublishTo>>,
    durability: Option<broker::definitions::DurabilityConfig>,
    details: bool,
    told: bool,
    calls: Calls,
    /// What waits to be published in one call.
    run: Option<Run>,
    /// Messages of the call before.
    expected: usize,
    /// The broker is short of memory: nothing is read or published until this is ready.
    held: Option<Waiting>,
    confirmed: u64,
}

impl PublishStream {
    pub(super) fn new(
        app: App,
        caller: Caller,
        inbound: Streaming<g::PublishFrame>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        let drain: Drain = caller.drain.clone();
        Self {
            app,
            caller,
            inbound,
            open: None,
            opening: Box::pin(tokio::time::sleep(OPEN_TIMEOUT)),
            drain: Box::pin(async move { drain.begun().await }),
            end: None,
            _permit: permit,
        }
    }

    /// Reads what is there, and begins to publish it.
    fn read(&mut self, context: &mut Context<'_>) {
        if self.end.is_none() && self.drain.as_mut().poll(context).is_ready() {
            self.end = Some(Err(stopping().into()));
        }
        // What is there has come by now: one look at the clock serves all frames of it.
        let mut now = None;
        while self.end.is_none() {
            match &mut self.open {
                Some(open) => {
                    if !open.has_room(context) {
                        return;
                    }
                }
                None => {
                    if self.opening.as_mut().poll(context).is_ready() {
                        let why = format!("no first frame within {} s (OPEN_TIMEOUT)", OPEN_TIMEOUT.as_secs());
                        let failure = Failure::new(Code::DeadlineExceeded, "timeout", why).limit("OPEN_TIMEOUT");
                        self.end = Some(Err(failure.into()));
                        return;
                    }
                }
            }
            match Pin::new(&mut self.inbound).poll_next(context) {
                Poll::Pending => break,
                Poll::Ready(None) => self.end = Some(Ok(())),
                Poll::Ready(Some(Err(status))) => self.end = Some(Err(own(status))),
                Poll::Ready(Some(Ok(frame))) => {
                    let now = *now.get_or_insert_with(|| self.app.now());
                    if let Err(failure) = self.take(frame, now, context) {
                        self.end = Some(Err(failure.into()));
                    }
                }
            }
        }
        if let Some(open) = &mut self.open {
            open.flush(context);
        }
    }

    fn take(&mut self, mut frame: g::PublishFrame, now: Timestamp, context: &mut Context<'_>) -> Result<(), Failure> {
        let open = match (&mut self.open, frame.open.take()) {
            (Some(open), None) => open,
            (None, Some(first)) => {
                let session = self.caller.session(&self.app, &first.namespace)?;
                self.open.insert(Open {
                    calls: Calls::new(session.clone()),
                    session,
                    to: input::target("open.to", first.to)?.map(Arc::new),
                    durability: input::durability("open.durability", first.durability)?,
                    details: first.details,
                    told: false,
                    run: None,
                    expected: 0,
                    held: None,
                    confirmed: 0,
                })
            }
            _ => return Err(input::misplaced_open()),
        };
        open.take(frame, now, context);
        Ok(())
    }
}

impl Open {
    /// Whether more may be read.
    fn has_room(&mut self, context: &mut Context<'_>) -> bool {
        if let Some(held) = &mut self.held {
            if held.as_mut().poll(context).is_pending() {
                return false;
            }
            self.held = None;
            self.flush(context);
        }
        if self.held.is_none() && self.session.is_held_back() {
            self.hold(context);
        }
        let (messages, bytes) = self.calls.load();
        self.held.is_none() && messages < MAX_PENDING_MESSAGES && bytes < MAX_PENDING_BYTES
    }

    /// Waits until the broker has memory again.
    fn hold(&mut self, context: &mut Context<'_>) {
        let session = self.session.clone();
        let mut held: Waiting = Box::pin(async move { session.memory_ready().await });
        // Polled for its wake-up. If it is ready already, the next look finds that out.
        if held.as_mut().poll(context).is_ready() {
            context.waker().wake_by_ref();
            held = Box::pin(std::future::ready(()));
        }
        self.held = Some(held);
    }

    /// Publishes what waits, unless the broker is short of memory.
    fn flush(&mut self, context: &mut Context<'_>) {
        if self.held.is_some() {
            return;
        }
        if let Some(run) = self.run.take() {
            self.expected = run.publishes.len().min(RUN_MESSAGES);
            if let Some(run) = self.calls.begin(run) {
                self.run = Some(run);
                self.hold(context);
            }
        }
    }

    /// Takes a frame's messages. What is wrong with them is told in its turn.
    fn take(&mut self, frame: g::PublishFrame, now: Timestamp, context: &mut Context<'_>) {
        let count = frame.messages.len();
        if count == 0 {
            return;
        }
        let subject = Bytes::from(frame.subject);
        match self.way(frame.to, frame.options, count) {
            Err(failure) => self.fail(count, failure, context),
            Ok((to, options)) => {
                let atomic = frame.atomic || options.expect.is_some() || options.producer.is_some();
                if atomic {
                    match input::messages(frame.messages, &subject, now) {
                        Ok(messages) => {
                            self.flush_for(&options, true, context);
                            for message in messages {
                                self.add(&to, &options, true, message);
                            }
                            self.flush(context);
                        }
                        Err(failure) => self.fail(count, failure, context),
                    }
                    return;
                }
                self.flush_for(&options, false, context);
                if let Some(run) = &mut self.run {
                    run.publishes.reserve(count);
                }
                for mut message in frame.messages {
                    message.default_subject(&subject);
                    match message.into_message(now) {
                        Ok(message) => self.add(&to, &options, false, message),
                        Err(fault) => self.fail(1, fault.into(), context),
                    }
                }
                if self.run.as_ref().is_some_and(Run::is_large) {
                    self.flush(context);
                }
            }
        }
    }

    /// Where a frame's messages go, and how.
    fn way(
        &self,
        to: Option<g::Target>,
        options: Option<g::PublishOptions>,
        count: usize,
    ) -> Result<(Arc<PublishTo>, PublishOptions), Failure> {
        if count > MAX_FRAME_MESSAGES {
            let why = format!("a frame has at most {MAX_FRAME_MESSAGES} messages (MAX_FRAME_MESSAGES)");
            return Err(Failure::too_large(why, "MAX_FRAME_MESSAGES"));
        }
        let to = match input::target("to", to)? {
            Some(to) => Arc::new(to),
            None => self.to.clone().ok_or_else(input::no_target)?,
        };
        let mut options = input::publish_options(options)?;
        options.durability = options.durability.or(self.durability);
        Ok((to, options))
    }

    /// Publishes what waits unless messages of this kind may join it.
    fn flush_for(&mut self, options: &PublishOptions, atomic: bool, context: &mut Context<'_>) {
        if self.run.as_ref().is_some_and(|run| !run.takes(options, atomic)) {
            self.flush_all(context);
        }
    }

    /// Publishes what waits before something else, also when the broker is short of memory: the order counts more.
    fn flush_all(&mut self, context: &mut Context<'_>) {
        self.flush(context);
        if let Some(run) = self.run.take() {
            self.calls.push_failed(run.publishes.len(), broker::PublishError::Backpressure.into());
        }
    }

    fn add(&mut self, to: &Arc<PublishTo>, options: &PublishOptions, atomic: bool, message: Message) {
        let run = self.run.get_or_insert_with(|| Run {
            options: options.clone(),
            atomic,
            // A stream's calls are much alike.
            publishes: Publishes::with_capacity(self.expected),
        });
        run.publishes.push(to, message);
    }

    fn fail(&mut self, count: usize, failure: Failure, context: &mut Context<'_>) {
        self.flush_all(context);
        self.calls.push_failed(count, failure);
    }

    /// What is known by now; `None` if nothing new is.
    fn answer(&mut self, context: &mut Context<'_>) -> Option<g::PublishConfirm> {
        let mut answer = g::PublishConfirm::default();
        let mut news = false;
        if !self.told {
            (self.told, news) = (true, true);
            answer.opened = Some(limits());
        }
        while answer.failures.len() < MAX_ANSWER_FAILURES && answer.published.len() < MAX_FRAME_MESSAGES {
            let Poll::Ready(Some((count, outcome))) = self.calls.poll_next(context) else { break };
            news = true;
            let first = self.confirmed;
            self.confirmed += count as u64;
            match outcome {
                Outcome::Stored(published) if self.details => {
                    answer.published.extend(published.into_iter().map(views::published));
                }
                Outcome::Stored(_) => {}
                Outcome::Failed(failure) => answer.failures.push(g::PublishFailure {
                    first,
                    count: count as u64,
                    problem: Some(failure.problem()),
                }),
            }
        }
        answer.confirmed = self.confirmed;
        news.then_some(answer)
    }

    /// Whether everything that was read has been answered.
    fn is_done(&self) -> bool {
        self.told && self.calls.is_empty() && self.run.is_none()
    }
}

impl Stream for PublishStream {
    type Item = Result<g::PublishConfirm, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        this.read(context);
        if let Some(open) = &mut this.open {
            if this.end.is_some() {
                // What was read before the end is still published.
                if open.has_room(context) {
                    open.flush(context);
                }
            }
            if let Some(answer) = open.answer(context) {
                return Poll::Ready(Some(Ok(answer)));
            }
            if !open.is_done() {
                return Poll::Pending;
            }
        }
        match &this.end {
            None => Poll::Pending,
            Some(Ok(())) => Poll::Ready(None),
            Some(Err(status)) => {
                let status = status.clone();
                this.end = Some(Ok(()));
                Poll::Ready(Some(Err(status)))
            }
        }
    }
}

/// What a stream bears.
pub(crate) fn limits() -> g::StreamLimits {
    g::StreamLimits {
        max_frame_bytes: MAX_FRAME_BYTES as u64,
        max_frame_messages: u32::try_from(MAX_FRAME_MESSAGES).unwrap_or(u32::MAX),
        max_pending_messages: u32::try_from(MAX_PENDING_MESSAGES).unwrap_or(u32::MAX),
        max_pending_bytes: MAX_PENDING_BYTES as u64,
        max_credit: u32::try_from(MAX_CREDIT).unwrap_or(u32::MAX),
    }
}
