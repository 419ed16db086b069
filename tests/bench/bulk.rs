use std::time::{Duration, Instant};

use pgherd_sandbox::Server;

use crate::cell::Bulk;
use crate::client::Client;
use crate::error::Error;
use crate::target::Door;

/// Rows in one message of COPY FROM STDIN: about 8 kB, as libpq's users send.
const BLOCK: u8 = 100;

/// The text of each row.
const LINE: &str = "a flock of sheep is counted by those who cannot sleep at night, it is said";

/// Makes the tables of the bulk cells.
pub(crate) async fn prepare(server: &Server, database: &str, rows: u64) -> Result<(), Error> {
    let statements = format!(
        "create table bulk_out as select n, '{LINE}'::text as line from generate_series(1, {rows}) n;\n\
         create unlogged table bulk_in (n int, line text);\n\
         vacuum (analyze, freeze) bulk_out;"
    );
    server.sql_in(database, &statements).await?;
    Ok(())
}

/// What a time full of transfers gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Outcome {
    /// Rows carried.
    pub(crate) rows: u64,
    /// Rows a second, without what lies between two transfers.
    pub(crate) rate: f64,
}

/// Carries the rows through a door, again and again for about `duration`, at least once.
pub(crate) async fn run(
    server: &Server,
    door: &Door,
    bulk: Bulk,
    rows: u64,
    duration: Duration,
) -> Result<Outcome, Error> {
    let mut client = Client::connect(door.port, &door.user, &door.database, 256 * 1024).await?;
    let block = format!("7\t{LINE}\n").repeat(usize::from(BLOCK));
    let blocks = rows.div_ceil(u64::from(BLOCK));
    let (mut carried, mut took) = (0, Duration::ZERO);
    while took < duration {
        if bulk == Bulk::CopyIn {
            server.sql_in(&door.database, "truncate bulk_in").await?;
        }
        let begin = Instant::now();
        let count = match bulk {
            Bulk::Select => client.count("select * from bulk_out").await?,
            Bulk::CopyOut => client.count("copy bulk_out to stdout").await?,
            Bulk::CopyIn => {
                let query = "copy bulk_in from stdin";
                client.copy_in(query, block.as_bytes(), blocks).await?;
                blocks * u64::from(BLOCK)
            }
        };
        took += begin.elapsed();
        carried += count;
        if count < rows {
            return Err(Error::Unexpected {
                what: "the number of rows",
                text: count.to_string(),
            });
        }
    }
    Ok(Outcome {
        rows: carried,
        rate: carried as f64 / took.as_secs_f64(),
    })
}
