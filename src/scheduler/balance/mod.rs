//! Schedulers: what moves leaders and peers although nothing is wrong with them.
//!
//! Owns: the schedulers by PD's names, their own configuration, when each runs, what each proposes and why not. Must not know:
//! how proposals are admitted (`controller`), where configuration is kept, wire types. A scheduler is a function of the world, its
//! own configuration and a source of chance; it returns operators and, for each store, what stood against it. Start at
//! [`Schedulers`], then [`run`], then one scheduler, say [`leader`].

mod config;
mod dice;
mod evict;
mod grant;
mod grant_hot;
mod hot;
mod kind;
mod label;
mod leader;
mod pick;
mod range;
mod region;
mod round;
mod runner;
mod scatter;
mod shuffle;
mod shuffle_hot;
mod slow;
mod spec;
#[cfg(test)]
mod tests;
mod weigh;

pub use config::{Config, ConfigError, Updated};
pub use kind::Kind;
pub use round::Why;
pub use runner::{Diagnosis, LeaderPauses, PauseError, Paused, Schedulers};
pub use scatter::{ScatterError, Scatterer};
pub use spec::{MAX_SCHEDULERS, Spec, default_kinds, name_of, put_into, specs, take_from};

use self::{
    dice::Dice,
    round::{Input, Round},
    slow::Memory,
};

/// Lets one scheduler look at the world once.
fn run(input: &Input<'_>, spec: &Spec, memory: &mut Memory, dice: &mut Dice) -> Round {
    match &spec.config {
        Config::BalanceLeader(config) => leader::balance(input, config, dice),
        Config::BalanceRegion(config) => region::balance(input, config, dice),
        Config::HotRegion(config) => hot::balance(input, config, &mut memory.hot, dice),
        Config::EvictLeader(config) => evict::leaders(input, &config.stores, config.batch, dice),
        Config::GrantLeader(config) => grant::leaders(input, config, dice),
        Config::Label(config) => label::reject_leaders(input, config, dice),
        Config::ShuffleLeader(config) => shuffle::leaders(input, config, dice),
        Config::ShuffleRegion(config) => shuffle::regions(input, config, dice),
        Config::ScatterRange(config) => range::balance(input, config, memory, dice),
        Config::EvictSlowStore(config) => slow::evict_slow(input, config, memory, dice),
        Config::ShuffleHotRegion(_) => shuffle_hot::leaders(input, dice),
        Config::GrantHotRegion(config) => grant_hot::peers(input, config, dice),
        Config::EvictStoppingStore(config) => slow::evict_stopping(input, config, memory, dice),
    }
}
