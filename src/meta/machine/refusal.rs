//! Why a command is refused, with PD's texts to the letter.
//!
//! Owns: [`Refusal`] and how a store record prints in such a text. Must not know: who asked, and by which protocol.

use std::{fmt::Write as _, sync::Arc};

use crate::model::{MemberId, NodeState, StoreId, StoreRecord, StoreState};

/// A command that the machine will not carry out. The state is as it was.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum Refusal {
    /// Bootstrap of a cluster that has been (`ALREADY_BOOTSTRAPPED`).
    #[error("cluster is already bootstrapped")]
    AlreadyBootstrapped,
    /// Anything else before bootstrap (`NOT_BOOTSTRAPPED`).
    #[error("cluster is not bootstrapped")]
    NotBootstrapped,
    /// The cluster has another id.
    #[error("mismatch cluster id, need {need} but got {got}")]
    ClusterIdMismatch {
        /// Its id.
        need: u64,
        /// The other.
        got: u64,
    },
    /// No such store.
    #[error("[PD:core:ErrStoreNotFound]store {0} not found")]
    StoreNotFound(StoreId),
    /// No such member.
    #[error("member {0} not found")]
    MemberNotFound(MemberId),
    /// No such store, as label and weight changes say it.
    #[error("[PD:cluster:ErrInvalidStoreID]invalid store id {0}, not found")]
    InvalidStoreId(StoreId),
    /// The store is Tombstone.
    #[error("[PD:core:ErrStoreRemoved]store {0} has been removed")]
    StoreRemoved(StoreId),
    /// A store that is or was Tombstone reports for duty (`STORE_TOMBSTONE`).
    #[error("store is tombstone")]
    StoreTombstone(StoreId),
    /// The store's machine is gone.
    #[error("[PD:core:ErrStoreDestroyed]store {0} has been physically destroyed")]
    StoreDestroyed(StoreId),
    /// The store serves already.
    #[error("[PD:core:ErrStoreServing]store {0} has been serving")]
    StoreServing(StoreId),
    /// Burying a store that is up.
    #[error("[PD:cluster:ErrStoreIsUp]store is still up, please remove store gracefully")]
    StoreIsUp(StoreId),
    /// Burying, by force, a store that is up and heard from.
    #[error("The store {0} is not offline nor disconnected")]
    StoreConnected(StoreId),
    /// Removing a store record that is not Tombstone.
    #[error("store {0} is not tombstone")]
    NotTombstone(StoreId),
    /// Too few stores would stay.
    #[error(
        "[PD:core:ErrStoresNotEnough]can not remove store {store} since the number of up stores would be {left} while need {need}"
    )]
    StoresNotEnough {
        /// The store.
        store: StoreId,
        /// Up stores that would stay.
        left: u64,
        /// How many must.
        need: u64,
    },
    /// No store that may lead would stay.
    #[error(
        "[PD:core:ErrNoStoreForRegionLeader]can not remove store {0} since there are no extra up store to store the leader"
    )]
    NoStoreForLeader(StoreId),
    /// Two stores with one address.
    #[error("duplicated store address: {}, already registered by {}", proto_text(.store), proto_text(.by))]
    DuplicateAddress {
        /// The new one.
        store: Box<StoreRecord>,
        /// Who has it.
        by: Arc<StoreRecord>,
    },
    /// Two stores with one peer address.
    #[error("duplicated store peer address: {}, already registered by {}", proto_text(.store), proto_text(.by))]
    DuplicatePeerAddress {
        /// The new one.
        store: Box<StoreRecord>,
        /// Who has it.
        by: Arc<StoreRecord>,
    },
    /// A store without an id.
    #[error("invalid put store {}", proto_text(.0))]
    InvalidStore(Box<StoreRecord>),
    /// A store version that is none.
    #[error("invalid put store {}, error: [PD:semver:ErrSemverNewVersion]{text}: {text}", proto_text(.store))]
    BadVersion {
        /// The store.
        store: Box<StoreRecord>,
        /// What is wrong with it.
        text: String,
    },
    /// A store older than the cluster.
    #[error("version should compatible with version  {cluster}, got {got}")]
    Incompatible {
        /// Version of the cluster.
        cluster: String,
        /// Version of the store.
        got: String,
    },
    /// A label that is not there.
    #[error("the label key {0} does not exist")]
    NoSuchLabel(String),
    /// A number that no limit or weight can be.
    #[error("{0}")]
    InvalidNumber(&'static str),
    /// More rows than one command may carry, or than are kept of one kind.
    #[error("too many rows: {rows}, the most is {max}")]
    TooManyRows {
        /// How many.
        rows: usize,
        /// The most.
        max: usize,
    },
    /// The sequence of ids is used up.
    #[error("no ids left")]
    IdsExhausted,
    /// The GC safe point may not pass the transaction safe point.
    #[error(
        "[PD:gc:ErrGCSafePointExceedsTxnSafePoint]trying to update GC safe point to a too large value that exceeds the txn safe point, current value: {current}, given: {given}, current txn safe point: {txn}"
    )]
    GcExceedsTxn {
        /// The GC safe point.
        current: u64,
        /// What was asked for.
        given: u64,
        /// The transaction safe point.
        txn: u64,
    },
    /// The transaction safe point never falls.
    #[error(
        "[PD:gc:ErrDecreasingTxnSafePoint]trying to update txn safe point to a smaller value, current value: {current}, given: {given}"
    )]
    DecreasingTxn {
        /// The transaction safe point.
        current: u64,
        /// What was asked for.
        given: u64,
    },
    /// The GC worker's safe point holds for ever.
    #[error("TTL of gc_worker's service safe point must be infinity")]
    GcWorkerTtl,
    /// A service safe point without a name.
    #[error("[PD:common:ErrInvalidArgument]invalid argument for barrierID: {0}")]
    InvalidBarrier(String),
    /// More service safe points than are kept.
    #[error("too many service safe points, the most is {0}")]
    TooManyBarriers(usize),
}

