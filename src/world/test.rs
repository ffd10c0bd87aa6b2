//! What a scenario can expect of a world.
//!
//! Owns: the predicates and how each is worked out. Must not know: when it is asked.

mod placed;
mod told;

use std::fmt;

pub use told::Told;

use super::{script::Words, world::World};
use crate::{
    model::{NodeState, RegionId, Role, StoreId, StoreState},
    store::Liveness,
};

/// How a number is compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compare {
    /// `=`
    Is,
    /// `<=`
    AtMost,
    /// `>=`
    AtLeast,
}

/// A count and what it should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wanted {
    compare: Compare,
    value: u64,
}

impl Wanted {
    fn holds(self, found: u64) -> bool {
        match self.compare {
            Compare::Is => found == self.value,
            Compare::AtMost => found <= self.value,
            Compare::AtLeast => found >= self.value,
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.compare {
            Compare::Is => "=",
            Compare::AtMost => "<=",
            Compare::AtLeast => ">=",
        };
        write!(f, "{sign} {}", self.value)
    }
}

/// See the module's comment.
#[derive(Clone, PartialEq, Debug)]
pub enum Test {
    /// `store N STATE`
    StoreState(StoreId, String),
    /// `store N peers|leaders|pending = K`: as the control plane knows it.
    StoreCount(StoreId, String, Wanted),
    /// `node N peers = K`: as the nodes know it.
    NodePeers(StoreId, Wanted),
    /// `limit N add-peer|remove-peer = K`
    Limit(StoreId, bool, Wanted),
    /// `region N on 1,2,3`: its voters, as the nodes know them.
    RegionOn(RegionId, Vec<StoreId>),
    /// `region N led by S`
    Leader(RegionId, StoreId),
    /// `region N voters|learners|peers = K`
    RegionCount(RegionId, String, Wanted),
    /// `regions = K`
    Regions(Wanted),
    /// `operators [DESC] = K`: running now.
    Running(Option<String>, Wanted),
    /// `started = K`: since the beginning.
    Started(Wanted),
    /// `ended DESC [STATUS] = K`: since the beginning.
    Ended(String, Option<String>, Wanted),
    /// `replicated`: every region has three voters with data, nothing else, and a leader.
    Replicated,
    /// `placed`: every region has the peers that its rules ask for, with data, nothing else, and a leader.
    Placed,
    /// `prepared`
    Prepared,
    /// `quiet`: no operator runs and no region is busy.
    Quiet,
    /// `config KEY = VALUE`
    Config(String, String),
    /// What people are told.
    Told(Told),
    /// `not …`
    Not(Box<Test>),
}

const STATES: [&str; 9] =
    ["up", "offline", "tombstone", "preparing", "serving", "removing", "removed", "gone", "disconnected"];

impl Test {
    /// Reads one from the words of a line.
    pub(super) fn read(words: &mut Words<'_>) -> Result<Test, String> {
        let word = words.next();
        Ok(match word {
            "store" => {
                let id = words.store()?;
                match words.next() {
                    state if STATES.contains(&state) => Test::StoreState(id, state.to_owned()),
                    what @ ("peers" | "leaders" | "pending") => Test::StoreCount(id, what.to_owned(), wanted(words)?),
                    other => return Err(format!("`{other}` is nothing of a store")),
                }
            }
            "node" => {
                let id = words.store()?;
                if !words.take("peers") {
                    return Err("`node N peers = K`".into());
                }
                Test::NodePeers(id, wanted(words)?)
            }
            "limit" => {
                let id = words.store()?;
                let adds = words.next() == "add-peer";
                Test::Limit(id, adds, wanted(words)?)
            }
            "region" => Self::read_region(words)?,
            "regions" => Test::Regions(wanted(words)?),
            "operators" => {
                let desc = Some(words.peek()).filter(|w| w.starts_with(|c: char| c.is_ascii_alphabetic()));
                let desc = desc.map(|_| words.next().to_owned());
                Test::Running(desc, wanted(words)?)
            }
            "started" => Test::Started(wanted(words)?),
            "ended" => {
                let desc = words.next().to_owned();
                let status = Some(words.peek()).filter(|w| w.starts_with(|c: char| c.is_ascii_alphabetic()));
                let status = status.map(|_| words.next().to_owned());
                Test::Ended(desc, status, wanted(words)?)
            }
            "replicated" => Test::Replicated,
            "placed" => Test::Placed,
            "prepared" => Test::Prepared,
            "quiet" => Test::Quiet,
            "config" => {
                let key = words.next().to_owned();
                if !words.take("=") {
                    return Err("`config KEY = VALUE`".into());
                }
                Test::Config(key, words.next().to_owned())
            }
            "drain" => Test::Told(Told::read_drain(words)?),
            "not" => Test::Not(Box::new(Self::read(words)?)),
            _ => return Err(format!("`{word}` is nothing to expect")),
        })
    }

