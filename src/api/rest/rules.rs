//! `/config/rules…`, `/config/rule…`, `/config/rule_group…`: placement rules, one by one and in batches.
//!
//! Owns: turning requests into one change of the agreed rules ([`Patch`]) and checking it as a whole. Must not know: bundles of
//! whole groups (`rule_bundles`), the JSON shape (`rule_json`).

use std::{collections::BTreeMap, sync::Arc};

use axum::http::StatusCode;
use serde::Serialize;

use super::{
    Answer, body,
    body::Node,
    error::Problem,
    go,
    render::{Reply, compact},
    request::Request,
    rule_json::{self, GroupJson, RuleJson},
    rules_unmet,
};
use crate::{
    meta::{Command, ConfigChange, NamedRow, RuleRow},
    model::{Peer, Region, RegionId, Role, Rule, RuleGroup},
    scheduler::placement::{DEFAULT_GROUP, DEFAULT_ID, RuleSet, RulesChange, fit, validate},
};

/// Refuses every route about rules while rules are off.
pub(super) fn require_enabled(request: &Request) -> Result<(), Problem> {
    if request.app.dynamic.load().replication.enable_placement_rules {
        return Ok(());
    }
    let text = "[PD:placement:ErrPlacementDisabled]placement rules feature is disabled";
    Err(Problem::Said(StatusCode::PRECONDITION_FAILED, text.into()))
}

/// The rules in force.
pub(super) fn current(request: &Request) -> Arc<RuleSet> {
    request.app.cluster.settings().rules.clone()
}

fn show<'a>(rules: impl IntoIterator<Item = &'a Arc<Rule>>) -> Vec<RuleJson<'a>> {
    rules.into_iter().map(|rule| RuleJson::from(&**rule)).collect()
}

/// `GET /config/rules`
pub(super) fn all(request: &Request) -> Answer {
    require_enabled(request)?;
    Ok(Reply::ok(&show(&current(request).all())))
}

/// `GET /config/rules/group/{group}`: `null` for a group without rules.
pub(super) fn by_group(request: &Request) -> Answer {
    require_enabled(request)?;
    let rules = current(request).of_group(&request.param("group"));
    Ok(Reply::ok(&Some(show(&rules)).filter(|r| !r.is_empty())))
}

fn region_of(request: &Request) -> Result<Arc<Region>, Problem> {
    let id = go::parse_uint(&request.param("region"));
    let id = RegionId(id.map_err(|_| Problem::bad("[PD:region:ErrRegionInvalidID]invalid region id"))?);
    request.app.cluster.regions().get(id).ok_or_else(|| super::regions::not_found(id))
}

/// `GET /config/rules/region/{region}`
pub(super) fn by_region(request: &Request) -> Answer {
    require_enabled(request)?;
    let region = region_of(request)?;
    Ok(Reply::ok(&show(current(request).for_region(&region))))
}

