//! Who may enter, and what is told of limits, health and the API itself.

use api::grpc as g;
use api::grpc::admin_client::AdminClient;
use api::grpc::publisher_client::PublisherClient;
use broker::BrokerOptions;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::harness::{Server, next, refusal, soon, text, to_queue};

/// A request with an authorization.
fn by<T>(authorization: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", authorization.parse().unwrap());
    request
}

#[tokio::test]
async fn callers_are_who_they_prove_to_be() {
    let server = Server::with(BrokerOptions::default()).await;
    server.queue("q").await;
    server.broker.create_first_admin("root", "password-1".to_owned()).await.unwrap();
    let mut admin = AdminClient::new(server.channel.clone());
    let get = || g::GetQueueRequest { name: "q".to_owned(), ..Default::default() };
    let status = admin.get_queue(get()).await.unwrap_err();
    assert_eq!(refusal(&status), (Code::Unauthenticated, "unauthenticated".to_owned(), String::new()));
    // root:password-1
    let root = "Basic cm9vdDpwYXNzd29yZC0x";
    admin.get_queue(by(root, get())).await.unwrap();
    let user = g::PutUserRequest { name: "ann".to_owned(), ..Default::default() };
    admin.put_user(by(root, user)).await.unwrap();
    let token = g::CreateTokenRequest { user: "ann".to_owned(), ..Default::default() };
    let token = admin.create_token(by(root, token)).await.unwrap().into_inner().token;
    let ann = format!("Bearer {token}");
    // Without a permission in it the namespace is not even there.
    assert_eq!(admin.get_queue(by(&ann, get())).await.unwrap_err().code(), Code::NotFound);
    let given = g::Permissions { read: vec!["q".to_owned()], ..Default::default() };
    let permissions = [("default".to_owned(), given)].into();
    let user = g::PutUserRequest { name: "ann".to_owned(), permissions, ..Default::default() };
    admin.put_user(by(root, user)).await.unwrap();
    admin.get_queue(by(&ann, get())).await.unwrap();
    let publish = g::PublishRequest { to: to_queue("q"), messages: vec![text("a")], ..Default::default() };
    let status = PublisherClient::new(server.channel.clone()).publish(by(&ann, publish)).await.unwrap_err();
    assert_eq!(refusal(&status).1, "forbidden");
    assert_eq!(admin.get_queue(by("Basic !", get())).await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_frame_that_is_too_large_names_the_limit() {
    let server = Server::start().await;
    server.queue("q").await;
    let large = || g::Message::from(types::Message::new("", vec![0; 25 * 1024 * 1024]));
    let publish = g::PublishRequest { to: to_queue("q"), messages: vec![large()], ..Default::default() };
    let status = PublisherClient::new(server.channel.clone()).publish(publish).await.unwrap_err();
    assert_eq!((status.code(), refusal(&status).1.as_str()), (Code::ResourceExhausted, "too-large"), "{status:?}");
    assert!(status.message().contains("MAX_FRAME_BYTES"), "{status:?}");
    let (send, mut answers) = server.publishing().await;
    let open = Some(g::PublishOpen { to: to_queue("q"), ..Default::default() });
    send.send(g::PublishFrame { open, ..Default::default() }).await.unwrap();
    next(&mut answers).await;
    send.send(g::PublishFrame { messages: vec![large()], ..Default::default() }).await.unwrap();
    let status = soon(answers.message()).await.unwrap_err();
    assert!(status.message().contains("MAX_FRAME_BYTES"), "{status:?}");
    // The neighbours of a refused call live on.
    let publish = g::PublishRequest { to: to_queue("q"), messages: vec![text("a")], ..Default::default() };
    PublisherClient::new(server.channel.clone()).publish(publish).await.unwrap();
}

#[tokio::test]
async fn too_much_metadata_names_the_limit() {
    let server = Server::start().await;
    let mut request = Request::new(g::GetStatusRequest {});
    for number in 0..200 {
        let name = tonic::metadata::MetadataKey::from_bytes(format!("x-{number}").as_bytes()).unwrap();
        request.metadata_mut().insert(name, "v".parse().unwrap());
    }
    let status = AdminClient::new(server.channel.clone()).get_status(request).await.unwrap_err();
    assert!(status.message().contains("MAX_METADATA"), "{status:?}");
}

#[tokio::test]
async fn health_follows_the_broker() {
    use tonic_health::pb::health_check_response::ServingStatus;
    let server = Server::start().await;
    let mut client = HealthClient::new(server.channel.clone());
    let of = |service: &str| HealthCheckRequest { service: service.to_owned() };
    for service in ["", "posthouse.v1.Consumer"] {
        let status = client.check(of(service)).await.unwrap().into_inner().status();
        assert_eq!(status, ServingStatus::Serving);
    }
    assert_eq!(client.check(of("none")).await.unwrap_err().code(), Code::NotFound);
    let mut watch = client.watch(of("")).await.unwrap().into_inner();
    assert_eq!(next(&mut watch).await.status(), ServingStatus::Serving);
    server.broker.close().await;
    assert_eq!(next(&mut watch).await.status(), ServingStatus::NotServing);
}
