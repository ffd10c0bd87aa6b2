//! Carries scenarios out.
//!
//! Owns: the meaning of each line, the time between lines, what a run ends with. Must not know: how a scenario came to be (a file, a
//! seed, a test).

use std::{collections::BTreeMap, fmt::Write as _, path::PathBuf, time::Duration};

use serde_json::{Value, json};

use super::{
    bugs::Bug,
    checks::Broken,
    error::CallError,
    plan::{Plan, RegionPlan, StorePlan, describe, region_key},
    script::{Action, AdminWords, LabelWords, Line, Lost, PlanLine, RuleWords, ScriptError, Span, What},
    show,
    test::Test,
    world::{Tally, World},
};
use crate::{
    api::rows,
    config::{Config, Flags, Host, load},
    meta::{Command, LimitKind, RuleRow},
    model::{Now, RegionId, StoreId, StoreLabel},
    scheduler::admin::Request,
    sim::{Flow, Incoming},
    store::hot::Traffic,
};

/// What a view showed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shown {
    /// The line that asked for it.
    pub line: usize,
    /// What it shows.
    pub text: Vec<String>,
}

/// What a run ended with.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Outcome {
    /// Why it failed: the first thing that was not as the scenario says, or that must never be. `None`: it did not.
    pub failure: Option<String>,
    /// Checks that did not hold.
    pub broken: Vec<Broken>,
    /// What was counted.
    pub tally: Tally,
    /// How often each check had something to look at.
    pub checks: BTreeMap<&'static str, u64>,
    /// Expectations that held.
    pub expected: u64,
    /// The number of all that happened: equal runs have equal numbers.
    pub hash: u64,
    /// What the views showed.
    pub shown: Vec<Shown>,
    /// The last lines of the trace.
    pub trace: Vec<String>,
    /// Virtual time.
    pub took: Duration,
}

/// Runs the scenario `text`; `bug` is put back first.
///
/// # Errors
/// A scenario that cannot be read.
pub fn run(text: &str, bug: Option<Bug>) -> Result<Outcome, ScriptError> {
    let lines = super::script::parse(text)?;
    let mut runner = Runner::new(bug);
    for line in &lines {
        if let Err(why) = runner.line(line) {
            runner.outcome.failure = Some(format!("line {}: {}: {why}", line.number, line.text));
            break;
        }
    }
    // What the last lines did is checked too.
    if runner.outcome.failure.is_none() && runner.world.is_some() {
        runner.outcome.failure = runner.step().err();
    }
    Ok(runner.finish())
}

/// The scenario without its views: what is shown is then written, not compared.
pub fn without_views(text: &str) -> String {
    text.lines().filter(|line| !line.starts_with('>')).flat_map(|line| [line, "\n"]).collect()
}

/// The scenario with the views as they are now.
pub fn rewrite(text: &str, shown: &[Shown]) -> String {
    let mut out = String::new();
    let mut lines = text.lines().enumerate().peekable();
    while let Some((at, line)) = lines.next() {
        let _ = writeln!(out, "{line}");
        let Some(view) = shown.iter().find(|s| s.line == at + 1) else { continue };
        while lines.next_if(|(_, next)| next.starts_with('>')).is_some() {}
        for line in &view.text {
            let _ = writeln!(out, "{}", format!("> {line}").trim_end());
        }
    }
    out
}

struct Runner {
    plan: Plan,
    file: BTreeMap<String, BTreeMap<String, String>>,
    regions: u64,
    bug: Option<Bug>,
    world: Option<World>,
    outcome: Outcome,
}

impl Runner {
    fn new(bug: Option<Bug>) -> Self {
        Self { plan: Plan::default(), file: BTreeMap::new(), regions: 0, bug, world: None, outcome: Outcome::default() }
    }

    fn finish(self) -> Outcome {
        let mut outcome = self.outcome;
        if let Some(world) = self.world {
            outcome.broken = world.broken().to_vec();
            outcome.tally = world.tally.clone();
            outcome.checks = world.check_counts();
            outcome.hash = world.trace().hash();
            outcome.trace = world.trace().lines().map(str::to_owned).collect();
            outcome.took = world.elapsed();
        }
        outcome
    }

