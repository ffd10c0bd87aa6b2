//! Scheduling commands as a node understands them, and the reasons why it refuses one.
//!
//! Owns: the reading of `RegionHeartbeatResponse`. Must not know regions or stores: whether a command can be carried out is
//! decided in `region` and `fleet`.

use crate::{
    model::{Epoch, Key, Peer, PeerId, RegionId},
    proto::{eraftpb::ConfChangeType, metapb, pdpb},
    sim::wire,
};

/// Most membership changes taken in one command: a joint change of a nine-replica region replaces all its peers.
pub(super) const MAX_CHANGES: usize = 32;
/// Most split keys taken in one command: PD's batch limit for one region.
pub(super) const MAX_SPLIT_KEYS: usize = 1_024;

/// What a change does to a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChangeKind {
    /// Add a voter, or promote a learner.
    AddVoter,
    /// Add a learner, or demote a voter.
    AddLearner,
    /// Remove a peer.
    Remove,
}

/// One membership change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Change {
    /// What to do.
    pub kind: ChangeKind,
    /// With which peer.
    pub peer: Peer,
}

/// Where a region is split.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SplitAt {
    /// At these keys.
    Keys(Vec<Key>),
    /// Wherever the node thinks its middle is.
    Middle,
}

/// A command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Change the membership: one change is made at once, several enter a joint state, none leaves it.
    ChangePeers(Vec<Change>),
    /// Hand the lead to the first of these that can take it.
    TransferLeader(Vec<Peer>),
    /// Split the region.
    Split(SplitAt),
    /// Merge the region into its neighbour.
    Merge {
        /// The region that takes over the range.
        target: RegionId,
        /// The epoch that the target must still have.
        epoch: Epoch,
    },
    /// Make peers witnesses, or give them data, as each says.
    SwitchWitnesses(Vec<(PeerId, bool)>),
}

/// Sorts of commands, for counting.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CommandKind {
    /// A learner is added (or a voter demoted by itself).
    AddLearner,
    /// A voter is added or a learner promoted.
    AddVoter,
    /// A peer is removed.
    RemovePeer,
    /// Several changes: a joint state is entered.
    EnterJoint,
    /// The joint state is left.
    LeaveJoint,
    /// The lead is handed over.
    TransferLeader,
    /// A split.
    Split,
    /// A merge.
    Merge,
    /// Peers become witnesses, or get data.
    SwitchWitness,
}

impl Command {
    /// The sort.
    pub fn kind(&self) -> CommandKind {
        match self {
            Command::ChangePeers(changes) => match changes.as_slice() {
                [] => CommandKind::LeaveJoint,
                [one] => match one.kind {
                    ChangeKind::AddVoter => CommandKind::AddVoter,
                    ChangeKind::AddLearner => CommandKind::AddLearner,
                    ChangeKind::Remove => CommandKind::RemovePeer,
                },
                _ => CommandKind::EnterJoint,
            },
            Command::TransferLeader(_) => CommandKind::TransferLeader,
            Command::Split(_) => CommandKind::Split,
            Command::Merge { .. } => CommandKind::Merge,
            Command::SwitchWitnesses(_) => CommandKind::SwitchWitness,
        }
    }
}

/// A command with its address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Order {
    /// The region.
    pub region: RegionId,
    /// The epoch that the sender saw.
    pub epoch: Epoch,
    /// The peer that the sender takes for the leader.
    pub target: PeerId,
    /// What to do.
    pub command: Command,
}

/// Why a node refuses a command.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rejection {
    /// No such region here.
    UnknownRegion,
    /// This store, or this peer, does not lead the region.
    NotLeader,
    /// The region has changed since the command was made.
    StaleEpoch,
    /// Another command of the region is still being carried out.
    Busy,
    /// The leader must hand over before it is removed or demoted.
    RemovesLeader,
    /// The store has a peer of the region already.
    SecondPeerOnStore,
    /// The peer to change is not there.
    UnknownPeer,
    /// The peer is what it should become already.
    NothingToDo,
    /// A joint state must be left first.
    InJointState,
    /// There is no joint state to leave.
    NotInJointState,
    /// A voter must be demoted before it is removed together with other changes.
    RemovesVoterInJoint,
    /// Nobody would vote afterwards.
    NoVoterLeft,
    /// Nobody of those named can lead.
    NoSuchLeader,
    /// The split keys are not inside the region.
    BadSplitKey,
    /// The regions cannot be merged: not neighbours, other stores, or changed.
    CannotMerge,
    /// No split ids came from the server.
    NoSplitIds,
    /// A store that the command names is not part of the fleet.
    UnknownStore,
    /// The message is damaged, too long, or asks for something the fleet does not model.
    Unsupported,
}

