//! A fleet of simulated nodes that runs beside a test, and waiting for what must come.

use std::time::Duration;

use berth::sim::{self, FleetOptions, FleetReport, FleetView, SimError};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// A running fleet.
pub struct Nodes {
    view: watch::Receiver<FleetView>,
    stop: CancellationToken,
    task: JoinHandle<Result<FleetReport, SimError>>,
}

impl Nodes {
    /// Starts one.
    pub fn start(options: FleetOptions) -> Self {
        let (told, view) = watch::channel(FleetView::default());
        let stop = CancellationToken::new();
        let observer = move |view: &FleetView, _now: berth::model::Now| _ = told.send_replace(view.clone());
        let task = tokio::spawn(sim::run(options, stop.clone(), observer));
        Self { view, stop, task }
    }

    /// What it is now.
    pub fn view(&self) -> FleetView {
        self.view.borrow().clone()
    }

    /// Peers on a store now.
    pub fn peers(&self, store: u64) -> u32 {
        self.view.borrow().store(berth::model::StoreId(store)).map_or(0, |s| s.peers)
    }

    /// Waits until `holds`; panics when it does not within `limit`.
    pub async fn until(&mut self, what: &str, limit: Duration, holds: impl FnMut(&FleetView) -> bool) -> FleetView {
        match timeout(limit, self.view.wait_for(holds)).await {
            Ok(Ok(view)) => return view.clone(),
            Ok(Err(_)) => println!("the fleet has ended"),
            Err(_) => println!("{limit:?} have passed"),
        }
        panic!("waited for {what}, but the fleet is {:#?}", self.view());
    }

    /// Waits until every store has reported all of its regions.
    pub async fn loaded(&mut self) -> FleetView {
        self.until("the first reports", Duration::from_secs(60), |v| v.loaded && v.regions > 0).await
    }

    /// Ends it.
    pub async fn end(self) -> FleetReport {
        self.stop.cancel();
        self.task.await.expect("the fleet did not panic").expect("the fleet was set up")
    }
}

/// Asks again and again until there is an answer; panics when there is none within `limit`.
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    limit: Duration,
    mut ask: impl FnMut() -> F,
) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < end, "{what}: not within {limit:?}");
        sleep(LOOK).await;
    }
}
