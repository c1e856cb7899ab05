//! Publishes that are not confirmed: what of them was sent, what became of them, and what must be sent again.

use std::collections::VecDeque;

use api::grpc as g;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::core::target;
use super::fault::Fault;
use crate::transport::{Outgoing, Position, PublishError, Published};

/// Most messages of one frame. What waits is sent together; more gains nothing.
const FRAME_MESSAGES: usize = 4096;
/// Most bytes of messages of one frame; one message is sent whatever it weighs.
const FRAME_BYTES: usize = 1024 * 1024;

/// What became of one message.
pub(super) type End = Result<Published, PublishError>;

/// One call of `publish`.
pub(super) struct Call {
    messages: Vec<Outgoing>,
    /// How many of them went out on the present stream, or were confirmed before it.
    sent: usize,
    /// How many went out on an earlier stream that was lost: these may be stored.
    in_doubt: usize,
    ends: Vec<End>,
    /// `None` once it was answered: its time was up.
    answer: Option<oneshot::Sender<Vec<End>>>,
    since: Instant,
    deadline: Instant,
    bytes: usize,
}

impl Call {
    pub(super) fn new(
        messages: Vec<Outgoing>,
        bytes: usize,
        since: Instant,
        deadline: Instant,
    ) -> (Self, oneshot::Receiver<Vec<End>>) {
        let (answer, ends) = oneshot::channel();
        let call = Self {
            ends: Vec::with_capacity(messages.len()),
            messages,
            sent: 0,
            in_doubt: 0,
            answer: Some(answer),
            since,
            deadline,
            bytes,
        };
        (call, ends)
    }

    /// Messages and their bytes.
    pub(super) fn load(&self) -> Load {
        Load { messages: self.messages.len(), bytes: self.bytes }
    }

    fn is_done(&self) -> bool {
        self.ends.len() == self.messages.len()
    }

    /// Gives every message that has no end this one, and answers.
    fn end(&mut self, mut end: impl FnMut(bool) -> PublishError) {
        for at in self.ends.len()..self.messages.len() {
            let may_be_stored = at < self.sent || at < self.in_doubt;
            self.ends.push(Err(end(may_be_stored)));
        }
        self.tell();
    }

    fn tell(&mut self) {
        if let Some(answer) = self.answer.take() {
            // Whoever dropped the future does not want to know.
            answer.send(std::mem::take(&mut self.ends)).ok();
        }
    }
}

/// How much something weighs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

impl Load {
    pub(super) fn add(&mut self, other: Self) {
        self.messages += other.messages;
        self.bytes += other.bytes;
    }

    pub(super) fn sub(&mut self, other: Self) {
        self.messages -= other.messages;
        self.bytes -= other.bytes;
    }
}

/// All calls that are not confirmed, oldest first.
#[derive(Default)]
pub(super) struct Ledger {
    calls: VecDeque<Call>,
    /// The first call of which something was not sent.
    unsent: usize,
    /// What is out on the present stream.
    out: Load,
    /// Messages of the present stream that were confirmed.
    confirmed: u64,
    /// Failures of the present stream that were told and whose turn has not come.
    failures: VecDeque<g::PublishFailure>,
    /// What was let go of since it was last asked for.
    freed: Load,
}

impl Ledger {
    pub(super) fn push(&mut self, call: Call) {
        self.calls.push_back(call);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// When the oldest call must have been answered.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.calls.iter().find(|call| call.answer.is_some()).map(|call| call.deadline)
    }

    /// Whether something may be sent now.
    pub(super) fn has_frame(&self, limits: &g::StreamLimits) -> bool {
        self.unsent < self.calls.len()
            && (self.out.messages as u64) < u64::from(limits.max_pending_messages)
            && (self.out.bytes as u64) < limits.max_pending_bytes
    }

