//! Files of certificates, good and bad. Whole connections are in `tests/tls.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::PathBuf;

use rcgen::{CertificateParams, DnType, KeyPair};
use tempfile::TempDir;

use super::*;
use crate::config::SecurityConfig;

struct Made {
    certificate: String,
    key: String,
}

fn self_signed(name: &str) -> Made {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    Made { certificate: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
}

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn put(&self, name: &str, content: &str) -> String {
        let path: PathBuf = self.0.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    fn security(&self, made: &Made) -> SecurityConfig {
        SecurityConfig {
            cert_path: self.put("cert.pem", &made.certificate),
            key_path: self.put("key.pem", &made.key),
            ..SecurityConfig::default()
        }
    }
}

#[test]
fn a_common_name_is_read() {
    let folder = Folder::new();
    let file = folder.put("cert.pem", &self_signed("tikv-1").certificate);
    let read = certificates(Path::new(&file), &read(Path::new(&file)).unwrap()).unwrap();
    assert_eq!(common_name(&read[0]).as_deref(), Some("tikv-1"));
    assert_eq!(common_name(&CertificateDer::from(vec![0x30, 0x01])), None);
}

#[test]
fn without_files_there_is_no_tls() {
    assert!(Tls::open(&SecurityConfig::default()).unwrap().is_none());
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let folder = Folder::new();
    let (one, other) = (self_signed("a"), self_signed("b"));
    let good = folder.security(&one);
    let refused = |security: SecurityConfig, why: &str| {
        let error = Tls::open(&security).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    };
    refused(SecurityConfig { key_path: String::new(), ..good.clone() }, "must be given together");
    refused(
        SecurityConfig { cert_path: "/nowhere/cert.pem".into(), ..good.clone() },
        "/nowhere/cert.pem: No such file",
    );
    refused(SecurityConfig { cert_path: folder.put("empty", ""), ..good.clone() }, "empty: no certificate in PEM form");
    refused(SecurityConfig { key_path: folder.put("no-key", "x"), ..good.clone() }, "no-key: no key in PEM form");
    refused(
        SecurityConfig { key_path: folder.put("other", &other.key), ..good.clone() },
        "the certificate and its key: ",
    );
    let long = "x".repeat(usize::try_from(MAX_FILE).unwrap() + 1);
    refused(SecurityConfig { cert_path: folder.put("long", &long), ..good.clone() }, "long: longer than 1048576 bytes");
    refused(SecurityConfig { cert_allowed_cn: Some(vec!["a".into()]), ..good }, "needs security.cacert-path");
}

#[test]
fn other_files_are_taken_over_and_bad_ones_told_once() {
    let folder = Folder::new();
    let tls = Tls::open(&folder.security(&self_signed("a"))).unwrap().unwrap();
    assert!(matches!(tls.refresh(), Refresh::Same));
    let next = self_signed("b");
    folder.put("cert.pem", &next.certificate);
    assert!(matches!(tls.refresh(), Refresh::Failed(TlsError::Pair(_))), "half of a change");
    assert!(matches!(tls.refresh(), Refresh::Same), "told once");
    folder.put("key.pem", &next.key);
    assert!(matches!(tls.refresh(), Refresh::Loaded));
    assert!(matches!(tls.refresh(), Refresh::Same));
}
