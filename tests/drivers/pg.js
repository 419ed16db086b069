// What applications do with node's `pg`, with cursors and COPY streams. Usage: pg.js DATABASE_URL
"use strict";

const assert = require("node:assert/strict");
const { once } = require("node:events");
const { createRequire } = require("node:module");
const path = require("node:path");
const { pipeline } = require("node:stream/promises");
const { Readable } = require("node:stream");

// The drivers lie where `.ci/prepare` put them, not beside this file.
const home = path.join(__dirname, "../../target/drivers/node/");
const load = createRequire(process.env.PGHERD_NODE_DRIVERS ?? home);
const { Client, Pool } = load("pg");
const Cursor = load("pg-cursor");
const copy = load("pg-copy-streams");

const [url, ...chosen] = process.argv.slice(2);
// A check that takes longer hangs.
const PATIENCE = 25_000;
// More clients than the proxy has servers.
const CLIENTS = 6;

async function withClient(use, options = {}) {
  const client = new Client({ connectionString: url, ...options });
  await client.connect();
  try {
    return await use(client);
  } finally {
    await client.end();
  }
}

function together(use, count = CLIENTS) {
  return Promise.all(Array.from({ length: count }, (_, me) => withClient((client) => use(client, me))));
}

async function value(client, text, values) {
  const { rows } = await client.query({ text, values, rowMode: "array" });
  return rows[0][0];
}

function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

