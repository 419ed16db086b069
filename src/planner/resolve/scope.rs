//! Which columns a name may mean at a place.

use super::Resolver;
use crate::refusal::{Refusal, Result};
use crate::tree::{Col, Expr, Kind, Rel};

/// A table or query that columns may be qualified with.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) schema: Option<String>,
    pub(crate) alias: String,
    pub(crate) columns: Vec<(String, Expr)>,
    /// System columns may be asked of it.
    pub(crate) table: bool,
}

/// A column of `*`: what it is called, whom it is of, and what it is.
#[derive(Debug, Clone)]
pub(crate) struct Star {
    pub(crate) name: String,
    pub(crate) alias: Option<String>,
    pub(crate) expr: Expr,
}

/// The names that a FROM makes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Space {
    pub(crate) entries: Vec<Entry>,
    /// The columns by their bare names, in the order of `*`.
    pub(crate) columns: Vec<Star>,
}

impl Space {
    pub(crate) fn of(
        rel: Rel,
        alias: &str,
        schema: Option<&str>,
        names: &[String],
        table: bool,
    ) -> Self {
        let columns: Vec<(String, Expr)> = names
            .iter()
            .enumerate()
            .map(|(at, name)| (name.clone(), Expr::Col(Col { rel, at })))
            .collect();
        let stars = columns.iter().map(|(name, expr)| Star {
            name: name.clone(),
            alias: Some(alias.to_owned()),
            expr: expr.clone(),
        });
        Self {
            columns: stars.collect(),
            entries: vec![Entry {
                schema: schema.map(str::to_owned),
                alias: alias.to_owned(),
                columns,
                table,
            }],
        }
    }

    pub(crate) fn and(mut self, other: Self) -> Self {
        self.entries.extend(other.entries);
        self.columns.extend(other.columns);
        self
    }

    /// The one column of a bare name.
    pub(crate) fn bare(&self, name: &str) -> Result<Option<&Expr>> {
        let mut found = self.columns.iter().filter(|star| star.name == name);
        match (found.next(), found.next()) {
            (Some(star), None) => Ok(Some(&star.expr)),
            (None, _) => Ok(None),
            (Some(_), Some(_)) => {
                Err(Refusal::new(name, "the column's name is ambiguous").with("42702"))
            }
        }
    }

    /// Whether a bare name stands for the whole row of a table, as no column has it.
    pub(crate) fn is_row(&self, name: &str) -> bool {
        let of_table = matches!(self.entry(None, name), Ok(Some(entry)) if entry.table);
        let is_column = self.columns.iter().any(|star| star.name == name);
        of_table && !is_column && !SYSTEM_COLUMNS.contains(&name)
    }

    pub(super) fn entry(&self, schema: Option<&str>, alias: &str) -> Result<Option<&Entry>> {
        let mut found = self.entries.iter().filter(|entry| {
            entry.alias == alias && (schema.is_none() || schema == entry.schema.as_deref())
        });
        match (found.next(), found.next()) {
            (entry, None) => Ok(entry),
            _ => Err(Refusal::new(alias, "the table's name is ambiguous").with("42P09")),
        }
    }
}

const SYSTEM_COLUMNS: [&str; 6] = ["ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"];

fn no_column(name: &str) -> Refusal {
    Refusal::new(name, "there is no such column").with("42703")
}

/// What a statement returns may be said to be of rows as they were, or as they have become.
fn no_table(alias: &str) -> Refusal {
    match alias {
        "old" | "new" => Refusal::new(alias, "rows before and behind a change are not supported"),
        _ => Refusal::new(alias, "there is no such table in FROM").with("42P01"),
    }
}

