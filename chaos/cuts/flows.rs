//! All conversations that are cut.

use super::flow::{Flow, Kind, Script, Until};
use super::relay::Target;
use crate::hostile::packet;

/// How large what is called large is, in bytes.
const LARGE: usize = 100_000;

/// A flow in which the connection in use is cut.
const fn flow(name: &'static str, script: fn(&str) -> Script) -> Flow {
    Flow {
        name,
        server: Target::Live,
        client: Target::Live,
        ordered: true,
        script,
    }
}

/// Every flow.
pub(super) const ALL: &[Flow] = &[
    Flow {
        server: Target::New,
        client: Target::New,
        ..flow("login", login)
    },
    flow("select", select),
    flow("insert", insert),
    flow("several", several),
    flow("block", block),
    flow("rollback", rollback),
    flow("savepoint", savepoint),
    flow("begin-idle", begin_idle),
    flow("begin-write-idle", begin_write_idle),
    flow("extended-select", extended_select),
    flow("extended-insert", extended_insert),
    flow("extended-block", extended_block),
    flow("named", named),
    flow("pipeline", pipeline),
    flow("pipeline-error", pipeline_error),
    flow("portals", portals),
    flow("portals-block", portals_block),
    flow("copy-in", copy_in),
    flow("copy-in-extended", copy_in_extended),
    flow("copy-out", copy_out),
    flow("set", set),
    flow("sql-prepare", sql_prepare),
    flow("call", call),
    flow("large-row", large_row),
    flow("large-parameter", large_parameter),
    flow("bound", bound),
    Flow {
        ordered: false,
        ..flow("listen", listen)
    },
    Flow {
        server: Target::New,
        ordered: false,
        ..flow("listener", listen)
    },
    Flow {
        server: Target::Cancel,
        client: Target::Cancel,
        ..flow("cancel", cancel)
    },
    flow("cancelled", cancel),
];

fn query(text: &str) -> Vec<u8> {
    packet::query(text)
}

fn row(id: &str, part: u32) -> String {
    format!("insert into herd (id, part) values ({id}, {part})")
}

/// Parse, Bind, Describe, Execute and Sync by the unnamed statement.
fn extended(text: &str) -> Vec<u8> {
    [prepared(text), packet::sync()].concat()
}

fn prepared(text: &str) -> Vec<u8> {
    [
        packet::parse("", text),
        packet::bind_values("", "", &[]),
        packet::describe(""),
        packet::execute(),
    ]
    .concat()
}

fn login(id: &str) -> Script {
    Script::default().ask(Kind::Login, query(&format!("select {id}")))
}

fn select(id: &str) -> Script {
    Script::default().ask(Kind::Read, query(&format!("select {id}")))
}

fn insert(id: &str) -> Script {
    Script::default()
        .ask(Kind::Write, query(&row(id, 0)))
        .commits(0, 0)
}

fn several(id: &str) -> Script {
    let text = format!("{}; {}; select {id}", row(id, 0), row(id, 1));
    Script::default()
        .ask(Kind::Write, query(&text))
        .commits(0, 0)
        .commits(1, 0)
}

fn block(id: &str) -> Script {
    Script::default()
        .ask(Kind::Begin, query("begin"))
        .ask(Kind::Inside, query(&row(id, 0)))
        .ask(Kind::Inside, query(&row(id, 1)))
        .ask(Kind::Commit, query("commit"))
        .commits(0, 0)
        .commits(1, 0)
}

fn rollback(id: &str) -> Script {
    Script::default()
        .ask(Kind::Begin, query("begin"))
        .ask(Kind::Inside, query(&row(id, 0)))
        .ask(Kind::Rollback, query("rollback"))
        .forgets(0)
}

fn savepoint(id: &str) -> Script {
    Script::default()
        .ask(Kind::Begin, query("begin"))
        .ask(Kind::Inside, query(&row(id, 0)))
        .ask(Kind::Inside, query("savepoint s"))
        .ask(Kind::Inside, query(&row(id, 1)))
        .ask(Kind::Inside, query("rollback to savepoint s"))
        .ask(Kind::Commit, query("commit"))
        .commits(0, 0)
        .forgets(1)
}

fn begin_idle(id: &str) -> Script {
    Script::default()
        .ask(Kind::Begin, query("begin"))
        .ask(Kind::Inside, query(&format!("select {id}")))
        .ask(Kind::Commit, query("commit"))
}

/// A BEGIN that goes to the server at once.
fn begin_write_idle(id: &str) -> Script {
    let begin = format!("begin; {}", row(id, 0));
    Script::default()
        .ask(Kind::Begin, query(&begin))
        .ask(Kind::Commit, query("commit"))
        .commits(0, 0)
}

fn extended_select(id: &str) -> Script {
    Script::default().ask(Kind::Read, extended(&format!("select {id}")))
}

fn extended_insert(id: &str) -> Script {
    let text = "insert into herd (id, part) values ($1, $2)";
    let asked = [
        packet::parse("", text),
        packet::bind_values("", "", &[id, "0"]),
        packet::describe(""),
        packet::execute(),
        packet::sync(),
    ];
    Script::default()
        .ask(Kind::Write, asked.concat())
        .commits(0, 0)
}

fn extended_block(id: &str) -> Script {
    Script::default()
        .ask(Kind::Begin, extended("begin"))
        .ask(Kind::Inside, extended(&row(id, 0)))
        .ask(Kind::Commit, extended("commit"))
        .commits(0, 0)
}