    fn line(&mut self, line: &Line) -> Result<(), String> {
        if let What::Plan(plan) = &line.what {
            return self.plan(plan);
        }
        self.start()?;
        if let Some(at) = line.at {
            let now = self.world()?.elapsed();
            let wait = at.checked_sub(now).ok_or_else(|| format!("it is {:.1} s already", now.as_secs_f64()))?;
            self.pass(wait)?;
        }
        match &line.what {
            What::Plan(_) => Ok(()),
            What::Do(Action::Run(time)) => self.pass(*time),
            What::Do(action) => {
                let told = line.text.clone();
                self.world()?.tell(&told);
                self.act(action).map_err(|e| e.to_string())?;
                self.unbroken()
            }
            What::Try(action) => {
                let done = if self.act(action).is_ok() { "" } else { " (refused)" };
                let told = format!("{}{done}", line.text);
                self.world()?.tell(&told);
                self.unbroken()
            }
            What::Refused(text, action) => match self.act(action) {
                Ok(()) => Err("it was not refused".into()),
                Err(error) if error.to_string().contains(text) => self.unbroken(),
                Err(error) => Err(format!("it was refused with: {error}")),
            },
            What::Expect(span, test) => self.expect(*span, test),
            What::Show(words) => {
                let text = show::view(self.world()?, words)?;
                let same = text == line.shown;
                self.outcome.shown.push(Shown { line: line.number, text });
                // What is not there yet is written, not compared.
                if same || line.shown.is_empty() { Ok(()) } else { Err("the view is another one".into()) }
            }
        }
    }

    fn world(&mut self) -> Result<&mut World, String> {
        self.world.as_mut().ok_or_else(|| "nothing has started".to_owned())
    }

    fn plan(&mut self, line: &PlanLine) -> Result<(), String> {
        if self.world.is_some() {
            return Err("the cluster has started already".into());
        }
        match line {
            PlanLine::Seed(seed) => self.plan.seed = *seed,
            PlanLine::Stores(count, labels) => {
                for at in 0..*count {
                    let dealt = labels.iter().map(|(key, values)| {
                        (key.clone(), values[usize::try_from(at).unwrap_or(0) % values.len()].clone())
                    });
                    let words: Vec<_> = dealt.collect();
                    self.plan.stores.insert(StoreId(at + 1), store_plan(&words));
                }
            }
            PlanLine::Store(id, words) => {
                self.plan.stores.insert(*id, store_plan(words));
            }
            PlanLine::Regions { count, size, on, replicas } => {
                self.regions += count;
                let part = RegionPlan { count: *count, size_mib: *size, on: on.clone(), replicas: *replicas };
                self.plan.regions.push(part);
            }
            PlanLine::Schedulers => self.plan.schedulers = true,
            PlanLine::Config(key, value) => {
                let (section, item) = key.split_once('.').unwrap_or(("", key));
                self.file.entry(section.to_owned()).or_default().insert(item.to_owned(), value.clone());
            }
        }
        Ok(())
    }

    fn start(&mut self) -> Result<(), String> {
        if self.world.is_some() {
            return Ok(());
        }
        let config = config(&self.file)?;
        let world = World::new(&self.plan, &config, self.bug).map_err(|e| e.to_string())?;
        self.world = Some(world);
        self.unbroken()
    }

    /// Fails when something is broken.
    fn unbroken(&mut self) -> Result<(), String> {
        match self.world()?.broken().first() {
            None => Ok(()),
            Some(broken) => Err(broken.to_string()),
        }
    }

    fn step(&mut self) -> Result<(), String> {
        self.world()?.step();
        self.unbroken()
    }

    fn pass(&mut self, time: Duration) -> Result<(), String> {
        let end = self.world()?.elapsed() + time;
        while self.world()?.elapsed() < end {
            self.step()?;
        }
        Ok(())
    }

    fn expect(&mut self, span: Span, test: &Test) -> Result<(), String> {
        let (time, until) = match span {
            Span::Now => (Duration::ZERO, true),
            Span::Within(time) => (time, true),
            Span::For(time) => (time, false),
        };
        let end = self.world()?.elapsed() + time;
        loop {
            let (holds, found) = test.ask(self.world()?);
            let over = self.world()?.elapsed() >= end;
            match (holds, until, over) {
                (true, true, _) | (true, false, true) => break,
                (false, true, true) => return Err(format!("it is {found}")),
                (false, false, _) => {
                    return Err(format!("at {:.1} s it is {found}", self.world()?.elapsed().as_secs_f64()));
                }
                (false, true, false) | (true, false, false) => self.step()?,
            }
        }
        self.outcome.expected += 1;
        Ok(())
    }

