//! Limits of vhosts and of users. A negative one is none, as RabbitMQ has it.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{get, put};
use broker::definitions::{NamespaceConfig, Quota, UserLimits};
use broker::{Session, UserChange};
use serde_json::{Map, Value as Json, json};

use super::App;
use super::caller::{Caller, exists};
use super::input::{Body, Params};
use super::list::{self, Reply};
use super::refusal::Refusal;
use super::users::{user, users};
use crate::entities::vhost::{namespace, vhost};

const MAX_CONNECTIONS: &str = "max-connections";
const MAX_QUEUES: &str = "max-queues";
const MAX_CHANNELS: &str = "max-channels";

pub(super) fn router() -> Router<App> {
    Router::new()
        .route("/vhost-limits", get(all))
        .route("/vhost-limits/{vhost}", get(of_vhost))
        .route("/vhost-limits/{vhost}/{name}", put(put_one).delete(remove_one))
        .route("/user-limits", get(all_users))
        .route("/user-limits/{user}", get(of_user))
        .route("/user-limits/{user}/{name}", put(put_user).delete(remove_user))
}

fn shown(fields: [(&str, Option<u64>); 2]) -> Map<String, Json> {
    fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), json!(value?)))).collect()
}

fn of_quota(quota: &Quota) -> Map<String, Json> {
    shown([(MAX_CONNECTIONS, quota.max_connections), (MAX_QUEUES, quota.max_queues)])
}

/// A user's, as the API shows them.
pub(super) fn of_limits(limits: &UserLimits) -> Map<String, Json> {
    shown([(MAX_CONNECTIONS, limits.max_connections), (MAX_CHANNELS, limits.max_channels)])
}

/// The limits of a vhost as a parameter, which is where RabbitMQ keeps them.
pub(super) fn exported(app: &App, view: &Session) -> Vec<Json> {
    let all = app.broker.all_namespaces();
    let here = all.iter().filter(|info| info.name == view.namespace());
    let limits = here.map(|info| of_quota(&info.config.quota)).filter(|limits| !limits.is_empty());
    limits.map(|limits| json!({"component": "vhost-limits", "name": "limits", "value": limits})).collect()
}

fn listed(app: &App, caller: &Caller, wanted: impl Fn(&str) -> bool) -> Result<Vec<Json>, Refusal> {
    let all = caller.vhosts(app)?.into_iter().filter(|info| wanted(vhost(&info.name)));
    let limits = all.map(|info| (info.name.clone(), of_quota(&info.config.quota)));
    Ok(limits
        .filter(|(_, limits)| !limits.is_empty())
        .map(|(name, limits)| json!({"vhost": vhost(&name), "value": limits}))
        .collect())
}

async fn all(State(app): State<App>, caller: Caller, query: Params) -> Reply {
    list::reply(listed(&app, &caller, |_| true)?, &query)
}

async fn of_vhost(State(app): State<App>, caller: Caller, Path(name): Path<String>, query: Params) -> Reply {
    caller.view(&app, &name)?;
    list::reply(listed(&app, &caller, |vhost| vhost == name)?, &query)
}

fn limit(name: &str, value: &Json) -> Result<Option<u64>, Refusal> {
    let given = Body(Map::from_iter([("value".to_owned(), value.clone())]));
    let number = given.int("value")?.ok_or_else(|| Refusal::bad_request(format!("{name}: a number is expected")))?;
    Ok(u64::try_from(number).ok())
}

/// Sets or takes away a limit of a vhost.
pub(super) async fn set(app: &App, caller: &Caller, vhost: &str, name: &str, value: &Json) -> Result<(), Refusal> {
    let limit = limit(name, value)?;
    change(app, caller, vhost, name, limit).await
}

async fn change(app: &App, caller: &Caller, vhost: &str, name: &str, limit: Option<u64>) -> Result<(), Refusal> {
    exists(app, vhost)?;
    let all = app.broker.all_namespaces();
    let there = all.into_iter().find(|info| info.name == namespace(vhost)).ok_or_else(Refusal::no_such_object)?;
    let mut config: NamespaceConfig = there.config;
    match name {
        MAX_CONNECTIONS => config.quota.max_connections = limit,
        MAX_QUEUES => config.quota.max_queues = limit,
        other => return Err(Refusal::bad_request(format!("there is no limit {other:?} of a vhost"))),
    }
    app.broker.put_namespace(&caller.principal, namespace(vhost), config).await?;
    Ok(())
}

async fn put_one(
    State(app): State<App>,
    caller: Caller,
    Path((vhost, name)): Path<(String, String)>,
    body: Body,
) -> Reply {
    caller.administrator()?;
    set(&app, &caller, &vhost, &name, body.get("value").unwrap_or(&Json::Null)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn remove_one(State(app): State<App>, caller: Caller, Path((vhost, name)): Path<(String, String)>) -> Reply {
    caller.administrator()?;
    change(&app, &caller, &vhost, &name, None).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn all_users(State(app): State<App>, caller: Caller, query: Params) -> Reply {
    let all = users(&app, &caller)?;
    let limited = all.iter().filter(|user| !user.limits.is_empty());
    list::reply(limited.map(|user| json!({"user": user.name, "value": of_limits(&user.limits)})).collect(), &query)
}

async fn of_user(State(app): State<App>, caller: Caller, Path(name): Path<String>, query: Params) -> Reply {
    let user = user(&app, &caller, &name)?;
    let limited = (!user.limits.is_empty()).then(|| json!({"user": user.name, "value": of_limits(&user.limits)}));
    list::reply(limited.into_iter().collect(), &query)
}

async fn change_user(app: &App, caller: &Caller, user_name: &str, name: &str, limit: Option<u64>) -> Reply {
    let mut limits = user(app, caller, user_name)?.limits;
    set_user_limit(&mut limits, name, limit)?;
    let change = UserChange { limits: Some(limits), ..UserChange::default() };
    app.broker.put_user(&caller.principal, user_name, change).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn set_user_limit(limits: &mut UserLimits, name: &str, limit: Option<u64>) -> Result<(), Refusal> {
    match name {
        MAX_CONNECTIONS => limits.max_connections = limit,
        MAX_CHANNELS => limits.max_channels = limit,
        other => return Err(Refusal::bad_request(format!("there is no limit {other:?} of a user"))),
    }
    Ok(())
}

/// A user's limits, as an imported definition has them.
///
/// # Errors
/// 400 if they make no sense.
pub(super) fn read_user_limits(given: &Json) -> Result<UserLimits, Refusal> {
    let mut limits = UserLimits::default();
    for (name, value) in given.as_object().into_iter().flatten() {
        set_user_limit(&mut limits, name, limit(name, value)?)?;
    }
    Ok(limits)
}

async fn put_user(
    State(app): State<App>,
    caller: Caller,
    Path((user, name)): Path<(String, String)>,
    body: Body,
) -> Reply {
    let limit = limit(&name, body.get("value").unwrap_or(&Json::Null))?;
    change_user(&app, &caller, &user, &name, limit).await
}

async fn remove_user(State(app): State<App>, caller: Caller, Path((user, name)): Path<(String, String)>) -> Reply {
    change_user(&app, &caller, &user, &name, None).await
}
