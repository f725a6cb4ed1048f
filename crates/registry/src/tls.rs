//! TLS as Docker's users know it: their own authorities and client certificates, and
//! self-signed servers that were trusted by hand.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use httpd::certificates;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport,
    TransportAdapter,
};

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
        let mut trust =
            httpd::Trust { everybody: self.everybody, system: true, authorities: Vec::new() };
        for path in &self.authorities {
            trust.authorities.extend(certificates(path)?);
        }
        let key = self.identity.as_ref().map(|path| path.with_extension("key"));
        let identity = self.identity.as_deref().zip(key.as_deref());
        let config = trust.client_config(identity)?;
        Ok(Tls { config: Arc::new(config) })
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
