//! Words to values: the grammar of each line.
//!
//! Owns: what may follow what, and the texts for what may not. Must not know: what lines are for.

use std::{str::FromStr, time::Duration};

use super::{Action, AdminWords, LabelWords, Lost, MAX_WAIT, PlanLine, RuleWords, Span, What};
use crate::{
    model::{RegionId, StoreId},
    scheduler::{balance::Kind, checker::pause::CheckerName},
    sim::{Snapshots, parse_duration},
    store::hot::Traffic,
    world::test::Test,
};

/// Highest traffic of one region, KiB a second.
const MAX_FLOW: u64 = 1 << 20;

pub(super) fn time_of(word: &str) -> Result<Duration, String> {
    let time = parse_duration(word)?;
    if time > MAX_WAIT { Err(format!("`{word}` is longer than {} h", MAX_WAIT.as_secs() / 3600)) } else { Ok(time) }
}

/// `key=v` or `key=v,v`
fn pair(word: &str) -> Option<(String, String)> {
    word.split_once('=').filter(|(k, _)| !k.is_empty()).map(|(k, v)| (k.to_owned(), v.to_owned()))
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::to_owned).collect()
}

/// The words of a line that were not read yet.
pub(in crate::world) struct Words<'a> {
    pub(super) words: &'a [&'a str],
}

