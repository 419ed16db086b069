//! How the facts are asked of a server, and read from the texts of its rows.

use super::{
    Action, Catalog, Collation, Column, Does, Event, Function, FunctionKind, Name, Operator,
    Relation, RelationKind, TypeRef, Unique, UserType, Volatility,
};

/// What must be sent before the queries, so that all see one moment and names come out qualified; a COMMIT
/// ends it.
pub const SNAPSHOT: &str =
    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL search_path = pg_catalog";

/// A kind of facts, and the query that gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Schemas.
    Schemas,
    /// Tables, views and the like.
    Relations,
    /// Their columns; behind the relations.
    Columns,
    /// Their unique indexes; behind the relations.
    Uniques,
    /// What foreign keys do to rows; behind the relations.
    Actions,
    /// Functions.
    Functions,
    /// Operators of the users' own.
    Operators,
    /// Types of the users' own.
    Types,
}

impl Part {
    /// All kinds, in the order in which they must be read.
    pub const ALL: [Self; 8] = [
        Self::Schemas,
        Self::Relations,
        Self::Columns,
        Self::Uniques,
        Self::Actions,
        Self::Functions,
        Self::Operators,
        Self::Types,
    ];

    /// The query, which gives texts and nulls only. It means the same under any `search_path`.
    pub fn query(self) -> &'static str {
        match self {
            Self::Schemas => {
                "SELECT nspname::text FROM pg_catalog.pg_namespace
                 WHERE NOT nspname::text ~ '^pg_(toast|temp)' ORDER BY 1"
            }
            Self::Relations => include_str!("relations.sql"),
            Self::Columns => include_str!("columns.sql"),
            Self::Uniques => include_str!("uniques.sql"),
            Self::Actions => include_str!("actions.sql"),
            Self::Functions => {
                "SELECT n.nspname::text, p.proname::text, p.prokind::text, p.provolatile::text,
                        (p.pronargs - p.pronargdefaults - (p.provariadic <> 0)::int)::text,
                        CASE WHEN p.provariadic <> 0 THEN '100' ELSE p.pronargs::text END, p.proretset::text,
                        (t.typtype = 'c' OR t.typname = 'record'
                         OR EXISTS (SELECT 1 FROM pg_catalog.pg_type b
                                    WHERE b.oid = t.typbasetype AND b.typtype IN ('c', 'd'))
                         OR t.typname IN ('anyelement', 'anynonarray', 'anycompatible', 'anycompatiblenonarray')
                            AND (n.nspname <> 'pg_catalog' OR p.proname::text ~ '_populate_record(set)?$'))::text,
                        CASE WHEN t.typtype = 'c' THEN (
                               SELECT pg_catalog.string_agg(a.attname::text, E'\\n' ORDER BY a.attnum)
                               FROM pg_catalog.pg_attribute a
                               WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped)
                             WHEN p.proargmodes IS NOT NULL THEN (
                               SELECT pg_catalog.string_agg(coalesce(nullif(o.name, ''), CASE t.typname
                                        WHEN 'record' THEN 'column' || o.place END), E'\\n' ORDER BY o.place)
                               FROM (SELECT m.name, pg_catalog.row_number() OVER (ORDER BY m.at) AS place
                                     FROM ROWS FROM (pg_catalog.unnest(p.proargmodes), pg_catalog.unnest(p.proargnames))
                                          WITH ORDINALITY AS m (mode, name, at)
                                     WHERE m.mode IN ('o', 'b', 't')) o) END
                 FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
                      JOIN pg_catalog.pg_type t ON t.oid = p.prorettype
                 ORDER BY 1, 2, p.pronargs, pg_catalog.pg_get_function_identity_arguments(p.oid)"
            }
            Self::Operators => {
                "SELECT n.nspname::text, o.oprname::text, p.provolatile::text,
                        (o.oprleft < 10000 AND o.oprright < 10000)::text
                 FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
                      JOIN pg_catalog.pg_proc p ON p.oid = o.oprcode
                 WHERE n.nspname <> 'pg_catalog'
                 ORDER BY 1, 2, pg_catalog.format_type(o.oprleft, NULL), pg_catalog.format_type(o.oprright, NULL)"
            }
            Self::Types => {
                "SELECT n.nspname::text, t.typname::text, t.typtype::text,
                        (SELECT pg_catalog.string_agg(e.enumlabel::text, E'\\n' ORDER BY e.enumsortorder)
                         FROM pg_catalog.pg_enum e WHERE e.enumtypid = t.oid)
                 FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
                 WHERE n.nspname NOT IN ('pg_catalog', 'information_schema')
                   AND NOT n.nspname::text ~ '^pg_(toast|temp)' ORDER BY 1, 2"
            }
        }
    }
}

