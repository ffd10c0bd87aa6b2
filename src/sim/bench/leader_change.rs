//! A leader that goes in the middle of a drain: when the next one answers look-ups, and when it schedules.
//!
//! Owns: the row `leader-change`. Needs a group of members, all of them up; with `--kill` the leader's process is ended.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    BenchError, Table, Unit,
    lookup::Lookup,
    rig::{Rig, Target, pause},
    scale_in::delete,
};
use crate::sim::{CommandKind, FleetOptions, FleetView, http::HttpClient, parse_duration};

/// Time between two looks at a member.
const LOOK: Duration = Duration::from_millis(5);
/// How long followers may take until their copies are whole.
const COPY_WAIT: Duration = Duration::from_secs(300);

/// The flags of `leader-change`.
#[derive(Clone, Debug, clap::Args)]
pub struct LeaderChangeOptions {
    /// Number of stores.
    #[arg(long, default_value_t = 10)]
    pub stores: u32,
    /// Number of regions.
    #[arg(long, default_value_t = 1_000_000)]
    pub regions: u32,
    /// Time between two heartbeats of an unchanged region.
    #[arg(long, default_value = "1m", value_parser = parse_duration)]
    pub region_heartbeat: Duration,
    /// Store limit of all stores, a minute.
    #[arg(long, default_value_t = 2_000.0)]
    pub store_limit: f64,
    /// How long the drain goes on before the leader goes.
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    pub settle: Duration,
    /// End the process of `--pid`, the leader's, with SIGKILL; without this the leader is asked to resign.
    #[arg(long)]
    pub kill: bool,
    /// Give up after this time.
    #[arg(long, default_value = "15m", value_parser = parse_duration)]
    pub give_up: Duration,
}

/// A member that may lead next.
#[derive(Clone)]
struct Member {
    name: String,
    http: HttpClient,
    lookup: Lookup,
}

/// When the next leader did what, after the old one went.
struct Seen {
    name: String,
    elected: Instant,
    answered: Instant,
    scheduled: Instant,
}

pub(super) async fn run(
    target: &Target,
    row: &LeaderChangeOptions,
    shutdown: CancellationToken,
) -> Result<Table, BenchError> {
    let (old, others) = members(target).await?;
    let all = others.iter().map(|m| m.http.base()).chain([target.addr.clone()]).collect();
    let options = FleetOptions {
        stores: row.stores,
        regions: row.regions,
        region_heartbeat: row.region_heartbeat,
        step_delay: Duration::from_millis(20),
        ..FleetOptions::default()
    };
    let mut rig = Rig::start_against(all, options, &shutdown);
    rig.loaded(row.give_up).await?;
    target.http.post("/pd/api/v1/stores/limit", &json!({ "rate": row.store_limit })).await?;
    let store = rig.view().stores.first().map(|s| s.id).ok_or(BenchError::Stopped)?;
    delete(target, store).await?;
    for member in &others {
        until_fresh(member).await?;
    }
    pause(row.settle, &shutdown).await?;
    let before = adds(&rig.view());

    let start = Instant::now();
    remove_leader(target, row.kill).await?;
    let seen = next_leader(others, row.regions, row.give_up).await?;
    let base = adds(&rig.view());
    let moved = rig.wait("an operator of the next leader", row.give_up, |v| adds(v) > base).await?;
    // The first leader goes on as a follower when it was not killed: nothing is left to be waited for.
    rig.finish().await?;

    let mut table = Table::new(format!(
        "leader-change at {} regions on {} stores, in a drain: {} {}, {} follows",
        row.regions,
        row.stores,
        old,
        if row.kill { "killed" } else { "resigns" },
        seen.name
    ));
    table.add("replicas begun before", before as f64, Unit::Count);
    table.seconds("leads after", seen.elected - start);
    table.seconds("GetRegion, from its election", seen.answered.saturating_duration_since(seen.elected));
    table.seconds("first operator, from its election", seen.scheduled.saturating_duration_since(seen.elected));
    table.seconds("a node carries out its first new replica, from its election", moved - seen.elected);
    Ok(table)
}

