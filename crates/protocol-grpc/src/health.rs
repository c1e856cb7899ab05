//! `grpc.health.v1`: whether publishes are taken, as `/readyz` of the HTTP API says it. Asked without credentials, as that is.

use std::pin::Pin;
use std::time::Duration;

use broker::Broker;
use futures_util::stream;
use net::Drain;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

/// How often a watch looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// The services that can be asked for, besides the server as a whole. All of them are as well as it is.
const SERVICES: &[&str] = &[
    "",
    "posthouse.v1.Admin",
    "posthouse.v1.Consumer",
    "posthouse.v1.Live",
    "posthouse.v1.Publisher",
    "posthouse.v1.Reader",
];

/// The health of a broker.
pub(crate) struct HealthOf(pub(crate) Broker);

fn state(broker: &Broker, drain: &Drain) -> ServingStatus {
    // Not while draining, so that a load balancer looks elsewhere.
    if drain.is_begun() || broker.not_ready().is_some() { ServingStatus::NotServing } else { ServingStatus::Serving }
}

fn answer(state: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: i32::from(state) }
}

#[tonic::async_trait]
impl Health for HealthOf {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        if !SERVICES.contains(&request.get_ref().service.as_str()) {
            return Err(Status::not_found("there is no such service"));
        }
        let drain = request.extensions().get::<Drain>().cloned().unwrap_or_default();
        Ok(Response::new(answer(state(&self.0, &drain))))
    }

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let drain = request.extensions().get::<Drain>().cloned().unwrap_or_default();
        let known = SERVICES.contains(&request.get_ref().service.as_str());
        let broker = self.0.clone();
        let looks = stream::unfold(None, move |last: Option<ServingStatus>| {
            let (broker, drain) = (broker.clone(), drain.clone());
            async move {
                loop {
                    // The protocol wants a watch of an unknown service to stay open.
                    let now = if known { state(&broker, &drain) } else { ServingStatus::ServiceUnknown };
                    if last != Some(now) {
                        return Some((Ok(answer(now)), Some(now)));
                    }
                    if drain.is_begun() {
                        return None;
                    }
                    tokio::select! {
                        () = tokio::time::sleep(LOOK_INTERVAL) => {}
                        () = drain.begun() => {}
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(looks)))
    }
}
