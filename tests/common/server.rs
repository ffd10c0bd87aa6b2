//! A server of this crate in this process, with a clock that a test can move on.

use std::{net::SocketAddr, sync::Arc};

use berth::{
    config::{
        Config,
        flags::Flags,
        load::{self, Host},
    },
    server::Server,
    telemetry::log::Logger,
};

use super::clock::TestClock;

/// A running server, its clock and its folder.
pub(crate) struct Running {
    /// The server.
    pub(crate) server: Server,
    /// Its clock.
    pub(crate) clock: Arc<TestClock>,
    /// Its folder, removed in the end.
    pub(crate) folder: tempfile::TempDir,
}

impl Running {
    /// Starts one on an empty folder, as the recorded one was started but for port and folder.
    pub(crate) async fn start() -> Self {
        Self::start_in(tempfile::tempdir().expect("a folder"), Arc::new(TestClock::running())).await
    }

    /// Starts one on a folder that another has left.
    pub(crate) async fn start_in(folder: tempfile::TempDir, clock: Arc<TestClock>) -> Self {
        let server = Server::start_with(config(folder.path()), Logger::none(), clock.clone());
        Self { server: server.await.expect("the server starts"), clock, folder }
    }

    /// Stops it and starts it again on the same folder.
    pub(crate) async fn restart(self) -> Self {
        let Self { server, clock, folder } = self;
        server.stop().await;
        let server = Server::start_with(config(folder.path()), Logger::none(), clock.clone());
        Self { server: server.await.expect("the server starts again"), clock, folder }
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.server.addr()
    }
}

/// The configuration that the recorded servers were started with, but for port and folder.
pub(crate) fn config(folder: &std::path::Path) -> Config {
    let flags = Flags {
        name: "pd-1".into(),
        data_dir: "./data".into(),
        client_urls: "http://127.0.0.1:0".into(),
        peer_urls: "http://127.0.0.1:0".into(),
        advertise_peer_urls: "http://127.0.0.1:2380".into(),
        log_file: "pd.log".into(),
        ..Flags::default()
    };
    let host = Host { name: "vm".into(), directory: folder.to_owned() };
    load::load(&flags, None, &host).expect("a configuration").config
}
