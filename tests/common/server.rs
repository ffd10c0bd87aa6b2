//! A server of this crate in this process, with a clock that a test can move on.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use berth::{
    config::{
        Config,
        flags::Flags,
        load::{self, Host},
    },
    model::{Clock, Mono, Now, Wall},
    server::{Server, clock::SystemClock},
    telemetry::log::Logger,
};

/// The system's clock, moved on by what a test has skipped.
#[derive(Debug, Default)]
pub(crate) struct Skipping {
    real: SystemClock,
    skipped: AtomicU64,
}

impl Skipping {
    /// Moves it on.
    pub(crate) fn skip(&self, span: Duration) {
        self.skipped.fetch_add(u64::try_from(span.as_nanos()).expect("a short span"), Ordering::SeqCst);
    }
}

impl Clock for Skipping {
    fn now(&self) -> Now {
        let (now, skipped) = (self.real.now(), self.skipped.load(Ordering::SeqCst));
        let wall = now.wall.0.saturating_add(i64::try_from(skipped).expect("a short span"));
        Now { mono: Mono(now.mono.0 + skipped), wall: Wall(wall) }
    }
}

/// A running server, its clock and its folder.
pub(crate) struct Running {
    /// The server.
    pub(crate) server: Server,
    /// Its clock.
    pub(crate) clock: Arc<Skipping>,
    /// Its folder, removed in the end.
    pub(crate) folder: tempfile::TempDir,
}

impl Running {
    /// Starts one on an empty folder, as the recorded one was started but for port and folder.
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let clock = Arc::new(Skipping::default());
        let server = Server::start_with(config(folder.path()), Logger::none(), clock.clone());
        Self { server: server.await.expect("the server starts"), clock, folder }
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.server.addr()
    }
}

fn config(folder: &std::path::Path) -> Config {
    let flags = Flags {
        name: "pd-1".into(),
        data_dir: "./data".into(),
        client_urls: "http://127.0.0.1:0".into(),
        peer_urls: "http://127.0.0.1:2380".into(),
        log_file: "pd.log".into(),
        ..Flags::default()
    };
    let host = Host { name: "vm".into(), directory: folder.to_owned() };
    load::load(&flags, None, &host).expect("a configuration").config
}
