//! Random steps against the list.

use proptest::prelude::*;

use super::*;

/// One random step.
#[derive(Clone, Debug)]
enum Step {
    /// A report made of anything.
    Report {
        id: u64,
        start: u16,
        end: u16,
        conf_ver: u64,
        version: u64,
        term: u64,
        look: Look,
    },
    /// The region at this place splits at this key, as a node reports it: both parts with the next version.
    Split {
        place: usize,
        at: u16,
        new_id: u64,
    },
    /// The region at this place takes over its next neighbour.
    Merge {
        place: usize,
    },
    /// The region at this place reports again with other numbers.
    Again {
        place: usize,
        look: Look,
    },
    Remove {
        id: u64,
    },
    ForgetHeard,
    Clear,
}

/// What a report may differ in while the region stays in place.
#[derive(Clone, Debug)]
struct Look {
    leader: usize,
    size: u64,
    keys: u64,
    roles: [u8; 3],
    stores: u64,
    pending: bool,
    down: bool,
    witness: bool,
    heard: bool,
}

impl Look {
    fn put_on(&self, region: &mut Region) {
        let meta = Arc::make_mut(&mut region.meta);
        for (at, peer) in meta.peers.iter_mut().enumerate() {
            peer.role =
                [Role::Voter, Role::Learner, Role::IncomingVoter, Role::DemotingVoter][usize::from(self.roles[at])];
            peer.store = StoreId((self.stores + at as u64) % STORES + 1);
            peer.is_witness = self.witness && at == 2;
        }
        let ids: Vec<_> = meta.peers.iter().map(|p| p.id).collect();
        region.leader = ids.get(self.leader).copied();
        (region.size_mib, region.keys) = (self.size, self.keys);
        region.kv_size_mib = self.size / 2;
        region.pending = ids.iter().copied().skip(1).filter(|_| self.pending).collect();
        region.down = ids.iter().map(|&peer| DownPeer { peer, seconds: 9 }).take(usize::from(self.down)).collect();
        region.heard = self.heard.then_some(Mono(2));
    }
}

fn look() -> impl Strategy<Value = Look> {
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    let size = prop_oneof![Just(0), Just(1), 2..200_u64, Just(MAX_REGION_NUMBER)];
    (0..4_usize, size, 0..1000_u64, [0..4_u8, 0..4, 0..4], 0..STORES, flags).prop_map(
        |(leader, size, keys, roles, stores, (pending, down, witness, heard))| Look {
            leader,
            size,
            keys,
            roles,
            stores,
            pending,
            down,
            witness,
            heard,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let place = 0..KEYS as usize;
    prop_oneof![
        4 => (1..30_u64, 0..KEYS, 0..=KEYS, (1..4_u64, 1..6_u64), 0..3_u64, look()).prop_map(
            |(id, start, end, (conf_ver, version), term, look)| Step::Report { id, start, end, conf_ver, version, term, look }
        ),
        8 => (place.clone(), 1..KEYS, 100..200_u64).prop_map(|(place, at, new_id)| Step::Split { place, at, new_id }),
        4 => place.clone().prop_map(|place| Step::Merge { place }),
        6 => (place, look()).prop_map(|(place, look)| Step::Again { place, look }),
        1 => (1..30_u64).prop_map(|id| Step::Remove { id }),
        1 => Just(Step::ForgetHeard),
        1 => prop::bool::weighted(0.1).prop_map(|clear| if clear { Step::Clear } else { Step::ForgetHeard }),
    ]
}

impl Step {
    /// The reports that this step makes of what is known.
    fn reports(&self, naive: &Naive) -> Vec<Region> {
        let pick = |place: usize| (!naive.0.is_empty()).then(|| naive.0[place % naive.0.len()].clone());
        match self {
            Step::Report { id, start, end, conf_ver, version, term, look } => {
                let mut report = region(*id, *start, *end, *conf_ver, *version);
                report.term = *term;
                look.put_on(&mut report);
                vec![report]
            }
            Step::Split { place, at, new_id } => {
                let Some(mut left) = pick(*place).filter(|r| r.range().contains(&key(*at))) else { return vec![] };
                let mut right = region(*new_id, 0, 0, left.epoch().conf_ver, left.epoch().version + 1);
                Arc::make_mut(&mut right.meta).range = KeyRange { start: key(*at), end: left.range().end.clone() };
                let meta = Arc::make_mut(&mut left.meta);
                meta.range.end = key(*at);
                meta.epoch.version += 1;
                vec![right, left]
            }
            Step::Merge { place } => {
                let Some(mut target) = pick(*place) else { return vec![] };
                let next =
                    naive.0.iter().find(|r| !target.range().end.is_empty() && r.range().start == target.range().end);
                let Some(next) = next else { return vec![] };
                let meta = Arc::make_mut(&mut target.meta);
                meta.range.end = next.range().end.clone();
                meta.epoch.version = meta.epoch.version.max(next.epoch().version) + 1;
                vec![target]
            }
            Step::Again { place, look } => pick(*place)
                .map(|mut region| {
                    look.put_on(&mut region);
                    region
                })
                .into_iter()
                .collect(),
            Step::Remove { .. } | Step::ForgetHeard | Step::Clear => vec![],
        }
    }
}

fn run(index: &RegionIndex, naive: &mut Naive, step: &Step) {
    match step {
        Step::Remove { id } => {
            let known = naive.0.iter().any(|r| r.id() == RegionId(*id));
            assert_eq!(index.remove(RegionId(*id)).is_some(), known);
            naive.0.retain(|r| r.id() != RegionId(*id));
        }
        Step::ForgetHeard => {
            index.forget_heard();
            naive.0.iter_mut().for_each(|r| r.heard = None);
        }
        Step::Clear => {
            index.clear();
            naive.0.clear();
        }
        _ => {}
    }
    for report in step.reports(naive) {
        let before = naive.0.iter().find(|r| r.id() == report.id()).cloned();
        match (index.apply(report.clone()), naive.apply(report.clone())) {
            (Ok(applied), Ok(left)) => {
                assert_eq!(applied.removed.iter().map(|r| r.id()).collect::<Vec<_>>(), left);
                assert_eq!(applied.origin.as_deref(), before.as_ref());
                assert_eq!(applied.changes.is_new, before.is_none());
                assert_eq!(applied.changes.save, before.is_none_or(|b| b.meta != report.meta));
            }
            (Err(stale), Err(())) => assert!(stale.to_string().starts_with("region is stale: region id:")),
            (found, wanted) => panic!("{report:?}: {found:?}, wanted {wanted:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn h2_every_read_equals_a_search_of_the_whole_list(
        steps in prop::collection::vec(step(), 1..120),
        bounds in (0..KEYS, 0..=KEYS),
    ) {
        let (index, mut naive) = (small(), Naive::default());
        index.apply(region(1, 0, KEYS, 1, 1)).unwrap();
        naive.apply(region(1, 0, KEYS, 1, 1)).unwrap();
        for (at, step) in steps.iter().enumerate() {
            run(&index, &mut naive, step);
            if at % 16 == 0 {
                assert_same(&index, &naive, bounds);
            }
        }
        assert_same(&index, &naive, bounds);
    }
}
