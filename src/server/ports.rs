//! The client URLs: a socket each, with TLS or without.
//!
//! Owns: what a client URL must look like, and the URLs that clients are told once ports are known. Must not know: what is served.

use std::{net::SocketAddr, sync::Arc};

use tokio::net::TcpListener;

use super::{StartError, listener::Port};
use crate::{config::Config, pdlog, telemetry::log::Logger, tls::Tls};

/// What [`open`] gives.
pub(super) struct Ports {
    /// The address of the first client URL.
    pub(super) first: SocketAddr,
    /// All of them.
    pub(super) all: Vec<Port>,
    /// What those with TLS share.
    pub(super) tls: Option<Arc<Tls>>,
}

/// Binds every client URL. A port of 0 becomes the one that the system gives, also in the URLs that clients are told.
pub(super) async fn open(config: &mut Config, log: &Logger) -> Result<Ports, StartError> {
    let tls = Tls::open(&config.security)?.map(Arc::new);
    let mut first = None;
    let mut all = vec![];
    let mut urls = vec![];
    for url in config.client_urls.split(',').map(str::trim).filter(|u| !u.is_empty()) {
        let Address { scheme, host } = address(url)?;
        let tls = match scheme {
            "https" => Some(tls.clone().ok_or_else(|| wrong(url, NO_CERTIFICATE))?),
            _ => None,
        };
        let listener = TcpListener::bind(&host).await.map_err(|why| StartError::Listen { addr: host.clone(), why })?;
        let addr = listener.local_addr().map_err(|why| StartError::Listen { addr: host.clone(), why })?;
        if !addr.ip().is_loopback() && tls.is_none() {
            pdlog!(log, Warn, "listening without TLS on an address that other machines reach", "url" => url);
        }
        urls.push(match host.rsplit_once(':') {
            Some((name, "0")) => format!("{scheme}://{name}:{}", addr.port()),
            _ => url.to_owned(),
        });
        first = first.or(Some(addr));
        all.push(Port { listener, tls, log: log.clone() });
    }
    let Some(first) = first else { return Err(wrong(&config.client_urls, "no client URL")) };
    if tls.is_some() && all.iter().all(|port| port.tls.is_none()) {
        pdlog!(log, Warn, "the certificate is not used: no client URL begins with https://", "urls" => &config.client_urls);
    }
    if config.advertise_client_urls == config.client_urls {
        config.advertise_client_urls = urls.join(",");
    }
    config.client_urls = urls.join(",");
    Ok(Ports { first, all, tls })
}

const NO_CERTIFICATE: &str = "https:// needs security.cert-path and security.key-path (flags --cert and --key)";

fn wrong(url: &str, why: &str) -> StartError {
    StartError::Url { url: url.to_owned(), why: why.to_owned() }
}

/// A client URL, taken apart.
struct Address<'a> {
    scheme: &'a str,
    /// `host:port`
    host: String,
}

fn address(url: &str) -> Result<Address<'_>, StartError> {
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme @ ("http" | "https"), rest)) => (scheme, rest),
        _ => return Err(wrong(url, "a client URL begins with http:// or https://")),
    };
    let host = rest.split('/').next().unwrap_or(rest);
    let (name, port) = host.rsplit_once(':').ok_or_else(|| wrong(url, "the port is missing"))?;
    port.parse::<u16>().map_err(|_| wrong(url, "the port is not a number from 0 to 65535"))?;
    let host = if name.is_empty() { format!("0.0.0.0:{port}") } else { host.to_owned() };
    Ok(Address { scheme, host })
}
