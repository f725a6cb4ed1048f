//! TLS as Docker's users know it: their own authorities and client certificates, and
//! self-signed servers that were trusted by hand.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use httpd::{certificates, key};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
    StreamOwned,
};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport,
    TransportAdapter,
};

/// Where distributions keep the authorities they trust.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Whom to trust, and who we are.
#[derive(Debug, Default)]
pub(crate) struct Trust {
    /// Accept every certificate.
    pub(crate) everybody: bool,
    /// PEM files of certificates that are trusted besides the system's authorities.
    pub(crate) authorities: Vec<PathBuf>,
    /// Our certificate, with its key beside it: `NAME.cert` and `NAME.key`.
    pub(crate) identity: Option<PathBuf>,
}

impl Trust {
    /// Reads the certificates; some milliseconds for the system's.
    pub(crate) fn connector(&self) -> Result<Tls, String> {
        let provider = Arc::new(ring::default_provider());
        let mut trusted = system_roots();
        let is_bare = trusted.is_empty();
        for path in &self.authorities {
            trusted.extend(certificates(path)?);
        }
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
        let config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(path) => builder
                .with_client_auth_cert(certificates(path)?, key(&path.with_extension("key"))?)
                .map_err(|error| format!("use `{}`: {error}", path.display()))?,
        };
        Ok(Tls { config: Arc::new(config) })
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
/// trusts: the self-signed ones of Docker's documentation are authorities themselves
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

/// Puts TLS onto the connections of ureq.
#[derive(Debug)]
pub(crate) struct Tls {
    config: Arc<ClientConfig>,
}

impl<In: Transport> Connector<In> for Tls {
    type Out = Either<In, Secured>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let Some(below) = chained else { return Ok(None) };
        // What lies below may be secured already, but only as far as a proxy.
        if !details.needs_tls() {
            return Ok(Some(Either::A(below)));
        }
        let host = details.uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| ureq::Error::Tls("its name cannot be in a certificate"))?;
        let mut connection = ClientConnection::new(self.config.clone(), name)?;
        let mut socket = TransportAdapter::new(below.boxed(), details.current_time.clone());
        socket.set_timeout(details.timeout);
        connection.complete_io(&mut socket)?;
        let config = details.config;
        Ok(Some(Either::B(Secured {
            buffers: LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size()),
            stream: StreamOwned::new(connection, socket),
        })))
    }
}

/// A connection over TLS.
pub(crate) struct Secured {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl std::fmt::Debug for Secured {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Secured")
    }
}

impl Transport for Secured {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream.get_mut().set_timeout(timeout);
        let output = &self.buffers.output()[..amount];
        Ok(self.stream.write_all(output)?)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.get_mut().set_timeout(timeout);
        let room = self.buffers.input_append_buf();
        let amount = self.stream.read(room)?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.get_mut().get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}
