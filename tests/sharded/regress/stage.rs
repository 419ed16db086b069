//! The databases: one with all rows, one with the same in another order, and the shards behind a proxy.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use pgherd_planner::placement::{Group, KeyType, KeyValue, Method, Placement};
use pgherd_tests::{Config, Proxy, run};

use super::parts::Parts;
use super::rows;
use crate::server::server;

/// The shards of each stage.
const SHARDS: u16 = 4;
/// A statement may take so long, lest one query that is asked badly holds up all.
const PATIENCE: &str = "5s";
/// A table's name, its column as far as one can be a key, that column's type, and its columns for COPY.
const TABLES: &str = "\
    select c.oid::regclass, \
           case when c.relkind = 'r' and not c.relhassubclass and not c.relispartition \
                 and not exists (select from pg_inherits where inhrelid = c.oid) then \
             (select string_agg(quote_ident(attname) || ' ' || atttypid, ',' order by attnum) \
                from pg_attribute where attrelid = c.oid and attnum > 0 and not attisdropped \
                 and attgenerated = '') end, \
           (select string_agg(quote_ident(attname), ',' order by attnum) from pg_attribute \
             where attrelid = c.oid and attnum > 0 and not attisdropped and attgenerated = '') \
      from pg_class c where c.relkind = 'r' and c.relnamespace = 'public'::regnamespace order by 1";

/// A database from which those of all scripts are made, and the files that scripts load.
pub(super) struct Template {
    pub(super) data: PathBuf,
}

/// Some scripts' tables.
pub(super) struct Stage {
    pub(super) whole: String,
    pub(super) other: String,
    pub(super) proxy: Proxy,
}

/// A table, and by which of its columns it is sharded.
struct Table {
    name: String,
    columns: String,
    key: Option<(String, KeyType)>,
}

/// A dump leaves another path behind.
const LOADS: &str = "set session_replication_role = replica; reset search_path";
const NEW: &str =
    "template template0 encoding 'UTF8' locale 'C' locale_provider icu icu_locale 'en-US'";

impl Template {
    pub(super) async fn new(scripts: &Path) -> Self {
        let server = server().await;
        // The server reads the files, so they are where it may.
        let folder = std::env::temp_dir().join(format!("pgherd-regress-{}", std::process::id()));
        let data = folder.join("data");
        fs::create_dir_all(&data).unwrap();
        rows::write(&data);
        for place in [&folder, &data] {
            fs::set_permissions(place, fs::Permissions::from_mode(0o755)).unwrap();
        }
        server
            .sql(&format!("create database regress {NEW}"))
            .await
            .unwrap();
        let text = fs::read_to_string(scripts.join("test_setup.sql")).unwrap();
        psql("regress", &Parts::of(&text, &folder).setup).await;
        Self { data: folder }
    }
}

impl Drop for Template {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.data);
    }
}

impl Stage {
    pub(super) async fn new(template: &Template, name: &str, setup: &str) -> Self {
        let server = server().await;
        let whole = format!("{name}_whole");
        let create = format!("create database {whole} template regress");
        server.sql(&create).await.unwrap();
        psql(&whole, setup).await;
        let before = schema(&whole, "pre-data").await;
        let behind = schema(&whole, "post-data").await;
        // No key is known to hold over shards, and no trigger has a part in a SELECT.
        let is_of_one = |it: &&str| !it.contains("FOREIGN KEY") && !it.contains("CREATE TRIGGER");
        let behind: Vec<&str> = behind.split_inclusive(";\n").filter(is_of_one).collect();
        let behind = behind.concat();
        let folder = template.data.join(name);
        fs::create_dir_all(&folder).unwrap();
        let spread = Spread::of(&whole, &folder).await;
        let other = format!("{name}_other");
        let shards: Vec<String> = (0..SHARDS).map(|at| format!("{name}_{at}")).collect();
        for (at, database) in [&other].into_iter().chain(&shards).enumerate() {
            let create = format!("create database {database} {NEW}");
            server.sql(&create).await.unwrap();
            let files = spread.files(at);
            let load = format!("{before}\n{LOADS};\n{files}\n{behind}\nanalyze;");
            psql(database, &load).await;
        }
        // Else all would be compared with nothing.
        assert_eq!(spread.counts(&other).await, spread.counts(&whole).await);
        for database in [&whole, &other] {
            // A function that writes would have another answer next time.
            let read_only = format!(
                "alter database {database} set default_transaction_read_only = on;
                 alter database {database} set statement_timeout = '{PATIENCE}'"
            );
            server.sql(&read_only).await.unwrap();
        }
        let proxy = Proxy::start(&spread.config(&shards).await).await;
        Self {
            whole,
            other,
            proxy,
        }
    }
}

