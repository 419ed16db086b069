// What applications do with postgres.js. Usage: postgres_js.mjs DATABASE_URL
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { all, say } from "./said.mjs";

const home = new URL("../../target/drivers/node/", import.meta.url);
const postgres = createRequire(process.env.PGHERD_NODE_DRIVERS ?? home)("postgres");

const url = process.argv[2];
// More connections than the proxy has servers.
const CLIENTS = 6;

// A fault of the driver, also without a proxy (connection.js, nextWrite): from a timer it writes into a socket that
// has just been closed, where nobody can catch it. Whoever waits is told by its close.
process.on("uncaughtException", (error) => {
  if (!(error instanceof TypeError) || !error.stack.includes("nextWrite")) throw error;
});

async function using(use, options = {}) {
  const sql = postgres(url, { max: CLIENTS, onnotice: () => {}, ...options });
  try {
    return await use(sql);
  } finally {
    await sql.end({ timeout: 5 });
  }
}

function together(use) {
  return Promise.all(Array.from({ length: CLIENTS }, (_, me) => use(me)));
}

async function refused(promise) {
  try {
    await promise;
  } catch (error) {
    return error.code ?? error.message;
  }
  throw new Error("no error");
}

await all({
  async values_go_both_ways() {
    await using(async (sql) => {
      const [row] = await sql`
        select ${"ü'\\"}::text t, ${7}::int i, ${"9007199254740993"}::int8 b, ${null}::int n, ${true}::bool l,
          ${Buffer.from([0, 255])}::bytea y, ${[1, 2]}::int[] a, ${["a", 'b"']}::text[] s, ${sql.json({ a: [1] })}::jsonb j,
          ${new Date("2024-02-29T12:00:00Z")}::timestamptz w, ${"2024-02-29"}::date d, '1.10'::numeric m, '3 days'::interval v`;
      say(JSON.stringify(row));
      const [camel] = await sql`select ${[[1, 2], [3, 4]]}::int[][] as deep, ${"x".repeat(2_000_000)}::text as long`;
      say(camel.deep, camel.long.length);
      say(await sql`select ${sql("a")}, ${sql(["b", "c"])} from (values (1, 2, 3)) x (a, b, c)`.then((rows) => [...rows]));
      const [many, more] = await sql`select 1 as a; select 2 as b, 3 as c`.simple();
      say([...many], [...more]);
      say((await sql.unsafe("select $1::int + 1 as n", [4]))[0].n);
    });
  },

  async statements_prepared_by_themselves_over_shared_servers() {
    await using(async (sql) => {
      await sql`create table prep (id int primary key, n int not null)`;
      await sql`insert into prep select i, 0 from generate_series(0, 5) i`;
      say(
        await together(async (me) => {
          for (let turn = 1; turn <= 20; turn++) {
            await sql`update prep set n = n + 1 where id = ${me}`;
            const [{ n }] = await sql`select n from prep where id = ${me}`;
            assert.equal(n, turn);
          }
          return (await sql`select ${me}::int as me`)[0].me;
        }),
      );
      const { statement } = await sql`select n, id from prep where id = ${1}`.describe().then((about) => ({ statement: about }));
      say(statement.types, statement.columns.map(({ name, type }) => [name, type]));
    });
    await using(async (sql) => say((await sql`select ${5}::int as n`)[0].n), { prepare: false });
  },

  async many_rows_and_pipelines() {
    await using(async (sql) => {
      await sql`create table many (n int primary key, t text)`;
      const rows = Array.from({ length: 2000 }, (_, n) => ({ n, t: `row ${n}` }));
      say((await sql`insert into many ${sql(rows)} returning n`).length);
      await sql`update many set t = u.t from (values ${sql(rows.slice(0, 5).map(({ n }) => [n, "new"]))}) as u (n, t) where many.n = u.n::int`;
      say((await sql`select count(*) filter (where t = 'new') as new, sum(n) as sum from many`)[0]);
      // All of these are under way at once, on few connections.
      const asked = await Promise.all(Array.from({ length: 300 }, (_, n) => sql`select t from many where n = ${n + 10}`));
      say(asked.every(([{ t }], n) => t === `row ${n + 10}`));
      const mixed = Array.from({ length: 30 }, (_, n) => sql`select 10 / ${n % 3}::int as q`.then(([{ q }]) => q, ({ code }) => code));
      say((await Promise.all(mixed)).join());
    }, { max: 3 });
  },

  async transactions_and_savepoints() {
    await using(async (sql) => {
      await sql`create table trans (n int unique)`;
      const answer = await sql.begin(async (sql) => {
        await sql`insert into trans values (1)`;
        say(await refused(sql.savepoint(async (sql) => {
          await sql`insert into trans values (2)`;
          await sql`insert into trans values (1)`;
        })));
        await sql.savepoint("named", (sql) => sql`insert into trans values (3)`);
        return sql`select n from trans order by n`;
      });
      say([...answer]);
      say(await refused(sql.begin(async (sql) => {
        await sql`insert into trans values (4)`;
        throw new Error("mine");
      })));
      say(await refused(sql.begin("isolation level serializable read only", (sql) => sql`insert into trans values (5)`)));
      say([...(await sql`select n from trans order by n`)]);
      say(
        await together((me) =>
          sql.begin(async (sql) => {
            await sql`select set_config('app.who', ${String(me)}, true)`;
            await sql`select pg_sleep(0.01)`;
            return (await sql`select current_setting('app.who') as who`)[0].who;
          }),
        ),
      );
    });
  },

  async cursors_and_rows_in_parts() {
    await using(async (sql) => {
      let sum = 0;
      await sql`select n from generate_series(1, ${1000}) n`.cursor(70, (rows) => {
        for (const { n } of rows) sum += n;
      });
      say(sum);
      let parts = 0;
      for await (const rows of sql`select n from generate_series(1, 1000) n`.cursor(100)) {
        parts += rows.length;
        if (parts === 300) break;
      }
      say(parts, (await sql`select 1 as n`)[0].n);
      const seen = [];
      await sql`select n from generate_series(1, 5) n`.forEach(({ n }) => seen.push(n));
      say(seen);
      say((await sql`select n, repeat('x', 1000) as x from generate_series(1, 5000) n`).length);
    });
  },

  async copy_in_and_out() {
    await using(async (sql) => {
      await sql`create table cp (who int, t text)`;
      // Few rows: this driver's streams hang beyond their buffer, also on the server itself.
      for (let me = 0; me < CLIENTS; me++) {
        const lines = Array.from({ length: 500 }, () => `${me}\tsome text\n`);
        await pipeline(Readable.from(lines), await sql`copy cp from stdin`.writable());
        let bytes = 0;
        const out = sql.unsafe(`copy (select t from cp where who = ${me}) to stdout`);
        for await (const block of await out.readable()) bytes += block.length;
        say(bytes, (await sql`select count(*) from cp where who = ${me}`)[0].count);
      }
    });
  },

  async errors_then_on() {
    await using(async (sql) => {
      for (const wrong of ["select 1/0", "selekt", "select * from nowhere", "select 'x'::int"]) say(await refused(sql.unsafe(wrong)));
      say(await refused(sql`select ${"x"}::int`), (await sql`select ${3}::int as n`)[0].n);
    }, { max: 1 });
  },

  async cancel_and_timeouts() {
    await using(async (sql) => {
      const running = sql`select pg_sleep(20)`.execute();
      setTimeout(() => running.cancel(), 300);
      say(await refused(running), (await sql`select 2 as n`)[0].n);
    });
    await using(async (sql) => {
      say(await refused(sql`select pg_sleep(20)`), (await sql`show statement_timeout`)[0].statement_timeout);
    }, { connection: { statement_timeout: 150, application_name: "patient" }, max: 2 });
    await using(async (sql) => say((await sql`show statement_timeout`)[0].statement_timeout));
  },

  async notifications() {
    await using(async (sql) => {
      const heard = [];
      let done;
      const whole = new Promise((resolve) => (done = resolve));
      const { unlisten } = await sql.listen("news", (payload) => {
        heard.push(payload);
        if (heard.length === 3) done();
      });
      await sql.notify("news", "first");
      await sql.begin(async (sql) => {
        await sql`select pg_notify('news', ${"second"})`;
        await sql`notify other, 'unheard'`;
      });
      await refused(sql.begin(async (sql) => {
        await sql`notify news, 'undone'`;
        throw new Error("mine");
      }));
      await sql`select pg_notify('news', ${"third"})`;
      await whole;
      await unlisten();
      say(heard);
    });
  },

  async work_goes_on_after_the_server_was_lost() {
    await using(async (sql) => {
      await sql`create table lost (n int)`;
      const code = await refused(
        sql.begin(async (block) => {
          await block`insert into lost values (1)`;
          const [{ pid }] = await block`select pg_backend_pid() as pid`;
          await sql`select pg_terminate_backend(${pid}, 5000) as gone`;
          await block`insert into lost values (2)`;
        }),
      );
      assert.ok(["57P01", "40001", "CONNECTION_CLOSED", "CONNECTION_DESTROYED"].includes(code), code);
      await sql`insert into lost values (3)`;
      say([...(await sql`select n from lost`)]);
    });
  },
});