    fn read_region(words: &mut Words<'_>) -> Result<Test, String> {
        let id = words.region()?;
        if let Some(told) = Told::read_region(id, words)? {
            return Ok(Test::Told(told));
        }
        Ok(match words.next() {
            "on" => {
                let word = words.next();
                let ids = word.split(',').map(|id| id.parse().map(StoreId));
                let mut ids: Vec<_> =
                    ids.collect::<Result<_, _>>().map_err(|_| format!("`{word}` is no list of stores"))?;
                ids.sort();
                Test::RegionOn(id, ids)
            }
            "led" => {
                words.take("by");
                Test::Leader(id, words.store()?)
            }
            what @ ("voters" | "learners" | "peers") => Test::RegionCount(id, what.to_owned(), wanted(words)?),
            other => return Err(format!("`{other}` is nothing of a region")),
        })
    }

    /// Whether it holds, and what was found.
    pub fn ask(&self, world: &World) -> (bool, String) {
        let count = |found: u64, wanted: &Wanted| (wanted.holds(found), found.to_string());
        let cluster = world.control.cluster();
        match self {
            Test::StoreState(id, state) => {
                let found = store_states(world, *id);
                (found.contains(&state.as_str()), found.join(" "))
            }
            Test::StoreCount(id, what, wanted) => {
                let s = cluster.regions().summary(*id);
                let found = match what.as_str() {
                    "peers" => s.region_count,
                    "leaders" => s.leader_count,
                    _ => s.pending_count,
                };
                count(found, wanted)
            }
            Test::NodePeers(id, wanted) => count(u64::from(world.fleet.peers_on(*id)), wanted),
            Test::Limit(id, adds, wanted) => {
                let limits = world.control.state().limits.get(id);
                let rate = limits.map_or(0.0, |l| if *adds { l.add_peer } else { l.remove_peer });
                count(rate as u64, wanted)
            }
            Test::RegionOn(id, on) => {
                let region = world.fleet.region(*id);
                let mut found: Vec<StoreId> = region
                    .map(|r| r.peers.iter().filter(|p| p.role == Role::Voter).map(|p| p.store).collect())
                    .unwrap_or_default();
                found.sort();
                (found == *on, format!("{found:?}"))
            }
            Test::Leader(id, store) => {
                let found = world.fleet.region(*id).and_then(|r| r.leader_store());
                (found == Some(*store), found.map_or_else(|| "nobody".into(), |s| s.to_string()))
            }
            Test::RegionCount(id, what, wanted) => {
                let peers = world.fleet.region(*id).map(|r| r.peers.clone()).unwrap_or_default();
                let found = peers.iter().filter(|p| match what.as_str() {
                    "voters" => p.role.votes(),
                    "learners" => p.role == Role::Learner,
                    _ => true,
                });
                count(found.count() as u64, wanted)
            }
            Test::Regions(wanted) => count(cluster.regions().len() as u64, wanted),
            Test::Running(desc, wanted) => {
                let running = cluster.operators();
                let same = running.iter().filter(|op| desc.as_ref().is_none_or(|d| op.desc == *d));
                count(same.count() as u64, wanted)
            }
            Test::Started(wanted) => count(world.tally.operators, wanted),
            Test::Ended(desc, status, wanted) => count(world.tally.ended_as(desc, status.as_deref()), wanted),
            Test::Replicated => {
                let found = world.fleet.check_replicas();
                (found.passed, found.detail)
            }
            Test::Placed => placed::ask(world),
            Test::Prepared => (cluster.is_prepared(), String::new()),
            Test::Quiet => {
                let running = cluster.operators().len() + cluster.waiting_operators().len();
                (running == 0, format!("{running} operators"))
            }
            Test::Config(key, value) => {
                let found = super::show::config_value(world, key);
                (found == *value, found)
            }
            Test::Told(told) => told.ask(world),
            Test::Not(test) => {
                let (holds, found) = test.ask(world);
                (!holds, found)
            }
        }
    }
}

/// All words that describe a store now.
fn store_states(world: &World, id: StoreId) -> Vec<&'static str> {
    let Some(info) = world.control.cluster().stores().get(id) else { return vec!["gone"] };
    let mut words = vec![
        match info.record.state {
            StoreState::Up => "up",
            StoreState::Offline => "offline",
            StoreState::Tombstone => "tombstone",
        },
        match info.record.node_state {
            NodeState::Preparing => "preparing",
            NodeState::Serving => "serving",
            NodeState::Removing => "removing",
            NodeState::Removed => "removed",
        },
    ];
    if world.control.cluster().liveness(&info, world.now()) != Liveness::Connected {
        words.push("disconnected");
    }
    words
}

fn wanted(words: &mut Words<'_>) -> Result<Wanted, String> {
    let compare = match words.next() {
        "=" => Compare::Is,
        "<=" => Compare::AtMost,
        ">=" => Compare::AtLeast,
        other => return Err(format!("`{other}` is none of =, <=, >=")),
    };
    Ok(Wanted { compare, value: words.number("a number")? })
}
