//! The way to the broker's services: a connection, or the services themselves in the same process.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HeaderValue};
use http::{Request, Response};
use tonic::body::Body;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Service};

use super::PosthouseOptions;
use super::options::{Address, Token, credentials};
use crate::transport::TransportError;

/// The broker's gRPC services, however they are reached.
pub type BoxedService = BoxCloneSyncService<Request<Body>, Response<Body>, BoxError>;

/// What each stream, and the connection, may be sent before it has read it. A window that runs empty costs a round trip.
const STREAM_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// How often a connection is asked for a sign of life, and how long that may take: a peer that is gone without a word is noticed then.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one try to connect may take.
const TRY_TIMEOUT: Duration = Duration::from_secs(10);

/// A [`BoxedService`] with the caller's credentials.
#[derive(Clone, Debug)]
pub(super) struct Door {
    service: BoxedService,
    authorization: Option<HeaderValue>,
}

impl Door {
    /// Services that are called as they are.
    pub(super) fn to(service: BoxedService, token: Option<&Token>) -> Self {
        Self { service, authorization: token.map(|token| token.0.clone()) }
    }

    /// A connection that is made when it is needed, and made again when it was lost.
    pub(super) fn connect(address: &Address, options: &PosthouseOptions) -> Result<Self, TransportError> {
        let invalid = |error: tonic::transport::Error| TransportError::Invalid(format!("the broker's URL: {error}"));
        let scheme = if address.tls { "https" } else { "http" };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{}", address.place()))
            .map_err(invalid)?
            .connect_timeout(TRY_TIMEOUT)
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true);
        if address.tls {
            let tls = ClientTlsConfig::new();
            let tls = match &options.authorities {
                Some(pem) => tls.ca_certificate(Certificate::from_pem(pem)),
                None => tls.with_native_roots(),
            };
            endpoint = endpoint.tls_config(tls).map_err(invalid)?;
        } else if options.authorities.is_some() {
            let why = "`authorities` is for TLS, and the URL asks for none; begin it with posthouses://";
            return Err(TransportError::Invalid(why.to_owned()));
        }
        let authorization = match (&options.token, &address.user) {
            (Some(_), Some(_)) => {
                let why = "there is a token and a user in the URL; give one of them";
                return Err(TransportError::Invalid(why.to_owned()));
            }
            (Some(token), None) => Some(token.0.clone()),
            (None, Some((user, password))) => {
                Some(credentials(&format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))?)
            }
            (None, None) => None,
        };
        let channel = endpoint.connect_lazy();
        let service = tower::util::MapErr::new(channel, BoxError::from as fn(tonic::transport::Error) -> BoxError);
        Ok(Self { service: BoxCloneSyncService::new(service), authorization })
    }
}

impl Service<Request<Body>> for Door {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        self.service.call(request)
    }
}
