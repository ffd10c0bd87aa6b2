//! JSON bodies, refused in the words of Go's decoder.
//!
//! Owns: reading a body as a map, a text, a list or a structure of known fields. Must not know: what the fields mean.

use serde_json::{Map, Value, json};

use super::error::Problem;
use crate::config::{
    codec::json_kind,
    gojson::{self, Parsed, SyntaxError},
};

/// How Go names a map of anything.
const GO_MAP: &str = "map[string]interface {}";

/// The error object for a value of the wrong type.
fn wrong_type(value: &str, wanted: &str, offset: usize, field: Option<(&str, &str)>) -> Problem {
    let (structure, name) = field.unwrap_or_default();
    let what = if structure.is_empty() {
        format!("Go value of type {wanted}")
    } else {
        format!("Go struct field {structure}.{name} of type {wanted}")
    };
    Problem::Input {
        msg: format!("json: cannot unmarshal {value} into {what}"),
        data: json!({ "Value": value, "Type": {}, "Offset": offset, "Struct": structure, "Field": name }),
    }
}

fn offset(parsed: &Parsed, path: &str) -> usize {
    parsed.offsets.get(path).copied().unwrap_or(0)
}

/// A body that PD reads into a map; `null` is an empty one.
pub(super) fn object(body: &[u8]) -> Result<Map<String, Value>, Problem> {
    let parsed = gojson::parse(body)?;
    match parsed.value {
        Value::Object(map) => Ok(map),
        Value::Null => Ok(Map::new()),
        ref other => Err(wrong_type(json_kind(other), GO_MAP, offset(&parsed, ""), None)),
    }
}

/// A body that PD reads into a list of maps.
pub(super) fn objects(body: &[u8]) -> Result<Vec<Map<String, Value>>, Problem> {
    let parsed = gojson::parse(body)?;
    let items = match &parsed.value {
        Value::Array(items) => items,
        Value::Null => return Ok(Vec::new()),
        other => return Err(wrong_type(json_kind(other), &format!("[]{GO_MAP}"), offset(&parsed, ""), None)),
    };
    items
        .iter()
        .map(|item| match item {
            Value::Object(map) => Ok(map.clone()),
            Value::Null => Ok(Map::new()),
            other => Err(wrong_type(json_kind(other), GO_MAP, offset(&parsed, ""), None)),
        })
        .collect()
}

/// Turns an error object into its plain text.
pub(super) fn plain(problem: Problem) -> Problem {
    match problem {
        Problem::Input { msg, .. } => Problem::bad(msg),
        other => other,
    }
}

/// A body that PD reads into a map of texts.
pub(super) fn text_map(body: &[u8]) -> Result<Vec<(String, String)>, Problem> {
    let parsed = gojson::parse(body)?;
    let map = match &parsed.value {
        Value::Object(map) => map,
        Value::Null => return Ok(Vec::new()),
        other => return Err(wrong_type(json_kind(other), "map[string]string", offset(&parsed, ""), None)),
    };
    map.iter()
        .map(|(key, value)| match value {
            Value::String(text) => Ok((key.clone(), text.clone())),
            Value::Null => Ok((key.clone(), String::new())),
            other => Err(wrong_type(json_kind(other), "string", offset(&parsed, key), None)),
        })
        .collect()
}

/// A body that PD reads into a map of whole numbers.
pub(super) fn int_map(body: &[u8]) -> Result<Vec<(String, i64)>, Problem> {
    let parsed = gojson::parse(body)?;
    let map = match &parsed.value {
        Value::Object(map) => map,
        Value::Null => return Ok(Vec::new()),
        other => return Err(wrong_type(json_kind(other), "map[string]int64", offset(&parsed, ""), None)),
    };
    let read = |(key, value): (&String, &Value)| match value {
        Value::Null => Ok((key.clone(), 0)),
        Value::Number(n) if n.is_i64() => Ok((key.clone(), n.as_i64().unwrap_or(0))),
        Value::Number(n) => Err(wrong_type(&format!("number {n}"), "int64", offset(&parsed, key), None)),
        other => Err(wrong_type(json_kind(other), "int64", offset(&parsed, key), None)),
    };
    map.iter().map(read).collect()
}

/// A body that PD reads into one text.
pub(super) fn text(body: &[u8]) -> Result<String, Problem> {
    let parsed = gojson::parse(body)?;
    match &parsed.value {
        Value::String(text) => Ok(text.clone()),
        Value::Null => Ok(String::new()),
        other => Err(wrong_type(json_kind(other), "string", offset(&parsed, ""), None)),
    }
}

/// A body that PD reads into a list of texts.
pub(super) fn text_list(body: &[u8]) -> Result<Vec<String>, Problem> {
    let parsed = gojson::parse(body)?;
    let items = match &parsed.value {
        Value::Array(items) => items,
        Value::Null => return Ok(Vec::new()),
        other => return Err(wrong_type(json_kind(other), "[]string", offset(&parsed, ""), None)),
    };
    items
        .iter()
        .map(|item| match item {
            Value::String(text) => Ok(text.clone()),
            Value::Null => Ok(String::new()),
            other => Err(wrong_type(json_kind(other), "string", offset(&parsed, ""), None)),
        })
        .collect()
}

/// One JSON value and where it stood, for structures of known fields.
pub(super) struct Node<'a> {
    parsed: &'a Parsed,
    path: String,
    value: &'a Value,
}

/// Parses a body for [`Node::root`].
pub(super) fn parse(body: &[u8]) -> Result<Parsed, SyntaxError> {
    gojson::parse(body)
}

