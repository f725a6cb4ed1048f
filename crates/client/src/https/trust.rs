//! Whom a server must be, and who asks it.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// Where distributions keep the authorities they trust.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Who has to have signed a server's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authority {
    /// One of these, in PEM.
    Pem(Vec<u8>),
    /// One that this system trusts.
    System,
    /// Nobody: every certificate will do.
    Anybody,
}

/// Who asks a server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// A certificate and its key, in PEM.
    pub certificate: Option<(Vec<u8>, Vec<u8>)>,
    /// The header field: `Bearer …`.
    pub authorization: Option<String>,
}

/// What connections are encrypted with.
pub(super) fn config(
    ca: &Authority,
    certificate: Option<&(Vec<u8>, Vec<u8>)>,
) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match ca {
        Authority::Pem(pem) => builder.with_root_certificates(roots(certificates(pem)?)),
        Authority::System => builder.with_root_certificates(roots(system()?)),
        Authority::Anybody => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        }
    };
    let config = match certificate {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let key = PrivateKeyDer::from_pem_slice(key)
                .map_err(|error| format!("read the client's key: {error}"))?;
            builder
                .with_client_auth_cert(certificates(chain)?, key)
                .map_err(|error| format!("use the client's certificate: {error}"))?
        }
    };
    Ok(Arc::new(config))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem).flatten().collect();
    if found.is_empty() {
        return Err("there is no certificate in what is to be one".to_owned());
    }
    Ok(found)
}

fn roots(trusted: Vec<CertificateDer<'static>>) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(trusted);
    roots
}

fn system() -> Result<Vec<CertificateDer<'static>>, String> {
    let own = std::env::var("SSL_CERT_FILE").ok();
    let mut paths = own.iter().map(String::as_str).chain(SYSTEM_BUNDLES);
    let found = paths.find_map(|path| certificates(&std::fs::read(path).ok()?).ok());
    found.ok_or_else(|| "this system has no bundle of authorities".to_owned())
}

/// Takes every certificate for the server's, if only the server has its key.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _server: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        server: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, server, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        server: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, server, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
