//! The listener behind TLS: with the server's certificate alone, and with certificates of clients.

use std::net::SocketAddr;
use std::sync::Arc;

use api::grpc as g;
use api::grpc::admin_client::AdminClient;
use broker::{Broker, BrokerOptions};
use hyper_util::rt::TokioIo;
use log::MemoryLog;
use net::{ClientCertificates, Drain, Listener, ListenerOptions, TlsFiles, TlsStore};
use protocol_grpc::{Grpc, GrpcOptions};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};
use types::clock::SystemClock;

use crate::harness::{frames, next, soon, text, to_queue};

/// An authority, a server behind its certificate, and the broker in it.
struct Server {
    authority: CertifiedIssuer<'static, KeyPair>,
    address: SocketAddr,
    broker: Broker,
    drain: Drain,
    _directory: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.drain.begin();
    }
}

fn issue(authority: &CertifiedIssuer<'static, KeyPair>, common_name: &str) -> (String, String) {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, authority).unwrap().pem(), key.serialize_pem())
}

impl Server {
    async fn start(with_clients: bool) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test authority");
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let (certificate, key) = issue(&authority, "server");
        for (name, text) in [("ca.pem", authority.pem()), ("cert.pem", certificate), ("key.pem", key)] {
            std::fs::write(path(name), text).unwrap();
        }
        let clients = if with_clients { ClientCertificates::Required(path("ca.pem")) } else { ClientCertificates::Off };
        let files = TlsFiles { certificate: path("cert.pem"), key: path("key.pem"), clients };
        let tls = Some(TlsStore::open(files, protocol_grpc::ALPN).unwrap());
        let clock = Arc::new(SystemClock::new());
        let options = BrokerOptions { anonymous: !with_clients, ..BrokerOptions::default() };
        let broker = Broker::open(Arc::new(MemoryLog::new()), clock.clone(), options).unwrap();
        let options = ListenerOptions { name: "grpc", flag: "--grpc", tls, max_connections: 100 };
        let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap(), options).await.unwrap();
        let (address, drain) = (listener.local_addr(), Drain::new());
        let grpc = Grpc::new(broker.clone(), GrpcOptions::new(clock));
        tokio::spawn(protocol_grpc::serve(listener, grpc, drain.clone()));
        Self { authority, address, broker, drain, _directory: directory }
    }

    /// A channel of a client that trusts the authority, with a certificate of its own if a name is given.
    async fn connect(&self, common_name: Option<&str>) -> Result<Channel, tonic::transport::Error> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        let builder = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match common_name {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let (certificate, key) = issue(&self.authority, name);
                let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap()
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        let (connector, address) = (TlsConnector::from(Arc::new(config)), self.address);
        let connect = tower::service_fn(move |_: Uri| {
            let connector = connector.clone();
            async move {
                let stream = TcpStream::connect(address).await?;
                let stream = connector.connect(ServerName::try_from("localhost").unwrap(), stream).await?;
                Ok::<_, std::io::Error>(TokioIo::new(stream))
            }
        });
        Endpoint::from_static("http://localhost").connect_with_connector(connect).await
    }
}

#[tokio::test]
async fn streams_run_over_tls() {
    let server = Server::start(false).await;
    server.broker.internal_session("default").unwrap().declare_queue("q", Default::default(), true).await.unwrap();
    let channel = soon(server.connect(None)).await.unwrap();
    let (send, requests) = frames();
    let mut client = api::grpc::publisher_client::PublisherClient::new(channel);
    let mut answers = soon(client.publish_stream(requests)).await.unwrap().into_inner();
    let open = g::PublishOpen { to: to_queue("q"), ..Default::default() };
    send.send(g::PublishFrame { open: Some(open), messages: vec![text("a"), text("b")], ..Default::default() })
        .await
        .unwrap();
    while next(&mut answers).await.confirmed < 2 {}
    // A client that speaks no TLS gets no answer from a listener that does.
    let plain = Channel::from_shared(format!("http://{}", server.address)).unwrap().connect_lazy();
    soon(AdminClient::new(plain).get_status(g::GetStatusRequest {})).await.unwrap_err();
}

#[tokio::test]
async fn clients_are_who_their_certificates_say() {
    let server = Server::start(true).await;
    server.broker.create_first_admin("ada", "password-1".to_owned()).await.unwrap();
    let status = |channel: Channel| async move { AdminClient::new(channel).get_status(g::GetStatusRequest {}).await };
    let ada = soon(server.connect(Some("ada"))).await.unwrap();
    assert!(soon(status(ada)).await.unwrap().into_inner().ready);
    let stranger = soon(server.connect(Some("eve"))).await.unwrap();
    assert_eq!(soon(status(stranger)).await.unwrap_err().code(), tonic::Code::Unauthenticated);
    // Without a certificate the handshake fails, which TLS 1.3 tells with the first answer.
    if let Ok(nobody) = soon(server.connect(None)).await {
        assert_ne!(soon(status(nobody)).await.unwrap_err().code(), tonic::Code::Unauthenticated);
    }
}
