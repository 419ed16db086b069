//! Functions: whether what they give is the same everywhere, and what they do to rows.

use pg_query::NodeEnum;
use pg_query::protobuf::{FuncCall, SqlValueFunction, SqlValueFunctionOp, WindowDef};

use super::{Moment, Resolver, inner, strings};
use crate::catalog::{Function, FunctionKind, Volatility};
use crate::refusal::{Refusal, Result};
use crate::tree::{Expr, Kind};

/// Aggregates of Postgres' own whose result is the same in whatever order the rows come.
const ORDERLESS: [&str; 14] = [
    "count",
    "min",
    "max",
    "bool_and",
    "bool_or",
    "every",
    "bit_and",
    "bit_or",
    "bit_xor",
    "range_agg",
    "range_intersect_agg",
    "percentile_cont",
    "percentile_disc",
    "rank",
];

/// Aggregates that add numbers, whose result is the same in any order if the numbers are exact.
const SUMS: [&str; 8] = [
    "sum",
    "avg",
    "stddev",
    "stddev_pop",
    "stddev_samp",
    "variance",
    "var_pop",
    "var_samp",
];

/// Functions of Postgres' own that are stable only because they heed settings, which are the same on every
/// shard, or because they call the output functions of types.
const OF_SETTINGS: &[&str] = &[
    "to_char",
    "to_number",
    "to_date",
    "to_timestamp",
    "date_trunc",
    "date_part",
    "extract",
    "age",
    "timezone",
    "make_timestamptz",
    "date_bin",
    "to_json",
    "to_jsonb",
    "row_to_json",
    "array_to_json",
    "json_build_object",
    "json_build_array",
    "jsonb_build_object",
    "jsonb_build_array",
    "json_object",
    "jsonb_object",
    "concat",
    "concat_ws",
    "format",
    "array_to_string",
    "string_to_array",
    "json_agg",
    "jsonb_agg",
    "json_object_agg",
    "jsonb_object_agg",
    "quote_literal",
    "quote_nullable",
    "to_tsvector",
    "to_tsquery",
    "plainto_tsquery",
    "websearch_to_tsquery",
    "phraseto_tsquery",
    "ts_headline",
    "generate_series",
    "isfinite",
    "timestamptz",
    "date",
    "timestamp",
    "text",
    "varchar",
    "jsonb_path_query_tz",
    "jsonb_path_exists_tz",
    "jsonb_populate_record",
    "json_populate_record",
    "json_to_record",
    "jsonb_to_record",
    "json_to_recordset",
    "jsonb_to_recordset",
    "current_user",
    "session_user",
    "array_agg",
    "string_agg",
    "max",
    "min",
    "sum",
    "avg",
    "count",
    "overlaps",
    "timetz",
    "time",
    "interval",
];

const OF_CLOCK: [&str; 3] = ["now", "transaction_timestamp", "statement_timestamp"];

/// What these give is another value wherever and whenever they are called, and tells nothing else.
const DRAWN: [&str; 2] = ["gen_random_uuid", "uuidv4"];

const VOLATILE: [&str; 5] = [
    "random",
    "clock_timestamp",
    "timeofday",
    "setseed",
    "pg_sleep",
];

/// How large something is on one server.
const SIZES: [&str; 5] = [
    "pg_relation_size",
    "pg_table_size",
    "pg_indexes_size",
    "pg_total_relation_size",
    "pg_database_size",
];

/// What a function of SQL that needs no parentheses is called, and what it gives.
pub(super) fn value_function(function: &SqlValueFunction) -> (&'static str, bool) {
    use SqlValueFunctionOp as Op;
    match function.op() {
        Op::SvfopCurrentDate => ("current_date", true),
        Op::SvfopCurrentTime | Op::SvfopCurrentTimeN => ("current_time", true),
        Op::SvfopCurrentTimestamp | Op::SvfopCurrentTimestampN => ("current_timestamp", true),
        Op::SvfopLocaltime | Op::SvfopLocaltimeN => ("localtime", true),
        Op::SvfopLocaltimestamp | Op::SvfopLocaltimestampN => ("localtimestamp", true),
        Op::SvfopCurrentRole => ("current_role", false),
        Op::SvfopCurrentUser => ("current_user", false),
        Op::SvfopUser => ("user", false),
        Op::SvfopSessionUser => ("session_user", false),
        Op::SvfopCurrentSchema => ("current_schema", false),
        _ => ("current_catalog", false),
    }
}

