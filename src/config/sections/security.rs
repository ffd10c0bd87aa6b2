//! `security`: TLS, redaction of the log, encryption at rest.
//!
//! Owns: the section and what PD checks of it at the start. Must not know: how certificates are read.

use serde_json::Value;

use crate::config::{
    codec::{Bad, Codec, GoDuration, Opaque, Place, Span, Text, TextList, TomlBad},
    section::{Nested, section},
};

section! {
    /// The key that data keys are encrypted with.
    pub struct MasterKeyConfig ("MasterKeyConfig") {
        /// `plaintext`, `kms` or `file`.
        kind: String as Text, "type" = "plaintext".to_owned();
        /// For `kms`.
        key_id: String as Text, "key-id" = String::new();
        /// For `kms`.
        region: String as Text, "region" = String::new();
        /// For `kms`.
        endpoint: String as Text, "endpoint" = String::new();
        /// For `file`.
        path: String as Text, "path" = String::new();
    }
}

section! {
    /// Encryption at rest.
    pub struct EncryptionConfig ("Config") {
        /// `plaintext`, `aes128-ctr`, `aes192-ctr` or `aes256-ctr`.
        data_encryption_method: String as Text, "data-encryption-method" = "plaintext".to_owned();
        /// How long a data key is used.
        data_key_rotation_period: GoDuration as Span, "data-key-rotation-period" = GoDuration::from_secs(168 * 3600), [KEEP];
        /// The master key.
        master_key: MasterKeyConfig as Nested, "master-key" = MasterKeyConfig::default();
    }
}

impl EncryptionConfig {
    /// What PD checks at the start. The texts are PD's.
    pub(in crate::config) fn validate(&self) -> Result<(), String> {
        if !matches!(self.data_encryption_method.as_str(), "plaintext" | "aes128-ctr" | "aes192-ctr" | "aes256-ctr") {
            return Err("[PD:encryption:ErrEncryptionInvalidMethod]unknown method".to_owned());
        }
        let invalid = "[PD:encryption:ErrEncryptionInvalidConfig]";
        if self.data_key_rotation_period.0 < 0 {
            return Err(format!("{invalid}negative data-key-rotation-period {}", self.data_key_rotation_period.0));
        }
        if !matches!(self.master_key.kind.as_str(), "plaintext" | "kms" | "file") {
            return Err(format!("{invalid}unrecognized encryption master key type: {}", self.master_key.kind));
        }
        Ok(())
    }
}

/// How user data is shown in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Redact {
    /// As it is.
    #[default]
    Off,
    /// As `?`.
    On,
    /// Between single guillemets.
    Marker,
}

/// `false`, `true` or `"MARKER"`.
enum RedactCodec {}

impl Codec<Redact> for RedactCodec {
    fn show(value: &Redact) -> Value {
        match value {
            Redact::Off => false.into(),
            Redact::On => true.into(),
            Redact::Marker => "MARKER".into(),
        }
    }

    fn read_json(slot: &mut Redact, value: &Value, _: Place<'_>) -> Result<(), Bad> {
        *slot = match value {
            Value::Bool(false) => Redact::Off,
            Value::Bool(true) => Redact::On,
            Value::String(text) if text.eq_ignore_ascii_case("marker") => Redact::Marker,
            _ => return Err(Bad::Text(REDACT_VALUES.to_owned())),
        };
        Ok(())
    }

    fn read_toml(slot: &mut Redact, value: &toml::Value, _: &str, _: &mut Vec<String>) -> Result<(), TomlBad> {
        *slot = match value {
            toml::Value::Boolean(false) => Redact::Off,
            toml::Value::Boolean(true) => Redact::On,
            toml::Value::String(text) if text.eq_ignore_ascii_case("marker") => Redact::Marker,
            _ => return Err(REDACT_VALUES.to_owned().into()),
        };
        Ok(())
    }

    fn is_zero(value: &Redact) -> bool {
        *value == Redact::Off
    }
}

/// PD's refusal of another value.
const REDACT_VALUES: &str = "the \"redact-info-log\" value is invalid; it should be either false, true, or \"MARKER\"";

section! {
    /// TLS, redaction and encryption.
    pub struct SecurityConfig ("SecurityConfig") {
        /// PEM file of the authorities that clients' certificates must come from.
        cacert_path: String as Text, "cacert-path" = String::new();
        /// PEM file of the server's certificate.
        cert_path: String as Text, "cert-path" = String::new();
        /// PEM file of its key.
        key_path: String as Text, "key-path" = String::new();
        /// Common names that may connect.
        cert_allowed_cn: Option<Vec<String>> as TextList, "cert-allowed-cn" = None;
        /// Shown by PD, always null.
        ssl_ca_bytes: Value as Opaque, "SSLCABytes" = Value::Null, [SHOWN];
        /// Shown by PD, always null.
        ssl_cert_bytes: Value as Opaque, "SSLCertBytes" = Value::Null, [SHOWN];
        /// Shown by PD, always null.
        ssl_key_bytes: Value as Opaque, "SSLKEYBytes" = Value::Null, [SHOWN];
        /// How user data is shown in the log.
        redact_info_log: Redact as RedactCodec, "redact-info-log" = Redact::Off;
        /// Encryption at rest.
        encryption: EncryptionConfig as Nested, "encryption" = EncryptionConfig::default();
    }
}
