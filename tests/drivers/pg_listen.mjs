// How applications listen with node's `pg`. Usage: pg_listen.mjs DATABASE_URL
import { once } from "node:events";
import { createRequire } from "node:module";
import { all, say } from "./said.mjs";

const home = new URL("../../target/drivers/node/", import.meta.url);
const pg = createRequire(process.env.PGHERD_NODE_DRIVERS ?? home)("pg");

const url = process.argv[2];

async function using(use) {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return await use(client);
  } finally {
    await client.end();
  }
}

/** Two clients, one of which listens; what it hears is kept. */
function pair(use) {
  return using((ear) =>
    using(async (mouth) => {
      const heard = [];
      ear.on("notification", ({ channel, payload }) => heard.push([channel, payload]));
      await ear.query("listen fence");
      /** Gives what was heard, when all that was said before is there. */
      const fence = async () => {
        await mouth.query("notify fence");
        while (heard.at(-1)?.[0] !== "fence") await once(ear, "notification");
        return heard.splice(0).slice(0, -1);
      };
      return use(ear, mouth, fence);
    }),
  );
}

await all({
  async channels_and_payloads() {
    await pair(async (ear, mouth, fence) => {
      const odd = "No. 1 of 'all'";
      await ear.query("listen news");
      await ear.query(`listen ${pg.escapeIdentifier(odd)}`);
      await mouth.query("notify news; notify other, 'unheard'");
      await mouth.query("select pg_notify($1, $2)", [odd, "ü€"]);
      await mouth.query("select pg_notify('news', $1)", ["x".repeat(7999)]);
      say((await fence()).map(([channel, payload]) => [channel, payload.slice(0, 3), payload.length]));
      say(await mouth.query("select pg_notify('news', $1)", ["x".repeat(8000)]).catch(({ code }) => code));
      await ear.query("unlisten news");
      await mouth.query("notify news, 'late'");
      await mouth.query("select pg_notify($1, 'still')", [odd]);
      say(await fence());
    });
  },

  async what_one_says_itself() {
    await using((client) =>
      using(async (other) => {
        const heard = [];
        const both = new Promise((resolve) => {
          client.on("notification", ({ payload, processId }) => {
            heard.push([payload, processId === client.processID]);
            if (heard.length === 2) resolve();
          });
        });
        await client.query("listen news");
        await client.query("notify news, 'mine'");
        await other.query("notify news, 'theirs'");
        await both;
        say(heard);
      }),
    );
  },

  async transactions() {
    await pair(async (ear, mouth, fence) => {
      await ear.query("begin");
      await ear.query("listen never");
      await ear.query("rollback");
      await ear.query("begin");
      await ear.query("listen news");
      await ear.query("commit");
      await mouth.query("begin");
      for (const payload of ["a", "b", "a"]) await mouth.query("select pg_notify('news', $1)", [payload]);
      await mouth.query("savepoint s; notify news, 'undone'; rollback to s");
      await mouth.query("commit; notify never");
      await mouth.query("notify news, 'failed'; select 1/0").catch(({ code }) => say(code));
      say(await fence());
      await ear.query("begin");
      await mouth.query("notify news, 'in the block'");
      say((await ear.query("select 1 as n")).rows);
      await ear.query("commit");
      say(await fence());
    });
  },

  async a_listener_with_work_of_its_own() {
    await pair(async (ear, mouth, fence) => {
      await ear.query("listen news");
      const answers = [];
      for (let n = 0; n < 100; n++) {
        mouth.query("select pg_notify('news', $1)", [String(n)]);
        const { rows } = await ear.query({ name: "own", text: "select $1::int as n", values: [n] });
        answers.push(rows[0].n);
      }
      const heard = (await fence()).map(([, payload]) => Number(payload));
      const order = Array.from({ length: 100 }, (_, n) => n);
      say(String(heard) === String(order), String(answers) === String(order));
    });
  },

  async a_pool_whose_clients_listen() {
    const pool = new pg.Pool({ connectionString: url, max: 5 });
    const ears = await Promise.all(Array.from({ length: 4 }, () => pool.connect()));
    const all = ears.map(async (ear, me) => {
      const heard = [];
      await ear.query("listen all_of_us");
      await ear.query(`listen only_${me}`);
      return { ear, heard, done: new Promise((resolve) => {
        ear.on("notification", ({ payload }) => {
          heard.push(payload);
          if (payload === "end") resolve();
        });
      }) };
    });
    const listeners = await Promise.all(all);
    await pool.query("notify all_of_us, 'hello'");
    await Promise.all([0, 1, 2, 3].map((me) => pool.query("select pg_notify($1, $2)", [`only_${me}`, `you are ${me}`])));
    await pool.query("notify all_of_us, 'end'");
    for (const { ear, heard, done } of listeners) {
      await done;
      await ear.query("unlisten *");
      ear.release();
      say(heard);
    }
    await pool.end();
  },
});
