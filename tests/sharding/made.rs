//! Queries that nobody has thought of: joins, subqueries, groups, windows, set operations over the tables of the
//! world, made from a seed.

use std::fmt::Write as _;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::line::Mode;

/// A table, its key, columns of numbers, and columns of texts.
struct Shape {
    name: &'static str,
    key: &'static str,
    numbers: &'static [&'static str],
    texts: &'static [&'static str],
}

const SHAPES: [Shape; 6] = [
    Shape {
        name: "users",
        key: "id",
        numbers: &["age", "small", "score"],
        texts: &["name", "country", "code"],
    },
    Shape {
        name: "orders",
        key: "user_id",
        numbers: &["id", "total", "parent"],
        texts: &["status", "note"],
    },
    Shape {
        name: "items",
        key: "user_id",
        numbers: &["order_id", "n", "product_id", "qty"],
        texts: &[],
    },
    Shape {
        name: "\"Upper\"",
        key: "\"Id\"",
        numbers: &["\"userId\"", "id"],
        texts: &[],
    },
    Shape {
        name: "products",
        key: "id",
        numbers: &["price"],
        texts: &["name", "category"],
    },
    Shape {
        name: "countries",
        key: "size",
        numbers: &["size"],
        texts: &["code", "name"],
    },
];

/// An alias in FROM, with its columns: the key first.
#[derive(Clone)]
pub(crate) struct Alias {
    name: String,
    numbers: Vec<String>,
    texts: Vec<String>,
}

/// What makes one query after the other.
pub(crate) struct Maker {
    random: StdRng,
    aliases: usize,
}

