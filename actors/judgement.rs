//! What a statement's text means for the session that runs it.

use pgherd_sql::{Action, Effects, LexOptions, Pin, PinSet, TransactionEffect, effects};

use crate::upstream::Welcome;

/// The part of a statement's effects that a session acts on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Judgement {
    /// Reasons to keep the session on the server that ran it.
    pub pins: PinSet,
    /// Reasons that are over once it has succeeded, if nothing rolls it back.
    pub unpins: PinSet,
    /// It may end a transaction by committing it.
    pub commits: bool,
    /// It may open a transaction block.
    pub begins: bool,
    /// It does nothing to the transaction.
    pub plain: bool,
}

impl Judgement {
    /// It takes all parameters back to those of the connection by `RESET ALL`.
    pub fn resets(&self) -> bool {
        self.unpins.contains(Pin::Set) && self.unpins != PinSet::DISCARD_ALL
    }
}

/// Judges a text as a session with these lexical settings means it; `is_reported` is asked only if
/// the answer matters.
///
/// A single SET or RESET of a parameter that the server reports binds nobody: the report is what
/// the next server is brought to.
pub fn judge(
    text: &[u8],
    options: LexOptions,
    is_reported: impl FnOnce(&Effects<'_>) -> bool,
) -> Judgement {
    let effects = effects(text, options);
    let mut pins = effects.pins;
    if !pins.is_empty() && is_reported(&effects) {
        pins.remove(Pin::Set);
    }
    Judgement {
        pins,
        unpins: effects.unpins,
        begins: matches!(
            effects.transaction,
            TransactionEffect::Begin
                | TransactionEffect::CommitChain
                | TransactionEffect::RollbackChain
                | TransactionEffect::Mixed
        ),
        plain: effects.transaction == TransactionEffect::None,
        commits: matches!(
            effects.transaction,
            TransactionEffect::Commit
                | TransactionEffect::CommitChain
                | TransactionEffect::Prepare
                | TransactionEffect::Mixed
        ),
    }
}

/// Whether a text sets one parameter that the server reports, and does nothing else.
pub fn is_reported(effects: &Effects<'_>, welcome: Option<&Welcome>) -> bool {
    let (Some(setting), Some(welcome)) = (&effects.sets, welcome) else {
        return false;
    };
    matches!(setting.action, Action::Set | Action::Reset)
        && welcome
            .parameters
            .iter()
            .any(|(name, _)| name.as_bytes().eq_ignore_ascii_case(setting.name))
}

#[cfg(test)]
mod tests {
    use pgherd_sql::{LexOptions, Pin};

    use super::{is_reported, judge};
    use crate::upstream::Welcome;

    #[test]
    fn only_reported_parameters_travel_without_a_pin() {
        let welcome = Welcome {
            parameters: vec![("TimeZone".into(), "UTC".into())],
            ..Welcome::default()
        };
        let pins = |sql: &str| {
            judge(sql.as_bytes(), LexOptions::default(), |effects| {
                is_reported(effects, Some(&welcome))
            })
            .pins
        };
        assert!(pins("SET timezone = 'UTC'").is_empty());
        assert!(pins("SET TIME ZONE 'UTC'").is_empty());
        assert!(pins("SET search_path = a").contains(Pin::Set));
        assert!(pins("SET timezone = 'UTC'; SET timezone = 'GMT'").contains(Pin::Set));
        assert!(
            judge(b"SET timezone = 'UTC'", LexOptions::default(), |_| false)
                .pins
                .contains(Pin::Set)
        );
    }
}
