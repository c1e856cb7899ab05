//! Queues: declare, list, show, delete.

use api::{DeclareQuery, DeleteQuery, ListQuery, Page, Queue, QueueConfig};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::caller::Caller;
use crate::definitions::{HIDDEN_SECRET, queue_to};
use crate::input::{OptionalJson, Path, Query};
use crate::page::{DeclaredAnswer, declared, page};
use crate::problem::Failure;
use crate::views;

pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(put, show, delete))
}

/// Lists the queues that the caller may see, by name.
#[utoipa::path(
    get, path = "/v1/{ns}/queues", tag = "queues", params(ListQuery), operation_id = "list_queues",
    responses((status = 200, description = "A page of queues", body = Page<Queue>)),
)]
async fn list(Caller(session): Caller, Query(query): Query<ListQuery>) -> Result<axum::Json<Page<Queue>>, Failure> {
    page(&query, session.queues()?, |queue| &queue.name, views::queue)
}

/// Makes or changes a queue, and makes its dead-letter queue if that is missing.
#[utoipa::path(
    put, path = "/v1/{ns}/queues/{queue}", tag = "queues", params(DeclareQuery), operation_id = "put_queue",
    request_body(content = Option<QueueConfig>, content_type = "application/json"),
    responses(
        (status = 200, description = "It was there", body = api::Declared<Queue>),
        (status = 201, description = "It was made", body = api::Declared<Queue>),
    ),
)]
async fn put(
    Caller(session): Caller,
    Path((_, queue)): Path<(String, String)>,
    Query(query): Query<DeclareQuery>,
    OptionalJson(config): OptionalJson<QueueConfig>,
) -> DeclaredAnswer<Queue> {
    let mut config = queue_to(config);
    // A definition that was shown and is put back unchanged must not replace the secret by its mask.
    if let Some(webhook) = config.webhook.as_mut().filter(|webhook| webhook.secret.as_deref() == Some(HIDDEN_SECRET)) {
        let known = session.queue(&queue).ok().and_then(|info| info.config.webhook?.secret);
        let missing = || {
            Failure::invalid("webhook.secret", format!("{HIDDEN_SECRET:?} keeps the secret there is; there is none"))
        };
        webhook.secret = Some(known.ok_or_else(missing)?);
    }
    let (outcome, info) = session.declare_queue(&queue, config, query.update.unwrap_or(true)).await?;
    Ok(declared(views::outcome(outcome), views::queue(info)))
}

/// Shows a queue: its definition, what holds with policies applied, and what is in it.
#[utoipa::path(
    get, path = "/v1/{ns}/queues/{queue}", tag = "queues", operation_id = "show_queue",
    responses((status = 200, description = "The queue", body = Queue)),
)]
async fn show(Caller(session): Caller, Path((_, queue)): Path<(String, String)>) -> Result<axum::Json<Queue>, Failure> {
    Ok(axum::Json(views::queue(session.queue(&queue)?)))
}

/// Deletes a queue with its messages and bindings.
#[utoipa::path(
    delete, path = "/v1/{ns}/queues/{queue}", tag = "queues", params(DeleteQuery), operation_id = "delete_queue",
    responses((status = 200, description = "It is gone, with so many messages", body = api::Removed)),
)]
async fn delete(
    Caller(session): Caller,
    Path((_, queue)): Path<(String, String)>,
    Query(query): Query<DeleteQuery>,
) -> Result<axum::Json<api::Removed>, Failure> {
    let (if_unused, if_empty) = (query.if_unused.unwrap_or(false), query.if_empty.unwrap_or(false));
    Ok(axum::Json(api::Removed { messages: session.delete_queue(&queue, if_unused, if_empty).await? }))
}
