//! Topic permissions: which routing keys of an exchange of type topic a user may publish with and bind with.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use broker::definitions::SubjectPermissions;
use broker::{UserChange, UserInfo};
use serde_json::{Value as Json, json};

use super::App;
use super::caller::{Caller, exists};
use super::input::{Body, Params};
use super::list::{self, Reply};
use super::permissions::{expression, patterns};
use super::queues::made;
use super::refusal::Refusal;
use super::users::{user, users};
use crate::entities::vhost::{namespace, vhost};

pub(super) fn router() -> Router<App> {
    Router::new()
        .route("/topic-permissions", get(all))
        .route("/topic-permissions/{vhost}/{user}", get(show).put(put).delete(remove))
        .route("/topic-permissions/{vhost}/{user}/{exchange}", get(show_one).delete(remove_one))
        .route("/users/{user}/topic-permissions", get(of_user))
        .route("/vhosts/{vhost}/topic-permissions", get(of_vhost))
}

/// RabbitMQ's variables and the broker's.
const VHOST: (&str, &str) = ("{vhost}", "{namespace}");

fn to_broker(expression: &str) -> Vec<String> {
    patterns(&expression.replace(VHOST.0, VHOST.1))
}

fn from_broker(patterns: &[String]) -> String {
    expression(patterns).replace(VHOST.1, VHOST.0)
}

/// All topic permissions of some users.
pub(super) fn listed(users: &[UserInfo]) -> Vec<Json> {
    let mut all = Vec::new();
    for user in users {
        for (namespace, permissions) in &user.permissions {
            for (exchange, subjects) in &permissions.subjects {
                all.push(json!({
                    "user": user.name, "vhost": vhost(namespace), "exchange": exchange,
                    "write": from_broker(&subjects.write), "read": from_broker(&subjects.read),
                }));
            }
        }
    }
    all
}

async fn all(State(app): State<App>, caller: Caller, query: Params) -> Reply {
    list::reply(listed(&users(&app, &caller)?), &query)
}

async fn of_user(State(app): State<App>, caller: Caller, Path(name): Path<String>, query: Params) -> Reply {
    list::reply(listed(&[user(&app, &caller, &name)?]), &query)
}

async fn of_vhost(State(app): State<App>, caller: Caller, Path(name): Path<String>, query: Params) -> Reply {
    let users = users(&app, &caller)?;
    exists(&app, &name)?;
    let mut all = listed(&users);
    all.retain(|one| list::has(one, "vhost", &name));
    list::reply(all, &query)
}

fn of(app: &App, caller: &Caller, vhost: &str, name: &str) -> Result<Vec<Json>, Refusal> {
    let mut all = listed(&[user(app, caller, name)?]);
    exists(app, vhost)?;
    all.retain(|one| list::has(one, "vhost", vhost));
    if all.is_empty() { Err(Refusal::no_such_object()) } else { Ok(all) }
}

async fn show(
    State(app): State<App>,
    caller: Caller,
    Path((vhost, name)): Path<(String, String)>,
    query: Params,
) -> Reply {
    list::reply(of(&app, &caller, &vhost, &name)?, &query)
}

async fn show_one(
    State(app): State<App>,
    caller: Caller,
    Path((vhost, name, exchange)): Path<(String, String, String)>,
    query: Params,
) -> Reply {
    let found = of(&app, &caller, &vhost, &name)?.into_iter().find(|one| list::has(one, "exchange", &exchange));
    list::one(found.ok_or_else(Refusal::no_such_object)?, &query)
}

/// Sets which routing keys of an exchange a user may use.
pub(super) async fn set(app: &App, caller: &Caller, vhost: &str, name: &str, body: &Body) -> Result<bool, Refusal> {
    let (exchange, write, read) = (body.required("exchange")?, body.required("write")?, body.required("read")?);
    let subjects = SubjectPermissions { write: to_broker(write), read: to_broker(read) };
    change(app, caller, vhost, name, |all| all.insert(exchange.to_owned(), subjects).is_some()).await
}

type Subjects = std::collections::BTreeMap<String, SubjectPermissions>;

async fn change(
    app: &App,
    caller: &Caller,
    vhost: &str,
    name: &str,
    how: impl FnOnce(&mut Subjects) -> bool,
) -> Result<bool, Refusal> {
    let mut permissions = user(app, caller, name)?.permissions.remove(namespace(vhost)).unwrap_or_default();
    exists(app, vhost)?;
    let existed = how(&mut permissions.subjects);
    let permissions = vec![(namespace(vhost).to_owned(), Some(permissions))];
    app.broker.put_user(&caller.principal, name, UserChange { permissions, ..UserChange::default() }).await?;
    Ok(existed)
}

async fn put(State(app): State<App>, caller: Caller, Path((vhost, name)): Path<(String, String)>, body: Body) -> Reply {
    caller.administrator()?;
    Ok(made(set(&app, &caller, &vhost, &name, &body).await?).into_response())
}

async fn remove(State(app): State<App>, caller: Caller, Path((vhost, name)): Path<(String, String)>) -> Reply {
    of(&app, &caller, &vhost, &name)?;
    change(&app, &caller, &vhost, &name, |all| {
        all.clear();
        true
    })
    .await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn remove_one(
    State(app): State<App>,
    caller: Caller,
    Path((vhost, name, exchange)): Path<(String, String, String)>,
) -> Reply {
    of(&app, &caller, &vhost, &name)?;
    match change(&app, &caller, &vhost, &name, |all| all.remove(&exchange).is_some()).await? {
        true => Ok(StatusCode::NO_CONTENT.into_response()),
        false => Err(Refusal::no_such_object()),
    }
}