    /// The keys of the regions that stood at these places at the start, in hex.
    fn keys(&self, regions: Option<(u64, u64)>) -> (String, String) {
        let Some((first, last)) = regions else { return (String::new(), String::new()) };
        let end =
            if last - 100 >= self.regions { String::new() } else { hex::encode(region_key(last - 100).as_bytes()) };
        (hex::encode(region_key(first - 101).as_bytes()), end)
    }

    fn act(&mut self, action: &Action) -> Result<(), CallError> {
        let keys = match action {
            Action::Rule(RuleWords { regions, .. }) | Action::Label(LabelWords { regions, .. }) => self.keys(*regions),
            _ => Default::default(),
        };
        let Some(world) = self.world.as_mut() else { return Err(CallError::Text("nothing has started".into())) };
        if let Some(result) = fault(world, action) {
            return result;
        }
        world.call(|control, now| match action {
            Action::Delete(id, force) => control.offline(*id, *force, now),
            Action::Cancel(id) => control.propose(&Command::UpStore { id: *id }, now).map(drop),
            Action::Set(key, value) => control.post_config(body(key, value).as_bytes(), now),
            Action::SetFor(key, value, time) => {
                control.post_ttl_config(body(key, value).as_bytes(), time.as_secs(), now)
            }
            Action::Limit(store, adds, rate) => {
                let kind = if *adds { LimitKind::AddPeer } else { LimitKind::RemovePeer };
                match store {
                    Some(id) => control.set_limit(*id, kind, *rate, now),
                    None => {
                        control.propose(&Command::SetAllStoreLimits { kind, rate: *rate, stores: None }, now).map(drop)
                    }
                }
            }
            Action::Rule(rule) => control.put_rules(vec![rule_row(rule, &keys)], vec![], now),
            Action::Unrule(group, id) => control.put_rules(vec![], vec![(group.clone(), id.clone())], now),
            Action::Group(id, index, override_) => {
                let json = json!({ "id": id, "index": index, "override": override_ }).to_string();
                control.put_group(id, &json, now)
            }
            Action::Label(label) => control.put_label_rule(&label.id, &label_json(label, &keys, now), now),
            Action::Unlabel(id) => {
                control.propose(&Command::PutLabelRules { rules: vec![], delete: vec![id.clone()] }, now).map(drop)
            }
            Action::Tag(id, labels) => {
                let labels = labels.iter().map(|(key, value)| StoreLabel { key: key.clone(), value: value.clone() });
                let command = Command::SetStoreLabels { id: *id, labels: labels.collect(), force: false };
                control.propose(&command, now).map(drop)
            }
            Action::AddScheduler(kind, stores) => control.add_scheduler(*kind, stores, now),
            Action::AddScatterRange => control.add_scatter_range(now),
            Action::RejectLeader(rejects, label) => control.reject_leader(*rejects, label, now),
            Action::RemoveScheduler(kind, store) => control.remove_scheduler(*kind, *store, now),
            Action::PauseScheduler(name, span) => control.pause_scheduler(name, *span, now),
            Action::PauseChecker(checker, span) => {
                control.pause_checker(*checker, *span, now);
                Ok(())
            }
            Action::RemoveTombstones => control.remove_tombstones(now),
            _ => Err(CallError::Text("not a call".into())),
        })
    }
}

