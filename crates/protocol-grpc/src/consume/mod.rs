//! Consuming from queues: the stream, and calls for simple clients.

mod settling;
mod stream;
mod unsettled;

use std::pin::Pin;

use api::grpc as g;
use api::grpc::consumer_server::Consumer;
use broker::{Receipt, Receive};
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use crate::app::App;
use crate::caller::{Caller, session};
use crate::failure::Failure;
use crate::input::{self, How};
use crate::limits::MAX_SETTLEMENTS;
use crate::views;

/// `posthouse.v1.Consumer`.
pub(crate) struct Consuming(pub(crate) App);

#[tonic::async_trait]
impl Consumer for Consuming {
    type ConsumeStream = Pin<Box<dyn Stream<Item = Result<g::ConsumeResponse, Status>> + Send>>;

    async fn consume(
        &self,
        request: Request<Streaming<g::ConsumeRequest>>,
    ) -> Result<Response<Self::ConsumeStream>, Status> {
        let caller = Caller::of(&self.0, &request).await?;
        let permit = self.0.stream()?;
        Ok(Response::new(Box::pin(stream::start(self.0.clone(), caller, request.into_inner(), permit))))
    }

    async fn receive(&self, request: Request<g::ReceiveRequest>) -> Result<Response<g::ReceiveResponse>, Status> {
        let caller = Caller::of(&self.0, &request).await?;
        let request = request.into_inner();
        let session = caller.session(&self.0, &request.namespace)?;
        let wait = input::wait(request.wait_ms)?;
        let receive = Receive {
            max: input::max_messages(request.max, 1)?,
            max_bytes: input::max_bytes(request.max_bytes),
            wait,
            lease: request.lease_ms.map(|ms| input::positive("lease_ms", ms)).transpose()?,
            auto_ack: request.auto_ack,
        };
        let receiving = session.receive(&request.queue, receive);
        let found = self.0.waiting(&caller.drain, wait, receiving).await?.transpose().map_err(Failure::from)?;
        let deliveries = found.unwrap_or_default().into_iter().map(|found| views::delivery(found, true)).collect();
        Ok(Response::new(g::ReceiveResponse { deliveries }))
    }

    async fn settle(&self, request: Request<g::SettleRequest>) -> Result<Response<g::SettleResponse>, Status> {
        let session = session(&self.0, &request, &request.get_ref().namespace).await?;
        let settlements = request.into_inner().settlements;
        if settlements.iter().map(|settlement| settlement.receipts.len()).sum::<usize>() > MAX_SETTLEMENTS {
            let why = format!("a call settles at most {MAX_SETTLEMENTS} deliveries (MAX_SETTLEMENTS)");
            return Err(Failure::too_large(why, "MAX_SETTLEMENTS").into());
        }
        let (mut batch, mut receipts, mut failures) = (Vec::new(), Vec::new(), Vec::new());
        let mut fail = |receipt: String, failure: Failure| {
            failures.push(g::SettleFailure { receipt, problem: Some(failure.problem()) });
        };
        for g::Settlement { receipts: given, action, after_ms, error, extend_ms } in settlements {
            let how = input::how(action, after_ms, error, extend_ms)?;
            for text in given {
                match (text.parse::<Receipt>(), &how) {
                    (Err(_), _) => fail(text, Failure::bad_receipt()),
                    (Ok(receipt), How::Settle(settle)) => {
                        batch.push((receipt, settle.clone()));
                        receipts.push(text);
                    }
                    (Ok(receipt), How::Extend(by)) => {
                        if let Err(error) = session.extend(receipt, *by) {
                            fail(text, error.into());
                        }
                    }
                }
            }
        }
        for (receipt, result) in receipts.into_iter().zip(session.settle(batch).await) {
            if let Err(error) = result {
                fail(receipt, error.into());
            }
        }
        Ok(Response::new(g::SettleResponse { failures }))
    }
}
