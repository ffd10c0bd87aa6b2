//! Compiles `proto/` with protox (a protobuf compiler in Rust, so that no `protoc` has to be on the machine) and writes the
//! descriptor set beside the generated code: gRPC reflection and the wire tests read it.

use std::path::PathBuf;

const FILES: [&str; 9] = [
    "apipb.proto",
    "berth_peer.proto",
    "berth_warm.proto",
    "encryptionpb.proto",
    "eraftpb.proto",
    "metapb.proto",
    "pdpb.proto",
    "raft_serverpb.proto",
    "replication_modepb.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let set = protox::compile(FILES, ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("berth_descriptor.bin"), prost::Message::encode_to_vec(&set))?;
    tonic_prost_build::configure().bytes(".").compile_fds(set)?;
    Ok(())
}
