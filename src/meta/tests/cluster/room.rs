//! How much waits for a member that takes nothing in.

use std::task::{Context, Poll, Waker};

use super::{
    plan::{Plan, SECOND},
    world::World,
};
use crate::meta::{Command, MAX_COMMAND_BYTES, MetaError, NamedRow, queue::MAX_WAITING_BYTES};

#[test]
fn proposals_wait_up_to_so_many_bytes_and_no_more() {
    let mut world = World::new(Plan::only(1, &[]));
    while world.leader().is_none() {
        world.happen().unwrap();
    }
    assert!(world.now < 20 * SECOND);
    let leader = world.leader().unwrap();
    let run = world.machines[leader].run.as_mut().unwrap();
    let size = MAX_COMMAND_BYTES / 2;
    let json = format!("{{\"text\":\"{}\"}}", "x".repeat(size));
    let command = |n: usize| Command::PutLabelRules {
        rules: vec![NamedRow { id: n.to_string(), json: json.clone() }],
        delete: vec![],
    };
    let mut waiting = vec![];
    let mut ask = |n: usize| {
        let meta = run.meta.clone();
        let mut future = Box::pin(async move { meta.propose(command(n)).await });
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(outcome) => Some(outcome),
            Poll::Pending => {
                waiting.push(future);
                None
            }
        }
    };
    let refused = (0..100).find_map(|n| Some((n, ask(n)?)));
    let Some((taken, Err(MetaError::Busy))) = refused else { panic!("{refused:?}") };
    assert!((2..=MAX_WAITING_BYTES / size).contains(&taken), "{taken} of {size} bytes");
    // Once it takes them in there is room again.
    let events = std::mem::take(&mut *run.inbox.0.lock());
    drop(run.core.step(events));
    assert!(ask(taken).is_none());
}
