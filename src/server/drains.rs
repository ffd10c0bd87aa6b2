//! Metrics of drains: what is left, why, and which limit binds. From the same explanations that people read.
//!
//! Owns: which figure stands under which name of `berth_drain_*`. Must not know: how explanations come to be.

use crate::{api::App, scheduler::explain::drain::DrainReport, telemetry::metrics::PatrolMetrics};

/// Works the gauges of all drains out anew.
pub(super) fn refresh(app: &App) {
    let now = app.now();
    show(&app.metrics.patrol, &app.cluster.explain_drains(now));
}

fn show(metrics: &PatrolMetrics, reports: &[DrainReport]) {
    for gauge in
        [&metrics.blocked, &metrics.drain_regions, &metrics.drain_bytes, &metrics.drain_oldest, &metrics.drain_binding]
    {
        gauge.reset();
    }
    for report in reports {
        let store = report.store.to_string();
        metrics.drain_regions.with_label_values(&[&store]).set(report.regions_left as f64);
        metrics.drain_bytes.with_label_values(&[&store]).set(report.bytes_left as f64);
        metrics.drain_binding.with_label_values(&[store.as_str(), report.binding.name()]).set(1.0);
        for group in &report.groups {
            let labels = [store.as_str(), group.why.name()];
            metrics.blocked.with_label_values(&labels).add(group.regions as f64);
            if !group.why.is_progress() {
                let oldest = metrics.drain_oldest.with_label_values(&labels);
                oldest.set(oldest.get().max(report.at.mono.since(group.oldest).as_secs_f64()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::{
        model::{Mono, Now, RegionId, StoreId, StoreState},
        scheduler::explain::{
            drain::Binding,
            why::{Groups, Why},
        },
        telemetry::metrics::Metrics,
    };

    #[test]
    fn each_drain_shows_what_is_left_and_why() {
        let metrics = PatrolMetrics::new().unwrap();
        let mut groups = Groups::default();
        let second = 1_000_000_000;
        for (id, why, since) in [
            (1, Why::Moving, 1),
            (2, Why::SnapshotSlow { to: StoreId(4) }, 3),
            (3, Why::SnapshotSlow { to: StoreId(5) }, 2),
        ] {
            groups.add(RegionId(id), &why, Mono(since * second));
        }
        let report = DrainReport {
            store: StoreId(3),
            address: String::new(),
            state: StoreState::Offline,
            at: Now { mono: Mono(10 * second), ..Now::default() },
            regions_left: 3,
            bytes_left: 300,
            progress: None,
            binding: Binding::Nodes,
            groups: groups.into_sorted(),
            unburied: None,
        };
        show(&metrics, &[report]);
        assert_eq!(metrics.drain_regions.with_label_values(&["3"]).get(), 3.0);
        assert_eq!(metrics.blocked.with_label_values(&["3", "snapshot-slow"]).get(), 2.0);
        assert_eq!(metrics.blocked.with_label_values(&["3", "moving"]).get(), 1.0);
        assert_eq!(metrics.drain_oldest.with_label_values(&["3", "snapshot-slow"]).get(), 8.0);
        assert_eq!(metrics.drain_binding.with_label_values(&["3", "storage-nodes"]).get(), 1.0);
        show(&metrics, &[]);
        assert_eq!(prometheus::core::Collector::collect(&metrics.drain_regions)[0].get_metric().len(), 0);
    }

    /// A value of the subset of YAML that rule files need: maps, lists and scalars in block style, `|-` texts.
    #[derive(Debug)]
    enum Yaml {
        Map(BTreeMap<String, Yaml>),
        List(Vec<Yaml>),
        Text(String),
    }

    impl Yaml {
        fn get(&self, key: &str) -> &Yaml {
            let Yaml::Map(map) = self else { panic!("no map: {self:?}") };
            map.get(key).unwrap_or_else(|| panic!("no {key} in {map:?}"))
        }

        fn list(&self) -> &[Yaml] {
            let Yaml::List(list) = self else { panic!("no list: {self:?}") };
            list
        }

        fn text(&self) -> &str {
            let Yaml::Text(text) = self else { panic!("no text: {self:?}") };
            text
        }
    }

    /// Lines with their indents; a list item's dash counts as indent of what follows it.
    struct Lines<'a>(std::collections::VecDeque<(usize, &'a str)>);

    impl<'a> Lines<'a> {
        fn of(text: &'a str) -> Self {
            let kept = text.lines().filter(|l| !l.trim_start().starts_with('#') && !l.trim().is_empty());
            Self(kept.map(|l| (l.len() - l.trim_start().len(), l.trim())).collect())
        }

        fn value(&mut self, indent: usize) -> Yaml {
            match self.0.front() {
                Some((at, line)) if *at == indent && line.starts_with("- ") => self.items(indent),
                Some((at, _)) if *at == indent => self.map(indent),
                other => panic!("a value at {indent}: {other:?}"),
            }
        }

        fn items(&mut self, indent: usize) -> Yaml {
            let mut list = Vec::new();
            while let Some((at, rest)) = self.0.front().and_then(|(at, l)| Some((*at, l.strip_prefix("- ")?))) {
                if at != indent {
                    break;
                }
                self.0[0] = (indent + 2, rest);
                list.push(self.value(indent + 2));
            }
            Yaml::List(list)
        }

        fn map(&mut self, indent: usize) -> Yaml {
            let mut map = BTreeMap::new();
            while let Some((_, line)) = self.0.front().copied().filter(|(at, _)| *at == indent) {
                self.0.pop_front();
                let (key, rest) = line.split_once(':').unwrap_or_else(|| panic!("no key in {line:?}"));
                assert!(rest.is_empty() || rest.starts_with(' '), "{line:?}");
                let value = match rest.trim() {
                    "" => self.value(self.0.front().unwrap().0),
                    "|-" => {
                        let mut text = Vec::new();
                        while let Some((_, line)) = self.0.front().copied().filter(|(at, _)| *at > indent) {
                            self.0.pop_front();
                            text.push(line);
                        }
                        Yaml::Text(text.join("\n"))
                    }
                    quoted if quoted.starts_with('"') => Yaml::Text(serde_json::from_str(quoted).unwrap()),
                    plain => {
                        assert!(!plain.contains(": ") && !plain.contains(" #"), "quote this: {plain:?}");
                        Yaml::Text(plain.to_owned())
                    }
                };
                assert!(map.insert(key.to_owned(), value).is_none(), "{key} twice");
            }
            Yaml::Map(map)
        }
    }

    /// The labels that an expression joins on or selects by.
    fn labels_of(expr: &str) -> BTreeSet<&str> {
        let list = regex::Regex::new(r"(?:on|by|ignoring|group_left|group_right) ?\(([^)]*)\)").unwrap();
        let selected = regex::Regex::new(r"[{,] ?([a-z_]+) ?[=!]").unwrap();
        let listed = list.captures_iter(expr).flat_map(|c| c.get(1).unwrap().as_str().split(',').map(str::trim));
        listed.chain(selected.captures_iter(expr).map(|c| c.get(1).unwrap().as_str())).collect()
    }

    #[test]
    fn alert_rules_are_yaml_and_name_metrics_that_exist() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/prometheus/berth.rules.yml");
        let text = std::fs::read_to_string(path).unwrap();
        let mut lines = Lines::of(&text);
        let rules = lines.value(0);
        assert!(lines.0.is_empty(), "left over: {:?}", lines.0);
        let families: BTreeMap<&str, &[&str]> = Metrics::families().map(|f| (f.name, f.labels)).collect();
        let word = regex::Regex::new("(pd|berth|grpc)_[a-z_]+").unwrap();
        let mut alerts = BTreeSet::new();
        for rule in rules.get("groups").list().iter().flat_map(|g| g.get("rules").list()) {
            let expr = rule.get("expr").text();
            let named: Vec<&str> = word.find_iter(expr).map(|m| m.as_str()).collect();
            assert!(!named.is_empty(), "{expr} names no metric");
            assert!(named.iter().all(|name| families.contains_key(name)), "{named:?}");
            // Prometheus gives each series the first two.
            let mut known = BTreeSet::from(["job", "instance"]);
            known.extend(named.iter().flat_map(|name| families[name]));
            assert!(labels_of(expr).is_subset(&known), "{expr}: {known:?}");
            // A join of two families by the store alone would mix clusters that one Prometheus looks at.
            if let Some((_, on)) = expr.split_once("on (") {
                assert!(on.starts_with("job, instance, "), "{expr}");
            }
            assert!(["warning", "critical"].contains(&rule.get("labels").get("severity").text()));
            assert!(rule.get("for").text().ends_with(['m', 's']));
            let told = rule.get("annotations");
            assert!(!told.get("summary").text().is_empty() && told.get("description").text().contains("/berth/v1/"));
            alerts.insert(rule.get("alert").text());
        }
        let wanted = [
            "BerthDrainStalled",
            "BerthDrainHeldByOldDenyRule",
            "BerthOldDenyRule",
            "BerthPatrolSlow",
            "BerthStatesDiffer",
        ];
        assert!(wanted.iter().all(|alert| alerts.contains(alert)), "{alerts:?}");
    }
}
