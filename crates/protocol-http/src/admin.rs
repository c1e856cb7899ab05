//! What belongs to no namespace: namespaces themselves, users, tokens, and how the broker is doing.

use api::{
    BackupProgress, DeclaredOutcome, ListQuery, Namespace, NamespaceConfig, NewToken, Page, Status, TokenRequest, User,
    UserChange,
};
use axum::extract::State;
use axum::http::StatusCode;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::caller::{Known, user, user_change};
use crate::definitions::namespace_to;
use crate::input::{OptionalJson, Path, Query};
use crate::page::{DeclaredAnswer, declared, page, status};
use crate::problem::Failure;
use crate::views;

pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(show_status))
        .routes(routes!(list_namespaces))
        .routes(routes!(put_namespace, show_namespace, delete_namespace))
        .routes(routes!(list_users))
        .routes(routes!(put_user, show_user, delete_user))
        .routes(routes!(create_token))
        .routes(routes!(revoke_token))
}

/// Shows how the broker as a whole is doing.
#[utoipa::path(
    get, path = "/admin/v1/status", tag = "admin",
    responses((status = 200, description = "The status", body = Status)),
)]
async fn show_status(State(app): State<App>, Known(_): Known) -> axum::Json<Status> {
    let (metrics, engine, not_ready) = (app.broker.metrics(), app.broker.engine_state(), app.broker.not_ready());
    let history = app.broker.backup_history();
    axum::Json(Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ready: not_ready.is_none(),
        not_ready,
        published: metrics.published,
        published_bytes: metrics.published_bytes,
        publish_errors: metrics.publish_errors,
        delivered: metrics.delivered,
        acked: metrics.acked,
        failed: metrics.failed,
        dead_lettered: metrics.dead_lettered,
        live_subscriptions: metrics.live_subscriptions,
        memory_bytes: metrics.memory_bytes,
        memory_high: metrics.memory_high,
        disk_full: engine.disk_full,
        damaged_logs: engine.damaged_logs,
        disk_free_bytes: engine.free_bytes,
        backup: engine.backup.map(|backup| BackupProgress {
            read_bytes: backup.read_bytes,
            total_bytes: backup.total_bytes,
            held_bytes: backup.held_bytes,
        }),
        last_backup_ms: history.last_success.map(|time| time.0),
        last_backup_error: history.last_error,
    })
}

/// Lists the namespaces that the caller may see, by name.
#[utoipa::path(
    get, path = "/admin/v1/namespaces", tag = "admin", params(ListQuery),
    responses((status = 200, description = "A page of namespaces", body = Page<Namespace>)),
)]
async fn list_namespaces(
    State(app): State<App>,
    Known(by): Known,
    Query(query): Query<ListQuery>,
) -> Result<axum::Json<Page<Namespace>>, Failure> {
    page(&query, app.broker.namespaces(&by)?, |namespace| &namespace.name, views::namespace)
}

/// Makes or changes a namespace.
#[utoipa::path(
    put, path = "/admin/v1/namespaces/{namespace}", tag = "admin",
    request_body(content = Option<NamespaceConfig>, content_type = "application/json"),
    responses(
        (status = 200, description = "It was there", body = api::Declared<Namespace>),
        (status = 201, description = "It was made", body = api::Declared<Namespace>),
    ),
)]
async fn put_namespace(
    State(app): State<App>,
    Known(by): Known,
    Path(name): Path<String>,
    OptionalJson(config): OptionalJson<NamespaceConfig>,
) -> DeclaredAnswer<Namespace> {
    let (outcome, info) = app.broker.put_namespace(&by, &name, namespace_to(config)).await?;
    Ok(declared(views::outcome(outcome), views::namespace(info)))
}

/// Shows a namespace.
#[utoipa::path(
    get, path = "/admin/v1/namespaces/{namespace}", tag = "admin",
    responses((status = 200, description = "The namespace", body = Namespace)),
)]
async fn show_namespace(
    State(app): State<App>,
    Known(by): Known,
    Path(name): Path<String>,
) -> Result<axum::Json<Namespace>, Failure> {
    let found = app.broker.namespaces(&by)?.into_iter().find(|namespace| namespace.name == name);
    found
        .map(|info| axum::Json(views::namespace(info)))
        .ok_or_else(|| Failure::not_found(format!("there is no namespace {name:?}")))
}

