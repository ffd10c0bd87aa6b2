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

use berth::proto::pdpb::{self, pd_client::PdClient};
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
use tonic::{Code, transport::Endpoint};

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

/// A server with TLS, its authority, and the files of both.
struct Secure {
    home: Home,
    authority: Authority,
}

impl Secure {
    fn new() -> Self {
        let secure = Self { home: Home::new(), authority: Authority::new("berth test") };
        secure.put("ca.pem", &secure.authority.0.pem());
        secure.serve_as("pd-1");
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
        flags.retain(|flag| !flag.starts_with("--client-urls="));
        let mut command = Command::new(BERTH);
        command.arg("server").args(flags).args([
            format!("--client-urls={}", self.url()),
            format!("--cacert={}", path("ca.pem")),
            format!("--cert={}", path("server.pem")),
            format!("--key={}", path("server-key.pem")),
            format!("--config={}", path("pd.toml")),
        ]);
        self.home.spawn_as(command)
    }

    /// Starts it and waits until it serves a client of this name.
    async fn start(&self, config: &str, name: &str) -> Process {
        let process = self.spawn(config);
        let (client, end) = (self.client(Some(&self.authority.pair(name))), Instant::now() + PATIENCE);
        while self.get(&client, "/pd/api/v1/leader").await.is_err() {
            assert!(Instant::now() < end, "{}\n{}", self.home.printed(), self.home.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        process
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
        let stream = TcpStream::connect(("127.0.0.1", self.home.port)).await?;
        client.connect(ServerName::try_from("127.0.0.1").unwrap(), stream).await
    }

    /// One request; the whole answer. In TLS 1.3 a client learns with its first read that it was refused.
    async fn ask(&self, client: &TlsConnector, method: &str, path: &str) -> std::io::Result<String> {
        let mut stream = self.connect(client).await?;
        let request = format!("{method} {path} HTTP/1.1\r\nhost: pd\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    async fn get(&self, client: &TlsConnector, path: &str) -> std::io::Result<String> {
        self.ask(client, "GET", path).await
    }

    /// What the log says about the last connection or call that was refused, once it has said it `count` times.
    async fn refusals(&self, message: &str, count: usize) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let log = self.home.log();
            let told: Vec<_> = log.lines().filter_map(logs::parse).filter(|l| l.message == message).collect();
            if told.len() >= count {
                return told[count - 1].field("error").unwrap().to_owned();
            }
            assert!(Instant::now() < end, "{log}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
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
    for (pair, why) in &cases {
        let refused = secure.get(&secure.client(pair.as_ref()), "/pd/api/v1/members").await;
        assert!(refused.is_err(), "{why}: {refused:?}");
        checked += 1;
        let told = secure.refusals(REFUSED, checked).await;
        assert!(told.contains(why), "{why}: {told}");
    }
    assert_eq!(checked, 4);

    // Somebody without TLS is told so; garbage is not answered.
    let mut plain = TcpStream::connect(("127.0.0.1", secure.home.port)).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nhost: pd\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    plain.read_to_string(&mut answer).await.unwrap();
    drop(plain);
    assert!(answer.ends_with("Client sent an HTTP request to an HTTPS server.\n"), "{answer:?}");
    assert!(secure.refusals(REFUSED, 5).await.contains("does not speak TLS"));
    // One that says nothing is cut.
    let mut silent = TcpStream::connect(("127.0.0.1", secure.home.port)).await.unwrap();
    let cut = tokio::time::timeout(PATIENCE, silent.read(&mut [0; 1])).await.expect("cut in time");
    assert!(matches!(cut, Ok(0) | Err(_)), "{cut:?}");

    let good = secure.client(Some(&secure.authority.pair("tidb")));
    let members = secure.get(&good, "/pd/api/v1/members").await.unwrap();
    assert!(members.starts_with("HTTP/1.1 200") && members.contains(&secure.url()), "{members}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_hold_for_rest_and_grpc() {
    let secure = Secure::new();
    let roles = "[berth]\nrole-read = [\"tikv\"]\nrole-operate = [\"tidb\"]\nrole-admin = [\"ops\"]\n";
    let _process = secure.start(roles, "ops").await;
    let client = |name: &str| secure.client(Some(&secure.authority.pair(name)));
    let calls = [("GET", "/pd/api/v1/config"), ("POST", "/pd/api/v1/checker/merge"), ("POST", "/pd/api/v1/admin/log")];
    let mut denied = 0;
    for (name, allowed) in [("nobody", 0), ("tikv", 1), ("tidb", 2), ("ops", 3)] {
        for (at, (method, path)) in calls.into_iter().enumerate() {
            let answer = secure.ask(&client(name), method, path).await.unwrap();
            let forbidden = answer.starts_with("HTTP/1.1 403");
            assert_eq!(forbidden, at >= allowed, "{name} {path}: {answer}");
            denied += usize::from(forbidden);
        }
    }
    assert_eq!(denied, 6);
    let told = secure.refusals("a call was denied", 6).await;
    assert_eq!(told, "\"tidb\" may not do this: it needs the role admin, and has operate");

    let grpc = async |name: &str| {
        let (connector, port) = (client(name), secure.home.port);
        let dial = tower::service_fn(move |_| {
            let connector = connector.clone();
            async move {
                let stream = TcpStream::connect(("127.0.0.1", port)).await?;
                let stream = connector.connect(ServerName::try_from("127.0.0.1").unwrap(), stream).await?;
                Ok::<_, std::io::Error>(TokioIo::new(stream))
            }
        });
        let endpoint = Endpoint::from_static("http://pd");
        PdClient::new(endpoint.connect_with_connector(dial).await.unwrap())
    };
    let mut node = grpc("tikv").await;
    let members = node.get_members(pdpb::GetMembersRequest::default()).await.unwrap().into_inner();
    assert_eq!(members.members[0].client_urls, [secure.url()]);
    let status = node.put_cluster_config(pdpb::PutClusterConfigRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    assert!(status.message().contains("needs the role admin, and has read"), "{status}");
    let status = grpc("ops").await.put_cluster_config(pdpb::PutClusterConfigRequest::default()).await;
    assert!(status.is_err_and(|s| s.code() != Code::PermissionDenied), "it is allowed, and refused for what it is");
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
