//! Groups: named offsets on a topic's log, with members that share its partitions.

use std::time::Duration;

use api::{DeclareQuery, Group, GroupConfig, GroupPositions, JoinAnswer, ListQuery, MemberRequest, Page, Records};
use axum::extract::State;
use axum::http::StatusCode;
use types::Offset;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::{App, Draining};
use crate::caller::Caller;
use crate::consume::{messages, wait};
use crate::definitions::group_to;
use crate::input::{Json, Path, Query};
use crate::page::{DeclaredAnswer, declared, page};
use crate::problem::Failure;
use crate::views;

pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(put, show, delete))
        .routes(routes!(join))
        .routes(routes!(leave))
        .routes(routes!(fetch))
        .routes(routes!(commit))
        .routes(routes!(seek))
}

/// Lists the groups that the caller may see, by name.
#[utoipa::path(
    get, path = "/v1/{ns}/groups", tag = "groups", params(ListQuery), operation_id = "list_groups",
    responses((status = 200, description = "A page of groups", body = Page<Group>)),
)]
async fn list(Caller(session): Caller, Query(query): Query<ListQuery>) -> Result<axum::Json<Page<Group>>, Failure> {
    page(&query, session.groups()?, |group| &group.name, views::group)
}

/// Makes or changes a group.
#[utoipa::path(
    put, path = "/v1/{ns}/groups/{group}", tag = "groups", params(DeclareQuery), request_body = GroupConfig,
    operation_id = "put_group",
    responses(
        (status = 200, description = "It was there", body = api::Declared<Group>),
        (status = 201, description = "It was made", body = api::Declared<Group>),
    ),
)]
async fn put(
    Caller(session): Caller,
    Path((_, group)): Path<(String, String)>,
    Query(query): Query<DeclareQuery>,
    Json(config): Json<GroupConfig>,
) -> DeclaredAnswer<Group> {
    let (outcome, info) = session.declare_group(&group, group_to(config), query.update.unwrap_or(true)).await?;
    Ok(declared(views::outcome(outcome), views::group(info)))
}

/// Shows a group: its members, and where it stands.
#[utoipa::path(
    get, path = "/v1/{ns}/groups/{group}", tag = "groups", operation_id = "show_group",
    responses((status = 200, description = "The group", body = Group)),
)]
async fn show(Caller(session): Caller, Path((_, group)): Path<(String, String)>) -> Result<axum::Json<Group>, Failure> {
    Ok(axum::Json(views::group(session.group(&group)?)))
}

/// Deletes a group and its offsets.
#[utoipa::path(
    delete, path = "/v1/{ns}/groups/{group}", tag = "groups", operation_id = "delete_group",
    responses((status = 204, description = "It is gone")),
)]
async fn delete(Caller(session): Caller, Path((_, group)): Path<(String, String)>) -> Result<StatusCode, Failure> {
    session.delete_group(&group).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Joins a group as a member, or gives a sign of life. A member that is silent for the group's `session_ms` is out.
#[utoipa::path(
    post, path = "/v1/{ns}/groups/{group}/join", tag = "groups", request_body = MemberRequest, operation_id = "join_group",
    responses((status = 200, description = "What the member has to read", body = JoinAnswer)),
)]
async fn join(
    Caller(session): Caller,
    Path((_, group)): Path<(String, String)>,
    Json(request): Json<MemberRequest>,
) -> Result<axum::Json<JoinAnswer>, Failure> {
    types::check_name(&request.member).map_err(|error| Failure::invalid("member", error.to_string()))?;
    let (generation, partitions) = session.join_group(&group, &request.member)?;
    Ok(axum::Json(JoinAnswer { generation, partitions }))
}

/// Leaves a group.
#[utoipa::path(
    post, path = "/v1/{ns}/groups/{group}/leave", tag = "groups", request_body = MemberRequest, operation_id = "leave_group",
    responses((status = 204, description = "The member has left")),
)]
async fn leave(
    Caller(session): Caller,
    Path((_, group)): Path<(String, String)>,
    Json(request): Json<MemberRequest>,
) -> Result<StatusCode, Failure> {
    session.leave_group(&group, &request.member)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Reads on from where the group stands on the member's partitions, without moving it, waiting for the first record if asked to.
#[utoipa::path(
    post, path = "/v1/{ns}/groups/{group}/fetch", tag = "groups", request_body = api::FetchRequest, operation_id = "fetch_group",
    responses((status = 200, description = "The records", body = Records)),
)]
async fn fetch(
    State(app): State<App>,
    Caller(session): Caller,
    Path((_, group)): Path<(String, String)>,
    drain: Draining,
    Json(request): Json<api::FetchRequest>,
) -> Result<axum::Json<Records>, Failure> {
    let (wait, max): (Duration, usize) = (wait(request.wait_ms)?, messages(request.max, 100)?);
    let fetching = session.fetch_group(&group, &request.member, request.generation, max, wait);
    let records = app.waiting(&drain, wait, fetching).await?.transpose()?.unwrap_or_default();
    Ok(axum::Json(Records { records: records.iter().map(views::record).collect() }))
}

/// Commits the next offsets to read.
#[utoipa::path(
    post, path = "/v1/{ns}/groups/{group}/commit", tag = "groups", request_body = api::CommitRequest, operation_id = "commit_group",
    responses((status = 204, description = "They are durable")),
)]
async fn commit(
    Caller(session): Caller,
    Path((_, group)): Path<(String, String)>,
    Json(request): Json<api::CommitRequest>,
) -> Result<StatusCode, Failure> {
    let member = match (&request.member, request.generation) {
        (Some(member), Some(generation)) => Some((member.as_str(), generation)),
        (None, None) => None,
        _ => return Err(Failure::invalid("member", "`member` and `generation` go together")),
    };
    let offsets: Vec<_> = request.offsets.iter().map(|at| (at.partition, Offset(at.offset))).collect();
    session.commit_group(&group, member, &offsets).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Moves a group: one partition or all of them, to an offset or a time.
#[utoipa::path(
    post, path = "/v1/{ns}/groups/{group}/seek", tag = "groups", request_body = api::SeekRequest, operation_id = "seek_group",
    responses(
        (status = 200, description = "Where it stands now", body = GroupPositions),
        (status = 416, description = "The offset is not there", body = api::Problem, content_type = "application/problem+json"),
    ),
)]
async fn seek(
    Caller(session): Caller,
    Path((_, group)): Path<(String, String)>,
    Json(request): Json<api::SeekRequest>,
) -> Result<axum::Json<GroupPositions>, Failure> {
    let moved = session.seek_group(&group, request.partition, views::read_from(request.to)).await?;
    Ok(axum::Json(GroupPositions { partitions: moved.into_iter().map(views::group_partition).collect() }))
}
