//! A small HTTP/1.1 client for the REST interface: plain connections, one request each, bounded bodies.
//!
//! Owns: sending a request and reading the whole answer. Must not know any route.

use std::time::Duration;

use axum::body::{Body, Bytes};
use hyper::{Method, Request, StatusCode, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

/// Largest answer taken: the regions of a large cluster are some hundred megabytes, nothing here asks for them.
const MAX_BODY: usize = 64 << 20;
/// How long one request may take: PD answers a sum over a million regions in seconds.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address is not `http://host:port`.
    #[error("`{0}` is not an address such as http://127.0.0.1:2379")]
    Address(String),
    /// The connection failed.
    #[error("{address}: {source}")]
    Connect {
        /// Where to.
        address: String,
        /// What happened.
        source: std::io::Error,
    },
    /// The exchange failed.
    #[error("{method} {path}: {message}")]
    Exchange {
        /// The method.
        method: Method,
        /// The path.
        path: String,
        /// What happened.
        message: String,
    },
    /// The answer is not 2xx.
    #[error("{method} {path}: {status}: {body}")]
    Status {
        /// The method.
        method: Method,
        /// The path.
        path: String,
        /// The status.
        status: StatusCode,
        /// The body, as text.
        body: String,
    },
}

/// An answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A client for one address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HttpClient {
    /// `host:port`.
    authority: String,
}

impl HttpClient {
    /// A client for `http://host:port` or `host:port`.
    ///
    /// # Errors
    /// Another scheme, or no port.
    pub fn new(address: &str) -> Result<Self, HttpError> {
        let bad = || HttpError::Address(address.to_owned());
        let authority = address.strip_prefix("http://").unwrap_or(address).trim_end_matches('/');
        let port = authority.rsplit_once(':').map(|(_, port)| port).ok_or_else(bad)?;
        if authority.contains('/') || port.parse::<u16>().is_err() {
            return Err(bad());
        }
        Ok(Self { authority: authority.to_owned() })
    }

    /// `http://host:port`.
    pub fn base(&self) -> String {
        format!("http://{}", self.authority)
    }

    /// Opens a connection that carries several requests, one after the other.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub async fn connect(&self) -> Result<HttpConnection, HttpError> {
        let connect_error = |source| HttpError::Connect { address: self.authority.clone(), source };
        let stream = match timeout(REQUEST_TIMEOUT, TcpStream::connect(&self.authority)).await {
            Ok(stream) => stream.map_err(connect_error)?,
            Err(_) => return Err(connect_error(std::io::ErrorKind::TimedOut.into())),
        };
        stream.set_nodelay(true).map_err(connect_error)?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|e| connect_error(std::io::Error::other(e)))?;
        let task = tokio::spawn(async move {
            // An error shows in the request that is under way.
            let _ = connection.await;
        });
        Ok(HttpConnection { authority: self.authority.clone(), sender, task })
    }

    /// One request on a connection of its own; any status is an answer.
    ///
    /// # Errors
    /// The server cannot be reached, does not answer in time, or the answer is too large.
    pub async fn request(&self, method: Method, path: &str, body: Option<String>) -> Result<Answer, HttpError> {
        self.connect().await?.request(method, path, body).await
    }

    /// GET; a status other than 2xx is an error.
    ///
    /// # Errors
    /// As [`HttpClient::request`], and [`HttpError::Status`].
    pub async fn get(&self, path: &str) -> Result<String, HttpError> {
        self.ok(Method::GET, path, None).await
    }

    /// GET of a JSON value.
    ///
    /// # Errors
    /// As [`HttpClient::get`], and a body that is not JSON.
    pub async fn get_json(&self, path: &str) -> Result<serde_json::Value, HttpError> {
        let text = self.get(path).await?;
        serde_json::from_str(&text).map_err(|e| exchange(&Method::GET, path, e))
    }

    /// POST of a JSON value; a status other than 2xx is an error.
    ///
    /// # Errors
    /// As [`HttpClient::get`].
    pub async fn post(&self, path: &str, body: &serde_json::Value) -> Result<String, HttpError> {
        self.ok(Method::POST, path, Some(body.to_string())).await
    }

    /// DELETE; a status other than 2xx is an error.
    ///
    /// # Errors
    /// As [`HttpClient::get`].
    pub async fn delete(&self, path: &str) -> Result<String, HttpError> {
        self.ok(Method::DELETE, path, None).await
    }

    async fn ok(&self, method: Method, path: &str, body: Option<String>) -> Result<String, HttpError> {
        let answer = self.request(method.clone(), path, body).await?;
        if answer.status.is_success() {
            return Ok(answer.text());
        }
        Err(HttpError::Status { method, path: path.to_owned(), status: answer.status, body: answer.text() })
    }
}

