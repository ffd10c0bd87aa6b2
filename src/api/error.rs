//! The one error of the ways in, and its one map to gRPC (REST has its own beside its handlers).
//!
//! Owns: which error is a gRPC status and which travels in the answer's header, with PD's codes and texts. Must not know: how an
//! error came to be.

use tonic::Status;

use crate::{
    meta::{MemberError, MetaError, Refusal},
    model::StoreId,
    proto::pdpb,
    scheduler::{admin::AdminError, cluster::HeartbeatError},
};

/// Why a request is refused.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ApiError {
    /// This member does not lead. PD's client looks for these words.
    #[error("not leader")]
    NotLeader,
    /// The cluster was not bootstrapped. REST says it in its own words.
    #[error("cluster is not bootstrapped")]
    NotBootstrapped,
    /// No such store.
    #[error("[PD:core:ErrStoreNotFound]store {0} not found")]
    StoreNotFound(StoreId),
    /// What is agreed could not be changed.
    #[error(transparent)]
    Meta(MetaError),
    /// A person's operator was refused.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The group of members was not changed.
    #[error(transparent)]
    Members(MemberError),
    /// PD's words for anything malformed.
    #[error("{0}")]
    Invalid(String),
    /// The same with a code of its own in the header.
    #[error("{1}")]
    Coded(pdpb::ErrorType, String),
    /// A call whose PD handler returns a bare error: gRPC code Unknown.
    #[error("{0}")]
    Bare(String),
    /// A request that must not be: gRPC code InvalidArgument.
    #[error("{0}")]
    Argument(String),
    /// Tombstone stores that still have regions stay.
    #[error("failed stores: {}", join(.0))]
    TombstonesLeft(Vec<StoreId>),
    /// `meta` answered what does not belong to the request: a defect.
    #[error("unexpected answer to {0}")]
    Unexpected(&'static str),
}

fn join(ids: &[StoreId]) -> String {
    ids.iter().map(StoreId::to_string).collect::<Vec<_>>().join(", ")
}

impl ApiError {
    /// `meta` answered what does not belong to `request`.
    pub(crate) fn unexpected(request: &'static str) -> Self {
        Self::Unexpected(request)
    }
}

impl From<MetaError> for ApiError {
    fn from(error: MetaError) -> Self {
        match error {
            MetaError::NotLeader { .. } => Self::NotLeader,
            MetaError::Refused(Refusal::NotBootstrapped) => Self::NotBootstrapped,
            other => Self::Meta(other),
        }
    }
}

impl From<MemberError> for ApiError {
    fn from(error: MemberError) -> Self {
        match error {
            MemberError::Meta(error) => error.into(),
            other => Self::Members(other),
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        MetaError::from(refusal).into()
    }
}

impl From<HeartbeatError> for ApiError {
    fn from(error: HeartbeatError) -> Self {
        match error {
            HeartbeatError::NotLeading => Self::NotLeader,
            other => Self::Invalid(other.to_string()),
        }
    }
}

/// How an error travels over gRPC.
#[derive(Debug)]
pub(crate) enum Wire {
    /// Code OK, in the header of the answer.
    Header(pdpb::Error),
    /// As the status of the call.
    Status(Box<Status>),
}

impl ApiError {
    /// Whether what was asked for may have been done all the same.
    pub(crate) fn leaves_open(&self) -> bool {
        let meta = match self {
            Self::Meta(error) | Self::Members(MemberError::Meta(error)) => error,
            _ => return false,
        };
        matches!(meta, MetaError::Unknown | MetaError::TimedOut | MetaError::Stopped | MetaError::Disk(_))
    }

    /// Most refusals travel in the header; what a client should try elsewhere or again is a status.
    pub(crate) fn into_wire(self) -> Wire {
        let kind = match &self {
            Self::NotLeader => return Wire::Status(Box::new(Status::unavailable(self.to_string()))),
            Self::Meta(
                MetaError::Unknown | MetaError::TimedOut | MetaError::Busy | MetaError::Stopped | MetaError::Disk(_),
            ) => {
                return Wire::Status(Box::new(Status::unavailable(self.to_string())));
            }
            Self::Bare(text) => return Wire::Status(Box::new(Status::unknown(text))),
            Self::Argument(text) => return Wire::Status(Box::new(Status::invalid_argument(text))),
            Self::Coded(kind, _) => *kind,
            Self::NotBootstrapped => pdpb::ErrorType::NotBootstrapped,
            Self::Meta(MetaError::Refused(Refusal::AlreadyBootstrapped)) => pdpb::ErrorType::AlreadyBootstrapped,
            Self::Meta(MetaError::Refused(Refusal::StoreTombstone(_))) => pdpb::ErrorType::StoreTombstone,
            _ => pdpb::ErrorType::Unknown,
        };
        Wire::Header(header_error(kind, self.to_string()))
    }

    /// As a status whatever it is: the calls whose PD handler returns a bare error. Their code is Unknown.
    pub(crate) fn into_status(self) -> Status {
        match self.into_wire() {
            Wire::Status(status) => *status,
            Wire::Header(error) => Status::unknown(error.message),
        }
    }

    /// Turns a refusal into a bare error; what has a status of its own and "not bootstrapped" stay.
    pub(crate) fn bare(self) -> Self {
        match self {
            Self::Meta(MetaError::Refused(refusal)) => Self::Bare(refusal.to_string()),
            other => other,
        }
    }
}

/// An error for the header of an answer.
pub(crate) fn header_error(kind: pdpb::ErrorType, message: impl Into<String>) -> pdpb::Error {
    pdpb::Error { r#type: kind.into(), message: message.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tombstones_and_bootstrap_have_codes_of_their_own() {
        for (error, kind, text) in [
            (ApiError::NotBootstrapped, pdpb::ErrorType::NotBootstrapped, "cluster is not bootstrapped"),
            (Refusal::NotBootstrapped.into(), pdpb::ErrorType::NotBootstrapped, "cluster is not bootstrapped"),
            (
                Refusal::AlreadyBootstrapped.into(),
                pdpb::ErrorType::AlreadyBootstrapped,
                "cluster is already bootstrapped",
            ),
            (Refusal::StoreTombstone(StoreId(7)).into(), pdpb::ErrorType::StoreTombstone, "store is tombstone"),
            (ApiError::TombstonesLeft(vec![StoreId(1), StoreId(4)]), pdpb::ErrorType::Unknown, "failed stores: 1, 4"),
        ] {
            let Wire::Header(got) = error.into_wire() else { panic!("{text} should travel in the header") };
            assert_eq!((got.r#type(), got.message.as_str()), (kind, text));
        }
    }

    #[test]
    fn what_should_be_tried_elsewhere_is_a_status() {
        let Wire::Status(status) = ApiError::NotLeader.into_wire() else { panic!("must be a status") };
        assert_eq!((status.code(), status.message()), (tonic::Code::Unavailable, "not leader"));
    }
}
