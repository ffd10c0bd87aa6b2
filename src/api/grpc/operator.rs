//! Operators, as nodes and clients ask for them.

use crate::{
    api::{ApiError, App},
    model::RegionId,
    proto::pdpb,
    scheduler::operator::Status,
};

/// `GetOperator`: the running operator of a region, or its last one.
pub(super) async fn get(app: &App, request: pdpb::GetOperatorRequest) -> Result<pdpb::GetOperatorResponse, ApiError> {
    app.require_bootstrapped()?;
    let op = app.cluster.operator_status(RegionId(request.region_id));
    let op = op.ok_or_else(|| ApiError::Coded(pdpb::ErrorType::RegionNotFound, "Not Found".into()))?;
    let status = match op.status {
        Status::Created | Status::Started => pdpb::OperatorStatus::Running,
        Status::Success => pdpb::OperatorStatus::Success,
        Status::Canceled => pdpb::OperatorStatus::Cancel,
        Status::Replaced => pdpb::OperatorStatus::Replace,
        // The protocol has no word for an operator that was never started in time.
        Status::Expired | Status::Timeout => pdpb::OperatorStatus::Timeout,
    };
    Ok(pdpb::GetOperatorResponse {
        region_id: request.region_id,
        desc: op.desc.clone().into_bytes().into(),
        status: status.into(),
        kind: op.kind.to_string().into_bytes().into(),
        ..Default::default()
    })
}
