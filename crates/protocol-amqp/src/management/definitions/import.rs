//! Taking definitions in.
//!
//! Everything that can be had is: what has no meaning here, or is refused, is told in the answer, item by item, and the rest stands. An import can be
//! repeated.

use axum::Json as JsonAnswer;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde_json::{Map, Value as Json, json};

use crate::entities::binding::{self, Binding, Destination};
use crate::entities::exchange;
use crate::entities::queue;
use crate::management::App;
use crate::management::caller::{ADMINISTRATOR, Caller};
use crate::management::input::Body;
use crate::management::limits::MAX_REPORTED;
use crate::management::list::Reply;
use crate::management::refusal::Refusal;
use crate::management::{permissions, policies, topic_permissions, users, vhost_limits, vhosts};

/// The kinds of definitions in the order in which they can be made.
const KINDS: [&str; 10] = [
    "vhosts",
    "users",
    "permissions",
    "topic_permissions",
    "parameters",
    "global_parameters",
    "policies",
    "exchanges",
    "queues",
    "bindings",
];
/// What says where the file came from.
const ORIGIN: [&str; 11] = [
    "rabbit_version",
    "rabbitmq_version",
    "product_name",
    "product_version",
    "rabbitmq_definition_format",
    "original_cluster_name",
    "original_vhost_name",
    "explanation",
    "metadata",
    "description",
    "default_queue_type",
];

/// What became of the definitions.
#[derive(Default)]
struct Report {
    taken: Map<String, Json>,
    left: Vec<Json>,
    left_count: usize,
    failed: Option<String>,
}

impl Report {
    fn take(&mut self, kind: &str) {
        let count = self.taken.get(kind).and_then(Json::as_u64).unwrap_or_default();
        self.taken.insert(kind.to_owned(), json!(count + 1));
    }

    /// One that was not taken in, or not all of it. `is_failure` if it was meant to be.
    fn leave(&mut self, kind: &str, item: &Body, reason: &str, is_failure: bool) {
        self.left_count += 1;
        if is_failure && self.failed.is_none() {
            self.failed = Some(format!("{kind} {}: {reason}", named(item)));
        }
        if self.left.len() < MAX_REPORTED {
            let vhost = item.get("vhost").cloned();
            self.left.push(json!({"kind": kind, "name": named(item), "vhost": vhost, "reason": reason}));
        }
    }
}

/// How an item is called in the report.
fn named(item: &Body) -> String {
    let text = |name: &str| item.get(name).and_then(Json::as_str).unwrap_or_default();
    let ends = format!("{} -> {}", text("source"), text("destination"));
    let first = ["name", "user"].into_iter().map(text).find(|name| !name.is_empty());
    first.map_or(ends, str::to_owned)
}

/// What became of one definition.
enum Outcome {
    Taken,
    /// Taken in but for something that has no meaning here.
    Partly(String),
    /// It has no meaning here.
    Left(String),
}

/// Takes in all of a body; into one vhost if one is given, in which the items name none.
pub(super) async fn run(app: &App, caller: &Caller, vhost: Option<&str>, body: Body) -> Reply {
    let mut report = Report::default();
    for name in body.0.keys() {
        if !KINDS.contains(&name.as_str()) && !ORIGIN.contains(&name.as_str()) {
            let what = Body(Map::from_iter([("name".to_owned(), json!(name))]));
            let is_empty = body.0.get(name).is_some_and(is_empty);
            if !is_empty {
                report.leave("section", &what, "there is nothing of this kind here", false);
            }
        }
    }
    for kind in KINDS {
        let mut items = items(&body, kind)?;
        if kind == "users" {
            // The first user must be able to make others.
            items.sort_by_key(|item| !item.0.get("tags").is_some_and(|tags| tags.to_string().contains(ADMINISTRATOR)));
        }
        for mut item in items {
            if let Some(vhost) = vhost {
                item.0.insert("vhost".to_owned(), json!(vhost));
            }
            match one(app, caller, kind, &item).await {
                Ok(Outcome::Taken) => report.take(kind),
                Ok(Outcome::Partly(reason)) => {
                    report.take(kind);
                    report.leave(kind, &item, &reason, false);
                }
                Ok(Outcome::Left(reason)) => report.leave(kind, &item, &reason, false),
                Err(refusal) => report.leave(kind, &item, &refusal.reason, true),
            }
        }
    }
    answer(report)
}

