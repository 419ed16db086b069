use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::Config;
use crate::draft::{self, Node, Table, Value};
use crate::fault::{Fault, Faults, Findings, Origin, Problem};
use crate::host::split_port;
use crate::setting::DEFAULT_PORT;
use crate::sketch::{self, table_in};
use crate::url::Surroundings;
use crate::{files, include, variables};

/// The manual, and the lowest layer.
pub(crate) const DEFAULTS: &str = include_str!("default.toml");

/// Where a configuration comes from.
#[derive(Clone, Debug, Default)]
pub struct LoadInput {
    /// The operator's file; `None` takes the one that `PGHERD_CONFIG` names, or none.
    pub file: Option<PathBuf>,
    /// The environment; `PGHERD_…` are settings, `DATABASE_URL` and libpq's own are for URLs.
    pub env: BTreeMap<String, String>,
    /// The command line.
    pub overrides: Overrides,
}

/// What the command line may say.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Addresses to accept on, parted by commas, with or without ports.
    pub listen: Option<String>,
    /// The port for addresses that have none of their own on the command line.
    pub port: Option<u16>,
    /// Connection strings.
    pub urls: Vec<String>,
}

/// A configuration, and what else there is to tell.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What is odd and yet allowed, by file and line.
    pub warnings: Vec<Fault>,
    /// The files that were read, to be watched.
    pub files: Vec<PathBuf>,
}

impl Config {
    /// Reads a configuration: the defaults, then the file, the environment, the command line.
    ///
    /// # Errors
    /// All that is wrong, at once.
    pub fn load(input: &LoadInput) -> Result<Loaded, Faults> {
        let mut findings = Findings::default();
        let mut seen = Vec::new();
        let mut draft = defaults();
        let file = input.file.clone().or_else(|| {
            input
                .env
                .get(variables::FILE)
                .filter(|it| !it.is_empty())
                .map(PathBuf::from)
        });
        if let Some(file) = file {
            draft::overlay(&mut draft, include::read(&file, &mut seen, &mut findings));
        }
        // A file that is not TOML is missing from the draft, so nothing more can be said of it.
        if !findings.faults.is_empty() {
            return Err(sorted(findings.faults));
        }
        variables::lay(&input.env, &mut draft, &mut findings);
        urls(input, &mut draft, &mut findings);
        addresses(&input.overrides, &mut draft);
        let config = Self::read(&draft, &mut findings);
        if config
            .as_ref()
            .is_some_and(|config| config.databases.is_empty())
            && findings.faults.is_empty()
        {
            let allowed = "a URL on the command line, DATABASE_URL, or [databases.NAME]";
            findings.fault(&Origin::Nowhere, "databases", Problem::Missing, allowed);
        }
        match config.filter(|_| findings.faults.is_empty()) {
            Some(config) => {
                let warnings = sorted(findings.warnings).0;
                Ok(Loaded {
                    config,
                    warnings,
                    files: seen,
                })
            }
            None => Err(sorted(findings.faults)),
        }
    }

    /// Gives the configuration that nobody has said anything about; it has no database.
    pub fn defaults() -> Self {
        let mut findings = Findings::default();
        let config = Self::read(&defaults(), &mut findings);
        config.expect("default.toml is whole: a test reads it")
    }
}

fn defaults() -> Table {
    let mut findings = Findings::default();
    let place = |line| Origin::Default { line };
    let table = draft::parse(DEFAULTS, &place, &mut findings);
    table.expect("default.toml is TOML: a test reads it")
}

fn sorted(mut faults: Vec<Fault>) -> Faults {
    faults.sort_by(|one, other| one.origin.cmp(&other.origin));
    faults.dedup();
    Faults(faults)
}