/// What was found of a call, for those who take it apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    /// It can only be one of Postgres' own functions.
    pub(crate) system: bool,
    /// The type of its first argument.
    pub(crate) first: Kind,
    /// It may give several rows.
    pub(crate) set: bool,
}

/// The columns of a function in FROM.
#[derive(Debug)]
pub(super) enum Columns {
    /// One, with the name of the parameter that it is, if it has one.
    Value(Option<String>),
    /// Those of a row, if they are known.
    Row(Option<Vec<String>>),
}

impl<'a> Resolver<'a> {
    pub(super) fn value_function(&mut self, function: &SqlValueFunction) -> Expr {
        match value_function(function) {
            (name, true) => {
                let moment = match name {
                    "current_timestamp" if function.typmod < 0 => Moment::Timestamptz,
                    "localtimestamp" if function.typmod < 0 => Moment::Timestamp,
                    "current_date" => Moment::Date,
                    _ => Moment::Other,
                };
                self.moments.insert(function.location, moment);
                self.traits.clock.get_or_insert_with(|| name.into());
            }
            ("current_catalog", _) => {
                self.traits
                    .server
                    .get_or_insert_with(|| "current_catalog".into());
            }
            _ => {}
        }
        Expr::Of(Vec::new(), Kind::UNKNOWN)
    }

    /// The functions that a call may mean.
    pub(super) fn candidates(&self, call: &FuncCall) -> Result<(String, Vec<&'a Function>)> {
        let names = strings(&call.funcname)?;
        let (schemas, name) = match names.as_slice() {
            [name] => (self.path.clone(), *name),
            [schema, name] => (vec![(*schema).to_owned()], *name),
            _ => return Err(Refusal::new("function", "its name has too many parts")),
        };
        let catalog = self.catalog;
        let count = call.args.len();
        let within = if call.agg_within_group {
            call.agg_order.len()
        } else {
            Default::default()
        };
        let fits = |function: &&Function| {
            let (least, most) = (
                usize::from(function.arguments.0),
                usize::from(function.arguments.1),
            );
            call.func_variadic || (least..=most).contains(&(count + within)) || most == 100
        };
        let found: Vec<&Function> = catalog
            .functions
            .get(name)
            .into_iter()
            .flatten()
            .filter(|function| schemas.contains(&function.schema))
            .filter(fits)
            .collect();
        if found.is_empty() {
            let none = Refusal::new(format!("function {name}"), "there is none that takes this");
            // With one argument it may be a type, or a column of it.
            return Err(match count {
                1 => none,
                _ => none.with("42883"),
            });
        }
        Ok((name.to_owned(), found))
    }

    /// What columns a call has in FROM.
    pub(super) fn columns_of(&mut self, node: &NodeEnum, expr: &Expr) -> Result<Columns> {
        let NodeEnum::FuncCall(call) = node else {
            // COALESCE and the like give rows if they are given some.
            let value = matches!(node, NodeEnum::SqlvalueFunction(_));
            return Ok(match value || self.kind_of(expr).oid != 0 {
                true => Columns::Value(None),
                false => self.uncertain(),
            });
        };
        let (name, found) = self.candidates(call)?;
        let system = found
            .iter()
            .all(|function| crate::catalog::is_system(&function.schema));
        if let ([array], Expr::Of(args, _)) = (call.args.as_slice(), expr)
            && let (Some(arg), true) = (args.first(), system && name == "unnest")
        {
            return Ok(self.unnested(inner(array)?, arg));
        }
        let mut all = found.iter().map(|function| &function.columns);
        let first = all.next().cloned().flatten();
        let own = first.filter(|first| all.all(|other| other.as_ref() == Some(first)));
        if !found.iter().any(|function| function.row) {
            return Ok(Columns::Value(own.and_then(|own| own.into_iter().next())));
        }
        let rows = found.iter().all(|function| function.row);
        Ok(Columns::Row(own.filter(|_| rows)))
    }

