//! A consumer's stream. Deliveries and settlements go their ways side by side: a client that does not read its deliveries for a while can
//! still settle those that it has, and extend their leases.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use api::grpc as g;
use broker::queue::{ConsumerRules, Credit};
use broker::{Consumer, ConsumerOptions, Session};
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc};
use tokio_stream::Stream;
use tonic::{Code, Status, Streaming};

use super::settling::{Batch, Settled, Settling, entries};
use super::unsettled::Unsettled;
use crate::app::{App, stopping};
use crate::caller::Caller;
use crate::failure::{Failure, own};
use crate::input;
use crate::limits::{
    DELIVER_BYTES, DELIVER_MESSAGES, MAX_ANSWER_FAILURES, MAX_CREDIT, MAX_SETTLEMENTS, MAX_SETTLING, MAX_UNSETTLED,
    OPEN_TIMEOUT, OUTBOUND_FRAMES,
};
use crate::publish::limits;
use crate::views;

/// Most frames whose settlements become one call.
const MAX_FRAMES: usize = 256;

type Answer = Result<g::ConsumeResponse, Status>;

/// Begins a consumer's stream. The consumer ends when the answer is dropped.
pub(super) fn start(
    app: App,
    caller: Caller,
    inbound: Streaming<g::ConsumeRequest>,
    permit: OwnedSemaphorePermit,
) -> impl Stream<Item = Answer> + Send {
    let (out, answers) = mpsc::channel(OUTBOUND_FRAMES);
    tokio::spawn(async move {
        let _permit = permit;
        let gone = out.clone();
        let drain = caller.drain.clone();
        let end = tokio::select! {
            // A drain is told as one, whatever else it ends.
            biased;
            () = gone.closed() => return,
            () = drain.begun() => Err(stopping().into()),
            end = run(app, caller, inbound, out) => end,
        };
        if let Err(status) = end {
            // A client that is gone needs no status.
            gone.send(Err(status)).await.ok();
        }
    });
    Answers(answers)
}

struct Answers(mpsc::Receiver<Answer>);

impl Stream for Answers {
    type Item = Answer;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Answer>> {
        self.0.poll_recv(context)
    }
}

async fn run(
    app: App,
    caller: Caller,
    mut inbound: Streaming<g::ConsumeRequest>,
    out: mpsc::Sender<Answer>,
) -> Result<(), Status> {
    let late = || {
        let why = format!("no first frame within {} s (OPEN_TIMEOUT)", OPEN_TIMEOUT.as_secs());
        Failure::new(Code::DeadlineExceeded, "timeout", why).limit("OPEN_TIMEOUT")
    };
    let first = tokio::time::timeout(OPEN_TIMEOUT, inbound.message()).await.map_err(|_| late())?;
    let Some(mut first) = first.map_err(own)? else { return Ok(()) };
    let open = first.open.take().ok_or_else(input::misplaced_open)?;
    let session = caller.session(&app, &open.namespace)?;
    let (auto_ack, receipts) = (open.auto_ack, open.receipts);
    let rules = ConsumerRules {
        exclusive: open.exclusive,
        priority: open.priority,
        lease: open.lease_ms.map(|ms| input::positive("open.lease_ms", ms)).transpose()?,
        auto_ack,
    };
    let options = ConsumerOptions { name: open.name, rules };
    let consumer = session.consume(&open.queue, options).map_err(Failure::from)?;
    let shared = Arc::new(Shared::new());
    if out.send(Ok(g::ConsumeResponse { opened: Some(limits()), ..Default::default() })).await.is_err() {
        return Ok(());
    }
    let delivering = Delivering { consumer, shared: Arc::clone(&shared), out: out.clone(), auto_ack, receipts };
    let mut listening =
        Listening { session, shared, inbound, out, settling: VecDeque::new(), settled: Told::default(), next: 0 };
    listening.take(first)?;
    tokio::select! {
        end = delivering.run() => end,
        end = listening.run() => end,
    }
}

