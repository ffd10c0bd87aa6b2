//! Sections of the configuration: one macro makes the structure, its defaults, its JSON and its readers from one table, so that
//! a key stands in exactly one place.
//!
//! Owns: [`Section`] and the `section!` macro. Must not know: any key.

use serde_json::{Map, Value};

use super::codec::{Bad, Codec, Place, TomlBad, json_kind, toml_mismatch};

/// Properties of a field.
pub mod flag {
    /// Not shown while it is zero (Go's `omitempty`).
    pub const OMIT: u8 = 1;
    /// The default counts only when the key is absent: a zero in the file stays.
    pub const KEEP: u8 = 2;
    /// Berth's own: read from the file, never shown and never found by a look-up.
    pub const HIDDEN: u8 = 4;
    /// Shown, but the file does not have it.
    pub const SHOWN: u8 = 8;
}

/// A structure of the configuration.
pub trait Section: Default {
    /// Name of PD's structure: Go's error texts hold it.
    const GO_NAME: &'static str;

    /// The JSON that PD shows, in PD's order.
    fn show(&self) -> Map<String, Value>;

    /// Reads one key as Go reads JSON. `false`: there is no such key. `parent` is the path above, empty at the top.
    fn read_key(&mut self, key: &str, value: &Value, parent: &str) -> Result<bool, Bad>;

    /// Reads one key of the file. `false`: there is no such key.
    fn read_toml_key(
        &mut self,
        key: &str,
        value: &toml::Value,
        path: &str,
        unknown: &mut Vec<String>,
    ) -> Result<bool, TomlBad>;

    /// Path of the first key of that name, depth first.
    fn find(key: &str) -> Option<String>;
}

/// Reads every key of a JSON object into a section. Unknown keys are passed over, as Go does.
pub fn read_object<S: Section>(section: &mut S, map: &Map<String, Value>, parent: &str) -> Result<(), Bad> {
    for (key, value) in map {
        section.read_key(key, value, parent)?;
    }
    Ok(())
}

/// Reads a table of the file into a section; paths of unknown keys go to `unknown`.
pub fn read_table<S: Section>(
    section: &mut S,
    table: &toml::Table,
    parent: &str,
    unknown: &mut Vec<String>,
) -> Result<(), TomlBad> {
    for (key, value) in table {
        let path = join(parent, key);
        if !section.read_toml_key(key, value, &path, unknown)? {
            push_unknown(value, path, unknown);
        }
    }
    Ok(())
}

/// Names an unknown key and, when it is a table, everything below.
fn push_unknown(value: &toml::Value, path: String, unknown: &mut Vec<String>) {
    for (key, below) in value.as_table().into_iter().flatten() {
        push_unknown(below, join(&path, key), unknown);
    }
    unknown.push(path);
}

/// `parent.key`, or `key` at the top.
pub fn join(parent: &str, key: &str) -> String {
    if parent.is_empty() { key.to_owned() } else { format!("{parent}.{key}") }
}

/// A section inside a section.
pub enum Nested {}

impl<S: Section> Codec<S> for Nested {
    fn show(value: &S) -> Value {
        Value::Object(value.show())
    }

    fn read_json(slot: &mut S, value: &Value, at: Place<'_>) -> Result<(), Bad> {
        match value {
            Value::Null => Ok(()),
            Value::Object(map) => read_object(slot, map, at.field),
            other => Err(at.wrong(json_kind(other), &format!("config.{}", S::GO_NAME))),
        }
    }

    fn read_toml(slot: &mut S, value: &toml::Value, path: &str, unknown: &mut Vec<String>) -> Result<(), TomlBad> {
        let table = value.as_table().ok_or_else(|| toml_mismatch(value, "map"))?;
        read_table(slot, table, path, unknown)
    }

    fn is_zero(_: &S) -> bool {
        false
    }

    fn find(key: &str) -> Option<String> {
        S::find(key)
    }
}