/// Which rows go where.
struct Spread {
    folder: PathBuf,
    tables: Vec<Table>,
}

impl Spread {
    /// Reads all tables of a database, and writes the rows of each of the others into files.
    async fn of(whole: &str, folder: &Path) -> Self {
        let server = server().await;
        let found = server.sql_in(whole, TABLES).await.unwrap();
        let mut tables = Vec::new();
        for line in found.lines() {
            let fields: Vec<&str> = line.split('|').collect();
            let [name, keys, columns] = fields[..] else {
                continue;
            };
            let mut table = Table {
                name: name.to_owned(),
                columns: columns.to_owned(),
                key: None,
            };
            table.key = table.key(whole, keys).await;
            if !table.write(whole, folder, tables.len()).await {
                table.key = None;
                table.write(whole, folder, tables.len()).await;
            }
            tables.push(table);
        }
        Self {
            folder: folder.to_owned(),
            tables,
        }
    }

    /// What has psql load the files of a database: the one with another order, or a shard.
    fn files(&self, database: usize) -> String {
        let mut text = String::new();
        for (at, table) in self.tables.iter().enumerate() {
            let file = self.folder.join(format!("{at}.{database}"));
            let columns = match table.columns.as_str() {
                "" => String::new(),
                columns => format!("({columns})"),
            };
            writeln!(
                text,
                "\\copy {}{columns} from '{}'",
                table.name,
                file.display()
            )
            .unwrap();
        }
        text
    }

    /// How many rows each table has.
    async fn counts(&self, database: &str) -> String {
        let counts = self.tables.iter().map(|it| {
            let name = &it.name;
            format!("select '{name}', count(*) from only {name};")
        });
        let counts: String = counts.collect();
        server().await.sql_in(database, &counts).await.unwrap()
    }

    async fn config(&self, shards: &[String]) -> Config {
        let server = server().await;
        let host = format!("{}:{}", server.socket_dir().display(), server.port());
        let mut text = String::from(
            "[listen]\naddresses = [\"127.0.0.1:{port}\"]\n[auth]\nmethod = \"trust\"\n\
             [log]\nstats_every = 0\n[timeouts]\nquery = \"25s\"\n[users.postgres]\npassword = \"postgres\"\n",
        );
        for name in shards {
            writeln!(text, "[databases.{name}]\nhosts = [\"{host}\"]").unwrap();
        }
        writeln!(
            text,
            "[databases.all]\nshards = {shards:?}\n[databases.all.sharding]\nunlisted = \"replicated\"\ntables = ["
        )
        .unwrap();
        for table in &self.tables {
            if let Some((key, kind)) = &table.key {
                let (name, key) = (bare(&table.name), bare(key));
                writeln!(
                    text,
                    "{{ name = {name:?}, key = {key:?}, group = \"{kind:?}\" }},"
                )
                .unwrap();
            }
        }
        text.push_str("]\n");
        Config::text(text)
    }
}

/// A name as it is.
fn bare(name: &str) -> String {
    name.trim_matches('"').replace("\"\"", "\"")
}