/// What both ways of a stream know.
struct Shared {
    state: Mutex<State>,
    /// There may be credit, or room, where there was none.
    more: Notify,
}

struct State {
    messages: u64,
    /// `None` as long as bytes do not count.
    bytes: Option<u64>,
    unsettled: Unsettled,
}

impl Shared {
    fn new() -> Self {
        Self { state: Mutex::new(State { messages: 0, bytes: None, unsettled: Unsettled::new() }), more: Notify::new() }
    }
}

impl State {
    /// What may be delivered now.
    fn credit(&self) -> Credit {
        let room = MAX_UNSETTLED.saturating_sub(self.unsettled.len());
        let messages = usize::try_from(self.messages).unwrap_or(usize::MAX).min(DELIVER_MESSAGES).min(room);
        match self.bytes {
            Some(0) => Credit { messages: 0, bytes: 0 },
            bytes => Credit { messages, bytes: bytes.unwrap_or(u64::MAX).min(DELIVER_BYTES) },
        }
    }
}

/// The way out: deliveries within the credit.
struct Delivering {
    consumer: Consumer,
    shared: Arc<Shared>,
    out: mpsc::Sender<Answer>,
    auto_ack: bool,
    receipts: bool,
}

impl Delivering {
    async fn run(mut self) -> Result<(), Status> {
        let out = self.out.clone();
        loop {
            // Room comes first, so that nothing is taken that then waits here while its lease runs.
            let Ok(room) = out.reserve().await else { return Ok(()) };
            let credit = self.credit().await?;
            let found = self.consumer.next(credit).await.map_err(Failure::from)?;
            let mut answer = g::ConsumeResponse { deliveries: Vec::with_capacity(found.len()), ..Default::default() };
            let mut bytes = 0;
            {
                let mut state = self.shared.state.lock();
                answer.first = state.unsettled.next();
                for delivered in found {
                    state.unsettled.push((!self.auto_ack).then_some(delivered.receipt));
                    bytes += delivered.message.weight_bytes() as u64;
                    answer.deliveries.push(views::delivery(delivered, self.receipts));
                }
                state.messages = state.messages.saturating_sub(answer.deliveries.len() as u64);
                state.bytes = state.bytes.map(|left| left.saturating_sub(bytes));
            }
            room.send(Ok(answer));
        }
    }

    /// Waits for credit.
    async fn credit(&mut self) -> Result<Credit, Status> {
        loop {
            let credit = self.shared.state.lock().credit();
            if credit.messages > 0 {
                return Ok(credit);
            }
            let nothing = Credit { messages: 0, bytes: 0 };
            tokio::select! {
                // Without credit this waits for the queue's end.
                ended = self.consumer.next(nothing) => drop(ended.map_err(Failure::from)?),
                () = self.shared.more.notified() => {}
            }
        }
    }
}

/// The way in: credit, and settlements with their results.
struct Listening {
    session: Session,
    shared: Arc<Shared>,
    inbound: Streaming<g::ConsumeRequest>,
    out: mpsc::Sender<Answer>,
    settling: VecDeque<Settling>,
    settled: Told,
    /// Number of the next settlement.
    next: u64,
}

/// Results that were not told yet.
#[derive(Default)]
struct Told {
    through: u64,
    told: u64,
    failures: Vec<g::StreamSettleFailure>,
}

impl Told {
    fn add(&mut self, settled: Settled) {
        self.through = settled.through;
        self.failures.extend(settled.failures);
    }

    fn is_news(&self) -> bool {
        self.through > self.told || !self.failures.is_empty()
    }

    fn answer(&mut self) -> g::ConsumeResponse {
        let now = self.failures.len().min(MAX_ANSWER_FAILURES);
        let failures: Vec<_> = self.failures.drain(..now).collect();
        // All failures of what is said to be settled are told by then.
        let settled = if self.failures.is_empty() { self.through } else { self.told };
        self.told = settled;
        g::ConsumeResponse { settled, failures, ..Default::default() }
    }
}

