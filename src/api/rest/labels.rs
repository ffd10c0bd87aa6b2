//! `/labels`, `/labels/stores`, `/store/{id}/label`: labels of stores.
//!
//! Owns: which labels are allowed, and finding stores by them. Must not know: what labels do to placement.

use regex::{Regex, RegexBuilder};
use serde::Serialize;

use super::{Answer, body, error::Problem, render::Reply, request::Request, store_json::View};
use crate::{
    api::App,
    config::sections::check_label_key,
    meta::Command,
    model::{StoreId, StoreLabel},
};

/// The label that says what a store is; nobody may change it.
const ENGINE: &str = "engine";

/// What label values look like, as PD's text shows it.
const VALUE_FORMAT: &str = "^[-A-Za-z0-9_./]*$";

/// Bound on a compiled pattern, bytes: a pattern from outside must not take all memory.
const MAX_PATTERN_BYTES: usize = 1 << 20;

/// Refuses keys and values that PD refuses.
pub(super) fn check_format(labels: &[StoreLabel]) -> Result<(), Problem> {
    for label in labels {
        check_label_key(&label.key).map_err(Problem::input)?;
        let ok = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/');
        if !label.value.bytes().all(ok) {
            return Err(Problem::input(format!("{} does not match format \"{VALUE_FORMAT}\"", label.value)));
        }
    }
    Ok(())
}

/// With `strictly-match-label`, a store has all location labels and no others.
fn check_strict(app: &App, labels: &[StoreLabel]) -> Result<(), Problem> {
    let replication = &app.dynamic.load().replication;
    if !replication.strictly_match_label {
        return Ok(());
    }
    let known = |key: &str| replication.location_labels.iter().any(|l| l == key);
    let value = |key: &str| labels.iter().find(|l| l.key.eq_ignore_ascii_case(key)).map_or("", |l| &l.value);
    if let Some(key) = replication.location_labels.iter().find(|key| value(key).is_empty()) {
        let text = format!("label configuration is incorrect, need to specify the key: {key} ");
        return Err(Problem::failed(text));
    }
    match labels.iter().find(|l| l.key != ENGINE && !known(&l.key)) {
        Some(l) => {
            Err(Problem::failed(format!("key matching the label was not found in the PD, store label key: {} ", l.key)))
        }
        None => Ok(()),
    }
}

/// What labels become: new ones over old ones by key, or (`force`) only the new ones; empty values go.
fn merged(old: &[StoreLabel], new: &[StoreLabel], force: bool) -> Vec<StoreLabel> {
    let mut out = if force { Vec::new() } else { old.to_vec() };
    for label in new {
        match out.iter_mut().find(|l| l.key.eq_ignore_ascii_case(&label.key)) {
            Some(slot) => slot.value.clone_from(&label.value),
            None => out.push(label.clone()),
        }
    }
    out.retain(|l| !l.value.is_empty());
    out
}

/// `POST /store/{id}/label`
pub(super) async fn set(request: &Request) -> Answer {
    let id = request.store_param()?;
    let input = body::text_map(&request.body)?;
    let labels: Vec<_> = input.into_iter().map(|(key, value)| StoreLabel { key, value }).collect();
    if labels.iter().any(|l| l.key == ENGINE) {
        return Err(Problem::input("label key \"engine\" is reserved"));
    }
    check_format(&labels)?;
    let force = request.query.has("force");
    if let Ok(info) = request.app.store(id) {
        check_strict(&request.app, &merged(&info.record.labels, &labels, force))?;
    }
    change(request, Command::SetStoreLabels { id, labels, force }).await?;
    Ok(Reply::ok(&"The store's label is updated."))
}

/// `DELETE /store/{id}/label`
pub(super) async fn delete(request: &Request) -> Answer {
    let id = request.store_param()?;
    let key = body::text(&request.body)?;
    if key == ENGINE {
        return Err(Problem::input("can't modify label key \"engine\""));
    }
    check_format(&[StoreLabel { key: key.clone(), value: String::new() }])?;
    change(request, Command::DeleteStoreLabel { id, key: key.clone() }).await?;
    Ok(Reply::ok(&deleted(&key, id)))
}

fn deleted(key: &str, id: StoreId) -> String {
    format!("The label {key} is deleted for store {id}.")
}

