//! Connections to a URL, with TLS or without.
//!
//! Owns: what a URL to connect to looks like. Must not know: what is said on the connection.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use super::ClientTls;

/// How long connecting may take, with the greetings of TLS.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(3);

/// A stream of bytes both ways.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A URL taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place<'a> {
    /// Whether it begins with `https://`.
    pub tls: bool,
    /// `host:port`, or only a host.
    pub authority: &'a str,
}

impl<'a> Place<'a> {
    /// Takes `http://host:port` or `https://host:port` apart; a path behind it is left out.
    pub fn of(url: &'a str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let tls = match scheme {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let authority = rest.split('/').next().filter(|host| !host.is_empty())?;
        Some(Self { tls, authority })
    }

    /// Host and port.
    pub fn host_and_port(self) -> (&'a str, &'a str) {
        match self.authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port),
            _ => (self.authority, if self.tls { "443" } else { "80" }),
        }
    }
}

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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let parts = |url| Place::of(url).map(|p| (p.tls, p.host_and_port()));
        assert_eq!(parts("http://10.0.0.1:2380"), Some((false, ("10.0.0.1", "2380"))));
        assert_eq!(parts("https://pd-1/path"), Some((true, ("pd-1", "443"))));
        assert_eq!(parts("http://[::1]:2380"), Some((false, ("[::1]", "2380"))));
        assert_eq!(parts("http://[::1]"), Some((false, ("[::1]", "80"))));
        for wrong in ["10.0.0.1:2380", "ftp://a:1", "http://", "http:///x"] {
            assert_eq!(parts(wrong), None, "{wrong}");
        }
    }
}
