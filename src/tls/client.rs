//! The client's side, for `berth ctl`.
//!
//! Owns: whom a client trusts and what it shows. Must not know: what is asked.

use std::{io, path::Path, sync::Arc};

use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{ClientConfig, crypto::ring::default_provider, pki_types::ServerName},
};

use super::{TlsError, certificates, key, read, roots};

/// The TLS of a client.
#[derive(Clone)]
pub struct ClientTls(TlsConnector);

impl std::fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientTls").finish_non_exhaustive()
    }
}

impl ClientTls {
    /// Trusts the authorities in `cacert`, and shows the certificate of `pair` (certificate and key) if one is given.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn open(cacert: &Path, pair: Option<(&Path, &Path)>) -> Result<Self, TlsError> {
        let roots = roots(cacert, &read(cacert)?)?;
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
        let builder =
            builder.with_safe_default_protocol_versions().map_err(TlsError::Pair)?.with_root_certificates(roots);
        let config = match pair {
            Some((cert, private)) => {
                let chain = certificates(cert, &read(cert)?)?;
                builder.with_client_auth_cert(chain, key(private, &read(private)?)?).map_err(TlsError::Pair)?
            }
            None => builder.with_no_client_auth(),
        };
        Ok(Self(Arc::new(config).into()))
    }

    /// Greets the server that should be `host` (a name or an address, without a port).
    ///
    /// # Errors
    /// It is another one, it is not trusted, or it does not want this client.
    pub async fn connect(&self, host: &str, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
        self.0.connect(name, stream).await
    }
}
