//! The scenario language: one line, one thing. docs/scenarios.md describes it.
//!
//! Owns: words and their meaning as values. Must not know: how they are carried out.

mod words;

use std::time::Duration;

pub(super) use words::Words;
use words::time_of;

use super::test::Test;
use crate::{
    model::{RegionId, StoreId},
    scheduler::{balance::Kind, checker::pause::CheckerName},
    store::hot::Traffic,
};

/// Longest scenario: it is a test, not a program.
pub const MAX_LINES: usize = 2_000;
/// Longest virtual time that one line may let pass.
pub const MAX_WAIT: Duration = Duration::from_secs(48 * 3600);

/// A scenario that cannot be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct ScriptError {
    /// Which line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: String,
}

/// One line that does something.
#[derive(Clone, PartialEq, Debug)]
pub struct Line {
    /// Its number, from 1.
    pub number: usize,
    /// What it says.
    pub text: String,
    /// Time since the start at which it is done; `None`: right after the line before.
    pub at: Option<Duration>,
    /// What it does.
    pub what: What,
    /// The lines with `>` below it: what it must show.
    pub shown: Vec<String>,
}

/// What a line does.
#[derive(Clone, PartialEq, Debug)]
pub enum What {
    /// Something before the start.
    Plan(PlanLine),
    /// A call, a fault, or time.
    Do(Action),
    /// A call that must be refused with a text that holds this one.
    Refused(String, Action),
    /// A call or fault that may be refused.
    Try(Action),
    /// Something must hold: now, at some time within, or all the time for.
    Expect(Span, Test),
    /// A view that is compared with the lines below.
    Show(Vec<String>),
}

/// When something must hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Span {
    /// Now.
    Now,
    /// At some moment within this time; the run goes on from there.
    Within(Duration),
    /// At every moment for this time.
    For(Duration),
}

/// What the cluster is made of.
#[derive(Clone, PartialEq, Debug)]
pub enum PlanLine {
    /// `seed N`
    Seed(u64),
    /// `stores N [key=v1,v2,…]…`: values are dealt round.
    Stores(u64, Vec<(String, Vec<String>)>),
    /// `store N [key=value]… [version=v]`
    Store(StoreId, Vec<(String, String)>),
    /// `regions N [size MIB] [on 1,2,3 | replicas R]`
    Regions {
        /// How many.
        count: u64,
        /// MiB each.
        size: u64,
        /// Where.
        on: Vec<StoreId>,
        /// Replicas when dealt.
        replicas: u64,
    },
    /// `schedulers`: those of a fresh cluster run.
    Schedulers,
    /// `config KEY VALUE`: the file's value; `berth.*` can be set nowhere else.
    Config(String, String),
}

/// A call on the control plane, a fault of the nodes, or time.
#[derive(Clone, PartialEq, Debug)]
pub enum Action {
    /// `run TIME`
    Run(Duration),
    /// `delete N [force]`
    Delete(StoreId, bool),
    /// `cancel N`
    Cancel(StoreId),
    /// `set KEY VALUE`
    Set(String, String),
    /// `set KEY VALUE for TIME`
    SetFor(String, String, Duration),
    /// `limit N|all add-peer|remove-peer RATE`
    Limit(Option<StoreId>, bool, f64),
    /// `rule GROUP/ID …`
    Rule(RuleWords),
    /// `unrule GROUP/ID`
    Unrule(String, String),
    /// `group ID INDEX [override]`
    Group(String, i64, bool),
    /// `label ID [regions A-B] KEY=VALUE [for TIME] [index N]`
    Label(LabelWords),
    /// `unlabel ID`
    Unlabel(String),
    /// `tag N KEY=VALUE…`: labels of a store.
    Tag(StoreId, Vec<(String, String)>),
    /// `scheduler add KIND [STORE,STORE…]`
    AddScheduler(Kind, Vec<StoreId>),
    /// `scheduler add scatter-range`: over all keys.
    AddScatterRange,
    /// `scheduler remove KIND [STORE]`
    RemoveScheduler(Kind, Option<StoreId>),
    /// `scheduler pause KIND|all for TIME`, `scheduler resume KIND|all`: zero
    PauseScheduler(String, Duration),
    /// `checker pause NAME for TIME`, `checker resume NAME`: zero
    PauseChecker(CheckerName, Duration),
    /// `reject-leader KEY=VALUE`, `accept-leader KEY=VALUE`: the label property.
    RejectLeader(bool, (String, String)),
    /// `scatter A-B [group G]`
    Scatter((u64, u64), String),
    /// `admin WHAT REGION …`
    Admin(AdminWords),
    /// `drop operator REGION`
    DropOperator(RegionId),
    /// `drop operators`
    DropOperators,
    /// `forget region N`
    ForgetRegion(RegionId),
    /// `remove tombstones`
    RemoveTombstones,
    /// `restart [without cache]`
    Restart(bool),
    /// `join N [key=value]…`
    Join(StoreId, Vec<(String, String)>),
    /// `stop N [for TIME]`
    Stop(StoreId, Option<Duration>),
    /// `start N`
    Start(StoreId),
    /// `cut N`, `mend N`
    Cut(StoreId, bool),
    /// `snapshots N slow FACTOR | failing | normal`
    Snapshots(StoreId, crate::sim::Snapshots),
    /// `slow N SCORE`
    Slow(StoreId, u64),
    /// `flow REGION write|read KIB`: a second, on top of what all have.
    Flow(RegionId, Traffic, u64),
    /// `lose commands|heartbeats|reports PERCENT`
    Lose(Lost, f64),
    /// `stale PERCENT`
    Stale(f64),
    /// `elect REGION on STORE`
    Elect(RegionId, StoreId),
    /// `split REGION`
    Split(RegionId),
    /// `size REGION MIB`
    Size(RegionId, u64),
    /// `report N`
    Report(StoreId),
}