async fn change(request: &Request, command: Command) -> Result<(), Problem> {
    request.app.propose(command).await.map_err(|e| Problem::from(e).into_failure())?;
    Ok(())
}

/// `GET /labels`: each pair of key and value once, in the order of stores; `null` when there is none.
pub(super) fn all(request: &Request) -> Answer {
    #[derive(Serialize, PartialEq)]
    struct Pair {
        key: String,
        value: String,
    }
    let mut pairs: Vec<Pair> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for info in request.app.cluster.stores().snapshot().values() {
        for label in &info.record.labels {
            if seen.insert(label.clone()) {
                pairs.push(Pair { key: label.key.clone(), value: label.value.clone() });
            }
        }
    }
    Ok(Reply::ok(&Some(pairs).filter(|p| !p.is_empty())))
}

/// `GET /labels/stores`: stores with a label whose key and value match two patterns.
pub(super) fn stores(request: &Request) -> Answer {
    let (name, value) = (pattern(&request.query.text("name"))?, pattern(&request.query.text("value"))?);
    let stores = request.app.cluster.stores().snapshot();
    let found = stores
        .values()
        .filter(|s| s.record.labels.iter().any(|l| name.is_match(&l.key) && value.is_match(&l.value)))
        .map(|s| &**s);
    Ok(Reply::ok(&View::new(&request.app).list(found)))
}

/// A pattern without regard to case, anywhere in the text.
fn pattern(text: &str) -> Result<Regex, Problem> {
    RegexBuilder::new(text)
        .case_insensitive(true)
        .size_limit(MAX_PATTERN_BYTES)
        .build()
        .map_err(|_| Problem::failed(format!("error parsing regexp: {}", regexp_fault(&format!("(?i){text}")))))
}

/// Go's words for the commonest faults of a pattern.
pub(super) fn regexp_fault(text: &str) -> String {
    let (mut depth, mut class, mut escaped) = (0_i64, None, false);
    for (at, c) in text.char_indices() {
        match (c, class) {
            _ if escaped => escaped = false,
            ('\\', _) => escaped = true,
            (']', Some(_)) => class = None,
            ('[', None) => class = Some(at),
            ('(', None) => depth += 1,
            (')', None) => depth -= 1,
            _ => {}
        }
        if depth < 0 {
            return format!("unexpected ): `{text}`");
        }
    }
    match class {
        Some(at) => format!("missing closing ]: `{}`", &text[at..]),
        None if escaped => format!("trailing backslash at end of expression: `{text}`"),
        None if depth > 0 => format!("missing closing ): `{text}`"),
        None => format!("invalid pattern: `{text}`"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn label(key: &str, value: &str) -> StoreLabel {
        StoreLabel { key: key.into(), value: value.into() }
    }

    #[test]
    fn only_plain_keys_and_values_are_taken() {
        assert!(check_format(&[label("zone", "z1/a.b_c-d"), label("$x", "")]).is_ok());
        let said = |l| match check_format(&[l]).unwrap_err() {
            Problem::Input { msg, .. } => msg,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            said(label("zo ne", "a")),
            r#"zo ne does not match format "^[$]?[A-Za-z0-9]([-A-Za-z0-9_./]*[A-Za-z0-9])?$""#
        );
        assert_eq!(said(label("zone", "a b")), r#"a b does not match format "^[-A-Za-z0-9_./]*$""#);
    }

    #[test]
    fn new_labels_go_over_old_ones() {
        let old = [label("zone", "z1"), label("host", "h1")];
        let new = [label("ZONE", "z2"), label("host", ""), label("disk", "ssd")];
        assert_eq!(merged(&old, &new, false), [label("zone", "z2"), label("disk", "ssd")]);
        assert_eq!(merged(&old, &new, true), [label("ZONE", "z2"), label("disk", "ssd")]);
    }

    #[test]
    fn patterns_are_refused_in_go_words() {
        for (text, fault) in [
            ("(?i)(", "missing closing ): `(?i)(`"),
            ("g[", "missing closing ]: `[`"),
            ("a)", "unexpected ): `a)`"),
            ("a\\", "trailing backslash at end of expression: `a\\`"),
        ] {
            assert_eq!(regexp_fault(text), fault);
        }
    }
}
