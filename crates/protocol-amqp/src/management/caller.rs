//! Who asks, and what their tags let them do. Tags are RabbitMQ's: they say what of the API is open to a user, and permissions what in a vhost.

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use broker::views::NamespaceInfo;
use broker::{Credentials, Principal, Session};
use net::PeerInfo;

use super::App;
use super::refusal::Refusal;
use crate::entities::vhost::{namespace, vhost};

/// The user that is let in from this machine while there are no users at all, and its password.
const GUEST: &str = "guest";

/// Everything: users, vhosts, permissions, and all that the others may.
pub(super) const ADMINISTRATOR: &str = "administrator";
/// Sees all vhosts, connections and nodes.
const MONITORING: &str = "monitoring";
/// Sets policies and parameters of the vhosts that it may enter.
const POLICYMAKER: &str = "policymaker";
/// Uses the API in the vhosts that it may enter.
const MANAGEMENT: &str = "management";

/// An authenticated user who may use the API at all.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) principal: Principal,
    pub(super) name: String,
    pub(super) tags: Vec<String>,
}

impl FromRequestParts<App> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        let authorization = parts.headers.get(AUTHORIZATION).map(|value| value.as_bytes());
        let peer = parts.extensions.get::<PeerInfo>();
        let credentials = Credentials::of_request(authorization, peer.and_then(|peer| peer.client_cn.as_deref()))?;
        let is_local = peer.is_some_and(|peer| peer.addr.ip().to_canonical().is_loopback());
        if is_guest(&credentials) && is_local && !app.broker.has_users() {
            let principal = app.broker.authenticate(&Credentials::Anonymous)?;
            return Ok(Self { principal, name: GUEST.to_owned(), tags: vec![ADMINISTRATOR.to_owned()] });
        }
        if matches!(credentials, Credentials::Anonymous) {
            return Err(Refusal::not_authorized("Login failed"));
        }
        let principal = app.broker.login(credentials, peer.map(|peer| peer.addr.ip())).await?;
        let user = app.broker.own_user(&principal)?.ok_or_else(|| Refusal::not_authorized("Login failed"))?;
        let caller = Self { principal, name: user.name.clone(), tags: shown_tags(user.admin, user.tags) };
        if !caller.has_any(&[ADMINISTRATOR, MONITORING, POLICYMAKER, MANAGEMENT]) {
            return Err(Refusal::not_authorized("Not management user"));
        }
        Ok(caller)
    }
}

fn is_guest(credentials: &Credentials) -> bool {
    matches!(credentials, Credentials::Password { user, password } if user == GUEST && password == GUEST)
}

/// A user's tags. An administrator of the broker is one to the API.
pub(super) fn shown_tags(admin: bool, mut tags: Vec<String>) -> Vec<String> {
    if admin && !tags.iter().any(|tag| tag == ADMINISTRATOR) {
        tags.insert(0, ADMINISTRATOR.to_owned());
    }
    tags
}

impl Caller {
    fn has_any(&self, wanted: &[&str]) -> bool {
        self.tags.iter().any(|tag| wanted.contains(&tag.as_str()))
    }

    pub(super) fn is_administrator(&self) -> bool {
        self.has_any(&[ADMINISTRATOR])
    }

    /// Whether it sees what belongs to others.
    pub(super) fn is_monitor(&self) -> bool {
        self.has_any(&[ADMINISTRATOR, MONITORING])
    }

    /// The broker itself, for what an administrator was let begin and must not be cut off from halfway: the first user that an import makes ends
    /// `guest`'s stand-in for one.
    ///
    /// # Errors
    /// 401 if it is no administrator.
    pub(super) fn to_the_end(&self, app: &App) -> Result<Self, Refusal> {
        self.administrator()?;
        let itself = exists(app, "/")?;
        Ok(Self { principal: itself.principal().clone(), ..self.clone() })
    }

    /// # Errors
    /// 401 if it is no administrator.
    pub(super) fn administrator(&self) -> Result<(), Refusal> {
        if self.is_administrator() { Ok(()) } else { Err(Refusal::not_authorized("Not administrator user")) }
    }

    /// # Errors
    /// 401 if it may not see what belongs to others.
    pub(super) fn monitor(&self) -> Result<(), Refusal> {
        if self.is_monitor() { Ok(()) } else { Err(Refusal::not_authorized("Not monitor user")) }
    }

    /// # Errors
    /// 401 if it may set no policies.
    pub(super) fn policymaker(&self) -> Result<(), Refusal> {
        match self.has_any(&[ADMINISTRATOR, POLICYMAKER]) {
            true => Ok(()),
            false => Err(Refusal::not_authorized("Not policymaker user")),
        }
    }

    /// The vhosts that it sees, by name: the `(vhost, namespace)` of each.
    pub(super) fn vhosts(&self, app: &App) -> Result<Vec<NamespaceInfo>, Refusal> {
        if self.is_monitor() {
            return Ok(app.broker.all_namespaces());
        }
        Ok(app.broker.namespaces(&self.principal)?)
    }

    /// A session in a vhost, in which it does what its permissions allow.
    ///
    /// # Errors
    /// 404 if there is no such vhost, 401 if it may do nothing in it.
    pub(super) fn session(&self, app: &App, vhost: &str) -> Result<Session, Refusal> {
        exists(app, vhost)?;
        Ok(app.broker.session(&self.principal, namespace(vhost))?)
    }

    /// A session in a vhost in which all is seen: for looking, by one who may.
    ///
    /// # Errors
    /// As [`session`](Self::session).
    pub(super) fn view(&self, app: &App, vhost: &str) -> Result<Session, Refusal> {
        let view = exists(app, vhost)?;
        if !self.is_monitor() {
            app.broker.session(&self.principal, namespace(vhost))?;
        }
        Ok(view)
    }

    /// Those sessions of all vhosts that it sees.
    pub(super) fn views(&self, app: &App) -> Result<Vec<Session>, Refusal> {
        let all = self.vhosts(app)?;
        Ok(all.iter().filter_map(|info| app.broker.internal_session(&info.name)).collect())
    }

    /// Of one vhost or all.
    ///
    /// # Errors
    /// As [`session`](Self::session).
    pub(super) fn views_of(&self, app: &App, vhost: Option<&str>) -> Result<Vec<Session>, Refusal> {
        vhost.map_or_else(|| self.views(app), |vhost| Ok(vec![self.view(app, vhost)?]))
    }

    /// Whether it sees what is in this vhost.
    pub(super) fn sees(&self, app: &App, vhost: &str) -> bool {
        self.is_monitor() || app.broker.session(&self.principal, namespace(vhost)).is_ok()
    }
}

/// # Errors
/// 404 if there is no such vhost.
pub(super) fn exists(app: &App, name: &str) -> Result<Session, Refusal> {
    // `default` is another name of `/`, and not to be met by it: what is listed is found under the name it is listed under.
    let there = (vhost(name) == name).then(|| app.broker.internal_session(namespace(name))).flatten();
    there.ok_or_else(Refusal::no_such_object)
}
