//! Listeners over real sockets: TLS, its reload, client certificates, limits and drains.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use net::{ClientCertificates, Drain, Drained, Listener, ListenerOptions, TlsFiles, TlsStore};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, ServerName, pem::PemObject};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// An authority and a directory with a server's certificate and key by it.
struct Certificates {
    authority: CertifiedIssuer<'static, KeyPair>,
    directory: tempfile::TempDir,
}

impl Certificates {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test authority");
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let made = Self { authority, directory: tempfile::tempdir().unwrap() };
        std::fs::write(made.path("ca.pem"), made.authority.pem()).unwrap();
        made.write_server("first");
        made
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn issue(&self, common_name: &str) -> (String, String) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, common_name);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.authority).unwrap().pem(), key.serialize_pem())
    }

    fn write_server(&self, common_name: &str) {
        let (certificate, key) = self.issue(common_name);
        replace(&self.path("cert.pem"), &certificate);
        replace(&self.path("key.pem"), &key);
    }

    fn files(&self, clients: ClientCertificates) -> TlsFiles {
        TlsFiles { certificate: self.path("cert.pem"), key: self.path("key.pem"), clients }
    }

    /// A client that trusts the authority, with a certificate of its own if a name is given.
    fn client(&self, common_name: Option<&str>) -> TlsConnector {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        let builder = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match common_name {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let (certificate, key) = self.issue(name);
                let chain = vec![rustls::pki_types::CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        TlsConnector::from(Arc::new(config))
    }
}

/// Replaces a file as careful tools do: written beside it, then renamed over it.
fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(beside, path).unwrap();
}

/// Serves connections that are told who they are, until they send something; gives where.
async fn start(
    tls: Option<Arc<TlsStore>>,
    max_connections: usize,
    drain: &Drain,
) -> (std::net::SocketAddr, Arc<net::ConnectionCounts>) {
    let options = ListenerOptions { name: "test", flag: "--test", tls, max_connections };
    let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap(), options).await.unwrap();
    let (address, counts) = (listener.local_addr(), listener.counts());
    tokio::spawn(listener.run(drain.clone(), |mut connection, peer| async move {
        let name = peer.client_cn.as_deref().unwrap_or("nobody").to_owned();
        let _ = connection.write_all(format!("{}:{name}\n", peer.tls).as_bytes()).await;
        let _ = connection.read(&mut [0; 1]).await;
    }));
    (address, counts)
}

/// Connects by TLS; gives what the server said and the common name of its certificate.
async fn ask(client: &TlsConnector, address: std::net::SocketAddr) -> std::io::Result<(String, String)> {
    let stream = TcpStream::connect(address).await?;
    let mut stream = client.connect(ServerName::try_from("localhost").unwrap(), stream).await?;
    let certificate = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
    let text = String::from_utf8_lossy(&certificate).into_owned();
    let server = ["first", "second"].into_iter().find(|name| text.contains(name)).unwrap_or("?").to_owned();
    let mut said = vec![0; 64];
    let length = stream.read(&mut said).await?;
    said.truncate(length);
    Ok((String::from_utf8(said).unwrap().trim().to_owned(), server))
}

#[tokio::test]
async fn new_certificates_are_used_without_a_restart_and_broken_ones_are_not() {
    let certificates = Certificates::new();
    let store = TlsStore::open(certificates.files(ClientCertificates::Off), &[]).unwrap();
    let drain = Drain::new();
    let (address, _) = start(Some(Arc::clone(&store)), 10, &drain).await;
    let client = certificates.client(None);
    assert_eq!(ask(&client, address).await.unwrap(), ("true:nobody".to_owned(), "first".to_owned()));

    replace(&certificates.path("key.pem"), "not a key");
    store.reload().unwrap_err();
    assert_eq!(ask(&client, address).await.unwrap().1, "first");
    let (other_certificate, _) = certificates.issue("second");
    replace(&certificates.path("cert.pem"), &other_certificate);
    store.reload().unwrap_err();
    assert_eq!(ask(&client, address).await.unwrap().1, "first");

    certificates.write_server("second");
    store.reload().unwrap();
    assert_eq!(ask(&client, address).await.unwrap().1, "second");
}