impl Table {
    /// The first column that can be a key and is nowhere NULL.
    async fn key(&self, whole: &str, keys: &str) -> Option<(String, KeyType)> {
        for column in keys.split(',') {
            let Some((name, kind)) = column.rsplit_once(' ') else {
                continue;
            };
            let Some(kind) = kind.parse().ok().and_then(KeyType::of) else {
                continue;
            };
            let question = format!("select count(*) - count({name}) from {}", self.name);
            if server().await.sql_in(whole, &question).await.ok()? == "0" {
                return Some((name.to_owned(), kind));
            }
        }
        None
    }

    /// Writes the rows of this table: for the database with another order, and for each shard. It gives up at a value
    /// that can be no key.
    async fn write(&self, whole: &str, folder: &Path, number: usize) -> bool {
        let all = folder.join("all");
        let key = self.key.as_ref().map_or("1", |(name, _)| name);
        let copy = format!(
            "\\copy (select {key}{}{} from only {}) to '{}'",
            if self.columns.is_empty() { "" } else { ", " },
            self.columns,
            self.name,
            all.display()
        );
        let _ = fs::remove_file(&all);
        psql(whole, &copy).await;
        let text = fs::read_to_string(&all).unwrap_or_default();
        let mut placement = Placement::new(SHARDS);
        let group = placement.group(Method::hash(SHARDS)).unwrap();
        let mut files: BTreeMap<usize, String> = (0..=usize::from(SHARDS))
            .map(|at| (at, String::new()))
            .collect();
        for line in text.lines() {
            let (key, row) = line.split_once('\t').unwrap_or((line, ""));
            let Some(shards) = self.shards(&placement, group, key) else {
                return false;
            };
            for shard in shards {
                let file = files.entry(1 + shard).or_default();
                file.push_str(row);
                file.push('\n');
            }
        }
        let reversed = text
            .lines()
            .rev()
            .map(|line| line.split_once('\t').map_or("", |it| it.1));
        files.insert(0, reversed.map(|line| format!("{line}\n")).collect());
        for (at, text) in files {
            fs::write(folder.join(format!("{number}.{at}")), text).unwrap();
        }
        true
    }

    fn shards(&self, placement: &Placement, group: Group, key: &str) -> Option<Vec<usize>> {
        let Some((_, kind)) = self.key else {
            return Some((0..usize::from(SHARDS)).collect());
        };
        let value = KeyValue::from_text(kind, unescaped(key).as_bytes()).ok()?;
        let shard = placement.shard(group, &[value]).ok()?;
        Some(vec![usize::from(shard.0)])
    }
}

/// A value of COPY as it is.
fn unescaped(text: &str) -> String {
    let mut plain = String::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        plain.push(match letter {
            '\\' => match letters.next() {
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('b') => '\u{8}',
                Some('f') => '\u{c}',
                Some('v') => '\u{b}',
                other => other.unwrap_or('\\'),
            },
            other => other,
        });
    }
    plain
}

async fn tool(name: &str, database: &str) -> Command {
    let server = server().await;
    let mut command = Command::new(server.binaries().tool(name).unwrap());
    command
        .env("PGHOST", server.socket_dir())
        .env("PGPORT", server.port().to_string())
        .env("PGUSER", "postgres")
        .env("PGDATABASE", database);
    command
}

/// Runs a script; of what fails in it, the rest does not depend.
async fn psql(database: &str, text: &str) -> String {
    let mut command = tool("psql", database).await;
    command.args(["-X", "-q", "-f", "-"]);
    let done = run(command, text).await;
    if std::env::var_os("PGHERD_REGRESS_ERRORS").is_some() {
        println!("{database}: {}", done.err);
    }
    done.err
}

async fn schema(database: &str, section: &str) -> String {
    let mut command = tool("pg_dump", database).await;
    command.args(["--no-owner", "--no-privileges", "--section", section]);
    run(command, "").await.success().to_owned() + "\n"
}
