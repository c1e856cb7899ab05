//! Readiness and liveness of a service, for whoever runs it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use crate::client::Client;
use crate::transport::Connection;

/// Time for one look at something that a service needs.
const CHECK_LIMIT: Duration = Duration::from_secs(2);

/// Looks whether something that a service needs is there: the error says why not.
pub(crate) type Check = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// The health of a running service. Cheap to clone.
#[derive(Clone)]
pub struct Health {
    pub(crate) client: Client,
    pub(crate) stop: CancellationToken,
    pub(crate) checks: Arc<[(String, Check)]>,
}

impl Health {
    /// Why the service cannot work now; nothing if it can. It can while it has a connection to its broker, what it
    /// [needs](crate::Service::check) is there, and it has not been told to stop.
    pub async fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.stop.is_cancelled() {
            problems.push("it is stopping".to_owned());
        }
        match *self.client.transport().connection().borrow() {
            Connection::Up => {}
            Connection::Down => problems.push("the broker cannot be reached; it is tried again".to_owned()),
            Connection::Closed => problems.push("the connection to the broker was closed".to_owned()),
        }
        for (name, check) in self.checks.iter() {
            match tokio::time::timeout(CHECK_LIMIT, check()).await {
                Ok(Ok(())) => {}
                Ok(Err(why)) => problems.push(format!("{name}: {why}")),
                Err(_) => problems.push(format!("{name}: no answer within {CHECK_LIMIT:?}")),
            }
        }
        problems
    }

    /// Whether the service can work now.
    pub async fn is_ready(&self) -> bool {
        self.problems().await.is_empty()
    }

    /// Answers to be merged into a service's own HTTP server: `GET /livez` is 200 for as long as the process answers, `GET /readyz` is 200 while the service can
    /// work and 503 with the reasons, a line each, otherwise.
    #[cfg(feature = "http")]
    pub fn router(&self) -> axum::Router {
        use axum::http::StatusCode;
        use axum::routing::get;

        let health = self.clone();
        let ready = move || {
            let health = health.clone();
            async move {
                let problems = health.problems().await;
                if problems.is_empty() {
                    (StatusCode::OK, "ready\n".to_owned())
                } else {
                    (StatusCode::SERVICE_UNAVAILABLE, problems.join("\n") + "\n")
                }
            }
        };
        axum::Router::new().route("/livez", get(|| async { "alive\n" })).route("/readyz", get(ready))
    }

    /// Serves [`router`](Self::router) at this address, for a service without an HTTP server of its own; the address that was bound. It answers until the
    /// process ends, since whoever looks wants to hear that the service is stopping.
    ///
    /// # Errors
    /// If the address cannot be bound.
    #[cfg(feature = "http")]
    pub async fn serve(&self, address: std::net::SocketAddr) -> std::io::Result<std::net::SocketAddr> {
        let listener = tokio::net::TcpListener::bind(address).await?;
        let bound = listener.local_addr()?;
        let router = self.router();
        tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::warn!(%error, "the health endpoints are gone");
            }
        });
        Ok(bound)
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health").field("checks", &self.checks.len()).finish_non_exhaustive()
    }
}