impl<'a> Node<'a> {
    /// The whole body.
    pub(super) fn root(parsed: &'a Parsed) -> Self {
        Self { parsed, path: String::new(), value: &parsed.value }
    }

    /// The value itself.
    pub(super) fn value(&self) -> &'a Value {
        self.value
    }

    /// The members of a structure of the Go type `structure`; nothing when the value is `null`.
    pub(super) fn fields(&self, structure: &'static str, go_type: &str) -> Result<Fields<'a>, Problem> {
        match self.value {
            Value::Object(map) => {
                Ok(Fields { parsed: self.parsed, path: self.path.clone(), map: Some(map), structure })
            }
            Value::Null => Ok(Fields { parsed: self.parsed, path: self.path.clone(), map: None, structure }),
            other => Err(wrong_type(json_kind(other), go_type, offset(self.parsed, &self.path), None)),
        }
    }

    /// The items of a list; none when the value is `null`.
    pub(super) fn items(&self, go_type: &str) -> Result<Vec<Node<'a>>, Problem> {
        match self.value {
            Value::Array(items) => {
                Ok(items.iter().map(|value| Node { parsed: self.parsed, path: self.path.clone(), value }).collect())
            }
            Value::Null => Ok(Vec::new()),
            other => Err(wrong_type(json_kind(other), go_type, offset(self.parsed, &self.path), None)),
        }
    }
}

/// The members of a structure. Names are matched without regard to case, as Go does.
pub(super) struct Fields<'a> {
    parsed: &'a Parsed,
    path: String,
    map: Option<&'a Map<String, Value>>,
    structure: &'static str,
}

impl<'a> Fields<'a> {
    /// A member that is there and not `null`.
    fn find(&self, name: &str) -> Option<(&'a String, &'a Value)> {
        let map = self.map?;
        let exact = map.get_key_value(name);
        let found = exact.or_else(|| map.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)));
        found.filter(|(_, value)| !value.is_null())
    }

    fn below(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn wrong(&self, key: &str, name: &str, value: &Value, wanted: &str) -> Problem {
        let shown = match value {
            Value::Number(n) if wanted != "string" && wanted != "bool" => format!("number {n}"),
            other => json_kind(other).to_owned(),
        };
        wrong_type(&shown, wanted, offset(self.parsed, &self.below(key)), Some((self.structure, name)))
    }

    /// A text; empty when it is not there.
    pub(super) fn text(&self, name: &str) -> Result<String, Problem> {
        match self.find(name) {
            None => Ok(String::new()),
            Some((_, Value::String(text))) => Ok(text.clone()),
            Some((key, other)) => Err(self.wrong(key, name, other, "string")),
        }
    }

    /// A flag; false when it is not there.
    pub(super) fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.find(name) {
            None => Ok(false),
            Some((_, Value::Bool(flag))) => Ok(*flag),
            Some((key, other)) => Err(self.wrong(key, name, other, "bool")),
        }
    }

    /// A whole number; 0 when it is not there.
    pub(super) fn int(&self, name: &str) -> Result<i64, Problem> {
        match self.find(name) {
            None => Ok(0),
            Some((key, value)) => value.as_i64().ok_or_else(|| self.wrong(key, name, value, "int")),
        }
    }

    /// A list of texts; empty when it is not there.
    pub(super) fn texts(&self, name: &str) -> Result<Vec<String>, Problem> {
        let Some((key, value)) = self.find(name) else { return Ok(Vec::new()) };
        let Value::Array(items) = value else { return Err(self.wrong(key, name, value, "[]string")) };
        let read = |item: &Value| match item {
            Value::String(text) => Ok(text.clone()),
            Value::Null => Ok(String::new()),
            other => Err(self.wrong(key, name, other, "string")),
        };
        items.iter().map(read).collect()
    }

    /// Any member; `None` when it is not there.
    pub(super) fn node(&self, name: &str) -> Option<Node<'a>> {
        let (key, value) = self.find(name)?;
        Some(Node { parsed: self.parsed, path: self.below(key), value })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn data(problem: Problem) -> (String, Value) {
        match problem {
            Problem::Input { msg, data } => (msg, data),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn bodies_are_refused_as_go_refuses_them() {
        let (msg, fields) = data(text_map(br#"{"zone": 1}"#).unwrap_err());
        assert_eq!(msg, "json: cannot unmarshal number into Go value of type string");
        assert_eq!(fields, json!({"Value": "number", "Type": {}, "Offset": 10, "Struct": "", "Field": ""}));

        let (msg, fields) = data(text(br#"{"a": 1}"#).unwrap_err());
        assert_eq!(msg, "json: cannot unmarshal object into Go value of type string");
        assert_eq!(fields["Offset"], 1);

        let (msg, fields) = data(text_map(b"{\"zone\"").unwrap_err());
        assert_eq!((msg.as_str(), &fields), ("unexpected end of JSON input", &json!({"Offset": 7})));

        let (msg, _) = data(object(b"[1]").unwrap_err());
        assert_eq!(msg, "json: cannot unmarshal array into Go value of type map[string]interface {}");
        assert_eq!(object(b"null").unwrap(), Map::new());
    }

    #[test]
    fn fields_of_a_structure_are_named_in_errors() {
        let parsed = parse(br#"{"ID": "a", "count": "x", "index": null}"#).unwrap();
        let fields = Node::root(&parsed).fields("Rule", "placement.Rule").unwrap();
        assert_eq!(fields.text("id").unwrap(), "a");
        assert_eq!(fields.int("index").unwrap(), 0);
        let (msg, _) = data(fields.int("count").unwrap_err());
        assert_eq!(msg, "json: cannot unmarshal string into Go struct field Rule.count of type int");
    }
}
