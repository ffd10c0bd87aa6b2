//! Which stores may take a peer or a leader, and which of them is best.
//!
//! Owns: the filters, each refusal by PD's name, and the choice among what is left. Must not know: why a peer is wanted, operators,
//! how limits are counted ([`Budget`] tells). Start at [`choose_target`] in `choice`, then `table`.

mod budget;
mod choice;
mod kinds;
mod lens;
mod source;
mod store;
mod table;
mod target;

pub use self::{
    budget::Budget,
    choice::{Candidate, Choice, SCORES_KEPT, candidates, choose_target, score_of, target_refusal},
    kinds::Refusal,
    lens::Lens,
    source::{leader_refusal, rejects_leaders, source_refusal},
    store::{Standing, is_disconnected, is_down, liveness, standing, state_refusal},
    target::{Wanted, needs_tokens, standing_refusal},
};
