//! Connections to a URL, with TLS or without.
//!
//! Owns: connecting, within a time. Must not know: what is said on the connection.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use super::ClientTls;
use crate::config::Place;

/// How long connecting may take, with the greetings of TLS.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(3);

/// A stream of bytes both ways.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Connects to `url`.
///
/// # Errors
/// Not a URL, `https://` without `tls`, nobody there within [`DIAL_TIMEOUT`], or somebody who is not trusted.
pub async fn dial(url: &str, tls: Option<&ClientTls>) -> io::Result<Box<dyn Duplex>> {
    let wrong = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("{url}: {why}"));
    let place = Place::of(url).ok_or_else(|| wrong("not a URL such as http://127.0.0.1:2380"))?;
    let connect = async {
        let (host, port) = place.host_and_port();
        let stream = TcpStream::connect(format!("{host}:{port}")).await?;
        stream.set_nodelay(true)?;
        if !place.tls {
            return Ok(Box::new(stream) as Box<dyn Duplex>);
        }
        let tls = tls.ok_or_else(|| wrong("https:// needs security.cacert-path"))?;
        Ok(Box::new(tls.connect(host, stream).await?) as Box<dyn Duplex>)
    };
    let late =
        || io::Error::new(io::ErrorKind::TimedOut, format!("{url}: no connection in {} s", DIAL_TIMEOUT.as_secs()));
    tokio::time::timeout(DIAL_TIMEOUT, connect).await.unwrap_or_else(|_| Err(late()))
}