/// Lays the connection strings over a draft, of the command line or else of the environment.
fn urls(input: &LoadInput, draft: &mut Table, findings: &mut Findings) {
    let strings = &input.overrides.urls;
    let mut given: Vec<(Origin, &str)> = Vec::new();
    for (at, text) in strings.iter().enumerate() {
        let name = if strings.len() == 1 {
            "URL".to_owned()
        } else {
            format!("URL {}", at + 1)
        };
        given.push((Origin::Argument(Arc::from(name)), text));
    }
    let variable = input
        .env
        .get("DATABASE_URL")
        .filter(|text| !text.is_empty());
    if let Some(text) = variable.filter(|_| given.is_empty()) {
        let origin = Origin::Variable(Arc::from("DATABASE_URL"));
        if draft.contains_key("databases") {
            findings.warn(&origin, "", "it is not used, as databases are configured");
        } else {
            given.push((origin, text));
        }
    }
    if given.is_empty() {
        return;
    }
    let pgpass = pgpass(&input.env, findings);
    let home = input
        .env
        .get("HOME")
        .map(|home| Path::new(home).join(".postgresql/root.crt"));
    let root_cert = home.filter(|file| file.is_file());
    let around = Surroundings {
        variables: &input.env,
        pgpass: &pgpass,
        root_cert: root_cert.as_ref(),
    };
    sketch::lay(&given, &around, draft, findings);
}

/// Reads the file of passwords; as in libpq, one that others may read is passed over.
fn pgpass(env: &BTreeMap<String, String>, findings: &mut Findings) -> String {
    let named = env
        .get("PGPASSFILE")
        .filter(|file| !file.is_empty())
        .map(PathBuf::from);
    let own = || env.get("HOME").map(|home| Path::new(home).join(".pgpass"));
    let Some(file) = named.or_else(own).filter(|file| file.is_file()) else {
        return String::new();
    };
    if files::is_open(&file) {
        let origin = Origin::File {
            file: Arc::new(file),
            line: 1,
        };
        findings.warn(
            &origin,
            "",
            "it is not used, as every user of this machine may use it",
        );
        return String::new();
    }
    files::read(&file).unwrap_or_default()
}

/// Lays addresses of the command line over a draft.
fn addresses(overrides: &Overrides, draft: &mut Table) {
    let origin = |name: &str| Origin::Argument(Arc::from(name));
    let default = Origin::Nowhere;
    let listen = table_in(draft, "listen", &default);
    if let Some(text) = &overrides.listen {
        let port = overrides.port.unwrap_or(DEFAULT_PORT);
        let origin = origin("--listen");
        let given = text
            .split(',')
            .map(str::trim)
            .filter(|address| !address.is_empty());
        let given = given.map(|address| match split_port(address) {
            Some((host, None)) => Node::text_at(&origin, with_port(host, port)),
            _ => Node::text_at(&origin, address),
        });
        let value = Value::List(given.collect());
        listen.insert(
            "addresses".to_owned(),
            Node {
                origin: origin.clone(),
                value,
            },
        );
    } else if let Some(port) = overrides.port {
        // A list is changed in place: what is wrong in it is still told of where it stands.
        if let Some(Node {
            value: Value::List(addresses),
            ..
        }) = listen.get_mut("addresses")
        {
            for node in addresses {
                if let Some((host, _)) = node.text().and_then(split_port) {
                    *node = Node::text_at(&node.origin, with_port(host, port));
                }
            }
        } else if let Some(Node {
            origin,
            value: Value::Text(text),
        }) = listen.get_mut("addresses")
            && matches!(origin, Origin::Variable(_))
        {
            let given = text
                .split(',')
                .map(|address| match split_port(address.trim()) {
                    Some((host, _)) => with_port(host, port),
                    None => address.to_owned(),
                });
            *text = given.collect::<Vec<_>>().join(",");
        }
    }
    if let Some(port) = overrides.port.filter(|port| *port > 0) {
        let origin = origin("--port");
        let value = Value::Integer(port.into());
        listen.insert("unix_port".to_owned(), Node { origin, value });
    }
}

fn with_port(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}
