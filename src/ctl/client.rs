//! One HTTP call on a connection of its own.
//!
//! Owns: the connection, the bounds on time and size. Must not know: what is asked.

use std::time::Duration;

use axum::body::Body;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};

use super::command::Call;
use crate::tls::ClientTls;

/// Longest a call may take: lists of a big cluster take some seconds.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Largest answer: the list of all regions of a big cluster has some hundred megabytes.
const MAX_ANSWER: usize = 1 << 30;

/// Who the audit log says it was.
const CALLER: &str = "pd-ctl";

/// Why the server could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Neither `http://` nor `https://`.
    #[error("{0}: a URL begins with http:// or https://")]
    Url(String),
    /// Whom to trust is not said.
    #[error("{0}: https:// needs --cacert, the file of the authorities to trust")]
    Trust(String),
    /// Nobody listens there.
    #[error("connect to {url}: {source}")]
    Connect {
        /// The URL.
        url: String,
        /// The system's words.
        source: std::io::Error,
    },
    /// The request makes no HTTP.
    #[error("request: {0}")]
    Request(#[from] hyper::http::Error),
    /// The connection broke.
    #[error("http: {0}")]
    Http(#[from] hyper::Error),
    /// The answer broke off or is too long.
    #[error("answer: {0}")]
    Answer(String),
    /// No answer in time.
    #[error("no answer within {} s", CALL_TIMEOUT.as_secs())]
    Timeout,
}

/// An answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body.
    pub text: String,
}

/// Makes the call and waits for the whole answer.
pub async fn send(url: &str, tls: Option<&ClientTls>, call: &Call) -> Result<Answer, ClientError> {
    timeout(CALL_TIMEOUT, connect(url, tls, call)).await.unwrap_or(Err(ClientError::Timeout))
}

async fn connect(url: &str, tls: Option<&ClientTls>, call: &Call) -> Result<Answer, ClientError> {
    let failed = |source| ClientError::Connect { url: url.to_owned(), source };
    let (scheme, authority) = url.split_once("://").ok_or_else(|| ClientError::Url(url.to_owned()))?;
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (authority, if scheme == "https" { "443" } else { "80" }),
    };
    let stream = TcpStream::connect(format!("{host}:{port}"));
    match scheme {
        "http" => exchange(stream.await.map_err(failed)?, authority, call).await,
        "https" => {
            let tls = tls.ok_or_else(|| ClientError::Trust(url.to_owned()))?;
            let stream = tls.connect(host, stream.await.map_err(failed)?).await.map_err(failed)?;
            exchange(stream, authority, call).await
        }
        _ => Err(ClientError::Url(url.to_owned())),
    }
}

async fn exchange<S>(stream: S, authority: &str, call: &Call) -> Result<Answer, ClientError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let mut request = Request::builder()
        .method(call.method)
        .uri(&call.path)
        .header(header::HOST, authority)
        .header(header::CONNECTION, "close")
        .header("X-Caller-ID", CALLER);
    let body = match &call.body {
        Some(body) => {
            request = request.header(header::CONTENT_TYPE, "application/json");
            Body::from(body.to_string())
        }
        None => Body::empty(),
    };
    let asked = async {
        let answer = sender.send_request(request.body(body)?).await?;
        let status = answer.status().as_u16();
        let bytes = axum::body::to_bytes(Body::new(answer.into_body()), MAX_ANSWER)
            .await
            .map_err(|e| ClientError::Answer(e.to_string()))?;
        Ok(Answer { status, text: String::from_utf8_lossy(&bytes).into_owned() })
    };
    // The connection has to be driven while the answer comes in; it ends with it or before it.
    tokio::pin!(asked, connection);
    tokio::select! {
        answer = &mut asked => answer,
        driven = &mut connection => {
            driven?;
            asked.await
        }
    }
}
