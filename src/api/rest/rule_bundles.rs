//! `/config/placement-rule…`: groups with all their rules as one piece.
//!
//! Owns: the JSON shape of a bundle, and what replacing one deletes. Must not know: how a change is checked (`rules::Patch`).

use std::sync::Arc;

use regex::RegexBuilder;
use serde::Serialize;

use super::{
    Answer, body,
    body::Node,
    error::Problem,
    labels::regexp_fault,
    render::{Reply, compact},
    request::Request,
    rule_json::{self, RuleJson},
    rules::{Patch, current, require_enabled},
};
use crate::{
    model::{Rule, RuleGroup},
    scheduler::placement::{RuleError, RuleKey, RuleSet},
};

/// Bound on a compiled pattern, bytes.
const MAX_PATTERN_BYTES: usize = 1 << 20;

#[derive(Serialize)]
struct BundleJson<'a> {
    group_id: &'a str,
    group_index: i64,
    group_override: bool,
    rules: Option<Vec<RuleJson<'a>>>,
}

/// A group with its rules, as a body gives it.
struct Bundle {
    group: RuleGroup,
    rules: Vec<Rule>,
}

fn show<'a>(group: &'a RuleGroup, rules: impl Iterator<Item = &'a Rule>) -> BundleJson<'a> {
    let rules: Vec<_> = rules.map(RuleJson::from).collect();
    BundleJson {
        group_id: &group.id,
        group_index: group.index,
        group_override: group.override_,
        rules: Some(rules).filter(|r| !r.is_empty()),
    }
}

/// `GET /config/placement-rule`
pub(super) fn all(request: &Request) -> Answer {
    require_enabled(request)?;
    let set = current(request);
    let groups: Vec<_> = set.groups().into_iter().map(|group| (set.of_group(&group.id), group)).collect();
    let bundles: Vec<_> = groups.iter().map(|(rules, group)| show(group, rules.iter().map(|r| &**r))).collect();
    Ok(Reply::ok(&bundles))
}

/// `GET /config/placement-rule/{group}`: an unknown group is an empty one.
pub(super) fn one(request: &Request) -> Answer {
    require_enabled(request)?;
    let (set, id) = (current(request), request.param("group"));
    let rules = set.of_group(&id);
    let group = set.group(&id).unwrap_or(RuleGroup { id, ..RuleGroup::default() });
    Ok(Reply::ok(&show(&group, rules.iter().map(|r| &**r))))
}

/// Reads a bundle; `wanted` is the group in the path, if there is one.
fn read(node: &Node<'_>, wanted: Option<&str>) -> Result<Bundle, Problem> {
    let fields = node.fields("GroupBundle", "placement.GroupBundle")?;
    let mut id = fields.text("group_id")?;
    if let Some(wanted) = wanted {
        if id.is_empty() {
            wanted.clone_into(&mut id);
        } else if id != wanted {
            return Err(Problem::bad(format!("group id {id} does not match request URI {wanted}")));
        }
    }
    let group = RuleGroup { id, index: fields.int("group_index")?, override_: fields.flag("group_override")? };
    let mut rules = Vec::new();
    if let Some(list) = fields.node("rules") {
        for item in list.items("[]*placement.Rule")? {
            let fields = item.fields("Rule", "placement.Rule")?;
            let of = fields.text("group_id")?;
            if !of.is_empty() && of != group.id {
                let text = format!("rule group {of} does not match group ID {}", group.id);
                return Err(RuleError::Content(text).into());
            }
            rules.push(rule_json::rule_in_group(&fields, &group.id)?);
        }
    }
    Ok(Bundle { group, rules })
}

/// The change that makes a group exactly this bundle.
fn replace(patch: &mut Patch, now: &RuleSet, bundle: Bundle) {
    patch.delete_rules.extend(keys(&now.of_group(&bundle.group.id)));
    patch.rules.extend(bundle.rules);
    patch.groups.push(bundle.group);
}

fn keys(rules: &[Arc<Rule>]) -> impl Iterator<Item = RuleKey> {
    rules.iter().map(|r| (r.group_id.clone(), r.id.clone()))
}

/// `POST /config/placement-rule`: all groups, or with `partial` only those that are named.
pub(super) async fn set_all(request: &Request) -> Answer {
    require_enabled(request)?;
    let (patch, shown) = {
        let parsed = body::parse(&request.body)?;
        let items = Node::root(&parsed).items("[]placement.GroupBundle")?;
        let bundles = items.iter().map(|item| read(item, None)).collect::<Result<Vec<_>, _>>()?;
        let shown: Vec<_> = bundles.iter().map(|b| show(&b.group, b.rules.iter())).collect();
        let shown = compact(&shown);
        let now = current(request);
        let mut patch = Patch::default();
        if !request.query.has("partial") {
            patch.delete_rules = keys(&now.all()).collect();
            patch.delete_groups = now.groups().into_iter().map(|g| g.id).collect();
        }
        for bundle in bundles {
            replace(&mut patch, &now, bundle);
        }
        (patch, shown)
    };
    patch.commit(request).await?;
    crate::pdlog!(request.app.log, Info, "full config reset", "config" => shown);
    Ok(Reply::ok(&"Update rules and groups successfully."))
}

/// `POST /config/placement-rule/{group}`
pub(super) async fn set(request: &Request) -> Answer {
    require_enabled(request)?;
    let (patch, shown) = {
        let parsed = body::parse(&request.body)?;
        let bundle = read(&Node::root(&parsed), Some(&request.param("group")))?;
        let shown = compact(&show(&bundle.group, bundle.rules.iter()));
        let mut patch = Patch::default();
        replace(&mut patch, &current(request), bundle);
        (patch, shown)
    };
    patch.commit(request).await?;
    crate::pdlog!(request.app.log, Info, "group is reset", "group" => shown);
    Ok(Reply::ok(&"Update group and rules successfully."))
}

/// `DELETE /config/placement-rule/{group}`: with `regexp` all groups that match.
pub(super) async fn delete(request: &Request) -> Answer {
    require_enabled(request)?;
    let (text, by_pattern) = (request.param("group"), request.query.has("regexp"));
    let now = current(request);
    let pattern = if by_pattern {
        let built = RegexBuilder::new(&text).size_limit(MAX_PATTERN_BYTES).build();
        Some(built.map_err(|_| Problem::failed(format!("error parsing regexp: {}", regexp_fault(&text))))?)
    } else {
        None
    };
    let mut patch = Patch::default();
    match &pattern {
        Some(pattern) => {
            patch.delete_rules = keys(&now.all()).filter(|(group, _)| pattern.is_match(group)).collect();
            patch.delete_groups = now.groups().into_iter().map(|g| g.id).filter(|id| pattern.is_match(id)).collect();
        }
        None => {
            patch.delete_rules = keys(&now.of_group(&text)).collect();
            patch.delete_groups = vec![text.clone()];
        }
    }
    patch.commit(request).await?;
    crate::pdlog!(request.app.log, Info, "groups are removed", "id" => text, "regexp" => by_pattern);
    Ok(Reply::ok(&"Delete group and rules successfully."))
}