impl Resolver<'_> {
    /// What the names of a column mean, and how many levels further out than the innermost it is.
    pub(super) fn column(&mut self, fields: &[&str]) -> Result<Expr> {
        if let [.., name @ ("reltuples" | "relpages")] = fields {
            self.traits
                .share
                .get_or_insert_with(|| format!("column {name}"));
        }
        let found = match fields {
            [name] => self.bare_column(name)?,
            [alias, name] => self.qualified(None, alias, name)?,
            [schema, alias, name] => self.qualified(Some(schema), alias, name)?,
            _ => {
                return Err(Refusal::new(
                    fields.join("."),
                    "the name has too many parts",
                ));
            }
        };
        Ok(found)
    }

    fn found(&mut self, level: usize, expr: Expr) -> Expr {
        self.found_in |= 1 << level.min(63);
        expr
    }

    fn bare_column(&mut self, name: &str) -> Result<Expr> {
        for level in (0..self.stack.len()).rev() {
            if let Some(expr) = self.stack[level].bare(name)?.cloned() {
                return Ok(self.found(level, expr));
            }
            if SYSTEM_COLUMNS.contains(&name) {
                self.traits.physical = Some(format!("system column {name}"));
                return Ok(self.found(level, Expr::Of(Vec::new(), Kind::UNKNOWN)));
            }
        }
        // Where there is no such column on any level, the name of a table stands for its whole row.
        for level in (0..self.stack.len()).rev() {
            if let Some(entry) = self.stack[level].entry(None, name)? {
                self.rows = true;
                let all: Vec<Expr> = entry.columns.iter().map(|(_, expr)| expr.clone()).collect();
                self.spend(all.len())?;
                return Ok(self.found(level, Expr::Of(all, Kind::UNKNOWN)));
            }
        }
        Err(match name {
            "old" | "new" => no_table(name),
            _ => no_column(name),
        })
    }

    fn qualified(&mut self, schema: Option<&str>, alias: &str, name: &str) -> Result<Expr> {
        for level in (0..self.stack.len()).rev() {
            let Some(entry) = self.stack[level].entry(schema, alias)? else {
                continue;
            };
            let mut columns = entry.columns.iter().filter(|(column, _)| column == name);
            return match (columns.next(), columns.next()) {
                (Some((_, expr)), None) => {
                    let expr = expr.clone();
                    Ok(self.found(level, expr))
                }
                (None, _) if entry.table && SYSTEM_COLUMNS.contains(&name) => {
                    self.traits.physical = Some(format!("system column {name}"));
                    Ok(self.found(level, Expr::Of(Vec::new(), Kind::UNKNOWN)))
                }
                (None, _) if self.catalog.functions.contains_key(name) => Err(Refusal::new(
                    format!("{alias}.{name}"),
                    "a function of a row is called in parentheses over shards",
                )),
                _ => Err(no_column(&format!("{alias}.{name}"))),
            };
        }
        Err(no_table(alias))
    }

    /// The columns of `alias.*`, of the innermost level that has it.
    pub(super) fn star_of(&mut self, schema: Option<&str>, alias: &str) -> Result<Vec<Star>> {
        for level in (0..self.stack.len()).rev() {
            if let Some(entry) = self.stack[level].entry(schema, alias)? {
                let stars = entry.columns.iter().map(|(name, expr)| Star {
                    name: name.clone(),
                    alias: Some(alias.to_owned()),
                    expr: expr.clone(),
                });
                let stars = stars.collect();
                self.found_in |= 1 << level.min(63);
                return Ok(stars);
            }
        }
        Err(no_table(alias))
    }

    pub(crate) fn kind(&self, expr: &Expr) -> Kind {
        self.kind_of(expr)
    }

    pub(super) fn kind_of(&self, expr: &Expr) -> Kind {
        match expr {
            Expr::Col(col) => self.relations[col.rel.0]
                .columns
                .get(col.at)
                .map_or(Kind::UNKNOWN, |column| column.kind),
            Expr::Param(_, Some(oid)) => Kind::plain(*oid),
            Expr::Of(_, kind) => *kind,
            Expr::Equal(..) | Expr::OneOf(..) | Expr::AnyOf(..) | Expr::And(_) => Kind::plain(16),
            Expr::Const(constant) => super::literal::kind(constant),
            Expr::Sub(sub) if matches!(sub.test, crate::tree::Test::Value) => Kind::UNKNOWN,
            Expr::Sub(_) => Kind::plain(16),
            Expr::Param(..) | Expr::Row(_) => Kind::UNKNOWN,
        }
    }
}
