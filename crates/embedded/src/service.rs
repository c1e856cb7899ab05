//! The way from transports to the broker that runs at the moment, if one does.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use parking_lot::Mutex;
use protocol_grpc::Services;
use tonic::Status;
use tonic::body::Body;
use tower::Service;

/// The gRPC services of whichever broker runs. Transports keep it while brokers stop and start.
#[derive(Clone, Default)]
pub(crate) struct Slot(Arc<Mutex<Option<Services>>>);

impl Slot {
    pub(crate) fn put(&self, services: Option<Services>) {
        *self.0.lock() = services;
    }
}

impl Service<Request<Body>> for Slot {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let services = self.0.lock().clone();
        match services {
            Some(mut services) => services.call(request),
            None => Box::pin(async { Ok(Status::unavailable("the broker is stopped").into_http()) }),
        }
    }
}
