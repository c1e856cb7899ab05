//! Taking messages: one stream with credit, whose deliveries are acknowledged by ranges of numbers.

use std::time::Instant;

use api::grpc::consumer_client::ConsumerClient;
use api::grpc::{ConsumeOpen, ConsumeRequest, ConsumeResponse, DeliveryRange, SettleAction, StreamSettlement};
use futures_util::FutureExt;
use tokio::sync::mpsc;
use tonic::Streaming;

use super::connection::{Connection, MAX_FRAME_BYTES};
use super::publish::Fates;
use super::{OUTBOUND_FRAMES, gone, outbound, refused};
use crate::bench::driver::{Event, Receiver};
use crate::failure::Failure;

/// Deliveries that are there already are acknowledged together, up to so many.
const MAX_ACKS: u32 = 512;

/// A consume stream.
pub(in crate::bench) struct Consumer {
    requests: mpsc::Sender<ConsumeRequest>,
    answers: Streaming<ConsumeResponse>,
    /// Number of the first delivery that was not acknowledged, and of the next that comes.
    unsettled: u64,
    next: u64,
    /// Acknowledged deliveries in flight, one settlement after the other.
    fates: Fates,
    /// Deliveries of settlements in flight; the broker counts settlements.
    counts: std::collections::VecDeque<u32>,
    settled: u64,
    known: u64,
}

impl Consumer {
    pub(super) async fn open(
        connection: Connection,
        namespace: &str,
        queue: &str,
        credit: u32,
    ) -> Result<Self, Failure> {
        let origin = connection.origin();
        let mut client = ConsumerClient::with_origin(connection, origin).max_decoding_message_size(MAX_FRAME_BYTES);
        let (requests, waiting) = mpsc::channel(OUTBOUND_FRAMES);
        let open = ConsumeOpen { namespace: namespace.to_owned(), queue: queue.to_owned(), ..ConsumeOpen::default() };
        let first = ConsumeRequest { open: Some(open), credit_messages: credit, ..ConsumeRequest::default() };
        requests.send(first).await.map_err(|_| gone())?;
        let answer = client.consume(outbound(waiting)).await.map_err(|status| refused(&status))?;
        let mut answers = answer.into_inner();
        // The first answer only says that the consumer is attached.
        answers.message().await.map_err(|status| refused(&status))?.ok_or_else(gone)?;
        Ok(Self {
            requests,
            answers,
            unsettled: 1,
            next: 1,
            fates: Fates::default(),
            counts: std::collections::VecDeque::new(),
            settled: 0,
            known: 0,
        })
    }

    /// Takes an answer in; gives how many messages came with it.
    fn answer(&mut self, answer: ConsumeResponse, look: &mut impl FnMut(&[u8])) -> u32 {
        for failure in answer.failures {
            let why = failure.problem.map(|problem| problem.detail).unwrap_or_default();
            // All of ours are acknowledged once and in order, so that a delivery's number is the number of its acknowledgement.
            self.fates.failed(failure.delivery.saturating_sub(1), 1, why);
        }
        while self.settled < answer.settled {
            self.settled += 1;
            self.known += u64::from(self.counts.pop_front().unwrap_or(0));
        }
        self.fates.known(self.known);
        for delivery in &answer.deliveries {
            look(&delivery.message.as_ref().map(api::grpc::Message::body).unwrap_or_default());
        }
        let came = u32::try_from(answer.deliveries.len()).unwrap_or(u32::MAX);
        self.next += u64::from(came);
        came
    }
}

impl Receiver for Consumer {
    async fn next(&mut self, look: &mut impl FnMut(&[u8])) -> Result<Event, Failure> {
        loop {
            if let Some(answered) = self.fates.next() {
                return Ok(Event::Acknowledged(answered));
            }
            let answer = self.answers.message().await.map_err(|status| refused(&status))?.ok_or_else(gone)?;
            let mut came = self.answer(answer, look);
            while came > 0 && came < MAX_ACKS {
                let Some(answer) = self.answers.message().now_or_never() else { break };
                let answer = answer.map_err(|status| refused(&status))?.ok_or_else(gone)?;
                came += self.answer(answer, look);
            }
            if came > 0 {
                return Ok(Event::Came(came));
            }
        }
    }

    async fn acknowledge(&mut self, now: Instant) -> Result<(), Failure> {
        let count = u32::try_from(self.next - self.unsettled).unwrap_or(u32::MAX);
        if count == 0 {
            return Ok(());
        }
        let range = DeliveryRange { first: self.unsettled, last: self.next - 1 };
        self.unsettled = self.next;
        self.fates.sent(now, count);
        self.counts.push_back(count);
        let settlement =
            StreamSettlement { action: SettleAction::Ack.into(), ranges: vec![range], ..StreamSettlement::default() };
        let request =
            ConsumeRequest { credit_messages: count, settlements: vec![settlement], ..ConsumeRequest::default() };
        self.requests.send(request).await.map_err(|_| gone())
    }
}
