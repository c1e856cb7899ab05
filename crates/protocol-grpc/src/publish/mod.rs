//! Publishing: the stream, and calls for simple clients.

mod run;
mod stream;

use std::pin::Pin;

use api::grpc as g;
use api::grpc::publisher_server::Publisher;
use broker::Receipt;
use bytes::Bytes;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use crate::app::App;
use crate::caller::{Caller, session};
use crate::failure::Failure;
use crate::input;
use crate::views;
use stream::PublishStream;
pub(crate) use stream::limits;

/// `posthouse.v1.Publisher`.
pub(crate) struct Publishing(pub(crate) App);

#[tonic::async_trait]
impl Publisher for Publishing {
    type PublishStreamStream = Pin<Box<dyn Stream<Item = Result<g::PublishConfirm, Status>> + Send>>;

    async fn publish_stream(
        &self,
        request: Request<Streaming<g::PublishFrame>>,
    ) -> Result<Response<Self::PublishStreamStream>, Status> {
        let caller = Caller::of(&self.0, &request).await?;
        let permit = self.0.stream()?;
        let stream = PublishStream::new(self.0.clone(), caller, request.into_inner(), permit);
        Ok(Response::new(Box::pin(stream)))
    }

    async fn publish(&self, request: Request<g::PublishRequest>) -> Result<Response<g::PublishResponse>, Status> {
        let session = session(&self.0, &request, &request.get_ref().namespace).await?;
        let request = request.into_inner();
        let to = input::target("to", request.to)?.ok_or_else(input::no_target)?;
        let messages = input::messages(request.messages, &Bytes::from(request.subject), self.0.now())?;
        let options = input::publish_options(request.options)?;
        let published = session.publish(&to, messages, options).await.map_err(Failure::from)?;
        let published = published.into_iter().map(views::published).collect();
        Ok(Response::new(g::PublishResponse { published }))
    }

    async fn ack_and_publish(
        &self,
        request: Request<g::AckAndPublishRequest>,
    ) -> Result<Response<g::PublishResponse>, Status> {
        let session = session(&self.0, &request, &request.get_ref().namespace).await?;
        let request = request.into_inner();
        let receipt = request.receipt.parse::<Receipt>().map_err(|_| Failure::bad_receipt())?;
        let mut publishes = Vec::with_capacity(request.publishes.len());
        for publish in request.publishes {
            let to = input::target("publishes.to", publish.to)?.ok_or_else(input::no_target)?;
            publishes.push((to, input::messages(publish.messages, &Bytes::new(), self.0.now())?));
        }
        let published = session.ack_and_publish(receipt, publishes).await.map_err(Failure::from)?;
        let published = published.into_iter().map(views::published).collect();
        Ok(Response::new(g::PublishResponse { published }))
    }
}
