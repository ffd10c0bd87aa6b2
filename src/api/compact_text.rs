//! Protobuf messages as PD's texts show them: compact text form, `id:6 address:"tikv-6:20160" version:"v8.5.7" `.
//!
//! Fields follow each other in the order of their declaration, each with a blank after it; zero values are left out, enums print
//! as names, bytes as quoted text with octal escapes. The shapes come from the compiled descriptor set, so that a field that is
//! added to `proto/` prints without more code. Owns: the form. Must not know: which message is meant to be shown where.

use std::{collections::HashMap, fmt::Write as _, sync::LazyLock};

use prost::{
    Message as _,
    bytes::Buf,
    encoding::{WireType, decode_key, decode_varint},
};

use crate::{
    config::Redact,
    proto::DESCRIPTOR_SET,
    telemetry::{audit::cut, log::redacted},
};

/// Deepest nesting that is printed; nodes send at most six levels, and decoding has its own bound above this.
const MAX_DEPTH: usize = 32;

/// The parts of `google.protobuf.FileDescriptorSet` that printing needs.
mod descriptor {
    #[derive(prost::Message)]
    pub(super) struct Set {
        #[prost(message, repeated, tag = "1")]
        pub(super) file: Vec<File>,
    }
    #[derive(prost::Message)]
    pub(super) struct File {
        #[prost(string, tag = "2")]
        pub(super) package: String,
        #[prost(message, repeated, tag = "4")]
        pub(super) messages: Vec<Type>,
        #[prost(message, repeated, tag = "5")]
        pub(super) enums: Vec<Enum>,
        #[prost(message, repeated, tag = "6")]
        pub(super) services: Vec<Service>,
    }
    #[derive(prost::Message)]
    pub(super) struct Type {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(message, repeated, tag = "2")]
        pub(super) fields: Vec<Field>,
        #[prost(message, repeated, tag = "3")]
        pub(super) nested: Vec<Type>,
        #[prost(message, repeated, tag = "4")]
        pub(super) enums: Vec<Enum>,
    }
    #[derive(prost::Message)]
    pub(super) struct Field {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(uint32, tag = "3")]
        pub(super) number: u32,
        #[prost(int32, tag = "5")]
        pub(super) kind: i32,
        #[prost(string, tag = "6")]
        pub(super) type_name: String,
    }
    #[derive(prost::Message)]
    pub(super) struct Enum {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(message, repeated, tag = "2")]
        pub(super) values: Vec<EnumValue>,
    }
    #[derive(prost::Message)]
    pub(super) struct EnumValue {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(int32, tag = "2")]
        pub(super) number: i32,
    }
    #[derive(prost::Message)]
    pub(super) struct Service {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(message, repeated, tag = "2")]
        pub(super) methods: Vec<Method>,
    }
    #[derive(prost::Message)]
    pub(super) struct Method {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(bool, tag = "5")]
        pub(super) client_streaming: bool,
        #[prost(bool, tag = "6")]
        pub(super) server_streaming: bool,
    }
}

/// How a field's value prints.
#[derive(Clone, Debug)]
enum Kind {
    Unsigned,
    Signed,
    ZigZag,
    Bool,
    Float,
    Double,
    Fixed32,
    Fixed64,
    Text,
    Bytes,
    Enum(String),
    Message(String),
}

#[derive(Debug)]
struct Field {
    name: String,
    number: u32,
    kind: Kind,
}

/// The types of `proto/` by full name.
#[derive(Debug, Default)]
struct Shapes {
    messages: HashMap<String, Vec<Field>>,
    enums: HashMap<String, HashMap<i32, String>>,
    /// By service: the names of its methods, each with its type as gRPC metrics call it.
    methods: HashMap<String, HashMap<String, &'static str>>,
}

static SHAPES: LazyLock<Shapes> = LazyLock::new(|| {
    let mut shapes = Shapes::default();
    // The set is compiled in; if it could not be read nothing would print, and the tests below would fail.
    for file in descriptor::Set::decode(DESCRIPTOR_SET).unwrap_or_default().file {
        for service in &file.services {
            let methods = service.methods.iter().map(|m| (m.name.clone(), type_of(m))).collect();
            shapes.methods.insert(format!("{}.{}", file.package, service.name), methods);
        }
        shapes.add_enums(&file.package, &file.enums);
        shapes.add_messages(&file.package, &file.messages);
    }
    shapes
});