/// A store record as Go prints a `metapb.Store`: only what is not zero, in the order of the field numbers, each followed by a blank.
pub fn proto_text(store: &StoreRecord) -> String {
    let mut text = String::new();
    let mut field = |name: &str, value: &str| {
        // Writing into a String cannot fail.
        _ = write!(text, "{name}:{value} ");
    };
    let quoted = go_quoted;
    if store.id.0 != 0 {
        field("id", &store.id.to_string());
    }
    if !store.address.is_empty() {
        field("address", &quoted(&store.address));
    }
    if store.state != StoreState::Up {
        field("state", store.state.name());
    }
    for label in &store.labels {
        let mut inner = String::new();
        for (name, value) in [("key", &label.key), ("value", &label.value)] {
            if !value.is_empty() {
                _ = write!(inner, "{name}:{} ", go_quoted(value));
            }
        }
        field("labels", &format!("<{inner}>"));
    }
    for (name, value) in [
        ("version", &store.version),
        ("peer_address", &store.peer_address),
        ("status_address", &store.status_address),
        ("git_hash", &store.git_hash),
    ] {
        if !value.is_empty() {
            field(name, &quoted(value));
        }
    }
    if store.start_timestamp != 0 {
        field("start_timestamp", &store.start_timestamp.to_string());
    }
    if !store.deploy_path.is_empty() {
        field("deploy_path", &quoted(&store.deploy_path));
    }
    if store.last_heartbeat.0 != 0 {
        field("last_heartbeat", &store.last_heartbeat.0.to_string());
    }
    if store.physically_destroyed {
        field("physically_destroyed", "true");
    }
    if store.node_state != NodeState::Preparing {
        field("node_state", store.node_state.name());
    }
    text
}

/// A text in quotes as Go's protobuf text form writes it: what is not printable ASCII byte by byte in octal.
fn go_quoted(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 2);
    out.push('"');
    for byte in value.bytes() {
        match byte {
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b' '..=b'~' => out.push(char::from(byte)),
            _ => _ = write!(out, "\\{byte:03o}"),
        }
    }
    out.push('"');
    out
}
