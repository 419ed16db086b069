use std::time::Duration;

/// How long clients waited, each from the moment at which the new primary took writes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pauses {
    all: Vec<Duration>,
}

impl Pauses {
    pub(crate) fn add(&mut self, pause: Duration) {
        self.all.push(pause);
        self.all.sort_unstable();
    }

    /// The smallest that so many of a hundred do not exceed; `None` if there are none.
    pub(crate) fn percentile(&self, percent: usize) -> Option<Duration> {
        let rank = (self.all.len() * percent).div_ceil(100);
        self.all.get(rank.saturating_sub(1)).copied()
    }

    /// Cells of a table: the number, half, 99 of a hundred, and the longest, in milliseconds.
    pub(crate) fn cells(&self) -> String {
        let [half, most, longest] = [50, 99, 100].map(|percent| self.cell(percent));
        format!("{} | {half} | {most} | {longest}", self.all.len())
    }

    /// Half and the longest alone.
    pub(crate) fn short(&self) -> String {
        format!("{} | {}", self.cell(50), self.cell(100))
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// One of them, as a cell of a table.
    pub(crate) fn cell(&self, percent: usize) -> String {
        self.percentile(percent).map_or_else(
            || "-".to_owned(),
            |pause| format!("{:.0}", pause.as_secs_f64() * 1000.0),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{Duration, Pauses};

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let mut pauses = Pauses::default();
        assert_eq!(pauses.cells(), "0 | - | - | -");
        for pause in [30, 10, 20] {
            pauses.add(Duration::from_millis(pause));
        }
        assert_eq!(pauses.cells(), "3 | 20 | 30 | 30");
        assert_eq!(pauses.short(), "20 | 30");
        for pause in 0..200 {
            pauses.add(Duration::from_millis(pause));
        }
        assert_eq!(pauses.percentile(100), Some(Duration::from_millis(199)));
        assert_eq!(pauses.percentile(99), Some(Duration::from_millis(197)));
    }
}