    /// The next messages to send: as many as have one destination, within the limits.
    pub(super) fn frame(&mut self, limits: &g::StreamLimits) -> Option<g::PublishFrame> {
        let room = (limits.max_pending_messages as usize).saturating_sub(self.out.messages);
        let most = FRAME_MESSAGES.min(limits.max_frame_messages as usize).min(room).max(1);
        let call = self.calls.get(self.unsent)?;
        let to = call.messages.get(call.sent)?.to.clone();
        let mut frame = g::PublishFrame { to: Some(target(&to)), ..g::PublishFrame::default() };
        let mut bytes = 0;
        'calls: while let Some(call) = self.calls.get_mut(self.unsent) {
            for outgoing in call.messages.iter().skip(call.sent) {
                let weight = outgoing.message.weight_bytes();
                let is_full = frame.messages.len() >= most || (bytes > 0 && bytes + weight > FRAME_BYTES);
                if is_full || outgoing.to != to {
                    break 'calls;
                }
                bytes += weight;
                call.sent += 1;
                frame.messages.push(outgoing.message.clone().into());
            }
            self.unsent += 1;
        }
        self.out.add(Load { messages: frame.messages.len(), bytes });
        Some(frame)
    }

    /// Takes an answer of the stream.
    ///
    /// # Errors
    /// If the broker is stopping: what it refused for that is to be sent again, on another stream.
    pub(super) fn confirm(&mut self, confirm: g::PublishConfirm) -> Result<(), Fault> {
        self.failures.extend(confirm.failures);
        let mut published = confirm.published.into_iter();
        while self.confirmed < confirm.confirmed {
            let number = self.confirmed;
            while self.failures.front().is_some_and(|failure| failure.first + failure.count <= number) {
                self.failures.pop_front();
            }
            let failed = self.failures.front().filter(|failure| failure.first <= number);
            let end = match failed {
                None => Ok(published.next().map(|one| found(&one)).unwrap_or_default()),
                Some(failure) => Err(Fault::of_problem(failure.problem.clone().unwrap_or_default())),
            };
            if let Err(fault) = &end
                && fault.is_stopping()
            {
                return Err(fault.clone());
            }
            let Some(call) = self.calls.front_mut() else {
                return Err(Fault::lost("the broker confirms more than was sent"));
            };
            self.confirmed += 1;
            let at = call.ends.len();
            let weight = call.messages.get(at).map_or(0, |outgoing| outgoing.message.weight_bytes());
            self.out.sub(Load { messages: 1, bytes: weight });
            call.ends.push(end.map_err(|fault| refusal(fault, at < call.in_doubt, call.since)));
            if call.is_done() {
                call.tell();
                self.forget_first();
            }
        }
        Ok(())
    }

    /// The stream is gone: what was not confirmed is sent again, but for what nobody waits for any more.
    pub(super) fn rewind(&mut self) {
        for call in &mut self.calls {
            call.in_doubt = call.in_doubt.max(call.sent);
            call.sent = call.ends.len();
        }
        let freed = &mut self.freed;
        self.calls.retain(|call| {
            let is_wanted = call.answer.as_ref().is_some_and(|answer| !answer.is_closed());
            if !is_wanted {
                freed.add(call.load());
            }
            is_wanted
        });
        (self.unsent, self.out, self.confirmed) = (0, Load::default(), 0);
        self.failures.clear();
    }

    /// Answers the calls whose time is up. What of them is out stays counted until the stream confirms it or is lost.
    pub(super) fn expire(&mut self, now: Instant) {
        for call in self.calls.iter_mut().take_while(|call| call.deadline <= now) {
            if call.answer.is_some() {
                let waited = now.saturating_duration_since(call.since);
                let ends = call.ends.clone();
                call.end(|_| PublishError::Unconfirmed { waited });
                // The stream goes on counting from here.
                call.ends = ends;
            }
        }
        while self.unsent == 0
            && self.calls.front().is_some_and(|call| call.answer.is_none() && call.sent == call.ends.len())
        {
            self.forget_unsent();
        }
    }

    /// Answers everything, and forgets it; not while a stream is open.
    pub(super) fn fail(&mut self, mut end: impl FnMut() -> PublishError) {
        let now = Instant::now();
        for mut call in std::mem::take(&mut self.calls) {
            self.freed.add(call.load());
            let waited = now.saturating_duration_since(call.since);
            call.end(|may_be_stored| if may_be_stored { PublishError::Unconfirmed { waited } } else { end() });
        }
        self.unsent = 0;
    }

    /// What has left since this was last asked.
    pub(super) fn take_freed(&mut self) -> Load {
        std::mem::take(&mut self.freed)
    }

    fn forget_first(&mut self) {
        if let Some(call) = self.calls.pop_front() {
            self.freed.add(call.load());
            self.unsent = self.unsent.saturating_sub(1);
        }
    }

    /// Lets go of a first call that waits to be sent.
    fn forget_unsent(&mut self) {
        if let Some(call) = self.calls.pop_front() {
            self.freed.add(call.load());
        }
    }
}

