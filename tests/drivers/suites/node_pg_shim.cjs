// Lets the tests of version 4 of node's `pg`, the last that came with the package, run on its newest.
"use strict";

const { EventEmitter } = require("node:events");
const path = require("node:path");

// The versions of Postgres have had two parts since 10, and `semver` wants three.
const semver = require(require.resolve("semver", { paths: [path.resolve()] }));
const { gte } = semver;
semver.gte = (version, than) => gte(/^\d+\.\d+$/.test(version) ? `${version}.0` : version, than);

const pg = require(path.resolve("lib"));
// What was taken out by then: the pools and events of the package itself, and events of each query.
Object.setPrototypeOf(Object.getPrototypeOf(pg), EventEmitter.prototype);
pg.defaults.poolSize = 10;
const pools = new Map();
pg.connect = (config, callback) => {
  const key = JSON.stringify(config);
  if (!pools.has(key)) {
    const { poolSize: max, poolIdleTimeout: idleTimeoutMillis } = { ...pg.defaults, ...config };
    const pool = new pg.Pool(typeof config === "string" ? { connectionString: config, max } : Object.assign(config, { max, idleTimeoutMillis }));
    pool.on("error", (...about) => pg.emit("error", ...about));
    pools.set(key, pool);
  }
  pools.get(key).connect((error, client, done) => callback(error ?? null, client, done));
};
pg.end = () => {
  Promise.all(Array.from(pools.values(), (pool) => pool.end())).then(() => pg.emit("end"));
  pools.clear();
};
pg.cancel = (config, client, query) => new pg.Client(config).cancel(client, query);
const { query } = pg.Client.prototype;
pg.Client.prototype.query = function (text, values, callback) {
  if (typeof text?.submit === "function") return query.call(this, text, values, callback);
  return query.call(this, new pg.Query(text, values, callback));
};