fn answer(report: Report) -> Reply {
    let Report { taken, left, left_count, failed } = report;
    match failed {
        Some(first) => {
            let reason =
                format!("{left_count} definitions were not imported, or not all of them; the rest was. First: {first}");
            let body = json!({"error": "bad_request", "reason": reason, "imported": taken, "not_imported": left});
            Ok((StatusCode::BAD_REQUEST, JsonAnswer(body)).into_response())
        }
        None if left_count == 0 => Ok(StatusCode::NO_CONTENT.into_response()),
        None => Ok(JsonAnswer(json!({"imported": taken, "not_imported": left})).into_response()),
    }
}

fn is_empty(value: &Json) -> bool {
    match value {
        Json::Null => true,
        Json::Array(items) => items.is_empty(),
        Json::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

fn items(body: &Body, kind: &str) -> Result<Vec<Body>, Refusal> {
    match body.get(kind) {
        None => Ok(Vec::new()),
        Some(Json::Array(items)) => {
            let objects = items.iter().map(|item| item.as_object().cloned().map(Body));
            objects.collect::<Option<_>>().ok_or_else(|| Refusal::bad_request(format!("{kind}: objects are expected")))
        }
        Some(Json::Object(none)) if none.is_empty() => Ok(Vec::new()),
        Some(_) => Err(Refusal::bad_request(format!("{kind}: a list is expected"))),
    }
}

async fn one(app: &App, caller: &Caller, kind: &str, item: &Body) -> Result<Outcome, Refusal> {
    match kind {
        "vhosts" => import_vhost(app, caller, item).await,
        "users" => {
            app.broker.put_user(&caller.principal, item.required("name")?, users::change(item)?).await?;
            Ok(Outcome::Taken)
        }
        "permissions" => {
            permissions::set(app, caller, item.required("vhost")?, item.required("user")?, item).await?;
            Ok(Outcome::Taken)
        }
        "topic_permissions" => {
            topic_permissions::set(app, caller, item.required("vhost")?, item.required("user")?, item).await?;
            Ok(Outcome::Taken)
        }
        "parameters" => import_parameter(app, caller, item).await,
        "global_parameters" => Ok(global_parameter(item)),
        "policies" => {
            let view = caller.view(app, item.required("vhost")?)?;
            policies::set(&view, item.required("name")?, item, false).await?;
            Ok(Outcome::Taken)
        }
        "exchanges" => import_exchange(app, caller, item).await,
        "queues" => import_queue(app, caller, item).await,
        _ => import_binding(app, caller, item).await,
    }
}

async fn import_vhost(app: &App, caller: &Caller, item: &Body) -> Result<Outcome, Refusal> {
    let mut wanted = item.clone();
    let metadata = match wanted.0.remove("metadata") {
        Some(Json::Object(metadata)) => metadata,
        _ => Map::new(),
    };
    for (name, value) in metadata {
        wanted.0.entry(name).or_insert(value);
    }
    let mut lost = Vec::new();
    if wanted.0.remove("tags").is_some_and(|tags| vhosts::has_tags(&tags)) {
        lost.push("a vhost has no tags here");
    }
    if wanted.bool("tracing")? {
        wanted.0.remove("tracing");
        lost.push("there is no tracing by exchange here");
    }
    if wanted.text("default_queue_type")?.is_some_and(|kind| !matches!(kind, "" | "classic" | "undefined")) {
        wanted.0.remove("default_queue_type");
        lost.push("a queue without x-queue-type is a classic one here");
    }
    vhosts::make(app, caller, item.required("name")?, &wanted).await?;
    Ok(if lost.is_empty() { Outcome::Taken } else { Outcome::Partly(lost.join("; ")) })
}

async fn import_parameter(app: &App, caller: &Caller, item: &Body) -> Result<Outcome, Refusal> {
    let (vhost, name) = (item.required("vhost")?, item.required("name")?);
    let value = match item.get("value") {
        Some(Json::Object(value)) => Body(value.clone()),
        _ => Body::default(),
    };
    match item.required("component")? {
        "operator_policy" => {
            policies::set(&caller.view(app, vhost)?, name, &value, true).await?;
            Ok(Outcome::Taken)
        }
        "policy" => {
            policies::set(&caller.view(app, vhost)?, name, &value, false).await?;
            Ok(Outcome::Taken)
        }
        "vhost-limits" => {
            for (limit, value) in &value.0 {
                vhost_limits::set(app, caller, vhost, limit, value).await?;
            }
            Ok(Outcome::Taken)
        }
        component => {
            let why = format!("parameters of {component:?} are for a plugin of RabbitMQ's that is not here");
            Ok(Outcome::Left(why))
        }
    }
}

fn global_parameter(item: &Body) -> Outcome {
    match item.get("name").and_then(Json::as_str) {
        // What every RabbitMQ has, for itself alone.
        Some("internal_cluster_id" | "cluster_name" | "cluster_tags") => Outcome::Taken,
        _ => Outcome::Left("global parameters are for plugins of RabbitMQ's that are not here".to_owned()),
    }
}

async fn import_exchange(app: &App, caller: &Caller, item: &Body) -> Result<Outcome, Refusal> {
    let session = caller.session(app, item.required("vhost")?)?;
    exchange::ensure_predeclared(&session).await?;
    let declare = exchange::Declare {
        name: item.required("name")?,
        kind: item.text("type")?.unwrap_or("direct"),
        durable: item.bool_or("durable", true)?,
        auto_delete: item.bool("auto_delete")?,
        internal: item.bool("internal")?,
        arguments: item.table("arguments")?,
    };
    exchange::declare(&session, declare).await?;
    Ok(Outcome::Taken)
}

async fn import_queue(app: &App, caller: &Caller, item: &Body) -> Result<Outcome, Refusal> {
    let session = caller.session(app, item.required("vhost")?)?;
    let name = item.required("name")?;
    let mut arguments = item.table("arguments")?;
    if let Some(kind) = item.text("type")?.filter(|kind| *kind != "classic")
        && crate::entities::arguments::get(&arguments, "x-queue-type").is_none()
    {
        arguments.push(("x-queue-type".into(), types::Value::from(kind)));
    }
    let declare = queue::Declare {
        name,
        durable: item.bool_or("durable", true)?,
        exclusive: false,
        auto_delete: item.bool("auto_delete")?,
        arguments,
    };
    queue::declare(&session, declare).await?;
    Ok(Outcome::Taken)
}

async fn import_binding(app: &App, caller: &Caller, item: &Body) -> Result<Outcome, Refusal> {
    let session = caller.session(app, item.required("vhost")?)?;
    let source = item.required("source")?;
    if source.is_empty() {
        // Each queue has this one anyway.
        return Ok(Outcome::Taken);
    }
    exchange::ensure_predeclared(&session).await?;
    let destination = match (item.required("destination")?, item.required("destination_type")?) {
        (name, "queue") => Destination::Queue(name),
        (name, "exchange") => Destination::Exchange(name),
        (_, other) => {
            return Err(Refusal::bad_request(format!("destination_type {other:?}: queue or exchange is expected")));
        }
    };
    let key = item.text("routing_key")?.unwrap_or_default();
    binding::bind(&session, Binding { destination, source, key, arguments: item.table("arguments")? }).await?;
    Ok(Outcome::Taken)
}