fn adds(view: &FleetView) -> u64 {
    view.counters.executed.get(&CommandKind::AddLearner).copied().unwrap_or(0)
}

/// The leader's name, and the others.
async fn members(target: &Target) -> Result<(String, Vec<Member>), BenchError> {
    let all = target.http.get_json("/pd/api/v1/members").await?;
    let name_of = |v: &serde_json::Value| v.get("name").and_then(|n| n.as_str()).unwrap_or_default().to_owned();
    let leader = all.get("leader").map(name_of).unwrap_or_default();
    let mut others = vec![];
    for member in all.get("members").and_then(|m| m.as_array()).into_iter().flatten() {
        let (name, url) = (name_of(member), member.pointer("/client_urls/0").and_then(|u| u.as_str()));
        if name == leader {
            continue;
        }
        let url = url.ok_or_else(|| BenchError::Wrong(format!("{name} has not told where clients find it")))?;
        others.push(Member { name, http: HttpClient::new(url)?, lookup: Lookup::must(url).await? });
    }
    if others.is_empty() {
        return Err(BenchError::Wrong("a group of one has no next leader".into()));
    }
    Ok((leader, others))
}

async fn until_fresh(member: &Member) -> Result<(), BenchError> {
    let start = Instant::now();
    while start.elapsed() < COPY_WAIT {
        let ready = member.http.get_json("/berth/v1/ready").await?;
        if ready.pointer("/copy/fresh").and_then(serde_json::Value::as_bool) == Some(true) {
            return Ok(());
        }
        sleep(LOOK * 20).await;
    }
    Err(BenchError::TimedOut { what: "the copies of the followers to be whole", seconds: COPY_WAIT.as_secs() })
}

async fn remove_leader(target: &Target, kill: bool) -> Result<(), BenchError> {
    if kill {
        return target.process()?.signal(Signal::KILL);
    }
    target.http.post("/pd/api/v1/leader/resign", &json!({})).await?;
    Ok(())
}

/// Watches all that may lead next, until one leads, answers a look-up and has made an operator.
async fn next_leader(members: Vec<Member>, regions: u32, within: Duration) -> Result<Seen, BenchError> {
    let mut watches = JoinSet::new();
    for member in members {
        watches.spawn(watch(member, regions));
    }
    let first = tokio::time::timeout(within, watches.join_next()).await;
    let late = BenchError::TimedOut { what: "a next leader that schedules", seconds: within.as_secs() };
    first.map_err(|_| late)?.and_then(Result::ok).ok_or(BenchError::Stopped)
}

/// Returns when this member leads and has made an operator; never, when another does.
async fn watch(mut member: Member, regions: u32) -> Seen {
    let mut elected = None;
    let mut answered = None;
    loop {
        let ready = member.http.get_json("/berth/v1/ready").await.unwrap_or_default();
        let is = |what| ready.get(what).and_then(serde_json::Value::as_bool) == Some(true);
        if is("leads") {
            let elected = *elected.get_or_insert_with(Instant::now);
            if answered.is_none() && knows(&mut member.lookup, regions / 2).await {
                answered = Some(Instant::now());
            }
            if let Some(answered) = answered
                && is("schedules")
                && schedules(&member.http).await
            {
                return Seen { name: member.name, elected, answered, scheduled: Instant::now() };
            }
        }
        sleep(LOOK).await;
    }
}

/// Whether it has an operator under way: those of the leader before are not its own.
async fn schedules(http: &HttpClient) -> bool {
    let operators = http.get_json("/pd/api/v1/operators").await;
    operators.is_ok_and(|o| o.as_array().is_some_and(|o| !o.is_empty()))
}

/// Whether it answers a look-up with a region and its leader.
async fn knows(lookup: &mut Lookup, row: u32) -> bool {
    lookup.behind(row).await.is_some_and(|found| found.leader.is_some())
}