impl Maker {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            aliases: 0,
        }
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.random.random_range(0..100) < percent
    }

    fn pick<'t, T>(&mut self, list: &'t [T]) -> &'t T {
        list.choose(&mut self.random).unwrap()
    }

    fn table(&mut self) -> (String, Alias) {
        let shape = self.pick(&SHAPES);
        self.aliases += 1;
        let name = format!("t{}", self.aliases);
        let own = |column: &&str| (*column).to_owned();
        let mut alias = Alias {
            name: name.clone(),
            numbers: std::iter::once(&shape.key)
                .chain(shape.numbers)
                .map(own)
                .collect(),
            texts: shape.texts.iter().map(own).collect(),
        };
        let text = match self.random.random_range(0..10) {
            0 => format!(
                "(select * from {} where {} < 30) {name}",
                shape.name, shape.key
            ),
            1 => format!(
                "(select * from {} order by {} limit 7) {name}",
                shape.name,
                alias.numbers.join(", ")
            ),
            2 | 3 => {
                alias.numbers = vec!["k".into(), "n".into()];
                alias.texts.clear();
                format!(
                    "(select {} as k, count(*) as n from {} group by {}) {name}",
                    shape.key, shape.name, shape.key
                )
            }
            4 => {
                alias.numbers = vec!["k".into(), "m".into()];
                alias.texts.clear();
                let number = self.pick(shape.numbers);
                format!(
                    "(select distinct {} as k, {number} as m from {}) {name}",
                    shape.key, shape.name
                )
            }
            _ => format!("{} {name}", shape.name),
        };
        (text, alias)
    }

    fn key(alias: &Alias) -> String {
        format!("{}.{}", alias.name, alias.numbers[0])
    }

    pub(crate) fn number(&mut self, aliases: &[Alias]) -> String {
        let alias = self.pick(aliases).clone();
        let column = match self.chance(40) {
            true => alias.numbers[0].clone(),
            false => self.pick(&alias.numbers).clone(),
        };
        // A bare name may be another's, or ambiguous, where it stands.
        match self.chance(5) {
            true => column,
            false => format!("{}.{column}", alias.name),
        }
    }

    pub(crate) fn column(&mut self, aliases: &[Alias]) -> String {
        let alias = self.pick(aliases).clone();
        match alias.texts.is_empty() || self.chance(60) {
            true => self.number(&[alias]),
            false => format!("{}.{}", alias.name, self.pick(&alias.texts)),
        }
    }

    pub(crate) fn condition(&mut self, aliases: &[Alias], depth: u32) -> String {
        let number = self.number(aliases);
        let constant = self.random.random_range(0..40);
        match self.random.random_range(0..16) {
            0..3 => format!("{number} = {constant}"),
            3 => format!("{} = {constant}", Self::key(&aliases[0])),
            4 => format!("{number} in ({constant}, {}, 3)", constant + 1),
            5 => format!("{number} < {constant}"),
            6 => format!("{number} is null"),
            7 => format!(
                "({} or {})",
                self.condition(aliases, 0),
                self.condition(aliases, 0)
            ),
            8 => format!("not ({})", self.condition(aliases, 0)),
            9 | 10 => format!("{number} = {}", self.number(aliases)),
            _ if depth == 0 => format!("{number} >= {constant}"),
            11 | 12 => self.exists(aliases, depth - 1),
            13 => self.within(aliases, depth - 1),
            14 => {
                let (table, alias) = self.table();
                let inside = self.condition(std::slice::from_ref(&alias), 0);
                let of = self.number(std::slice::from_ref(&alias));
                format!(
                    "{number} > (select avg({of}) from {table} where {inside} and {} = {})",
                    Self::key(&alias),
                    self.number(aliases)
                )
            }
            _ => format!("{number} > {constant}"),
        }
    }

    fn exists(&mut self, aliases: &[Alias], depth: u32) -> String {
        let (table, alias) = self.table();
        let mut all = aliases.to_vec();
        all.push(alias.clone());
        let outer = self.pick(aliases).clone();
        let link = match self.chance(75) {
            true => format!("{} = {}", Self::key(&alias), Self::key(&outer)),
            false => self.condition(&all, depth),
        };
        let not = if self.chance(40) { "not " } else { "" };
        let limit = if self.chance(10) { " limit 1" } else { "" };
        format!(
            "{not}exists (select 1 from {table} where {link} and {}{limit})",
            self.condition(&all, depth)
        )
    }

    fn within(&mut self, aliases: &[Alias], depth: u32) -> String {
        let (table, alias) = self.table();
        let outer = self.pick(aliases).clone();
        let (left, right) = match self.chance(70) {
            true => (Self::key(&outer), Self::key(&alias)),
            false => (
                self.number(aliases),
                self.number(std::slice::from_ref(&alias)),
            ),
        };
        let not = if self.chance(40) { "not " } else { "" };
        let inside = self.condition(std::slice::from_ref(&alias), depth);
        format!("{left} {not}in (select {right} from {table} where {inside})")
    }

    /// What stands in FROM.
    pub(crate) fn from(&mut self) -> (String, Vec<Alias>) {
        let (mut text, first) = self.table();
        let mut aliases = vec![first];
        for _ in 0..self.random.random_range(0..3) {
            let (table, alias) = self.table();
            let kind = *self.pick(&[
                "join",
                "join",
                "left join",
                "left join",
                "right join",
                "full join",
                "cross join",
                ",",
            ]);
            let other = self.pick(&aliases).clone();
            let mut all = aliases.clone();
            all.push(alias.clone());
            let mut on = match self.chance(75) {
                true => format!("{} = {}", Self::key(&other), Self::key(&alias)),
                false => format!(
                    "{} = {}",
                    self.number(&aliases),
                    self.number(std::slice::from_ref(&alias))
                ),
            };
            if self.chance(30) {
                let _ = write!(
                    on,
                    " and {}",
                    self.condition(&all, u32::from(kind != "full join"))
                );
            }
            match kind {
                "cross join" => {
                    let _ = write!(text, " cross join {table}");
                }
                // A comma binds less than the joins, whose conditions must not see beyond it.
                "," => {
                    let _ = write!(text, " join {table} on true");
                }
                kind => {
                    let _ = write!(text, " {kind} {table} on {on}");
                }
            }
            aliases = all;
        }
        (text, aliases)
    }

    fn filter(&mut self, aliases: &[Alias]) -> String {
        let count = self.random.random_range(0..3);
        let parts: Vec<String> = (0..count).map(|_| self.condition(aliases, 2)).collect();
        match parts.is_empty() {
            true => String::new(),
            false => format!(" where {}", parts.join(" and ")),
        }
    }

    fn select(&mut self) -> String {
        let (from, aliases) = self.from();
        let filter = self.filter(&aliases);
        let one = self.column(&aliases);
        let two = self.number(&aliases);
        let key = Self::key(&aliases[0]);
        match self.random.random_range(0..12) {
            0 => format!("select count(*), sum({two}), min({one}), max({two}) from {from}{filter}"),
            1 => format!("select {one}, count(*), avg({two}) from {from}{filter} group by {one}"),
            2 => format!("select {key}, {one}, count(*) from {from}{filter} group by {key}, {one}"),
            3 => format!(
                "select {one} as o, count({two}) as c from {from}{filter} group by o having count(*) > 1"
            ),
            4 => format!("select distinct {one}, {two} from {from}{filter}"),
            5 => format!(
                "select {key}, {two}, count(*) over (partition by {one}) from {from}{filter}"
            ),
            6 => format!("select {key}, max({two}) over (partition by {key}) from {from}{filter}"),
            7 => {
                let (table, alias) = self.table();
                let inside = self.number(std::slice::from_ref(&alias));
                format!(
                    "select {key}, (select count({inside}) from {table} where {} = {key}) from {from}{filter}",
                    Self::key(&alias)
                )
            }
            8 => {
                let (table, alias) = self.table();
                // It says nothing of the rows around it.
                let more = match self.chance(50) {
                    true => format!(" and {key} = 7"),
                    false => String::new(),
                };
                format!(
                    "select {key}, l.c from {from} left join lateral (select count(*) c from {table} where {} = {key}{more}) l on true{filter}",
                    Self::key(&alias)
                )
            }
            9 => format!(
                "select {one}, count(distinct {two}), array_agg({two} order by {two}) from {from}{filter} group by {one}"
            ),
            _ => format!("select {key} as k, {two} as n from {from}{filter}"),
        }
    }

    /// A query, and how its answers are compared.
    pub(crate) fn query(&mut self) -> (String, Mode) {
        self.aliases = 0;
        if self.chance(45) {
            return (self.whole(), Mode::Bag);
        }
        match self.random.random_range(0..12) {
            0 => {
                let (one, two) = (self.pair(), self.pair());
                let kind = *self.pick(&["union", "union all", "intersect", "except", "except all"]);
                (format!("{one} {kind} {two}"), Mode::Bag)
            }
            1 => (
                format!(
                    "select * from ({} {} {}) s where k = 7",
                    self.pair(),
                    self.pick(&["union", "union all", "intersect"]).to_owned(),
                    self.pair()
                ),
                Mode::Bag,
            ),
            2 => (
                format!(
                    "with w as ({}) select a.k, b.n from w a join w b on a.k = b.k where a.n < 20",
                    self.pair()
                ),
                Mode::Bag,
            ),
            3 => (
                format!(
                    "select k, count(*), sum(n) from ({}) s group by k",
                    self.pair()
                ),
                Mode::Bag,
            ),
            4 => (
                format!("select * from ({}) s order by k, n", self.pair()),
                Mode::Sequence,
            ),
            5 => (
                format!(
                    "select k, n from ({}) s order by n desc nulls last, k limit 9 offset 2",
                    self.pair()
                ),
                Mode::Sequence,
            ),
            _ => (self.select(), Mode::Bag),
        }
    }

    /// Queries that mostly need rows of several shards at one place.
    fn whole(&mut self) -> String {
        let (from, aliases) = self.from();
        let filter = self.filter(&aliases);
        let one = self.column(&aliases);
        let two = self.number(&aliases);
        let key = Self::key(&aliases[0]);
        let all = format!("{key}, {one}, {two}");
        match self.random.random_range(0..17) {
            0 => {
                let window = *self.pick(&["rank()", "dense_rank()", "count(*)"]);
                format!("select {all}, {window} over (order by {two}) from {from}{filter}")
            }
            1 => {
                let over = format!("partition by {one} order by {key}, {two}");
                format!(
                    "select {all}, sum({two}) over ({over} range unbounded preceding) from {from}{filter}"
                )
            }
            2 => {
                let sets = *self.pick(&[
                    "rollup (1, 2)",
                    "cube (1, 2)",
                    "grouping sets ((1), (2), ())",
                ]);
                format!(
                    "select {one}, {two}, count(*), min({key}) from {from}{filter} group by {sets}"
                )
            }
            3 => {
                let (first, second) = (self.pair(), self.pair());
                let (table, alias) = self.table();
                let kind = *self.pick(&["union", "union all", "intersect all", "except"]);
                format!(
                    "with c as ({first}), d as ({second}) select x.k, y.n, {} from c x join {table} on x.k = {} {} join d y on y.n = x.n where x.n is not null {kind} select k, n, k from c",
                    Self::key(&alias),
                    self.number(std::slice::from_ref(&alias)),
                    self.pick(&["left", "right", "inner", "full"])
                )
            }
            4 => format!(
                "with recursive r as (select k, n, 1 as d from ({}) s where k < 9 union select r.k, o.id, d + 1 from r join orders o on o.parent = r.n where d < 4) select * from r",
                self.pair()
            ),
            5 => format!(
                "select {key}, (select max(n) from ({}) s where s.k = {two}) from {from}{filter}",
                self.pair()
            ),
            6 => format!(
                "select {all} from {from}{filter} order by {two} desc nulls last, {one}, {key} limit 5"
            ),
            7 => format!(
                "select {key}, l.* from {from} cross join lateral (select k, n from ({}) s where s.n < {two} order by n, k limit 2) l{filter}",
                self.pair()
            ),
            8 => format!(
                "select distinct on ({two}) {two}, {key}, {one} from {from}{filter} order by {two}, {key}, {one}"
            ),
            9 => {
                let of = *self.pick(&["any", "all"]);
                let sign = *self.pick(&["=", "<", ">=", "<>"]);
                format!(
                    "select {all} from {from} where {two} {sign} {of} (select n from ({}) s)",
                    self.pair()
                )
            }
            10 => format!(
                "select count(*), count(distinct {one}), sum((select count(*) from ({}) s where s.k = {key})) from {from}{filter}",
                self.pair()
            ),
            11 => format!(
                "select a.k, b.n, count(*) from ({}) a natural full join ({}) b group by a.k, b.n",
                self.pair(),
                self.pair()
            ),
            12 => format!(
                "select * from ({}) a left join ({}) b using (k) where coalesce(b.n, 1) > 0 or a.n is null",
                self.pair(),
                self.pair()
            ),
            13 => {
                let (table, alias) = self.table();
                let own = std::slice::from_ref(&alias);
                let (inside, number) = (self.condition(own, 1), self.number(own));
                format!(
                    "select {one}, sum({two}) from {from}{filter} group by {one} having sum({two}) > (select min({number}) from {table} where {inside}) or count(*) in (select {number} from {table})"
                )
            }
            14 => {
                let (table, alias) = self.table();
                let name = alias.name.clone();
                format!(
                    "select {key}, to_json({name}) ->> 'name', count({name}) over () from {from} left join {table} on {} = {two}{filter}",
                    self.number(&[alias])
                )
            }
            15 => {
                let rows = *self.pick(&[
                    "limit 5",
                    "limit 4 offset 2",
                    "fetch first 3 rows with ties",
                ]);
                format!(
                    "select {one} as c1, {two} + {key} as c0, {key} as c2 from {from}{filter} order by {two} desc nulls last, {one}, {key} {rows}"
                )
            }
            _ => format!(
                "select v.x, s.n from (values (1, 'a'), (2, null), (7, 'c1')) v (x, y) left join ({}) s on s.k = v.x and s.n is not null",
                self.pair()
            ),
        }
    }

    /// A query with the columns k and n.
    fn pair(&mut self) -> String {
        let (from, aliases) = self.from();
        let filter = self.filter(&aliases);
        let of = self.pick(&aliases).clone();
        let key = Self::key(&of);
        format!(
            "select {key} as k, {} as n from {from}{filter}",
            self.number(&aliases)
        )
    }
}
