//! What connections are encrypted with, and whom that lets in.

use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;

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
/// these clients.
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
    let config = builder.with_single_cert(chain, key_bytes);
    let mut config = config.map_err(|error| (certificate, error.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
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
