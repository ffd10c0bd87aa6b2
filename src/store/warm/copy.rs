//! How a follower takes parts in.
//!
//! Owns: how far this follower is, since when its copy is whole, what leaves the index. Must not know: where parts come from.

use std::{collections::HashSet, ops::ControlFlow, sync::Arc};

use super::{CONNECTED_FOR, FRESH_FOR, MAX_REGIONS, Part, Position, Span};
use crate::{
    model::{Key, Mono, Now, Region, RegionId, StoreId},
    store::{RegionIndex, Stale, StoreTable},
};

/// A part that does not follow on what is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CopyError {
    /// Of a full copy a run is missing, or it has not begun.
    #[error("a part of the copy is missing")]
    Gap,
    /// This member leads.
    #[error("this member leads")]
    Leads,
}

/// What a part changed in the index.
#[derive(Debug, Default)]
pub struct Taken {
    /// Regions whose rows in the cache on disk differ.
    pub saved: Vec<Arc<Region>>,
    /// Regions that left.
    pub gone: Vec<RegionId>,
    /// Regions as they are now, for who follows hot peers; with each, whether its traffic is of a report that was not known.
    pub told: Vec<(Arc<Region>, bool)>,
    /// Stores with a report that was not known.
    pub reported: Vec<StoreId>,
}

/// What a follower waits for in a full copy.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Expects {
    /// The run that begins here.
    Run(Key),
    /// All runs are here: the other stores.
    Stores,
}

/// How far this follower's copy is.
#[derive(Clone, Debug, Default)]
pub struct Copy {
    /// Where it goes on; `None` before the end of the first full copy.
    position: Option<Position>,
    /// In a full copy: its term and what comes next.
    expects: Option<(u64, Expects)>,
    head: u64,
    heard_at: Option<Mono>,
    whole_at: Option<Mono>,
    full_copies: u64,
}

impl Copy {
    /// Where the leader should go on; `None`: from the beginning.
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// When the last part came.
    pub fn heard_at(&self) -> Option<Mono> {
        self.heard_at
    }

    /// When it was last known to be whole.
    pub fn whole_at(&self) -> Option<Mono> {
        self.whole_at
    }

    /// Whether the leader was heard a moment ago.
    pub fn is_connected(&self, now: Mono) -> bool {
        self.heard_at.is_some_and(|at| now.since(at) <= CONNECTED_FOR)
    }

    /// How many changes it was behind when the last part came.
    pub fn lag(&self) -> u64 {
        self.position.map_or(0, |at| self.head.saturating_sub(at.next))
    }

    /// How many full copies have ended here.
    pub fn full_copies(&self) -> u64 {
        self.full_copies
    }

    /// Whether what is known is as good as heard.
    pub fn is_fresh(&self, now: Mono) -> bool {
        self.whole_at.is_some_and(|at| now.since(at) <= FRESH_FOR)
    }

    /// Nothing is known of any leader: this member leads itself.
    pub fn reset(&mut self) {
        *self = Self { full_copies: self.full_copies, ..Self::default() };
    }

    /// Takes a part in. What is known of a region by a newer epoch or term stays.
    ///
    /// # Errors
    /// The part does not follow on what is there. The copy begins anew then.
    pub fn take(
        &mut self,
        part: &Part,
        regions: &RegionIndex,
        stores: &StoreTable,
        now: Now,
    ) -> Result<Taken, CopyError> {
        self.check(part).inspect_err(|_| self.reset())?;
        let mut taken = Taken::default();
        let mut newer = HashSet::new();
        for region in &part.regions {
            let copied = Region { heard: region.heard.map(|_| now.mono), ..Region::clone(region) };
            if let Err(stale) = take_region(copied, regions, &mut taken) {
                newer.insert(stale.origin.id());
            }
        }
        for row in &part.flows {
            let Some(known) = regions.get(row.id) else { continue };
            let copied = Region { heard: Some(now.mono), flow: row.flow, ..Region::clone(&known) };
            // It is what is known, but for the traffic.
            drop(take_region(copied, regions, &mut taken));
        }
        let left = part.gone.iter().filter(|id| regions.remove(**id).is_some());
        taken.gone.extend(left);
        for row in &part.stores {
            let moved_mib = regions.moved_mib(row.id);
            if stores.copy_report(row.id, (&row.stats, moved_mib), (row.silent, row.at), now) {
                taken.reported.push(row.id);
            }
        }
        if let Some(span) = &part.span {
            let told = part.regions.iter().map(|region| region.id());
            newer.extend(told);
            drop_others(regions, span, &newer, &mut taken);
        }
        // A region that left may have come back with the same part.
        taken.gone.retain(|id| regions.get(*id).is_none());
        self.go_on(part, now);
        Ok(taken)
    }

    fn check(&self, part: &Part) -> Result<(), CopyError> {
        let follows = match (&part.span, &self.expects) {
            (Some(span), _) if span.from.is_empty() => true,
            (Some(span), Some((term, Expects::Run(key)))) => *term == part.term && *key == span.from,
            (Some(_), _) | (None, Some((_, Expects::Run(_)))) => false,
            (None, Some((term, Expects::Stores))) => *term == part.term,
            (None, None) => self.position.is_some_and(|at| at.term == part.term),
        };
        if follows { Ok(()) } else { Err(CopyError::Gap) }
    }

    fn go_on(&mut self, part: &Part, now: Now) {
        self.heard_at = Some(now.mono);
        self.head = part.head;
        let position = Position { term: part.term, next: part.next };
        match &part.span {
            Some(span) if !span.until.is_empty() => {
                self.position = None;
                self.expects = Some((part.term, Expects::Run(span.until.clone())));
            }
            _ if part.more_stores => {
                self.position = None;
                self.expects = Some((part.term, Expects::Stores));
            }
            last => {
                self.full_copies += u64::from(last.is_some() || self.expects.is_some());
                (self.position, self.expects) = (Some(position), None);
            }
        }
        if part.whole {
            self.whole_at = Some(now.mono);
        }
    }
}

/// Takes one region in.
fn take_region(copied: Region, regions: &RegionIndex, taken: &mut Taken) -> Result<(), Stale> {
    let applied = regions.apply(copied)?;
    taken.gone.extend(applied.removed.iter().map(|gone| gone.id()));
    let told_until = applied.origin.as_ref().map_or(0, |origin| origin.flow.interval.1);
    taken.told.push((applied.region.clone(), applied.region.flow.interval.1 > told_until));
    if applied.changes.save {
        taken.saved.push(applied.region);
    }
    Ok(())
}

/// Takes out what starts in a run and was not told, but for what is newer than what was told.
fn drop_others(regions: &RegionIndex, span: &Span, told: &HashSet<RegionId>, taken: &mut Taken) {
    let mut from = span.from.clone();
    let starts_here = |region: &Region| {
        let start = &region.range().start;
        *start >= span.from && (span.until.is_empty() || *start < span.until)
    };
    loop {
        let page = regions.iter_from(&from, MAX_REGIONS);
        let next = page.last().map(|last| last.range().end.clone());
        let dropped = page.iter().try_for_each(|region| {
            if !span.until.is_empty() && region.range().start >= span.until {
                return ControlFlow::Break(());
            }
            if starts_here(region) && !told.contains(&region.id()) && regions.remove(region.id()).is_some() {
                taken.gone.push(region.id());
            }
            ControlFlow::Continue(())
        });
        match next {
            Some(key) if dropped.is_continue() && !key.is_empty() => from = key,
            _ => return,
        }
    }
}