impl<'a> Words<'a> {
    pub(in crate::world) fn peek(&self) -> &'a str {
        self.words.first().copied().unwrap_or("")
    }

    pub(in crate::world) fn next(&mut self) -> &'a str {
        let word = self.peek();
        self.words = self.words.get(1..).unwrap_or_default();
        word
    }

    /// Takes `word` if it is next.
    pub(in crate::world) fn take(&mut self, word: &str) -> bool {
        let found = self.peek() == word;
        if found {
            self.next();
        }
        found
    }

    pub(in crate::world) fn number<N: FromStr>(&mut self, what: &str) -> Result<N, String> {
        let word = self.next();
        word.parse().map_err(|_| format!("`{word}` is not {what}"))
    }

    pub(in crate::world) fn store(&mut self) -> Result<StoreId, String> {
        self.number("a store id").map(StoreId)
    }

    pub(in crate::world) fn region(&mut self) -> Result<RegionId, String> {
        self.number("a region id").map(RegionId)
    }

    fn time(&mut self) -> Result<Duration, String> {
        time_of(self.next())
    }

    fn text(&mut self, what: &str) -> Result<String, String> {
        match self.next() {
            "" => Err(format!("{what} is missing")),
            word => Ok(word.to_owned()),
        }
    }

    /// All words that are left, as one text.
    pub(in crate::world) fn rest(&mut self) -> String {
        std::mem::take(&mut self.words).join(" ")
    }

    fn percent(&mut self) -> Result<f64, String> {
        let value: f64 = self.number("a share in per cent")?;
        if (0.0..=100.0).contains(&value) { Ok(value) } else { Err("a share lies between 0 and 100".into()) }
    }

    pub(super) fn end(&self) -> Result<(), String> {
        if self.words.is_empty() { Ok(()) } else { Err(format!("`{}` is too much", self.words.join(" "))) }
    }

    fn stores(&mut self) -> Result<Vec<StoreId>, String> {
        let word = self.next();
        let ids = word.split(',').map(|id| id.parse().map(StoreId).map_err(|_| format!("`{id}` is not a store id")));
        ids.collect()
    }

    fn pairs(&mut self) -> Result<Vec<(String, String)>, String> {
        let mut pairs = Vec::new();
        while !self.words.is_empty() {
            pairs.push(self.pair()?);
        }
        Ok(pairs)
    }

    fn pair(&mut self) -> Result<(String, String), String> {
        let word = self.next();
        pair(word).ok_or_else(|| format!("`{word}` is not key=value"))
    }

    /// `A-B` or `A`, places from 101.
    fn span(&mut self) -> Result<(u64, u64), String> {
        let word = self.next();
        let (first, last) = word.split_once('-').unwrap_or((word, word));
        match (first.parse(), last.parse()) {
            (Ok(first), Ok(last)) if 101 <= first && first <= last => Ok((first, last)),
            _ => Err(format!("`{word}` is not a run of regions such as 101-110")),
        }
    }

    pub(super) fn line(&mut self) -> Result<What, String> {
        match self.peek() {
            "seed" | "stores" | "store" | "regions" | "config" | "schedulers" => Ok(What::Plan(self.plan()?)),
            "try" => {
                self.next();
                Ok(What::Try(self.action()?))
            }
            "refused" => {
                self.next();
                let mut text = Vec::new();
                while !self.words.is_empty() && !self.take(":") {
                    text.push(self.next());
                }
                let text = text.join(" ").trim_matches('"').to_owned();
                Ok(What::Refused(text, self.action()?))
            }
            "expect" => {
                self.next();
                Ok(What::Expect(Span::Now, Test::read(self)?))
            }
            word @ ("within" | "for") => {
                self.next();
                let time = self.time()?;
                if !self.take("expect") {
                    return Err(format!("`{word} TIME` is followed by `expect`"));
                }
                let span = if word == "within" { Span::Within(time) } else { Span::For(time) };
                Ok(What::Expect(span, Test::read(self)?))
            }
            "show" => {
                self.next();
                let words = self.words.iter().map(|w| (*w).to_owned()).collect();
                self.words = &[];
                Ok(What::Show(words))
            }
            _ => Ok(What::Do(self.action()?)),
        }
    }

    fn plan(&mut self) -> Result<PlanLine, String> {
        match self.next() {
            "seed" => Ok(PlanLine::Seed(self.number("a seed")?)),
            "stores" => {
                let count = self.number("a number of stores")?;
                let labels = self.pairs()?.into_iter().map(|(key, values)| (key, list(&values))).collect();
                Ok(PlanLine::Stores(count, labels))
            }
            "store" => Ok(PlanLine::Store(self.store()?, self.pairs()?)),
            "schedulers" => Ok(PlanLine::Schedulers),
            "config" => Ok(PlanLine::Config(self.text("a key")?, self.text("a value")?)),
            _ => {
                let count = self.number("a number of regions")?;
                let (mut size, mut on, mut replicas) = (96, Vec::new(), 3);
                loop {
                    match self.next() {
                        "" => return Ok(PlanLine::Regions { count, size, on, replicas }),
                        "size" => size = self.number("a size in MiB")?,
                        "on" => on = self.stores()?,
                        "replicas" => replicas = self.number("a number of replicas")?,
                        other => return Err(format!("`{other}` is none of size, on, replicas")),
                    }
                }
            }
        }
    }

    fn action(&mut self) -> Result<Action, String> {
        let word = self.next();
        Ok(match word {
            "run" => Action::Run(self.time()?),
            "delete" => Action::Delete(self.store()?, self.take("force")),
            "cancel" => Action::Cancel(self.store()?),
            "set" => {
                let (key, value) = (self.text("a key")?, self.text("a value")?);
                if self.take("for") { Action::SetFor(key, value, self.time()?) } else { Action::Set(key, value) }
            }
            "limit" => {
                let store = if self.take("all") { None } else { Some(self.store()?) };
                let adds = match self.next() {
                    "add-peer" => true,
                    "remove-peer" => false,
                    other => return Err(format!("`{other}` is neither add-peer nor remove-peer")),
                };
                Action::Limit(store, adds, self.number("a rate a minute")?)
            }
            "rule" => Action::Rule(self.rule()?),
            "unrule" => {
                let (group, id) = self.rule_name()?;
                Action::Unrule(group, id)
            }
            "group" => Action::Group(self.text("an id")?, self.number("an index")?, self.take("override")),
            "label" => Action::Label(self.label()?),
            "unlabel" => Action::Unlabel(self.text("an id")?),
            "tag" => Action::Tag(self.store()?, self.pairs()?),
            "scheduler" => self.scheduler()?,
            "checker" => {
                let pauses = self.pauses()?;
                let word = self.next();
                let checker = CheckerName::named(word).ok_or_else(|| format!("`{word}` is no checker"))?;
                Action::PauseChecker(checker, self.pause_time(pauses)?)
            }
            "admin" => Action::Admin(self.admin()?),
            "drop" if self.take("operators") => Action::DropOperators,
            "drop" if self.take("operator") => Action::DropOperator(self.region()?),
            "forget" if self.take("region") => Action::ForgetRegion(self.region()?),
            "remove" if self.take("tombstones") => Action::RemoveTombstones,
            "restart" => {
                let without = self.take("without");
                if without && !self.take("cache") {
                    return Err("`restart` or `restart without cache`".into());
                }
                Action::Restart(!without)
            }
            "join" => Action::Join(self.store()?, self.pairs()?),
            "stop" => {
                let store = self.store()?;
                Action::Stop(store, if self.take("for") { Some(self.time()?) } else { None })
            }
            "start" => Action::Start(self.store()?),
            "cut" => Action::Cut(self.store()?, true),
            "mend" => Action::Cut(self.store()?, false),
            "snapshots" => Action::Snapshots(self.store()?, self.snapshots()?),
            "slow" => {
                let store = self.store()?;
                let score: u64 = self.number("a slow score")?;
                if !(1..=100).contains(&score) {
                    return Err("a slow score lies between 1 and 100".into());
                }
                Action::Slow(store, score)
            }
            "flow" => {
                let region = self.region()?;
                let traffic = match self.next() {
                    "write" => Traffic::Write,
                    "read" => Traffic::Read,
                    other => return Err(format!("`{other}` is neither write nor read")),
                };
                let kib = self.number("a number of KiB")?;
                if kib > MAX_FLOW {
                    return Err(format!("a region's traffic is at most {MAX_FLOW} KiB a second"));
                }
                Action::Flow(region, traffic, kib)
            }
            "reject-leader" => Action::RejectLeader(true, self.pair()?),
            "accept-leader" => Action::RejectLeader(false, self.pair()?),
            "scatter" => {
                let regions = self.span()?;
                Action::Scatter(regions, if self.take("group") { self.text("a group")? } else { String::new() })
            }
            "lose" => {
                let what = match self.next() {
                    "commands" => Lost::Commands,
                    "heartbeats" => Lost::Heartbeats,
                    "reports" => Lost::Reports,
                    other => return Err(format!("`{other}` is none of commands, heartbeats, reports")),
                };
                Action::Lose(what, self.percent()?)
            }
            "stale" => Action::Stale(self.percent()?),
            "elect" => {
                let region = self.region()?;
                if !self.take("on") {
                    return Err("`elect REGION on STORE`".into());
                }
                Action::Elect(region, self.store()?)
            }
            "split" => Action::Split(self.region()?),
            "size" => Action::Size(self.region()?, self.number("a size in MiB")?),
            "report" => Action::Report(self.store()?),
            _ => return Err(format!("`{word}` is no command")),
        })
    }

    fn snapshots(&mut self) -> Result<Snapshots, String> {
        match self.next() {
            "normal" => Ok(Snapshots::Normal),
            "failing" => Ok(Snapshots::Failing),
            "slow" => Ok(Snapshots::Slow(self.number("a factor")?)),
            other => Err(format!("`{other}` is none of normal, slow, failing")),
        }
    }

    /// `pause` or `resume`
    fn pauses(&mut self) -> Result<bool, String> {
        match self.next() {
            "pause" => Ok(true),
            "resume" => Ok(false),
            other => Err(format!("`{other}` is neither pause nor resume")),
        }
    }

    fn pause_time(&mut self, pauses: bool) -> Result<Duration, String> {
        match pauses {
            false => Ok(Duration::ZERO),
            true if self.take("for") => self.time(),
            true => Err("`pause NAME for TIME`".into()),
        }
    }

    fn kind(&mut self) -> Result<Kind, String> {
        let word = self.next();
        Kind::of_short_name(word).ok_or_else(|| format!("`{word}` is no scheduler"))
    }

    fn scheduler(&mut self) -> Result<Action, String> {
        if self.take("add") {
            let kind = self.kind()?;
            if kind == Kind::ScatterRange {
                return Ok(Action::AddScatterRange);
            }
            return Ok(Action::AddScheduler(kind, if self.words.is_empty() { vec![] } else { self.stores()? }));
        }
        if self.take("remove") {
            let kind = self.kind()?;
            return Ok(Action::RemoveScheduler(kind, if self.words.is_empty() { None } else { Some(self.store()?) }));
        }
        let pauses = self.pauses()?;
        let name = if self.take("all") { "all".to_owned() } else { self.kind()?.name().to_owned() };
        Ok(Action::PauseScheduler(name, self.pause_time(pauses)?))
    }

    fn rule_name(&mut self) -> Result<(String, String), String> {
        let word = self.next();
        let (group, id) = word.split_once('/').ok_or_else(|| format!("`{word}` is not GROUP/ID"))?;
        Ok((group.to_owned(), id.to_owned()))
    }

    fn rule(&mut self) -> Result<RuleWords, String> {
        let (group, id) = self.rule_name()?;
        let role = self.text("a role")?;
        let mut rule = RuleWords { group, id, role, count: self.number("a count")?, ..RuleWords::default() };
        loop {
            match self.next() {
                "" => return Ok(rule),
                "regions" => rule.regions = Some(self.span()?),
                "at" => {
                    let word = self.next();
                    rule.at.push(if let Some((key, values)) = word.split_once("!=") {
                        (key.to_owned(), "notIn", list(values))
                    } else if let Some((key, values)) = word.split_once('=') {
                        (key.to_owned(), "in", list(values))
                    } else if let Some(key) = word.strip_prefix('!') {
                        (key.to_owned(), "notExists", Vec::new())
                    } else {
                        (word.to_owned(), "exists", Vec::new())
                    });
                }
                "spread" => rule.spread = list(self.next()),
                "isolate" => rule.isolate = self.text("a label")?,
                "index" => rule.index = self.number("an index")?,
                "override" => rule.override_ = true,
                "witness" => rule.is_witness = true,
                other => return Err(format!("`{other}` is no word of a rule")),
            }
        }
    }

    fn label(&mut self) -> Result<LabelWords, String> {
        let mut label = LabelWords { id: self.text("an id")?, ..LabelWords::default() };
        loop {
            match self.next() {
                "" if label.label.0.is_empty() => return Err("KEY=VALUE is missing".into()),
                "" => return Ok(label),
                "regions" => label.regions = Some(self.span()?),
                "for" => label.ttl = Some(self.time()?),
                "index" => label.index = self.number("an index")?,
                word => label.label = pair(word).ok_or_else(|| format!("`{word}` is not KEY=VALUE"))?,
            }
        }
    }

    fn admin(&mut self) -> Result<AdminWords, String> {
        let word = self.next();
        let (region, store) = (self.region()?, self.store()?);
        Ok(match word {
            "transfer-leader" => AdminWords::TransferLeader(region, store),
            "add-peer" => AdminWords::AddPeer(region, store),
            "add-learner" => AdminWords::AddLearner(region, store),
            "remove-peer" => AdminWords::RemovePeer(region, store),
            "transfer-peer" => AdminWords::TransferPeer(region, store, self.store()?),
            _ => return Err(format!("`{word}` is no operator")),
        })
    }
}