/// Reads a message; `None` when it holds no command (an error header, or an empty message that only keeps the stream open).
///
/// # Errors
/// [`Rejection::Unsupported`] for split toggles, unknown change types and lists without a sensible length.
pub(super) fn decode(message: &pdpb::RegionHeartbeatResponse) -> Result<Option<Order>, Rejection> {
    if message.region_id == 0 || message.header.as_ref().is_some_and(|h| h.error.is_some()) {
        return Ok(None);
    }
    let command = if let Some(changes) = &message.change_peer_v2 {
        changes_of(&changes.changes)?
    } else if let Some(change) = &message.change_peer {
        changes_of(std::slice::from_ref(change))?
    } else if let Some(transfer) = &message.transfer_leader {
        if transfer.peers.len() > MAX_CHANGES {
            return Err(Rejection::Unsupported);
        }
        let peers = transfer.peers.iter().chain(&transfer.peer);
        Command::TransferLeader(peers.map(wire::peer_from).collect())
    } else if let Some(merge) = &message.merge {
        merge_of(merge.target.as_ref())?
    } else if let Some(split) = &message.split_region {
        split_of(split)?
    } else if let Some(switches) = &message.switch_witnesses {
        if switches.switch_witnesses.len() > MAX_CHANGES {
            return Err(Rejection::Unsupported);
        }
        let switch = |s: &pdpb::SwitchWitness| (PeerId(s.peer_id), s.is_witness);
        Command::SwitchWitnesses(switches.switch_witnesses.iter().map(switch).collect())
    } else if message.change_split.is_some() {
        return Err(Rejection::Unsupported);
    } else {
        return Ok(None);
    };
    let epoch = wire::epoch_from(message.region_epoch.as_ref());
    let target = PeerId(message.target_peer.as_ref().map_or(0, |p| p.id));
    Ok(Some(Order { region: RegionId(message.region_id), epoch, target, command }))
}

fn changes_of(changes: &[pdpb::ChangePeer]) -> Result<Command, Rejection> {
    if changes.len() > MAX_CHANGES {
        return Err(Rejection::Unsupported);
    }
    let change = |c: &pdpb::ChangePeer| {
        let kind = match ConfChangeType::try_from(c.change_type) {
            Ok(ConfChangeType::AddNode) => ChangeKind::AddVoter,
            Ok(ConfChangeType::AddLearnerNode) => ChangeKind::AddLearner,
            Ok(ConfChangeType::RemoveNode) => ChangeKind::Remove,
            Err(_) => return Err(Rejection::Unsupported),
        };
        let peer = c.peer.as_ref().ok_or(Rejection::Unsupported)?;
        Ok(Change { kind, peer: wire::peer_from(peer) })
    };
    Ok(Command::ChangePeers(changes.iter().map(change).collect::<Result<_, _>>()?))
}

fn merge_of(target: Option<&metapb::Region>) -> Result<Command, Rejection> {
    let target = target.ok_or(Rejection::Unsupported)?;
    Ok(Command::Merge { target: RegionId(target.id), epoch: wire::epoch_from(target.region_epoch.as_ref()) })
}

fn split_of(split: &pdpb::SplitRegion) -> Result<Command, Rejection> {
    if split.keys.len() > MAX_SPLIT_KEYS {
        return Err(Rejection::Unsupported);
    }
    let at = match pdpb::CheckPolicy::try_from(split.policy) {
        Ok(pdpb::CheckPolicy::Usekey) => SplitAt::Keys(split.keys.iter().map(|k| Key::from(&k[..])).collect()),
        Ok(pdpb::CheckPolicy::Scan | pdpb::CheckPolicy::Approximate) => SplitAt::Middle,
        Err(_) => return Err(Rejection::Unsupported),
    };
    Ok(Command::Split(at))
}
