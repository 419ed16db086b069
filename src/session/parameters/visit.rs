//! How a server is brought for a moment to other settings, under which a text is to be read.

use super::{Parameters, push_call};

/// Who a session is does not change how its texts are read, and is not changed in passing.
const WHO: [&str; 2] = ["role", "session_authorization"];

impl Parameters {
    /// These, with those that change what a text means taken from `other`.
    pub fn reading_as(&self, other: &Self) -> Self {
        let mut visited = self.clone();
        for (name, _) in pairs(&self.reading()) {
            visited.values.remove(name);
        }
        for (name, value) in pairs(&other.reading()) {
            visited.set(name, value);
        }
        visited
    }

    /// The statement that turns a server at `self` into one at `there` up to the end of the
    /// transaction; `None` when they agree. It is made as that of [`Self::transition`].
    pub fn visit(&self, there: &Self) -> Option<String> {
        let mut sql = String::new();
        let changed = there
            .iter()
            .filter(|(name, value)| self.get(name) != Some(*value));
        let changed = changed.map(|(name, value)| (name, Some(value)));
        let gone = self.iter().filter(|(name, _)| there.get(name).is_none());
        let gone = gone.map(|(name, _)| (name, None));
        for (name, value) in changed.chain(gone).filter(|(name, _)| !WHO.contains(name)) {
            push_call(&mut sql, name, value, true);
        }
        (!sql.is_empty()).then_some(sql)
    }
}

/// Names and values as [`Parameters::reading`] writes them.
fn pairs(reading: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    let mut parts = reading
        .split(|byte| *byte == 0)
        .map(|part| std::str::from_utf8(part).unwrap_or_default());
    std::iter::from_fn(move || parts.next().zip(parts.next()))
}

#[cfg(test)]
mod tests {
    use super::Parameters;

    #[test]
    fn only_what_changes_the_reading_is_visited() {
        let set = |pairs: &[(&str, &str)]| {
            let mut set = Parameters::default();
            for (name, value) in pairs {
                set.set(name, value);
            }
            set
        };
        let now = set(&[
            ("application_name", "a"),
            ("datestyle", "DMY"),
            ("xmloption", "x"),
        ]);
        let then = set(&[("application_name", "b"), ("datestyle", "MDY")]);
        let there = now.reading_as(&then);
        assert_eq!(
            there,
            set(&[("application_name", "a"), ("datestyle", "MDY")])
        );
        assert_eq!(
            now.visit(&there).as_deref(),
            Some(
                "SELECT pg_catalog.set_config(E'datestyle', E'MDY', true), \
                 pg_catalog.set_config(E'xmloption', NULL, true)"
            )
        );
        assert_eq!(
            there.visit(&now).as_deref(),
            Some(
                "SELECT pg_catalog.set_config(E'datestyle', E'DMY', true), \
                 pg_catalog.set_config(E'xmloption', E'x', true)"
            )
        );
        assert_eq!(now.visit(&now.reading_as(&now)), None);
    }
}
