//! The generated wire types, one module a protobuf package.
#![allow(missing_docs, clippy::all, rust_2018_idioms, unreachable_pub)]
pub mod apipb {
    tonic::include_proto!("apipb");
}
pub mod berth_peer {
    tonic::include_proto!("berth.peer.v1");
}
/// Its messages hold others', which the generated code finds from three levels below.
pub mod berth {
    pub mod warm {
        pub mod v1 {
            tonic::include_proto!("berth.warm.v1");
        }
    }
}
pub use berth::warm::v1 as berth_warm;
pub mod encryptionpb {
    tonic::include_proto!("encryptionpb");
}
pub mod eraftpb {
    tonic::include_proto!("eraftpb");
}
pub mod metapb {
    tonic::include_proto!("metapb");
}
pub mod pdpb {
    tonic::include_proto!("pdpb");
}
pub mod raft_serverpb {
    tonic::include_proto!("raft_serverpb");
}
pub mod replication_modepb {
    tonic::include_proto!("replication_modepb");
}
/// The compiled descriptor set of `proto/`.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/berth_descriptor.bin"));
