//! Reading PD-format log lines, and comparing the story that they tell about one region or store.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use regex::Regex;

/// One log line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// `INFO`, `WARN` …
    pub level: String,
    /// The message.
    pub message: String,
    /// Fields in order, unquoted.
    pub fields: Vec<(String, String)>,
}

impl Line {
    /// The field of this name.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str())
    }
}

/// Reads one line; `None` when it has not the form.
pub fn parse(line: &str) -> Option<Line> {
    let mut parts = vec![];
    let mut rest = line.trim_end();
    while let Some(inner) = rest.strip_prefix('[') {
        let end = closing(inner)?;
        parts.push(&inner[..end]);
        rest = inner[end + 1..].trim_start();
    }
    let [_, level, _, message, fields @ ..] = parts.as_slice() else { return None };
    let fields = fields.iter().map(|f| split_field(f)).collect();
    Some(Line { level: (*level).to_owned(), message: unquote(message), fields })
}

/// Where the bracket that was opened closes, outside quotes.
fn closing(text: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ']' if !quoted => return Some(at),
            _ => {}
        }
    }
    None
}

fn split_field(field: &str) -> (String, String) {
    let at = if let Some(rest) = field.strip_prefix('"') {
        rest.find('"').map_or(field.len(), |e| e + 2)
    } else {
        field.find('=').unwrap_or(field.len())
    };
    (unquote(&field[..at]), unquote(field.get(at + 1..).unwrap_or("")))
}

fn unquote(text: &str) -> String {
    if text.starts_with('"') { serde_json::from_str(text).unwrap_or_else(|_| text.to_owned()) } else { text.to_owned() }
}

/// Replaces times, durations and every id but that of the store `keep` by names given in order of appearance, so that two stories
/// are equal when they differ in ids only.
#[derive(Debug, Default)]
pub struct Renaming {
    peers: BTreeMap<String, String>,
    stores: BTreeMap<String, String>,
}

static TIMES: LazyLock<Regex> = LazyLock::new(|| regex(r"(createAt|startAt):[^,]*"));
static REGION: LazyLock<Regex> = LazyLock::new(|| regex(r"region:\d+\("));
static IDS: LazyLock<Regex> = LazyLock::new(|| regex(r"(store_id:|store \[|store |to \[|id:|peer )(\d+)"));

impl Renaming {
    /// The line with its ids renamed.
    pub fn apply(&mut self, line: &Line, keep: &str) -> String {
        let mut out = format!("{} {}", line.level, line.message);
        for (key, value) in &line.fields {
            let value = match key.as_str() {
                "region-id" => "R".to_owned(),
                "takes" | "region-count" => "*".to_owned(),
                "store-address" => "A".to_owned(),
                "store-id" | "from" | "to" => self.store(value, keep),
                _ => self.text(value, keep),
            };
            out.push_str(&format!(" [{key}={value}]"));
        }
        out
    }

    fn store(&mut self, id: &str, keep: &str) -> String {
        if id == keep {
            return "victim".into();
        }
        let next = format!("S{}", self.stores.len() + 1);
        self.stores.entry(id.to_owned()).or_insert(next).clone()
    }

    fn peer(&mut self, id: &str) -> String {
        let next = format!("P{}", self.peers.len() + 1);
        self.peers.entry(id.to_owned()).or_insert(next).clone()
    }

    fn text(&mut self, text: &str, keep: &str) -> String {
        let text = TIMES.replace_all(text, "$1:*");
        let text = REGION.replace_all(&text, "region:R(");
        IDS.replace_all(&text, |c: &regex::Captures<'_>| {
            let renamed = match &c[1] {
                "id:" | "peer " => self.peer(&c[2]),
                _ => self.store(&c[2], keep),
            };
            format!("{}{renamed}", &c[1])
        })
        .into_owned()
    }
}

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a valid pattern")
}

/// The lines of each region, in order.
pub fn by_region(lines: &[Line]) -> BTreeMap<u64, Vec<&Line>> {
    let mut all: BTreeMap<u64, Vec<&Line>> = BTreeMap::new();
    for line in lines {
        if let Some(id) = line.field("region-id").and_then(|id| id.parse().ok()) {
            all.entry(id).or_default().push(line);
        }
    }
    all
}

/// The story that the lines of one region tell: ids renamed, repeated sends dropped, and what a heartbeat changed put before the
/// command, or the operator's end, that the same heartbeat brought about. In the log it may stand on either side of it; anywhere
/// else it is marked as out of place.
pub fn region_story(lines: &[&Line], keep: &str) -> Vec<String> {
    let mut renaming = Renaming::default();
    let mut sent = BTreeSet::new();
    let mut story: Vec<String> = vec![];
    // Where the answers stand: the first command, which no heartbeat brought about, is not one.
    let mut answers: Vec<usize> = vec![];
    let mut observed = 0;
    for line in lines {
        let is_send = line.message == "send schedule command";
        if is_send && !sent.insert(line.field("step").unwrap_or("").to_owned()) {
            continue;
        }
        let text = renaming.apply(line, keep);
        if !(line.message.starts_with("region ConfVer") || line.message == "leader changed") {
            if (is_send && sent.len() > 1) || line.message == "operator finish" {
                answers.push(story.len());
            }
            story.push(text);
            continue;
        }
        observed += 1;
        match answers.len() + 1 {
            before if before == observed => story.push(text),
            after if after == observed + 1 => {
                let at = answers.last_mut().expect("an answer");
                story.insert(*at, text);
                *at += 1;
            }
            _ => story.push(format!("out of place: {text}")),
        }
    }
    story
}

static VARYING: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r#"(Port:|StartTime:|last_heartbeat:|start_timestamp:|address:|git_hash:|deploy_path:)("[^"]*"|[^,} ]+( \d\d:\d\d:\d\d \+0000 UTC)?)"#,
    )
});

/// A line about a store, with what differs between two runs masked: times, ports, addresses, counts.
pub fn store_line(line: &Line) -> String {
    let mut out = format!("{} {}", line.level, line.message);
    for (key, value) in &line.fields {
        let value = match key.as_str() {
            "store-address" | "region-count" | "not-from-storage-region" | "total-region" => "*".into(),
            _ => VARYING.replace_all(value, "$1*"),
        };
        out.push_str(&format!(" [{key}={value}]"));
    }
    out
}
