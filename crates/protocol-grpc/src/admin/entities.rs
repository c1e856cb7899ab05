//! What a namespace holds: topics, queues, bindings, groups, policies.

use api::grpc as g;
use tonic::Request;

use super::page::Page;
use super::{definitions as d, views, within};
use crate::app::App;
use crate::failure::Failure;

fn page(request: &g::ListRequest) -> Page<'_> {
    Page { prefix: &request.prefix, after: &request.after, limit: request.limit }
}

pub(super) mod topics {
    use super::{App, Failure, Request, d, g, page, views, within};

    pub(crate) async fn put(app: &App, request: Request<g::PutTopicRequest>) -> Result<g::PutTopicResponse, Failure> {
        let (session, request) = within(app, request, |request| &request.namespace).await?;
        let config = d::topic_to(request.config.unwrap_or_default())?;
        let (outcome, info) = session.declare_topic(&request.name, config, !request.keep).await?;
        Ok(g::PutTopicResponse { outcome: views::outcome(outcome), topic: Some(views::topic(info)) })
    }

    pub(crate) async fn get(app: &App, request: Request<g::GetTopicRequest>) -> Result<g::Topic, Failure> {
        let (session, request) = within(app, request, |request| &request.namespace).await?;
        Ok(views::topic(session.topic(&request.name)?))
    }

    pub(crate) async fn list(app: &App, request: Request<g::ListRequest>) -> Result<g::ListTopicsResponse, Failure> {
        let (session, request) = within(app, request, |request| &request.namespace).await?;
        let (topics, next) = page(&request).of(session.topics()?, |topic| &topic.name, views::topic)?;
        Ok(g::ListTopicsResponse { topics, next })
    }

    pub(crate) async fn delete(
        app: &App,
        request: Request<g::DeleteTopicRequest>,
    ) -> Result<g::DeleteTopicResponse, Failure> {
        let (session, request) = within(app, request, |request| &request.namespace).await?;
        session.delete_topic(&request.name, request.if_unused).await?;
        Ok(g::DeleteTopicResponse {})
    }
}

pub(super) mod queues {
    use types::Offset;

    use super::{App, Failure, Request, d, g, page, views, within};
    use crate::input;
    use crate::limits::ANSWER_BYTES;

    pub(crate) async fn put(app: &App, request: Request<g::PutQueueRequest>) -> Result<g::PutQueueResponse, Failure> {
        let (session, request) = within(app, request, |request| &request.namespace).await?;
        let mut config = d::queue_to(request.config.unwrap_or_default())?;
        // A definition that was shown and is put back unchanged must not replace the secret by its mask.
        let masked =
            |webhook: &&mut broker::definitions::WebhookConfig| webhook.secret.as_deref() == Some(d::HIDDEN_SECRET);
        if let Some(webhook) = config.webhook.as_mut().filter(masked) {
            let known = session.queue(&request.name).ok().and_then(|info| info.config.webhook?.secret);
            let missing = || {
                let why = format!("{:?} keeps the secret there is; there is none", d::HIDDEN_SECRET);
                Failure::invalid("webhook.secret", why)
            };
            webhook.secret = Some(known.ok_or_else(missing)?);
        }
        let (outcome, info) = session.declare_queue(&request.name, config, !request.keep).await?;
        Ok(g::PutQueueResponse { outcome: views::outcome(outcome), queue: Some(views::queue(info)) })
    }

    pub(crate) async fn get(app: &App, request: Request<g::GetQueueRequest>) -> Result<g::Queue, Failure> {
        let (session, request) = within(app, request, |request| &request.namespace).await?;
        Ok(views::queue(session.queue(&request.name)?))
    }

    pub(crate) async fn list(app: &App, request: Request<g::ListRequest>) -> Result<g::ListQueuesResponse, Failure> {
        let (session, request) = within(app, request, |request| &request.namespace).await?;
        let (queues, next) = page(&request).of(session.queues()?, |queue| &queue.name, views::queue)?;
        Ok(g::ListQueuesResponse { queues, next })
    }

