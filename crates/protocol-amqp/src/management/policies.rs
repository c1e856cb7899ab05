//! Policies and operator policies. The broker's own are of two layers just like these; their definition is kept beside them as it was given, to be shown.

mod settings;

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use broker::definitions::{PolicyConfig, PolicyLayer, PolicyScope};
use broker::views::PolicyInfo;
use broker::{DeclareError, Session};
use serde_json::{Value as Json, json};

use super::App;
use super::caller::Caller;
use super::input::{Body, Params};
use super::list::{self, Reply};
use super::permissions::expression;
use super::queues::made;
use super::refusal::Refusal;
use crate::entities::names::internal;
use crate::entities::vhost::vhost;

/// Where the definition is kept as it was given.
const DEFINITION: &str = "ph-amqp-definition";
/// Where the pattern is kept as it was given.
const PATTERN: &str = "ph-amqp-pattern";
/// Where it is kept what the policy applies to.
const APPLIES_TO: &str = "ph-amqp-apply-to";

pub(super) fn router() -> Router<App> {
    Router::new()
        .route("/policies", get(all))
        .route("/policies/{vhost}", get(of_vhost))
        .route("/policies/{vhost}/{name}", get(show).put(put).delete(remove))
        .route("/operator-policies", get(all_operator))
        .route("/operator-policies/{vhost}", get(operator_of_vhost))
        .route("/operator-policies/{vhost}/{name}", get(show_operator).put(put_operator).delete(remove_operator))
        .route("/parameters", get(parameters))
        .route("/parameters/{component}", get(parameters_of))
        .route("/parameters/{component}/{vhost}", get(parameters_of_vhost))
        .route("/parameters/{component}/{vhost}/{name}", get(no_parameter).put(refuse_parameter).delete(no_parameter))
        .route("/global-parameters", get(no_parameters))
        .route("/global-parameters/{name}", get(no_parameter).put(refuse_parameter).delete(no_parameter))
}

const fn layer(operator: bool) -> PolicyLayer {
    if operator { PolicyLayer::Operator } else { PolicyLayer::User }
}

fn applies_to(config: &PolicyConfig) -> &str {
    let kept = config.arguments.get(APPLIES_TO).and_then(Json::as_str);
    kept.unwrap_or(match config.applies_to {
        PolicyScope::Queues => "queues",
        PolicyScope::Topics => "exchanges",
        PolicyScope::All => "all",
    })
}

fn pattern(config: &PolicyConfig) -> String {
    let kept = config.arguments.get(PATTERN).and_then(Json::as_str);
    kept.map_or_else(|| expression(std::slice::from_ref(&config.pattern)), str::to_owned)
}

/// The expression over the names of streams' topics for one over the streams' own.
fn over_streams(pattern: &str) -> String {
    match pattern.strip_prefix('^') {
        Some(rest) => format!("^{}{rest}", r"stream\."),
        None => format!(r"^stream\..*(?:{pattern})"),
    }
}

fn shown(policy: &PolicyInfo) -> Json {
    let config = &policy.config;
    json!({
        "name": policy.name,
        "pattern": pattern(config),
        "apply-to": applies_to(config),
        "priority": config.priority,
        "definition": config.arguments.get(DEFINITION).cloned().unwrap_or_else(|| settings::definition(config)),
    })
}

fn of_layer(view: &Session, operator: bool) -> Result<Vec<PolicyInfo>, Refusal> {
    let mut all = internal(view)?.policies()?;
    all.retain(|policy| policy.config.layer == layer(operator));
    Ok(all)
}

/// A vhost's policies, as definitions hold them.
pub(super) fn exported(view: &Session) -> Result<Vec<Json>, Refusal> {
    Ok(of_layer(view, false)?.iter().map(shown).collect())
}

/// A vhost's operator policies, which definitions hold as parameters.
pub(super) fn exported_operator(view: &Session) -> Result<Vec<Json>, Refusal> {
    let as_parameter = |policy: &PolicyInfo| {
        let mut value = shown(policy);
        if let Json::Object(fields) = &mut value {
            fields.remove("name");
        }
        json!({"component": "operator_policy", "name": policy.name, "value": value})
    };
    Ok(of_layer(view, true)?.iter().map(as_parameter).collect())
}

fn listed(app: &App, caller: &Caller, vhost_name: Option<&str>, operator: bool) -> Result<Vec<Json>, Refusal> {
    let mut all = Vec::new();
    for view in caller.views_of(app, vhost_name)? {
        for policy in of_layer(&view, operator)? {
            all.push(list::with(shown(&policy), "vhost", vhost(view.namespace())));
        }
    }
    Ok(all)
}

/// Makes or changes a policy; gives whether it was there. Who may is checked before.
pub(super) async fn set(view: &Session, name: &str, body: &Body, operator: bool) -> Result<bool, Refusal> {
    let Some(Json::Object(definition)) = body.get("definition") else {
        return Err(super::input::missing("definition"));
    };
    let scope = body.text("apply-to")?.unwrap_or("all");
    let (applies_to, queue_type) = match scope {
        "all" => (PolicyScope::All, None),
        "queues" => (PolicyScope::Queues, None),
        "exchanges" => (PolicyScope::Topics, None),
        "classic_queues" => (PolicyScope::Queues, Some("classic")),
        "quorum_queues" => (PolicyScope::Queues, Some("quorum")),
        "streams" => (PolicyScope::Topics, Some("stream")),
        other => return Err(Refusal::bad_request(format!("apply-to: {other:?} is not known"))),
    };
    let only_arguments = queue_type.map(|kind| {
        // A queue that does not say is a classic one.
        let values = if kind == "classic" { vec![json!(kind), Json::Null] } else { vec![json!(kind)] };
        ("x-queue-type".to_owned(), values)
    });
    let pattern = body.required("pattern")?;
    let priority = i32::try_from(body.int("priority")?.unwrap_or_default());
    let mut config = PolicyConfig {
        pattern: match scope {
            "streams" => format!("regex:{}", over_streams(pattern)),
            _ => format!("regex:{pattern}"),
        },
        applies_to,
        only_arguments: only_arguments.into_iter().collect(),
        layer: layer(operator),
        priority: priority.map_err(|_| Refusal::bad_request("priority: it is too large"))?,
        arguments: BTreeMap::from([
            (DEFINITION.to_owned(), Json::Object(definition.clone())),
            (APPLIES_TO.to_owned(), json!(scope)),
            (PATTERN.to_owned(), json!(pattern)),
        ]),
        ..PolicyConfig::default()
    };
    settings::read(definition, operator, &mut config)?;
    let existed = of_layer(view, operator)?.iter().any(|policy| policy.name == name);
    internal(view)?.put_policy(name, config).await?;
    Ok(existed)
}