#[derive(Serialize)]
struct PeerJson {
    id: u64,
    store_id: u64,
    #[serde(skip_serializing_if = "is_voter")]
    role: u8,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    is_witness: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's shape
fn is_voter(role: &u8) -> bool {
    *role == Role::Voter as u8
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct RuleFitJson<'a> {
    rule: RuleJson<'a>,
    peers: Option<Vec<PeerJson>>,
    peers_different_role: Option<Vec<PeerJson>>,
    isolation_score: f64,
    witness_score: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct FitJson<'a> {
    rule_fits: Vec<RuleFitJson<'a>>,
    orphan_peers: Option<Vec<PeerJson>>,
}

/// A list of peers; `null` when it is empty.
fn peers(list: &[Peer]) -> Option<Vec<PeerJson>> {
    let show = |p: &Peer| PeerJson { id: p.id.0, store_id: p.store.0, role: p.role as u8, is_witness: p.is_witness };
    (!list.is_empty()).then(|| list.iter().map(show).collect())
}

/// `GET /config/rules/region/{region}/detail`: which peer serves which rule.
pub(super) fn fit_of_region(request: &Request) -> Answer {
    require_enabled(request)?;
    let region = region_of(request)?;
    let rules = current(request);
    let found = rules.fit(&region, &request.app.cluster.stores().snapshot());
    // A region across a border of rules has none; its peers serve none.
    let found = found.unwrap_or_else(|| Arc::new(fit(&region, &[], &BTreeMap::new())));
    let rule_fits = found.rules.iter().map(|f| RuleFitJson {
        rule: RuleJson::from(&*f.rule),
        peers: peers(&f.peers),
        peers_different_role: peers(&f.different_role),
        isolation_score: f.isolation_score,
        witness_score: 0,
    });
    Ok(Reply::ok(&FitJson { rule_fits: rule_fits.collect(), orphan_peers: peers(&found.orphans) }))
}

/// `GET /config/rules/key/{key}`
pub(super) fn by_key(request: &Request) -> Answer {
    require_enabled(request)?;
    let key = go::decode_hex(request.param("key").as_bytes());
    let key = key.map_err(|e| Problem::bad(format!("[PD:placement:ErrKeyFormat]key should be in hex format, {e}")))?;
    Ok(Reply::ok(&show(current(request).by_key(&key))))
}

/// `GET /config/rule/{group}/{id}`
pub(super) fn one(request: &Request) -> Answer {
    require_enabled(request)?;
    let rules = current(request);
    let rule = rules.get(&request.param("group"), &request.param("id"));
    let rule = rule.ok_or_else(|| Problem::not_found("[PD:placement:ErrRuleNotFound]rule not found"))?;
    Ok(Reply::ok(&RuleJson::from(&**rule)))
}

/// `GET /config/rule_groups`
pub(super) fn groups(request: &Request) -> Answer {
    require_enabled(request)?;
    let groups = current(request).groups();
    Ok(Reply::ok(&groups.iter().map(GroupJson::from).collect::<Vec<_>>()))
}

/// `GET /config/rule_group/{id}`
pub(super) fn group(request: &Request) -> Answer {
    require_enabled(request)?;
    let id = request.param("id");
    let group = current(request).group(&id).ok_or_else(Problem::null)?;
    Ok(Reply::ok(&GroupJson::from(&group)))
}

/// One change of the rules: deletes first, then puts.
#[derive(Default)]
pub(super) struct Patch {
    /// Rules to write.
    pub(super) rules: Vec<Rule>,
    /// Groups to write.
    pub(super) groups: Vec<RuleGroup>,
    /// Rules to delete: group and id.
    pub(super) delete_rules: Vec<(String, String)>,
    /// Groups to delete.
    pub(super) delete_groups: Vec<String>,
}

impl Patch {
    /// As a change of `RuleSet`.
    fn change(&self) -> RulesChange {
        RulesChange {
            rules: self.rules.iter().cloned().map(Arc::new).collect(),
            groups: self.groups.clone(),
            delete_rules: self.delete_rules.clone(),
            delete_groups: self.delete_groups.clone(),
        }
    }

