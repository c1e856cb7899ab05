//! Topics: declare, list, show, delete.

use api::{DeclareQuery, DeleteQuery, ListQuery, Page, Topic, TopicConfig};
use axum::http::StatusCode;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::caller::Caller;
use crate::definitions::topic_to;
use crate::input::{OptionalJson, Path, Query};
use crate::page::{DeclaredAnswer, declared, page};
use crate::problem::Failure;
use crate::views;

pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(put, show, delete))
}

/// Lists the topics that the caller may see, by name.
#[utoipa::path(
    get, path = "/v1/{ns}/topics", tag = "topics", params(ListQuery), operation_id = "list_topics",
    responses((status = 200, description = "A page of topics", body = Page<Topic>)),
)]
async fn list(Caller(session): Caller, Query(query): Query<ListQuery>) -> Result<axum::Json<Page<Topic>>, Failure> {
    page(&query, session.topics()?, |topic| &topic.name, views::topic)
}

/// Makes or changes a topic.
#[utoipa::path(
    put, path = "/v1/{ns}/topics/{topic}", tag = "topics", params(DeclareQuery), operation_id = "put_topic",
    request_body(content = Option<TopicConfig>, content_type = "application/json"),
    responses(
        (status = 200, description = "It was there", body = api::Declared<Topic>),
        (status = 201, description = "It was made", body = api::Declared<Topic>),
    ),
)]
async fn put(
    Caller(session): Caller,
    Path((_, topic)): Path<(String, String)>,
    Query(query): Query<DeclareQuery>,
    OptionalJson(config): OptionalJson<TopicConfig>,
) -> DeclaredAnswer<Topic> {
    let (outcome, info) = session.declare_topic(&topic, topic_to(config), query.update.unwrap_or(true)).await?;
    Ok(declared(views::outcome(outcome), views::topic(info)))
}

/// Shows a topic.
#[utoipa::path(
    get, path = "/v1/{ns}/topics/{topic}", tag = "topics", operation_id = "show_topic",
    responses((status = 200, description = "The topic", body = Topic)),
)]
async fn show(Caller(session): Caller, Path((_, topic)): Path<(String, String)>) -> Result<axum::Json<Topic>, Failure> {
    Ok(axum::Json(views::topic(session.topic(&topic)?)))
}

/// Deletes a topic with its log and its bindings.
#[utoipa::path(
    delete, path = "/v1/{ns}/topics/{topic}", tag = "topics", params(DeleteQuery), operation_id = "delete_topic",
    responses((status = 204, description = "It is gone")),
)]
async fn delete(
    Caller(session): Caller,
    Path((_, topic)): Path<(String, String)>,
    Query(query): Query<DeleteQuery>,
) -> Result<StatusCode, Failure> {
    if query.if_empty.is_some() {
        return Err(Failure::invalid("if_empty", "`if_empty` is for queues"));
    }
    session.delete_topic(&topic, query.if_unused.unwrap_or(false)).await?;
    Ok(StatusCode::NO_CONTENT)
}
