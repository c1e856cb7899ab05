//! `posthouse.v1.Admin`: definitions, looks into queues, users. The same meaning and checks as the HTTP API has.

mod definitions;
mod entities;
mod filter;
mod nodes;
mod page;
mod views;

use api::grpc as g;
use api::grpc::admin_server::Admin;
use broker::{Principal, Session};
use tonic::{Request, Response, Status};

use crate::app::App;
use crate::caller::Caller;
use crate::failure::Failure;
use entities::{bindings, groups, policies, queues, topics};
use nodes::{namespaces, users};

/// `posthouse.v1.Admin`.
pub(crate) struct Administration(pub(crate) App);

/// The caller's session in a request's namespace, and the request.
async fn within<T>(app: &App, request: Request<T>, namespace: impl Fn(&T) -> &str) -> Result<(Session, T), Failure> {
    let caller = Caller::of(app, &request).await?;
    let request = request.into_inner();
    Ok((caller.session(app, namespace(&request))?, request))
}

/// The caller of what belongs to no namespace, and the request.
async fn known<T>(app: &App, request: Request<T>) -> Result<(Principal, T), Failure> {
    let caller = Caller::of(app, &request).await?;
    Ok((caller.principal, request.into_inner()))
}

/// Implements the service: each call is the function of its place.
macro_rules! calls {
    ($($call:ident($request:ident) -> $answer:ident = $place:path;)*) => {
        #[tonic::async_trait]
        impl Admin for Administration {
            $(async fn $call(&self, request: Request<g::$request>) -> Result<Response<g::$answer>, Status> {
                Ok(Response::new($place(&self.0, request).await?))
            })*
        }
    };
}

calls! {
    get_status(GetStatusRequest) -> Status = nodes::status;
    put_namespace(PutNamespaceRequest) -> PutNamespaceResponse = namespaces::put;
    get_namespace(GetNamespaceRequest) -> Namespace = namespaces::get;
    list_namespaces(ListNamespacesRequest) -> ListNamespacesResponse = namespaces::list;
    delete_namespace(DeleteNamespaceRequest) -> DeleteNamespaceResponse = namespaces::delete;
    put_topic(PutTopicRequest) -> PutTopicResponse = topics::put;
    get_topic(GetTopicRequest) -> Topic = topics::get;
    list_topics(ListRequest) -> ListTopicsResponse = topics::list;
    delete_topic(DeleteTopicRequest) -> DeleteTopicResponse = topics::delete;
    put_queue(PutQueueRequest) -> PutQueueResponse = queues::put;
    get_queue(GetQueueRequest) -> Queue = queues::get;
    list_queues(ListRequest) -> ListQueuesResponse = queues::list;
    delete_queue(DeleteQueueRequest) -> Removed = queues::delete;
    purge_queue(PurgeQueueRequest) -> Removed = queues::purge;
    browse_queue(BrowseQueueRequest) -> BrowseQueueResponse = queues::browse;
    start_redrive(StartRedriveRequest) -> Redrive = queues::start_redrive;
    get_redrive(GetRedriveRequest) -> Redrive = queues::get_redrive;
    stop_redrive(StopRedriveRequest) -> Redrive = queues::stop_redrive;
    create_binding(CreateBindingRequest) -> CreateBindingResponse = bindings::create;
    get_binding(GetBindingRequest) -> Binding = bindings::get;
    list_bindings(ListBindingsRequest) -> ListBindingsResponse = bindings::list;
    delete_binding(DeleteBindingRequest) -> DeleteBindingResponse = bindings::delete;
    put_group(PutGroupRequest) -> PutGroupResponse = groups::put;
    get_group(GetGroupRequest) -> Group = groups::get;
    list_groups(ListRequest) -> ListGroupsResponse = groups::list;
    delete_group(DeleteGroupRequest) -> DeleteGroupResponse = groups::delete;
    put_policy(PutPolicyRequest) -> PutPolicyResponse = policies::put;
    get_policy(GetPolicyRequest) -> Policy = policies::get;
    list_policies(ListPoliciesRequest) -> ListPoliciesResponse = policies::list;
    delete_policy(DeletePolicyRequest) -> DeletePolicyResponse = policies::delete;
    put_user(PutUserRequest) -> PutUserResponse = users::put;
    get_user(GetUserRequest) -> User = users::get;
    list_users(ListUsersRequest) -> ListUsersResponse = users::list;
    delete_user(DeleteUserRequest) -> DeleteUserResponse = users::delete;
    create_token(CreateTokenRequest) -> CreateTokenResponse = users::create_token;
    revoke_token(RevokeTokenRequest) -> RevokeTokenResponse = users::revoke_token;
}
