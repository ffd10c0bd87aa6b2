//! Placement rules and region labels as plain values: what is agreed. Matching and fitting live in `scheduler/`.

use serde::{Deserialize, Serialize};

use super::{KeyRange, Wall};

/// Which peers a rule asks for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub enum RuleRole {
    /// Voters, one of which may lead.
    #[default]
    Voter,
    /// The leader.
    Leader,
    /// Voters that must not lead.
    Follower,
    /// Peers without a vote.
    Learner,
}

/// How a label constraint compares.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LabelOp {
    /// The value is one of the given.
    In,
    /// The value is none of the given (a store without the label matches).
    NotIn,
    /// The label is there.
    Exists,
    /// The label is not there.
    NotExists,
}

/// One condition on the labels of a store.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct LabelConstraint {
    /// Label name.
    pub key: String,
    /// How to compare.
    pub op: LabelOp,
    /// What to compare with.
    pub values: Vec<String>,
}

/// One placement rule. Rules apply in the order of (group index, group id, index, id).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Rule {
    /// Group it belongs to.
    pub group_id: String,
    /// Its id in the group.
    pub id: String,
    /// Order in the group.
    pub index: i64,
    /// Whether it replaces the rules before it in its group.
    pub override_: bool,
    /// The keys it is about.
    pub range: KeyRange,
    /// Which peers it asks for.
    pub role: RuleRole,
    /// Whether those peers are witnesses.
    pub is_witness: bool,
    /// How many.
    pub count: u32,
    /// Conditions on the stores.
    pub constraints: Vec<LabelConstraint>,
    /// Labels that tell how far apart stores are, widest first.
    pub location_labels: Vec<String>,
    /// The label level at which peers must differ; empty: none.
    pub isolation_level: String,
    /// Grows with each change.
    pub version: u64,
    /// Wall time of its creation, Unix seconds.
    pub create_timestamp: u64,
}

/// Order and override of a whole group.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RuleGroup {
    /// Its id.
    pub id: String,
    /// Order among groups.
    pub index: i64,
    /// Whether it replaces the groups before it.
    pub override_: bool,
}

/// A label of a key range; an empty `ttl` holds for ever.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct RegionLabel {
    /// Name.
    pub key: String,
    /// Value.
    pub value: String,
    /// How long it holds, as given (a Go duration text); empty: for ever.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub ttl: String,
    /// From when, as given (RFC 3339); empty: from its creation.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub start_at: String,
    /// Until when, from `start_at` and `ttl`; `None`: for ever.
    #[serde(skip)]
    pub expires: Option<Wall>,
}

/// Labels for some key ranges. Of two rules that give the same label the one with the higher index wins.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RegionLabelRule {
    /// Its id.
    pub id: String,
    /// Order.
    pub index: i64,
    /// The labels.
    pub labels: Vec<RegionLabel>,
    /// The ranges.
    pub ranges: Vec<KeyRange>,
}