/// Deletes a namespace and all it holds. `default` cannot be deleted.
#[utoipa::path(
    delete, path = "/admin/v1/namespaces/{namespace}", tag = "admin",
    responses((status = 204, description = "It is gone")),
)]
async fn delete_namespace(
    State(app): State<App>,
    Known(by): Known,
    Path(name): Path<String>,
) -> Result<StatusCode, Failure> {
    app.broker.delete_namespace(&by, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists the users, by name.
#[utoipa::path(
    get, path = "/admin/v1/users", tag = "admin", params(ListQuery),
    responses((status = 200, description = "A page of users", body = Page<User>)),
)]
async fn list_users(
    State(app): State<App>,
    Known(by): Known,
    Query(query): Query<ListQuery>,
) -> Result<axum::Json<Page<User>>, Failure> {
    page(&query, app.broker.users(&by)?, |info| &info.name, user)
}

/// Makes or changes a user; what the body leaves out stays as it is.
#[utoipa::path(
    put, path = "/admin/v1/users/{user}", tag = "admin",
    request_body(content = Option<UserChange>, content_type = "application/json"),
    responses(
        (status = 200, description = "It was there", body = DeclaredOutcome),
        (status = 201, description = "It was made", body = DeclaredOutcome),
    ),
)]
async fn put_user(
    State(app): State<App>,
    Known(by): Known,
    Path(name): Path<String>,
    OptionalJson(change): OptionalJson<UserChange>,
) -> Result<(StatusCode, axum::Json<DeclaredOutcome>), Failure> {
    let outcome = views::outcome(app.broker.put_user(&by, &name, user_change(change)).await?);
    Ok((status(outcome), axum::Json(DeclaredOutcome { outcome })))
}

/// Shows a user.
#[utoipa::path(
    get, path = "/admin/v1/users/{user}", tag = "admin",
    responses((status = 200, description = "The user", body = User)),
)]
async fn show_user(
    State(app): State<App>,
    Known(by): Known,
    Path(name): Path<String>,
) -> Result<axum::Json<User>, Failure> {
    let found = app.broker.users(&by)?.into_iter().find(|info| info.name == name);
    found.map(|info| axum::Json(user(info))).ok_or_else(|| Failure::not_found(format!("there is no user {name:?}")))
}

/// Deletes a user. Its sessions end at their next operation.
#[utoipa::path(
    delete, path = "/admin/v1/users/{user}", tag = "admin",
    responses((status = 204, description = "It is gone")),
)]
async fn delete_user(
    State(app): State<App>,
    Known(by): Known,
    Path(name): Path<String>,
) -> Result<StatusCode, Failure> {
    app.broker.delete_user(&by, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes an API token for a user. The token is shown only here.
#[utoipa::path(
    post, path = "/admin/v1/users/{user}/tokens", tag = "admin",
    request_body(content = Option<TokenRequest>, content_type = "application/json"),
    responses((status = 201, description = "The token", body = NewToken)),
)]
async fn create_token(
    State(app): State<App>,
    Known(by): Known,
    Path(name): Path<String>,
    OptionalJson(request): OptionalJson<TokenRequest>,
) -> Result<(StatusCode, axum::Json<NewToken>), Failure> {
    let token = app.broker.create_token(&by, &name, &request.description, request.expires_at_ms).await?;
    Ok((StatusCode::CREATED, axum::Json(NewToken { token })))
}

/// Revokes a token.
#[utoipa::path(
    delete, path = "/admin/v1/tokens/{token}", tag = "admin",
    responses((status = 204, description = "It is revoked")),
)]
async fn revoke_token(State(app): State<App>, Known(by): Known, Path(id): Path<String>) -> Result<StatusCode, Failure> {
    app.broker.revoke_token(&by, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
