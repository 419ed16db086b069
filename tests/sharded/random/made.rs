//! What a session sends next.

use std::fmt;

use pgherd_tests::Raw;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use crate::rig::keys;

/// Settings, with values; those without a word are no values. The first ones are reported by servers.
const SETTINGS: [(&str, &[&str]); 11] = [
    (
        "datestyle",
        &["ISO, DMY", "SQL, MDY", "German", "ISO", "nonsense"],
    ),
    ("timezone", &["UTC", "Asia/Tokyo", "America/New_York"]),
    ("intervalstyle", &["iso_8601", "postgres", "sql_standard"]),
    ("application_name", &["one", "two", ""]),
    ("work_mem", &["1MB", "2048kB", "-5"]),
    ("app.x", &["1", "2", ""]),
    ("app.y", &["1", "it''s"]),
    ("extra_float_digits", &["0", "-3", "3"]),
    ("statement_timeout", &["1min", "2min"]),
    ("enable_seqscan", &["off", "on"]),
    // Less than an answer may take: who writes to a replicated table waits so long for whoever else has.
    ("lock_timeout", &["5s", "8s"]),
];

/// What a login may bring with it.
pub(super) const STARTUPS: [&[(&str, &str)]; 5] = [
    &[],
    &[],
    &[("application_name", "chance")],
    &[("DateStyle", "SQL, DMY"), ("TimeZone", "Europe/Vienna")],
    &[("options", "-c work_mem=3MB -c IntervalStyle=iso_8601")],
];

/// Where a session stands, as its ReadyForQuery says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Idle,
    Block,
    Failed,
}

impl Phase {
    pub(super) fn of(status: char) -> Self {
        match status {
            'I' => Self::Idle,
            'T' => Self::Block,
            _ => Self::Failed,
        }
    }
}

/// A statement in the extended protocol.
#[derive(Debug, Clone)]
pub(super) struct Part {
    text: String,
    values: Vec<String>,
    describes: bool,
}

/// What is sent at once, up to the answer that the client waits for.
#[derive(Debug, Clone)]
pub(super) enum Batch {
    Simple(Vec<String>),
    Extended(Vec<Part>),
}

impl Batch {
    pub(super) fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Simple(texts) => Raw::query(&texts.join("; ")),
            Self::Extended(parts) => {
                let mut bytes = Vec::new();
                for part in parts {
                    let values: Vec<&str> = part.values.iter().map(String::as_str).collect();
                    bytes.extend(Raw::parse("", &part.text));
                    bytes.extend(Raw::bind("", "", &values));
                    if part.describes {
                        bytes.extend(Raw::describe('P', ""));
                    }
                    bytes.extend(Raw::execute("", 0));
                }
                bytes.extend(Raw::sync());
                bytes
            }
        }
    }

    /// One that fails at a statement, before which it is the same. A text of several statements is refused as a whole.
    pub(super) fn failing_at(&self, completed: usize) -> Self {
        let text = String::from("select 1/0");
        match self {
            Self::Simple(_) => Self::Simple(vec![text]),
            Self::Extended(parts) => {
                let mut parts = parts[..completed.min(parts.len())].to_vec();
                parts.push(Part {
                    text,
                    values: Vec::new(),
                    describes: false,
                });
                Self::Extended(parts)
            }
        }
    }
}

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Simple(texts) => write!(f, "{}", short(&texts.join("; "))),
            Self::Extended(parts) => {
                for part in parts {
                    let described = if part.describes { " described" } else { "" };
                    write!(f, "[{}{described} {:?}] ", short(&part.text), part.values)?;
                }
                write!(f, "sync")
            }
        }
    }
}

fn short(text: &str) -> String {
    text.replace(&looks(), "select <looks>")
}

/// Keys of a session, with their shards: nobody waits for a lock of the other.
pub(super) fn keys_of(session: u64) -> impl Iterator<Item = (u16, i64)> {
    let skip = usize::try_from(session).unwrap() * 3;
    (0..2).flat_map(move |shard| {
        let own = keys(shard).skip(skip).take(3);
        own.map(move |key| (shard, key))
    })
}

