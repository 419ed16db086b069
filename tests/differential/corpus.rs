//! The short form: our own scripts, by area, in all modes.

use std::collections::BTreeMap;
use std::sync::Arc;

use pgherd_tests::Script;
use tokio::task::JoinSet;

use crate::known::{self, Found, Listing};
use crate::request::Mode;
use crate::run::{Answers, Moving, Outcome, Plan, run};

use crate::stage::Stage;

/// The scripts; the longest come first, so that none of them runs alone at the end.
pub(crate) const SCRIPTS: &[(&str, &str)] = &[
    ("guc", include_str!("corpus/guc.sql")),
    ("errors", include_str!("corpus/errors.sql")),
    ("transactions", include_str!("corpus/transactions.sql")),
    ("temp", include_str!("corpus/temp.sql")),
    ("prepare", include_str!("corpus/prepare.sql")),
    ("portals", include_str!("corpus/portals.sql")),
    ("roles", include_str!("corpus/roles.sql")),
    ("copy", include_str!("corpus/copy.sql")),
    ("plpgsql", include_str!("corpus/plpgsql.sql")),
    ("locks", include_str!("corpus/locks.sql")),
    ("notify", include_str!("corpus/notify.sql")),
    ("largeobject", include_str!("corpus/largeobject.sql")),
    ("sequences", include_str!("corpus/sequences.sql")),
    ("seed", include_str!("corpus/seed.sql")),
    ("discard", include_str!("corpus/discard.sql")),
    ("path", include_str!("corpus/path.sql")),
    ("ddl", include_str!("corpus/ddl.sql")),
    ("twophase", include_str!("corpus/twophase.sql")),
    ("simple", include_str!("corpus/simple.sql")),
];

/// The differences that are known.
pub(crate) const KNOWN: &str = include_str!("known.txt");

/// The runs that go no further: a text is refused as a whole (`pg_listening_channels()`), with the `BEGIN` in it.
const CUT: &[&str] = &["notify whole: 8 of 21"];

/// How many scripts run at a time.
const TOGETHER: usize = 4;

/// What all runs of some scripts have shown.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) found: Found,
    pub(crate) statements: usize,
    /// How many more there were where a run went no further.
    pub(crate) left: usize,
    pub(crate) moves: usize,
    /// Which runs those were.
    pub(crate) cut: Vec<String>,
    /// Runs that could have been moved and never were.
    pub(crate) unmoved: Vec<String>,
}

impl Totals {
    pub(crate) fn add(&mut self, name: &str, mode: Mode, outcome: Outcome) {
        self.statements += outcome.statements;
        self.moves += outcome.moves;
        self.left += outcome.left;
        if outcome.left > 0 {
            let (left, all) = (outcome.left, outcome.statements + outcome.left);
            self.cut
                .push(format!("{name} {}: {left} of {all}", mode.name()));
        }
        // The first move only takes the other server away.
        if outcome.moves > 2 && outcome.processes < 2 {
            self.unmoved.push(format!("{name} {}", mode.name()));
        }
        for difference in outcome.differences {
            self.found.entry(difference).or_default().push(mode);
        }
    }
}

impl Totals {
    /// Says how much there was, and that it shows something: most statements have run, and not all of them on one server.
    pub(crate) fn show(&self) {
        println!(
            "{} statements, {} left out {:?}, {} moves to another server, {} differences",
            self.statements,
            self.left,
            self.cut,
            self.moves,
            self.found.len()
        );
        assert!(self.left * 20 <= self.statements, "they go no further");
        assert!(self.moves * 20 >= self.statements, "hardly anything moves");
    }
}

/// Runs scripts in all modes: several scripts at a time, but one mode after the other, for what a
/// script makes may belong to all databases.
pub(crate) async fn run_all(
    stage: &Arc<Stage>,
    scripts: Vec<(String, String)>,
    template: &'static str,
    plan: impl Fn(Mode) -> Plan + Copy + Send + 'static,
    variables: BTreeMap<String, String>,
) -> Totals {
    let mut totals = Totals::default();
    let mut waiting = scripts.into_iter();
    let mut running = JoinSet::new();
    loop {
        while running.len() < TOGETHER
            && let Some((name, text)) = waiting.next()
        {
            let variables = variables.clone();
            let stage = Arc::clone(stage);
            running.spawn(async move {
                let mut outcomes = Vec::new();
                for mode in Mode::ALL {
                    let database = stage.database(template).await;
                    let mut script = Script::new(&text);
                    for (variable, value) in &variables {
                        script.set(variable, value);
                    }
                    outcomes.push((
                        mode,
                        run(&stage, &database, &name, script, plan(mode)).await,
                    ));
                }
                (name, outcomes)
            });
        }
        let Some(ended) = running.join_next().await else {
            return totals;
        };
        let (name, outcomes) = ended.unwrap_or_else(|error| panic!("{error}\n{}", stage.crashes()));
        for (mode, outcome) in outcomes {
            totals.add(&name, mode, outcome);
        }
    }
}

/// Our own scripts, by name.
pub(crate) fn own() -> Vec<(String, String)> {
    let only = std::env::var("PGHERD_DIFFERENTIAL_ONLY").unwrap_or_default();
    SCRIPTS
        .iter()
        .filter(|(name, _)| only.is_empty() || only.split(',').any(|one| one == *name))
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pgherd_says_what_postgres_says() {
    let stage = Arc::new(Stage::new().await);
    let seed = 1;
    let plan = move |mode| Plan {
        mode,
        seed,
        moving: Moving::Always,
        answers: Answers::Exact,
    };
    let scripts = own();
    let names: Vec<_> = scripts.iter().map(|(name, _)| name.clone()).collect();
    let mut totals = run_all(&stage, scripts, "base", plan, BTreeMap::new()).await;
    let known = known::list(KNOWN);
    let new = known::unknown(&known, &totals.found);
    let gone = known::gone(&known, &totals.found, &names);
    totals.show();
    totals.cut.retain(|run| !CUT.contains(&&**run));
    assert_eq!(totals.cut, Vec::<String>::new(), "went no further");
    assert_eq!(totals.unmoved, Vec::<String>::new(), "never moved");
    assert!(new.is_empty(), "new differences:\n{}", Listing(&new));
    assert!(gone.is_empty(), "no longer different:\n{}", gone.join("\n"));
}
