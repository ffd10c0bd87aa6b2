//! What the process uses: CPU time, memory, files. Read at each scrape, so that a rate over two scrapes is what was used between them.
//!
//! Owns: where the system tells it. Must not know: what the server does.

use prometheus::{
    Registry,
    core::{Collector, Desc},
    proto::MetricFamily,
};
use rustix::{
    process::{Resource, getrlimit},
    time::{ClockId, clock_gettime},
};

use super::{MetricsError, ProcessMetrics};
use crate::model::Wall;

/// Has `/metrics` show the process, which runs since `started`.
///
/// # Errors
/// They are registered already.
pub fn register(registry: &Registry, started: Wall) -> Result<(), MetricsError> {
    let start_seconds = started.unix_millis() as f64 / 1000.0;
    registry.register(Box::new(Process { shape: ProcessMetrics::new()?, start_seconds }))?;
    Ok(())
}

struct Process {
    /// Only described: each scrape has values of its own, so that two at once do not disturb each other.
    shape: ProcessMetrics,
    start_seconds: f64,
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        let ProcessMetrics { cpu_seconds, resident_bytes, virtual_bytes, start_seconds, open_fds, max_fds } =
            &self.shape;
        let gauges = [resident_bytes, virtual_bytes, start_seconds, open_fds, max_fds];
        cpu_seconds.desc().into_iter().chain(gauges.into_iter().flat_map(Collector::desc)).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // It was made before in the same way.
        let Ok(now) = ProcessMetrics::new() else { return vec![] };
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        now.cpu_seconds.inc_by(cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9);
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        now.resident_bytes.set(bytes_of(&status, "VmRSS:"));
        now.virtual_bytes.set(bytes_of(&status, "VmSize:"));
        now.start_seconds.set(self.start_seconds);
        now.open_fds.set(std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count) as f64);
        // No limit is none that can be reached.
        now.max_fds.set(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX) as f64);
        let ProcessMetrics { cpu_seconds, resident_bytes, virtual_bytes, start_seconds, open_fds, max_fds } = now;
        let gauges = [resident_bytes, virtual_bytes, start_seconds, open_fds, max_fds];
        cpu_seconds.collect().into_iter().chain(gauges.iter().flat_map(Collector::collect)).collect()
    }
}

/// A line of the form `VmRSS:     1234 kB`, in bytes; 0 where there is none.
fn bytes_of(status: &str, name: &str) -> f64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib: u64 = line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse().ok()).unwrap_or(0);
    (kib * 1024) as f64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::telemetry::metrics::exposition;

    /// The values of a scrape by name.
    fn scrape(registry: &Registry) -> std::collections::BTreeMap<String, f64> {
        let text = exposition(registry).unwrap();
        let pairs = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(' '));
        pairs.map(|(name, value)| (name.to_owned(), value.parse().unwrap())).collect()
    }

    #[test]
    fn each_scrape_reads_the_process_anew() {
        let registry = Registry::new();
        register(&registry, Wall(1_795_358_338_250_000_000)).unwrap();
        let before = scrape(&registry);
        let names: Vec<&str> = before.keys().map(String::as_str).collect();
        let mut wanted: Vec<&str> = ProcessMetrics::FAMILIES.iter().map(|family| family.name).collect();
        wanted.sort_unstable();
        assert_eq!(names, wanted);
        assert_eq!(before["process_start_time_seconds"], 1_795_358_338.25);
        let (resident, all) = (before["process_resident_memory_bytes"], before["process_virtual_memory_bytes"]);
        assert!(resident > 1e6 && resident < all, "{before:?}");
        assert!(before["process_open_fds"] >= 3.0 && before["process_open_fds"] < before["process_max_fds"]);
        let held: Vec<_> = (0..100).map(|_| std::fs::File::open("/proc/self/status").unwrap()).collect();
        let mut work = 0_u64;
        let after = loop {
            (0..1_000_000_u64).for_each(|n| work = std::hint::black_box(work.wrapping_mul(31).wrapping_add(n)));
            let after = scrape(&registry);
            if after["process_cpu_seconds_total"] > before["process_cpu_seconds_total"] {
                break after;
            }
        };
        // Other tests of this process open and close files, too.
        assert!(after["process_open_fds"] > 100.0, "{after:?} with {} open", held.len());
    }

    #[test]
    fn lines_that_are_not_there_are_nothing() {
        assert_eq!(bytes_of("Name:\tx\nVmRSS:\t    12 kB\n", "VmRSS:"), 12288.0);
        assert_eq!(bytes_of("VmRSS:\tmuch\n", "VmRSS:"), 0.0);
        assert_eq!(bytes_of("", "VmRSS:"), 0.0);
    }
}
