//! Certificates: of the server's port and of Berth's own clients.
//!
//! Owns: PEM files, who trusts whom, common names. Must not know: what is said over a connection. Start at [`Tls`] for a server and
//! at [`ClientTls`] for a client.

mod client;
mod dial;
mod server;
#[cfg(test)]
mod tests;

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

pub use client::ClientTls;
pub use dial::{DIAL_TIMEOUT, Duplex, dial};
pub use server::{Refresh, Tls, refusal};
use tokio_rustls::rustls::{
    self, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject as _},
    server::VerifierBuilderError,
};
use x509_cert::{Certificate, der::Decode as _};

/// Longest file that is read: a list of all public authorities is a quarter of that.
const MAX_FILE: u64 = 1 << 20;

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{}: {why}", .file.display())]
    Read {
        /// Which one.
        file: PathBuf,
        /// What the system said.
        why: io::Error,
    },
    /// A file is not what it should be.
    #[error("{}: {why}", .file.display())]
    Content {
        /// Which one.
        file: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The certificate and the key do not belong together, or are of a kind that cannot be used.
    #[error("the certificate and its key: {0}")]
    Pair(rustls::Error),
    /// The authorities cannot be used.
    #[error("the authorities: {0}")]
    Authorities(VerifierBuilderError),
    /// One file is set, the other is not.
    #[error("a certificate and its key must be given together")]
    Half,
    /// Names are listed, but nothing makes clients show one.
    #[error("security.cert-allowed-cn needs security.cacert-path: without it no client shows a certificate")]
    NamesWithoutAuthorities,
}

fn content_error(file: &Path, why: impl Into<String>) -> TlsError {
    TlsError::Content { file: file.into(), why: why.into() }
}

/// A file of bounded length.
fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    let mut content = vec![];
    let length = fs::File::open(file).and_then(|f| f.take(MAX_FILE + 1).read_to_end(&mut content));
    match length {
        Ok(length) if length as u64 > MAX_FILE => Err(content_error(file, format!("longer than {MAX_FILE} bytes"))),
        Ok(_) => Ok(content),
        Err(why) => Err(TlsError::Read { file: file.into(), why }),
    }
}

fn certificates(file: &Path, content: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(content).collect();
    let all = all.map_err(|e| content_error(file, e.to_string()))?;
    if all.is_empty() { Err(content_error(file, "no certificate in PEM form")) } else { Ok(all) }
}

fn key(file: &Path, content: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(content).map_err(|e| content_error(file, format!("no key in PEM form: {e}")))
}

/// The authorities in a PEM file.
fn roots(file: &Path, content: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for root in certificates(file, content)? {
        roots.add(root).map_err(|e| content_error(file, e.to_string()))?;
    }
    Ok(roots)
}

/// The common name that a certificate gives its owner.
pub fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let read = Certificate::from_der(certificate).ok()?;
    let name = read.tbs_certificate().subject().common_name().ok()??;
    Some(name.value().into_owned())
}
