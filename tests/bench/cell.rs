/// One line of the comparison: a workload under a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    /// What the user reads, and `--only` searches.
    pub(crate) name: String,
    /// How clients and proxies log in.
    pub(crate) setting: Setting,
    /// What is done.
    pub(crate) work: Work,
}

/// How clients, proxies and the server talk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    /// In clear, everyone trusted.
    Plain,
    /// In clear, SCRAM on both legs.
    Scram,
    /// TLS on both legs, everyone trusted.
    Tls,
    /// In clear, everyone trusted; once before one database, and once before two that are its shards.
    Sharded,
}

/// What is done in a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// pgbench, for a time.
    Pgbench(Pgbench),
    /// One bulk transfer.
    Bulk(Bulk),
}

/// A run of pgbench.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pgbench {
    /// The script.
    pub(crate) script: Script,
    /// The query protocol.
    pub(crate) protocol: Protocol,
    /// How many clients.
    pub(crate) clients: usize,
    /// How long a client's connection lives.
    pub(crate) connection: Connection,
}

/// pgbench's built-in scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Script {
    /// One row by its key.
    Select,
    /// Five statements in a transaction, of which four write.
    TpcB,
}

/// pgbench's query protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// The text of each statement.
    Simple,
    /// Parse, Bind and Execute for each statement.
    Extended,
    /// Parse once, then Bind and Execute.
    Prepared,
}

/// How long a client's connection lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Connection {
    /// As long as the client.
    Kept,
    /// A transaction.
    Anew,
}

/// A bulk transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bulk {
    /// All rows of a table by a simple query.
    Select,
    /// All rows by COPY TO STDOUT.
    CopyOut,
    /// As many rows by COPY FROM STDIN.
    CopyIn,
}

impl Protocol {
    /// The word after pgbench's `--protocol`.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Extended => "extended",
            Self::Prepared => "prepared",
        }
    }
}

/// Lists all cells but the idle one; those of one setting follow each other.
pub(crate) fn all() -> Vec<Cell> {
    let kept = |script, protocol, clients| {
        Work::Pgbench(Pgbench {
            script,
            protocol,
            clients,
            connection: Connection::Kept,
        })
    };
    let mut cells = Vec::new();
    let mut add = |name: String, setting, work| {
        cells.push(Cell {
            name,
            setting,
            work,
        });
    };
    for protocol in [Protocol::Simple, Protocol::Extended, Protocol::Prepared] {
        for clients in [1, 16, 64, 256] {
            let name = format!("select {} {clients}", protocol.word());
            let work = kept(Script::Select, protocol, clients);
            add(name, Setting::Plain, work);
        }
    }
    let tpcb = kept(Script::TpcB, Protocol::Simple, 16);
    add("tpcb simple 16".to_owned(), Setting::Plain, tpcb);
    for (name, bulk) in [
        ("bulk select", Bulk::Select),
        ("bulk copy out", Bulk::CopyOut),
        ("bulk copy in", Bulk::CopyIn),
    ] {
        add(name.to_owned(), Setting::Plain, Work::Bulk(bulk));
    }
    let reconnect = Work::Pgbench(Pgbench {
        script: Script::Select,
        protocol: Protocol::Simple,
        clients: 16,
        connection: Connection::Anew,
    });
    add("reconnect scram 16".to_owned(), Setting::Scram, reconnect);
    for clients in [16, 64] {
        let work = kept(Script::Select, Protocol::Simple, clients);
        add(format!("select tls {clients}"), Setting::Tls, work);
    }
    for (protocol, clients) in [
        (Protocol::Simple, 16),
        (Protocol::Extended, 16),
        (Protocol::Extended, 64),
        (Protocol::Prepared, 16),
    ] {
        let name = format!("one shard {} {clients}", protocol.word());
        let work = kept(Script::Select, protocol, clients);
        add(name, Setting::Sharded, work);
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_settings_together() {
        let cells = all();
        let mut names: Vec<_> = cells.iter().map(|cell| &cell.name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), cells.len());
        let mut settings: Vec<_> = cells.iter().map(|cell| cell.setting).collect();
        settings.dedup();
        let all = [
            Setting::Plain,
            Setting::Scram,
            Setting::Tls,
            Setting::Sharded,
        ];
        assert_eq!(settings, all);
    }
}
