//! The real binary as a process of its own: started, asked, killed, started again on the same folder and port.

use std::{
    fs::File,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use berth::sim::http::HttpClient;
use rustix::process::{Pid, Signal, kill_process};

/// How long a start or an end may take on a slow machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// The binary under test.
pub const BERTH: &str = env!("CARGO_BIN_EXE_berth");

/// A port that nobody listens on. It lies below those that the system hands out, so that it is not given away while the server
/// that owns it is down.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + (std::process::id() % 9_000) as u16;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed) % 3_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// What one member keeps over its starts: a folder and a port.
pub struct Home {
    folder: tempfile::TempDir,
    /// Its client port.
    pub port: u16,
    /// Its name.
    pub name: String,
    /// Its peer URLs, and how it finds the others, as flags.
    peers: Vec<String>,
}

impl Home {
    /// An empty folder and a free port.
    pub fn new() -> Self {
        Self::on(free_port())
    }

    /// An empty folder, and this port.
    pub fn on(port: u16) -> Self {
        let peers = ["--peer-urls=http://127.0.0.1:0", "--advertise-peer-urls=http://127.0.0.1:2380"];
        Self::member("pd-1", port, peers.map(str::to_owned).to_vec())
    }

    /// An empty folder, a name, and the flags that are about other members.
    pub fn member(name: &str, port: u16, peers: Vec<String>) -> Self {
        Self { folder: tempfile::tempdir().expect("a folder"), port, name: name.to_owned(), peers }
    }

    /// Other flags about members: some name files of its folder.
    pub fn set_peers(&mut self, flags: Vec<String>) {
        self.peers = flags;
    }

    /// Its disk is lost.
    pub fn lose_disk(&self) {
        std::fs::remove_dir_all(self.data()).expect("a data folder");
    }

    /// The folder that holds everything.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    /// Where it is reached.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A client for its HTTP interface.
    pub fn http(&self) -> HttpClient {
        HttpClient::new(&self.url()).expect("an address")
    }

    /// Its log so far, over all starts.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path().join("pd.log")).unwrap_or_default()
    }

    /// What it printed at its last start.
    pub fn printed(&self) -> String {
        std::fs::read_to_string(self.path().join("printed")).unwrap_or_default()
    }

    /// PD's flags for this member.
    pub fn flags(&self) -> Vec<String> {
        let (data, log) = (self.data().display().to_string(), self.path().join("pd.log").display().to_string());
        let mut flags = vec![
            format!("--name={}", self.name),
            format!("--data-dir={data}"),
            format!("--client-urls={}", self.url()),
            format!("--log-file={log}"),
        ];
        flags.extend(self.peers.iter().cloned());
        flags
    }

    /// Starts it as `berth server`, with further flags.
    pub fn spawn_with(&self, more: &[&str]) -> Process {
        let mut command = Command::new(BERTH);
        command.arg("server").args(self.flags()).args(more);
        self.spawn_as(command)
    }

    /// Starts it as `berth server`.
    pub fn spawn(&self) -> Process {
        self.spawn_with(&[])
    }

    /// Starts `command`; what it prints can be read with [`Home::printed`].
    pub fn spawn_as(&self, mut command: Command) -> Process {
        let printed = File::create(self.path().join("printed")).expect("a file");
        let same = printed.try_clone().expect("a file");
        command.current_dir(self.path()).stdin(Stdio::null()).stdout(printed).stderr(same);
        Process { child: command.spawn().expect("the binary starts") }
    }

    /// Starts it and waits until it serves.
    pub async fn start(&self) -> Process {
        let mut process = self.spawn();
        self.ready(&mut process).await;
        process
    }

    /// Waits until it serves.
    pub async fn ready(&self, process: &mut Process) {
        let (http, end) = (self.http(), Instant::now() + PATIENCE);
        while http.get("/pd/api/v1/leader").await.is_err() {
            if let Some(status) = process.status() {
                panic!("the server ended, {status}: {}", self.printed());
            }
            assert!(Instant::now() < end, "the server does not serve: {}\n{}", self.printed(), self.log());
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Starts it, expects it to end by itself with this exit code, and returns what it printed.
    pub async fn refused(&self, code: i32) -> String {
        let status = self.spawn().ended(PATIENCE).await;
        let printed = self.printed();
        assert_eq!(status.code(), Some(code), "{printed}");
        assert!(!printed.contains("panicked"), "{printed}");
        printed
    }
}

/// A running process; it is killed when it is dropped.
pub struct Process {
    child: Child,
}

impl Process {
    fn status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child")
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().expect("a process id")).expect("a process id");
        kill_process(pid, signal).expect("the process is there");
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(mut self) {
        self.child.kill().expect("the process is there");
        self.child.wait().expect("a child");
    }

    /// Waits until it has ended.
    pub async fn ended(mut self, limit: Duration) -> ExitStatus {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.status() {
                return status;
            }
            assert!(Instant::now() < end, "the process has not ended within {limit:?}");
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
