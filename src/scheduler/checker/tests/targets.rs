//! The choice of a store against a look at all of them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use rand::{Rng, SeedableRng, seq::SliceRandom};

use super::*;
use crate::scheduler::filter::{Wanted, choose_target};

/// One store as the oracle sees it.
struct Seen {
    id: u64,
    zone: &'static str,
    host: &'static str,
    disk: &'static str,
    engine: bool,
    up: bool,
    busy: bool,
}

/// What two stores are worth apart under the labels zone, host.
fn apart(a: &Seen, b: &Seen) -> f64 {
    if a.zone != b.zone {
        100.0
    } else if a.host != b.host {
        1.0
    } else {
        0.0
    }
}

fn holds(seen: &Seen, constraint: &LabelConstraint) -> bool {
    let value = match constraint.key.as_str() {
        "disk" => seen.disk,
        "zone" => seen.zone,
        _ => "",
    };
    let listed = constraint.values.iter().any(|v| v == value);
    match constraint.op {
        LabelOp::In => listed,
        LabelOp::NotIn => value.is_empty() || !listed,
        LabelOp::Exists => !value.is_empty(),
        LabelOp::NotExists => value.is_empty(),
    }
}

#[test]
fn the_target_is_one_that_a_look_at_everything_finds() {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(5);
    let (mut found, mut none, mut busy) = (0, 0, 0);
    for _ in 0..2000 {
        let mut w = world(8);
        let pick = |rng: &mut rand_chacha::ChaCha8Rng, from: &[&'static str]| from[rng.random_range(0..from.len())];
        let stores: Vec<Seen> = (1..=8)
            .map(|id| Seen {
                id,
                zone: pick(&mut rng, &["a", "b", "c"]),
                host: pick(&mut rng, &["x", "y", "z"]),
                disk: pick(&mut rng, &["ssd", "hdd", ""]),
                engine: rng.random_range(0..8) == 0,
                up: rng.random_range(0..6) > 0,
                busy: rng.random_range(0..5) == 0,
            })
            .collect();
        for s in &stores {
            let mut labels = vec![("zone", s.zone), ("host", s.host)];
            labels.extend((!s.disk.is_empty()).then_some(("disk", s.disk)));
            labels.extend(s.engine.then_some(("engine", "tiflash")));
            w.put_store(s.id, if s.up { StoreState::Up } else { StoreState::Offline }, &labels);
            let stats = crate::model::StoreStats {
                is_busy: s.busy,
                capacity: 1 << 40,
                available: 1 << 39,
                ..Default::default()
            };
            w.hear_store(StoreId(s.id), stats);
        }
        let mut ids: Vec<u64> = (1..=8).collect();
        ids.shuffle(&mut rng);
        let region = World::region(1, &ids[..rng.random_range(1..=3)]);
        let value = |v: &str| v.to_owned();
        let constraints: Vec<LabelConstraint> = match rng.random_range(0..6) {
            0 => vec![],
            1 => vec![LabelConstraint { key: value("disk"), op: LabelOp::In, values: vec![value("ssd")] }],
            2 => vec![LabelConstraint { key: value("disk"), op: LabelOp::NotIn, values: vec![value("hdd")] }],
            3 => vec![LabelConstraint { key: value("disk"), op: LabelOp::Exists, values: vec![] }],
            4 => vec![LabelConstraint { key: value("disk"), op: LabelOp::NotExists, values: vec![] }],
            _ => vec![LabelConstraint { key: value("zone"), op: LabelOp::In, values: vec![value("a"), value("b")] }],
        };
        let isolation = ["", "zone", "host"][rng.random_range(0..3)];
        let levels = [value("zone"), value("host")];
        let beside: Vec<&Seen> = stores.iter().filter(|s| region.meta.peer_on(StoreId(s.id)).is_some()).collect();
        let score = |s: &Seen| beside.iter().map(|b| apart(s, b)).sum::<f64>();
        let isolated = |s: &Seen| match isolation {
            "zone" => beside.iter().all(|b| b.zone != s.zone),
            "host" => beside.iter().all(|b| apart(s, b) > 0.0),
            _ => true,
        };
        let fits = |s: &&Seen| {
            s.up && !s.engine
                && region.meta.peer_on(StoreId(s.id)).is_none()
                && constraints.iter().all(|c| holds(s, c))
                && isolated(s)
        };
        let most = stores.iter().filter(fits).map(score).fold(f64::NEG_INFINITY, f64::max);
        let best: Vec<u64> = stores.iter().filter(fits).filter(|s| score(s) >= most && !s.busy).map(|s| s.id).collect();
        let any = stores.iter().any(|s| fits(&s));
        w.with_view(|view, controller, _, _| {
            let beside: Vec<_> = beside.iter().map(|s| &*view.stores[&StoreId(s.id)]).collect();
            let wanted = Wanted {
                region: &region,
                constraints: &constraints,
                location_labels: &levels,
                isolation_level: isolation,
                beside: &beside,
                better_than: None,
            };
            match choose_target(view, controller, &wanted) {
                Ok(store) => {
                    assert!(best.contains(&store.0), "{store} of {best:?}");
                    found += 1;
                }
                Err(Reason::TargetBusy { .. }) => {
                    assert!(any && best.is_empty());
                    busy += 1;
                }
                Err(Reason::NoTarget { .. }) => {
                    assert!(!any);
                    none += 1;
                }
                Err(other) => panic!("{other:?}"),
            }
        });
    }
    assert!(found > 200 && none > 50 && busy > 50, "{found} {none} {busy}");
}
