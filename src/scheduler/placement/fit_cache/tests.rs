#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;

use super::*;
use crate::{
    model::{Epoch, LabelConstraint, LabelOp, Now, Peer, Role, RuleRole, StoreLabel},
    store::StoreTable,
};

type Stores = BTreeMap<StoreId, Arc<StoreInfo>>;

fn put(all: &StoreTable, id: u64, zone: &str) {
    let labels = vec![StoreLabel { key: "zone".into(), value: zone.into() }];
    all.put_record(Arc::new(StoreRecord { id: StoreId(id), labels, ..StoreRecord::default() }), Now::default());
}

fn five() -> StoreTable {
    let all = StoreTable::default();
    for (id, zone) in [(1, "a"), (2, "a"), (3, "b"), (4, "c"), (5, "c")] {
        put(&all, id, zone);
    }
    all
}

fn rules(count: u32) -> Arc<[Arc<Rule>]> {
    let rule = Rule { role: RuleRole::Voter, count, location_labels: vec!["zone".into()], ..Rule::default() };
    let learner = Rule {
        id: "learner".into(),
        role: RuleRole::Learner,
        count: 1,
        constraints: vec![LabelConstraint { key: "zone".into(), op: LabelOp::In, values: vec!["c".into()] }],
        ..Rule::default()
    };
    [Arc::new(rule), Arc::new(learner)].into()
}

fn region(id: u64, stores: &[u64]) -> Region {
    let peers = stores.iter().enumerate().map(|(i, s)| Peer::voter(id * 10 + i as u64, *s)).collect();
    let meta = RegionMeta { id: RegionId(id), peers, epoch: Epoch::new(1, 1), ..RegionMeta::default() };
    Region { meta: Arc::new(meta), leader: Some(PeerId(id * 10)), ..Region::default() }
}

#[test]
fn what_does_not_matter_to_a_fit_leaves_it_remembered() {
    let (cache, all, rules) = (FitCache::default(), five(), rules(3));
    let mut r = region(7, &[1, 2, 3, 4]);
    let first = cache.fit(&r, &rules, &all.snapshot());
    r.size_mib = 500;
    r.flow.bytes_written = 9;
    assert!(Arc::ptr_eq(&first, &cache.fit(&r, &rules, &all.snapshot())));
    // A record that is saved again, a report and another store's labels.
    put(&all, 1, "a");
    all.heartbeat(StoreId(2), crate::model::StoreStats::default(), 0, Now::default());
    put(&all, 5, "z");
    Arc::make_mut(&mut r.meta).epoch = Epoch::new(1, 9);
    assert!(Arc::ptr_eq(&first, &cache.fit(&r, &rules, &all.snapshot())));
    assert_eq!(cache.counts(), (2, 1));
}

#[test]
fn what_matters_to_a_fit_has_it_worked_out_again() {
    let (cache, all, three) = (FitCache::default(), five(), rules(3));
    let mut r = region(7, &[1, 2, 3, 4]);
    let mut told = 0;
    let mut ask = |r: &Region, rules: &Arc<[Arc<Rule>]>, stores: &Stores, what: &str| {
        told += 1;
        assert_eq!(*cache.fit(r, rules, stores), fit(r, rules, stores), "{what}");
        assert_eq!(cache.counts().1, told, "{what}");
    };
    ask(&r, &three, &all.snapshot(), "new");
    r.leader = Some(PeerId(71));
    ask(&r, &three, &all.snapshot(), "leader");
    r.down = vec![DownPeer { peer: PeerId(72), seconds: 9 }];
    ask(&r, &three, &all.snapshot(), "down");
    r.pending = vec![PeerId(73)];
    ask(&r, &three, &all.snapshot(), "pending");
    Arc::make_mut(&mut r.meta).peers[3].role = Role::Learner;
    ask(&r, &three, &all.snapshot(), "role");
    put(&all, 2, "b");
    ask(&r, &three, &all.snapshot(), "label");
    all.remove(StoreId(2));
    ask(&r, &three, &all.snapshot(), "store gone");
    put(&all, 2, "b");
    ask(&r, &three, &all.snapshot(), "store back");
    ask(&r, &rules(2), &all.snapshot(), "rules");
}

#[test]
fn the_memory_is_bounded_and_a_walk_over_more_regions_keeps_what_it_holds() {
    const BUCKETS: usize = 16;
    let most = SHARDS * WAYS * BUCKETS;
    let (cache, all, rules) = (FitCache::sized(BUCKETS), five().snapshot(), rules(3));
    let regions = 2 * most as u64;
    let walk = || (1..=regions).for_each(|id| drop(cache.fit(&region(id, &[1]), &rules, &all)));
    walk();
    assert!(cache.len() <= most && cache.len() > most * 9 / 10, "{} of {most}", cache.len());
    assert_eq!(cache.counts().0, 0);
    walk();
    assert_eq!(cache.counts().0, cache.len() as u64, "all that are kept are found");
    // Regions that are gone make room in time.
    for _ in 0..40 {
        (1..=regions / 4).for_each(|id| drop(cache.fit(&region(1_000_000 + id, &[1]), &rules, &all)));
    }
    let (before, _) = cache.counts();
    (1..=regions / 4).for_each(|id| drop(cache.fit(&region(1_000_000 + id, &[1]), &rules, &all)));
    let hits = cache.counts().0 - before;
    assert!(hits > regions / 4 * 9 / 10, "{hits} of {}", regions / 4);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever changes in whatever order, what is remembered is what would be worked out.
    #[test]
    fn a_remembered_fit_is_a_fresh_one(steps in prop::collection::vec((0..8u8, 0..5u64, 0..3usize), 1..60)) {
        let (cache, all) = (FitCache::default(), five());
        let lists = [rules(1), rules(2), rules(3)];
        let (mut regions, mut now) = (vec![region(1, &[1, 2, 3]), region(2, &[3, 4, 5]), region(65, &[1, 4])], 0);
        for (what, number, which) in steps {
            let r = &mut regions[which];
            let id = r.id().0 * 10;
            match what {
                0 => r.leader = Some(PeerId(id + number)),
                1 => r.down = vec![DownPeer { peer: PeerId(id + number), seconds: 1 }],
                2 => r.pending = vec![PeerId(id + number)],
                3 => (r.down, r.pending) = (vec![], vec![]),
                4 => Arc::make_mut(&mut r.meta).peers[0].store = StoreId(number + 1),
                5 => Arc::make_mut(&mut r.meta).peers[1].role = if number % 2 == 0 { Role::Learner } else { Role::Voter },
                6 => put(&all, number + 1, ["a", "b", "c"][which]),
                _ => now = which,
            }
            for r in &regions {
                prop_assert_eq!(&*cache.fit(r, &lists[now], &all.snapshot()), &fit(r, &lists[now], &all.snapshot()));
            }
        }
    }
}