/// What the way in does next.
enum Step {
    Frames(Vec<g::ConsumeRequest>, Option<Status>),
    Ended,
    Settled(Settled),
}

impl Listening {
    async fn run(&mut self) -> Result<(), Status> {
        loop {
            let step = tokio::select! {
                biased;
                room = self.out.reserve(), if self.settled.is_news() => match room {
                    Ok(room) => {
                        room.send(Ok(self.settled.answer()));
                        continue;
                    }
                    Err(_) => return Ok(()),
                },
                // Failures that are not read stop the reading: they must not pile up.
                step = step(&mut self.settling, &mut self.inbound),
                    if self.settled.failures.len() <= MAX_ANSWER_FAILURES => step,
            };
            match step {
                Step::Settled(settled) => self.settled.add(settled),
                Step::Frames(frames, end) => {
                    self.frames(frames)?;
                    if let Some(status) = end {
                        return Err(own(status));
                    }
                }
                Step::Ended => return self.finish().await,
            }
        }
    }

    /// The client will say no more: what it settled is still done and told. Deliveries end with that.
    async fn finish(&mut self) -> Result<(), Status> {
        while let Some(settling) = self.settling.pop_front() {
            self.settled.add(settling.await);
        }
        while self.settled.is_news() {
            let answer = self.settled.answer();
            if self.out.send(Ok(answer)).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    fn take(&mut self, frame: g::ConsumeRequest) -> Result<(), Failure> {
        self.frames(vec![frame])
    }

    /// Takes frames that came together: their settlements are one call.
    fn frames(&mut self, frames: Vec<g::ConsumeRequest>) -> Result<(), Failure> {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state.lock();
        let mut batch = Batch::new(self.next);
        for frame in frames {
            if frame.open.is_some() {
                return Err(input::misplaced_open());
            }
            state.messages += u64::from(frame.credit_messages);
            if state.messages > MAX_CREDIT {
                let why = format!("a consumer has at most {MAX_CREDIT} messages of credit (MAX_CREDIT)");
                return Err(Failure::invalid("credit_messages", why).limit("MAX_CREDIT"));
            }
            if frame.credit_bytes > 0 {
                state.bytes = Some(state.bytes.unwrap_or(0).saturating_add(frame.credit_bytes));
            }
            batch.add(frame.settlements, &mut state.unsettled, &self.session)?;
            if batch.is_full() {
                let full = std::mem::replace(&mut batch, Batch::new(0));
                self.begin(full);
                batch = Batch::new(self.next);
            }
        }
        drop(state);
        self.shared.more.notify_one();
        if batch.next() > self.next {
            self.begin(batch);
        }
        Ok(())
    }

    fn begin(&mut self, batch: Batch) {
        self.next = batch.next();
        self.settling.push_back(batch.settle(&self.session));
    }
}

/// Waits for frames, or for the first of the settlements under way. Cancel-safe: a frame that was read is not lost.
async fn step(settling: &mut VecDeque<Settling>, inbound: &mut Streaming<g::ConsumeRequest>) -> Step {
    poll_fn(|context| {
        if let Some(first) = settling.front_mut()
            && let Poll::Ready(settled) = Pin::new(first).poll(context)
        {
            settling.pop_front();
            return Poll::Ready(Step::Settled(settled));
        }
        let (mut frames, mut named) = (Vec::new(), 0);
        while settling.len() < MAX_SETTLING && frames.len() < MAX_FRAMES && named < MAX_SETTLEMENTS {
            match Pin::new(&mut *inbound).poll_next(context) {
                Poll::Ready(Some(Ok(frame))) => {
                    named += entries(&frame.settlements);
                    frames.push(frame);
                }
                Poll::Ready(Some(Err(status))) => return Poll::Ready(Step::Frames(frames, Some(status))),
                Poll::Ready(None) if frames.is_empty() => return Poll::Ready(Step::Ended),
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        if frames.is_empty() { Poll::Pending } else { Poll::Ready(Step::Frames(frames, None)) }
    })
    .await
}