/// A row that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a row of the schema's {part:?} is not as expected")]
pub struct RowError {
    /// What it was to tell of.
    pub part: Part,
}

/// Reads rows into a catalog.
#[derive(Debug, Default)]
pub struct Loader {
    catalog: Catalog,
}

/// The columns of a row, one behind the other.
struct Fields<'a> {
    part: Part,
    row: &'a [Option<&'a str>],
}

impl<'a> Fields<'a> {
    fn maybe(&mut self) -> Result<Option<&'a str>, RowError> {
        let (first, rest) = self.row.split_first().ok_or(RowError { part: self.part })?;
        self.row = rest;
        Ok(*first)
    }

    fn text(&mut self) -> Result<&'a str, RowError> {
        self.maybe()?.ok_or(RowError { part: self.part })
    }

    fn name(&mut self) -> Result<Name, RowError> {
        Ok((self.text()?.to_owned(), self.text()?.to_owned()))
    }

    fn flag(&mut self) -> Result<bool, RowError> {
        match self.text()? {
            "t" | "true" => Ok(true),
            "f" | "false" => Ok(false),
            _ => Err(RowError { part: self.part }),
        }
    }

    fn number<N: std::str::FromStr>(&mut self) -> Result<N, RowError> {
        let part = self.part;
        self.text()?.parse().map_err(|_| RowError { part })
    }

    fn volatility(&mut self) -> Result<Volatility, RowError> {
        match self.text()? {
            "i" => Ok(Volatility::Immutable),
            "s" => Ok(Volatility::Stable),
            "v" => Ok(Volatility::Volatile),
            _ => Err(RowError { part: self.part }),
        }
    }
}

impl Loader {
    /// Reads a row of a kind's query, its values as texts.
    ///
    /// # Errors
    /// If it is not such a row.
    pub fn row(&mut self, part: Part, row: &[Option<&str>]) -> Result<(), RowError> {
        // What is ours is no part of the users' schema, and need not be on every shard.
        if row.first() == Some(&Some("pgherd")) {
            return Ok(());
        }
        let mut fields = Fields { part, row };
        match part {
            Part::Schemas => {
                self.catalog.schemas.insert(fields.text()?.to_owned());
            }
            Part::Relations => self.relation(&mut fields)?,
            Part::Columns => self.column(&mut fields)?,
            Part::Uniques => self.unique(&mut fields)?,
            Part::Actions => self.action(&mut fields)?,
            Part::Functions => self.function(&mut fields)?,
            Part::Operators => {
                let (schema, name) = fields.name()?;
                let operator = Operator {
                    schema,
                    volatility: fields.volatility()?,
                    of_plain_types: fields.flag()?,
                };
                self.catalog
                    .operators
                    .entry(name)
                    .or_default()
                    .push(operator);
            }
            Part::Types => {
                let name = fields.name()?;
                let kind = fields.text()?.chars().next().unwrap_or_default();
                let labels = fields.maybe()?.unwrap_or_default();
                let labels = labels.lines().map(str::to_owned).collect();
                self.catalog.types.insert(name, UserType { kind, labels });
            }
        }
        Ok(())
    }

    /// The catalog, once all rows are read.
    pub fn finish(self) -> Catalog {
        self.catalog
    }

