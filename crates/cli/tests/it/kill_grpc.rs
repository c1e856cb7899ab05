//! The gRPC half of the load under which the server is killed: publish streams with several frames on their way, and standing
//! consumers that settle on their stream.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use api::grpc as g;
use api::grpc::consumer_client::ConsumerClient;
use api::grpc::publisher_client::PublisherClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use crate::harness::Server;
use crate::kill::{Publisher, To};
use crate::kill_ledger::{Fate, Id, Ledger, error_of, id_of, key_of};

/// Frames of a publisher on their way at a time: as many stamps as the broker remembers of a producer.
const WINDOW: usize = 5;
/// Deliveries of a consumer out at a time.
const CREDIT: u32 = 12;

/// Runs a client on a thread of its own.
pub(crate) fn block_on<T>(client: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(client)
}

/// A connection; `None` if the server is gone already.
pub(crate) async fn connect(server: &Server) -> Option<Channel> {
    let address = server.grpc.replace("grpc://", "http://");
    Channel::from_shared(address).unwrap().connect().await.ok()
}

impl Publisher {
    /// Publishes until the server is gone, or with `more` unset until all that was open is confirmed. What was open is sent again first,
    /// if it has a stamp.
    pub(crate) async fn stream(&mut self, server: &Server, ledgers: &[Mutex<Ledger>; 2], more: bool) {
        // The error of a stream is its end: what it left open is known by what was not confirmed.
        let _ = self.stream_to_its_end(server, ledgers, more).await;
        if !self.is_stamped() {
            let open = self.open.drain(..);
            // A frame of which a part is confirmed is not taken whole or not at all.
            self.unknown.extend(open.filter(|_| self.is_atomic));
        }
    }

    async fn stream_to_its_end(&mut self, server: &Server, ledgers: &[Mutex<Ledger>; 2], more: bool) -> Option<()> {
        let (send, frames) = mpsc::channel(WINDOW + 1);
        let to = match self.to {
            To::Topic => g::target::To::Topic("events".to_owned()),
            To::Queue(queue) => g::target::To::Queue(ledgers[queue].lock().unwrap().queue.to_owned()),
        };
        let open = g::PublishOpen { to: Some(g::Target { to: Some(to) }), ..Default::default() };
        send.send(g::PublishFrame { open: Some(open), ..Default::default() }).await.ok()?;
        let mut client = PublisherClient::new(connect(server).await?);
        let mut answers = client.publish_stream(ReceiverStream::new(frames)).await.ok()?.into_inner();
        let mut sent = 0;
        // Messages of this stream are those of this publisher from here on.
        let first = self.open.front().map_or(self.next, |(first, _)| *first);
        loop {
            while more && self.open.len() < WINDOW && ledgers[self.queue()].lock().unwrap().has_room() {
                let frame = (self.next, self.count());
                self.next += frame.1;
                self.open.push_back(frame);
            }
            while sent < self.open.len() {
                let frame = self.frame(self.open[sent]);
                send.send(frame).await.ok()?;
                sent += 1;
            }
            if self.open.is_empty() {
                if !more || ledgers[self.queue()].lock().unwrap().is_over {
                    return Some(());
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
                continue;
            }
            let answer = answers.message().await.ok()??;
            assert!(answer.failures.is_empty(), "{:?}", answer.failures);
            let confirmed = first + answer.confirmed;
            while let Some((begin, count)) = self.open.front().copied()
                && begin < confirmed
            {
                let known = count.min(confirmed - begin);
                ledgers[self.queue()].lock().unwrap().confirm(self.number, begin, known);
                self.open.pop_front();
                sent -= 1;
                if known < count {
                    assert!(!self.is_stamped() && !self.is_atomic, "a part of a frame of all or none");
                    self.open.push_front((begin + known, count - known));
                    sent += 1;
                }
            }
        }
    }

    fn frame(&self, (first, count): (u64, u64)) -> g::PublishFrame {
        let message = |n| {
            let mut message = types::Message::new("events.made", format!("[{},{n}]", self.number));
            message.key = Some(key_of((self.number, n)).into());
            message.content_type = Some("application/json".into());
            message.into()
        };
        let producer =
            self.is_stamped().then(|| g::Producer { id: format!("p{}", self.number), epoch: 0, sequence: first });
        let options = g::PublishOptions { producer, ..Default::default() };
        g::PublishFrame {
            messages: (first..first + count).map(message).collect(),
            atomic: self.is_atomic,
            options: Some(options),
            ..Default::default()
        }
    }
}

/// Takes and settles until the server is gone.
pub(crate) async fn consume(server: &Server, ledger: &Mutex<Ledger>) {
    // As above: the end is the kill.
    let _ = consume_to_its_end(server, ledger).await;
}

async fn consume_to_its_end(server: &Server, ledger: &Mutex<Ledger>) -> Option<()> {
    // Room for one frame a delivery, so that sending never waits for an answer that is not read.
    let (send, frames) = mpsc::channel(2 * CREDIT as usize);
    let open = g::ConsumeOpen { queue: ledger.lock().unwrap().queue.to_owned(), ..Default::default() };
    let first = g::ConsumeRequest { open: Some(open), credit_messages: CREDIT, ..Default::default() };
    send.send(first).await.ok()?;
    let mut client = ConsumerClient::new(connect(server).await?);
    let mut answers = client.consume(ReceiverStream::new(frames)).await.ok()?.into_inner();
    let (mut settled, mut open): (u64, VecDeque<(Id, u64, Fate)>) = (0, VecDeque::new());
    loop {
        let answer = answers.message().await.ok()??;
        assert!(answer.failures.is_empty(), "{:?}", answer.failures);
        while settled < answer.settled {
            let (id, attempt, fate) = open.pop_front().unwrap();
            ledger.lock().unwrap().settled(id, attempt, fate);
            settled += 1;
        }
        if answer.deliveries.is_empty() {
            continue;
        }
        let mut request = g::ConsumeRequest { credit_messages: answer.deliveries.len() as u32, ..Default::default() };
        for (number, delivery) in (answer.first..).zip(answer.deliveries) {
            let message = delivery.message.unwrap().into_message(types::Timestamp(0)).unwrap();
            let id = id_of(&serde_json::from_slice(message.body.as_deref().unwrap()).unwrap());
            assert_eq!(message.key.as_deref(), Some(key_of(id).as_bytes()));
            let attempt = u64::from(delivery.attempt);
            let fate = ledger.lock().unwrap().deliver(id, attempt, delivery.redelivered);
            request.settlements.push(settlement(number, id, attempt, fate));
            open.push_back((id, attempt, fate));
        }
        send.send(request).await.ok()?;
    }
}

fn settlement(number: u64, id: Id, attempt: u64, fate: Fate) -> g::StreamSettlement {
    let action = match fate {
        Fate::Ack => g::SettleAction::Ack,
        Fate::Nack => g::SettleAction::Nack,
        Fate::Reject => g::SettleAction::Reject,
    };
    let error = if fate == Fate::Ack { String::new() } else { error_of(id, attempt) };
    g::StreamSettlement { action: action.into(), deliveries: vec![number], error, ..Default::default() }
}
