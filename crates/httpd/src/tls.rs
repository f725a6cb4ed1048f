//! What connections are encrypted with, and whom that lets in.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;

/// Longest file of certificates or of a key.
const PEM_SIZE_MAX: u64 = 8 << 20;

/// How a server presents itself, and whom it believes.
pub type TlsConfig = rustls::ServerConfig;

/// Which clients are let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clients<'a> {
    /// All, and none is asked for a certificate.
    Anybody,
    /// All that have no certificate, and those that the authority in this file has certified, of whom
    /// it is known who they are.
    Known(&'a Path),
    /// Those alone that the authority in this file has certified.
    Certified(&'a Path),
}

/// How a server presents itself: with the certificate in one PEM file and the key in another, to
/// these clients. A certificate that takes its place there is presented from then on.
///
/// # Errors
/// The file that is no good, and why.
pub fn tls_config<'a>(
    certificate: &'a Path,
    key: &'a Path,
    clients: Clients<'a>,
) -> Result<Arc<TlsConfig>, (&'a Path, String)> {
    let chain = certificates(certificate).map_err(|why| (certificate, why))?;
    let key_bytes = self::key(key).map_err(|why| (key, why))?;
    let provider = Arc::new(ring::default_provider());
    let builder = TlsConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| (certificate, error.to_string()))?;
    let builder = match clients {
        Clients::Anybody => builder.with_no_client_auth(),
        Clients::Known(path) | Clients::Certified(path) => {
            let mut roots = RootCertStore::empty();
            for trusted in certificates(path).map_err(|why| (path, why))? {
                roots.add(trusted).map_err(|error| (path, error.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = match clients {
                Clients::Known(_) => verifier.allow_unauthenticated().build(),
                _ => verifier.build(),
            };
            builder.with_client_cert_verifier(verifier.map_err(|e| (path, e.to_string()))?)
        }
    };
    let own = CertifiedKey::from_der(chain, key_bytes, &ring::default_provider());
    let own = Arc::new(own.map_err(|error| (certificate, error.to_string()))?);
    let (certificate, key) = (certificate.to_owned(), key.to_owned());
    let held = Mutex::new((changed(&certificate), own));
    let mut config = builder.with_cert_resolver(Arc::new(Files { certificate, key, held }));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// A certificate and its key in files, which are read again when the certificate's has changed: it is
/// renewed while the server runs.
#[derive(Debug)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
    /// When the file was changed that was read last, and what it held.
    held: Mutex<(Option<SystemTime>, Arc<CertifiedKey>)>,
}

impl ResolvesServerCert for Files {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let now = changed(&self.certificate);
        if now != held.0
            && let (Ok(chain), Ok(key)) = (certificates(&self.certificate), key(&self.key))
            && let Ok(own) = CertifiedKey::from_der(chain, key, &ring::default_provider())
        {
            // Files that do not belong together are on their way to be others.
            *held = (now, Arc::new(own));
        }
        Some(held.1.clone())
    }
}

fn changed(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

/// The certificates in a PEM file, of which there must be one.
///
/// # Errors
/// Why the file is no good.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found = certificates_in(&read_pem(path)?);
    if found.is_empty() {
        return Err(format!("no certificate in `{}`", path.display()));
    }
    Ok(found)
}

/// The certificates in PEM.
#[must_use]
pub fn certificates_in(pem: &[u8]) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem).flatten().collect()
}

/// The private key in a PEM file.
///
/// # Errors
/// Why the file is no good.
pub fn key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(&read_pem(path)?)
        .map_err(|error| format!("read private key `{}`: {error}", path.display()))
}

fn read_pem(path: &Path) -> Result<Vec<u8>, String> {
    let bad = |error: std::io::Error| format!("read `{}`: {error}", path.display());
    if std::fs::metadata(path).map_err(bad)?.len() > PEM_SIZE_MAX {
        return Err(format!("read `{}`: too long", path.display()));
    }
    std::fs::read(path).map_err(bad)
}
