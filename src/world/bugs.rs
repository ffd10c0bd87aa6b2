//! Bugs that are put back on purpose, to see that the checks find them.
//!
//! Owns: their list. Each lives in the wiring of the simulator (`control`, `world`), none in the code that a server runs.

/// See the module's comment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Bug {
    /// Operators start without taking from the store limits.
    LimitNotTaken,
    /// A new peer is put on a store that has one of the region.
    TwoPeersOnOneStore,
    /// A store is buried before its own report says that it is empty.
    BurialWithoutReport,
    /// A heartbeat of an older epoch is taken in.
    StaleEpochAccepted,
    /// A drain moves peers of regions that a label rule holds.
    DrainIgnoresDeny,
    /// Peers are placed where no rule wants them.
    RulesIgnored,
    /// A voter goes before the one that takes its place has come.
    RemoveBeforeAdd,
}

impl Bug {
    /// All of them, and the check that must find each.
    pub const ALL: [(Bug, &'static str); 7] = [
        (Bug::LimitNotTaken, "o6_store_limits"),
        (Bug::TwoPeersOnOneStore, "o5_one_peer_a_store"),
        (Bug::BurialWithoutReport, "s9_burial"),
        (Bug::StaleEpochAccepted, "h1_epochs"),
        (Bug::DrainIgnoresDeny, "o7_deny"),
        (Bug::RulesIgnored, "o2_rules"),
        (Bug::RemoveBeforeAdd, "o1_quorum"),
    ];
}
