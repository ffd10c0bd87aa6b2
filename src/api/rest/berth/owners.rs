//! Who set the label rule that holds regions, and how long it still does.
//!
//! Owns: their form in explanations. Must not know: how explanations come to be.

use serde_json::{Value, json};

use super::super::label_owners::date;
use crate::{
    api::{
        App,
        rows::{self, SetBy},
    },
    model::{RegionLabelRule, Wall},
    scheduler::{checker::deny, explain::text::span, explain::why::Group, outcome::Reason, region_label::holds},
};

/// The rule that holds a group, as far as it is agreed now.
pub(super) struct Owner {
    id: String,
    by: Option<SetBy>,
    /// When its deny label ends; `None`: when somebody deletes it.
    ends: Option<Wall>,
    now: Wall,
}

impl Owner {
    /// Of the rule that holds a group; `None` for groups that no rule holds, and when the rule is gone meanwhile.
    pub(super) fn of(app: &App, group: &Group, now: Wall) -> Option<Self> {
        let Some(Reason::Denied { rule: id }) = group.why.reason() else { return None };
        let settings = app.cluster.settings();
        let by = app.meta.state().label_rules.get(id).and_then(|json| rows::label_set_by(json));
        Some(Self::new(settings.labels.get(id)?, by, now))
    }

    fn new(rule: &RegionLabelRule, by: Option<SetBy>, now: Wall) -> Self {
        let deny = rule.labels.iter().find(|l| holds(l, now) && deny::is_deny(&l.key, &l.value));
        Self { id: rule.id.clone(), by, ends: deny.and_then(|label| label.expires), now }
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "id": self.id,
            "set_by": self.by.as_ref().map(|by| json!({ "component": by.component, "ip": by.ip, "at": date(by.at()) })),
            "seconds_left": self.ends.map(|end| end.unix_seconds() - self.now.unix_seconds()),
            "expires_at": self.ends.map(date),
        })
    }

    /// `set by lightning from 10.0.0.9 at 2026-11-22T12:54:16Z, ends in 1m 30s`
    pub(super) fn text(&self) -> String {
        let by = match &self.by {
            Some(by) => format!("set by {} from {} at {}", by.component, by.ip, date(by.at())),
            None => "nobody knows who set it".to_owned(),
        };
        let left = |end: Wall| std::time::Duration::from_nanos(u64::try_from(end.0 - self.now.0).unwrap_or(0));
        match self.ends {
            Some(end) => format!("{by}, ends in {}", span(left(end))),
            None => format!("{by}, holds until it is deleted"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RegionLabel;

    #[test]
    fn a_rule_tells_who_set_it_and_how_long_it_holds() {
        // 2026-11-22 12:54:16 UTC.
        let now = Wall(1_795_352_056_000_000_000);
        let label = |key: &str, expires| RegionLabel {
            key: key.into(),
            value: "deny".into(),
            expires,
            ..RegionLabel::default()
        };
        let ends = Some(Wall(now.0 + 90_000_000_000));
        let labels = vec![label("schedule", Some(now)), label("merge_option", None), label("schedule", ends)];
        let mut rule = RegionLabelRule { id: "keep".into(), labels, ..RegionLabelRule::default() };
        let owner = Owner::new(&rule, Some(SetBy::new("lightning", "10.0.0.9", now)), now);
        assert_eq!(owner.text(), "set by lightning from 10.0.0.9 at 2026-11-22T12:54:16Z, ends in 1m 30s");
        assert_eq!(
            owner.json(),
            json!({
                "id": "keep",
                "set_by": { "component": "lightning", "ip": "10.0.0.9", "at": "2026-11-22T12:54:16Z" },
                "seconds_left": 90,
                "expires_at": "2026-11-22T12:55:46Z",
            })
        );
        rule.labels = vec![label("schedule", None)];
        let owner = Owner::new(&rule, None, now);
        assert_eq!(owner.text(), "nobody knows who set it, holds until it is deleted");
        assert_eq!(owner.json(), json!({ "id": "keep", "set_by": null, "seconds_left": null, "expires_at": null }));
    }
}
