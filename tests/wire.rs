//! The compiled wire types against the facts in `../shared/wire`: nothing wrong, extra or missing.

// What tests may and the crate may not: panic, print, read the clock.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::disallowed_methods)]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use prost::Message as _;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorSet, field_descriptor_proto as field};

/// (kind, owner, name) to (number, type or request, label or response).
type Facts = BTreeMap<(String, String, String), (String, String, String)>;

fn shared() -> Option<PathBuf> {
    let dir = std::env::var_os("BERTH_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    if dir.join("wire").is_dir() {
        return Some(dir);
    }
    assert!(std::env::var_os("CI").is_none(), "in CI the folder ../shared must be there");
    println!("skipped: {} is not there", dir.join("wire").display());
    None
}

fn facts(table: &Path) -> Facts {
    let text = std::fs::read_to_string(table).expect("a readable table");
    text.lines()
        .skip(1)
        .filter_map(|line| {
            let c: Vec<&str> = line.split('\t').collect();
            (c[0] != "message").then(|| {
                let key = (c[0].to_owned(), c[1].to_owned(), c[3].to_owned());
                (key, (c[2].to_owned(), c[4].to_owned(), c[5].to_owned()))
            })
        })
        .collect()
}

fn type_name(f: &prost_types::FieldDescriptorProto) -> String {
    if f.type_name().is_empty() {
        return f.r#type().as_str_name()["TYPE_".len()..].to_lowercase();
    }
    f.type_name().trim_start_matches('.').to_owned()
}

fn message_facts(prefix: &str, message: &DescriptorProto, out: &mut Facts) {
    let full = format!("{prefix}.{}", message.name());
    let is_map = |m: &&DescriptorProto| m.options.as_ref().is_some_and(|o| o.map_entry());
    for f in &message.field {
        let entry =
            message.nested_type.iter().filter(is_map).find(|m| f.type_name() == format!(".{full}.{}", m.name()));
        let (kind, label) = match entry {
            Some(m) => (format!("map<{},{}>", type_name(&m.field[0]), type_name(&m.field[1])), "map"),
            None if f.proto3_optional() => (type_name(f), "optional"),
            None if f.label() == field::Label::Repeated => (type_name(f), "repeated"),
            None => (type_name(f), "one"),
        };
        let key = ("field".to_owned(), full.clone(), f.name().to_owned());
        out.insert(key, (f.number().to_string(), kind, label.to_owned()));
    }
    for nested in message.nested_type.iter().filter(|m| !is_map(m)) {
        message_facts(&full, nested, out);
    }
    for e in &message.enum_type {
        enum_facts(&full, e, out);
    }
}

fn enum_facts(prefix: &str, e: &EnumDescriptorProto, out: &mut Facts) {
    for v in &e.value {
        let key = ("value".to_owned(), format!("{prefix}.{}", e.name()), v.name().to_owned());
        out.insert(key, (v.number().to_string(), String::new(), String::new()));
    }
}

fn compiled() -> BTreeMap<String, Facts> {
    let set = FileDescriptorSet::decode(berth::proto::DESCRIPTOR_SET).expect("a descriptor set");
    let mut packages: BTreeMap<String, Facts> = BTreeMap::new();
    for file in &set.file {
        let out = packages.entry(file.package().to_owned()).or_default();
        file.enum_type.iter().for_each(|e| enum_facts(file.package(), e, out));
        file.message_type.iter().for_each(|m| message_facts(file.package(), m, out));
        for service in &file.service {
            for m in &service.method {
                let owner = format!("{}.{}", file.package(), service.name());
                let ends = (m.input_type().trim_start_matches('.'), m.output_type().trim_start_matches('.'));
                let key = ("method".to_owned(), owner, m.name().to_owned());
                out.insert(key, (String::new(), ends.0.to_owned(), ends.1.to_owned()));
            }
        }
    }
    packages
}

#[test]
fn every_package_is_on_the_wire_as_the_facts_say() {
    let Some(shared) = shared() else { return };
    let packages = compiled();
    let mut checked = 0;
    for package in ["apipb", "metapb", "eraftpb", "encryptionpb", "raft_serverpb", "replication_modepb", "pdpb"] {
        let want = facts(&shared.join(format!("wire/{package}.tsv")));
        let have = &packages[package];
        let wrong: Vec<_> =
            want.iter().filter(|(k, v)| have.get(*k).is_some_and(|h| h != *v)).map(|(k, v)| (k, v, &have[k])).collect();
        let names = |m: &Facts| m.keys().cloned().collect::<BTreeSet<_>>();
        let missing: Vec<_> = names(&want).difference(&names(have)).cloned().collect();
        let extra: Vec<_> = names(have).difference(&names(&want)).cloned().collect();
        assert!(
            wrong.is_empty() && missing.is_empty() && extra.is_empty(),
            "{package}: wrong {wrong:#?}, missing {missing:#?}, extra {extra:#?}"
        );
        checked += want.len();
    }
    assert!(checked > 700, "only {checked} facts were compared");
    println!("{checked} wire facts hold");
}
