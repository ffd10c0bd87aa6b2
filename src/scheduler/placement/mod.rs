//! Placement rules: look-up by region, fit, validation.
//!
//! Owns: what the rules ask for and how well a region's peers answer. Must not know: operators, limits, time. Start at
//! [`RuleSet`], then [`fit()`].

mod fit;
mod fit_cache;
pub mod labels;
mod rule_set;
pub mod unmet;
pub mod validate;

pub use fit::{RegionFit, RuleFit, fit};
pub use fit_cache::{FitCache, MAX_FITS};
pub use rule_set::{DEFAULT_GROUP, DEFAULT_ID, RuleKey, RuleSet, RulesChange, changed_ranges};

/// Why rules are refused: PD's texts.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RuleError {
    /// `[PD:placement:ErrRuleContent]invalid rule content, …`
    #[error("[PD:placement:ErrRuleContent]invalid rule content, {0}")]
    Content(String),
    /// `[PD:placement:ErrBuildRuleList]build rule list failed, …`
    #[error("[PD:placement:ErrBuildRuleList]build rule list failed, {0}")]
    BuildList(String),
}