#[tokio::test]
async fn a_changed_file_is_found_by_the_watch() {
    let certificates = Certificates::new();
    let store = TlsStore::open(certificates.files(ClientCertificates::Off), &[]).unwrap();
    let drain = Drain::new();
    let before = store.current();
    let watch = tokio::spawn(Arc::clone(&store).watch(drain.clone()));
    certificates.write_server("second, with a longer name");
    let changed = async {
        while Arc::ptr_eq(&before, &store.current()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), changed).await.expect("the change is found");
    drain.begin();
    tokio::time::timeout(Duration::from_secs(20), watch).await.expect("the watch ends with the drain").unwrap();
}

#[tokio::test]
async fn a_client_certificate_gives_the_connection_a_name() {
    let certificates = Certificates::new();
    let strangers = Certificates::new();
    let drain = Drain::new();
    let optional = ClientCertificates::Optional(certificates.path("ca.pem"));
    let store = TlsStore::open(certificates.files(optional), &[]).unwrap();
    let (address, _) = start(Some(store), 10, &drain).await;
    assert_eq!(ask(&certificates.client(Some("billing")), address).await.unwrap().0, "true:billing");
    assert_eq!(ask(&certificates.client(None), address).await.unwrap().0, "true:nobody");

    let required = ClientCertificates::Required(certificates.path("ca.pem"));
    let store = TlsStore::open(certificates.files(required), &[]).unwrap();
    let (address, counts) = start(Some(store), 10, &drain).await;
    assert_eq!(ask(&certificates.client(Some("billing")), address).await.unwrap().0, "true:billing");
    ask(&certificates.client(None), address).await.unwrap_err();
    // A certificate of another authority is refused, not taken for none.
    let foreign = {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificates.authority.der().clone()).unwrap();
        let (certificate, key) = strangers.issue("billing");
        let chain = vec![rustls::pki_types::CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap())
            .unwrap();
        TlsConnector::from(Arc::new(config))
    };
    ask(&foreign, address).await.unwrap_err();
    assert_eq!(counts.handshake_failed(), 2);
}

#[tokio::test]
async fn one_connection_too_many_is_closed_and_its_neighbours_stay() {
    let drain = Drain::new();
    let (address, counts) = start(None, 1, &drain).await;
    let mut first = TcpStream::connect(address).await.unwrap();
    let mut said = [0; 13];
    first.read_exact(&mut said).await.unwrap();
    let mut second = TcpStream::connect(address).await.unwrap();
    assert!(matches!(second.read(&mut [0; 1]).await, Ok(0) | Err(_)));
    assert_eq!((counts.open(), counts.refused()), (1, 1));
    // The first still lives: it ends by its own byte, and its place is free again.
    first.write_all(b"x").await.unwrap();
    assert_eq!(first.read(&mut [0; 1]).await.unwrap(), 0);
    let mut third = TcpStream::connect(address).await.unwrap();
    assert_eq!(third.read(&mut said).await.unwrap(), said.len());
}

#[tokio::test]
async fn a_drain_waits_for_connections_and_then_closes_them() {
    let drain = Drain::new();
    let (address, _) = start(None, 10, &drain).await;
    let mut client = TcpStream::connect(address).await.unwrap();
    client.read_exact(&mut [0; 13]).await.unwrap();
    assert_eq!(drain.finish(Duration::from_millis(20)).await, Drained::Closed(1));
    assert!(matches!(client.read(&mut [0; 1]).await, Ok(0) | Err(_)));
    TcpStream::connect(address).await.expect_err("nobody listens any more");

    let drain = Drain::new();
    let (address, _) = start(None, 10, &drain).await;
    let mut client = TcpStream::connect(address).await.unwrap();
    client.read_exact(&mut [0; 13]).await.unwrap();
    let finished = tokio::spawn({
        let drain = drain.clone();
        async move { drain.finish(Duration::from_secs(60)).await }
    });
    drain.begun().await;
    client.write_all(b"x").await.unwrap();
    assert_eq!(finished.await.unwrap(), Drained::Quietly);
}
