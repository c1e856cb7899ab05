//! Calls whose answer is lost on the way: what the broker did is not known then, and is found out or said.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use embedded::Embedded;
use http::{Request, Response};
use sdk::transport::posthouse::{BoxedService, Posthouse, PosthouseOptions, RealTime};
use sdk::transport::{Expected, PublishError, QueueSpec, Transport};
use tonic::Status;
use tonic::body::Body;
use tonic::transport::Channel;
use tower::{BoxError, Service};

use crate::kit::{consume, keyed, log, next, publish, queue, soon, text, to_queue};

/// Loses the answers of calls to these paths, each once.
#[derive(Clone)]
struct Lossy {
    channel: Channel,
    losses: Arc<Mutex<VecDeque<&'static str>>>,
}

impl Service<Request<Body>> for Lossy {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.channel.poll_ready(context).map_err(BoxError::from)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let path = request.uri().path().to_owned();
        let (answer, losses) = (self.channel.call(request), Arc::clone(&self.losses));
        Box::pin(async move {
            let answer = answer.await?;
            let mut losses = losses.lock().unwrap();
            if losses.front().is_some_and(|lost| path.ends_with(lost)) {
                losses.pop_front();
                return Ok(Status::unavailable("the connection was reset").into_http());
            }
            Ok(answer)
        })
    }
}

async fn lossy(losses: &[&'static str]) -> (Embedded, Posthouse) {
    let broker = Embedded::builder().listen_grpc().start().await.unwrap();
    let url = broker.grpc_url().unwrap().replace("posthouse://", "http://");
    let channel = Channel::from_shared(url).unwrap().connect_lazy();
    let losses = Arc::new(Mutex::new(losses.iter().copied().collect()));
    let service = BoxedService::new(Lossy { channel, losses });
    let options = PosthouseOptions { confirm_timeout: Duration::from_secs(10), ..PosthouseOptions::default() };
    let transport = Posthouse::over(service, "there", "", options, Box::<RealTime>::default());
    (broker, transport)
}

#[tokio::test]
async fn a_conditional_publish_whose_answer_is_lost_is_known_by_its_ids() {
    let (_broker, transport) = lossy(&["Publisher/Publish"]).await;
    log(&transport, "t", 2).await;
    let events = || vec![keyed("cart", "a"), keyed("cart", "b")];
    let published = soon(transport.publish_expecting("t", events(), Expected::Nothing)).await.unwrap();
    assert_eq!(published.iter().map(|one| one.position.unwrap().offset).collect::<Vec<_>>(), [0, 1]);
    let stored = transport.read_key("t", b"cart", 0, 100).await.unwrap();
    assert_eq!(stored.iter().map(|record| text(&record.message)).collect::<Vec<_>>(), ["a", "b"], "once");
    let others = vec![keyed("cart", "c")];
    let refused = soon(transport.publish_expecting("t", others, Expected::Nothing)).await;
    assert_eq!(refused, Err(PublishError::WrongVersion { actual: Some(1) }));
}

#[tokio::test]
async fn an_acknowledgement_with_publishes_whose_answer_is_lost_says_that_it_is_not_known() {
    let (_broker, transport) = lossy(&["Publisher/AckAndPublish"]).await;
    queue(&transport, QueueSpec::new("q")).await;
    publish(&transport, vec![to_queue("q", "a")]).await;
    let mut consumer = consume(&transport, "q").await;
    let tag = next(&mut *consumer, 1).await[0].tag;
    let end = soon(consumer.settler().ack_and_publish(tag, vec![to_queue("q", "b")])).await;
    assert!(matches!(end, Err(PublishError::Unconfirmed { .. })), "{end:?}");
}
