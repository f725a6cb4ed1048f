//! Which servers are believed, by whoever asks them over TLS.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::tls::{certificates, key};

/// Where distributions keep the authorities they trust.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// What a client connects with.
pub type ClientTls = ClientConfig;

/// Whom a client believes; nobody by default.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// Every server, whoever it is.
    pub everybody: bool,
    /// Those that the system's authorities have certified, or Mozilla's where it has none.
    pub system: bool,
    /// Those that these have certified, or that have one of these themselves.
    pub authorities: Vec<CertificateDer<'static>>,
}

impl Trust {
    /// What a client connects with; `identity` is its own certificate and key, in PEM files.
    ///
    /// # Errors
    /// Why a certificate or a key is no good.
    pub fn client_config(self, identity: Option<(&Path, &Path)>) -> Result<ClientTls, String> {
        let provider = Arc::new(ring::default_provider());
        let mut trusted = if self.system { system_roots() } else { Vec::new() };
        let is_bare = self.system && trusted.is_empty();
        trusted.extend(self.authorities);
        let strict = match self.everybody {
            true => None,
            false => Some(strict(&provider, &trusted, is_bare)?),
        };
        let verifier = Verifier { strict, trusted, provider: provider.clone() };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        match identity {
            None => Ok(builder.with_no_client_auth()),
            Some((certificate, key_file)) => builder
                .with_client_auth_cert(certificates(certificate)?, key(key_file)?)
                .map_err(|error| format!("use `{}`: {error}", certificate.display())),
        }
    }
}

/// Verifies by the `trusted` certificates, and by Mozilla's where the system is bare of its own.
fn strict(
    provider: &Arc<CryptoProvider>,
    trusted: &[CertificateDer<'static>],
    is_bare: bool,
) -> Result<Arc<WebPkiServerVerifier>, String> {
    let mut roots = RootCertStore::empty();
    if is_bare {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots.add_parsable_certificates(trusted.iter().cloned());
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|error| error.to_string())
}

fn system_roots() -> Vec<CertificateDer<'static>> {
    if let Some(path) = std::env::var_os("SSL_CERT_FILE") {
        return certificates(Path::new(&path)).unwrap_or_default();
    }
    SYSTEM_BUNDLES.iter().find_map(|path| certificates(Path::new(path)).ok()).unwrap_or_default()
}

/// Verifies servers as browsers do, and besides accepts a server whose very certificate the user
/// trusts: the self-signed ones of Docker's and Kubernetes' documentation are authorities themselves
/// (`CA:TRUE`), which webpki never takes for a server.
#[derive(Debug)]
struct Verifier {
    /// None accepts everybody.
    strict: Option<Arc<WebPkiServerVerifier>>,
    trusted: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        server: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(strict) = &self.strict else { return Ok(ServerCertVerified::assertion()) };
        let refused = match strict.verify_server_cert(server, intermediates, name, ocsp, now) {
            Err(refused) => refused,
            verified => return verified,
        };
        // Validity in time is what webpki looks at before this.
        let is_authority = format!("{refused:?}").contains("CaUsedAsEndEntity");
        if !(is_authority && self.trusted.iter().any(|trusted| trusted.as_ref() == server.as_ref()))
        {
            return Err(refused);
        }
        verify_server_name(&ParsedCertificate::try_from(server)?, name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        server: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, server, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        server: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, server, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
