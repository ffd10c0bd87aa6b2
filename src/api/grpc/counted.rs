//! Counts calls under the names of PD's gRPC metrics.
//!
//! Owns: `grpc_server_*`. Must not know: what calls do. A call without streams is counted when it starts and when it is answered; of
//! a stream each message is counted as it passes, and its end with the code in its trailers, or as cancelled when the client is gone
//! before them.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{
    body::{Body, Bytes},
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use hyper::{
    HeaderMap,
    body::{Frame, SizeHint},
};
use prometheus::IntCounter;
use tonic::Code;

use super::split_path;
use crate::{
    api::{App, compact_text},
    model::Mono,
    telemetry::metrics::values::ApiKind,
};

/// PD's word for a code.
fn code_name(code: Code) -> String {
    match code {
        Code::Ok => "OK".to_owned(),
        Code::Cancelled => "Canceled".to_owned(),
        other => format!("{other:?}"),
    }
}

/// The code that the head or the trailers of an answer tell. A refused call has no body, and so tells it in its head.
fn code_of(headers: &HeaderMap) -> Option<Code> {
    headers.get("grpc-status").map(|value| Code::from_bytes(value.as_bytes()))
}

/// One call that has started; its end is counted once.
struct Call {
    app: Arc<App>,
    service: String,
    method: String,
    kind: &'static str,
    start: Mono,
}

impl Call {
    fn labels(&self) -> [&str; 3] {
        [&self.method, &self.service, self.kind]
    }

    fn end(self, code: Code) {
        let metrics = &self.app.metrics.requests;
        let [method, service, kind] = self.labels();
        metrics.grpc_handled.with_label_values(&[code_name(code).as_str(), method, service, kind]).inc();
        let spent = self.app.now().mono.since(self.start).as_secs_f64();
        metrics.grpc_seconds.with_label_values(&self.labels()).observe(spent);
    }
}

/// Finds the messages in the bytes of a body: each has a head of five bytes with its length, and may come in any pieces.
#[derive(Default)]
struct Messages {
    head: [u8; 5],
    read: usize,
    rest: usize,
}

impl Messages {
    /// How many messages begin in these bytes.
    fn begun_in(&mut self, mut bytes: &[u8]) -> u64 {
        let mut begun = 0;
        while !bytes.is_empty() {
            let skip = self.rest.min(bytes.len());
            self.rest -= skip;
            bytes = &bytes[skip..];
            if self.rest > 0 {
                break;
            }
            let part = (self.head.len() - self.read).min(bytes.len());
            self.head[self.read..self.read + part].copy_from_slice(&bytes[..part]);
            self.read += part;
            bytes = &bytes[part..];
            if self.read == self.head.len() {
                let [_, length @ ..] = self.head;
                self.rest = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
                self.read = 0;
                begun += 1;
            }
        }
        begun
    }
}

/// The body of a stream's request or answer, with its messages counted on the way. The one of the answer also knows the call.
struct CountedBody {
    inner: Body,
    messages: Messages,
    counter: IntCounter,
    call: Option<Call>,
}

impl CountedBody {
    fn wrap(inner: Body, counter: IntCounter, call: Option<Call>) -> Body {
        Body::new(Self { inner, messages: Messages::default(), counter, call })
    }
}

impl hyper::body::Body for CountedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            if let Some(data) = frame.data_ref() {
                let begun = self.messages.begun_in(data);
                self.counter.inc_by(begun);
            } else if let Some(code) = frame.trailers_ref().and_then(code_of)
                && let Some(call) = self.call.take()
            {
                call.end(code);
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for CountedBody {
    fn drop(&mut self) {
        if let Some(call) = self.call.take() {
            call.end(Code::Cancelled);
        }
    }
}

/// Counts a call of a known method, whoever answers it.
pub(super) async fn counted(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let known = split_path(request.uri().path());
    let known = known.and_then(|(s, m)| Some((s.to_owned(), m.to_owned(), compact_text::method_type(s, m)?)));
    let Some((service, method, kind)) = known else { return next.run(request).await };
    let call = Call { start: app.now().mono, app: app.clone(), service, method, kind };
    let metrics = &app.metrics.requests;
    metrics.grpc_started.with_label_values(&call.labels()).inc();
    let received = metrics.grpc_received.with_label_values(&call.labels());
    let sent = metrics.grpc_sent.with_label_values(&call.labels());
    let _running = metrics.running(ApiKind::Grpc, &call.method);
    if kind == "unary" {
        received.inc();
        let answer = next.run(request).await;
        // An answered call without streams can only be a success.
        let code = code_of(answer.headers()).unwrap_or(Code::Ok);
        if code == Code::Ok {
            sent.inc();
        }
        call.end(code);
        return answer;
    }
    let answer = next.run(request.map(|body| CountedBody::wrap(body, received, None))).await;
    if let Some(code) = code_of(answer.headers()) {
        call.end(code);
        return answer;
    }
    answer.map(|body| CountedBody::wrap(body, sent, Some(call)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used)]
    use super::*;

    #[test]
    fn codes_have_the_names_of_go() {
        assert_eq!(code_name(Code::Ok), "OK");
        assert_eq!(code_name(Code::Cancelled), "Canceled");
        assert_eq!(code_name(Code::FailedPrecondition), "FailedPrecondition");
    }

    #[test]
    fn messages_are_counted_however_they_are_cut() {
        let lengths = [0_usize, 1, 5, 300, 0, 0, 70_000];
        let mut bytes = vec![];
        for length in lengths {
            bytes.push(0);
            bytes.extend(u32::try_from(length).expect("a short message").to_be_bytes());
            bytes.extend(vec![0xff; length]);
        }
        for piece in [1, 2, 3, 5, 7, 64, bytes.len()] {
            let mut messages = Messages::default();
            let begun: u64 = bytes.chunks(piece).map(|part| messages.begun_in(part)).sum();
            assert_eq!((begun, messages.rest, messages.read), (lengths.len() as u64, 0, 0), "in pieces of {piece}");
        }
    }
}
