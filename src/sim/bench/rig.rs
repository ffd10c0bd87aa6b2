//! What the rows share: the server to measure, and a fleet that runs beside the measurement.
//!
//! Owns: starting and ending the fleet, and waiting for something to happen to it.

use std::time::Duration;

use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{BenchError, Process, Usage};
use crate::{
    model::Now,
    sim::{FleetOptions, FleetReport, FleetView, SimError, driver, http::HttpClient},
};

/// The server.
pub(super) struct Target {
    pub(super) addr: String,
    pub(super) http: HttpClient,
    process: Option<Process>,
}

impl Target {
    pub(super) fn new(addr: &str, pid: Option<u32>) -> Result<Self, BenchError> {
        let http = HttpClient::new(addr)?;
        let target = Self { addr: http.base(), http, process: pid.map(Process::new) };
        target.usage()?;
        Ok(target)
    }

    /// The server's process.
    pub(super) fn process(&self) -> Result<Process, BenchError> {
        self.process.ok_or_else(|| BenchError::Wrong("this needs --pid, the server's process".into()))
    }

    /// What the server has used; `None` without a process id.
    pub(super) fn usage(&self) -> Result<Option<Usage>, BenchError> {
        self.process.map(|p| p.usage()).transpose()
    }
}

/// CPU time between two points in time.
pub(super) struct Span {
    from: Instant,
    usage: Option<Usage>,
}

impl Span {
    pub(super) fn begin(target: &Target) -> Result<Self, BenchError> {
        Ok(Self { from: Instant::now(), usage: target.usage()? })
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.from.elapsed()
    }

    /// CPU time since the beginning.
    pub(super) fn cpu(&self, target: &Target) -> Result<Option<Duration>, BenchError> {
        let now = target.usage()?;
        Ok(now.zip(self.usage).map(|(now, then)| now.cpu.saturating_sub(then.cpu)))
    }

    /// Cores kept busy since the beginning.
    pub(super) fn cores(&self, target: &Target) -> Result<Option<f64>, BenchError> {
        Ok(self.cpu(target)?.map(|cpu| cpu.as_secs_f64() / self.elapsed().as_secs_f64().max(1e-9)))
    }
}

/// A fleet that runs beside a measurement.
pub(super) struct Rig {
    view: watch::Receiver<FleetView>,
    stop: CancellationToken,
    task: JoinHandle<Result<FleetReport, SimError>>,
}

impl Rig {
    /// Starts a fleet against `target`.
    pub(super) fn start(target: &Target, options: FleetOptions, shutdown: &CancellationToken) -> Self {
        Self::start_against(vec![target.addr.clone()], options, shutdown)
    }

    /// Starts a fleet against the members at these URLs.
    pub(super) fn start_against(members: Vec<String>, mut options: FleetOptions, shutdown: &CancellationToken) -> Self {
        options.capacity = options.capacity.max(room(&options));
        options.pd = members;
        let (seen, view) = watch::channel(FleetView::default());
        let stop = shutdown.child_token();
        let observer = move |view: &FleetView, _: Now| {
            seen.send_replace(view.clone());
        };
        let task = tokio::spawn(driver::run(options, stop.clone(), observer));
        Self { view, stop, task }
    }

    /// Waits until every region has been reported.
    pub(super) async fn loaded(&mut self, within: Duration) -> Result<(), BenchError> {
        self.wait("all regions to be reported", within, |v| v.loaded).await.map(|_| ())
    }

    /// Waits until `happened`, which is asked some fifty times a second; returns the time of the view that shows it.
    pub(super) async fn wait(
        &mut self,
        what: &'static str,
        within: Duration,
        mut happened: impl FnMut(&FleetView) -> bool,
    ) -> Result<Instant, BenchError> {
        let seen = timeout(within, self.view.wait_for(|v| !v.stores.is_empty() && happened(v))).await;
        match seen {
            Ok(Ok(_)) => Ok(Instant::now()),
            Err(_) => Err(BenchError::TimedOut { what, seconds: within.as_secs() }),
            // The fleet has ended: its own error says more.
            Ok(Err(_)) => match (&mut self.task).await {
                Ok(Err(error)) => Err(error.into()),
                Ok(Ok(_)) | Err(_) => Err(BenchError::Stopped),
            },
        }
    }

    /// The fleet now.
    pub(super) fn view(&self) -> FleetView {
        self.view.borrow().clone()
    }

    /// Ends the fleet. Safety violations are the server's fault and make the measurement worthless.
    pub(super) async fn finish(self) -> Result<FleetReport, BenchError> {
        self.stop.cancel();
        let report = self.task.await.map_err(|_| BenchError::Stopped)??;
        match report.violations.first() {
            Some(first) => Err(BenchError::Wrong(first.clone())),
            None => Ok(report),
        }
    }
}

/// Sleeps, unless the run is ended first.
pub(super) async fn pause(time: Duration, shutdown: &CancellationToken) -> Result<(), BenchError> {
    tokio::select! {
        () = shutdown.cancelled() => Err(BenchError::Stopped),
        () = tokio::time::sleep(time) => Ok(()),
    }
}
/// Capacity of a store, GiB, at which an even share of the data fills a third of it: a measurement is not about full disks.
fn room(options: &FleetOptions) -> u64 {
    let mib = u64::from(options.regions) * u64::from(options.replicas) * options.region_size;
    3 * mib / u64::from(options.stores.max(1)) / 1024
}