    pub(crate) async fn delete(app: &App, request: Request<g::DeleteQueueRequest>) -> Result<g::Removed, Failure> {
        let (session, request) = within(app, request, |request| &request.namespace).await?;
        let messages = session.delete_queue(&request.name, request.if_unused, request.if_empty).await?;
        Ok(g::Removed { messages })
    }

    pub(crate) async fn purge(app: &App, request: Request<g::PurgeQueueRequest>) -> Result<g::Removed, Failure> {
        let (session, request) = within(app, request, |request| &request.namespace).await?;
        Ok(g::Removed { messages: session.purge(&request.queue).await? })
    }

    pub(crate) async fn browse(
        app: &App,
        request: Request<g::BrowseQueueRequest>,
    ) -> Result<g::BrowseQueueResponse, Failure> {
        let (session, request) = within(app, request, |request| &request.namespace).await?;
        let max = input::max_messages(request.max, 20)?;
        let (found, mut next) = session.browse(&request.queue, Offset(request.from), max)?;
        let (mut messages, mut left) = (Vec::with_capacity(found.len()), ANSWER_BYTES);
        for one in found {
            let bytes = one.message.weight_bytes() as u64;
            if !messages.is_empty() && bytes > left {
                next = one.offset;
                break;
            }
            left = left.saturating_sub(bytes);
            messages.push(views::browsed(one));
        }
        Ok(g::BrowseQueueResponse { messages, next: next.0 })
    }

    pub(crate) async fn start_redrive(
        app: &App,
        request: Request<g::StartRedriveRequest>,
    ) -> Result<g::Redrive, Failure> {
        let (session, request) = within(app, request, |request| &request.namespace).await?;
        let redrive = broker::Redrive { to: request.to, rate: request.rate, max: request.max };
        Ok(views::redrive(session.redrive(&request.queue, redrive)?))
    }

    pub(crate) async fn get_redrive(app: &App, request: Request<g::GetRedriveRequest>) -> Result<g::Redrive, Failure> {
        let (session, g::GetRedriveRequest { queue, .. }) = within(app, request, |request| &request.namespace).await?;
        let found = session.queue(&queue)?.redrive;
        found.map(views::redrive).ok_or_else(|| Failure::not_found(format!("queue {queue:?} has no redrive")))
    }

    pub(crate) async fn stop_redrive(
        app: &App,
        request: Request<g::StopRedriveRequest>,
    ) -> Result<g::Redrive, Failure> {
        let (session, request) = within(app, request, |request| &request.namespace).await?;
        Ok(views::redrive(session.stop_redrive(&request.queue)?))
    }
}

pub(super) mod bindings {
    use broker::definitions::BindingTarget;
    use types::EntityId;

    use super::{App, Failure, Request, d, g, views, within};

    pub(crate) async fn create(
        app: &App,
        request: Request<g::CreateBindingRequest>,
    ) -> Result<g::CreateBindingResponse, Failure> {
        let (session, request) = within(app, request, |request| &request.namespace).await?;
        let config = d::binding_to(request.config.unwrap_or_default())?;
        let (outcome, info) = session.bind(config).await?;
        Ok(g::CreateBindingResponse { outcome: views::outcome(outcome), binding: Some(views::binding(info)?) })
    }

    pub(crate) async fn get(app: &App, request: Request<g::GetBindingRequest>) -> Result<g::Binding, Failure> {
        let (session, g::GetBindingRequest { id, .. }) = within(app, request, |request| &request.namespace).await?;
        let found = session.bindings(None, None)?.into_iter().find(|binding| binding.id == EntityId(id));
        views::binding(found.ok_or_else(|| Failure::not_found(format!("there is no binding {id}")))?)
    }

    pub(crate) async fn list(
        app: &App,
        request: Request<g::ListBindingsRequest>,
    ) -> Result<g::ListBindingsResponse, Failure> {
        let (session, request) = within(app, request, |request| &request.namespace).await?;
        let target = match (request.to_queue, request.to_topic) {
            (Some(_), Some(_)) => {
                return Err(Failure::invalid("to_queue", "a binding leads to a queue or to a topic, not to both"));
            }
            (queue, topic) => queue.map(BindingTarget::Queue).or(topic.map(BindingTarget::Topic)),
        };
        let found = session.bindings(request.topic.as_deref(), target.as_ref())?;
        let bindings = found.into_iter().map(views::binding).collect::<Result<_, _>>()?;
        Ok(g::ListBindingsResponse { bindings })
    }

