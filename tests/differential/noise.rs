//! Clients that share the pool with a script, and use its names for other things.

use pgherd_tests::{Message, Raw};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::request::NAMES;

/// A statement, and the first value that it must give, if it matters.
type Deed = (&'static str, Option<&'static str>);

/// What a noisy client does in one go; it ends unbound, and outside of a transaction. `{me}` is
/// its own number.
const ACTS: &[&[Deed]] = &[
    // Stays with the client, and must with nobody else.
    &[
        ("set timezone = 'Asia/Tokyo'", None),
        ("set datestyle = 'German, DMY'", None),
        ("set intervalstyle = 'iso_8601'", None),
        ("show timezone", Some("Asia/Tokyo")),
        ("show intervalstyle", Some("iso_8601")),
    ],
    &[
        (
            "set timezone = 'America/Lima'; set standard_conforming_strings = off",
            None,
        ),
        ("show timezone", Some("America/Lima")),
        ("discard all", None),
    ],
    &[
        ("set work_mem = '12{me}kB'", None),
        ("set search_path = noise, pg_catalog", None),
        (
            "set session characteristics as transaction isolation level serializable",
            None,
        ),
        ("set bytea_output = 'escape'", None),
        ("set extra_float_digits = -3", None),
        ("show work_mem", Some("12{me}kB")),
        ("discard all", None),
        ("show search_path", Some("\"$user\", public")),
    ],
    &[
        (
            "select set_config('app.noise', 'noise{me}', false)",
            Some("noise{me}"),
        ),
        ("select current_setting('app.noise')", Some("noise{me}")),
        ("discard all", None),
    ],
    &[
        ("set role noise_role", None),
        ("select current_user", Some("noise_role")),
        ("discard all", None),
        ("select current_user", Some("app")),
    ],
    &[
        ("set session authorization noise_role", None),
        ("select session_user", Some("noise_role")),
        ("discard all", None),
        ("select session_user", Some("app")),
    ],
    &[
        ("create temp table t (noise text)", None),
        (
            "create temp table mine as select 'noise{me}' as noise",
            None,
        ),
        ("create temp sequence seq", None),
        ("select noise from mine", Some("noise{me}")),
        ("discard all", None),
    ],
    &[
        ("prepare p as select 'noise{me}'", None),
        ("prepare q (int) as select 'noise{me}'", None),
        ("execute p", Some("noise{me}")),
        ("deallocate all", None),
        ("discard all", None),
    ],
    &[
        ("begin", None),
        ("declare c cursor for select 'noise{me}'", None),
        ("fetch c", Some("noise{me}")),
        ("commit", None),
    ],
    &[
        ("declare c cursor with hold for select 'noise{me}'", None),
        ("declare h cursor with hold for select 'noise{me}'", None),
        ("fetch c", Some("noise{me}")),
        ("close all", None),
        ("discard all", None),
    ],
    &[
        ("select pg_advisory_lock(77000{me})", None),
        ("select pg_advisory_unlock_all()", None),
    ],
    &[
        ("listen news", None),
        ("listen other", None),
        ("discard all", None),
    ],
    &[
        ("begin", None),
        ("set timezone = 'UTC'; set local work_mem = '3MB'", None),
        ("savepoint a", None),
        ("select 1 / 0", None),
        ("rollback to a", None),
        ("rollback", None),
        ("discard all", None),
    ],
    &[
        ("begin", None),
        ("select no_such_column", None),
        ("commit", None),
    ],
];

/// Comes last on each server, so that what leaks of it is the same each time.
const LAST: &str = "select nextval('noise.s')";

/// What a noisy client leaves behind when it goes away in the middle.
const LEFT_BEHIND: &[&str] = &[
    "select setseed(0.25)",
    "set work_mem = '999kB'; set role noise_role; create temp table t (noise int)",
    "prepare p as select 'noise'; listen news; select pg_advisory_lock(77)",
    "begin; set timezone = 'Asia/Tokyo'; declare c cursor for select 'noise'",
    "begin; select 1 / 0",
    "declare c cursor with hold for select 'noise'",
];

/// One noisy client.
#[derive(Debug)]
pub(crate) struct Noisy {
    raw: Raw,
    port: u16,
    database: String,
    number: usize,
    rng: StdRng,
}

impl Noisy {
    pub(crate) async fn new(port: u16, database: &str, number: usize, seed: u64) -> Self {
        Self {
            raw: Self::login(port, database, number).await,
            port,
            database: database.to_owned(),
            number,
            rng: StdRng::seed_from_u64(seed.wrapping_add(number as u64)),
        }
    }

    async fn login(port: u16, database: &str, number: usize) -> Raw {
        let name = format!("noise{number}");
        Raw::login(port, "app", database, &[("application_name", &name)]).await
    }

    /// Does one of the things above.
    pub(crate) async fn act(&mut self) {
        match self.rng.random_range(0..ACTS.len() + 3) {
            0..3 => self.prepare().await,
            other => {
                for (text, expected) in ACTS[other - 3] {
                    self.run(text, *expected).await;
                }
            }
        }
        self.run(LAST, Some("77")).await;
    }

    /// Does one of the things above, or goes away and comes back; now and then only.
    pub(crate) async fn act_or_vanish(&mut self) {
        match self.rng.random_range(0..24) {
            0 => self.vanish().await,
            1..9 => self.act().await,
            _ => {}
        }
    }

    /// Takes a server and holds it; gives the server's process.
    pub(crate) async fn hold(&mut self) -> String {
        self.run("begin", None).await;
        self.run(LAST, Some("77")).await;
        self.raw.one("select pg_backend_pid()").await
    }

    /// Gives the held server back.
    pub(crate) async fn release(&mut self) {
        self.run("rollback", None).await;
    }

    async fn run(&mut self, text: &str, expected: Option<&str>) {
        let me = self.number.to_string();
        let text = text.replace("{me}", &me);
        self.raw.send(&Raw::query(&text)).await;
        let said = self.raw.ready().await;
        if let Some(expected) = expected {
            let expected = expected.replace("{me}", &me);
            self.check(&text, &expected, &said);
        }
    }

    fn check(&self, text: &str, expected: &str, said: &[Message]) {
        let row = said.iter().find(|message| message.tag == 'D');
        let value = row.map(|row| row.columns().remove(0));
        let number = self.number;
        assert_eq!(
            value.as_deref(),
            Some(expected),
            "noisy client {number}: {text}: {said:?}"
        );
    }

    /// Prepares and runs a statement under a name that the scripts use too.
    async fn prepare(&mut self) {
        let name = format!("named{}", self.rng.random_range(0..NAMES));
        let text = format!("select 'noise{}'", self.number);
        let prepare = [
            Raw::close('S', &name),
            Raw::parse(&name, &text),
            Raw::sync(),
        ];
        assert_eq!(self.raw.ask(&prepare.concat()).await, "3 1 ZI");
        let run = [Raw::bind("", &name, &[]), Raw::execute("", 0), Raw::sync()];
        self.raw.send(&run.concat()).await;
        let said = self.raw.ready().await;
        self.check(&name, &format!("noise{}", self.number), &said);
    }

    /// Goes away while its session has state, and comes back as another.
    async fn vanish(&mut self) {
        let text = LEFT_BEHIND[self.rng.random_range(0..LEFT_BEHIND.len())];
        self.run(text, None).await;
        self.raw = Self::login(self.port, &self.database, self.number).await;
    }
}
