//! Who is asking, and in which namespace.

use broker::{Credentials, Principal, Session};
use net::{Drain, PeerInfo};
use tonic::{Extensions, Request};

use crate::app::App;
use crate::failure::Failure;

/// A call's caller, and the drain of the listener that it came in by.
pub(crate) struct Caller {
    pub(crate) principal: Principal,
    pub(crate) drain: Drain,
}

impl Caller {
    /// Authenticates the caller.
    ///
    /// # Errors
    /// See [`broker::AccessError`].
    pub(crate) async fn of<T>(app: &App, request: &Request<T>) -> Result<Self, Failure> {
        let authorization = request.metadata().get("authorization").map(|value| value.as_encoded_bytes());
        let peer = request.extensions().get::<PeerInfo>();
        let credentials = Credentials::of_request(authorization, peer.and_then(|peer| peer.client_cn.as_deref()))?;
        let address = peer.map(|peer| peer.addr.ip());
        Ok(Self { principal: app.broker.login(credentials, address).await?, drain: drain(request.extensions()) })
    }

    /// A session of the caller in a namespace.
    ///
    /// # Errors
    /// If there is no such namespace, or the caller may do nothing in it.
    pub(crate) fn session(&self, app: &App, namespace: &str) -> Result<Session, Failure> {
        Ok(app.broker.session(&self.principal, if namespace.is_empty() { "default" } else { namespace })?)
    }
}

/// The drain of the listener; one that never begins if there is none, as in tests.
fn drain(extensions: &Extensions) -> Drain {
    extensions.get::<Drain>().cloned().unwrap_or_default()
}

/// A session of a unary call's caller.
///
/// # Errors
/// See [`Caller`].
pub(crate) async fn session<T>(app: &App, request: &Request<T>, namespace: &str) -> Result<Session, Failure> {
    Caller::of(app, request).await?.session(app, namespace)
}
