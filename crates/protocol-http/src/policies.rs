//! Policies: set, list, show, delete.

use api::{DeclaredOutcome, ListQuery, Page, PoliciesQuery, Policy, PolicyConfig, PolicyQuery};
use axum::http::StatusCode;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::caller::Caller;
use crate::definitions::{layer_to, policy_to};
use crate::input::{Json, Path, Query};
use crate::page::{page, status};
use crate::problem::Failure;
use crate::views;

pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(put, show, delete))
}

/// Lists the policies of a layer, by name.
#[utoipa::path(
    get, path = "/v1/{ns}/policies", tag = "policies", params(PoliciesQuery), operation_id = "list_policies",
    responses((status = 200, description = "A page of policies", body = Page<Policy>)),
)]
async fn list(
    Caller(session): Caller,
    Query(query): Query<PoliciesQuery>,
) -> Result<axum::Json<Page<Policy>>, Failure> {
    let layer = layer_to(query.layer.unwrap_or_default());
    let mut policies = session.policies()?;
    policies.retain(|policy| policy.config.layer == layer);
    let query = ListQuery { prefix: query.prefix, after: query.after, limit: query.limit };
    page(&query, policies, |policy| &policy.name, views::policy)
}

/// Makes or changes a policy.
#[utoipa::path(
    put, path = "/v1/{ns}/policies/{policy}", tag = "policies", request_body = PolicyConfig, operation_id = "put_policy",
    responses(
        (status = 200, description = "It was there", body = DeclaredOutcome),
        (status = 201, description = "It was made", body = DeclaredOutcome),
    ),
)]
async fn put(
    Caller(session): Caller,
    Path((_, policy)): Path<(String, String)>,
    Json(config): Json<PolicyConfig>,
) -> Result<(StatusCode, axum::Json<DeclaredOutcome>), Failure> {
    let outcome = views::outcome(session.put_policy(&policy, policy_to(config)).await?);
    Ok((status(outcome), axum::Json(DeclaredOutcome { outcome })))
}

/// Shows a policy.
#[utoipa::path(
    get, path = "/v1/{ns}/policies/{policy}", tag = "policies", params(PolicyQuery), operation_id = "show_policy",
    responses((status = 200, description = "The policy", body = Policy)),
)]
async fn show(
    Caller(session): Caller,
    Path((_, name)): Path<(String, String)>,
    Query(query): Query<PolicyQuery>,
) -> Result<axum::Json<Policy>, Failure> {
    let layer = layer_to(query.layer.unwrap_or_default());
    let found = session.policies()?.into_iter().find(|policy| policy.is(layer, &name));
    found
        .map(|info| axum::Json(views::policy(info)))
        .ok_or_else(|| Failure::not_found(format!("there is no policy {name:?}")))
}

/// Deletes a policy.
#[utoipa::path(
    delete, path = "/v1/{ns}/policies/{policy}", tag = "policies", params(PolicyQuery), operation_id = "delete_policy",
    responses((status = 204, description = "It is gone")),
)]
async fn delete(
    Caller(session): Caller,
    Path((_, name)): Path<(String, String)>,
    Query(query): Query<PolicyQuery>,
) -> Result<StatusCode, Failure> {
    session.delete_policy_of(layer_to(query.layer.unwrap_or_default()), &name).await?;
    Ok(StatusCode::NO_CONTENT)
}
