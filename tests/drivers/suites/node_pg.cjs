// Runs the tests that version 4 of node's `pg` has, each of whose files is a program, and says of each
// how it went. Usage: node_pg.cjs, where node_modules/pg has them in test/
"use strict";

const { spawn } = require("node:child_process");
const fs = require("node:fs");
const path = require("node:path");

const home = path.resolve("node_modules/pg");
const { PGUSER, PGPASSWORD, PGHOST, PGPORT, PGDATABASE } = process.env;
const url = `postgres://${PGUSER}:${PGPASSWORD}@${PGHOST}:${PGPORT}/${PGDATABASE}`;
// A file that takes longer hangs.
const PATIENCE = 30_000;

function program(file) {
  return new Promise((resolve) => {
    const shim = path.join(__dirname, "node_pg_shim.cjs");
    const child = spawn(process.execPath, ["--require", shim, file, url], { stdio: ["ignore", 2, 2], cwd: home });
    const watch = setTimeout(() => child.kill("SIGKILL"), PATIENCE);
    child.on("exit", (code) => {
      clearTimeout(watch);
      resolve(code === 0);
    });
  });
}

async function main() {
  await program(path.join(home, "script/create-test-tables.js"));
  const tests = path.join(home, "test/integration");
  const files = fs.readdirSync(tests, { recursive: true }).filter((name) => name.endsWith("-tests.js"));
  for (const file of files.sort()) {
    console.error(`== ${file}`);
    console.log((await program(path.join(tests, file))) ? "pass" : "fail", file);
  }
}

main();