impl Shapes {
    fn add_enums(&mut self, scope: &str, enums: &[descriptor::Enum]) {
        for e in enums {
            let values = e.values.iter().map(|v| (v.number, v.name.clone())).collect();
            self.enums.insert(format!("{scope}.{}", e.name), values);
        }
    }

    fn add_messages(&mut self, scope: &str, messages: &[descriptor::Type]) {
        for m in messages {
            let name = format!("{scope}.{}", m.name);
            self.add_enums(&name, &m.enums);
            self.add_messages(&name, &m.nested);
            let fields = m.fields.iter().filter_map(|f| {
                let target = f.type_name.trim_start_matches('.').to_owned();
                // Numbers of google.protobuf.FieldDescriptorProto.Type.
                let kind = match f.kind {
                    1 => Kind::Double,
                    2 => Kind::Float,
                    3 | 5 => Kind::Signed,
                    4 | 13 => Kind::Unsigned,
                    6 | 16 => Kind::Fixed64,
                    7 | 15 => Kind::Fixed32,
                    8 => Kind::Bool,
                    9 => Kind::Text,
                    12 => Kind::Bytes,
                    11 => Kind::Message(target),
                    14 => Kind::Enum(target),
                    17 | 18 => Kind::ZigZag,
                    _ => return None,
                };
                Some(Field { name: f.name.clone(), number: f.number, kind })
            });
            let fields = fields.collect();
            self.messages.insert(name, fields);
        }
    }
}

/// Whether `service` (full name) is declared in `proto/`, and if so whether it has `method`.
pub(crate) fn has_method(service: &str, method: &str) -> Option<bool> {
    SHAPES.methods.get(service).map(|methods| methods.contains_key(method))
}

/// The type of a declared method: `unary`, `client_stream`, `server_stream` or `bidi_stream`.
pub(crate) fn method_type(service: &str, method: &str) -> Option<&'static str> {
    SHAPES.methods.get(service)?.get(method).copied()
}

fn type_of(method: &descriptor::Method) -> &'static str {
    match (method.client_streaming, method.server_streaming) {
        (false, false) => "unary",
        (true, false) => "client_stream",
        (false, true) => "server_stream",
        (true, true) => "bidi_stream",
    }
}

/// The text of `message`, whose full protobuf name is `name`.
pub fn compact(name: &str, message: &impl prost::Message) -> String {
    let mut printer = Printer { out: String::new(), redact: Redact::Off, most: usize::MAX };
    printer.message(name, &message.encode_to_vec(), MAX_DEPTH);
    printer.out
}

/// The text of a request as the log may show it: keys and payloads of users as `redact` says, at most `most` bytes of text, and then
/// how long the message is.
pub fn shown(name: &str, message: &impl prost::Message, redact: Redact, most: usize) -> String {
    let encoded = message.encode_to_vec();
    let mut printer = Printer { out: String::new(), redact, most };
    printer.message(name, &encoded, MAX_DEPTH);
    cut(&printer.out, most, encoded.len()).into_owned()
}

/// The text of a message that may be missing: `<nil>`, as Go prints a nil pointer.
pub fn compact_opt(name: &str, message: Option<&impl prost::Message>) -> String {
    message.map_or_else(|| "<nil>".to_owned(), |m| compact(name, m))
}

/// One value as it lies on the wire.
enum Raw<'a> {
    Varint(u64),
    Fixed32(u32),
    Fixed64(u64),
    Bytes(&'a [u8]),
}

/// Splits encoded bytes into (field number, value); stops at what is damaged, which cannot come from our own encoder.
fn split(mut bytes: &[u8]) -> Vec<(u32, Raw<'_>)> {
    let mut values = vec![];
    while bytes.has_remaining() {
        let Ok((number, wire)) = decode_key(&mut bytes) else { break };
        let raw = match wire {
            WireType::Varint => decode_varint(&mut bytes).ok().map(Raw::Varint),
            WireType::ThirtyTwoBit if bytes.len() >= 4 => Some(Raw::Fixed32(bytes.get_u32_le())),
            WireType::SixtyFourBit if bytes.len() >= 8 => Some(Raw::Fixed64(bytes.get_u64_le())),
            WireType::LengthDelimited => decode_varint(&mut bytes).ok().and_then(|len| {
                let (value, rest) = bytes.split_at_checked(usize::try_from(len).ok()?)?;
                bytes = rest;
                Some(Raw::Bytes(value))
            }),
            _ => None,
        };
        let Some(raw) = raw else { break };
        values.push((number, raw));
    }
    values
}

