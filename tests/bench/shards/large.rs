//! Many rows over shards: sorted on the way out, and told apart on the way in.

use std::time::{Duration, Instant};

use pgherd_sandbox::Server;
use serde::Serialize;

use super::{COUNT, DATABASE, Herd};
use crate::args::Args;
use crate::error::Error;
use crate::sample::median;
use crate::usage;

/// The names of the cells.
pub(super) const SORT: &str = "sharded sort";
pub(super) const COPY: &str = "sharded copy";

/// What both need; `placed` knows where a key belongs.
pub(super) const TABLES: &str = "
    create unlogged table flock (id bigint not null, n bigint not null);
    create unlogged table flock_in (id bigint not null, line text not null);
    create table placed (id bigint) partition by hash (id);
";

/// About so many bytes are sent in one message of COPY.
const PIECE: usize = 16 * 1024;

/// The text of each row that is copied.
const LINE: &str = "a flock of sheep is counted by those who cannot sleep at night, it is said";

/// What the proxy may have in memory while it sorts, in bytes.
const MEMORY_MAX: u64 = 200 * 1024 * 1024;

/// Rows that were copied into one server, and through pgherd into the shards.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Rate {
    rows: u64,
    /// Rows a second into one server.
    direct: f64,
    /// Rows a second through pgherd.
    pgherd: f64,
    /// Rows for a second of the proxy's CPU time.
    per_cpu: f64,
}

impl Rate {
    /// What stands above [`Self::line`].
    pub(super) const HEAD: &str = "      rows    direct/s    pgherd/s   per proxy CPU second";

    pub(super) fn of(rows: u64, direct: Duration, pgherd: Duration, cpu: Duration) -> Self {
        let rate = |time: Duration| rows as f64 / time.as_secs_f64();
        Self {
            rows,
            direct: rate(direct),
            pgherd: rate(pgherd),
            // It is counted in steps of 10 ms.
            per_cpu: rate(cpu.max(Duration::from_millis(10))),
        }
    }

    pub(super) fn line(&self) -> String {
        let Self {
            rows,
            direct,
            pgherd,
            per_cpu,
        } = self;
        format!("{rows:>10} {direct:>11.0} {pgherd:>11.0} {per_cpu:>24.0}")
    }
}

/// What sorting gave.
#[derive(Debug, Serialize)]
pub(super) struct Sorted {
    rows: u64,
    seconds: f64,
    /// CPU seconds of the proxy.
    cpu: f64,
    /// The most memory that the proxy had, in bytes.
    memory: u64,
}

/// What copying gave: the medians.
#[derive(Debug, Serialize)]
pub(super) struct Copied {
    rate: Rate,
}

impl Sorted {
    pub(super) fn text(&self) -> String {
        let verdict = if self.memory < MEMORY_MAX {
            ""
        } else {
            ", TOO MUCH"
        };
        format!(
            "{SORT}: {} rows by ORDER BY over {COUNT} shards in {:.1} s ({:.0} rows/s), \
             {:.1} CPU seconds of the proxy, at most {:.1} MB of memory{verdict}\n",
            self.rows,
            self.seconds,
            self.rows as f64 / self.seconds,
            self.cpu,
            self.memory as f64 / (1024.0 * 1024.0),
        )
    }
}

impl Copied {
    pub(super) fn text(&self) -> String {
        format!(
            "{COPY} from stdin, over {COUNT} shards:\n{}\n{}\n",
            Rate::HEAD,
            self.rate.line()
        )
    }
}

/// Lines put together for the messages of a COPY, and how many there are.
pub(super) fn pieces(lines: impl Iterator<Item = String>) -> (u64, Vec<String>) {
    let mut count = 0;
    let mut pieces: Vec<String> = Vec::new();
    let mut piece = String::new();
    for line in lines {
        count += 1;
        piece.push_str(&line);
        if piece.len() >= PIECE {
            pieces.push(std::mem::take(&mut piece));
        }
    }
    if !piece.is_empty() {
        pieces.push(piece);
    }
    (count, pieces)
}