    pub(crate) async fn delete(
        app: &App,
        request: Request<g::DeleteBindingRequest>,
    ) -> Result<g::DeleteBindingResponse, Failure> {
        let (session, request) = within(app, request, |request| &request.namespace).await?;
        session.unbind(EntityId(request.id)).await?;
        Ok(g::DeleteBindingResponse {})
    }
}

pub(super) mod groups {
    use super::{App, Failure, Request, d, g, page, views, within};

    pub(crate) async fn put(app: &App, request: Request<g::PutGroupRequest>) -> Result<g::PutGroupResponse, Failure> {
        let (session, request) = within(app, request, |request| &request.namespace).await?;
        let config = d::group_to(request.config.unwrap_or_default())?;
        let (outcome, info) = session.declare_group(&request.name, config, !request.keep).await?;
        Ok(g::PutGroupResponse { outcome: views::outcome(outcome), group: Some(views::group(info)) })
    }

    pub(crate) async fn get(app: &App, request: Request<g::GetGroupRequest>) -> Result<g::Group, Failure> {
        let (session, request) = within(app, request, |request| &request.namespace).await?;
        Ok(views::group(session.group(&request.name)?))
    }

    pub(crate) async fn list(app: &App, request: Request<g::ListRequest>) -> Result<g::ListGroupsResponse, Failure> {
        let (session, request) = within(app, request, |request| &request.namespace).await?;
        let (groups, next) = page(&request).of(session.groups()?, |group| &group.name, views::group)?;
        Ok(g::ListGroupsResponse { groups, next })
    }

    pub(crate) async fn delete(
        app: &App,
        request: Request<g::DeleteGroupRequest>,
    ) -> Result<g::DeleteGroupResponse, Failure> {
        let (session, request) = within(app, request, |request| &request.namespace).await?;
        session.delete_group(&request.name).await?;
        Ok(g::DeleteGroupResponse {})
    }
}

pub(super) mod policies {
    use super::super::page::Page;
    use super::{App, Failure, Request, d, g, views, within};

    pub(crate) async fn put(app: &App, request: Request<g::PutPolicyRequest>) -> Result<g::PutPolicyResponse, Failure> {
        let (session, request) = within(app, request, |request| &request.namespace).await?;
        let config = d::policy_to(request.config.unwrap_or_default())?;
        Ok(g::PutPolicyResponse { outcome: views::outcome(session.put_policy(&request.name, config).await?) })
    }

    pub(crate) async fn get(app: &App, request: Request<g::GetPolicyRequest>) -> Result<g::Policy, Failure> {
        let (session, request) = within(app, request, |request| &request.namespace).await?;
        let (layer, name) = (d::layer_to("layer", request.layer)?, request.name);
        let found = session.policies()?.into_iter().find(|policy| policy.is(layer, &name));
        found.map(views::policy).ok_or_else(|| Failure::not_found(format!("there is no policy {name:?}")))
    }

    pub(crate) async fn list(
        app: &App,
        request: Request<g::ListPoliciesRequest>,
    ) -> Result<g::ListPoliciesResponse, Failure> {
        let (session, request) = within(app, request, |request| &request.namespace).await?;
        let layer = d::layer_to("layer", request.layer)?;
        let mut policies = session.policies()?;
        policies.retain(|policy| policy.config.layer == layer);
        let page = Page { prefix: &request.prefix, after: &request.after, limit: request.limit };
        let (policies, next) = page.of(policies, |policy| &policy.name, views::policy)?;
        Ok(g::ListPoliciesResponse { policies, next })
    }

    pub(crate) async fn delete(
        app: &App,
        request: Request<g::DeletePolicyRequest>,
    ) -> Result<g::DeletePolicyResponse, Failure> {
        let (session, request) = within(app, request, |request| &request.namespace).await?;
        session.delete_policy_of(d::layer_to("layer", request.layer)?, &request.name).await?;
        Ok(g::DeletePolicyResponse {})
    }
}
