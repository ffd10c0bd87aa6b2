//! The server with TLS: who may connect, who may do what, other certificates while it runs.

// What tests may and the crate may not: panic, print, read the clock; a shared helper need not be used by every file.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    dead_code,
    unreachable_pub
)]
mod common {
    pub mod logs;
    pub mod process;
}

use std::{
    path::PathBuf,
    process::{Command, Output},
    sync::Arc,
    time::{Duration, Instant},
};

use berth::proto::{
    berth_peer::{Parcel, ProbeRequest, peer_client::PeerClient},
    berth_warm::{FollowRequest, warm_client::WarmClient},
    pdpb::{self, pd_client::PdClient},
};
use common::{
    logs,
    process::{BERTH, Home, Process, free_port},
};
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring::default_provider,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName},
    },
};
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};

/// How long any step may take on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// An authority.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
struct Pair {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pair(&self, name: &str) -> Pair {
        self.made(name, |_| {})
    }

    fn made(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let mut params = CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        Pair { certificate: params.signed_by(&key, &self.0).unwrap(), key }
    }
}

/// A server with TLS on its client and its peer port, its authority, and the files of both.
struct Secure {
    home: Home,
    authority: Arc<Authority>,
    /// Its peer port.
    peer: u16,
    /// `--initial-cluster`, where there are others.
    others: Option<String>,
}

impl Secure {
    fn new() -> Self {
        Self::made(Home::new(), Arc::new(Authority::new("berth test")), free_port(), None)
    }

    /// Several that begin together, of one authority.
    fn several(count: usize) -> Vec<Self> {
        let (authority, ports) =
            (Arc::new(Authority::new("berth test")), Vec::from_iter((0..count).map(|_| free_port())));
        let list: Vec<String> =
            ports.iter().enumerate().map(|(i, port)| format!("pd-{}=https://127.0.0.1:{port}", i + 1)).collect();
        let member = |(i, port): (usize, &u16)| {
            let home = Home::member(&format!("pd-{}", i + 1), free_port(), vec![]);
            Self::made(home, authority.clone(), *port, Some(list.join(",")))
        };
        ports.iter().enumerate().map(member).collect()
    }

    fn made(home: Home, authority: Arc<Authority>, peer: u16, others: Option<String>) -> Self {
        let secure = Self { home, authority, peer, others };
        secure.put("ca.pem", &secure.authority.0.pem());
        secure.serve_as(&secure.home.name);
        secure
    }

