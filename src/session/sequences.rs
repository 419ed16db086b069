//! Whose sequences a server remembers (`lastval`, `currval`).

/// Whose use of sequences a server remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sequences {
    /// Nobody's.
    #[default]
    Nobody,
    /// That of the session with this number.
    Of(i32),
    /// That of several, this one the last.
    Several(i32),
    /// That of a session which has used one elsewhere since.
    Outdated,
}

impl Sequences {
    /// What is remembered once this client has used one.
    #[must_use]
    pub fn used_by(self, client: i32) -> Self {
        match self {
            Self::Nobody => Self::Of(client),
            Self::Of(other) if other == client => self,
            Self::Of(_) | Self::Several(_) | Self::Outdated => Self::Several(client),
        }
    }

    /// Whether somebody else was the last to use one.
    pub fn is_foreign_to(self, client: i32) -> bool {
        match self {
            Self::Nobody => false,
            Self::Of(last) | Self::Several(last) => last != client,
            Self::Outdated => true,
        }
    }

    /// What is remembered, seen by this client, which has used one elsewhere since, if it has used one here.
    #[must_use]
    pub fn left_by(self, client: i32) -> Self {
        match self {
            Self::Of(last) | Self::Several(last) if last == client => Self::Outdated,
            other => other,
        }
    }

    /// Whether anything is remembered of somebody else.
    pub fn is_mixed_for(self, client: i32) -> bool {
        !matches!(self, Self::Nobody) && self != Self::Of(client)
    }
}

#[cfg(test)]
mod tests {
    use super::Sequences;

    #[test]
    fn only_what_is_wholly_ones_own_is_not_foreign() {
        let one = Sequences::Nobody.used_by(1);
        assert_eq!(one, Sequences::Of(1));
        assert!(!Sequences::Nobody.is_foreign_to(1));
        assert!(!one.is_foreign_to(1) && one.is_foreign_to(2));
        let both = one.used_by(2);
        assert!(both.is_foreign_to(1) && !both.is_foreign_to(2) && both.is_mixed_for(2));
        assert_eq!(both.used_by(1), Sequences::Several(1));
        let left = one.left_by(1);
        assert_eq!((left, one.left_by(2)), (Sequences::Outdated, one));
        assert!(left.is_foreign_to(1) && left.is_mixed_for(1));
        assert_eq!(left.used_by(1), Sequences::Several(1));
    }
}
