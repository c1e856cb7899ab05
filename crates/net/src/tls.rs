//! TLS by rustls. Certificates are read again when their files change or on SIGHUP; new connections use the new ones.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use x509_cert::der::Decode;
use x509_cert::der::asn1::ObjectIdentifier;

use crate::Drain;
use crate::limits::CERTIFICATE_POLL;

/// `commonName`, RFC 5280 appendix A.
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// Whether clients show a certificate. It is always verified if shown.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum ClientCertificates {
    /// They are not asked for one.
    #[default]
    Off,
    /// They may, signed by an authority in this PEM file.
    Optional(PathBuf),
    /// They must, signed by an authority in this PEM file.
    Required(PathBuf),
}

/// Where the certificates are, as PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's chain, its own certificate first.
    pub certificate: PathBuf,
    /// The key of the first certificate.
    pub key: PathBuf,
    /// Client certificates.
    pub clients: ClientCertificates,
}

/// Certificates that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read or is not PEM of the right kind.
    #[error("{what} {}: {why}", path.display())]
    File {
        /// `certificate`, `private key` or `client authorities`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The parts do not fit together.
    #[error("certificate {} and key {} cannot be used: {why}", certificate.display(), key.display())]
    Unusable {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// rustls's words.
        why: String,
    },
}

/// The certificates in force. Cheap to share by `Arc`.
#[derive(Debug)]
pub struct TlsStore {
    files: TlsFiles,
    alpn: Vec<Vec<u8>>,
    current: RwLock<Arc<ServerConfig>>,
    /// How the files were just before they were first read, so that no later change is missed.
    opened: Stamp,
}

/// What tells a changed file: modification time and size of each.
type Stamp = Vec<Option<(SystemTime, u64)>>;

impl TlsStore {
    /// Reads the certificates. `alpn` names the protocols offered, the preferred first.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn open(files: TlsFiles, alpn: &[&[u8]]) -> Result<Arc<Self>, TlsError> {
        let alpn: Vec<Vec<u8>> = alpn.iter().map(|name| name.to_vec()).collect();
        let opened = stamp(&files);
        let current = RwLock::new(Arc::new(load(&files, &alpn)?));
        Ok(Arc::new(Self { files, alpn, current, opened }))
    }

    /// What a new connection uses.
    #[must_use]
    pub fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the files again. If they cannot be used, what is in force stays.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn reload(&self) -> Result<(), TlsError> {
        let fresh = Arc::new(load(&self.files, &self.alpn)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// Reloads when a file changes or SIGHUP comes, until the drain begins. A reload that fails is logged once for each
    /// state of the files, and the certificates in force stay.
    pub async fn watch(self: Arc<Self>, drain: Drain) {
        let mut seen = self.opened.clone();
        let mut hangups = hangups();
        let mut timer = tokio::time::interval(CERTIFICATE_POLL);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let asked = tokio::select! {
                () = drain.begun() => return,
                _ = timer.tick() => false,
                () = hangup(&mut hangups) => true,
            };
            let store = Arc::clone(&self);
            let before = seen.clone();
            let looked = tokio::task::spawn_blocking(move || {
                let stamp = stamp(&store.files);
                let result = (asked || stamp != before).then(|| store.reload());
                (stamp, result)
            });
            let Ok((stamp, result)) = looked.await else { continue };
            seen = stamp;
            match result {
                None => {}
                Some(Ok(())) => {
                    tracing::info!(certificate = %self.files.certificate.display(), "certificates reloaded")
                }
                Some(Err(error)) => {
                    tracing::error!(%error, "new certificates cannot be used; those in force stay");
                }
            }
        }
    }
}

fn stamp(files: &TlsFiles) -> Stamp {
    let clients = match &files.clients {
        ClientCertificates::Off => None,
        ClientCertificates::Optional(path) | ClientCertificates::Required(path) => Some(path),
    };
    [Some(&files.certificate), Some(&files.key), clients]
        .into_iter()
        .flatten()
        .map(|path| std::fs::metadata(path).ok().and_then(|file| Some((file.modified().ok()?, file.len()))))
        .collect()
}

/// SIGHUP, where there is such a thing and it can be had.
fn hangups() -> Option<tokio::signal::unix::Signal> {
    match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()) {
        Ok(signal) => Some(signal),
        Err(error) => {
            tracing::warn!(%error, "SIGHUP cannot be listened for; changed certificates are still found by their time");
            None
        }
    }
}

async fn hangup(signal: &mut Option<tokio::signal::unix::Signal>) {
    match signal {
        Some(signal) => {
            if signal.recv().await.is_none() {
                std::future::pending::<()>().await;
            }
        }
        None => std::future::pending().await,
    }
}

fn load(files: &TlsFiles, alpn: &[Vec<u8>]) -> Result<ServerConfig, TlsError> {
    let chain = certificates("certificate", &files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| TlsError::File {
        what: "private key",
        path: files.key.clone(),
        why: error.to_string(),
    })?;
    let unusable =
        |why: String| TlsError::Unusable { certificate: files.certificate.clone(), key: files.key.clone(), why };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(error.to_string()))?;
    let (path, required) = match &files.clients {
        ClientCertificates::Off => (None, false),
        ClientCertificates::Optional(path) => (Some(path), false),
        ClientCertificates::Required(path) => (Some(path), true),
    };
    let builder = match path {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let wrong = |why: String| TlsError::File { what: "client authorities", path: path.clone(), why };
            let mut roots = RootCertStore::empty();
            for certificate in certificates("client authorities", path)? {
                roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = if required { verifier } else { verifier.allow_unauthenticated() };
            builder.with_client_cert_verifier(verifier.build().map_err(|error| wrong(error.to_string()))?)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| unusable(error.to_string()))?;
    config.alpn_protocols = alpn.to_vec();
    Ok(config)
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |why: String| TlsError::File { what, path: path.to_owned(), why };
    let found = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| wrong(error.to_string()))?;
    if found.is_empty() { Err(wrong("there is no certificate in it".to_owned())) } else { Ok(found) }
}

/// The common name of a certificate; `None` if it has none, has several, or cannot be read. Which of several is meant is a
/// question that different readers answer differently, so none is taken.
pub(crate) fn common_name(certificate: &CertificateDer<'_>) -> Option<Arc<str>> {
    let certificate = x509_cert::Certificate::from_der(certificate.as_ref()).ok()?;
    let subject = certificate.tbs_certificate().subject();
    if subject.iter().filter(|attribute| attribute.oid == COMMON_NAME).count() != 1 {
        return None;
    }
    let name = subject.common_name().ok()??;
    Some(Arc::from(name.value().as_ref()))
}