/// Writes the text of one message. It stops soon after `most` bytes.
struct Printer {
    out: String,
    redact: Redact,
    most: usize,
}

impl Printer {
    fn message(&mut self, name: &str, bytes: &[u8], depth: usize) {
        let Some(fields) = SHAPES.messages.get(name) else { return };
        let values = split(bytes);
        for field in fields {
            for (_, raw) in values.iter().filter(|(number, _)| *number == field.number) {
                if self.out.len() > self.most {
                    return;
                }
                self.value(field, raw, depth);
            }
        }
    }

    fn value(&mut self, field: &Field, raw: &Raw<'_>, depth: usize) {
        let packed = !matches!(field.kind, Kind::Text | Kind::Bytes | Kind::Message(_));
        if let (Raw::Bytes(bytes), true) = (raw, packed) {
            return self.packed(field, bytes, depth);
        }
        let (name, out) = (&field.name, &mut self.out);
        // Writing into a String cannot fail.
        _ = match (&field.kind, raw) {
            (Kind::Unsigned, Raw::Varint(v)) => write!(out, "{name}:{v} "),
            (Kind::Signed, Raw::Varint(v)) => write!(out, "{name}:{} ", v.cast_signed()),
            (Kind::ZigZag, Raw::Varint(v)) => {
                write!(out, "{name}:{} ", (v >> 1).cast_signed() ^ -(v & 1).cast_signed())
            }
            (Kind::Bool, Raw::Varint(v)) => write!(out, "{name}:{} ", *v != 0),
            (Kind::Enum(target), Raw::Varint(v)) => {
                let number = i32::try_from(v.cast_signed()).unwrap_or(i32::MIN);
                match SHAPES.enums.get(target).and_then(|values| values.get(&number)) {
                    Some(text) => write!(out, "{name}:{text} "),
                    None => write!(out, "{name}:{number} "),
                }
            }
            (Kind::Float, Raw::Fixed32(v)) => write!(out, "{name}:{} ", f32::from_bits(*v)),
            (Kind::Double, Raw::Fixed64(v)) => write!(out, "{name}:{} ", f64::from_bits(*v)),
            (Kind::Fixed32, Raw::Fixed32(v)) => write!(out, "{name}:{v} "),
            (Kind::Fixed64, Raw::Fixed64(v)) => write!(out, "{name}:{v} "),
            (Kind::Bytes, Raw::Bytes(v)) if is_users(name) && self.redact != Redact::Off => {
                let mut text = String::new();
                quote(v, self.most, &mut text);
                write!(out, "{name}:{} ", redacted(&text, self.redact))
            }
            (Kind::Text | Kind::Bytes, Raw::Bytes(v)) => {
                _ = write!(out, "{name}:");
                quote(v, self.most, out);
                out.push(' ');
                Ok(())
            }
            (Kind::Message(target), Raw::Bytes(v)) if depth > 0 => {
                _ = write!(out, "{name}:<");
                self.message(target, v, depth - 1);
                self.out.push_str("> ");
                Ok(())
            }
            _ => Ok(()),
        };
    }

    /// The values of a repeated number that lie in one run of bytes.
    fn packed(&mut self, field: &Field, mut packed: &[u8], depth: usize) {
        while packed.has_remaining() && self.out.len() <= self.most {
            let raw = match field.kind {
                Kind::Float | Kind::Fixed32 if packed.len() >= 4 => Raw::Fixed32(packed.get_u32_le()),
                Kind::Double | Kind::Fixed64 if packed.len() >= 8 => Raw::Fixed64(packed.get_u64_le()),
                Kind::Float | Kind::Fixed32 | Kind::Double | Kind::Fixed64 => return,
                _ => match decode_varint(&mut packed) {
                    Ok(v) => Raw::Varint(v),
                    Err(_) => return,
                },
            };
            self.value(field, &raw, depth);
        }
    }
}

/// Whether bytes under this name are a user's: keys and payloads are, names of services are not.
fn is_users(field: &str) -> bool {
    !field.ends_with("_id")
}

