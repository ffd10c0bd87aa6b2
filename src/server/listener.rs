//! The client port: accepts connections and serves gRPC (HTTP/2, prior knowledge) and HTTP/1.1 on each.
//!
//! Owns: sockets, bounds on connections and on their slowness, the drain at the end. Must not know: what is served; that is a
//! router. TLS comes between accepting and [`connection`], which takes whatever gives a byte stream.

use std::{
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, extract::ConnectInfo};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::{
    api::roles::Identity,
    pdlog,
    telemetry::{
        audit::{self, Outcome, ServiceInfo, Standing},
        log::Logger,
    },
    tls::{Tls, common_name, refusal},
};

/// Most connections at once. A big cluster has some thousand nodes and clients with a few connections each.
pub const MAX_CONNECTIONS: usize = 16_384;
/// Most calls at once on one connection; PD's gRPC has no bound, its busiest clients keep some hundred.
const MAX_STREAMS: u32 = 8_192;
/// How long a client may take for its first bytes, and for the head of each HTTP/1.1 request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the greetings of TLS may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// First byte of a TLS connection: a record of the handshake.
const TLS_HANDSHAKE: u8 = 0x16;
/// What somebody gets who speaks plain HTTP to a port with TLS; as Go's servers do, so that people see what is wrong.
const NOT_TLS: &[u8] = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
/// Largest head of a request, bytes.
const MAX_HEAD: usize = 64 << 10;
/// A silent HTTP/2 connection is pinged this often …
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// … and closed when no answer comes within this.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes that a client may send ahead on one call. Heartbeat streams of a hundred thousand regions need more than the 64 KiB of
/// the protocol's default.
const STREAM_WINDOW: u32 = 1 << 20;
/// The same over all calls of a connection.
const CONNECTION_WINDOW: u32 = 8 << 20;
/// Pause after an error of `accept` (no file descriptors left, say): trying again at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What every HTTP/2 connection begins with.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A port to be served.
#[derive(Debug)]
pub struct Port {
    /// Its socket.
    pub listener: TcpListener,
    /// With TLS.
    pub tls: Option<Arc<Tls>>,
    /// Where connections that fail are told of.
    pub log: Logger,
}

/// Who is at the other end.
#[derive(Clone)]
struct Caller {
    peer: SocketAddr,
    identity: Identity,
}

/// Serves `router` on `port` until `shutdown` is cancelled; then takes no more connections, lets calls end, and cuts what is
/// left after `drain`.
pub async fn serve(port: Port, router: Router, shutdown: CancellationToken, drain: Duration) {
    let Port { listener, tls, log } = port;
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let permit = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            permit = permits.clone().acquire_owned() => permit,
        };
        let (stream, peer) = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            // Ended connections leave the set here, so that it does not grow.
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(_) => {
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let (router, shutdown, tls, log) = (router.clone(), shutdown.clone(), tls.clone(), log.clone());
        connections.spawn(async move {
            // Failures of one connection concern its client only.
            if tune(&stream).is_err() {
                return;
            }
            match tls {
                None => connection(stream, Caller { peer, identity: Identity::default() }, router, shutdown).await,
                Some(tls) => match greet(stream, &tls).await {
                    Ok((stream, identity)) => connection(stream, Caller { peer, identity }, router, shutdown).await,
                    Err(error) => tell_refused(&log, peer, &refusal(&error)),
                },
            }
            drop(permit);
        });
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(drain, all).await.is_err() {
        connections.abort_all();
    }
}

/// Who could not be greeted, and why: for those who look after the server, and for those who look after its security.
fn tell_refused(log: &Logger, peer: SocketAddr, why: &str) {
    let info = ServiceInfo {
        service: "TLSHandshake",
        method: "TLS",
        caller: audit::caller_id(None, None),
        ip: &peer.ip().to_string(),
        port: &peer.port().to_string(),
        start: log.now(),
        ..ServiceInfo::default()
    };
    audit::write(log, &info, Standing { outcome: Outcome::Denied(why), ..Standing::default() });
    pdlog!(log, Warn, "a TLS connection was refused", "remote" => peer.to_string(), "error" => why);
}

/// Small messages must not wait for more, and dead peers must be noticed.
fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(PING_INTERVAL).with_interval(PING_INTERVAL);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

/// The greetings of TLS, within [`HANDSHAKE_TIMEOUT`].
async fn greet(mut stream: TcpStream, tls: &Tls) -> io::Result<(TlsStream<TcpStream>, Identity)> {
    let greeting = async {
        let mut first = [0];
        if stream.peek(&mut first).await? == 1 && first[0] != TLS_HANDSHAKE {
            if first[0].is_ascii_uppercase() {
                tell_plain(&mut stream).await?;
            }
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the client does not speak TLS"));
        }
        tls.acceptor().accept(stream).await
    };
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, format!("no greeting within {HANDSHAKE_TIMEOUT:?}"));
    let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, greeting).await.map_err(late)??;
    let name = stream.get_ref().1.peer_certificates().and_then(|chain| common_name(chain.first()?));
    Ok((stream, Identity(name.map(Into::into))))
}