/// An open connection.
pub struct HttpConnection {
    authority: String,
    sender: http1::SendRequest<Body>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for HttpConnection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl HttpConnection {
    /// One request; any status is an answer.
    ///
    /// # Errors
    /// The server does not answer in time, or the answer is too large.
    pub async fn request(&mut self, method: Method, path: &str, body: Option<String>) -> Result<Answer, HttpError> {
        let mut request = Request::builder().method(method.clone()).uri(path).header(header::HOST, &self.authority);
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = body.map_or_else(Body::empty, Body::from);
        let request = request.body(body).map_err(|e| exchange(&method, path, e))?;
        let talk = async {
            self.sender.ready().await.map_err(|e| exchange(&method, path, e))?;
            let answer = self.sender.send_request(request).await.map_err(|e| exchange(&method, path, e))?;
            let status = answer.status();
            let body = axum::body::to_bytes(Body::new(answer.into_body()), MAX_BODY);
            Ok(Answer { status, body: body.await.map_err(|e| exchange(&method, path, e))? })
        };
        timeout(REQUEST_TIMEOUT, talk).await.unwrap_or_else(|e| Err(exchange(&method, path, e)))
    }
}

fn exchange(method: &Method, path: &str, error: impl std::fmt::Display) -> HttpError {
    HttpError::Exchange { method: method.clone(), path: path.to_owned(), message: error.to_string() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use axum::{Router, routing};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn addresses_are_checked() {
        assert_eq!(HttpClient::new("http://127.0.0.1:2379/").unwrap().base(), "http://127.0.0.1:2379");
        assert_eq!(HttpClient::new("[::1]:80").unwrap().base(), "http://[::1]:80");
        for bad in ["https://a:1", "a", "http://a", "http://a:1/pd", "a:70000"] {
            assert!(HttpClient::new(bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn answers_and_refusals_come_back_whole() {
        let echo = |body: String| async move { format!("got {body}") };
        let big = || async { vec![0_u8; MAX_BODY + 1] };
        let no = || async { (StatusCode::GONE, "\"store is gone\"\n") };
        let routes = Router::new()
            .route("/echo", routing::post(echo))
            .route("/big", routing::get(big))
            .route("/no", routing::delete(no));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = HttpClient::new(&listener.local_addr().unwrap().to_string()).unwrap();
        tokio::spawn(async move { hyper_serve(listener, routes).await });
        assert_eq!(client.post("/echo", &serde_json::json!({"a": 1})).await.unwrap(), "got {\"a\":1}");
        let refused = client.delete("/no").await.unwrap_err().to_string();
        assert_eq!(refused, "DELETE /no: 410 Gone: \"store is gone\"\n");
        assert!(matches!(client.get("/big").await, Err(HttpError::Exchange { .. })));
        let mut connection = client.connect().await.unwrap();
        for _ in 0..3 {
            assert_eq!(connection.request(Method::GET, "/none", None).await.unwrap().status, StatusCode::NOT_FOUND);
        }
    }

    /// Serves `routes` on each connection of `listener`.
    async fn hyper_serve(listener: TcpListener, routes: Router) {
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper_util::service::TowerToHyperService::new(routes.clone());
            let server = hyper::server::conn::http1::Builder::new();
            tokio::spawn(async move {
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    }
}