    fn relation(&mut self, fields: &mut Fields<'_>) -> Result<(), RowError> {
        let name = fields.name()?;
        let kind = fields.text()?;
        let row_security = fields.flag()?;
        let rules = fields.flag()?;
        let triggers = fields.flag()?;
        let parent = match (fields.maybe()?, fields.maybe()?) {
            (Some(schema), Some(name)) => Some((schema.to_owned(), name.to_owned())),
            _ => None,
        };
        let inherited = fields.flag()?;
        let kind = match (kind, fields.maybe()?) {
            ("r" | "p", _) => RelationKind::Table,
            ("v", Some(query)) => RelationKind::View(query.to_owned()),
            _ => RelationKind::Other,
        };
        let relation = Relation {
            kind,
            columns: Vec::new(),
            uniques: Vec::new(),
            actions: Vec::new(),
            row_security,
            rules,
            triggers,
            parent,
            inherited,
        };
        self.catalog.relations.insert(name, relation);
        Ok(())
    }

    fn column(&mut self, fields: &mut Fields<'_>) -> Result<(), RowError> {
        let part = fields.part;
        let relation = fields.name()?;
        let name = fields.text()?.to_owned();
        let (schema, kind) = fields.name()?;
        let oid = match schema.as_str() {
            "pg_catalog" => fields.number()?,
            _ => fields.text().map(|_| 0)?,
        };
        let column = Column {
            name,
            kind: TypeRef {
                schema,
                name: kind,
                oid,
            },
            modifier: fields.number()?,
            not_null: fields.flag()?,
            collation: match fields.text()? {
                "" => Collation::None,
                "C" => Collation::Bytes,
                "D" => Collation::Deterministic,
                "N" => Collation::Nondeterministic,
                _ => return Err(RowError { part }),
            },
            default: fields.maybe()?.map(str::to_owned),
            identity: fields.flag()?,
            generated: fields.flag()?,
        };
        let relations = &mut self.catalog.relations;
        let relation = relations.get_mut(&relation).ok_or(RowError { part })?;
        relation.columns.push(column);
        Ok(())
    }

    fn unique(&mut self, fields: &mut Fields<'_>) -> Result<(), RowError> {
        let part = fields.part;
        let relation = fields.name()?;
        let unique = Unique {
            name: fields.text()?.to_owned(),
            primary: fields.flag()?,
            plain: fields.flag()?,
            columns: fields.text()?.lines().map(str::to_owned).collect(),
        };
        let relations = &mut self.catalog.relations;
        let relation = relations.get_mut(&relation).ok_or(RowError { part })?;
        relation.uniques.push(unique);
        Ok(())
    }

    fn action(&mut self, fields: &mut Fields<'_>) -> Result<(), RowError> {
        let part = fields.part;
        let relation = fields.name()?;
        let action = Action {
            table: fields.name()?,
            on: match fields.text()? {
                "u" => Event::Update,
                "d" => Event::Delete,
                _ => return Err(RowError { part }),
            },
            does: match fields.text()? {
                "c" => Does::Cascade,
                "n" => Does::Null,
                "d" => Does::Default,
                _ => return Err(RowError { part }),
            },
            of: fields.text()?.lines().map(str::to_owned).collect(),
            columns: fields.text()?.lines().map(str::to_owned).collect(),
        };
        let relations = &mut self.catalog.relations;
        let relation = relations.get_mut(&relation).ok_or(RowError { part })?;
        relation.actions.push(action);
        Ok(())
    }

    fn function(&mut self, fields: &mut Fields<'_>) -> Result<(), RowError> {
        let part = fields.part;
        let (schema, name) = fields.name()?;
        let function = Function {
            schema,
            kind: match fields.text()? {
                "f" => FunctionKind::Plain,
                "a" => FunctionKind::Aggregate,
                "w" => FunctionKind::Window,
                "p" => FunctionKind::Procedure,
                _ => return Err(RowError { part }),
            },
            volatility: fields.volatility()?,
            arguments: (fields.number()?, fields.number()?),
            set: fields.flag()?,
            row: fields.flag()?,
            columns: fields
                .maybe()?
                .map(|names| names.lines().map(str::to_owned).collect()),
        };
        self.catalog
            .functions
            .entry(name)
            .or_default()
            .push(function);
        Ok(())
    }
}