/// Tells a client that TLS is wanted. What it sent is read before the end: closed with bytes unread, the connection would be reset, and
/// the answer lost with it.
async fn tell_plain(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(NOT_TLS).await?;
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(MAX_HEAD as u64), &mut tokio::io::sink()).await.map(drop)
}

/// Serves one connection to its end.
async fn connection<S>(stream: S, caller: Caller, router: Router, shutdown: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let first = tokio::time::timeout(HEAD_TIMEOUT, detect(stream));
    let (stream, is_http2) = tokio::select! {
        () = shutdown.cancelled() => return,
        first = first => match first {
            Ok(Ok(detected)) => detected,
            _ => return,
        },
    };
    let service = router.map_request(move |mut request: axum::http::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(ConnectInfo(caller.peer));
        request.extensions_mut().insert(caller.identity.clone());
        request.map(axum::body::Body::new)
    });
    let builder = builder(is_http2);
    let served = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    let mut served = pin!(served);
    tokio::select! {
        _ = served.as_mut() => return,
        () = shutdown.cancelled() => served.as_mut().graceful_shutdown(),
    }
    _ = served.await;
}

fn builder(is_http2: bool) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    if is_http2 { builder.http2_only() } else { builder.http1_only() }
}

/// Reads the first bytes: whether they are HTTP/2's, and the stream with those bytes before the rest.
async fn detect<S: AsyncRead + Unpin>(mut stream: S) -> io::Result<(Rewound<S>, bool)> {
    let mut first = Vec::with_capacity(PREFACE.len());
    while first.len() < PREFACE.len() && PREFACE.starts_with(&first) {
        let room = PREFACE.len() - first.len();
        if (&mut stream).take(room as u64).read_buf(&mut first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let is_http2 = first == PREFACE;
    Ok((Rewound { first, at: 0, stream }, is_http2))
}

/// A stream whose first bytes have been read already.
#[derive(Debug)]
struct Rewound<S> {
    first: Vec<u8>,
    at: usize,
    stream: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.at < self.first.len() {
            let n = buf.remaining().min(self.first.len() - self.at);
            buf.put_slice(&self.first[self.at..self.at + n]);
            self.at += n;
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use axum::routing::get;
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    async fn start(drain: Duration) -> (SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, shutdown) = (listener.local_addr().unwrap(), CancellationToken::new());
        let router = Router::new()
            .route("/ip", get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.ip().to_string() }))
            .route("/slow", get(std::future::pending::<&'static str>));
        let port = Port { listener, tls: None, log: Logger::none() };
        (address, shutdown.clone(), tokio::spawn(serve(port, router, shutdown, drain)))
    }

    #[tokio::test]
    async fn bytes_that_come_one_by_one_are_detected() {
        for (sent, want) in
            [(&PREFACE[..], true), (b"PRI * HTTP/1.1\r\n\r\nxxxxxxx", false), (b"GET / HTTP/1.1\r\n", false)]
        {
            let (mut client, server) = tokio::io::duplex(1);
            let writer = tokio::spawn(async move {
                client.write_all(sent).await.unwrap();
                client
            });
            let (mut stream, is_http2) = detect(server).await.unwrap();
            assert_eq!(is_http2, want);
            let mut all = vec![0; sent.len()];
            stream.read_exact(&mut all).await.unwrap();
            assert_eq!(all, sent, "no byte may be lost");
            writer.await.unwrap();
        }
    }

    #[tokio::test]
    async fn serves_http1_and_ends_in_order() {
        let (address, shutdown, server) = start(Duration::from_secs(60)).await;
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET /ip HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = vec![0; 512];
        let n = client.read(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer[..n]).into_owned();
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("127.0.0.1"), "{answer}");
        shutdown.cancel();
        server.await.unwrap();
        assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0, "the idle connection is closed");
        assert!(TcpStream::connect(address).await.is_err(), "no new one is taken");
    }

    #[tokio::test]
    async fn what_does_not_end_is_cut() {
        let (address, shutdown, server) = start(Duration::from_millis(50)).await;
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\nGET /ip HTTP/1.1\r\n").await.unwrap();
        // The connection is known to be served once another one is answered.
        let mut other = TcpStream::connect(address).await.unwrap();
        other.write_all(b"GET /ip HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        other.read_to_end(&mut vec![]).await.unwrap();
        shutdown.cancel();
        server.await.unwrap();
    }
}
