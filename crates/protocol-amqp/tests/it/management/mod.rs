//! The management API's router, asked without a socket.

mod api;
mod definitions;
mod entities;
mod people;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, header};
use base64::Engine;
use broker::{Broker, BrokerOptions};
use log::MemoryLog;
use net::PeerInfo;
use protocol_amqp::Registry;
use protocol_amqp::management::{ManagementOptions, router};
use serde_json::Value as Json;
use tower::ServiceExt;
use types::clock::SystemClock;

pub(crate) struct Api {
    router: Router,
    peer: SocketAddr,
    login: Option<String>,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) location: Option<String>,
    pub(crate) body: Json,
}

impl Answer {
    /// The body, if the status is as expected.
    #[track_caller]
    pub(crate) fn of(self, status: u16) -> Json {
        assert_eq!(self.status, status, "{}", self.body);
        self.body
    }

    #[track_caller]
    pub(crate) fn refused(self, status: u16, error: &str) -> String {
        let body = self.of(status);
        assert_eq!(body["error"], error, "{body}");
        body["reason"].as_str().unwrap_or_default().to_owned()
    }
}

impl Api {
    pub(crate) fn new() -> Self {
        let clock = Arc::new(SystemClock::new());
        let broker = Broker::open(Arc::new(MemoryLog::new()), clock.clone(), BrokerOptions::default()).unwrap();
        let listeners = vec![("amqp", ([127, 0, 0, 1], 5672).into()), ("http", ([127, 0, 0, 1], 15672).into())];
        let options = ManagementOptions { clock, listeners, registry: Registry::default() };
        Self { router: router(broker, options), peer: ([127, 0, 0, 1], 40_000).into(), login: None }
            .as_user("guest", "guest")
    }

    pub(crate) fn as_user(&self, user: &str, password: &str) -> Self {
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        Self { router: self.router.clone(), peer: self.peer, login: Some(format!("Basic {pair}")) }
    }

    pub(crate) fn nobody(&self) -> Self {
        Self { router: self.router.clone(), peer: self.peer, login: None }
    }

    pub(crate) fn from(&self, peer: [u8; 4]) -> Self {
        Self { router: self.router.clone(), peer: (peer, 40_000).into(), login: self.login.clone() }
    }

    pub(crate) async fn call(&self, method: &str, path: &str, body: impl ToString) -> Answer {
        let mut request = Request::builder().method(method).uri(format!("/api{path}"));
        if let Some(login) = &self.login {
            request = request.header(header::AUTHORIZATION, login);
        }
        let mut request = request.body(Body::from(body.to_string())).unwrap();
        request.extensions_mut().insert(PeerInfo { addr: self.peer, tls: false, client_cn: None });
        let response = self.router.clone().oneshot(request).await.unwrap_or_else(|never| match never {});
        let status = response.status().as_u16();
        let location = response.headers().get(header::LOCATION).map(|at| at.to_str().unwrap().to_owned());
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        Answer { status, location, body: serde_json::from_slice(&body).unwrap_or(Json::Null) }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, "").await
    }

    pub(crate) async fn put(&self, path: &str, body: Json) -> Answer {
        self.call("PUT", path, body).await
    }

    pub(crate) async fn post(&self, path: &str, body: Json) -> Answer {
        self.call("POST", path, body).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.call("DELETE", path, "").await
    }
}

/// One field of each item of a list.
pub(crate) fn names<'a>(list: &'a Json, field: &str) -> Vec<&'a str> {
    list.as_array().unwrap().iter().map(|item| item[field].as_str().unwrap()).collect()
}