/// What gets lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lost {
    /// Commands.
    Commands,
    /// Region heartbeats.
    Heartbeats,
    /// Store heartbeats.
    Reports,
}

/// `rule GROUP/ID ROLE COUNT [regions A-B] [at key=v,v | key!=v,v | key | !key]… [spread k,k] [isolate k] [index N] [override] [witness]`
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RuleWords {
    /// Group.
    pub group: String,
    /// Id.
    pub id: String,
    /// `voter` …
    pub role: String,
    /// How many.
    pub count: u32,
    /// Which regions, by place from 101; all when not given.
    pub regions: Option<(u64, u64)>,
    /// Constraints: key, op, values.
    pub at: Vec<(String, &'static str, Vec<String>)>,
    /// Location labels.
    pub spread: Vec<String>,
    /// Isolation level.
    pub isolate: String,
    /// Index.
    pub index: i64,
    /// Whether it overrides.
    pub override_: bool,
    /// Whether its peers are witnesses.
    pub is_witness: bool,
}

/// See [`Action::Label`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LabelWords {
    /// Id.
    pub id: String,
    /// Which regions, by place from 101; all when not given.
    pub regions: Option<(u64, u64)>,
    /// The label.
    pub label: (String, String),
    /// For how long.
    pub ttl: Option<Duration>,
    /// Index.
    pub index: i64,
}

/// See [`Action::Admin`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AdminWords {
    /// `admin transfer-leader REGION STORE`
    TransferLeader(RegionId, StoreId),
    /// `admin add-peer REGION STORE`
    AddPeer(RegionId, StoreId),
    /// `admin add-learner REGION STORE`
    AddLearner(RegionId, StoreId),
    /// `admin remove-peer REGION STORE`
    RemovePeer(RegionId, StoreId),
    /// `admin transfer-peer REGION FROM TO`
    TransferPeer(RegionId, StoreId, StoreId),
}

