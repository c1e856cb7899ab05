//! Administration.

use api::grpc as g;
use api::grpc::admin_client::AdminClient;
use tonic::Code;

use crate::harness::{Server, body, refusal};

fn name<T: Default>(set: impl FnOnce(&mut T)) -> T {
    let mut request = T::default();
    set(&mut request);
    request
}

#[tokio::test]
async fn topics_queues_and_bindings_are_made_shown_and_deleted() {
    let server = Server::start().await;
    let mut admin = AdminClient::new(server.channel.clone());
    let topic = || name::<g::PutTopicRequest>(|request| request.name = "orders".to_owned());
    let made = admin.put_topic(topic()).await.unwrap().into_inner();
    assert_eq!(made.outcome(), g::Outcome::Created);
    assert_eq!(admin.put_topic(topic()).await.unwrap().into_inner().outcome(), g::Outcome::Unchanged);
    let mut other = topic();
    other.config = Some(g::TopicConfig { description: Some("d".to_owned()), ..Default::default() });
    other.keep = true;
    assert_eq!(refusal(&admin.put_topic(other.clone()).await.unwrap_err()).1, "definition-conflict");
    other.keep = false;
    assert_eq!(admin.put_topic(other).await.unwrap().into_inner().outcome(), g::Outcome::Updated);

    admin.put_queue(name::<g::PutQueueRequest>(|request| request.name = "work".to_owned())).await.unwrap();
    let filter = g::Filter { kind: Some(g::filter::Kind::Subject("orders.*".to_owned())) };
    let config = g::BindingConfig {
        topic: "orders".to_owned(),
        target: Some(g::binding_config::Target::ToQueue("work".to_owned())),
        filter: Some(filter),
        ..Default::default()
    };
    let request = g::CreateBindingRequest { config: Some(config.clone()), ..Default::default() };
    let binding = admin.create_binding(request).await.unwrap().into_inner().binding.unwrap();
    assert_eq!(binding.config, Some(config));
    let listed = admin.list_bindings(g::ListBindingsRequest::default()).await.unwrap().into_inner().bindings;
    assert_eq!(listed, std::slice::from_ref(&binding));
    let queues = admin.list_queues(g::ListRequest { prefix: "w".to_owned(), ..Default::default() }).await.unwrap();
    assert!(queues.into_inner().queues.iter().any(|queue| queue.name == "work"));

    server.fill("work", &["a", "b", "c"]).await;
    let browse = g::BrowseQueueRequest { queue: "work".to_owned(), max: Some(2), ..Default::default() };
    let seen = admin.browse_queue(browse).await.unwrap().into_inner();
    let bodies: Vec<_> = seen.messages.into_iter().map(|one| body(one.message)).collect();
    assert_eq!((bodies, seen.next), (vec!["a".to_owned(), "b".to_owned()], 2));
    let purge = g::PurgeQueueRequest { queue: "work".to_owned(), ..Default::default() };
    assert_eq!(admin.purge_queue(purge).await.unwrap().into_inner().messages, 3);
    assert_eq!(
        admin
            .get_redrive(g::GetRedriveRequest { queue: "work".to_owned(), ..Default::default() })
            .await
            .unwrap_err()
            .code(),
        Code::NotFound
    );

    admin.delete_binding(g::DeleteBindingRequest { id: binding.id, ..Default::default() }).await.unwrap();
    admin.delete_queue(name::<g::DeleteQueueRequest>(|request| request.name = "work".to_owned())).await.unwrap();
    admin.delete_topic(name::<g::DeleteTopicRequest>(|request| request.name = "orders".to_owned())).await.unwrap();
    let gone = admin.get_topic(name::<g::GetTopicRequest>(|request| request.name = "orders".to_owned())).await;
    assert_eq!(gone.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn namespaces_policies_and_status_are_there() {
    let server = Server::start().await;
    let mut admin = AdminClient::new(server.channel.clone());
    let quota = g::Quota { max_queues: Some(1), ..Default::default() };
    let config = g::NamespaceConfig { quota: Some(quota), ..Default::default() };
    admin.put_namespace(g::PutNamespaceRequest { name: "shop".to_owned(), config: Some(config) }).await.unwrap();
    let queue = |name: &str| {
        let dead_letter = Some(g::DeadLetter { to: Some(g::dead_letter::To::Dropped(g::Dropped {})) });
        let config = Some(g::QueueConfig { dead_letter, ..Default::default() });
        g::PutQueueRequest { namespace: "shop".to_owned(), name: name.to_owned(), config, keep: false }
    };
    admin.put_queue(queue("a")).await.unwrap();
    let status = admin.put_queue(queue("b")).await.unwrap_err();
    assert_eq!((status.code(), refusal(&status).1.as_str()), (Code::ResourceExhausted, "quota-reached"));
    let listed = admin.list_namespaces(g::ListNamespacesRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.namespaces.len(), 2);
    admin.delete_namespace(g::DeleteNamespaceRequest { name: "shop".to_owned() }).await.unwrap();

    let values = g::PolicyValues { max_messages: Some(7), ..Default::default() };
    let config = g::PolicyConfig {
        pattern: "w*".to_owned(),
        applies_to: g::PolicyScope::Queues.into(),
        overrides: Some(values),
        ..Default::default()
    };
    let request = g::PutPolicyRequest { name: "p".to_owned(), config: Some(config), ..Default::default() };
    admin.put_policy(request).await.unwrap();
    let made = admin.put_queue(name::<g::PutQueueRequest>(|request| request.name = "work".to_owned())).await.unwrap();
    let queue = made.into_inner().queue.unwrap();
    assert_eq!((queue.policy.as_deref(), queue.effective.unwrap().max_messages), (Some("p"), Some(7)));
    assert!(admin.get_status(g::GetStatusRequest {}).await.unwrap().into_inner().ready);
}

#[tokio::test]
async fn what_holds_for_a_queue_is_shown_whole() {
    let server = Server::start().await;
    let mut admin = AdminClient::new(server.channel.clone());
    let breaker = g::Breaker { failure_ratio: 0.5, window: 10, pause_ms: 1000 };
    let config = g::QueueConfig {
        max_messages: Some(7),
        overflow: g::Overflow::DropOldest.into(),
        dedup_window_ms: Some(60_000),
        breaker: Some(breaker),
        expires_ms: Some(3_600_000),
        ..Default::default()
    };
    let request = g::PutQueueRequest { name: "work".to_owned(), config: Some(config), ..Default::default() };
    let effective = admin.put_queue(request).await.unwrap().into_inner().queue.unwrap().effective.unwrap();
    assert_eq!(effective.overflow(), g::Overflow::DropOldest);
    assert_eq!((effective.dedup_window_ms, effective.expires_ms), (Some(60_000), Some(3_600_000)));
    assert_eq!(effective.breaker, Some(breaker));
    let request = name::<g::PutQueueRequest>(|request| request.name = "plain".to_owned());
    let queue = admin.put_queue(request).await.unwrap().into_inner().queue.unwrap();
    assert_eq!(queue.effective.unwrap().overflow(), g::Overflow::Unspecified, "nothing is bounded");
    assert_eq!((queue.damage, queue.depth.unwrap().unread), (None, 0));
    assert_eq!(admin.get_status(g::GetStatusRequest {}).await.unwrap().into_inner().damaged_logs, 0);
}

#[tokio::test]
async fn webhooks_lead_to_no_private_address() {
    let server = Server::start().await;
    let mut admin = AdminClient::new(server.channel.clone());
    let put = |url: &str| {
        let webhook = Some(g::Webhook { url: url.to_owned(), ..Default::default() });
        let config = Some(g::QueueConfig { webhook, ..Default::default() });
        g::PutQueueRequest { name: "hook".to_owned(), config, ..Default::default() }
    };
    for url in ["http://127.0.0.1:9/x", "http://localhost/x", "http://169.254.169.254/latest", "http://[::1]/"] {
        let refused = admin.put_queue(put(url)).await.unwrap_err();
        let wanted = (Code::InvalidArgument, "invalid-value".to_owned(), "webhook.url".to_owned());
        assert_eq!(refusal(&refused), wanted, "{url}");
        assert!(refused.message().contains("webhook.allow_private"), "{refused}");
    }
    admin.put_queue(put("https://hooks.example/in")).await.unwrap();
}
