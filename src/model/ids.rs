//! Newtypes for the numbers that name things, so that a store id cannot be passed where a region id is wanted.

use std::fmt;

/// Ids of regions, peers and stores are counted up from 1 and never get here: a higher one comes from a damaged report, and the sequence
/// is not lifted above it.
pub const MAX_ID: u64 = 1 << 62;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<u64> for $name {
            fn from(raw: u64) -> Self {
                Self(raw)
            }
        }
    };
}

id!(
    /// A storage node. 0 is never given out.
    StoreId
);
id!(
    /// A region: one key range with its replicas. 0 is never given out.
    RegionId
);
id!(
    /// A replica of a region. Ids of regions, peers and stores come from one sequence.
    PeerId
);
id!(
    /// The whole cluster, chosen once at its first start.
    ClusterId
);
id!(
    /// One Berth process in the group that agrees.
    MemberId
);
id!(
    /// One operator. Unlike PD's operators, Berth's have an id of their own; it never leaves `/berth/v1`.
    OperatorId
);
