//! Calls that are passed on to the member that leads.
//!
//! Owns: the connections for it, and which headers of a call stay behind. Must not know: which calls are passed on (`api::forward`).
//! One HTTP/2 connection for each member carries them all, gRPC and REST: bodies and trailers go through frame by frame.

use std::{collections::BTreeMap, io, time::Duration};

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderName, Response, Uri, header, uri::Authority},
};
use futures::future::BoxFuture;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;

use super::Dialer;
use crate::{api::forward::Onward, config::Place, meta::MAX_MEMBERS};

/// A connection is pinged this often, and given up when no answer comes within the other: calls on it end with it.
const PING: Duration = Duration::from_secs(1);
const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes that may be under way on one call, and on all of them.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
/// Headers that belong to the connection that a call came on.
const OF_CONNECTION: [HeaderName; 5] =
    [header::CONNECTION, header::HOST, header::TRANSFER_ENCODING, header::UPGRADE, header::PROXY_AUTHORIZATION];
/// `Keep-Alive` has no name of its own.
const KEEP_ALIVE: &str = "keep-alive";

/// See the module.
#[derive(Debug)]
pub(in crate::server) struct Forwarder {
    dialer: Dialer,
    /// By URL.
    open: Mutex<BTreeMap<String, SendRequest<Body>>>,
}

impl Forwarder {
    pub(super) fn new(dialer: Dialer) -> Self {
        Self { dialer, open: Mutex::default() }
    }

    /// The connection to `url`: the one there is, or a new one.
    async fn connection(&self, url: &str) -> io::Result<SendRequest<Body>> {
        if let Some(open) = self.open.lock().get(url).filter(|open| !open.is_closed()) {
            return Ok(open.clone());
        }
        let stream = TokioIo::new(self.dialer.dial(url).await?);
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING_TIMEOUT)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        let (sender, connection) = builder.handshake(stream).await.map_err(io::Error::other)?;
        // It ends with the connection; calls under way are told then.
        tokio::spawn(async move { drop(connection.await) });
        let mut open = self.open.lock();
        open.retain(|_, sender| !sender.is_closed());
        if open.len() < MAX_MEMBERS {
            open.insert(url.to_owned(), sender.clone());
        }
        Ok(sender)
    }

    async fn pass(&self, urls: Vec<String>, request: Request) -> io::Result<Response<Body>> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the leader has no client URL");
        for url in urls {
            match self.connection(&url).await {
                Ok(mut sender) => {
                    let request = aimed(request, &url)?;
                    let answer = sender.send_request(request).await.map_err(io::Error::other)?;
                    return Ok(answer.map(Body::new));
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

impl Onward for std::sync::Arc<Forwarder> {
    fn pass_on(&self, urls: Vec<String>, request: Request) -> BoxFuture<'static, io::Result<Response<Body>>> {
        let forwarder = self.clone();
        Box::pin(async move { forwarder.pass(urls, request).await })
    }
}

/// The request as the member at `url` gets it.
fn aimed(request: Request, url: &str) -> io::Result<Request> {
    let (mut parts, body) = request.into_parts();
    let place = Place::of(url).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut uri = parts.uri.into_parts();
    uri.scheme = Some(axum::http::uri::Scheme::HTTP);
    uri.authority = Some(place.authority.parse::<Authority>().map_err(io::Error::other)?);
    parts.uri = Uri::from_parts(uri).map_err(io::Error::other)?;
    parts.version = axum::http::Version::HTTP_2;
    for name in OF_CONNECTION {
        parts.headers.remove(name);
    }
    parts.headers.remove(KEEP_ALIVE);
    // What came with the request is about the connection it came on.
    parts.extensions.clear();
    Ok(Request::from_parts(parts, body))
}
