//! Definitions: the same on every shard, if they mean the same there.

use pg_query::NodeEnum;
use pg_query::protobuf::Node;
use pg_query::protobuf::{
    AlterTableCmd, AlterTableStmt, AlterTableType, ColumnDef, ConstrType, Constraint, CreateStmt,
    DropStmt, IndexElem, ObjectType, RangeVar, VacuumStmt,
};

use super::definition::{Home, unsupported};
use super::{Builder, fixed_to};
use crate::placement::{Distribution, Shard};
use crate::plan::Plan;
use crate::refusal::{Refusal, Result};
use crate::resolve::{Names, inner, strings};
use crate::tree::Place;

impl Builder<'_> {
    pub(super) fn schema(&self, node: &NodeEnum, names: &Names) -> Result<Plan> {
        match node {
            NodeEnum::CreateStmt(create) => self.create(create, names),
            NodeEnum::AlterTableStmt(alter) => self.alter(alter, names),
            NodeEnum::IndexStmt(index) => {
                if index.unique {
                    self.unique(&index.relation, &index.index_params, names)?;
                }
                match self.home(&index.relation, names)? {
                    Home::All if index.concurrent => self.alone("CREATE INDEX CONCURRENTLY"),
                    home => Ok(home.plan()),
                }
            }
            NodeEnum::ViewStmt(view) => match self.home_of_new(&view.view, names)? {
                Home::All => Ok(Plan::All),
                Home::One(_) => Err(Refusal::new(
                    "CREATE VIEW",
                    "a view on one shard is not supported",
                )),
            },
            NodeEnum::DropStmt(drop) => self.drop(drop, names),
            NodeEnum::RenameStmt(rename) => self.rename(rename, names),
            NodeEnum::VacuumStmt(vacuum) if !vacuum.is_vacuumcmd => self.analyzed(vacuum, names),
            NodeEnum::CreateSeqStmt(_) => {
                self.numbers("CREATE SEQUENCE")?;
                Ok(Plan::All)
            }
            NodeEnum::CreateSchemaStmt(schema) if schema.schema_elts.is_empty() => Ok(Plan::All),
            NodeEnum::CreateEnumStmt(_)
            | NodeEnum::AlterEnumStmt(_)
            | NodeEnum::CompositeTypeStmt(_)
            | NodeEnum::CreateDomainStmt(_)
            | NodeEnum::CreateFunctionStmt(_)
            | NodeEnum::CreateExtensionStmt(_)
            | NodeEnum::CommentStmt(_)
            | NodeEnum::GrantStmt(_) => Ok(Plan::All),
            other => Err(unsupported(other)),
        }
    }

    pub(super) fn home(&self, range: &Option<RangeVar>, names: &Names) -> Result<Home> {
        let mut resolver = self.resolver(names);
        let range = range
            .as_ref()
            .ok_or_else(|| Refusal::new("statement", "a table is missing"))?;
        let (schema, relation) = resolver.locate(range)?;
        match resolver.table(&schema, &range.relname, relation)?.place {
            Place::At(Distribution::OneShard(shard)) => Ok(Home::One(shard)),
            Place::System => Err(Refusal::new(&range.relname, "it is the server's own")),
            _ => Ok(Home::All),
        }
    }

    /// Each shard counts what it has. Unlike VACUUM, that may be done in a transaction. Without names it would lock all tables
    /// of all shards up to its end, and what shards on one server have together twice.
    fn analyzed(&self, vacuum: &VacuumStmt, names: &Names) -> Result<Plan> {
        if vacuum.rels.is_empty() {
            self.alone("ANALYZE without a table")?;
        }
        let mut homes = Vec::new();
        for table in &vacuum.rels {
            let NodeEnum::VacuumRelation(table) = inner(table)? else {
                return Err(Refusal::new("ANALYZE", "a name is of an unknown form"));
            };
            homes.push(self.home(&table.relation, names)?);
        }
        match homes.as_slice() {
            [Home::One(shard)] => Ok(Home::One(*shard).plan()),
            homes if homes.iter().all(|home| matches!(home, Home::All)) => Ok(Plan::All),
            _ => Err(Refusal::new(
                "ANALYZE",
                "its tables are not on the same shards",
            )),
        }
    }

    /// Where something new of a name belongs.
    fn home_of_new(&self, range: &Option<RangeVar>, names: &Names) -> Result<Home> {
        let (schema, name) = self.name_of_new(range, names)?;
        Ok(match self.placement.of(schema, name, &[]) {
            Some(Distribution::OneShard(shard)) => Home::One(shard),
            _ => Home::All,
        })
    }

    /// The schema and the name of something new.
    pub(super) fn name_of_new<'n>(
        &self,
        range: &'n Option<RangeVar>,
        names: &'n Names,
    ) -> Result<(&'n str, &'n str)> {
        let range = range
            .as_ref()
            .ok_or_else(|| Refusal::new("statement", "a name is missing"))?;
        if range.relpersistence == "t" {
            return Err(Refusal::new(
                &range.relname,
                "temporary tables are not supported over shards",
            ));
        }
        let first = names
            .search_path
            .iter()
            .find(|schema| self.catalog.has_schema(schema));
        let schema = match (range.schemaname.as_str(), first) {
            ("", Some(schema)) => schema.as_str(),
            ("", None) => {
                return Err(Refusal::new(&range.relname, "no schema is chosen").with("3F000"));
            }
            (schema, _) => schema,
        };
        Ok((schema, &range.relname))
    }

    fn create(&self, create: &CreateStmt, names: &Names) -> Result<Plan> {
        if create.partspec.is_some()
            || create.partbound.is_some()
            || !create.inh_relations.is_empty()
        {
            return Err(Refusal::new(
                "CREATE TABLE",
                "partitions and inheritance are not supported over shards",
            ));
        }
        Ok(self.constrained(create, names)?.plan())
    }

    /// What servers do outside of transactions only: where there is but one, it does so; on several it cannot be done as
    /// one.
    fn alone(&self, part: &str) -> Result<Plan> {
        match self.placement.shard_count() > 1 {
            true => Err(
                Refusal::new(part, "it cannot run in the transaction of several shards")
                    .hint("Do it on each shard by its own name."),
            ),
            false => Ok(fixed_to(Shard(0))),
        }
    }

    /// Refuses what makes a sequence that is the same on all shards, where they are said to give other numbers on each.
    pub(super) fn numbers(&self, part: &str) -> Result<()> {
        match self.placement.sequences_are_disjoint() && self.placement.shard_count() > 1 {
            true => Err(
                Refusal::new(part, "each shard's sequence must give other numbers")
                    .hint("Make it on each shard by its own name, with an INCREMENT of the number of shards and a START of its own."),
            ),
            false => Ok(()),
        }
    }

    fn drop(&self, drop: &DropStmt, names: &Names) -> Result<Plan> {
        if drop.concurrent {
            return self.alone("DROP INDEX CONCURRENTLY");
        }
        let mut homes = Vec::new();
        match drop.remove_type() {
            ObjectType::ObjectTable => {}
            ObjectType::ObjectView
            | ObjectType::ObjectIndex
            | ObjectType::ObjectSequence
            | ObjectType::ObjectType
            | ObjectType::ObjectSchema
            | ObjectType::ObjectFunction
            | ObjectType::ObjectDomain
            | ObjectType::ObjectTrigger
            | ObjectType::ObjectExtension => return Ok(Plan::All),
            _ => {
                return Err(Refusal::new(
                    "DROP",
                    "what is dropped is not supported over shards",
                ));
            }
        }
        for object in &drop.objects {
            let NodeEnum::List(list) = inner(object)? else {
                return Err(Refusal::new("DROP", "a name is of an unknown form"));
            };
            let mut range = RangeVar::default();
            match strings(&list.items)?.as_slice() {
                [name] => range.relname = (*name).to_owned(),
                [schema, name] => {
                    range.schemaname = (*schema).to_owned();
                    range.relname = (*name).to_owned();
                }
                _ => return Err(Refusal::new("DROP", "a name has too many parts")),
            }
            match self.home(&Some(range), names) {
                // What does not exist is dropped nowhere.
                Err(refusal) if refusal.code == "42P01" && drop.missing_ok => {}
                home => homes.push(home?),
            }
        }
        let all = homes.iter().all(|home| matches!(home, Home::All));
        match (all, homes.as_slice()) {
            (true, _) => Ok(Plan::All),
            (false, [Home::One(shard)]) => Ok(Home::One(*shard).plan()),
            _ => Err(Refusal::new(
                "DROP",
                "its tables are not on the same shards",
            )),
        }
    }

    fn alter(&self, alter: &AlterTableStmt, names: &Names) -> Result<Plan> {
        if alter.objtype() != ObjectType::ObjectTable {
            return Err(Refusal::new(
                "ALTER",
                "what is altered is not supported over shards",
            ));
        }
        let mut resolver = self.resolver(names);
        let range = alter
            .relation
            .as_ref()
            .ok_or_else(|| Refusal::new("ALTER TABLE", "its table is missing"))?;
        let found = resolver.locate(range);
        let (schema, relation) = found.map_err(|refusal| match alter.missing_ok {
            // One server would say no more than that there is none.
            true => Refusal {
                code: "0A000",
                ..refusal
            },
            false => refusal,
        })?;
        let table = resolver.table(&schema, &range.relname, relation)?;
        let key = |name: &str| match &table.place {
            Place::Key { columns, .. } => relation
                .column(name)
                .is_some_and(|at| columns.contains(&at)),
            _ => false,
        };
        let mut columns: Vec<&str> = relation.columns.iter().map(|it| &*it.name).collect();
        let before = self.placement.of(&schema, &range.relname, &columns);
        for command in &alter.cmds {
            let NodeEnum::AlterTableCmd(command) = inner(command)? else {
                return Err(Refusal::new("ALTER TABLE", "of an unknown form"));
            };
            columns.extend(added(command)?.map(|column| &*column.colname));
            if key(&command.name) {
                return Err(Refusal::new("ALTER TABLE", "the key cannot be altered"));
            }
            self.alters(command, &alter.relation, names)?;
            if let Some(NodeEnum::Constraint(constraint)) =
                command.def.as_deref().map(inner).transpose()?
            {
                self.constraint(constraint, &alter.relation, names)?;
            }
        }
        if self.placement.of(&schema, &range.relname, &columns) != before {
            let reason = "by its new column, the table's rows would belong elsewhere";
            return Err(Refusal::new("ALTER TABLE", reason)
                .hint("Say by the table's name where its rows are."));
        }
        Ok(self.home(&alter.relation, names)?.plan())
    }

    /// What must be unique is so over all shards only if the key is in it.
    fn unique(&self, range: &Option<RangeVar>, columns: &[Node], names: &Names) -> Result<()> {
        let mut resolver = self.resolver(names);
        let range = range
            .as_ref()
            .ok_or_else(|| Refusal::new("UNIQUE", "its table is missing"))?;
        let (schema, relation) = resolver.locate(range)?;
        let Place::Key { columns: key, .. } =
            resolver.table(&schema, &range.relname, relation)?.place
        else {
            return Ok(());
        };
        let mut named = Vec::new();
        for column in columns {
            match inner(column)? {
                NodeEnum::String(name) => named.push(name.sval.as_str()),
                NodeEnum::IndexElem(element) if tells_apart(element)? => {
                    named.push(element.name.as_str());
                }
                _ => {}
            }
        }
        let all = key
            .iter()
            .all(|at| named.contains(&relation.columns[*at].name.as_str()));
        match all {
            true => Ok(()),
            false => Err(per_shard("UNIQUE")),
        }
    }

    fn constraint(
        &self,
        constraint: &Constraint,
        range: &Option<RangeVar>,
        names: &Names,
    ) -> Result<()> {
        match constraint.contype() {
            ConstrType::ConstrUnique | ConstrType::ConstrPrimary
                if constraint.indexname.is_empty() =>
            {
                self.unique(range, &constraint.keys, names)
            }
            ConstrType::ConstrCheck | ConstrType::ConstrNotnull => Ok(()),
            ConstrType::ConstrForeign => self.refers(range, None, constraint, names),
            _ => Err(Refusal::new(
                "ALTER TABLE",
                "this constraint is not supported over shards",
            )),
        }
    }

    /// What the rows of a table that is there refer to must be on their own shards.
    fn refers(
        &self,
        range: &Option<RangeVar>,
        column: Option<&str>,
        constraint: &Constraint,
        names: &Names,
    ) -> Result<()> {
        let mut resolver = self.resolver(names);
        let range = range
            .as_ref()
            .ok_or_else(|| Refusal::new("FOREIGN KEY", "its table is missing"))?;
        let (schema, relation) = resolver.locate(range)?;
        resolver.table(&schema, &range.relname, relation)?;
        let columns: Vec<&str> = relation.columns.iter().map(|it| &*it.name).collect();
        let place = self.placement.of(&schema, &range.relname, &columns);
        let place =
            place.ok_or_else(|| Refusal::new("FOREIGN KEY", "its table is placed nowhere"))?;
        // None is new: a name that is its own is found as any other.
        self.reference(&place, ("", ""), column, constraint, names)
    }

    fn alters(
        &self,
        command: &AlterTableCmd,
        range: &Option<RangeVar>,
        names: &Names,
    ) -> Result<()> {
        match (command.subtype(), defined(command)?) {
            (AlterTableType::AtAddColumn, Some(column)) => self.adds(column, range, names),
            (AlterTableType::AtAlterColumnType, Some(column)) if column.raw_default.is_none() => {
                Ok(())
            }
            (
                AlterTableType::AtDropColumn
                | AlterTableType::AtColumnDefault
                | AlterTableType::AtSetNotNull
                | AlterTableType::AtDropNotNull
                | AlterTableType::AtSetStatistics
                | AlterTableType::AtAddConstraint
                | AlterTableType::AtDropConstraint
                | AlterTableType::AtValidateConstraint
                | AlterTableType::AtSetRelOptions
                | AlterTableType::AtChangeOwner,
                _,
            ) => Ok(()),
            _ => Err(Refusal::new(
                "ALTER TABLE",
                "this change is not supported over shards",
            )),
        }
    }

    /// A new column is given its default on each shard by itself.
    fn adds(&self, column: &ColumnDef, range: &Option<RangeVar>, names: &Names) -> Result<()> {
        let mut resolver = self.resolver(names);
        for constraint in &column.constraints {
            let NodeEnum::Constraint(constraint) = inner(constraint)? else {
                continue;
            };
            match constraint.contype() {
                ConstrType::ConstrDefault => {
                    if let Some(expr) = &constraint.raw_expr {
                        resolver.expr(inner(expr)?)?;
                    }
                }
                ConstrType::ConstrIdentity => {
                    resolver.traits.sequence = Some("identity column".into())
                }
                // A new column is no key.
                ConstrType::ConstrUnique | ConstrType::ConstrPrimary => {
                    self.unique(range, &[], names)?;
                }
                ConstrType::ConstrForeign => {
                    self.refers(range, Some(&column.colname), constraint, names)?;
                }
                ConstrType::ConstrExclusion => {
                    self.constraint(constraint, range, names)?;
                }
                _ => {}
            }
        }
        if is_serial(column)? {
            resolver.traits.sequence = Some("serial column".into());
        }
        self.anywhere(&resolver.traits)?;
        self.several(&resolver.traits)
    }
}

