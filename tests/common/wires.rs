//! The wires between members: each member is reached through a forwarder, and what one sends to another can be held up, one way or
//! both. What is held up comes when the wire is whole again, as on a network that was only slow.

use std::{
    collections::BTreeSet,
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
};

use super::process::free_port;

/// From which seat to which nothing gets.
type Cuts = BTreeSet<(usize, usize)>;

/// The wires of a group.
pub struct Wires {
    /// Where each seat listens.
    pub listen: Vec<u16>,
    /// Where each seat is reached.
    pub reached: Vec<u16>,
    cuts: watch::Sender<Cuts>,
    held: Arc<AtomicU64>,
    /// Ends with this.
    _forwarders: JoinSet<()>,
}

impl Wires {
    /// Wires between so many seats.
    pub async fn new(seats: usize) -> Self {
        let (cuts, _) = watch::channel(Cuts::new());
        let ports = || (0..seats).map(|_| free_port()).collect::<Vec<u16>>();
        let (listen, reached, held) = (ports(), ports(), Arc::<AtomicU64>::default());
        let mut forwarders = JoinSet::new();
        for (to, (port, target)) in reached.iter().zip(&listen).enumerate() {
            let listener = TcpListener::bind(("127.0.0.1", *port)).await.expect("a free port");
            let end =
                End { to, target: *target, reached: reached.clone(), cuts: cuts.subscribe(), held: Arc::clone(&held) };
            forwarders.spawn(end.forward(listener));
        }
        Self { listen, reached, cuts, held, _forwarders: forwarders }
    }

    /// From here on nothing gets from the first to the second of each pair; all others are whole.
    pub fn cut(&self, pairs: impl IntoIterator<Item = (usize, usize)>) {
        self.cuts.send_replace(pairs.into_iter().collect());
    }

    /// All are whole again.
    pub fn heal(&self) {
        self.cut([]);
    }

    /// How often something was held up.
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }
}

/// The forwarder in front of one seat.
struct End {
    to: usize,
    target: u16,
    reached: Vec<u16>,
    cuts: watch::Receiver<Cuts>,
    held: Arc<AtomicU64>,
}

impl End {
    async fn forward(self, listener: TcpListener) {
        let mut pumps = JoinSet::new();
        loop {
            let (near, address) = listener.accept().await.expect("a connection");
            // One whose process is gone already needs nothing.
            let Some(from) = caller(address.port(), self.reached[self.to], &self.reached) else { continue };
            let Ok(far) = TcpStream::connect(("127.0.0.1", self.target)).await else { continue };
            let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
            let pump = |pair| Pump { pair, cuts: self.cuts.clone(), held: Arc::clone(&self.held) };
            pumps.spawn(pump((from, self.to)).run(near_read, far_write));
            pumps.spawn(pump((self.to, from)).run(far_read, near_write));
        }
    }
}

/// One way of one connection.
struct Pump {
    pair: (usize, usize),
    cuts: watch::Receiver<Cuts>,
    held: Arc<AtomicU64>,
}

impl Pump {
    async fn run(mut self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let count = from.read(&mut buffer).await.unwrap_or(0);
            if self.cuts.borrow().contains(&self.pair) {
                self.held.fetch_add(1, Ordering::Relaxed);
            }
            // An end is not heard of through a cut wire either.
            let whole = self.cuts.wait_for(|cuts| !cuts.contains(&self.pair)).await.is_ok();
            if !whole || count == 0 || to.write_all(&buffer[..count]).await.is_err() {
                return;
            }
        }
    }
}

/// Which seat has opened the connection from this port to that one: the system knows the socket's process, and that its command line.
/// Other connections may come from the same port, also some that have ended.
fn caller(port: u16, to: u16, reached: &[u16]) -> Option<usize> {
    let sockets = fs::read_to_string("/proc/net/tcp").expect("sockets");
    let [local, remote] = [port, to].map(|port| format!("0100007F:{port:04X}"));
    let fields = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let socket = sockets.lines().map(fields).find(|f| f.get(1) == Some(&local) && f.get(2) == Some(&remote))?;
    let link = format!("socket:[{}]", socket.get(9)?);
    let processes = fs::read_dir("/proc").expect("processes").flatten();
    processes.map(|p| p.path()).find_map(|process| {
        let line = fs::read_to_string(process.join("cmdline")).ok()?;
        let seat =
            reached.iter().position(|p| line.contains(&format!("--advertise-peer-urls=http://127.0.0.1:{p}\0")))?;
        let mut files = fs::read_dir(process.join("fd")).ok()?.flatten();
        files.any(|file| fs::read_link(file.path()).is_ok_and(|to| to.as_os_str() == link.as_str())).then_some(seat)
    })
}
