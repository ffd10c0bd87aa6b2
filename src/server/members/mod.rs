//! The other members: how messages travel to and from them, and how a member with an empty folder begins.
//!
//! Owns: the peer port's service ([`service`]), the connections to other members ([`mail`]), what is asked before a first start
//! ([`founding`]), how calls are passed on ([`forward`]), what leading begins and ends ([`lead`]), the warm copy's way ([`warm`]).
//! Must not know: what messages mean; `meta` does.

pub(super) mod forward;
pub(super) mod founding;
pub(super) mod lead;
pub(super) mod mail;
pub(super) mod service;
pub(super) mod warm;

use std::{io, sync::Arc};

use tokio_util::sync::CancellationToken;

use self::{mail::Mail, service::Here};
use crate::{
    api::App,
    config::{Config, SecurityConfig},
    meta::{Member, Meta},
    telemetry::log::Logger,
    tls::{ClientTls, Duplex, dial},
};

/// Where members meet: the peer port's side and the connections to others.
pub(super) struct Desk {
    here: Arc<Here>,
    ended: CancellationToken,
}

impl Desk {
    /// Of a member that has no state yet. All of it ends with `ended`.
    pub(super) fn open(config: &Config, log: &Logger, ended: CancellationToken) -> Self {
        Self { here: Arc::new(Here::new(config, log.clone(), ended.clone())), ended }
    }

    /// What the peer port serves.
    pub(super) fn router(&self) -> axum::Router {
        service::router(self.here.clone())
    }

    /// The way to the others. Must be called inside a runtime.
    pub(super) fn mail(&self, config: &Config, others: Vec<Member>, log: &Logger) -> Mail {
        let dialer = Dialer::new(&config.security);
        Mail::new(dialer, config.advertise_peer_urls.clone(), others, self.ended.clone(), log.clone())
    }

    /// This member has state from here on, and listens.
    pub(super) fn serve(&self, meta: &Meta, mail: &Mail) {
        mail.open(meta.clone());
        self.here.open(meta.clone(), mail.clone());
    }

    /// Tells others what is known of regions and stores, and follows whoever leads, until the end.
    pub(super) async fn stay_warm(self, app: Arc<App>) {
        self.here.show(app.clone());
        if let Some(mail) = self.here.mail().cloned() {
            warm::follow(app, mail, self.ended).await;
        }
    }
}

/// How this member connects to others: with its own certificate where their URLs want TLS.
#[derive(Clone, Debug, Default)]
pub(super) struct Dialer {
    security: SecurityConfig,
}

impl Dialer {
    pub(super) fn new(security: &SecurityConfig) -> Self {
        Self { security: security.clone() }
    }

    /// Passes calls on to others.
    pub(super) fn forwarder(self) -> Arc<forward::Forwarder> {
        Arc::new(forward::Forwarder::new(self))
    }

    /// Trusts and shows what the files say now.
    pub(super) fn tls(&self) -> io::Result<Option<ClientTls>> {
        let SecurityConfig { cacert_path, cert_path, key_path, .. } = &self.security;
        if cacert_path.is_empty() {
            return Ok(None);
        }
        let pair = (!cert_path.is_empty() && !key_path.is_empty()).then_some((cert_path.as_ref(), key_path.as_ref()));
        ClientTls::open(cacert_path.as_ref(), pair).map(Some).map_err(io::Error::other)
    }

    /// Connects to one URL.
    pub(super) async fn dial(&self, url: &str) -> io::Result<Box<dyn Duplex>> {
        let tls = if url.starts_with("https://") { self.tls()? } else { None };
        dial(url, tls.as_ref()).await
    }
}
