use crate::secret::Secret;

/// When a change takes hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// At once.
    Now,
    /// For connections that are made from then on.
    NextConnection,
    /// When pgherd is started anew.
    Restart,
}

/// A setting as it is shown and compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) path: String,
    pub(crate) value: Shown,
    pub(crate) effect: Effect,
}

/// A value that can be compared always and read only if it is not secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    Plain(String),
    Secret(Secret),
}

impl Row {
    pub(crate) fn plain(path: String, value: String, effect: Effect) -> Self {
        Self {
            path,
            value: Shown::Plain(value),
            effect,
        }
    }

    pub(crate) fn secret(path: String, value: &Secret, effect: Effect) -> Self {
        Self {
            path,
            value: Shown::Secret(value.clone()),
            effect,
        }
    }
}

impl Shown {
    /// Gives the text for people; a secret is masked.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Plain(text) => text.clone(),
            Self::Secret(secret) => format!("{secret:?}"),
        }
    }
}