    fn put(&self, name: &str, content: &str) -> PathBuf {
        let path = self.home.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn serve_as(&self, name: &str) {
        let pair = self.authority.pair(name);
        self.put("server.pem", &pair.certificate.pem());
        self.put("server-key.pem", &pair.key.serialize_pem());
    }

    fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.home.port)
    }

    fn spawn(&self, config: &str) -> Process {
        let path = |name: &str| self.home.path().join(name).display().to_string();
        self.put("pd.toml", config);
        let mut flags = self.home.flags();
        flags.retain(|flag| !flag.contains("-urls="));
        let mut command = Command::new(BERTH);
        command.arg("server").args(flags).args([
            format!("--client-urls={}", self.url()),
            format!("--peer-urls=https://127.0.0.1:{}", self.peer),
            format!("--cacert={}", path("ca.pem")),
            format!("--cert={}", path("server.pem")),
            format!("--key={}", path("server-key.pem")),
            format!("--config={}", path("pd.toml")),
        ]);
        command.args(self.others.iter().map(|list| format!("--initial-cluster={list}")));
        self.home.spawn_as(command)
    }

    /// Starts it and waits until it serves a client of this name.
    async fn start(&self, config: &str, name: &str) -> Process {
        let process = self.spawn(config);
        self.serves(name).await;
        process
    }

    /// Waits until it serves a client of this name; who leads.
    async fn serves(&self, name: &str) -> String {
        let (client, end) = (self.named(name), Instant::now() + PATIENCE);
        loop {
            match self.get(&client, "/pd/api/v1/leader").await {
                Ok(answer) if answer.starts_with("HTTP/1.1 200") => {
                    let (_, rest) = answer.split_once("\"name\": \"").expect(&answer);
                    return rest.split('"').next().unwrap().to_owned();
                }
                other => assert!(Instant::now() < end, "{other:?} {}\n{}", self.home.printed(), self.home.log()),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A client with a certificate of this name.
    fn named(&self, name: &str) -> TlsConnector {
        self.client(Some(&self.authority.pair(name)))
    }

    fn client(&self, pair: Option<&Pair>) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.0.der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
        let config = match pair {
            Some(pair) => {
                let key = PrivateKeyDer::try_from(pair.key.serialize_der()).unwrap();
                builder.with_client_auth_cert(vec![pair.certificate.der().clone()], key).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        Arc::new(config).into()
    }

    async fn connect(&self, client: &TlsConnector) -> std::io::Result<TlsStream<TcpStream>> {
        greet(client, TcpStream::connect(("127.0.0.1", self.home.port)).await?).await
    }

    /// One request; the whole answer. In TLS 1.3 a client learns with its first read that it was refused.
    async fn ask(&self, client: &TlsConnector, method: &str, path: &str) -> std::io::Result<String> {
        self.ask_with(client, method, path, "").await
    }

    /// The same with further lines in its head.
    async fn ask_with(&self, client: &TlsConnector, method: &str, path: &str, head: &str) -> std::io::Result<String> {
        http(self.connect(client).await?, method, path, head).await
    }

    async fn get(&self, client: &TlsConnector, path: &str) -> std::io::Result<String> {
        self.ask(client, "GET", path).await
    }

    /// What the log says about the last connection or call that was refused, once it has said it `count` times.
    async fn refusals(&self, message: &str, count: usize) -> String {
        let found = self.lines(message, count, |_| true).await;
        found[count - 1].field("error").unwrap().to_owned()
    }

    /// Lines of this message that are meant, once there are so many.
    async fn lines(&self, message: &str, count: usize, meant: impl Fn(&logs::Line) -> bool) -> Vec<logs::Line> {
        let end = Instant::now() + PATIENCE;
        loop {
            let log = self.home.log();
            let told = log.lines().filter_map(logs::parse).filter(|l| l.message == message && meant(l));
            let told: Vec<_> = told.collect();
            if told.len() >= count {
                return told;
            }
            assert!(Instant::now() < end, "{log}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The only audit line whose `service-info` holds all of `parts`.
    async fn audit(&self, parts: &[&str]) -> logs::Line {
        let meant = |l: &logs::Line| parts.iter().all(|part| l.field("service-info").unwrap().contains(part));
        let mut found = self.lines("audit log", 1, meant).await;
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    /// A gRPC connection to one of its ports.
    async fn grpc(&self, port: u16, name: &str) -> Channel {
        let connector = self.named(name);
        let dial = tower::service_fn(move |_| {
            let connector = connector.clone();
            async move {
                let stream = greet(&connector, TcpStream::connect(("127.0.0.1", port)).await?).await?;
                Ok::<_, std::io::Error>(TokioIo::new(stream))
            }
        });
        Endpoint::from_static("http://pd").connect_with_connector(dial).await.unwrap()
    }
}

async fn greet(client: &TlsConnector, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
    client.connect(ServerName::try_from("127.0.0.1").unwrap(), stream).await
}

async fn http(mut stream: TlsStream<TcpStream>, method: &str, path: &str, head: &str) -> std::io::Result<String> {
    let request =
        format!("{method} {path} HTTP/1.1\r\nhost: pd\r\n{head}connection: close\r\ncontent-length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// How an audit line names the port of a client.
fn from_port(stream: &TcpStream) -> String {
    format!(" Port:{}, ", stream.local_addr().unwrap().port())
}

const REFUSED: &str = "a TLS connection was refused";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_clients_with_a_good_certificate_and_name_get_in() {
    let secure = Secure::new();
    // A single name is checked as well.
    let _process = secure.start("[security]\ncert-allowed-cn = [\"tidb\"]\n", "tidb").await;
    // The clients that came before the port was open have told nothing.
    let other = Authority::new("somebody else");
    let expired = secure.authority.made("tidb", |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    });
    let cases = [
        (None, "peer sent no certificates"),
        (Some(other.pair("tidb")), "invalid peer certificate: UnknownIssuer"),
        (Some(expired), "certificate expired"),
        (Some(secure.authority.pair("tikv")), "common name \"tikv\" is not in security.cert-allowed-cn"),
    ];
    let mut checked = 0;
    for port in [secure.home.port, secure.peer] {
        for (pair, why) in &cases {
            let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let from = from_port(&stream);
            let refused = match greet(&secure.client(pair.as_ref()), stream).await {
                Ok(stream) => http(stream, "GET", "/pd/api/v1/members", "").await,
                Err(error) => Err(error),
            };
            assert!(refused.is_err(), "{why}: {refused:?}");
            checked += 1;
            let told = secure.refusals(REFUSED, checked).await;
            assert!(told.contains(why), "{why}: {told}");
            is_refusal(&secure.audit(&["ServiceLabel:TLSHandshake", "IP:127.0.0.1", &from]).await, why);
        }
        // Somebody without TLS is told so; garbage is not answered.
        let mut plain = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let from = from_port(&plain);
        plain.write_all(b"GET / HTTP/1.1\r\nhost: pd\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        plain.read_to_string(&mut answer).await.unwrap();
        drop(plain);
        assert!(answer.ends_with("Client sent an HTTP request to an HTTPS server.\n"), "{answer:?}");
        checked += 1;
        assert!(secure.refusals(REFUSED, checked).await.contains("does not speak TLS"));
        is_refusal(&secure.audit(&["ServiceLabel:TLSHandshake", &from]).await, "does not speak TLS");
    }
    assert_eq!(checked, 10);

    let good = secure.named("tidb");
    let members = secure.get(&good, "/pd/api/v1/members").await.unwrap();
    assert!(members.starts_with("HTTP/1.1 200") && members.contains(&secure.url()), "{members}");
}

/// An audit line of a connection or call that was refused for this.
fn is_refusal(line: &logs::Line, why: &str) {
    assert_eq!(line.field("outcome"), Some("denied"), "{line:?}");
    assert!(line.field("error").is_some_and(|error| error.contains(why)), "{why}: {line:?}");
}

/// One that says nothing, one that stops in the middle of its greeting, and one that says a byte at a time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn greetings_that_never_end_are_cut() {
    /// The heads of a record and of a greeting that announce 512 bytes.
    const BEGINS: [u8; 11] = [22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    let secure = Secure::new();
    let _process = secure.start("", "tidb").await;
    let mut clients = tokio::task::JoinSet::new();
    for port in [secure.home.port, secure.peer] {
        for (begins, drips) in [(0, false), (BEGINS.len(), false), (BEGINS.len(), true)] {
            clients.spawn(async move {
                let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let from = from_port(&stream);
                let (mut read, mut write) = stream.into_split();
                write.write_all(&BEGINS[..begins]).await.unwrap();
                let drip = async {
                    while drips && write.write_all(&[0]).await.is_ok() {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                    std::future::pending::<()>().await;
                };
                let cut = async { read.read(&mut [0; 1]).await };
                let cut =
                    tokio::select! { () = drip => unreachable!(), cut = tokio::time::timeout(PATIENCE, cut) => cut };
                let cut = cut.expect("cut in time");
                assert!(matches!(cut, Ok(0) | Err(_)), "{cut:?}");
                from
            });
        }
    }
    let cut = clients.join_all().await;
    assert_eq!(cut.len(), 6);
    for from in cut {
        is_refusal(&secure.audit(&["ServiceLabel:TLSHandshake", &from]).await, "no greeting within 5s");
    }
    assert!(secure.get(&secure.named("tidb"), "/pd/api/v1/ping").await.unwrap().starts_with("HTTP/1.1 200"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_hold_for_rest_and_grpc() {
    let secure = Secure::new();
    let roles = "[berth]\nrole-read = [\"tikv\"]\nrole-operate = [\"tidb\"]\nrole-admin = [\"ops\"]\n";
    let _process = secure.start(roles, "ops").await;
    let calls = [("GET", "/pd/api/v1/config"), ("POST", "/pd/api/v1/checker/merge"), ("POST", "/pd/api/v1/admin/log")];
    let mut denied = 0;
    for (name, allowed) in [("nobody", 0), ("tikv", 1), ("tidb", 2), ("ops", 3)] {
        for (at, (method, path)) in calls.into_iter().enumerate() {
            let stream = TcpStream::connect(("127.0.0.1", secure.home.port)).await.unwrap();
            let from = from_port(&stream);
            let answer = http(greet(&secure.named(name), stream).await.unwrap(), method, path, "").await.unwrap();
            let forbidden = answer.starts_with("HTTP/1.1 403");
            assert_eq!(forbidden, at >= allowed, "{name} {path}: {answer}");
            denied += usize::from(forbidden);
            // Who may not is told with name and address, as is who changes something.
            if forbidden || method == "POST" {
                let line = secure.audit(&[&format!("Method:HTTP/1.1/{method}:{path},"), "IP:127.0.0.1", &from]).await;
                assert_eq!(line.field("common-name"), Some(name), "{line:?}");
                match forbidden {
                    true => is_refusal(&line, &format!("{name:?} may not do this: it needs the role ")),
                    false => assert_eq!((line.field("outcome"), line.field("error")), (None, None), "{line:?}"),
                }
            }
        }
    }
    assert_eq!(denied, 6);
    let told = secure.refusals("a call was denied", 6).await;
    assert_eq!(told, "\"tidb\" may not do this: it needs the role admin, and has operate");

    let grpc = async |name: &str| PdClient::new(secure.grpc(secure.home.port, name).await);
    let mut node = grpc("tikv").await;
    let members = node.get_members(pdpb::GetMembersRequest::default()).await.unwrap().into_inner();
    assert_eq!(members.members[0].client_urls, [secure.url()]);
    let status = node.put_cluster_config(pdpb::PutClusterConfigRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    assert!(status.message().contains("needs the role admin, and has read"), "{status}");
    let line = secure.audit(&["ServiceLabel:PutClusterConfig, Method:gRPC:PutClusterConfig,", "IP:127.0.0.1"]).await;
    is_refusal(&line, "needs the role admin, and has read");
    assert_eq!(line.field("common-name"), Some("tikv"));
    let status = grpc("ops").await.put_cluster_config(pdpb::PutClusterConfigRequest::default()).await;
    assert!(status.is_err_and(|s| s.code() != Code::PermissionDenied), "it is allowed, and refused for what it is");

    // What was let in is told with its outcome: here it cannot be, there it is done.
    let header = members.header.map(|h| pdpb::RequestHeader { cluster_id: h.cluster_id, ..Default::default() });
    let mut ops = grpc("ops").await;
    let safe_point = pdpb::UpdateGcSafePointRequest { header, safe_point: 7 };
    let refused = ops.update_gc_safe_point(safe_point).await.unwrap().into_inner().header.unwrap().error.unwrap();
    let line = secure.audit(&["ServiceLabel:UpdateGCSafePoint, Method:gRPC:UpdateGCSafePoint,", "safe_point:7 "]).await;
    assert_eq!((line.field("outcome"), line.field("common-name")), (Some("failed"), Some("ops")), "{line:?}");
    assert_eq!(line.field("error"), Some(&*refused.message), "{line:?}");
    let change = pdpb::GlobalConfigItem { name: "x".into(), value: "1".into(), ..Default::default() };
    let config = pdpb::StoreGlobalConfigRequest { changes: vec![change], ..Default::default() };
    ops.store_global_config(config).await.unwrap();
    let line = secure.audit(&["Method:gRPC:StoreGlobalConfig,", "IP:127.0.0.1", "name:\"x\""]).await;
    assert_eq!((line.field("outcome"), line.field("common-name")), (Some("done"), Some("ops")), "{line:?}");
    assert_eq!(line.field("error"), None, "{line:?}");
}

/// Whoever could speak on the peer port could make up an agreed entry, whatever roles say on the client port.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_administrators_speak_on_the_peer_port() {
    let secure = Secure::new();
    let roles = "[berth]\nrole-read = [\"tikv\"]\nrole-operate = [\"tidb\"]\nrole-admin = [\"pd-1\"]\n";
    let _process = secure.start(roles, "pd-1").await;
    let id = async |name: &str| {
        let mut client = PeerClient::new(secure.grpc(secure.peer, name).await);
        client.probe(ProbeRequest::default()).await.map(|answer| answer.into_inner().cluster_id)
    };
    let cluster = id("pd-1").await.expect("a member may");
    assert!(cluster > 0);
    let mut denied = 0;
    for (name, has) in [("nobody", "none"), ("tikv", "read"), ("tidb", "operate")] {
        let channel = secure.grpc(secure.peer, name).await;
        let mut parcels = tonic::Request::new(tokio_stream::iter([Parcel { messages: vec![] }]));
        parcels.metadata_mut().insert("berth-cluster-id", cluster.into());
        let follow = FollowRequest { cluster_id: cluster, ..FollowRequest::default() };
        let statuses = [
            ("Deliver", PeerClient::new(channel.clone()).deliver(parcels).await.map(drop)),
            ("Probe", id(name).await.map(drop)),
            ("Follow", WarmClient::new(channel).follow(follow).await.map(drop)),
        ];
        for (call, status) in statuses {
            let status = status.expect_err(call);
            assert_eq!(status.code(), Code::PermissionDenied, "{name} {call}: {status}");
            let why = format!("{name:?} may not do this: it needs the role admin, and has {has}");
            assert_eq!(status.message(), why);
            let meant = |l: &logs::Line| {
                l.field("common-name") == Some(name)
                    && l.field("service-info").unwrap().contains(&format!("Method:gRPC:{call}, "))
            };
            let lines = secure.lines("audit log", 1, meant).await;
            assert_eq!(lines.len(), 1, "{lines:?}");
            is_refusal(&lines[0], &why);
            denied += 1;
        }
    }
    assert_eq!(denied, 9);
    // The same call of a member is taken.
    let mut parcels = tonic::Request::new(tokio_stream::iter([Parcel { messages: vec![] }]));
    parcels.metadata_mut().insert("berth-cluster-id", cluster.into());
    PeerClient::new(secure.grpc(secure.peer, "pd-1").await).deliver(parcels).await.expect("a member may");
}

/// A member passes calls on with its own certificate, which may do everything: the caller's name has to count all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_passed_on_may_what_its_caller_may() {
    const CHECKER: &str = "/pd/api/v1/checker/merge";
    let members = Secure::several(3);
    let names = "cert-allowed-cn = [\"tikv\", \"tidb\", \"ops\", \"pd-1\", \"pd-2\", \"pd-3\"]";
    let config = |read: &str, operate: &str| {
        format!(
            "[security]\n{names}\n[berth]\nrole-read = [{read}]\nrole-operate = [{operate}]\n\
             role-admin = [\"ops\", \"pd-1\", \"pd-2\", \"pd-3\"]\n"
        )
    };
    let strict = config("\"tikv\"", "\"tidb\"");
    // The third was told something else.
    let configs = [strict.clone(), strict, config("", "\"tikv\", \"tidb\"")];
    let _processes: Vec<Process> = members.iter().zip(&configs).map(|(member, config)| member.spawn(config)).collect();
    let [leader, strict, lax] = &members[..] else { panic!("three") };
    let ops = leader.named("ops");
    let end = Instant::now() + PATIENCE;
    loop {
        let mut leads = vec![];
        for member in &members {
            leads.push(member.serves("ops").await);
        }
        if leads == ["pd-1"; 3] {
            break;
        }
        assert!(Instant::now() < end, "{leads:?}");
        leader.ask(&ops, "POST", "/pd/api/v1/leader/transfer/pd-1").await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    // REST: who may, may, and the leader knows whose call it was.
    let answer = strict.ask(&strict.named("tidb"), "POST", CHECKER).await.unwrap();
    assert!(!answer.starts_with("HTTP/1.1 403"), "{answer}");
    let line = leader.audit(&["ServiceLabel:PauseOrResumeChecker,"]).await;
    let fields = |line: &logs::Line| {
        let field = |name| line.field(name).map(str::to_owned);
        (field("common-name"), field("passed-on-by"), field("outcome"))
    };
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(fields(&line), (text("tidb"), text("pd-2"), None), "{line:?}");
    // Who may not is refused by the member that was asked …
    let answer = strict.ask(&strict.named("tikv"), "POST", CHECKER).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    let line = strict.audit(&["ServiceLabel:PauseOrResumeChecker,"]).await;
    assert_eq!(fields(&line), (text("tikv"), None, text("denied")), "{line:?}");
    // … or, where that one lets it through, by the leader.
    let answer = lax.ask(&lax.named("tikv"), "POST", CHECKER).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    let meant = |l: &logs::Line| l.field("passed-on-by") == Some("pd-3");
    let line = leader.lines("audit log", 1, meant).await.remove(0);
    assert_eq!(fields(&line), (text("tikv"), text("pd-3"), text("denied")), "{line:?}");
    is_refusal(&line, "\"tikv\" may not do this: it needs the role operate, and has read");
    // Nobody takes another's name.
    for member in [leader, strict, lax] {
        let answer = member.ask_with(&member.named("tikv"), "POST", CHECKER, "berth-caller: ops\r\n").await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    }

    // gRPC, where a client asks for it.
    let mut header = None;
    let mut outcomes = vec![];
    for (member, name) in [(strict, "tikv"), (lax, "tikv"), (strict, "tidb"), (strict, "ops")] {
        let mut client = PdClient::new(member.grpc(member.home.port, name).await);
        let told = client.get_members(pdpb::GetMembersRequest::default()).await.unwrap().into_inner().header.unwrap();
        header.get_or_insert(pdpb::RequestHeader { cluster_id: told.cluster_id, ..pdpb::RequestHeader::default() });
        let ids = pdpb::AllocIdRequest { header: header.clone(), count: 1 };
        assert!(client.alloc_id(to(&leader.url(), ids)).await.unwrap().into_inner().id > 0, "{name} may read");
        let safe_point = pdpb::UpdateGcSafePointRequest { header: header.clone(), safe_point: 0 };
        let config = pdpb::PutClusterConfigRequest { header: header.clone(), cluster: None };
        let code = |result: Result<(), tonic::Status>| {
            result.is_err_and(|status| {
                let denied = status.code() == Code::PermissionDenied;
                assert!(!denied || status.message().starts_with(&format!("{name:?} may not do this")), "{status}");
                denied
            })
        };
        outcomes.push((
            name,
            code(client.update_gc_safe_point(to(&leader.url(), safe_point)).await.map(drop)),
            code(client.put_cluster_config(to(&leader.url(), config)).await.map(drop)),
        ));
    }
    let denied = [("tikv", true, true), ("tikv", true, true), ("tidb", false, true), ("ops", false, false)];
    assert_eq!(outcomes, denied, "safe point, cluster configuration");
    // What the lax one let through was the leader's to refuse; what it let in itself is told as its callers'.
    let meant = |l: &logs::Line| l.field("service-info").unwrap().contains("Method:gRPC:UpdateGCSafePoint, ");
    let told: Vec<_> = leader.lines("audit log", 3, meant).await.iter().map(fields).collect();
    let by = |name, via, outcome| (text(name), text(via), text(outcome));
    let let_in = [by("tidb", "pd-2", "failed"), by("ops", "pd-2", "failed")];
    assert_eq!(told, [vec![by("tikv", "pd-3", "denied")], let_in.to_vec()].concat(), "no cluster is there yet");
    let line = leader.lines("audit log", 3, meant).await.remove(1);
    assert!(
        line.field("service-info").unwrap().contains("IP:127.0.0.1, Port:, "),
        "the caller's, not the member's: {line:?}"
    );
}

/// Asks to be passed on to a member.
fn to<T>(host: &str, message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("pd-forwarded-host", host.parse().unwrap());
    request
}

/// Listening without TLS where others can hear it is told, by URL; on loopback it is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn urls_without_tls_off_loopback_are_warned_about() {
    let home = Home::new();
    let open = format!("http://0.0.0.0:{}", home.port);
    let mut flags = home.flags();
    flags.retain(|flag| !flag.starts_with("--client-urls="));
    let mut command = Command::new(BERTH);
    command
        .arg("server")
        .args(flags)
        .args([format!("--client-urls={open}"), format!("--advertise-client-urls={}", home.url())]);
    let mut process = home.spawn_as(command);
    home.ready(&mut process).await;
    let log = home.log();
    let lines: Vec<_> = log.lines().filter_map(logs::parse).collect();
    let warned: Vec<_> = lines.iter().filter(|l| l.message.starts_with("listening without TLS")).collect();
    assert_eq!(warned.len(), 1, "the peer URL is on loopback: {log}");
    assert_eq!((warned[0].level.as_str(), warned[0].field("url")), ("WARN", Some(open.as_str())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_certificates_are_taken_over_while_it_runs() {
    let secure = Secure::new();
    let _process = secure.start("", "tidb").await;
    let client = secure.client(Some(&secure.authority.pair("tidb")));
    let shown = async || {
        let stream = secure.connect(&client).await.unwrap();
        let chain: Vec<CertificateDer<'static>> =
            stream.get_ref().1.peer_certificates().unwrap().iter().map(|c| c.clone().into_owned()).collect();
        berth::tls::common_name(&chain[0]).unwrap()
    };
    assert_eq!(shown().await, "pd-1");
    secure.serve_as("pd-1 renewed");
    let end = Instant::now() + PATIENCE;
    while shown().await != "pd-1 renewed" {
        assert!(Instant::now() < end, "{}", secure.home.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // What cannot be used is told, and the server goes on with what it has.
    secure.put("server.pem", "half a file");
    let error = secure.refusals("changed certificates cannot be used, those read before stay", 1).await;
    assert!(error.contains("server.pem: no certificate in PEM form"), "{error}");
    assert_eq!(shown().await, "pd-1 renewed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctl_speaks_tls() {
    let secure = Secure::new();
    let _process = secure.start("", "ctl").await;
    let pair = secure.authority.pair("ctl");
    let cert = secure.put("ctl.pem", &pair.certificate.pem()).display().to_string();
    let key = secure.put("ctl-key.pem", &pair.key.serialize_pem()).display().to_string();
    let cacert = secure.home.path().join("ca.pem").display().to_string();
    let ctl = |flags: &[&str]| -> Output {
        Command::new(BERTH).arg("ctl").args(flags).args(["--pd", &secure.url(), "member"]).output().unwrap()
    };
    let answered = ctl(&["--cacert", &cacert, "--cert", &cert, "--key", &key]);
    let text = String::from_utf8_lossy(&answered.stdout);
    assert!(answered.status.success() && text.contains("\"pd-1\""), "{answered:?}");
    let refused = ctl(&["--cacert", &cacert]);
    assert!(!refused.status.success() && refused.stdout.is_empty(), "{refused:?}");
    let untrusted = ctl(&[]);
    assert!(String::from_utf8_lossy(&untrusted.stderr).contains("needs --cacert"), "{untrusted:?}");
}

#[tokio::test]
async fn what_cannot_be_secured_is_refused_at_the_start() {
    let secure = Secure::new();
    let refused = async |secure: &Secure, config: &str| {
        let status = secure.spawn(config).ended(PATIENCE).await;
        assert!(!status.success() || secure.home.printed().contains("berth."), "{}", secure.home.printed());
        secure.home.printed()
    };
    secure.put("server-key.pem", "no key");
    assert!(refused(&secure, "").await.contains("server-key.pem: no key in PEM form"));
    let mut command = Command::new(BERTH);
    command.arg("server").args(secure.home.flags()).arg(format!("--client-urls={}", secure.url()));
    let status = secure.home.spawn_as(command).ended(PATIENCE).await;
    assert_eq!(status.code(), Some(1));
    assert!(secure.home.printed().contains("https:// needs security.cert-path"), "{}", secure.home.printed());
    let config = secure.put("roles.toml", "[berth]\nrole-read = [\"tikv\"]\n").display().to_string();
    let mut command = Command::new(BERTH);
    command.arg("server").args(secure.home.flags()).arg(format!("--config={config}"));
    secure.home.spawn_as(command).ended(PATIENCE).await;
    assert!(secure.home.printed().contains("berth.role-* needs security.cacert-path"), "{}", secure.home.printed());
}

/// A member whose peer port wants certificates.
fn secure_member(number: usize, ports: &[u16], authority: &Authority) -> Home {
    let list: Vec<String> =
        ports.iter().enumerate().map(|(i, port)| format!("pd-{}=https://127.0.0.1:{port}", i + 1)).collect();
    let name = format!("pd-{}", number + 1);
    let mut home = Home::member(&name, free_port(), vec![]);
    let pair = authority.pair(&name);
    let mut flags = vec![
        format!("--peer-urls=https://127.0.0.1:{}", ports[number]),
        format!("--initial-cluster={}", list.join(",")),
    ];
    for (flag, content) in
        [("cacert", authority.0.pem()), ("cert", pair.certificate.pem()), ("key", pair.key.serialize_pem())]
    {
        let path = home.path().join(format!("{flag}.pem"));
        std::fs::write(&path, content).unwrap();
        flags.push(format!("--{flag}={}", path.display()));
    }
    home.set_peers(flags);
    home
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_with_a_certificate_of_another_authority_stay_out() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let ports = [free_port(), free_port(), free_port()];
    let homes: Vec<Home> = [&ours, &ours, &theirs]
        .into_iter()
        .enumerate()
        .map(|(i, authority)| secure_member(i, &ports, authority))
        .collect();
    let _processes: Vec<Process> = homes.iter().map(Home::spawn).collect();
    let stands = async |home: &Home| home.http().get_json("/berth/v1/group").await.ok();
    let end = Instant::now() + PATIENCE;
    let leads = loop {
        let both = [stands(&homes[0]).await, stands(&homes[1]).await];
        if let Some(leads) = both.iter().flatten().find(|s| s["leads"] == true) {
            break leads.clone();
        }
        assert!(Instant::now() < end, "{}\n{}", homes[0].log(), homes[1].log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(leads["voters"].as_array().unwrap().len(), 3, "{leads}");
    // The third knocks, is refused by name, and goes on waiting for a group that trusts it.
    let refused = || homes[..2].iter().any(|home| home.log().contains("a TLS connection was refused"));
    while !refused() {
        assert!(Instant::now() < end, "{}", homes[2].log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let waits = homes[2].http().get("/pd/api/v1/members").await.unwrap_err().to_string();
    assert!(waits.contains("[PD:server:ErrServerNotStarted]server not started"), "{waits}");
}
