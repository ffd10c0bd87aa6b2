//! Scenarios made from a seed, in the scenario language: a cluster, faults, drains, and at the end everything is mended and must come
//! right.
//!
//! Owns: what is drawn and with which chance. Must not know: how lines are carried out. The generator keeps within what the
//! cluster can bear (never two stores down at once, always enough stores for the replicas), so that what goes wrong is the
//! control plane's fault.

use std::{collections::BTreeSet, fmt::Write as _};

use rand::{
    Rng, SeedableRng,
    seq::{IndexedRandom, IteratorRandom},
};
use rand_chacha::ChaCha8Rng;

/// How long everything may take to come right after the last fault.
const MENDED_WITHIN: &str = "30m";

/// Stores that join later have higher ids than all others.
const FIRST_JOINED: u64 = 20;

/// What a cluster is like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sort {
    /// Three voters, anywhere or in zones, sometimes one store apart.
    Plain,
    /// Placement rules are off.
    WithoutRules,
    /// Two column stores, and learners on them.
    Columns,
    /// A leader that may not be everywhere, and followers.
    Roles,
    /// One of the three voters is a witness.
    Witnesses,
}

struct Maker {
    rng: ChaCha8Rng,
    text: String,
    /// Time of the last line, seconds.
    at: u64,
    stores: u64,
    regions: u64,
    /// Stores that are not being drained and were not lost.
    up: BTreeSet<u64>,
    drained: BTreeSet<u64>,
    /// The store that is stopped or cut, and when it is back.
    down: Option<(u64, u64)>,
    cut: Option<u64>,
    labels: u64,
    /// A rule keeps peers off the last store.
    rule: bool,
    /// Overriding rules for some regions.
    own_rules: u64,
    /// Stores have zones.
    zones: bool,
    /// What stores that join say of their version.
    version: &'static str,
    /// Stores that joined later.
    joined: u64,
    /// The schedulers of a fresh cluster run.
    schedulers: bool,
    /// The scheduler that a person added last and that works against the others, as it is taken away.
    added: Option<String>,
    sort: Sort,
    /// Column stores; they come after the others.
    columns: BTreeSet<u64>,
    /// Regions with traffic of their own.
    busy: BTreeSet<u64>,
}

/// The scenario of a seed: the same text each time.
pub fn scenario(seed: u64) -> String {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let stores = rng.random_range(4..=7);
    let regions = if rng.random_bool(0.2) { rng.random_range(30..=60) } else { rng.random_range(6..=24) };
    let sort =
        *[Sort::WithoutRules, Sort::Columns, Sort::Roles, Sort::Witnesses].choose(&mut rng).unwrap_or(&Sort::Plain);
    let mut maker = Maker {
        sort: if rng.random_bool(0.5) { Sort::Plain } else { sort },
        schedulers: rng.random_bool(0.4),
        rng,
        text: String::new(),
        at: 0,
        stores,
        regions,
        up: (1..=stores).collect(),
        drained: BTreeSet::new(),
        down: None,
        cut: None,
        labels: 0,
        rule: false,
        own_rules: 0,
        zones: false,
        version: "",
        joined: 0,
        added: None,
        columns: BTreeSet::new(),
        busy: BTreeSet::new(),
    };
    maker.cluster(seed);
    let events = maker.rng.random_range(5..=14);
    for _ in 0..events {
        maker.event();
    }
    maker.mend();
    maker.text
}

impl Maker {
    fn say(&mut self, line: &str) {
        let _ = writeln!(self.text, "@{}s {line}", self.at);
    }