/// Reads all rows of all shards in one order.
pub(super) async fn sort(herd: &Herd, args: &Args) -> Result<Sorted, Error> {
    let rows = args.sorted_rows();
    eprintln!("{SORT}, {rows} rows ...");
    let [zero, one, two, three] = &herd.shards;
    tokio::try_join!(
        fill(zero, 0, rows),
        fill(one, 1, rows),
        fill(two, 2, rows),
        fill(three, 3, rows)
    )?;
    let mut client = herd.spread().await?;
    usage::forget_peak(herd.pid())?;
    let (begin, before) = (Instant::now(), usage::cpu(herd.pid())?);
    let found = client
        .ascending("select n, id from flock order by n")
        .await?;
    let seconds = begin.elapsed().as_secs_f64();
    let cpu = usage::cpu(herd.pid())?.saturating_sub(before);
    if found != rows {
        return Err(Error::Unexpected {
            what: "the number of rows",
            text: found.to_string(),
        });
    }
    let memory = usage::peak(herd.pid())?;
    for shard in &herd.shards {
        shard.sql_in(DATABASE, "truncate flock").await?;
    }
    Ok(Sorted {
        rows,
        seconds,
        cpu: cpu.as_secs_f64(),
        memory,
    })
}

/// Makes the rows that belong on a shard, in an order that is not theirs.
async fn fill(shard: &Server, number: usize, rows: u64) -> Result<(), Error> {
    let insert = format!(
        "insert into flock select id, id * 2654435761 % 4294967296 from generate_series(1::bigint, {rows}) id \
         where satisfies_hash_partition('placed'::regclass, {COUNT}, {number}, id); analyze flock"
    );
    shard.sql_in(DATABASE, &insert).await?;
    Ok(())
}

/// Copies rows into one server and into the shards, in turn.
pub(super) async fn copy(herd: &Herd, args: &Args) -> Result<Copied, Error> {
    eprintln!("{COPY}, {} rows ...", args.rows());
    let (rows, pieces) = pieces((1..=args.rows()).map(|id| format!("{id}\t{LINE}\n")));
    let mut rates = Vec::new();
    for _ in 0..args.rounds() {
        herd.everywhere("truncate flock_in").await?;
        rates.push(once(herd, rows, &pieces).await?);
    }
    let middle = |pick: fn(&Rate) -> f64| median(rates.iter().map(pick)).unwrap_or_default();
    Ok(Copied {
        rate: Rate {
            rows,
            direct: middle(|rate| rate.direct),
            pgherd: middle(|rate| rate.pgherd),
            per_cpu: middle(|rate| rate.per_cpu),
        },
    })
}

async fn once(herd: &Herd, rows: u64, pieces: &[String]) -> Result<Rate, Error> {
    let query = "copy flock_in from stdin";
    let mut client = herd.direct().await?;
    let begin = Instant::now();
    client.copy_pieces(query, pieces).await?;
    let direct = begin.elapsed();
    let mut client = herd.spread().await?;
    let (begin, before) = (Instant::now(), usage::cpu(herd.pid())?);
    client.copy_pieces(query, pieces).await?;
    let cpu = usage::cpu(herd.pid())?.saturating_sub(before);
    let rate = Rate::of(rows, direct, begin.elapsed(), cpu);
    let count = client
        .answer("select count(*) from flock_in")
        .await?
        .lines();
    if count != rows.to_string() {
        return Err(Error::Unexpected {
            what: "the number of rows",
            text: count,
        });
    }
    Ok(rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_have_whole_lines() {
        let line = "x".repeat(PIECE / 2 - 1) + "\n";
        let (count, pieces) = pieces(std::iter::repeat_n(line, 5));
        assert_eq!((count, pieces.len()), (5, 3));
        assert!(pieces.iter().all(|piece| piece.ends_with('\n')));
    }

    #[test]
    fn rates_are_by_wall_and_by_the_proxys_time() {
        let second = Duration::from_secs(1);
        let rate = Rate::of(1000, second, second * 2, second / 4);
        assert_eq!(
            (rate.direct, rate.pgherd, rate.per_cpu),
            (1000.0, 500.0, 4000.0)
        );
    }
}