/// Reads a scenario.
///
/// # Errors
/// The first line that cannot be read.
pub fn parse(text: &str) -> Result<Vec<Line>, ScriptError> {
    let mut lines: Vec<Line> = Vec::new();
    for (at, text) in text.lines().enumerate() {
        let number = at + 1;
        let wrong = |why: String| ScriptError { line: number, why };
        if number > MAX_LINES {
            return Err(wrong(format!("more than {MAX_LINES} lines")));
        }
        if let Some(shown) = text.strip_prefix('>') {
            let Some(Line { what: What::Show(_), shown: under, .. }) = lines.last_mut() else {
                return Err(wrong("a line with > stands below a show".into()));
            };
            under.push(shown.strip_prefix(' ').unwrap_or(shown).to_owned());
            continue;
        }
        let words: Vec<&str> = text.split('#').next().unwrap_or("").split_whitespace().collect();
        if words.is_empty() {
            continue;
        }
        let mut rest = Words { words: &words };
        let at = match words[0].strip_prefix('@') {
            Some(time) => {
                rest.next();
                Some(time_of(time).map_err(wrong)?)
            }
            None => None,
        };
        let what = rest.line().and_then(|what| rest.end().map(|()| what)).map_err(wrong)?;
        lines.push(Line { number, text: text.trim().to_owned(), at, what, shown: Vec::new() });
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn one(line: &str) -> Result<What, String> {
        parse(line).map(|mut lines| lines.remove(0).what).map_err(|e| e.why)
    }

    #[test]
    fn lines_are_read() {
        let text = "# a comment\n\nstores 3 zone=a,b # two zones\n@10s delete 2 force\nshow stores\n> one\n>\n> two";
        let lines = parse(text).unwrap();
        assert_eq!(lines.len(), 3);
        let zones = vec![("zone".to_owned(), vec!["a".to_owned(), "b".to_owned()])];
        assert_eq!(lines[0].what, What::Plan(PlanLine::Stores(3, zones)));
        assert_eq!((lines[1].number, lines[1].at), (4, Some(Duration::from_secs(10))));
        assert_eq!(lines[1].what, What::Do(Action::Delete(StoreId(2), true)));
        assert_eq!(lines[2].shown, ["one", "", "two"]);
    }

    #[test]
    fn rules_and_labels_are_read() {
        let What::Do(Action::Rule(rule)) =
            one("rule pd/a voter 2 regions 101-103 at zone=z1,z2 at !slow at disk!=hdd spread zone isolate zone")
                .unwrap()
        else {
            panic!("a rule");
        };
        assert_eq!((rule.count, rule.regions, rule.isolate.as_str()), (2, Some((101, 103)), "zone"));
        assert_eq!(rule.at.iter().map(|(_, op, _)| *op).collect::<Vec<_>>(), ["in", "notExists", "notIn"]);
        let label = one("label l regions 105 schedule=deny for 10s index 3").unwrap();
        let wanted = LabelWords {
            id: "l".into(),
            regions: Some((105, 105)),
            label: ("schedule".into(), "deny".into()),
            ttl: Some(Duration::from_secs(10)),
            index: 3,
        };
        assert_eq!(label, What::Do(Action::Label(wanted)));
    }

    #[test]
    fn schedulers_and_checkers_are_read() {
        let stores = vec![StoreId(2), StoreId(3)];
        let minute = Duration::from_secs(60);
        for (line, wanted) in [
            ("scheduler add evict-leader 2,3", Action::AddScheduler(Kind::EvictLeader, stores)),
            ("scheduler add shuffle-leader", Action::AddScheduler(Kind::ShuffleLeader, vec![])),
            ("scheduler remove evict-leader 2", Action::RemoveScheduler(Kind::EvictLeader, Some(StoreId(2)))),
            ("scheduler pause all for 1m", Action::PauseScheduler("all".into(), minute)),
            (
                "scheduler resume balance-region",
                Action::PauseScheduler("balance-region-scheduler".into(), Duration::ZERO),
            ),
            ("scheduler add scatter-range", Action::AddScatterRange),
            ("checker pause joint-state for 1m", Action::PauseChecker(CheckerName::JointState, minute)),
            ("reject-leader disk=hdd", Action::RejectLeader(true, ("disk".into(), "hdd".into()))),
            ("accept-leader disk=hdd", Action::RejectLeader(false, ("disk".into(), "hdd".into()))),
            ("scatter 101-104", Action::Scatter((101, 104), String::new())),
            ("scatter 101 group t", Action::Scatter((101, 101), "t".into())),
            ("slow 3 100", Action::Slow(StoreId(3), 100)),
            ("flow 101 read 2000", Action::Flow(RegionId(101), Traffic::Read, 2000)),
            ("flow 101 write 0", Action::Flow(RegionId(101), Traffic::Write, 0)),
        ] {
            assert_eq!(one(line).unwrap(), What::Do(wanted), "{line}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (line, why) in [
            ("fly 3", "`fly` is no command"),
            ("delete x", "`x` is not a store id"),
            ("delete 3 now", "`now` is too much"),
            ("> text", "a line with > stands below a show"),
            ("within 10s store 2 up", "`within TIME` is followed by `expect`"),
            ("lose commands 101", "a share lies between 0 and 100"),
            ("run 100h", "`100h` is longer than 48 h"),
            ("label x", "KEY=VALUE is missing"),
            ("scheduler add fly", "`fly` is no scheduler"),
            ("checker pause rule", "`pause NAME for TIME`"),
            ("checker pause luck for 1m", "`luck` is no checker"),
            ("slow 3 101", "a slow score lies between 1 and 100"),
            ("flow 101 both 3", "`both` is neither write nor read"),
            ("flow 101 read 99999999999", "a region's traffic is at most 1048576 KiB a second"),
            ("scatter 101 into t", "`into t` is too much"),
            ("reject-leader hdd", "`hdd` is not key=value"),
            ("expect drain 1 flies", "`flies` is nothing of a drain"),
            ("rule a voter 3", "`a` is not GROUP/ID"),
        ] {
            assert_eq!(one(line).unwrap_err(), why, "{line}");
        }
    }
}
