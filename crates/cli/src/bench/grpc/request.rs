//! Asking and answering.

use api::grpc::live_client::LiveClient;
use api::grpc::{Answer, Message, ReplyFrame, RequestRequest, SubscribeRequest};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};

use super::connection::Connection;
use super::{gone, refused};
use crate::bench::driver::{Answered, Frame, Sender};
use crate::failure::{Exit, Failure};

/// A connection that asks; each request is a call.
pub(in crate::bench) struct Asker {
    client: LiveClient<Connection>,
    namespace: String,
    subject: Bytes,
    in_flight: FuturesUnordered<LocalBoxFuture<'static, Result<Answered, Failure>>>,
}

impl Asker {
    pub(super) fn new(connection: Connection, namespace: &str, subject: &str) -> Self {
        let origin = connection.origin();
        Self {
            client: LiveClient::with_origin(connection, origin),
            namespace: namespace.to_owned(),
            subject: Bytes::from(subject.to_owned()),
            in_flight: FuturesUnordered::new(),
        }
    }
}

impl Sender for Asker {
    async fn send(&mut self, frame: Frame) -> Result<(), Failure> {
        for _ in 0..frame.count {
            let mut client = self.client.clone();
            let (subject, body) = (self.subject.clone(), Some(frame.body.clone()));
            let message = Message::from(types::Message { subject, body, ..types::Message::default() });
            let request = RequestRequest { namespace: self.namespace.clone(), message: Some(message) };
            let since = frame.since;
            self.in_flight.push(Box::pin(async move {
                match client.request(request).await {
                    Ok(_) => Ok(Answered { since, done: 1, failed: 0, why: None }),
                    Err(status) => match refused(&status) {
                        failure if failure.exit == Exit::Connection => Err(failure),
                        failure => Ok(Answered::refused(since, 1, failure.what)),
                    },
                }
            }));
        }
        Ok(())
    }

    async fn answered(&mut self) -> Result<Answered, Failure> {
        match self.in_flight.next().await {
            Some(answered) => answered,
            None => std::future::pending().await,
        }
    }
}

/// Answers all that is asked on a subject with what was asked.
pub(super) async fn answer(
    client: &mut LiveClient<Connection>,
    out: mpsc::Sender<ReplyFrame>,
    frames: impl futures_util::Stream<Item = ReplyFrame> + Send + 'static,
    namespace: &str,
    subject: &str,
    ready: oneshot::Sender<()>,
) -> Result<(), Failure> {
    let (namespace, subject) = (namespace.to_owned(), subject.to_owned());
    let open = SubscribeRequest { namespace, subject, ..SubscribeRequest::default() };
    out.send(ReplyFrame { open: Some(open), answers: Vec::new() }).await.map_err(|_| gone())?;
    let answer = client.reply(frames).await.map_err(|status| refused(&status))?;
    let mut requests = answer.into_inner();
    let mut ready = Some(ready);
    while let Some(came) = requests.message().await.map_err(|status| refused(&status))? {
        if let Some(ready) = ready.take().filter(|_| came.opened) {
            let _ = ready.send(());
        }
        let answer = |(at, request): (u64, Message)| {
            let message = types::Message { body: Some(request.body()), ..types::Message::default() };
            Answer { request: came.first + at, message: Some(Message::from(message)) }
        };
        let answers: Vec<Answer> = (0..).zip(came.requests).map(answer).collect();
        if !answers.is_empty() {
            out.send(ReplyFrame { open: None, answers }).await.map_err(|_| gone())?;
        }
    }
    Err(gone())
}
