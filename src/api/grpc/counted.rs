//! Counts calls under the names of PD's gRPC metrics.
//!
//! Owns: `grpc_server_*`. Must not know: what calls do. A call without streams is counted when it starts and when it is answered; of
//! a stream its start is counted, and its end only when it was refused (an end comes with trailers that are not looked at here).

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use tonic::Code;

use super::split_path;
use crate::{
    api::{App, compact_text},
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

/// The code that the head of an answer tells: `None` means that trailers will tell it. A refused call has no body, and so tells it at
/// once; an answered call without streams can only be a success.
fn code_of(answer: &Response) -> Option<Code> {
    answer.headers().get("grpc-status").map(|value| Code::from_bytes(value.as_bytes()))
}

/// Counts a call of a known method, whoever answers it.
pub(super) async fn counted(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let known = split_path(&path).and_then(|(s, m)| Some((s, m, compact_text::method_type(s, m)?)));
    let Some((service, method, kind)) = known else { return next.run(request).await };
    let metrics = &app.metrics.requests;
    let labels = [method, service, kind];
    metrics.grpc_started.with_label_values(&labels).inc();
    let _running = metrics.running(ApiKind::Grpc, method);
    if kind == "unary" {
        metrics.grpc_received.with_label_values(&labels).inc();
    }
    let start = app.now().mono;
    let answer = next.run(request).await;
    let code = match code_of(&answer) {
        Some(code) => code,
        None if kind == "unary" => Code::Ok,
        None => return answer,
    };
    metrics.grpc_handled.with_label_values(&[code_name(code).as_str(), method, service, kind]).inc();
    metrics.grpc_seconds.with_label_values(&labels).observe(app.now().mono.since(start).as_secs_f64());
    if code == Code::Ok {
        metrics.grpc_sent.with_label_values(&labels).inc();
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_the_names_of_go() {
        assert_eq!(code_name(Code::Ok), "OK");
        assert_eq!(code_name(Code::Cancelled), "Canceled");
        assert_eq!(code_name(Code::FailedPrecondition), "FailedPrecondition");
    }
}
