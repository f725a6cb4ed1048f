//! Whom a client believes, and what it presents itself with.

use std::fmt;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use sha2::{Digest as _, Sha256};

/// The SHA-256 of an authority's certificate, as it is encoded.
pub type Digest = [u8; 32];

/// How servers are believed, and who the client is to them.
#[derive(Clone)]
pub struct Tls(pub(crate) Arc<ClientConfig>);

/// Nobody learns keys by looking at it.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

/// Why certificates or a key are no good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TlsError(String);

impl TlsError {
    fn of(error: impl fmt::Display) -> Self {
        Self(error.to_string())
    }
}

impl Tls {
    /// Believes servers that an authority has certified, which is given in PEM; presents a certificate
    /// and its key, in PEM, if there are any.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn new(authority: &str, own: Option<(&str, &str)>) -> Result<Self, TlsError> {
        let roots = roots(certificates(authority)?)?;
        let builder = builder()?.with_root_certificates(roots);
        Ok(Self::of(match own {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(TlsError::of)?;
                builder.with_client_auth_cert(certificates(chain)?, key).map_err(TlsError::of)?
            }
        }))
    }

    /// Believes servers whose authority, which they are to show, has a certificate of this digest.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn pinned(digest: Digest) -> Result<Self, TlsError> {
        let verifier = Pinned { digest, provider: Arc::new(ring::default_provider()) };
        let builder = builder()?.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
        Ok(Self::of(builder.with_no_client_auth()))
    }

    fn of(mut config: ClientConfig) -> Self {
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self(Arc::new(config))
    }
}

fn builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, TlsError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    builder.with_safe_default_protocol_versions().map_err(TlsError::of)
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes()).flatten().collect();
    if found.is_empty() {
        return Err(TlsError::of("there is no certificate"));
    }
    Ok(found)
}

fn roots(all: Vec<CertificateDer<'static>>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for one in all {
        roots.add(one).map_err(TlsError::of)?;
    }
    Ok(roots)
}

/// The digest of an authority's certificate, the first in PEM.
///
/// # Errors
/// [`TlsError`].
pub fn digest_of(authority: &str) -> Result<Digest, TlsError> {
    let all = certificates(authority)?;
    Ok(all.first().map(|one| digest(one)).unwrap_or_default())
}

pub(crate) fn digest(certificate: &[u8]) -> Digest {
    Sha256::digest(certificate).into()
}

/// Believes one authority of which only the digest is known.
#[derive(Debug)]
struct Pinned {
    digest: Digest,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let authority = intermediates.iter().find(|one| digest(one) == self.digest);
        let authority = authority.ok_or(CertificateError::UnknownIssuer)?;
        let roots = roots(vec![authority.clone().into_owned()]);
        let roots = Arc::new(roots.map_err(|error| Error::General(error.0))?);
        let verifier =
            WebPkiServerVerifier::builder_with_provider(roots, self.provider.clone()).build();
        let verifier = verifier.map_err(|error| Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, &[], server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