/// Why a message was refused. One that went out before on a lost stream may be stored all the same.
fn refusal(fault: Fault, in_doubt: bool, since: Instant) -> PublishError {
    let waited = since.elapsed();
    match fault.into_publish(waited) {
        PublishError::Busy(_) if in_doubt => PublishError::Unconfirmed { waited },
        error => error,
    }
}

/// What the broker says of a message that it took.
pub(super) fn found(published: &g::Published) -> Published {
    let position = published.position.map(|at| Position { partition: at.partition, offset: at.offset });
    Published { routed: Some(published.routed), duplicate: published.duplicate, position }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Envelope;
    use crate::transport::Destination;

    const LIMITS: g::StreamLimits = g::StreamLimits {
        max_frame_bytes: 1 << 20,
        max_frame_messages: 4,
        max_pending_messages: 8,
        max_pending_bytes: 1 << 20,
        max_credit: 1,
    };

    /// A call of messages to these queues.
    fn call(queues: &str, since: Instant) -> (Call, oneshot::Receiver<Vec<End>>) {
        let outgoing = |queue: char| Outgoing {
            to: Destination::Queue(queue.to_string()),
            message: Envelope::new(queue.to_string(), "x"),
        };
        let messages: Vec<_> = queues.chars().map(outgoing).collect();
        let bytes = messages.iter().map(|one| one.message.weight_bytes()).sum();
        Call::new(messages, bytes, since, since + Duration::from_secs(1))
    }

    fn frame(ledger: &mut Ledger) -> Option<String> {
        let frame = if ledger.has_frame(&LIMITS) { ledger.frame(&LIMITS) } else { None }?;
        let Some(g::target::To::Queue(queue)) = frame.to.and_then(|to| to.to) else { return None };
        Some(queue.repeat(frame.messages.len()))
    }

    fn confirm(ledger: &mut Ledger, confirmed: u64, failures: &[(u64, &str)]) -> Result<(), Fault> {
        let code = i32::from(tonic::Code::Unavailable);
        let problem = |reason: &str| Some(g::Problem { code, r#type: reason.to_owned(), ..g::Problem::default() });
        let failures = failures.iter().map(|(first, reason)| g::PublishFailure {
            first: *first,
            count: 1,
            problem: problem(reason),
        });
        ledger.confirm(g::PublishConfirm { confirmed, failures: failures.collect(), ..g::PublishConfirm::default() })
    }

    fn ends(told: &mut oneshot::Receiver<Vec<End>>) -> Option<String> {
        let of = |end: &End| match end {
            Ok(_) => '+',
            Err(PublishError::Busy(_)) => 'b',
            Err(PublishError::Unconfirmed { .. }) => '?',
            Err(_) => '-',
        };
        told.try_recv().ok().map(|ends| ends.iter().map(of).collect())
    }

    #[test]
    fn frames_take_what_goes_to_one_place_within_the_limits() {
        let now = Instant::now();
        let mut ledger = Ledger::default();
        for queues in ["aa", "aaa", "ab", "bbbb"] {
            ledger.push(call(queues, now).0);
        }
        let frames: Vec<_> = std::iter::from_fn(|| frame(&mut ledger)).collect();
        assert_eq!(frames, ["aaaa", "aa", "bb"], "8 are out");
        confirm(&mut ledger, 6, &[]).unwrap();
        assert_eq!(frame(&mut ledger).as_deref(), Some("bbb"));
        assert_eq!((frame(&mut ledger), ledger.has_frame(&LIMITS)), (None, false));
        confirm(&mut ledger, 11, &[]).unwrap();
        assert!(ledger.is_empty());
        assert_eq!((ledger.out, ledger.take_freed().messages), (Load::default(), 11));
    }

    #[test]
    fn calls_are_answered_once_all_of_their_messages_have_an_end() {
        let now = Instant::now();
        let mut ledger = Ledger::default();
        let ((one, mut first), (two, mut second)) = (call("aaa", now), call("aa", now));
        ledger.push(one);
        ledger.push(two);
        while frame(&mut ledger).is_some() {}
        confirm(&mut ledger, 2, &[(1, "queue-full"), (3, "queue-full")]).unwrap();
        assert_eq!(ends(&mut first), None);
        confirm(&mut ledger, 5, &[]).unwrap();
        assert_eq!((ends(&mut first).as_deref(), ends(&mut second).as_deref()), (Some("+b+"), Some("b+")));
        assert!(confirm(&mut ledger, 6, &[]).is_err(), "that was never sent");
    }

    #[test]
    fn what_was_not_confirmed_goes_out_again_in_order_and_what_nobody_awaits_does_not() {
        let now = Instant::now();
        let mut ledger = Ledger::default();
        let ((one, mut first), (two, second), (three, mut third)) = (call("aab", now), call("c", now), call("d", now));
        for call in [one, two, three] {
            ledger.push(call);
        }
        assert_eq!(frame(&mut ledger).as_deref(), Some("aa"));
        confirm(&mut ledger, 1, &[]).unwrap();
        assert!(confirm(&mut ledger, 2, &[(1, "unavailable")]).is_err(), "the broker is stopping");
        drop(second);
        ledger.rewind();
        let frames: Vec<_> = std::iter::from_fn(|| frame(&mut ledger)).collect();
        assert_eq!(frames, ["a", "b", "d"]);
        confirm(&mut ledger, 3, &[(0, "backpressure"), (1, "backpressure")]).unwrap();
        assert_eq!(ends(&mut first).as_deref(), Some("+?b"), "the second was out before: it may be stored");
        assert_eq!(ends(&mut third).as_deref(), Some("+"));
    }

    #[test]
    fn a_call_whose_time_is_up_is_told_and_its_messages_stay_counted_while_they_are_out() {
        let now = Instant::now();
        let mut ledger = Ledger::default();
        let ((one, mut first), (two, mut second)) = (call("aa", now), call("b", now + Duration::from_millis(500)));
        ledger.push(one);
        ledger.push(two);
        assert_eq!(frame(&mut ledger).as_deref(), Some("aa"));
        ledger.expire(now + Duration::from_millis(999));
        assert_eq!(ends(&mut first), None);
        ledger.expire(now + Duration::from_secs(1));
        assert_eq!((ends(&mut first).as_deref(), ledger.take_freed().messages), (Some("??"), 0));
        assert_eq!(ledger.deadline(), Some(now + Duration::from_millis(1500)));
        assert_eq!(frame(&mut ledger).as_deref(), Some("b"));
        confirm(&mut ledger, 3, &[]).unwrap();
        assert_eq!(ends(&mut second).as_deref(), Some("+"));
        assert_eq!(ledger.take_freed().messages, 3);

        let (late, mut told) = call("a", now);
        ledger.push(late);
        ledger.expire(now + Duration::from_secs(1));
        assert_eq!((ends(&mut told).as_deref(), frame(&mut ledger)), (Some("?"), None), "it never goes out");
        assert_eq!(ledger.take_freed().messages, 1);
    }
}