/// Makes a section: `field: Type as Codec, "key" = default [FLAGS];`.
macro_rules! section {
    (
        $(#[$doc:meta])*
        pub struct $name:ident ($go:literal) {
            $(
                $(#[$field_doc:meta])*
                $field:ident : $ty:ty as $codec:ty, $key:literal = $default:expr $(, [$($flag:ident)*])?;
            )*
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Debug)]
        pub struct $name {
            $( $(#[$field_doc])* pub $field: $ty, )*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default, )* }
            }
        }

        impl $crate::config::section::Section for $name {
            const GO_NAME: &'static str = $go;

            fn show(&self) -> serde_json::Map<String, serde_json::Value> {
                #[allow(unused_imports)]
                use $crate::config::{codec::Codec, section::flag};
                let mut map = serde_json::Map::new();
                $(
                    let flags: u8 = 0 $($( | flag::$flag )*)?;
                    let omitted = flags & flag::OMIT != 0 && <$codec as Codec<$ty>>::is_zero(&self.$field);
                    if !omitted && flags & flag::HIDDEN == 0 {
                        map.insert($key.to_owned(), <$codec as Codec<$ty>>::show(&self.$field));
                    }
                )*
                map
            }

            fn read_key(
                &mut self,
                key: &str,
                value: &serde_json::Value,
                parent: &str,
            ) -> Result<bool, $crate::config::codec::Bad> {
                use $crate::config::{codec::{Codec, Place}, section::join};
                let field = join(parent, key);
                let at = Place { structure: $go, field: &field };
                match key {
                    $( $key => <$codec as Codec<$ty>>::read_json(&mut self.$field, value, at)?, )*
                    _ => return Ok(false),
                }
                Ok(true)
            }

            fn read_toml_key(
                &mut self,
                key: &str,
                value: &toml::Value,
                path: &str,
                unknown: &mut Vec<String>,
            ) -> Result<bool, $crate::config::codec::TomlBad> {
                #[allow(unused_imports)]
                use $crate::config::{codec::{Codec, TomlBad}, section::flag};
                let bad = |mut e: TomlBad| {
                    if e.path.is_empty() {
                        path.clone_into(&mut e.path);
                    }
                    e
                };
                match $crate::config::section::json_key(key) {
                    $(
                        $key => {
                            let flags: u8 = 0 $($( | flag::$flag )*)?;
                            if flags & flag::SHOWN != 0 {
                                return Ok(false);
                            }
                            <$codec as Codec<$ty>>::read_toml(&mut self.$field, value, path, unknown).map_err(bad)?;
                            let given = value.is_bool() || flags & flag::KEEP != 0;
                            if !given && <$codec as Codec<$ty>>::is_zero(&self.$field) {
                                self.$field = $default;
                            }
                        }
                    )*
                    _ => return Ok(false),
                }
                Ok(true)
            }

            fn find(key: &str) -> Option<String> {
                #[allow(unused_imports)]
                use $crate::config::{codec::Codec, section::{flag, join}};
                $(
                    let flags: u8 = 0 $($( | flag::$flag )*)?;
                    if flags & flag::HIDDEN == 0 {
                        if key == $key {
                            return Some($key.to_owned());
                        }
                        if let Some(below) = <$codec as Codec<$ty>>::find(key) {
                            return Some(join($key, &below));
                        }
                    }
                )*
                None
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serde::Serialize::serialize(&$crate::config::section::Section::show(self), serializer)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            /// Missing keys keep their defaults; keys of another version are passed over.
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let map = <serde_json::Map<String, serde_json::Value> as serde::Deserialize>::deserialize(deserializer)?;
                let mut out = Self::default();
                $crate::config::section::read_object(&mut out, &map, "").map_err(serde::de::Error::custom)?;
                Ok(out)
            }
        }
    };
}
pub(crate) use section;

/// The JSON key of a key of the file; two differ. The JSON spelling is no key of the file.
pub fn json_key(toml_key: &str) -> &str {
    match toml_key {
        "schedulers" => "schedulers-v2",
        "auto-compaction-retention" => "auto-compaction-retention-v2",
        "schedulers-v2" | "auto-compaction-retention-v2" => "",
        other => other,
    }
}
