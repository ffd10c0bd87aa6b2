//! One HTTP call on a connection of its own.
//!
//! Owns: the connection, the bounds on time and size. Must not know: what is asked.

use std::time::Duration;

use axum::body::Body;
use futures::StreamExt as _;
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

/// Longest text of a refusal.
const MAX_REFUSAL: usize = 1 << 20;

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

/// Takes the bytes of an answer as they come.
type Take<'a> = &'a mut (dyn FnMut(&[u8]) -> std::io::Result<()> + Send);

/// Makes the call and waits for the whole answer.
pub async fn send(url: &str, tls: Option<&ClientTls>, call: &Call) -> Result<Answer, ClientError> {
    let mut bytes = vec![];
    let mut take = |more: &[u8]| bounded(&mut bytes, more, MAX_ANSWER);
    let answer = timeout(CALL_TIMEOUT, connect(url, tls, call, &mut take)).await;
    let mut answer = answer.unwrap_or(Err(ClientError::Timeout))?;
    if answer.text.is_empty() {
        answer.text = String::from_utf8_lossy(&bytes).into_owned();
    }
    Ok(answer)
}

/// Makes the call and hands the answer to `take` as it comes, however long the whole takes. The text of the result is that of a refusal.
///
/// # Errors
/// [`ClientError`], also when `take` fails; what was taken until then is not the whole.
pub async fn fetch(url: &str, tls: Option<&ClientTls>, call: &Call, take: Take<'_>) -> Result<Answer, ClientError> {
    connect(url, tls, call, take).await
}

fn bounded(bytes: &mut Vec<u8>, more: &[u8], most: usize) -> std::io::Result<()> {
    if bytes.len() + more.len() > most {
        return Err(std::io::Error::other(format!("longer than {most} bytes")));
    }
    bytes.extend_from_slice(more);
    Ok(())
}

async fn connect(url: &str, tls: Option<&ClientTls>, call: &Call, take: Take<'_>) -> Result<Answer, ClientError> {
    let failed = |source| ClientError::Connect { url: url.to_owned(), source };
    let (scheme, authority) = url.split_once("://").ok_or_else(|| ClientError::Url(url.to_owned()))?;
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (authority, if scheme == "https" { "443" } else { "80" }),
    };
    let stream = TcpStream::connect(format!("{host}:{port}"));
    match scheme {
        "http" => exchange(in_time(stream).await?.map_err(failed)?, authority, call, take).await,
        "https" => {
            let tls = tls.ok_or_else(|| ClientError::Trust(url.to_owned()))?;
            let stream = in_time(stream).await?.map_err(failed)?;
            let stream = in_time(tls.connect(host, stream)).await?.map_err(failed)?;
            exchange(stream, authority, call, take).await
        }
        _ => Err(ClientError::Url(url.to_owned())),
    }
}

/// No step of a call takes longer than a call may.
async fn in_time<T>(step: impl Future<Output = T>) -> Result<T, ClientError> {
    timeout(CALL_TIMEOUT, step).await.map_err(|_| ClientError::Timeout)
}

async fn exchange<S>(stream: S, authority: &str, call: &Call, take: Take<'_>) -> Result<Answer, ClientError>
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
        let answer = in_time(sender.send_request(request.body(body)?)).await??;
        let (status, good) = (answer.status().as_u16(), answer.status().is_success());
        let mut body = Body::new(answer.into_body()).into_data_stream();
        let mut refusal = vec![];
        while let Some(bytes) = in_time(body.next()).await? {
            let bytes = bytes.map_err(|e| ClientError::Answer(e.to_string()))?;
            let taken = if good { take(&bytes) } else { bounded(&mut refusal, &bytes, MAX_REFUSAL) };
            taken.map_err(|e| ClientError::Answer(e.to_string()))?;
        }
        Ok(Answer { status, text: String::from_utf8_lossy(&refusal).into_owned() })
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
