//! What is passed on in memory: listeners, and inboxes for answers.

use std::collections::VecDeque;

use api::grpc as g;
use futures_util::future::BoxFuture;
use tonic::Streaming;
use types::Timestamp;

use super::core::Keep;
use super::fault::Fault;
use crate::Envelope;
use crate::transport::{Inbox, Listener, TransportError};

/// A live subscription that is made again when its connection was lost.
pub(super) struct Subscription {
    core: Keep,
    request: g::SubscribeRequest,
    stream: Option<Streaming<g::SubscribeResponse>>,
    ready: VecDeque<Envelope>,
    /// Of an inbox.
    address: String,
    lost: u64,
}

impl Subscription {
    /// Ready when it is in force.
    pub(super) async fn open(core: &Keep, mut request: g::SubscribeRequest) -> Result<Self, TransportError> {
        request.namespace.clone_from(&core.namespace);
        let mut subscription =
            Self { core: core.clone(), request, stream: None, ready: VecDeque::new(), address: String::new(), lost: 0 };
        subscription.subscribe().await?;
        Ok(subscription)
    }

    async fn subscribe(&mut self) -> Result<(), TransportError> {
        let core = self.core.clone();
        let what = format!("subject {:?}", self.request.subject);
        let opened = core
            .call(&what, || {
                let (mut client, request) = (core.live(), self.request.clone());
                async move {
                    let mut stream = client.subscribe(request).await?.into_inner();
                    match stream.message().await? {
                        Some(first) if first.opened => Ok(tonic::Response::new((stream, first.inbox))),
                        _ => Err(tonic::Status::unavailable("the broker ended the subscription before it began")),
                    }
                }
            })
            .await?;
        self.stream = Some(opened.0);
        self.address = opened.1;
        self.lost = 0;
        Ok(())
    }

    async fn take(&mut self) -> Option<Envelope> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Some(message);
            }
            let Some(stream) = &mut self.stream else {
                match self.subscribe().await {
                    Ok(()) => continue,
                    Err(TransportError::Closed) => return None,
                    Err(error) => {
                        // Nobody could be told, and it may heal: a permission may be given.
                        tracing::warn!(subject = %self.request.subject, %error, "nothing is heard on this subject; trying again");
                        if !self.core.pause(&mut self.core.pace()).await {
                            return None;
                        }
                        continue;
                    }
                }
            };
            let answer = tokio::select! {
                biased;
                () = self.core.closing.cancelled() => return None,
                answer = stream.message() => answer,
            };
            match answer {
                Ok(Some(answer)) => {
                    if answer.lost > self.lost {
                        let count = answer.lost - self.lost;
                        tracing::warn!(subject = %self.request.subject, count, "messages were lost: they came faster than they were taken");
                        self.lost = answer.lost;
                    }
                    let read = |message: g::Message| message.into_message(Timestamp(0)).ok();
                    self.ready.extend(answer.messages.into_iter().filter_map(read));
                }
                Ok(None) => self.stream = None,
                Err(status) => {
                    let fault = Fault::of_status(&status);
                    tracing::debug!(subject = %self.request.subject, why = fault.detail(), "the subscription is lost");
                    self.stream = None;
                }
            }
        }
    }
}

impl Listener for Subscription {
    fn next(&mut self) -> BoxFuture<'_, Option<Envelope>> {
        Box::pin(self.take())
    }
}

impl Inbox for Subscription {
    fn address(&self) -> String {
        self.address.clone()
    }

    fn next(&mut self) -> BoxFuture<'_, Option<Envelope>> {
        Box::pin(self.take())
    }
}