/// Shows all settings, and what hangs on them.
pub(super) fn looks() -> String {
    let shown = SETTINGS.iter().filter(|(name, _)| *name != "lock_timeout");
    // Whether nobody has set it or somebody has before is not told.
    let shown = shown.map(|(name, _)| format!("coalesce(current_setting('{name}', true), '')"));
    let shown: Vec<String> = shown.collect();
    format!(
        "select {}, '2026-03-04'::date, interval '25 hours', timestamptz '2026-01-02 03:04:05+00'",
        shown.join(", ")
    )
}

/// What a session is, apart from its connections.
pub(super) struct Session {
    number: u64,
    keys: Vec<i64>,
    pub(super) phase: Phase,
}

impl Session {
    pub(super) fn new(number: u64) -> Self {
        Self {
            number,
            keys: keys_of(number).map(|(_, key)| key).collect(),
            phase: Phase::Idle,
        }
    }

    /// What marks its own rows.
    pub(super) fn own(&self) -> String {
        format!("s{}", self.number)
    }

    /// What it sends next.
    pub(super) fn batch(&self, random: &mut StdRng) -> Batch {
        match random.random_range(0..80) {
            // Over shards there is no text of several statements.
            0 if self.phase != Phase::Failed => {
                let count = random.random_range(2..4);
                let texts = (0..count).map(|_| self.statement(random));
                Batch::Simple(texts.map(|(text, values)| filled(&text, &values)).collect())
            }
            ..32 => {
                let count = *[1, 1, 1, 1, 2, 3].choose(random).unwrap();
                let parts = (0..count).map(|_| {
                    let (text, values) = self.statement(random);
                    let (text, values) = match random.random_bool(0.5) {
                        true => (text, values),
                        false => (filled(&text, &values), Vec::new()),
                    };
                    let describes = random.random_bool(0.5);
                    Part {
                        text,
                        values,
                        describes,
                    }
                });
                Batch::Extended(parts.collect())
            }
            _ => {
                let (text, values) = self.statement(random);
                Batch::Simple(vec![filled(&text, &values)])
            }
        }
    }

    /// A statement, and the values of its parameters.
    fn statement(&self, random: &mut StdRng) -> (String, Vec<String>) {
        let plain = |text: String| (text, Vec::new());
        match (self.phase, random.random_range(0..100)) {
            (Phase::Idle, 0..35) => plain(begin(random)),
            (Phase::Idle, 35..38) => plain(discard(random)),
            (Phase::Block, 0..18) | (Phase::Failed, 0..30) => plain(end(random)),
            (Phase::Block, 18..30) | (Phase::Failed, 30..70) | (Phase::Idle, 38..40) => {
                plain(savepoint(random))
            }
            (Phase::Block, 30..55) | (Phase::Idle, 40..60) => plain(setting(random)),
            (Phase::Block, 55..59) | (Phase::Idle, 60..62) => plain(self.wrong(random)),
            _ => self.rows(random),
        }
    }

    fn key(&self, random: &mut StdRng) -> i64 {
        *self.keys.choose(random).unwrap()
    }