    fn cluster(&mut self, seed: u64) {
        let size = *[4, 10, 96, 300].iter().choose(&mut self.rng).unwrap_or(&96);
        let zones = if self.sort == Sort::Roles { 1 } else { self.rng.random_range(0..3_u32) };
        let labels = if zones == 0 { "" } else { " zone=z1,z2,z3" };
        // Old stores know neither joint states nor witnesses.
        let is_old = self.sort != Sort::Witnesses && self.rng.random_bool(0.1);
        let version = if is_old { " version=4.0.16" } else { "" };
        (self.zones, self.version) = (zones > 0, version);
        let _ = writeln!(self.text, "seed {seed}\nstores {}{labels}{version}", self.stores);
        let on = if self.sort == Sort::Columns { self.columns(version) } else { "" };
        let _ = writeln!(self.text, "regions {} size {size}{on}", self.regions);
        if self.rng.random_bool(0.15) {
            let _ = writeln!(self.text, "config schedule.enable-joint-consensus false");
        }
        match self.sort {
            Sort::WithoutRules => _ = writeln!(self.text, "config replication.enable-placement-rules false"),
            Sort::Witnesses => {
                // What a peer got in an outage it keeps for this long, an hour by default.
                let _ = writeln!(
                    self.text,
                    "config schedule.enable-witness true\nconfig schedule.switch-witness-interval 2m"
                );
            }
            Sort::Plain | Sort::Columns | Sort::Roles => {}
        }
        if self.schedulers {
            let _ = writeln!(self.text, "schedulers");
        }
        if self.rng.random_bool(0.3) {
            // Small regions become one with their neighbours soon after the start, and soon after splits.
            let _ = writeln!(self.text, "config schedule.split-merge-interval 20s");
        }
        if self.rng.random_bool(0.3) {
            let scope = *["moves", "balance", "all"].iter().choose(&mut self.rng).unwrap_or(&"moves");
            let _ = writeln!(self.text, "config berth.region-label-deny-scope {scope}");
        }
        if self.sort == Sort::Plain && self.stores > 4 && self.rng.random_bool(0.25) {
            // A rule keeps peers off the last store: what lies there is moved away.
            let _ = writeln!(self.text, "store {} disk=hdd", self.stores);
            self.up.remove(&self.stores);
            self.rule = true;
        }
        let rate = *[15, 60, 200].iter().choose(&mut self.rng).unwrap_or(&15);
        let _ = writeln!(self.text, "limit all add-peer {rate}\nlimit all remove-peer {rate}");
        if self.rule {
            let _ = writeln!(self.text, "rule pd/default voter 3 at disk!=hdd");
        } else if zones == 2 {
            let _ = writeln!(self.text, "set location-labels zone");
        }
        self.rules();
        if self.rng.random_bool(0.3) {
            let _ = writeln!(self.text, "set max-store-down-time 30s");
        }
    }

