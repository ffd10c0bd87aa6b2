//! What is told of the operators of schedulers: who made them and how their stores were chosen.

use super::*;
use crate::scheduler::{
    controller::journal::{Maker, Past},
    effect::{Effect, Event},
};

/// The histories of the operators that started.
fn histories(world: &World, out: &[Effect]) -> Vec<Past> {
    let started = out.iter().filter_map(|effect| match effect {
        Effect::Tell(Event::OperatorAdded { op }) => Some(op.id),
        _ => None,
    });
    started.map(|id| world.controller.history_by_id(id).unwrap()).collect()
}

/// What schedulers of this list start at their first looks.
fn started(world: &mut World, list: Vec<Spec>, seed: u64) -> Vec<Past> {
    let mut schedulers = Schedulers::new(seed);
    schedulers.set(list, Now::default());
    let out = world.with_view(|view, controller, _, out| schedulers.tick(view, controller, out));
    histories(world, &out)
}

#[test]
fn operators_of_schedulers_are_known_by_their_scheduler_and_tell_the_choice() {
    let named = |past: &Past| (past.journal.cause.maker, past.journal.cause.name.clone());
    let mut world = World::new(5);
    unlimited(&mut world, 5);
    world.put_store(2, StoreState::Up, &[("$mode", "x")]);
    world.fill(30, |_| vec![1, 3, 5]);
    let found = started(&mut world, vec![plain(Kind::BalanceRegion)], 1);
    let [past] = &found[..] else { panic!("one operator") };
    assert_eq!(named(past), (Maker::Scheduler, "balance-region-scheduler".to_owned()));
    let choice = past.journal.choice.as_ref().expect("a choice");
    assert_eq!(choice.chosen, Some(StoreId(4)));
    assert_eq!(choice.scores.first().map(|(store, _)| *store), Some(StoreId(4)), "less is better");
    assert!(choice.refused["label-constraint-filter"].contains(&StoreId(2)), "{choice:?}");
    assert!(past.op.info.contains_key("sourceScore") && past.op.choice.is_none(), "{:?}", past.op);

    let mut world = led_by_one(40);
    world.stores.update(StoreId(3), |s| s.pause_leader_in = 1);
    let found = started(&mut world, vec![plain(Kind::BalanceLeader)], 1);
    let [past, ..] = &found[..] else { panic!("operators") };
    let choice = past.journal.choice.as_ref().expect("a choice");
    assert_eq!((choice.chosen, choice.scores.len()), (Some(StoreId(2)), 1));
    assert_eq!(choice.refused, BTreeMap::from([("store-state-pause-leader-filter", vec![StoreId(3)])]));

    // By its kind this one would be a person's.
    let mut world = led_by_one(40);
    let past = (0..20)
        .find_map(|seed| started(&mut world, vec![plain(Kind::ShuffleLeader)], seed).pop())
        .expect("an operator");
    assert!(past.op.kind.has(OperatorKind::ADMIN));
    assert_eq!(named(&past), (Maker::Scheduler, "shuffle-leader-scheduler".to_owned()));

    let mut world = one_empty(30);
    let range = spec(Kind::ScatterRange, &["", "", "t1"], json!({}));
    let found = started(&mut world, vec![range], 1);
    let [past, ..] = &found[..] else { panic!("an operator") };
    assert_eq!(named(past).1, "scatter-range-scheduler-t1");
}

#[test]
fn scattered_regions_tell_the_call_and_what_the_group_had_given() {
    let mut world = World::new(5);
    unlimited(&mut world, 5);
    world.put_store(5, StoreState::Up, &[("specialUse", "reserved")]);
    world.fill(2, |_| vec![1, 2, 3]);
    let mut scatterer = Scatterer::default();
    for at in 1..=2 {
        let region = world.get(at * 10);
        let by = By::call("scatter", "tidb (10.0.0.9)");
        let out = world.with_view(|view, controller, _, out| {
            let under_way = (&*controller as _, &HotPeers::default());
            if let Some(op) = scatterer.scatter(view, under_way, &region, "t", false).unwrap() {
                controller.add(view, vec![op], &by, out).unwrap();
            }
        });
        if let Some(past) = histories(&world, &out).into_iter().next() {
            let cause = &past.journal.cause;
            assert_eq!((cause.maker, cause.name.as_str()), (Maker::Call, "scatter"));
            assert_eq!(cause.caller, "tidb (10.0.0.9)");
            let choice = past.journal.choice.expect("a choice");
            assert_eq!((choice.chosen, choice.scores), (Some(StoreId(4)), vec![(StoreId(4), 0.0)]));
            assert_eq!(choice.refused["special-use-filter"], [StoreId(5)]);
            return;
        }
    }
    panic!("no peer was moved");
}

/// The choice of an operator, which must be of the store that it goes to.
fn choice_of(op: &Operator) -> &crate::scheduler::filter::Choice {
    let choice = op.choice.as_deref().unwrap_or_else(|| panic!("no choice: {}", op.text()));
    let to = choice.chosen.unwrap();
    assert!(op.brief.ends_with(&format!(" to {to}")) || op.brief.ends_with(&format!(" to [{to}]")), "{}", op.text());
    assert!(choice.scores.iter().any(|(store, _)| *store == to), "{choice:?}");
    choice
}

#[test]
fn every_scheduler_tells_its_choice() {
    let mut world = led_by_one(40);
    world.stores.update(StoreId(3), |s| s.pause_leader_in = 1);
    let (ops, _) = once(&mut world, &spec(Kind::GrantLeader, &[], json!({"store_id": 2})), 1);
    let choice = choice_of(&ops[0]);
    assert_eq!(choice.scores, [(StoreId(2), 0.0)], "with the leaders that it has");
    assert_eq!(choice.refused["store-state-pause-leader-filter"], [StoreId(3)]);
    let (ops, _) =
        (0..20).map(|seed| once(&mut world, &plain(Kind::ShuffleLeader), seed)).find(|r| !r.0.is_empty()).unwrap();
    assert_eq!(choice_of(&ops[0]).refused["store-state-pause-leader-filter"], [StoreId(3)]);
    let (ops, _) = once(&mut one_empty(30), &plain(Kind::ShuffleRegion), 5);
    assert_eq!(choice_of(&ops[0]).refused["exclude-filter"].len(), 2);
    for kind in [Kind::BalanceLeader, Kind::EvictLeader] {
        let config = if kind == Kind::EvictLeader { json!({"store_id": 1}) } else { json!({}) };
        once(&mut world, &spec(kind, &[], config), 1).0.iter().for_each(|op| _ = choice_of(op));
    }
}
