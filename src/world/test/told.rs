//! What a scenario can expect of explanations: what people are told of a drain or of a region.
//!
//! Owns: reading these expectations, comparing. Must not know: how explanations come to be.

use super::{Wanted, wanted};
use crate::{
    model::{RegionId, StoreId},
    scheduler::explain::{
        drain::DrainReport,
        region::{RegionReport, Said},
        remedy::remedy,
        why::Group,
    },
    world::{script::Words, world::World},
};

/// See the module's comment.
#[derive(Clone, PartialEq, Debug)]
pub enum Told {
    /// `drain N limit NAME`: what its speed depends on.
    Limit(StoreId, String),
    /// `drain N left = K`
    Left(StoreId, Wanted),
    /// `drain N held REASON = K`: regions in the groups of this name.
    Held(StoreId, String, Wanted),
    /// `drain N says REASON TEXT`, `drain N remedy REASON TEXT`: the sentence of a group of this name, or its remedy, holds the text.
    Says(StoreId, bool, String, String),
    /// `drain N adds up`: the groups together are what is left, what is left is what the index knows, and each has a remedy.
    AddsUp(StoreId),
    /// `region N refused STORE by FILTER`: a candidate of its choice, and the filter that refuses it.
    Refused(RegionId, StoreId, String),
    /// `region N takes STORE`: a candidate that nothing refuses.
    Takes(RegionId, StoreId),
    /// `region N said healthy|proposed|REASON`: what its checker says now.
    Said(RegionId, String),
}

impl Told {
    /// Reads what follows `drain`.
    pub(super) fn read_drain(words: &mut Words<'_>) -> Result<Self, String> {
        let id = words.store()?;
        Ok(match words.next() {
            "limit" => Told::Limit(id, words.next().to_owned()),
            "left" => Told::Left(id, wanted(words)?),
            "held" => Told::Held(id, words.next().to_owned(), wanted(words)?),
            what @ ("says" | "remedy") => Told::Says(id, what == "remedy", words.next().to_owned(), words.rest()),
            "adds" if words.take("up") => Told::AddsUp(id),
            other => return Err(format!("`{other}` is nothing of a drain")),
        })
    }

    /// Reads what follows `region N`, when it is about an explanation.
    pub(super) fn read_region(id: RegionId, words: &mut Words<'_>) -> Result<Option<Self>, String> {
        Ok(Some(if words.take("refused") {
            let store = words.store()?;
            if !words.take("by") {
                return Err("`region N refused STORE by FILTER`".into());
            }
            Told::Refused(id, store, words.next().to_owned())
        } else if words.take("takes") {
            Told::Takes(id, words.store()?)
        } else if words.take("said") {
            Told::Said(id, words.next().to_owned())
        } else {
            return Ok(None);
        }))
    }

    /// Whether it holds, and what was found.
    pub(super) fn ask(&self, world: &World) -> (bool, String) {
        match self {
            Told::Limit(id, ..) | Told::Left(id, ..) | Told::Held(id, ..) | Told::Says(id, ..) | Told::AddsUp(id) => {
                match world.control.cluster().explain_drain(*id, world.now()) {
                    Some(report) => self.ask_drain(world, &report),
                    None => (false, "nothing: the store is unknown".to_owned()),
                }
            }
            Told::Refused(id, ..) | Told::Takes(id, ..) | Told::Said(id, ..) => {
                match world.control.cluster().explain_region(*id, world.now()) {
                    Some(report) => self.ask_region(&report),
                    None => (false, "nothing: the region is unknown".to_owned()),
                }
            }
        }
    }

    fn ask_drain(&self, world: &World, report: &DrainReport) -> (bool, String) {
        let of = |name: &str| report.groups.iter().filter(|group| group.why.name() == name).collect::<Vec<_>>();
        match self {
            Told::Limit(_, name) => (report.binding.name() == name, report.binding.name().to_owned()),
            Told::Left(_, wanted) => (wanted.holds(report.regions_left), report.regions_left.to_string()),
            Told::Held(_, name, wanted) => {
                (wanted.holds(of(name).iter().map(|group| group.regions).sum()), all_groups(report))
            }
            Told::Says(_, is_remedy, name, text) => {
                let say = |group: &Group| if *is_remedy { remedy(group) } else { group.says() };
                let said: Vec<String> = of(name).into_iter().map(say).collect();
                let found = if said.is_empty() { all_groups(report) } else { said.join("; ") };
                (said.iter().any(|said| said.contains(text)), found)
            }
            _ => {
                let sum: u64 = report.groups.iter().map(|group| group.regions).sum();
                let known = world.control.cluster().regions().summary(report.store).region_count;
                let counted = known == 0 || report.regions_left == known;
                let helped = report.groups.iter().all(|group| !remedy(group).is_empty());
                let found =
                    format!("{sum} in groups, {} left, {known} known: {}", report.regions_left, all_groups(report));
                (sum == report.regions_left && counted && helped, found)
            }
        }
    }

    fn ask_region(&self, report: &RegionReport) -> (bool, String) {
        match self {
            Told::Said(_, wanted) => {
                let said = match &report.said {
                    Said::Healthy => "healthy",
                    Said::WouldRun(_) => "proposed",
                    Said::Blocked(reason) => reason.name(),
                };
                (said == wanted, said.to_owned())
            }
            Told::Refused(_, store, filter) => {
                let found = refusals(report, *store);
                (found.iter().flatten().any(|name| name == filter), format!("{found:?}"))
            }
            Told::Takes(_, store) => {
                let found = refusals(report, *store);
                (found.iter().any(Vec::is_empty), format!("{found:?}"))
            }
            _ => (false, String::new()),
        }
    }
}

/// The filters that refuse a store, for each choice in which it is a candidate.
fn refusals(report: &RegionReport, store: StoreId) -> Vec<Vec<&'static str>> {
    let all = report.choices.iter().flat_map(|(_, candidates)| candidates).filter(|one| one.store == store);
    all.map(|one| one.refused.iter().map(|refusal| refusal.name()).collect()).collect()
}

fn all_groups(report: &DrainReport) -> String {
    let text = |group: &Group| format!("{} {} ({})", group.regions, group.why.name(), group.detail);
    report.groups.iter().map(text).collect::<Vec<_>>().join(", ")
}