    /// Two more stores that hold learners only; the regions begin on the others.
    fn columns(&mut self, version: &str) -> &'static str {
        for id in self.stores + 1..=self.stores + 2 {
            let _ = writeln!(self.text, "store {id} engine=tiflash{version}");
            self.columns.insert(id);
        }
        [" on 1,2,3", " on 2,3,4", " on 3,4,1"].choose(&mut self.rng).unwrap_or(&" on 1,2,3")
    }

    /// The rules of this sort of cluster. Whatever three stores are left, they can be met.
    fn rules(&mut self) {
        match self.sort {
            Sort::Plain | Sort::WithoutRules => {}
            Sort::Columns => {
                let (first, last) = self.span();
                let _ = writeln!(self.text, "rule tiflash/table learner 1 regions {first}-{last} at engine=tiflash");
            }
            Sort::Roles => {
                let _ = writeln!(self.text, "rule pd/default leader 1 at zone!=z3\nrule pd/others follower 2");
            }
            Sort::Witnesses => {
                let _ = writeln!(self.text, "rule pd/default voter 2\nrule pd/witness voter 1 witness");
            }
        }
    }

    /// One more line some time after the last.
    fn event(&mut self) {
        self.at += self.rng.random_range(1..30);
        if self.down.is_some_and(|(_, back)| back <= self.at) {
            self.down = None;
        }
        let region = 101 + self.rng.random_range(0..self.regions);
        let store = self.rng.random_range(1..=self.stores);
        match self.rng.random_range(0..155) {
            0..26 => self.drain(),
            26..32 => self.cancel(),
            32..41 => self.stop(),
            41..46 => self.cut(),
            46..51 => {
                let what = *["commands", "heartbeats", "reports"].iter().choose(&mut self.rng).unwrap_or(&"commands");
                let percent = self.rng.random_range(1..30);
                self.say(&format!("lose {what} {percent}"));
            }
            51..56 => {
                let percent = self.rng.random_range(1..30);
                self.say(&format!("stale {percent}"));
            }
            56..61 => self.say(&format!("try split {region}")),
            61..66 => self.say(&format!("try elect {region} on {store}")),
            66..71 => {
                let with_cache = self.rng.random_bool(0.7);
                self.say(if with_cache { "restart" } else { "restart without cache" });
            }
            71..78 => self.label(),
            78..82 => {
                let limit = *[0, 1, 4, 64].iter().choose(&mut self.rng).unwrap_or(&64);
                self.say(&format!("set replica-schedule-limit {limit}"));
            }
            82..86 => {
                let how = *["failing", "slow 10", "normal"].iter().choose(&mut self.rng).unwrap_or(&"normal");
                self.say(&format!("snapshots {store} {how}"));
            }
            86..89 => {
                let on = self.rng.random_bool(0.5);
                self.say(&format!("set halt-scheduling {on}"));
            }
            89..93 => {
                let rate = *[1, 5, 30, 100].iter().choose(&mut self.rng).unwrap_or(&30);
                self.say(&format!("try limit {store} add-peer {rate}"));
            }
            93..97 => {
                let checker =
                    *["rule", "merge", "split", "joint-state"].iter().choose(&mut self.rng).unwrap_or(&"rule");
                let seconds = self.rng.random_range(5..60);
                self.say(&format!("checker pause {checker} for {seconds}s"));
            }
            97..107 => self.scheduler(),
            107..113 => {
                let last = (region + self.rng.random_range(0..6)).min(100 + self.regions);
                let group = if self.rng.random_bool(0.5) { " group g" } else { "" };
                self.say(&format!("try scatter {region}-{last}{group}"));
            }
            113..120 => {
                self.busy.insert(region);
                let what = if self.rng.random_bool(0.5) { "write" } else { "read" };
                let kib = self.rng.random_range(200..20_000);
                self.say(&format!("try flow {region} {what} {kib}"));
            }
            120..124 => {
                let score = *[1, 50, 100].choose(&mut self.rng).unwrap_or(&100);
                self.say(&format!("slow {store} {score}"));
            }
            124..127 => {
                let on = self.rng.random_bool(0.5);
                self.say(&format!("set enable-joint-consensus {on}"));
            }
            127..147 => self.rarer(region),
            _ => {
                // What a person asks for may cost a region its majority while another store is down; that is no bug.
                let words: &[&str] = if self.is_anything_down() {
                    &["transfer-leader"]
                } else {
                    &["transfer-leader", "add-peer", "remove-peer"]
                };
                let word = *words.iter().choose(&mut self.rng).unwrap_or(&"transfer-leader");
                self.say(&format!("try admin {word} {region} {store}"));
            }
        }
    }

    /// Stores that join, rules of some regions, replicas that come and go everywhere, operators that people drop, regions that shrink
    /// and grow.
    fn rarer(&mut self, region: u64) {
        match self.rng.random_range(0..5) {
            0 => {
                self.joined += 1;
                let id = FIRST_JOINED + self.joined;
                // Whatever three stores are left, one of them may lead.
                let zones = if self.sort == Sort::Roles { 2 } else { 3 };
                let zone =
                    if self.zones { format!(" zone=z{}", self.rng.random_range(1..=zones)) } else { String::new() };
                self.up.insert(id);
                self.say(&format!("join {id}{zone}{}", self.version));
            }
            1 if self.sort == Sort::Plain && !self.rule => {
                self.own_rules += 1;
                let (first, last) = self.span();
                self.say(&format!("rule own/r{} voter 3 regions {first}-{last} index 1 override", self.own_rules));
            }
            2 if matches!(self.sort, Sort::Plain | Sort::WithoutRules) && !self.rule && self.own_rules == 0 => {
                // One replica more, and then one less everywhere.
                self.say("set max-replicas 4");
                self.at += self.rng.random_range(5..25);
                self.say("set max-replicas 3");
            }
            3 if self.rng.random_bool(0.5) => self.say("try drop operators"),
            3 => self.say(&format!("try drop operator {region}")),
            _ => {
                let mib = *[1, 5, 40, 150].choose(&mut self.rng).unwrap_or(&1);
                self.say(&format!("try size {region} {mib}"));
            }
        }
    }

    /// The first and the last of some regions, as they were at the start.
    fn span(&mut self) -> (u64, u64) {
        let first = 101 + self.rng.random_range(0..self.regions);
        (first, self.rng.random_range(first..101 + self.regions))
    }

    /// A store that may go: enough others stay, also while one of them is down.
    fn may_lose(&mut self) -> Option<u64> {
        let down = self.down.map(|(store, _)| store);
        let able: Vec<u64> = self.up.iter().copied().filter(|s| Some(*s) != down && Some(*s) != self.cut).collect();
        if self.up.len() <= 3 { None } else { able.into_iter().choose(&mut self.rng) }
    }

    fn drain(&mut self) {
        // One of two column stores may go.
        let column = self.columns.first().copied().filter(|_| self.columns.len() > 1 && self.rng.random_bool(0.3));
        let Some(store) = column.or_else(|| self.may_lose()) else { return };
        self.columns.remove(&store);
        self.up.remove(&store);
        self.drained.insert(store);
        self.say(&format!("delete {store}"));
        if self.rng.random_bool(0.25) {
            self.at += self.rng.random_range(1..4);
            self.say(&format!("try cancel {store}"));
            self.drained.remove(&store);
        }
    }

    fn cancel(&mut self) {
        let Some(store) = self.drained.iter().copied().choose(&mut self.rng) else { return };
        // It may be buried by now.
        self.say(&format!("try cancel {store}"));
        self.drained.remove(&store);
    }

    fn is_anything_down(&self) -> bool {
        self.down.is_some() || self.cut.is_some()
    }

    fn stop(&mut self) {
        if self.is_anything_down() {
            return;
        }
        let store = self.rng.random_range(1..=self.stores);
        let seconds = self.rng.random_range(3..60);
        self.down = Some((store, self.at + seconds + 10));
        self.say(&format!("try stop {store} for {seconds}s"));
    }

    fn cut(&mut self) {
        if let Some(store) = self.cut.take() {
            return self.say(&format!("mend {store}"));
        }
        if self.is_anything_down() {
            return;
        }
        let store = self.rng.random_range(1..=self.stores);
        self.cut = Some(store);
        self.say(&format!("cut {store}"));
    }

    /// Schedulers that people start, pause and stop; only where those of a fresh cluster run.
    fn scheduler(&mut self) {
        if !self.schedulers {
            return;
        }
        if let Some(words) = self.added.take() {
            return self.say(&words);
        }
        let store = self.rng.random_range(1..=self.stores);
        match self.rng.random_range(0..7) {
            0 => {
                let seconds = self.rng.random_range(5..60);
                let kind = *["all", "balance-region", "balance-leader", "hot-region", "evict-slow-store"]
                    .choose(&mut self.rng)
                    .unwrap_or(&"all");
                self.say(&format!("try scheduler pause {kind} for {seconds}s"));
            }
            1 => self.say("try scheduler add shuffle-leader"),
            2 => self.say("try scheduler add shuffle-region"),
            3 => self.say("try scheduler add scatter-range"),
            4 => {
                self.say("try scheduler add label");
                let zone = self.rng.random_range(1..=3);
                self.added = Some(format!("accept-leader zone=z{zone}"));
                self.say(&format!("reject-leader zone=z{zone}"));
            }
            at => {
                let kind = if at == 5 { "evict-leader" } else { "grant-leader" };
                self.added = Some(format!("try scheduler remove {kind} {store}"));
                self.say(&format!("try scheduler add {kind} {store}"));
            }
        }
    }

    fn label(&mut self) {
        self.labels += 1;
        let (first, last) = self.span();
        let what = match self.rng.random_range(0..6) {
            0 => "schedule=allow",
            1 => "merge_option=deny",
            _ => "schedule=deny",
        };
        let index = self.rng.random_range(0..3);
        let end =
            if self.rng.random_bool(0.5) { format!(" for {}s", self.rng.random_range(5..60)) } else { String::new() };
        self.say(&format!("label l{} regions {first}-{last} {what}{end} index {index}", self.labels));
    }

    /// Everything is mended; then everything must come right.
    fn mend(&mut self) {
        self.at += 70;
        if let Some(store) = self.cut {
            self.say(&format!("mend {store}"));
        }
        for at in 1..=self.labels {
            self.say(&format!("try unlabel l{at}"));
        }
        for at in 1..=self.own_rules {
            self.say(&format!("unrule own/r{at}"));
        }
        for checker in ["rule", "merge", "split", "joint-state"] {
            self.say(&format!("checker resume {checker}"));
        }
        if self.schedulers {
            for kind in ["evict-leader", "grant-leader", "shuffle-leader", "shuffle-region", "scatter-range", "label"] {
                self.say(&format!("try scheduler remove {kind}"));
            }
        }
        for region in std::mem::take(&mut self.busy) {
            self.say(&format!("try flow {region} write 0"));
            self.say(&format!("try flow {region} read 0"));
        }
        for store in 1..=self.stores {
            self.say(&format!("snapshots {store} normal"));
            self.say(&format!("slow {store} 1"));
        }
        for line in [
            "lose commands 0",
            "lose heartbeats 0",
            "lose reports 0",
            "stale 0",
            "set halt-scheduling false",
            "set replica-schedule-limit 64",
            "limit all add-peer 200",
            "limit all remove-peer 200",
        ] {
            self.say(line);
        }
        let _ = writeln!(self.text, "within {MENDED_WITHIN} expect placed");
        for store in std::mem::take(&mut self.drained) {
            let _ = writeln!(self.text, "within {MENDED_WITHIN} expect store {store} tombstone");
        }
        let _ = writeln!(self.text, "within {MENDED_WITHIN} expect placed");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::world::script;

    #[test]
    fn a_seed_is_one_scenario_that_can_be_read() {
        for seed in 0..200 {
            let text = scenario(seed);
            assert_eq!(text, scenario(seed));
            script::parse(&text).unwrap();
        }
        assert_ne!(scenario(1), scenario(2));
    }
}
