//! One region: what its checker says now, and every store under every filter.
//!
//! Owns: asking the checker without letting it take anything. Must not know: how it is shown (`text`).

use std::sync::Arc;

use super::{
    Known,
    why::{Group, Groups, Why},
};
use crate::{
    model::{PeerId, Region, RegionId},
    scheduler::{
        checker::check_with,
        controller::journal::Past,
        filter::{Candidate, Choice, Lens},
        operator::Operator,
        outcome::{Outcome, Reason},
        patrol::Waits,
        region_label::LabelIndex,
        view::{ClusterView, IdSource, Settings},
    },
};

/// What the checker says.
#[derive(Clone, PartialEq, Debug)]
pub enum Said {
    /// Nothing is wrong.
    Healthy,
    /// It would run these now: description and steps. Ids of new peers are given when an operator is made, and show as 0.
    WouldRun(Vec<(String, Vec<String>)>),
    /// It is refused.
    Blocked(Reason),
}

/// A region, explained.
#[derive(Clone, Debug)]
pub struct RegionReport {
    /// The region.
    pub region: Arc<Region>,
    /// What the checker says now.
    pub said: Said,
    /// How it waits, if a list knows it.
    pub waits: Option<Waits>,
    /// Its running operator.
    pub running: Option<Past>,
    /// Each choice of a store that the check made, and every store under every filter.
    pub choices: Vec<(Choice, Vec<Candidate>)>,
    /// The check did not come to a choice; these are the choices it would make if no limit, label, halt or operator held it.
    pub as_if_free: bool,
}

/// Ids for operators that are never started.
struct Unnumbered;

impl IdSource for Unnumbered {
    fn next_peer_id(&self) -> Option<PeerId> {
        Some(PeerId(0))
    }
}

/// Explains a region; `None` when it is unknown.
pub fn region(known: &Known<'_>, id: RegionId) -> Option<RegionReport> {
    let region = known.view.regions.get(id)?;
    let view = ClusterView { ids: &Unnumbered, ..*known.view };
    let lens = Lens::new(known.controller).in_full();
    let said = said(check_with(&view, &lens, known.patrol.memory(), &region));
    let mut choices = lens.into_judged();
    let as_if_free = choices.is_empty() && said != Said::Healthy;
    if as_if_free {
        let settings = unheld(view.settings);
        let view = ClusterView { settings: &settings, ..view };
        let lens = Lens::new(known.controller).in_full().with_replica_room(true).as_idle();
        let _ = check_with(&view, &lens, known.patrol.memory(), &region);
        choices = lens.into_judged();
    }
    let said = if known.prepared || said == Said::Healthy { said } else { Said::Blocked(Reason::NotPrepared) };
    Some(RegionReport {
        said,
        waits: known.patrol.waits(&region, view.now.mono),
        running: known.controller.history(Some(id), None, 1).into_iter().find(|past| !past.op.status.is_end()),
        choices,
        as_if_free,
        region,
    })
}

fn said(outcome: Outcome) -> Said {
    match outcome {
        Outcome::Healthy => Said::Healthy,
        Outcome::Blocked(reason) => Said::Blocked(reason),
        Outcome::Propose(ops) => {
            let steps = |op: &Operator| op.steps.iter().map(ToString::to_string).collect();
            Said::WouldRun(ops.iter().map(|op| (op.desc.clone(), steps(op))).collect())
        }
    }
}

/// The settings without what only holds things back.
fn unheld(settings: &Settings) -> Settings {
    let mut schedule = (*settings.schedule).clone();
    schedule.halt_scheduling = false;
    Settings { schedule: Arc::new(schedule), labels: Arc::new(LabelIndex::default()), ..settings.clone() }
}

impl RegionReport {
    /// The refusal as a group of one region, for its sentence and its remedy.
    pub fn refusal(&self) -> Option<Group> {
        let Said::Blocked(reason) = &self.said else { return None };
        let mut groups = Groups::default();
        let since = self.waits.as_ref().map(|w| w.since).unwrap_or_default();
        groups.add(self.region.id(), &Why::Blocked(Arc::new(reason.clone())), since);
        groups.into_sorted().pop()
    }
}
