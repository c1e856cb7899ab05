//! What belongs to no namespace: namespaces themselves, users, tokens, and how the broker is doing.

use api::grpc as g;
use tonic::Request;

use super::known;
use crate::app::App;
use crate::failure::Failure;

pub(super) async fn status(app: &App, request: Request<g::GetStatusRequest>) -> Result<g::Status, Failure> {
    known(app, request).await?;
    let (metrics, engine, not_ready) = (app.broker.metrics(), app.broker.engine_state(), app.broker.not_ready());
    let history = app.broker.backup_history();
    Ok(g::Status {
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
        disk_free_bytes: engine.free_bytes,
        damaged_logs: engine.damaged_logs,
        backup: engine.backup.map(|backup| g::BackupProgress {
            read_bytes: backup.read_bytes,
            total_bytes: backup.total_bytes,
            held_bytes: backup.held_bytes,
        }),
        last_backup_ms: history.last_success.map(|time| time.0),
        last_backup_error: history.last_error,
    })
}

pub(super) mod namespaces {
    use super::super::definitions::namespace_to;
    use super::super::page::Page;
    use super::super::{known, views};
    use super::{App, Failure, Request, g};

    pub(crate) async fn put(
        app: &App,
        request: Request<g::PutNamespaceRequest>,
    ) -> Result<g::PutNamespaceResponse, Failure> {
        let (by, request) = known(app, request).await?;
        let config = namespace_to(request.config.unwrap_or_default())?;
        let (outcome, info) = app.broker.put_namespace(&by, &request.name, config).await?;
        Ok(g::PutNamespaceResponse { outcome: views::outcome(outcome), namespace: Some(views::namespace(info)) })
    }

    pub(crate) async fn get(app: &App, request: Request<g::GetNamespaceRequest>) -> Result<g::Namespace, Failure> {
        let (by, g::GetNamespaceRequest { name }) = known(app, request).await?;
        let found = app.broker.namespaces(&by)?.into_iter().find(|namespace| namespace.name == name);
        found.map(views::namespace).ok_or_else(|| Failure::not_found(format!("there is no namespace {name:?}")))
    }

    pub(crate) async fn list(
        app: &App,
        request: Request<g::ListNamespacesRequest>,
    ) -> Result<g::ListNamespacesResponse, Failure> {
        let (by, request) = known(app, request).await?;
        let page = Page { prefix: &request.prefix, after: &request.after, limit: request.limit };
        let (namespaces, next) = page.of(app.broker.namespaces(&by)?, |one| &one.name, views::namespace)?;
        Ok(g::ListNamespacesResponse { namespaces, next })
    }

    pub(crate) async fn delete(
        app: &App,
        request: Request<g::DeleteNamespaceRequest>,
    ) -> Result<g::DeleteNamespaceResponse, Failure> {
        let (by, request) = known(app, request).await?;
        app.broker.delete_namespace(&by, &request.name).await?;
        Ok(g::DeleteNamespaceResponse {})
    }
}

pub(super) mod users {
    use broker::definitions as b;

    use super::super::page::Page;
    use super::super::{known, views};
    use super::{App, Failure, Request, g};

    pub(crate) async fn put(app: &App, request: Request<g::PutUserRequest>) -> Result<g::PutUserResponse, Failure> {
        let (by, request) = known(app, request).await?;
        let subjects = |(topic, given): (String, g::SubjectPermissions)| {
            (topic, b::SubjectPermissions { write: given.write, read: given.read })
        };
        let permissions = |given: g::Permissions| b::Permissions {
            configure: given.configure,
            write: given.write,
            read: given.read,
            subjects: given.subjects.into_iter().map(subjects).collect(),
        };
        let limits = |given: g::UserLimits| b::UserLimits {
            max_connections: given.max_connections,
            max_channels: given.max_channels,
        };
        if let Some(both) = request.revoke_namespaces.iter().find(|name| request.permissions.contains_key(*name)) {
            let why = format!("namespace {both:?} is given permissions by the same request");
            return Err(Failure::invalid("revoke_namespaces", why));
        }
        let given = request.permissions.into_iter().map(|(namespace, given)| (namespace, Some(permissions(given))));
        let taken = request.revoke_namespaces.into_iter().map(|namespace| (namespace, None));
        let change = broker::UserChange {
            password: request.password,
            stored_password: None,
            admin: request.admin,
            permissions: given.chain(taken).collect(),
            tags: request.tags.map(|tags| tags.tags),
            loopback_only: request.loopback_only,
            limits: request.limits.map(limits),
        };
        let outcome = app.broker.put_user(&by, &request.name, change).await?;
        Ok(g::PutUserResponse { outcome: views::outcome(outcome) })
    }

    pub(crate) async fn get(app: &App, request: Request<g::GetUserRequest>) -> Result<g::User, Failure> {
        let (by, g::GetUserRequest { name }) = known(app, request).await?;
        let found = app.broker.users(&by)?.into_iter().find(|info| info.name == name);
        found.map(views::user).ok_or_else(|| Failure::not_found(format!("there is no user {name:?}")))
    }

    pub(crate) async fn list(
        app: &App,
        request: Request<g::ListUsersRequest>,
    ) -> Result<g::ListUsersResponse, Failure> {
        let (by, request) = known(app, request).await?;
        let page = Page { prefix: &request.prefix, after: &request.after, limit: request.limit };
        let (users, next) = page.of(app.broker.users(&by)?, |one| &one.name, views::user)?;
        Ok(g::ListUsersResponse { users, next })
    }

    pub(crate) async fn delete(
        app: &App,
        request: Request<g::DeleteUserRequest>,
    ) -> Result<g::DeleteUserResponse, Failure> {
        let (by, request) = known(app, request).await?;
        app.broker.delete_user(&by, &request.name).await?;
        Ok(g::DeleteUserResponse {})
    }

    pub(crate) async fn create_token(
        app: &App,
        request: Request<g::CreateTokenRequest>,
    ) -> Result<g::CreateTokenResponse, Failure> {
        let (by, request) = known(app, request).await?;
        let token = app.broker.create_token(&by, &request.user, &request.description, request.expires_at_ms).await?;
        Ok(g::CreateTokenResponse { token })
    }

    pub(crate) async fn revoke_token(
        app: &App,
        request: Request<g::RevokeTokenRequest>,
    ) -> Result<g::RevokeTokenResponse, Failure> {
        let (by, request) = known(app, request).await?;
        app.broker.revoke_token(&by, &request.id).await?;
        Ok(g::RevokeTokenResponse {})
    }
}