async fn delete(app: &App, caller: &Caller, vhost: &str, name: &str, operator: bool) -> Reply {
    let view = caller.view(app, vhost)?;
    match internal(&view)?.delete_policy_of(layer(operator), name).await {
        Ok(()) => Ok(StatusCode::NO_CONTENT.into_response()),
        Err(DeclareError::NotFound { .. }) => Err(Refusal::no_such_object()),
        Err(error) => Err(error.into()),
    }
}

fn one(app: &App, caller: &Caller, vhost: &str, name: &str, operator: bool, query: &Params) -> Reply {
    let found = listed(app, caller, Some(vhost), operator)?.into_iter().find(|policy| list::has(policy, "name", name));
    list::one(found.ok_or_else(Refusal::no_such_object)?, query)
}

type At = Path<(String, String)>;

async fn all(State(app): State<App>, caller: Caller, query: Params) -> Reply {
    list::reply(listed(&app, &caller, None, false)?, &query)
}

async fn of_vhost(State(app): State<App>, caller: Caller, Path(vhost): Path<String>, query: Params) -> Reply {
    list::reply(listed(&app, &caller, Some(&vhost), false)?, &query)
}

async fn show(State(app): State<App>, caller: Caller, Path((vhost, name)): At, query: Params) -> Reply {
    one(&app, &caller, &vhost, &name, false, &query)
}

async fn put(State(app): State<App>, caller: Caller, Path((vhost, name)): At, body: Body) -> Reply {
    caller.policymaker()?;
    let view = caller.view(&app, &vhost)?;
    Ok(made(set(&view, &name, &body, false).await?).into_response())
}

async fn remove(State(app): State<App>, caller: Caller, Path((vhost, name)): At) -> Reply {
    caller.policymaker()?;
    delete(&app, &caller, &vhost, &name, false).await
}

async fn all_operator(State(app): State<App>, caller: Caller, query: Params) -> Reply {
    list::reply(listed(&app, &caller, None, true)?, &query)
}

async fn operator_of_vhost(State(app): State<App>, caller: Caller, Path(vhost): Path<String>, query: Params) -> Reply {
    list::reply(listed(&app, &caller, Some(&vhost), true)?, &query)
}

async fn show_operator(State(app): State<App>, caller: Caller, Path((vhost, name)): At, query: Params) -> Reply {
    one(&app, &caller, &vhost, &name, true, &query)
}

async fn put_operator(State(app): State<App>, caller: Caller, Path((vhost, name)): At, body: Body) -> Reply {
    caller.administrator()?;
    let view = caller.view(&app, &vhost)?;
    Ok(made(set(&view, &name, &body, true).await?).into_response())
}

async fn remove_operator(State(app): State<App>, caller: Caller, Path((vhost, name)): At) -> Reply {
    caller.administrator()?;
    delete(&app, &caller, &vhost, &name, true).await
}

/// Parameters are settings of plugins, but for these two, which RabbitMQ keeps with them.
fn parameters_in(app: &App, caller: &Caller, vhost_name: Option<&str>) -> Result<Vec<Json>, Refusal> {
    caller.policymaker()?;
    let mut all = Vec::new();
    for view in caller.views_of(app, vhost_name)? {
        let mut here = exported_operator(&view)?;
        here.extend(super::vhost_limits::exported(app, &view));
        all.extend(here.into_iter().map(|parameter| list::with(parameter, "vhost", vhost(view.namespace()))));
    }
    Ok(all)
}

async fn parameters(State(app): State<App>, caller: Caller, query: Params) -> Reply {
    list::reply(parameters_in(&app, &caller, None)?, &query)
}

async fn parameters_of(State(app): State<App>, caller: Caller, Path(component): Path<String>, query: Params) -> Reply {
    let mut all = parameters_in(&app, &caller, None)?;
    all.retain(|parameter| list::has(parameter, "component", &component));
    list::reply(all, &query)
}

async fn parameters_of_vhost(
    State(app): State<App>,
    caller: Caller,
    Path((component, vhost)): At,
    query: Params,
) -> Reply {
    let mut all = parameters_in(&app, &caller, Some(&vhost))?;
    all.retain(|parameter| list::has(parameter, "component", &component));
    list::reply(all, &query)
}

async fn no_parameters(caller: Caller, query: Params) -> Reply {
    caller.policymaker()?;
    list::reply(Vec::new(), &query)
}

async fn no_parameter(caller: Caller) -> Reply {
    caller.policymaker()?;
    Err(Refusal::no_such_object())
}

async fn refuse_parameter(caller: Caller) -> Reply {
    caller.policymaker()?;
    let why = "parameters are settings of RabbitMQ's plugins, which are not here; for limits and operator policies there are endpoints of their own";
    Err(Refusal::not_done(why))
}
