//! The outcome of a measurement: named numbers with units, as a table or as JSON.
//!
//! Owns: the printing.

use std::{fmt, time::Duration};

use serde_json::{Map, Value, json};

use super::Histogram;

/// What a number counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// Things.
    Count,
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Millis,
    /// Microseconds.
    Micros,
    /// Things a second.
    PerSecond,
    /// Things a minute.
    PerMinute,
    /// Cores kept busy.
    Cores,
    /// Mebibytes.
    MiB,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Unit::Count => "",
            Unit::Seconds => "s",
            Unit::Millis => "ms",
            Unit::Micros => "µs",
            Unit::PerSecond => "/s",
            Unit::PerMinute => "/min",
            Unit::Cores => "cores",
            Unit::MiB => "MiB",
        }
    }
}

/// Named numbers, in order.
#[derive(Clone, PartialEq, Debug)]
pub struct Table {
    title: String,
    rows: Vec<(String, f64, Unit)>,
}

impl Table {
    /// An empty table.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), rows: Vec::new() }
    }

    /// Adds a number.
    pub fn add(&mut self, name: impl Into<String>, value: f64, unit: Unit) {
        self.rows.push((name.into(), value, unit));
    }

    /// Adds a time in seconds.
    pub fn seconds(&mut self, name: impl Into<String>, value: Duration) {
        self.add(name, value.as_secs_f64(), Unit::Seconds);
    }

    /// Adds count, median, 99th percentile and maximum of latencies.
    pub fn latencies(&mut self, name: &str, h: &Histogram) {
        let ms = |d: Duration| d.as_secs_f64() * 1e3;
        self.add(format!("{name}, number"), h.count() as f64, Unit::Count);
        self.add(format!("{name}, p50"), ms(h.quantile(0.5)), Unit::Millis);
        self.add(format!("{name}, p99"), ms(h.quantile(0.99)), Unit::Millis);
        self.add(format!("{name}, max"), ms(h.max()), Unit::Millis);
    }

    /// The number of this name.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.rows.iter().find(|(n, ..)| n == name).map(|(_, v, _)| *v)
    }

    /// As JSON: the title, and each number under its name with its unit.
    pub fn to_json(&self) -> Value {
        let number =
            |(name, value, unit): &(String, f64, Unit)| (name.clone(), json!({ "value": value, "unit": unit.name() }));
        json!({ "title": self.title, "values": self.rows.iter().map(number).collect::<Map<_, _>>() })
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.title)?;
        let width = self.rows.iter().map(|(n, ..)| n.chars().count()).max().unwrap_or(0);
        for (name, value, unit) in &self.rows {
            writeln!(f, "  {name:width$}  {:>12} {}", number(*value), unit.name())?;
        }
        Ok(())
    }
}

/// Few digits, but enough: three after the point below 100, none for whole numbers.
fn number(value: f64) -> String {
    match value {
        v if v.fract() == 0.0 && v.abs() < 1e15 => format!("{v:.0}"),
        v if v.abs() < 100.0 => format!("{v:.3}"),
        v => format!("{v:.1}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn a_table_prints_in_columns_and_as_json() {
        let mut table = Table::new("idle");
        table.add("server CPU", 0.0271, Unit::Cores);
        table.add("regions", 200_000.0, Unit::Count);
        let lines: Vec<String> = table.to_string().lines().map(|l| l.trim_end().to_owned()).collect();
        assert_eq!(lines, ["idle", "  server CPU         0.027 cores", "  regions           200000"]);
        assert_eq!(table.get("regions"), Some(200_000.0));
        assert_eq!(
            table.to_json().to_string(),
            r#"{"title":"idle","values":{"server CPU":{"value":0.0271,"unit":"cores"},"regions":{"value":200000.0,"unit":""}}}"#
        );
    }

    #[test]
    fn latencies_come_as_four_numbers() {
        let mut h = Histogram::default();
        (1..=100).for_each(|ms| h.record(Duration::from_millis(ms)));
        let mut table = Table::new("x");
        table.latencies("GetRegion", &h);
        assert_eq!(table.get("GetRegion, number"), Some(100.0));
        let p99 = table.get("GetRegion, p99").unwrap();
        assert!((98.9..100.0).contains(&p99), "{p99}");
    }
}