fn named(id: &str) -> Script {
    let text = "insert into herd (id, part) values ($1, $2)";
    let prepare = [packet::parse("kept", text), packet::sync()].concat();
    let write = |part| {
        [
            packet::bind_values("", "kept", &[id, part]),
            packet::execute(),
            packet::sync(),
        ]
        .concat()
    };
    let mut script = Script::default()
        .ask(Kind::Write, write("0"))
        .commits(0, 0)
        .ask(Kind::Write, write("1"))
        .commits(1, 0);
    script.before.push(prepare);
    script
}

fn pipeline(id: &str) -> Script {
    let asked = [0, 1, 2].map(|part| extended(&row(id, part)));
    Script::default()
        .wait(Kind::Write, asked.concat(), Until::Ready(3))
        .commits(0, 0)
        .commits(1, 1)
        .commits(2, 2)
}

fn pipeline_error(id: &str) -> Script {
    let asked = [
        prepared(&row(id, 0)),
        extended("select 1/0"),
        extended(&row(id, 1)),
    ];
    Script::default()
        .wait(Kind::Write, asked.concat(), Until::Ready(2))
        .errs(&["22012"])
        .forgets(0)
        .commits(1, 1)
}

fn portals(id: &str) -> Script {
    let asked = [
        packet::parse("", &format!("select generate_series(1, 5), {id}")),
        packet::bind_values("p", "", &[]),
        packet::execute_some("p", 2),
        packet::execute_some("p", 2),
        packet::execute_some("p", 0),
        packet::sync(),
    ];
    Script::default().ask(Kind::Read, asked.concat())
}

fn portals_block(id: &str) -> Script {
    let first = [
        packet::parse("", &format!("select generate_series(1, 4), {id}")),
        packet::bind_values("p", "", &[]),
        packet::execute_some("p", 2),
        packet::sync(),
    ];
    let second = [packet::execute_some("p", 0), packet::sync()];
    Script::default()
        .ask(Kind::Begin, query("begin"))
        .ask(Kind::Inside, first.concat())
        .ask(Kind::Inside, second.concat())
        .ask(Kind::Commit, query("commit"))
}

fn data(id: &str, part: u32) -> Vec<u8> {
    packet::message(b'd', format!("{id}\t{part}\n").as_bytes())
}

const COPY: &str = "copy herd (id, part) from stdin";

fn copy_in(id: &str) -> Script {
    let rows = [data(id, 0), data(id, 1), packet::message(b'c', &[])];
    Script::default()
        .wait(Kind::Write, query(COPY), Until::Copy)
        .ask(Kind::Write, rows.concat())
        .commits(0, 0)
        .commits(1, 0)
}

fn copy_in_extended(id: &str) -> Script {
    let begin = [
        packet::parse("", COPY),
        packet::bind_values("", "", &[]),
        packet::execute(),
    ];
    let rows = [data(id, 0), packet::message(b'c', &[]), packet::sync()];
    Script::default()
        .wait(
            Kind::Write,
            [begin.concat(), packet::message(b'H', &[])].concat(),
            Until::Copy,
        )
        .ask(Kind::Write, rows.concat())
        .commits(0, 0)
}

fn copy_out(id: &str) -> Script {
    let text = format!("copy (select {id} from generate_series(1, 5)) to stdout");
    Script::default().ask(Kind::Read, query(&text))
}

fn set(id: &str) -> Script {
    Script::default()
        .ask(Kind::Unclear, query("set work_mem = '3MB'"))
        .ask(
            Kind::Read,
            query(&format!("select current_setting('work_mem'), {id}")),
        )
        .ask(Kind::Unclear, query("set timezone = 'Asia/Kolkata'"))
        .ask(
            Kind::Read,
            query(&format!("select current_setting('timezone'), {id}")),
        )
}

fn sql_prepare(id: &str) -> Script {
    Script::default()
        .ask(
            Kind::Unclear,
            query(&format!("prepare kept as {}", row(id, 0))),
        )
        .ask(Kind::Write, query("execute kept"))
        .commits(0, 0)
}

/// `int4pl`, by its number in the catalogue.
const PLUS: u32 = 177;

fn call(id: &str) -> Script {
    Script::default().ask(Kind::Unclear, packet::call(PLUS, &[id, "0"]))
}

fn large_row(id: &str) -> Script {
    let text = format!("select repeat('{id}', {})", LARGE / id.len());
    Script::default().ask(Kind::Read, query(&text))
}

fn large_parameter(id: &str) -> Script {
    let text = "insert into herd (id, part, note) values ($1, $2, $3)";
    let note = "x".repeat(LARGE);
    let asked = [
        packet::parse("", text),
        packet::bind_values("", "", &[id, "0", &note]),
        packet::execute(),
        packet::sync(),
    ];
    Script::default()
        .ask(Kind::Write, asked.concat())
        .commits(0, 0)
}

fn bound(id: &str) -> Script {
    let lock = query(&format!("select pg_advisory_lock({id})"));
    Script::default()
        .ask(Kind::Bound, lock)
        .ask(Kind::Bound, query(&row(id, 0)))
        .commits(0, 0)
}

fn listen(id: &str) -> Script {
    Script::default()
        .ask(Kind::Listen, query(&format!("listen c{id}")))
        .ask(Kind::Listen, query(&format!("notify c{id}, 'word'")))
        .wait(Kind::Notified, Vec::new(), Until::Notified)
}

fn cancel(id: &str) -> Script {
    let text = format!("select {id} from pg_sleep(0.3)");
    Script::default().ask(Kind::Cancelled, query(&text))
}
