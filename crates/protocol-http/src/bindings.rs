//! Bindings: make, list, show, delete.

use api::{Binding, BindingConfig, BindingsQuery, Page};
use axum::http::StatusCode;
use broker::definitions::BindingTarget;
use types::EntityId;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::caller::Caller;
use crate::definitions::binding_to;
use crate::input::{Json, Path, Query};
use crate::page::{DeclaredAnswer, declared};
use crate::problem::Failure;
use crate::views;

pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, make)).routes(routes!(show, delete))
}

/// Lists bindings: of a topic, to a queue or a topic, or all.
#[utoipa::path(
    get, path = "/v1/{ns}/bindings", tag = "bindings", params(BindingsQuery), operation_id = "list_bindings",
    responses((status = 200, description = "The bindings", body = Page<Binding>)),
)]
async fn list(
    Caller(session): Caller,
    Query(query): Query<BindingsQuery>,
) -> Result<axum::Json<Page<Binding>>, Failure> {
    let target = match (query.to_queue, query.to_topic) {
        (Some(_), Some(_)) => {
            return Err(Failure::invalid("to_queue", "a binding leads to a queue or to a topic, not to both"));
        }
        (queue, topic) => queue.map(BindingTarget::Queue).or(topic.map(BindingTarget::Topic)),
    };
    let found = session.bindings(query.topic.as_deref(), target.as_ref())?;
    Ok(axum::Json(Page { items: found.into_iter().map(views::binding).collect::<Result<_, _>>()?, next: None }))
}

/// Makes a binding. The same one again is fine.
#[utoipa::path(
    post, path = "/v1/{ns}/bindings", tag = "bindings", request_body = BindingConfig, operation_id = "make_binding",
    responses(
        (status = 200, description = "It was there", body = api::Declared<Binding>),
        (status = 201, description = "It was made", body = api::Declared<Binding>),
    ),
)]
async fn make(Caller(session): Caller, Json(config): Json<BindingConfig>) -> DeclaredAnswer<Binding> {
    let (outcome, info) = session.bind(binding_to(config)?).await?;
    Ok(declared(views::outcome(outcome), views::binding(info)?))
}

/// Shows a binding.
#[utoipa::path(
    get, path = "/v1/{ns}/bindings/{binding}", tag = "bindings", operation_id = "show_binding",
    responses((status = 200, description = "The binding", body = Binding)),
)]
async fn show(Caller(session): Caller, Path((_, id)): Path<(String, u64)>) -> Result<axum::Json<Binding>, Failure> {
    let found = session.bindings(None, None)?.into_iter().find(|binding| binding.id == EntityId(id));
    let info = found.ok_or_else(|| Failure::not_found(format!("there is no binding {id}")))?;
    Ok(axum::Json(views::binding(info)?))
}

/// Deletes a binding.
#[utoipa::path(
    delete, path = "/v1/{ns}/bindings/{binding}", tag = "bindings", operation_id = "delete_binding",
    responses((status = 204, description = "It is gone")),
)]
async fn delete(Caller(session): Caller, Path((_, id)): Path<(String, u64)>) -> Result<StatusCode, Failure> {
    session.unbind(EntityId(id)).await?;
    Ok(StatusCode::NO_CONTENT)
}
