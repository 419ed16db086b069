//! A plan in words, for those who ask how a statement is answered.

use super::{Count, Key, Merge, Params, Plan, Prune, Pulled, SortKey, Statement, evaluate};
use crate::placement::Shards;

impl Statement {
    /// How it is answered, a line for each step: what is sent where, what becomes of the rows, and the rule by
    /// which that may be. Without parameters it is said which shards may be concerned.
    pub fn explain(&self, params: Option<&Params<'_>>) -> Vec<String> {
        let mut told = Told {
            statement: self,
            params,
            lines: Vec::new(),
        };
        told.plan(&self.plan, 0);
        if let (Plan::Refused(_), Some(moment)) = (&self.plan, &self.moment) {
            told.lines.clear();
            let number = moment.parameter;
            told.line(
                0,
                &format!("The time of the transaction, read on one shard, is ${number}"),
            );
            told.plan(&moment.plan, 0);
        }
        told.lines
    }

    /// The rule by which one shard answers as one Postgres would, in words; nothing if it is not one alone.
    pub fn one_shard_rule(&self) -> Option<&'static str> {
        if self.is_narrowed() {
            return Some("a hint leads there");
        }
        match &self.plan {
            Plan::OneShard { .. } => Some("each table's key is bound"),
            Plan::Replicated => Some("its tables are the same on every shard"),
            Plan::Anywhere => Some("it reads no table of the users"),
            _ => None,
        }
    }
}

struct Told<'a> {
    statement: &'a Statement,
    params: Option<&'a Params<'a>>,
    lines: Vec<String>,
}