    fn judge(&mut self, name: &str, found: &[&Function]) {
        let set = |place: &mut Option<String>| {
            place.get_or_insert_with(|| format!("{name}()"));
        };
        for function in found {
            if !crate::catalog::is_system(&function.schema) {
                let declared = self.placement.is_harmless(&function.schema, name);
                if function.volatility != Volatility::Immutable && !declared {
                    set(&mut self.traits.user);
                }
                continue;
            }
            let traits = &mut self.traits;
            match (name, function.volatility) {
                (name, _) if runs_queries(name) => set(&mut traits.user),
                (name, _) if SIZES.contains(&name) => set(&mut traits.share),
                ("nextval", _) => set(&mut traits.sequence),
                ("setval" | "currval" | "lastval", _) => set(&mut traits.session),
                (_, Volatility::Immutable) => {}
                (name, _) if OF_CLOCK.contains(&name) => set(&mut traits.clock),
                ("age", _) if function.arguments.0 == 1 => set(&mut traits.clock),
                (name, Volatility::Stable) if OF_SETTINGS.contains(&name) => {}
                (name, _) if DRAWN.contains(&name) => set(&mut traits.drawn),
                (name, _) if VOLATILE.contains(&name) => set(&mut traits.volatile),
                (name, _) if is_fixed(name) => set(&mut traits.fixed),
                _ => set(&mut traits.server),
            }
        }
    }

    pub(super) fn call(&mut self, call: &'a FuncCall) -> Result<Expr> {
        if is_unique_id(call)? {
            // Every shard has one that gives what no other's does.
            self.traits.numbers = true;
            let drawn = &mut self.traits.drawn;
            drawn.get_or_insert_with(|| "pgherd.unique_id()".into());
            return Ok(Expr::Of(Vec::new(), Kind::plain(20)));
        }
        let (name, found) = self.candidates(call)?;
        let mut procedures = found
            .iter()
            .map(|function| function.kind == FunctionKind::Procedure);
        match (procedures.clone().all(|is| is), procedures.any(|is| is)) {
            (true, _) => {
                return Err(
                    Refusal::new(format!("procedure {name}"), "it is no function").with("42809"),
                );
            }
            (false, true) => {
                let reason = "it may be a function or a procedure";
                return Err(Refusal::new(name, reason));
            }
            (false, false) => {}
        }
        if matches!(name.as_str(), "pg_terminate_backend" | "pg_cancel_backend") {
            let reason = "the number of a process may be another client's on another shard";
            return Err(Refusal::new(format!("{name}()"), reason)
                .hint("Do it on the shard by its own name."));
        }
        self.judge(&name, &found);
        if OF_CLOCK.contains(&name.as_str()) || name == "age" && call.args.len() == 1 {
            let moment = match name.as_str() {
                "now" | "transaction_timestamp" if found.len() == 1 => Moment::Timestamptz,
                _ => Moment::Other,
            };
            self.moments.insert(call.location, moment);
        }
        let system = found
            .iter()
            .all(|function| crate::catalog::is_system(&function.schema));
        let aggregate = found
            .iter()
            .any(|function| function.kind == FunctionKind::Aggregate);
        let before = std::mem::take(&mut self.found_in);
        let mut args = self.all(&call.args)?;
        for sort in &call.agg_order {
            match inner(sort)? {
                NodeEnum::SortBy(sort) => args.push(self.expr(super::boxed(&sort.node)?)?),
                other => return Err(super::unknown_node("ORDER BY", other)),
            }
        }
        if let Some(filter) = &call.agg_filter {
            args.push(self.expr(inner(filter)?)?);
        }
        let within = std::mem::replace(&mut self.found_in, before);
        self.found_in |= within;
        let first = args.first().map_or(Kind::UNKNOWN, |arg| self.kind_of(arg));
        let set = found.iter().any(|function| function.set);
        self.calls
            .insert(call.location, Call { system, first, set });
        let kind = match system {
            true => self.gives(&name, &args),
            false => Kind::UNKNOWN,
        };
        if let Some(over) = &call.over {
            let partition = self.over(over)?;
            self.level.windows.push(partition);
        } else if aggregate {
            let own = 1_u64 << self.level.depth.min(63);
            if within != 0 && within & own == 0 {
                let reason = "an aggregate of an outer query is not supported over shards";
                return Err(Refusal::new(format!("{name}()"), reason));
            }
            self.level.aggregates = true;
            let chooses = self.chooses(call, &name, &args);
            let number = matches!(first.oid, 700 | 701 | 1700);
            let picks = chooses && number && matches!(name.as_str(), "min" | "max");
            let loose = !system || self.depends_on_order(&name, &args) || chooses && !picks;
            self.level.loose |= loose;
            self.level.picks |= picks;
            if loose || picks {
                self.traits.order.get_or_insert("aggregate");
            }
        }
        Ok(Expr::Of(args, kind))
    }