    /// Checks the change as a whole and has it agreed. A change of PD's default rule also changes `max-replicas`.
    pub(super) async fn commit(mut self, request: &Request) -> Result<(), Problem> {
        rules_unmet::is_strict(request)?;
        let app = &request.app;
        let _one_at_a_time = request.config_writes.lock().await;
        let now = current(request);
        let stores = app.cluster.stores().snapshot();
        let wall = app.now().wall;
        for rule in &mut self.rules {
            validate::rule(rule, &stores)?;
            match now.get(&rule.group_id, &rule.id) {
                Some(old) => (rule.version, rule.create_timestamp) = (old.version + 1, old.create_timestamp),
                None => rule.create_timestamp = u64::try_from(wall.unix_seconds()).unwrap_or(0),
            }
        }
        let (next, touched) = now.changed(&self.change())?;
        let unmet = rules_unmet::check(request, &next, &touched)?;
        let default = self.rules.iter().find(|r| r.group_id == DEFAULT_GROUP && r.id == DEFAULT_ID);
        let replicas = default.map(|rule| u64::from(rule.count));
        let row = |r: &Rule| RuleRow { group: r.group_id.clone(), id: r.id.clone(), json: compact(&RuleJson::from(r)) };
        let dynamic = app.dynamic.load();
        let replicas = replicas.filter(|n| *n != dynamic.replication.max_replicas);
        let config = replicas.map(|max_replicas| {
            let mut next = (*dynamic).clone();
            next.replication.max_replicas = max_replicas;
            next.to_json()
        });
        let config = config.transpose().map_err(|e| Problem::failed(e.to_string()))?;
        let change = ConfigChange {
            config,
            rules: self.rules.iter().map(row).collect(),
            groups: self
                .groups
                .iter()
                .map(|g| NamedRow { id: g.id.clone(), json: compact(&GroupJson::from(g)) })
                .collect(),
            delete_rules: self.delete_rules,
            delete_groups: self.delete_groups,
            ..ConfigChange::default()
        };
        app.propose(Command::ChangeConfig(Box::new(change))).await?;
        rules_unmet::tell(app, &unmet);
        Ok(())
    }
}

/// `POST /config/rule`
pub(super) async fn set(request: &Request) -> Answer {
    require_enabled(request)?;
    let rule = {
        let parsed = body::parse(&request.body)?;
        rule_json::rule(&Node::root(&parsed).fields("Rule", "placement.Rule")?)?
    };
    let shown = compact(&RuleJson::from(&rule));
    Patch { rules: vec![rule], ..Patch::default() }.commit(request).await?;
    crate::pdlog!(request.app.log, Info, "placement rule updated", "rule" => shown);
    Ok(Reply::ok(&"Update rule successfully."))
}

/// `DELETE /config/rule/{group}/{id}`: also of one that is not there.
pub(super) async fn delete(request: &Request) -> Answer {
    require_enabled(request)?;
    let (group, id) = (request.param("group"), request.param("id"));
    Patch { delete_rules: vec![(group.clone(), id.clone())], ..Patch::default() }.commit(request).await?;
    crate::pdlog!(request.app.log, Info, "placement rule is removed", "group" => group, "id" => id);
    Ok(Reply::ok(&"Delete rule successfully."))
}

fn read_list(request: &Request) -> Result<Vec<Rule>, Problem> {
    let parsed = body::parse(&request.body)?;
    let items = Node::root(&parsed).items("[]*placement.Rule")?;
    items
        .iter()
        .map(|item| match item.value() {
            // PD reads through a nil pointer here.
            serde_json::Value::Null => Err(Problem::bad("a rule must not be null")),
            _ => rule_json::rule(&item.fields("Rule", "placement.Rule")?),
        })
        .collect()
}

/// `POST /config/rules`: rules that are not named stay.
pub(super) async fn set_all(request: &Request) -> Answer {
    require_enabled(request)?;
    let rules = read_list(request)?;
    let shown = compact(&rules.iter().map(RuleJson::from).collect::<Vec<_>>());
    Patch { rules, ..Patch::default() }.commit(request).await?;
    crate::pdlog!(request.app.log, Info, "placement rules updated", "rules" => shown);
    Ok(Reply::ok(&"Update rules successfully."))
}

/// `POST /config/rules/batch`: adds and deletes in one step.
pub(super) async fn batch(request: &Request) -> Answer {
    require_enabled(request)?;
    let patch = read_batch(request)?;
    patch.commit(request).await?;
    let shown = String::from_utf8_lossy(&request.body).into_owned();
    crate::pdlog!(request.app.log, Info, "placement rules updated", "batch" => shown);
    Ok(Reply::ok(&"Batch operations successfully."))
}

fn read_batch(request: &Request) -> Result<Patch, Problem> {
    let parsed = body::parse(&request.body)?;
    let now = current(request);
    let mut patch = Patch::default();
    for item in Node::root(&parsed).items("[]placement.RuleOp")? {
        let fields = item.fields("RuleOp", "placement.RuleOp")?;
        match fields.text("action")?.as_str() {
            "add" => patch.rules.push(rule_json::rule(&fields)?),
            "del" => {
                let (group, id) = (fields.text("group_id")?, fields.text("id")?);
                if fields.flag("delete_by_id_prefix")? {
                    let named = now.of_group(&group).into_iter().filter(|r| r.id.starts_with(&id));
                    patch.delete_rules.extend(named.map(|r| (group.clone(), r.id.clone())));
                } else {
                    patch.delete_rules.push((group, id));
                }
            }
            // PD does nothing with any other word and says that all went well.
            other => return Err(Problem::bad(format!("unknown action {other}"))),
        }
    }
    Ok(patch)
}

/// `POST /config/rule_group`
pub(super) async fn set_group(request: &Request) -> Answer {
    require_enabled(request)?;
    let group = {
        let parsed = body::parse(&request.body)?;
        rule_json::group(&Node::root(&parsed))?
    };
    let shown = compact(&GroupJson::from(&group));
    Patch { groups: vec![group], ..Patch::default() }.commit(request).await?;
    crate::pdlog!(request.app.log, Info, "group config updated", "group" => shown);
    Ok(Reply::ok(&"Update rule group successfully."))
}

/// `DELETE /config/rule_group/{id}`: its rules stay.
pub(super) async fn delete_group(request: &Request) -> Answer {
    require_enabled(request)?;
    let id = request.param("id");
    Patch { delete_groups: vec![id.clone()], ..Patch::default() }.commit(request).await?;
    crate::pdlog!(request.app.log, Info, "group config reset", "group" => id);
    Ok(Reply::ok(&"Delete rule group successfully."))
}