/// The column that a command of ALTER TABLE defines.
fn defined(command: &AlterTableCmd) -> Result<Option<&ColumnDef>> {
    Ok(match command.def.as_deref().map(inner).transpose()? {
        Some(NodeEnum::ColumnDef(column)) => Some(&**column),
        _ => None,
    })
}

/// Whether a column gets a sequence by the name of its type.
pub(super) fn is_serial(column: &ColumnDef) -> Result<bool> {
    let kind = column.type_name.as_ref();
    let names = kind.map(|name| strings(&name.names)).transpose()?;
    let last = names.and_then(|names| names.last().copied());
    Ok(last.is_some_and(|name| name.contains("serial")))
}

/// The column that it adds.
fn added(command: &AlterTableCmd) -> Result<Option<&ColumnDef>> {
    let column = defined(command)?;
    Ok(column.filter(|_| command.subtype() == AlterTableType::AtAddColumn))
}

/// Whether values of a column that differ to the byte differ in an index, too: another collation than the column's may
/// find them equal, and they are on other shards then. Those of Postgres' own do not.
pub(super) fn tells_apart(element: &IndexElem) -> Result<bool> {
    const PLAIN: [&str; 4] = ["default", "C", "POSIX", "ucs_basic"];
    Ok(match strings(&element.collation)?.as_slice() {
        [] | ["pg_catalog", _] => true,
        [name] => PLAIN.contains(name),
        _ => false,
    })
}

/// What is said of a constraint that no shard can check.
pub(super) fn per_shard(what: &'static str) -> Refusal {
    Refusal::new(what, "it would only hold on each shard by itself")
        .hint("Put the table's key into it.")
}