    /// Whether an aggregate gives one of several values that are equal and not the same.
    fn chooses(&self, call: &FuncCall, name: &str, args: &[Expr]) -> bool {
        let of: &[Expr] = match name {
            "min" | "max" | "range_agg" | "range_intersect_agg" => args,
            // What is aggregated is what it is sorted by.
            "percentile_cont" | "percentile_disc" => args.get(call.args.len()..).unwrap_or(args),
            _ if SUMS.contains(&name) && call.agg_distinct => args,
            _ => &[],
        };
        // Behind what is aggregated, there may be a FILTER.
        let of = of.first().into_iter();
        of.map(|arg| self.kind_of(arg)).any(|kind| !kind.is_exact())
    }

    fn depends_on_order(&self, name: &str, args: &[Expr]) -> bool {
        if ORDERLESS.contains(&name) {
            return false;
        }
        let exact =
            |expr: &Expr| matches!(self.kind_of(expr).oid, 20 | 21 | 23 | 790 | 1186 | 1700);
        !(SUMS.contains(&name) && args.first().is_some_and(exact))
    }

    /// The type that an aggregate of Postgres' own gives, where it is certain.
    fn gives(&self, name: &str, args: &[Expr]) -> Kind {
        let arg = args.first().map_or(Kind::UNKNOWN, |arg| self.kind_of(arg));
        match (name, arg.oid) {
            ("count" | "row_number" | "rank" | "dense_rank", _) => Kind::plain(20),
            ("sum", 21 | 23) => Kind::plain(20),
            ("sum" | "avg", 20 | 1700) | ("avg", 21 | 23) => Kind::plain(1700),
            ("sum", 1186 | 790) => Kind::plain(arg.oid),
            ("min" | "max", 20 | 21 | 23 | 1082 | 1184 | 1114 | 1700) => Kind::plain(arg.oid),
            _ => Kind::UNKNOWN,
        }
    }

    fn over(&mut self, window: &'a WindowDef) -> Result<Vec<Expr>> {
        if !window.name.is_empty() {
            let named = self.level.named.get(&window.name).cloned();
            return named
                .ok_or_else(|| Refusal::new("OVER", "there is no such window").with("42704"));
        }
        self.partition(window)
    }

    /// The PARTITION BY of a window, with that of the one that it is made from.
    pub(super) fn partition(&mut self, window: &'a WindowDef) -> Result<Vec<Expr>> {
        let mut partition = self.all(&window.partition_clause)?;
        if !window.refname.is_empty() {
            let named = self.level.named.get(&window.refname).cloned();
            let missing = || Refusal::new("OVER", "there is no such window").with("42704");
            partition.extend(named.ok_or_else(missing)?);
        }
        for sort in &window.order_clause {
            match inner(sort)? {
                NodeEnum::SortBy(sort) => {
                    let expr = self.expr(super::boxed(&sort.node)?)?;
                    self.level.extra.push(expr);
                }
                other => return Err(super::unknown_node("ORDER BY", other)),
            }
        }
        for offset in [&window.start_offset, &window.end_offset]
            .into_iter()
            .flatten()
        {
            let expr = self.expr(inner(offset)?)?;
            self.level.extra.push(expr);
        }
        Ok(partition)
    }

    /// Whether the functions of a call are aggregates, or it is over a window.
    pub(crate) fn is_upper(&self, call: &FuncCall) -> bool {
        let aggregate = |found: Vec<&Function>| {
            found
                .iter()
                .any(|function| function.kind == FunctionKind::Aggregate)
        };
        call.over.is_some()
            || self
                .candidates(call)
                .is_ok_and(|(_, found)| aggregate(found))
    }
}

/// Whether a call is one of the function of ours, which is none of the users' schema.
fn is_unique_id(call: &FuncCall) -> Result<bool> {
    let plain = call.args.is_empty()
        && call.agg_order.is_empty()
        && call.agg_filter.is_none()
        && call.over.is_none()
        && !(call.agg_star || call.agg_distinct || call.agg_within_group);
    Ok(plain && strings(&call.funcname)? == ["pgherd", "unique_id"])
}

/// What reads tables that are named in a text, or a cursor.
fn runs_queries(name: &str) -> bool {
    const ENDINGS: [&str; 3] = ["_to_xml", "_to_xmlschema", "_to_xml_and_xmlschema"];
    ENDINGS.iter().any(|ending| name.ends_with(ending)) || matches!(name, "ts_stat" | "ts_rewrite")
}

/// What acts on something that one server has for all its sessions.
fn is_fixed(name: &str) -> bool {
    const BEGINNINGS: [&str; 4] = ["pg_advisory_", "pg_try_advisory_", "lo", "pg_notify"];
    BEGINNINGS
        .iter()
        .any(|beginning| name.starts_with(beginning))
}