impl Told<'_> {
    fn line(&mut self, depth: usize, text: &str) {
        self.lines.push(format!("{}{text}", "  ".repeat(depth)));
    }

    fn shards(&self, prune: &Prune) -> String {
        let known = self.params.and_then(|params| {
            let shards = evaluate::shards(self.statement, prune, params);
            shards.ok().map(|shards| numbers(&shards))
        });
        match (known, prune.0.is_empty()) {
            (Some(known), _) => known,
            (None, true) => "all shards".into(),
            (None, false) => "the shards of its keys".into(),
        }
    }

    fn plan(&mut self, plan: &Plan, depth: usize) {
        match plan {
            Plan::Session => self.line(depth, "Session: nothing is asked of a shard"),
            Plan::Anywhere => self.line(
                depth,
                "Any shard, as it is (it reads no table of the users)",
            ),
            Plan::Replicated => {
                self.line(
                    depth,
                    "Any shard, as it is (its tables are the same on every shard)",
                );
            }
            Plan::OneShard { otherwise, .. } => {
                let rule =
                    "One shard, as it is (each table's key is bound), if the keys lead to one";
                self.line(depth, rule);
                if !matches!(**otherwise, Plan::Refused(_)) {
                    self.line(depth, "Otherwise");
                    self.plan(otherwise, depth + 1);
                }
            }
            Plan::Pushed { prune, writes } => {
                let what = if *writes { "Write" } else { "Append" };
                let shards = self.shards(prune);
                self.line(
                    depth,
                    &format!("{what} (its rows are disjoint parts of the shards)"),
                );
                self.line(depth + 1, &format!("Fragment on {shards}, as it is"));
            }
            Plan::Merged { prune, merge } => self.merge(prune, merge, depth),
            Plan::Pulled(pulled) => self.pulled(pulled, depth),
            Plan::All => self.line(
                depth,
                "All shards, as it is (it has the same effect on each)",
            ),
            Plan::Insert(_) => self.line(depth, "Insert: each row on the shard of its key"),
            Plan::Dealt(dealt) => {
                let (rule, by) = match dealt.deal.lock {
                    None => (
                        "Insert: rows are read first, and then stored, each on the shard of its key",
                        "Stored by",
                    ),
                    Some(_) => (
                        "Write: rows are found first, locked and found again, and then changed",
                        "Changed by",
                    ),
                };
                self.line(depth, rule);
                self.line(depth + 1, &format!("{by}: {}", dealt.deal.store));
                self.line(depth + 1, &format!("Read by: {}", dealt.deal.select));
                self.plan(&dealt.source, depth + 1);
            }
            Plan::Move(moved) => {
                self.line(
                    depth,
                    "Move: rows are taken from their shard, and stored on that of their new key",
                );
                self.line(depth + 1, &format!("Taken by: {}", moved.delete));
                self.line(depth + 1, &format!("Stored by: {}", moved.store));
            }
            Plan::CopyIn(_) => {
                self.line(depth, "Copy: each row to the shard of its key, as it comes")
            }
            Plan::Refused(refusal) => self.line(depth, &format!("Refused: {refusal}")),
        }
    }

    fn merge(&mut self, prune: &Prune, merge: &Merge, depth: usize) {
        let shards = self.shards(prune);
        let text = match merge {
            Merge::Sorted {
                text,
                keys,
                limit,
                offset,
                ..
            } => {
                let keys: Vec<String> = keys.iter().map(key).collect();
                let rule = format!(
                    "Merge by {}{} (each shard's rows are sorted, by types of a certain order)",
                    keys.join(", "),
                    cut(limit, offset)
                );
                self.line(depth, &rule);
                text
            }
            Merge::Limited {
                text,
                limit,
                offset,
            } => {
                let cut = cut(limit, offset);
                self.line(depth, &format!("Append{cut} (any rows will do)"));
                text
            }
            Merge::Combined { partial, combine } => {
                let rule = "Combine on one server (rows or partial aggregates of all shards)";
                self.line(depth, rule);
                self.line(depth + 1, &format!("Final: {combine}"));
                self.line(depth + 1, "Carrier pgherd_partials");
                partial
            }
        };
        self.line(depth + 1, &format!("Fragment on {shards}: {text}"));
    }

    fn pulled(&mut self, pulled: &Pulled, depth: usize) {
        let rule = "Rows are brought to one server (what is left reads nothing that is spread)";
        self.line(depth, rule);
        self.line(depth + 1, &format!("Final: {}", pulled.text));
        for pull in &pulled.pulls {
            let shards = self.shards(&pull.prune);
            let rule = pull.rule.words();
            self.line(depth + 1, &format!("Carrier {} ({rule})", pull.carrier));
            self.line(depth + 2, &format!("Fragment on {shards}: {}", pull.text));
            for (what, columns) in [("Primary key", &pull.primary), ("Indexes", &pull.indexes)] {
                if !columns.is_empty() {
                    self.line(depth + 2, &format!("{what}: {}", columns.join(", ")));
                }
            }
            for key in &pull.keys {
                let Key {
                    column,
                    carrier,
                    theirs,
                    ..
                } = key;
                let text = format!("Only {column} that {carrier}.{theirs} has, if these are few");
                self.line(depth + 2, &text);
            }
        }
    }
}

fn numbers(shards: &Shards) -> String {
    let numbers: Vec<String> = shards.iter().map(|shard| shard.0.to_string()).collect();
    match numbers.as_slice() {
        [] => "no shard".into(),
        [one] => format!("shard {one}"),
        all => format!("shards {}", all.join(", ")),
    }
}

fn key(key: &SortKey) -> String {
    let direction = if key.descending { " DESC" } else { "" };
    let nulls = if key.nulls_first { " NULLS FIRST" } else { "" };
    format!("column {}{direction}{nulls}", key.column + 1)
}

fn cut(limit: &Option<Count>, offset: &Option<Count>) -> String {
    let said = |word: &str, count: &Option<Count>| match count {
        Some(Count::Number(number)) => format!(", {word} {number}"),
        Some(Count::Param(number)) => format!(", {word} ${number}"),
        None => String::new(),
    };
    said("limit", limit) + &said("offset", offset)
}
