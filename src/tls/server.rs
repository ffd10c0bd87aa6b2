//! The server's side: what its files say, who may connect, and reading them again when they change.
//!
//! Owns: the server's certificate, the check of clients' certificates and of their common names. Must not know: sockets, what is
//! served, what a name may do (`api::roles`). Start at [`Tls::open`].
//!
//! As in PD a client needs a certificate as soon as `security.cacert-path` is set. Other than in PD `security.cert-allowed-cn` holds
//! on the client port also when it lists a single name.

use std::{io, path::PathBuf, sync::Arc};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, ServerConfig, SignatureScheme,
        client::danger::HandshakeSignatureValid,
        crypto::ring::default_provider,
        pki_types::{CertificateDer, UnixTime},
        server::{
            WebPkiClientVerifier,
            danger::{ClientCertVerified, ClientCertVerifier},
        },
    },
};

use super::{TlsError, certificates, common_name, key, read, roots};
use crate::config::SecurityConfig;

/// What a client may choose: gRPC takes the first, REST either.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// What the files held when they were read.
#[derive(PartialEq, Eq)]
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    authorities: Option<Vec<u8>>,
}

/// The TLS of a server.
pub struct Tls {
    files: Files,
    names: Arc<[String]>,
    known: Mutex<Known>,
    current: ArcSwap<ServerConfig>,
}

/// The files of a server's TLS.
#[derive(Debug)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
    authorities: Option<PathBuf>,
}

/// What is known of the files.
struct Known {
    /// What is in force was made of this.
    read: Contents,
    /// What was told about what stands there since.
    failure: Option<String>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the files that the configuration names; `None` when it names none.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn open(security: &SecurityConfig) -> Result<Option<Self>, TlsError> {
        let names: Arc<[String]> = security.cert_allowed_cn.clone().unwrap_or_default().into();
        let set = |path: &str| (!path.is_empty()).then(|| PathBuf::from(path));
        let authorities = set(&security.cacert_path);
        if !names.is_empty() && authorities.is_none() {
            return Err(TlsError::NamesWithoutAuthorities);
        }
        let (certificate, key) = match (set(&security.cert_path), set(&security.key_path)) {
            (Some(certificate), Some(key)) => (certificate, key),
            (None, None) => return Ok(None),
            _ => return Err(TlsError::Half),
        };
        let files = Files { certificate, key, authorities };
        let read = files.read()?;
        let current = ArcSwap::new(files.server_config(&read, &names)?);
        Ok(Some(Self { files, names, known: Mutex::new(Known { read, failure: None }), current }))
    }

    /// What greets the next connection.
    pub fn acceptor(&self) -> TlsAcceptor {
        self.current.load_full().into()
    }

    /// Reads the files again; connections from now on see what is new. What cannot be used is told once, and what was in force
    /// stays.
    pub fn refresh(&self) -> Refresh {
        let mut known = self.known.lock();
        match self.load_if_changed(&known.read) {
            Ok(None) => {
                known.failure = None;
                Refresh::Same
            }
            Ok(Some(read)) => {
                *known = Known { read, failure: None };
                Refresh::Loaded
            }
            Err(error) => {
                let text = Some(error.to_string());
                if known.failure == text {
                    Refresh::Same
                } else {
                    known.failure = text;
                    Refresh::Failed(error)
                }
            }
        }
    }

    fn load_if_changed(&self, before: &Contents) -> Result<Option<Contents>, TlsError> {
        let read = self.files.read()?;
        if read == *before {
            return Ok(None);
        }
        self.current.store(self.files.server_config(&read, &self.names)?);
        Ok(Some(read))
    }
}

/// What [`Tls::refresh`] found.
#[derive(Debug)]
pub enum Refresh {
    /// Nothing new.
    Same,
    /// Other files, which are in force now.
    Loaded,
    /// Other files, which cannot be used.
    Failed(TlsError),
}

impl Files {
    fn read(&self) -> Result<Contents, TlsError> {
        Ok(Contents {
            certificate: read(&self.certificate)?,
            key: read(&self.key)?,
            authorities: self.authorities.as_deref().map(read).transpose()?,
        })
    }

    fn server_config(&self, read: &Contents, names: &Arc<[String]>) -> Result<Arc<ServerConfig>, TlsError> {
        let chain = certificates(&self.certificate, &read.certificate)?;
        let key = key(&self.key, &read.key)?;
        let provider = Arc::new(default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let builder = builder.map_err(TlsError::Pair)?;
        let builder = match (&self.authorities, &read.authorities) {
            (Some(file), Some(content)) => {
                let inner = WebPkiClientVerifier::builder_with_provider(roots(file, content)?.into(), provider).build();
                let inner = inner.map_err(TlsError::Authorities)?;
                builder.with_client_cert_verifier(Arc::new(NameVerifier { inner, names: names.clone() }))
            }
            _ => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(TlsError::Pair)?;
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        Ok(Arc::new(config))
    }
}

/// Why a greeting failed, for people.
pub fn refusal(error: &io::Error) -> String {
    let rustls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match rustls {
        Some(rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(why)))) => why.to_string(),
        _ => error.to_string(),
    }
}

/// The usual check of a client's certificate, then its common name.
#[derive(Debug)]
struct NameVerifier {
    inner: Arc<dyn ClientCertVerifier>,
    /// Empty: every name.
    names: Arc<[String]>,
}

/// A certificate that is good, of somebody who may not connect.
#[derive(Debug, thiserror::Error)]
#[error("common name {0:?} is not in security.cert-allowed-cn")]
struct NameRefused(String);

impl ClientCertVerifier for NameVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.inner.verify_client_cert(end_entity, intermediates, now)?;
        let name = common_name(end_entity).unwrap_or_default();
        if self.names.is_empty() || self.names.contains(&name) {
            return Ok(verified);
        }
        let refused = OtherError(Arc::new(NameRefused(name)));
        Err(rustls::Error::InvalidCertificate(CertificateError::Other(refused)))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
