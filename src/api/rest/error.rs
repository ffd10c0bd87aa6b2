//! The one map from what goes wrong to what PD answers.
//!
//! Owns: [`Problem`] and its status, content type and body. Must not know: routes, how a handler came to its problem.

use axum::http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};

use super::{go::NumError, render::Reply};
use crate::{
    api::ApiError,
    config::gojson::SyntaxError,
    meta::{MemberError, MetaError, Refusal},
    scheduler::admin::AdminError,
};

/// PD's answer before the cluster is bootstrapped.
pub(super) const NOT_BOOTSTRAPPED: &str =
    "[PD:cluster:ErrNotBootstrapped]TiKV cluster not bootstrapped, please start TiKV first";

/// Why a request is not answered with what it asked for.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Problem {
    /// A JSON text: most refusals.
    Said(StatusCode, String),
    /// `{"code": "input", …}` with header `Tidb-Error-Code`: a body or path variable that cannot be read.
    Input {
        /// What is wrong.
        msg: String,
        /// The fields of Go's error value.
        data: Value,
    },
    /// `{"code": "internal", …}`. PD adds the addresses of its call stack; Berth does not.
    Internal(String),
    /// Any other answer, ready made (`null`, `{}`, plain texts).
    Other(Box<Reply>),
}

#[derive(Serialize)]
struct ErrorObject<'a> {
    code: &'a str,
    msg: &'a str,
    data: &'a Value,
}

impl Problem {
    /// 400 with a JSON text.
    pub(super) fn bad(text: impl Into<String>) -> Self {
        Self::Said(StatusCode::BAD_REQUEST, text.into())
    }

    /// 404 with a JSON text.
    pub(super) fn not_found(text: impl Into<String>) -> Self {
        Self::Said(StatusCode::NOT_FOUND, text.into())
    }

    /// 500 with a JSON text: PD answers so to many a refusal.
    pub(super) fn failed(text: impl Into<String>) -> Self {
        Self::Said(StatusCode::INTERNAL_SERVER_ERROR, text.into())
    }

    /// 400 with an error object that has no fields.
    pub(super) fn input(msg: impl Into<String>) -> Self {
        Self::Input { msg: msg.into(), data: json!({}) }
    }

    /// The same text as a failure of the server: how some routes of PD answer what others refuse.
    pub(super) fn into_failure(self) -> Self {
        match self {
            Self::Said(_, text) => Self::failed(text),
            other => other,
        }
    }

    /// An unreadable body as a plain text: some routes of PD do without the object.
    pub(super) fn into_text(self) -> Self {
        match self {
            Self::Input { msg, .. } => Self::bad(msg),
            other => other,
        }
    }

    /// 404 `null`.
    pub(super) fn null() -> Self {
        Self::Other(Box::new(Reply::json(StatusCode::NOT_FOUND, &Value::Null)))
    }

    /// Nothing was done, since this member does not lead.
    fn not_leader(text: String) -> Self {
        Self::Other(Box::new(Reply { not_leader: true, ..Self::failed(text).into_reply() }))
    }

    /// As an answer.
    pub(super) fn into_reply(self) -> Reply {
        match self {
            Self::Said(status, text) => Reply::json(status, &text),
            Self::Input { msg, data } => error_object(StatusCode::BAD_REQUEST, "input", &msg, &data),
            Self::Internal(msg) => error_object(StatusCode::INTERNAL_SERVER_ERROR, "internal", &msg, &json!({})),
            Self::Other(reply) => *reply,
        }
    }
}

fn error_object(status: StatusCode, code: &'static str, msg: &str, data: &Value) -> Reply {
    let mut reply = Reply::json(status, &ErrorObject { code, msg, data });
    reply.error_code = Some(code);
    reply
}

/// A number that cannot be read is a plain text in most routes.
impl From<NumError> for Problem {
    fn from(error: NumError) -> Self {
        Self::bad(error.to_string())
    }
}