/// Carries out what is done to nodes, links and operators; `None`: it is a call.
fn fault(world: &mut World, action: &Action) -> Option<Result<(), CallError>> {
    let now = world.now();
    let known = |there: bool| if there { Ok(()) } else { Err(CallError::Text("it cannot be done now".into())) };
    let done = match action {
        Action::Stop(id, time) => known(world.fleet.stop(*id, *time, now)),
        Action::Start(id) => known(world.fleet.start(*id, now)),
        Action::Cut(id, cut) => {
            world.set_cut(*id, *cut);
            Ok(())
        }
        Action::Snapshots(id, how) => known(world.fleet.set_snapshots(*id, *how)),
        Action::Lose(what, percent) => {
            match what {
                Lost::Commands => world.links.lose_commands = *percent,
                Lost::Heartbeats => world.links.lose_heartbeats = *percent,
                Lost::Reports => world.links.lose_reports = *percent,
            }
            Ok(())
        }
        Action::Stale(percent) => {
            world.fleet.set_stale_heartbeats(*percent);
            Ok(())
        }
        Action::Elect(region, store) => known(world.fleet.elect_on(*region, *store)),
        Action::Split(region) => known(world.fleet.split_now(*region, now)),
        Action::Size(region, mib) => known(world.fleet.resize(*region, *mib)),
        Action::Report(id) => {
            world.fleet.report_store(*id, now);
            Ok(())
        }
        Action::Slow(id, score) => known(world.fleet.set_slow_score(*id, *score)),
        Action::Flow(id, traffic, kib) => {
            let old = world.fleet.flow(*id);
            let flow = match traffic {
                Traffic::Write => Flow { write: *kib, ..old },
                Traffic::Read => Flow { read: *kib, ..old },
            };
            known(world.fleet.set_flow(*id, flow))
        }
        Action::Scatter(regions, group) => return Some(scatter(world, *regions, group)),
        Action::Restart(with_cache) => return Some(world.restart(*with_cache)),
        Action::Join(id, words) => return Some(join(world, *id, words)),
        Action::Admin(words) => return Some(admin(world, *words)),
        Action::DropOperator(id) => {
            let effects = world.control.cluster().cancel_operator(*id, now);
            return Some(effects.map(|e| world.act(e)).map_err(CallError::from));
        }
        Action::DropOperators => {
            let effects = world.control.cluster().cancel_all_operators(now);
            world.act(effects);
            return Some(Ok(()));
        }
        Action::ForgetRegion(id) => {
            let effects = world.control.cluster().drop_region(*id, now);
            world.act(effects);
            return Some(Ok(()));
        }
        _ => return None,
    };
    if done.is_ok() {
        world.tally.faults += 1;
    }
    Some(done)
}

fn join(world: &mut World, id: StoreId, words: &[(String, String)]) -> Result<(), CallError> {
    let now = world.now();
    if world.fleet.record(id).is_some() {
        return Err(CallError::Text(format!("there is a store {id} already")));
    }
    world.fleet.join(id, now);
    describe(&mut world.fleet, id, &store_plan(words));
    let record = world.fleet.record(id).cloned().unwrap_or_default();
    world.call(|control, now| control.put_store(&record, now))?;
    world.fleet.receive(Incoming::Connected { store: id }, now);
    Ok(())
}

fn admin(world: &mut World, words: AdminWords) -> Result<(), CallError> {
    let request = match words {
        AdminWords::TransferLeader(region, to) => Request::TransferLeader { region, to },
        AdminWords::AddPeer(region, store) => Request::AddPeer { region, store },
        AdminWords::AddLearner(region, store) => Request::AddLearner { region, store },
        AdminWords::RemovePeer(region, store) => Request::RemovePeer { region, store },
        AdminWords::TransferPeer(region, from, to) => Request::TransferPeer { region, from, to },
    };
    let effects = world.control.cluster().admin(&request, "scenario", world.now())?;
    world.act(effects);
    Ok(())
}

fn scatter(world: &mut World, regions: (u64, u64), group: &str) -> Result<(), CallError> {
    let ids: Vec<RegionId> = (regions.0..=regions.1).map(RegionId).collect();
    let (scattered, effects) = world.control.cluster().scatter(&ids, group, false, "scenario", world.now());
    world.act(effects);
    let why = |(id, why): &(RegionId, String)| CallError::Text(format!("region {id}: {why}"));
    scattered.failed.first().map_or(Ok(()), |failed| Err(why(failed)))
}

fn store_plan(words: &[(String, String)]) -> StorePlan {
    let mut plan = StorePlan::default();
    for (key, value) in words {
        if key == "version" {
            plan.version.clone_from(value);
        } else {
            plan.labels.push((key.clone(), value.clone()));
        }
    }
    plan
}

/// The configuration of a file with these items.
fn config(items: &BTreeMap<String, BTreeMap<String, String>>) -> Result<Config, String> {
    let mut file = String::new();
    for (section, items) in items {
        if !section.is_empty() {
            let _ = writeln!(file, "[{section}]");
        }
        for (key, value) in items {
            let _ = writeln!(file, "{key} = {}", raw(value));
        }
    }
    let host = Host { name: "sim".into(), directory: PathBuf::from("/") };
    let loaded = load(&Flags::default(), Some(&file), &host).map_err(|e| e.to_string())?;
    match loaded.warnings.first() {
        None => Ok(loaded.config),
        Some(warning) => Err(warning.clone()),
    }
}

