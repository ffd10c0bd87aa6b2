//! The client and peer URLs: a socket each, with TLS or without.
//!
//! Owns: what such a URL must look like, and the URLs that others are told once ports are known. Must not know: what is served.

use std::{net::SocketAddr, os::fd::AsFd as _, sync::Arc};

use tokio::net::TcpListener;

use super::{StartError, listener::Port};
use crate::{config::Config, pdlog, telemetry::log::Logger, tls::Tls};

/// What [`open`] gives.
pub(super) struct Ports {
    /// The address of the first client URL.
    pub(super) first: SocketAddr,
    /// All of them.
    pub(super) clients: Vec<Port>,
    /// Those of the peer URLs.
    pub(super) peers: Vec<Port>,
    /// What those with TLS share.
    pub(super) tls: Option<Arc<Tls>>,
}

impl Ports {
    /// The client ports once more, for those who answer while there is nothing to serve yet.
    pub(super) fn doubles(&self) -> std::io::Result<Vec<Port>> {
        let double = |port: &Port| {
            let socket = std::net::TcpListener::from(port.listener.as_fd().try_clone_to_owned()?);
            let listener = TcpListener::from_std(socket)?;
            Ok(Port { listener, tls: port.tls.clone(), log: port.log.clone() })
        };
        self.clients.iter().map(double).collect()
    }
}

/// Binds every client and peer URL. A port of 0 becomes the one that the system gives, also in the URLs that others are told.
pub(super) async fn open(config: &mut Config, log: &Logger) -> Result<Ports, StartError> {
    let tls = Tls::open(&config.security)?.map(Arc::new);
    let clients = bind(&config.client_urls, tls.as_ref(), log).await?;
    let peers = bind(&config.peer_urls, tls.as_ref(), log).await?;
    let Some(first) = clients.first else { return Err(wrong(&config.client_urls, "no client URL")) };
    if tls.is_some() && clients.ports.iter().chain(&peers.ports).all(|port| port.tls.is_none()) {
        pdlog!(log, Warn, "the certificate is not used: no URL begins with https://", "urls" => &config.client_urls);
    }
    // The list that was made of the peer URLs follows them.
    let own = format!("{}={}", config.name, config.advertise_peer_urls);
    told(&mut config.client_urls, &mut config.advertise_client_urls, clients.urls);
    told(&mut config.peer_urls, &mut config.advertise_peer_urls, peers.urls);
    if config.initial_cluster == own {
        config.initial_cluster = format!("{}={}", config.name, config.advertise_peer_urls);
    }
    Ok(Ports { first, clients: clients.ports, peers: peers.ports, tls })
}

/// URLs with their real ports; where others are told the same, they follow.
fn told(urls: &mut String, advertised: &mut String, real: String) {
    if advertised == urls {
        advertised.clone_from(&real);
    }
    *urls = real;
}

struct Bound {
    first: Option<SocketAddr>,
    ports: Vec<Port>,
    /// With the ports that the system gave.
    urls: String,
}

async fn bind(list: &str, tls: Option<&Arc<Tls>>, log: &Logger) -> Result<Bound, StartError> {
    let (mut first, mut ports, mut urls) = (None, vec![], vec![]);
    for url in list.split(',').map(str::trim).filter(|u| !u.is_empty()) {
        let Address { scheme, host } = address(url)?;
        let tls = match scheme {
            "https" => Some(tls.cloned().ok_or_else(|| wrong(url, NO_CERTIFICATE))?),
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
        ports.push(Port { listener, tls, log: log.clone() });
    }
    Ok(Bound { first, ports, urls: urls.join(",") })
}

const NO_CERTIFICATE: &str = "https:// needs security.cert-path and security.key-path (flags --cert and --key)";

fn wrong(url: &str, why: &str) -> StartError {
    StartError::Url { url: url.to_owned(), why: why.to_owned() }
}

/// A URL to listen on, taken apart.
struct Address<'a> {
    scheme: &'a str,
    /// `host:port`
    host: String,
}

fn address(url: &str) -> Result<Address<'_>, StartError> {
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme @ ("http" | "https"), rest)) => (scheme, rest),
        _ => return Err(wrong(url, "a URL begins with http:// or https://")),
    };
    let host = rest.split('/').next().unwrap_or(rest);
    let (name, port) = host.rsplit_once(':').ok_or_else(|| wrong(url, "the port is missing"))?;
    port.parse::<u16>().map_err(|_| wrong(url, "the port is not a number from 0 to 65535"))?;
    let host = if name.is_empty() { format!("0.0.0.0:{port}") } else { host.to_owned() };
    Ok(Address { scheme, host })
}