    /// What reads and writes rows.
    fn rows(&self, random: &mut StdRng) -> (String, Vec<String>) {
        let (own, key) = (self.own(), self.key(random));
        let n = random.random_range(0..9);
        let bound = vec![key.to_string()];
        let looks = looks();
        match random.random_range(0..18) {
            0..4 => (format!("{looks}, * from accounts where id = $1"), bound),
            4 => (
                format!("select * from accounts where owner = '{own}'"),
                vec![],
            ),
            5 => (looks, vec![]),
            6 => (
                "select * from accounts where id = $1 for update".into(),
                bound,
            ),
            7..10 => (
                "update accounts set amount = amount + 1 where id = $1".into(),
                bound,
            ),
            10 => (
                "update accounts set amount = amount + 1 where id = $1 \
                 returning amount, current_setting('datestyle'), '2026-03-04'::date"
                    .into(),
                bound,
            ),
            11 => (
                format!("update accounts set amount = amount + 1 where owner = '{own}'"),
                vec![],
            ),
            12 => (
                format!("insert into entries values ($1, {n}, '{own}')"),
                bound,
            ),
            13 => {
                let other = self.key(random);
                let values = vec![key.to_string(), other.to_string()];
                let text = format!(
                    "insert into entries (account, n, what) values ($1, {n}, '{own}'), ($2, 1{n}, '{own}') returning *"
                );
                (text, values)
            }
            14 => (
                format!("delete from entries where what = '{own}' returning n"),
                vec![],
            ),
            15 => {
                let other = self.key(random);
                let values = vec![key.to_string(), other.to_string()];
                let text = "update entries set account = $1, n = n + 7, what = what where account = $2 returning *";
                (text.into(), values)
            }
            16 => (
                format!(
                    "insert into entries (account, n, what) select id + 0, 1000 + {n}, owner from accounts where owner = '{own}' \
                     on conflict (account, n) do update set n = entries.n + 1 returning account, n"
                ),
                vec![],
            ),
            _ => (
                format!("update countries set name = name || '{n}' where code = '{own}'"),
                vec![],
            ),
        }
    }

    /// What fails.
    fn wrong(&self, random: &mut StdRng) -> String {
        let key = self.key(random);
        match random.random_range(0..5) {
            0 => "select 1 / 0".into(),
            1 => format!("select 1 / (amount - amount) from accounts where id = {key}"),
            2 => format!("insert into accounts values ({key})"),
            3 => format!("select nothing from accounts where id = {key}"),
            _ => "selec 1".into(),
        }
    }
}

/// A text without parameters.
fn filled(text: &str, values: &[String]) -> String {
    let mut text = text.to_owned();
    for (at, value) in values.iter().enumerate() {
        text = text.replace(&format!("${}", at + 1), value);
    }
    text
}

fn one_of(random: &mut StdRng, texts: &[&str]) -> String {
    (*texts.choose(random).unwrap()).to_owned()
}

fn begin(random: &mut StdRng) -> String {
    one_of(
        random,
        &[
            "begin",
            "begin",
            "begin",
            "begin",
            "start transaction",
            "begin isolation level read committed",
            "begin isolation level repeatable read",
            "begin read only",
            "commit",
            "rollback",
        ],
    )
}

fn end(random: &mut StdRng) -> String {
    one_of(
        random,
        &[
            "commit",
            "commit",
            "commit",
            "commit",
            "end",
            "rollback",
            "rollback",
            "rollback",
            "abort",
            "commit and chain",
            "rollback and chain",
            "begin",
        ],
    )
}

fn savepoint(random: &mut StdRng) -> String {
    let name = one_of(random, &["a", "b", "c"]);
    let what = one_of(
        random,
        &[
            "savepoint",
            "savepoint",
            "savepoint",
            "release",
            "rollback to",
            "rollback to",
            "rollback to",
        ],
    );
    format!("{what} {name}")
}

fn discard(random: &mut StdRng) -> String {
    one_of(random, &["discard all", "discard plans", "reset all"])
}

/// What sets or shows something.
fn setting(random: &mut StdRng) -> String {
    let (name, values) = *SETTINGS.choose(random).unwrap();
    let value = values.choose(random).unwrap();
    match random.random_range(0..24) {
        0..3 => format!("set {name} = '{value}'"),
        3 => format!("set session {name} to '{value}'"),
        4..10 => format!("set local {name} to '{value}'"),
        10..12 => format!("select set_config('{name}', '{value}', false)"),
        12..14 => format!("select set_config('{name}', '{value}', true)"),
        14..16 => format!("reset {name}"),
        16 => format!("set {name} to default"),
        17 => format!("set local {name} to default"),
        18 => "reset all".into(),
        19 => "set local time zone 'Asia/Tokyo'".into(),
        // Whoever has not set a setting of one's own cannot see it, unless somebody has on that server.
        _ if name.starts_with("app.") => "show datestyle".into(),
        _ => format!("show {name}"),
    }
}