/// A word as a JSON value: a number or a truth value if it reads as one, else a text.
fn raw(word: &str) -> Value {
    match serde_json::from_str(word) {
        Ok(value @ (Value::Number(_) | Value::Bool(_))) => value,
        _ => word.into(),
    }
}

/// The body that changes one item; truth values travel as texts, as PD wants them.
fn body(key: &str, value: &str) -> String {
    let value = Some(raw(value)).filter(|v| !v.is_boolean()).unwrap_or_else(|| value.into());
    json!({ key: value }).to_string()
}

fn rule_row(rule: &RuleWords, keys: &(String, String)) -> RuleRow {
    let constraints = rule.at.iter().map(|(key, op, values)| json!({ "key": key, "op": op, "values": values }));
    let json = json!({
        "group_id": rule.group,
        "id": rule.id,
        "index": rule.index,
        "override": rule.override_,
        "start_key": keys.0,
        "end_key": keys.1,
        "role": rule.role,
        "count": rule.count,
        "label_constraints": constraints.collect::<Vec<_>>(),
        "location_labels": rule.spread,
        "isolation_level": rule.isolate,
        "is_witness": rule.is_witness,
    });
    RuleRow { group: rule.group.clone(), id: rule.id.clone(), json: json.to_string() }
}

fn label_json(label: &LabelWords, keys: &(String, String), now: Now) -> String {
    let mut one = json!({ "key": label.label.0, "value": label.label.1 });
    if let (Some(ttl), Some(one)) = (label.ttl, one.as_object_mut()) {
        let at = time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(now.wall.0));
        let start = at.ok().and_then(|at| at.format(rows::UNIX_DATE).ok()).unwrap_or_default();
        one.insert("ttl".into(), format!("{}s", ttl.as_secs()).into());
        one.insert("start_at".into(), start.into());
    }
    json!({
        "id": label.id,
        "index": label.index,
        "labels": [one],
        "rule_type": "key-range",
        "data": [{ "start_key": keys.0, "end_key": keys.1 }],
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PLAN: &str = "stores 4\nregions 3 on 1,2,3\n";

    fn fails(lines: &str) -> String {
        run(&format!("{PLAN}{lines}"), None).unwrap().failure.unwrap_or_default()
    }

    #[test]
    fn what_is_not_as_expected_fails_with_its_line() {
        assert_eq!(fails("within 10s expect prepared\n@20s delete 4\nwithin 1m expect store 4 tombstone"), "");
        assert_eq!(fails("expect store 1 offline"), "line 3: expect store 1 offline: it is up preparing");
        assert!(fails("within 5s expect store 1 offline").starts_with("line 3: within 5s"));
        assert!(fails("for 1m expect operators >= 1").contains("at 0.0 s it is 0"));
        assert!(fails("delete 9").contains("store 9 not found"));
        assert!(fails("refused \"\" : limit 1 add-peer 3").contains("it was not refused"));
        assert!(fails("@9s run 1s\n@5s run 1s").contains("it is 10.0 s already"));
        assert!(fails("run 1s\nstores 3").contains("the cluster has started already"));
        assert!(fails("stop 9").contains("it cannot be done now"));
        assert!(fails("show nothing").contains("is no view"));
    }

    #[test]
    fn views_are_compared_and_written() {
        let script = format!("{PLAN}show regions\n> region 101: 1* 2 3\nrun 1s\n");
        let outcome = run(&script, None).unwrap();
        assert!(outcome.failure.unwrap_or_default().contains("the view is another one"));
        let blank = without_views(&script);
        let outcome = run(&blank, None).unwrap();
        assert_eq!(outcome.failure, None);
        let written = rewrite(&blank, &outcome.shown);
        assert!(written.contains("show regions\n> region 101: 1* 2 3\n> region 102: 1* 2 3\n"), "{written}");
        assert!(written.ends_with("run 1s\n"));
        assert_eq!(run(&written, None).unwrap().failure, None);
        assert_eq!(rewrite(&script, &outcome.shown), written, "old views are replaced");
    }
}