/// Text and bytes print alike: in quotes, what is not printable ASCII in octal. It stops soon after `most` bytes.
fn quote(value: &[u8], most: usize, out: &mut String) {
    out.push('"');
    for byte in value {
        if out.len() > most {
            break;
        }
        match byte {
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b' '..=b'~' => out.push(char::from(*byte)),
            _ => _ = write!(out, "\\{byte:03o}"),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{metapb, pdpb};

    #[test]
    fn prints_what_the_recorded_log_prints() {
        let store = metapb::Store {
            id: 2,
            address: "mock:://tikv-2:2".into(),
            state: metapb::StoreState::Tombstone.into(),
            version: "v8.5.7".into(),
            last_heartbeat: 1_795_353_206_065_982_765,
            node_state: metapb::NodeState::Removed.into(),
            ..Default::default()
        };
        assert_eq!(
            compact("metapb.Store", &store),
            "id:2 address:\"mock:://tikv-2:2\" state:Tombstone version:\"v8.5.7\" \
             last_heartbeat:1795353206065982765 node_state:Removed "
        );
    }

    #[test]
    fn prints_nested_repeated_packed_and_bytes() {
        let request = pdpb::QueryRegionRequest {
            header: Some(pdpb::RequestHeader { cluster_id: 7, ..Default::default() }),
            ids: vec![1, 300],
            keys: vec![vec![b'a', 0, 255, b'"'].into()],
            ..Default::default()
        };
        assert_eq!(
            compact("pdpb.QueryRegionRequest", &request),
            r#"header:<cluster_id:7 > ids:1 ids:300 keys:"a\000\377\"" "#
        );
        let empty = pdpb::BootstrapResponse { replication_status: Some(Default::default()), ..Default::default() };
        assert_eq!(compact("pdpb.BootstrapResponse", &empty), "replication_status:<> ");
        assert_eq!(compact_opt("metapb.RegionEpoch", None::<&metapb::RegionEpoch>), "<nil>");
    }

    #[test]
    fn users_data_is_redacted_and_names_are_not() {
        let request = pdpb::UpdateServiceGcSafePointRequest { service_id: b"br".to_vec().into(), ..Default::default() };
        let name = "pdpb.UpdateServiceGCSafePointRequest";
        assert_eq!(shown(name, &request, Redact::On, 100), r#"service_id:"br" "#);
        let keys = vec![b"a\xff".to_vec().into(), b"b".to_vec().into()];
        let request = pdpb::SplitRegionsRequest { split_keys: keys, retry_limit: 3, ..Default::default() };
        let of = |redact| shown("pdpb.SplitRegionsRequest", &request, redact, 100);
        assert_eq!(of(Redact::Off), r#"split_keys:"a\377" split_keys:"b" retry_limit:3 "#);
        assert_eq!(of(Redact::On), "split_keys:? split_keys:? retry_limit:3 ");
        assert_eq!(
            of(Redact::Marker),
            "split_keys:\u{2039}\"a\\377\"\u{203a} split_keys:\u{2039}\"b\"\u{203a} retry_limit:3 "
        );
    }

    #[test]
    fn what_is_shown_of_a_request_is_bounded() {
        let many = pdpb::ScatterRegionRequest { regions_id: vec![7; 1_000_000], ..Default::default() };
        let long = pdpb::SplitRegionsRequest { split_keys: vec![vec![7; 1_000_000].into()], ..Default::default() };
        for redact in [Redact::Off, Redact::Marker] {
            let many = shown("pdpb.ScatterRegionRequest", &many, redact, 100);
            let long = shown("pdpb.SplitRegionsRequest", &long, redact, 100);
            assert!(many.starts_with("regions_id:7 ") && many.ends_with("...(1000004 bytes)"), "{many}");
            assert!(long.starts_with("split_keys:") && long.ends_with("...(1000004 bytes)"), "{long}");
            assert!(many.len() < 130 && long.len() < 130, "{many} {long}");
        }
    }

    #[test]
    fn knows_the_methods_of_each_service() {
        assert_eq!(has_method("pdpb.PD", "GetMembers"), Some(true));
        assert_eq!(has_method("pdpb.PD", "NoSuchMethod"), Some(false));
        assert_eq!(has_method("no.Such", "Method"), None);
        let types = ["GetMembers", "Tso", "ReportBuckets", "WatchGlobalConfig"].map(|m| method_type("pdpb.PD", m));
        assert_eq!(types, ["unary", "bidi_stream", "client_stream", "server_stream"].map(Some));
    }
}