/// A body that is no JSON: the object form, with Go's offset.
impl From<SyntaxError> for Problem {
    fn from(error: SyntaxError) -> Self {
        Self::Input { msg: error.message, data: json!({ "Offset": error.offset }) }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let status = match &refusal {
            Refusal::NotBootstrapped => return Self::failed(NOT_BOOTSTRAPPED),
            Refusal::StoreNotFound(_) | Refusal::MemberNotFound(_) => StatusCode::NOT_FOUND,
            Refusal::StoreRemoved(_) | Refusal::StoreTombstone(_) => StatusCode::GONE,
            Refusal::StoreDestroyed(_)
            | Refusal::StoresNotEnough { .. }
            | Refusal::NoStoreForLeader(_)
            | Refusal::InvalidNumber(_)
            | Refusal::TooManyRows { .. } => StatusCode::BAD_REQUEST,
            // The rest has no row of its own in PD's map and is answered as a failure of the server.
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::Said(status, refusal.to_string())
    }
}

impl From<MetaError> for Problem {
    fn from(error: MetaError) -> Self {
        match error {
            MetaError::Refused(refusal) => refusal.into(),
            MetaError::NotLeader { .. } => Self::not_leader(error.to_string()),
            other => Self::failed(other.to_string()),
        }
    }
}

impl From<ApiError> for Problem {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::NotBootstrapped => Self::failed(NOT_BOOTSTRAPPED),
            ApiError::StoreNotFound(id) => Refusal::StoreNotFound(id).into(),
            ApiError::Meta(error) => error.into(),
            ApiError::Admin(error) => error.into(),
            ApiError::Members(error) => error.into(),
            ApiError::NotLeader => Self::not_leader(error.to_string()),
            ApiError::Invalid(_)
            | ApiError::Coded(..)
            | ApiError::Bare(_)
            | ApiError::Argument(_)
            | ApiError::TombstonesLeft(_)
            | ApiError::Unexpected(_) => Self::failed(error.to_string()),
        }
    }
}

impl From<MemberError> for Problem {
    fn from(error: MemberError) -> Self {
        let status = match &error {
            MemberError::Meta(_) | MemberError::NotTaken => StatusCode::INTERNAL_SERVER_ERROR,
            MemberError::Unknown(_) => StatusCode::NOT_FOUND,
            MemberError::Exists(_) | MemberError::TooMany => StatusCode::BAD_REQUEST,
            // These are for now: whoever asked may ask again.
            MemberError::NoQuorum { .. } | MemberError::Leads(_) | MemberError::UnderWay | MemberError::NoSuccessor => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        };
        Self::Said(status, error.to_string())
    }
}

impl From<AdminError> for Problem {
    fn from(error: AdminError) -> Self {
        match error {
            AdminError::OperatorNotFound => Self::failed(OPERATOR_NOT_FOUND),
            other => Self::failed(other.to_string()),
        }
    }
}

/// PD's text for a region without an operator, and for an empty list of records.
pub(super) const OPERATOR_NOT_FOUND: &str = "[PD:operator:ErrOperatorNotFound]operator not found";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::model::StoreId;

    #[test]
    fn an_error_object_carries_its_code_in_a_header() {
        let reply = Problem::input("label key \"engine\" is reserved").into_reply();
        assert_eq!(reply.error_code, Some("input"));
        let super::super::render::Content::Bytes(body) = reply.body else { panic!("a list") };
        assert_eq!(
            String::from_utf8(body).unwrap(),
            "{\n  \"code\": \"input\",\n  \"msg\": \"label key \\\"engine\\\" is reserved\",\n  \"data\": {}\n}\n"
        );
    }

    #[test]
    fn store_refusals_have_the_status_that_pd_gives_them() {
        for (refusal, status) in [
            (Refusal::StoreNotFound(StoreId(9)), 404),
            (Refusal::StoreRemoved(StoreId(9)), 410),
            (Refusal::StoreDestroyed(StoreId(9)), 400),
            (Refusal::NoStoreForLeader(StoreId(9)), 400),
            (Refusal::StoresNotEnough { store: StoreId(9), left: 2, need: 3 }, 400),
            (Refusal::InvalidStoreId(StoreId(9)), 500),
            (Refusal::NoSuchLabel("disk".into()), 500),
        ] {
            assert_eq!(Problem::from(refusal).into_reply().status.as_u16(), status);
        }
    }
}