const checks = {
  async values_go_both_ways() {
    await withClient(async (client) => {
      const values = ["ü'\\", 42, "9007199254740993", true, null, Buffer.from([0, 255]), [1, 2], { a: 1 }];
      const text =
        "select $1::text a, $2::int b, $3::int8 c, $4::bool d, $5::int e, $6::bytea f, $7::int[] g, $8::jsonb h";
      const { rows, fields } = await client.query(text, values);
      assert.deepEqual(Object.values(rows[0]), values);
      assert.equal(fields[0].name, "a");
      const many = await client.query("select 1 as a; select 2 as b; select 3 where false");
      assert.deepEqual(many.map((one) => one.rowCount), [1, 1, 0]);
      assert.equal((await client.query("")).rowCount, null);
      assert.equal((await value(client, "select repeat('x', 3000000)")).length, 3_000_000);
      assert.equal(await value(client, "select length($1)", ["y".repeat(3_000_000)]), 3_000_000);
    });
  },

  async queries_one_after_another_without_waiting() {
    await together(async (client, me) => {
      const all = Array.from({ length: 50 }, (_, n) => value(client, "select $1::int", [me * 1000 + n]));
      assert.deepEqual(await Promise.all(all), Array.from({ length: 50 }, (_, n) => me * 1000 + n));
    });
  },

  async named_statements_over_shared_servers() {
    await withClient((client) =>
      client.query("create table named (id int primary key, n int); insert into named select i, 0 from generate_series(0, 5) i"),
    );
    await together(async (client, me) => {
      for (let turn = 1; turn <= 30; turn++) {
        await client.query("begin");
        await client.query({ name: "add", text: "update named set n = n + 1 where id = $1", values: [me] });
        // All clients have a statement of this name, each with another text.
        const own = { name: "own", text: `select n, ${me} as me from named where id = $1`, values: [me] };
        assert.deepEqual((await client.query(own)).rows, [{ n: turn, me }]);
        await client.query("commit");
      }
      await assert.rejects(client.query({ name: "own", text: "select 1" }), /must be unique/);
    });
  },

  async transactions_and_savepoints() {
    await withClient(async (client) => {
      await client.query("create table trans (n int unique)");
      await client.query("begin isolation level serializable");
      assert.equal(await value(client, "show transaction_isolation"), "serializable");
      await client.query("insert into trans values (1)");
      await client.query("savepoint here");
      await assert.rejects(client.query("insert into trans values ($1)", [1]), { code: "23505", constraint: "trans_n_key" });
      await assert.rejects(client.query("select 1"), { code: "25P02" });
      await client.query("rollback to here");
      await client.query("insert into trans values (2)");
      await client.query("commit");
      await client.query("begin");
      await client.query("delete from trans");
      await client.query("rollback");
      assert.equal(Number(await value(client, "select count(*) from trans")), 2);
    });
  },

  async errors_then_continue() {
    await withClient(async (client) => {
      for (let turn = 0; turn < 3; turn++) {
        await assert.rejects(client.query("select 1/$1::int", [0]), { code: "22012" });
        await assert.rejects(client.query("selekt"), { code: "42601", position: "1" });
        await assert.rejects(client.query("select 1; select 1/0; select 3"), { code: "22012" });
        await assert.rejects(client.query({ name: "wrong", text: "select * from nowhere" }), { code: "42P01" });
        await assert.rejects(client.query("select $1::int", ["x"]), { code: "22P02" });
        assert.equal(await value(client, "select $1::int", [turn]), turn);
      }
      const all = await Promise.allSettled([
        client.query("select 1"),
        client.query("select 1/$1::int", [0]),
        client.query("select $1::int", [3]),
      ]);
      assert.deepEqual(all.map((one) => one.status), ["fulfilled", "rejected", "fulfilled"]);
    });
  },

  async pool_of_clients() {
    const pool = new Pool({ connectionString: url, max: 8, idleTimeoutMillis: 50 });
    pool.on("error", (error) => assert.fail(error));
    const answers = await Promise.all(
      Array.from({ length: 100 }, (_, n) => pool.query("select $1::int as n, pg_sleep(0.001)", [n])),
    );
    assert.deepEqual(answers.map(({ rows }) => rows[0].n), Array.from({ length: 100 }, (_, n) => n));
    const client = await pool.connect();
    await client.query("select 1");
    client.release(true);
    await pause(100);
    assert.equal((await pool.query("select 1 as n")).rows[0].n, 1);
    await pool.end();
  },

  async cursors_read_in_parts() {
    await together(async (client, me) => {
      await client.query("begin");
      const cursor = client.query(new Cursor("select n from generate_series($1::int, $1 + 249) n", [me]));
      const seen = [];
      for (let rows; (rows = await cursor.read(100)).length > 0; ) seen.push(...rows.map((row) => row.n));
      assert.deepEqual(seen, Array.from({ length: 250 }, (_, n) => n + me));
      await cursor.close();
      await client.query("declare own cursor for select generate_series(1, 9) n");
      assert.equal((await client.query("fetch 4 from own")).rows.length, 4);
      await client.query("commit");
      // Without a transaction, and left before its end.
      const short = client.query(new Cursor("select generate_series(1, 1000) n"));
      assert.equal((await short.read(10)).length, 10);
      await short.close();
      assert.equal(await value(client, "select $1::int", [me]), me);
    });
  },

  async copy_in_and_out() {
    await withClient((client) => client.query("create table cp (who int, t text)"));
    await together(async (client, me) => {
      const lines = Array.from({ length: 5000 }, (_, n) => `${me}\trow ${n}\n`);
      const sink = client.query(copy.from("copy cp from stdin"));
      await pipeline(Readable.from(lines), sink);
      assert.equal(sink.rowCount, 5000);
      let bytes = 0;
      for await (const block of client.query(copy.to(`copy (select t from cp where who = ${me}) to stdout`))) bytes += block.length;
      assert.equal(bytes, lines.join("").length - 5000 * 2);
      const bad = client.query(copy.from("copy cp from stdin"));
      await assert.rejects(pipeline(Readable.from(["x\ty\n"]), bad), { code: "22P02" });
      assert.equal(Number(await value(client, "select count(*) from cp where who = $1", [me])), 5000);
    });
  },

  async cancel_of_a_running_query() {
    await withClient(async (client) => {
      for (let turn = 0; turn < 3; turn++) {
        const running = client.query("select pg_sleep(20)");
        const refused = assert.rejects(running, { code: "57014" });
        await pause(400);
        const killer = new Client({ connectionString: url });
        killer.connection.on("error", () => {});
        killer.cancel(client, client._getActiveQuery?.() ?? client.activeQuery);
        await refused;
        assert.equal(await value(client, "select $1::int", [turn]), turn);
      }
    });
  },

  async timeouts() {
    await withClient(
      async (client) => {
        await assert.rejects(client.query("select pg_sleep(20)"), { code: "57014", message: /statement timeout/ });
        assert.equal(await value(client, "show statement_timeout"), "200ms");
      },
      { statement_timeout: 200 },
    );
    await withClient(async (client) => {
      assert.equal(await value(client, "show statement_timeout"), "0");
    });
  },

  async notifications() {
    await withClient(async (ear) => {
      await withClient(async (mouth) => {
        await ear.query("listen news");
        const heard = [];
        ear.on("notification", ({ channel, payload }) => heard.push([channel, payload]));
        const first = once(ear, "notification");
        await mouth.query("select pg_notify('news', $1)", ["first"]);
        await first;
        assert.equal(await value(ear, "select 5"), 5);
        const second = once(ear, "notification");
        await mouth.query("begin; notify news, 'second'; commit");
        await second;
        assert.deepEqual(heard, [["news", "first"], ["news", "second"]]);
        await ear.query("unlisten *");
        await mouth.query("notify news, 'third'");
        await value(ear, "select 1");
        assert.equal(heard.length, 2);
      });
    });
  },

  async settings_stay_with_their_client() {
    await Promise.all(
      Array.from({ length: CLIENTS }, (_, me) =>
        withClient(
          async (client) => {
            await client.query(`set search_path to s${me}, public; set work_mem to '${100 + me}kB'`);
            for (let turn = 0; turn < 15; turn++) {
              assert.equal(await value(client, "show application_name"), `app ${me}`);
              assert.equal(await value(client, "show search_path"), `s${me}, public`);
              assert.equal(await value(client, "show work_mem"), `${100 + me}kB`);
              assert.equal(await value(client, "show geqo"), me % 2 ? "on" : "off");
            }
            await client.query("reset work_mem");
            assert.notEqual(await value(client, "show work_mem"), `${100 + me}kB`);
          },
          { application_name: `app ${me}`, options: me % 2 ? undefined : "-c geqo=off" },
        ),
      ),
    );
  },

  async notices_reach_their_client() {
    await together(async (client, me) => {
      const seen = [];
      client.on("notice", ({ message }) => seen.push(message));
      for (let turn = 0; turn < 10; turn++) {
        await client.query(`do $$ begin raise notice 'for ${me} turn ${turn}'; end $$`);
      }
      assert.deepEqual(seen, Array.from({ length: 10 }, (_, turn) => `for ${me} turn ${turn}`));
    });
  },
};

async function main() {
  let failed = 0;
  for (const [name, check] of Object.entries(checks)) {
    if (chosen.length > 0 && !chosen.includes(name)) continue;
    const start = Date.now();
    process.stdout.write(`${name} ... `);
    const watch = setTimeout(() => {
      console.log("HANGS");
      process.exit(1);
    }, PATIENCE);
    try {
      await check();
      console.log(`ok, ${((Date.now() - start) / 1000).toFixed(2)} s`);
    } catch (error) {
      failed++;
      console.log("FAILED");
      console.error(error);
    }
    clearTimeout(watch);
  }
  process.exit(failed > 0 ? 1 : 0);
}

main();
