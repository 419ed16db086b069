// What applications do with Sequelize. Usage: sequelize.mjs DATABASE_URL
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { all, say } from "./said.mjs";

const home = new URL("../../target/drivers/node/", import.meta.url);
const { DataTypes, Model, Op, QueryTypes, Sequelize, Transaction } = createRequire(
  process.env.PGHERD_NODE_DRIVERS ?? home,
)("sequelize");

const url = process.argv[2];
// More connections than the proxy has servers.
const CLIENTS = 6;

async function using(use, options = {}) {
  const { dialectOptions, ...more } = options;
  const sequelize = new Sequelize(url, {
    logging: false,
    pool: { max: CLIENTS, acquire: 20_000 },
    // What it sets on each connection keeps the connection on its server.
    standardConformingStrings: false,
    keepDefaultTimezone: true,
    dialectOptions: { clientMinMessages: "ignore", ...dialectOptions },
    ...more,
  });
  try {
    return await use(sequelize);
  } finally {
    await sequelize.close();
  }
}

function together(use) {
  return Promise.all(Array.from({ length: CLIENTS }, (_, me) => use(me)));
}

async function refused(promise) {
  try {
    await promise;
  } catch (error) {
    return [error.name, error.original?.code ?? error.message];
  }
  throw new Error("no error");
}

function define(sequelize) {
  class Herd extends Model {}
  Herd.init(
    {
      name: { type: DataTypes.STRING, allowNull: false, unique: true },
      size: { type: DataTypes.INTEGER, defaultValue: 0 },
    },
    { sequelize, version: true, paranoid: true },
  );
  class Animal extends Model {}
  Animal.init(
    {
      token: { type: DataTypes.UUID, primaryKey: true },
      born: DataTypes.DATE,
      day: DataTypes.DATEONLY,
      price: DataTypes.DECIMAL(8, 2),
      marks: DataTypes.ARRAY(DataTypes.TEXT),
      about: DataTypes.JSONB,
      photo: DataTypes.BLOB,
      big: DataTypes.BIGINT,
      years: DataTypes.RANGE(DataTypes.INTEGER),
      kind: DataTypes.ENUM("cow", "goat"),
    },
    { sequelize, timestamps: false, indexes: [{ fields: ["born"] }] },
  );
  Herd.hasMany(Animal);
  Animal.belongsTo(Herd);
  return { Herd, Animal };
}

function animal(number, more) {
  return {
    token: `00000000-0000-0000-0000-${String(number).padStart(12, "0")}`,
    born: new Date(Date.UTC(2024, 1, 29, 12) + number * 3600_000),
    day: "2024-02-29",
    price: (number * 1.25).toFixed(2),
    marks: [`m${number}`, 'x"y', "ü"],
    about: { n: number, deep: [null, { k: "it's" }] },
    photo: Buffer.from([number % 256, 0, 255]),
    big: "9007199254740993",
    years: [number, number + 2],
    kind: number % 2 ? "goat" : "cow",
    ...more,
  };
}

await all({
  async tables_are_made_and_altered() {
    await using(async (sequelize) => {
      define(sequelize);
      await sequelize.sync({ force: true });
      await sequelize.sync({ alter: true });
      const queries = sequelize.getQueryInterface();
      say((await queries.showAllTables()).sort());
      await queries.addColumn("Animals", "extra", { type: DataTypes.INTEGER, defaultValue: 5 });
      await queries.addIndex("Animals", ["extra"], { name: "extra_index", concurrently: true });
      say(Object.entries(await queries.describeTable("Animals")).map(([name, { type }]) => [name, type]));
      await queries.removeColumn("Animals", "extra");
      say((await queries.showIndex("Animals")).map(({ name }) => name).sort());
    });
  },

  async objects_and_queries() {
    await using(async (sequelize) => {
      const { Herd, Animal } = define(sequelize);
      const herd = await Herd.create({ name: "north", size: 3 });
      say((await Animal.bulkCreate(Array.from({ length: 600 }, (_, n) => animal(n, { HerdId: herd.id })))).length);
      const seen = await Herd.findOne({ where: { name: "north" }, include: { model: Animal, where: { kind: "goat" }, limit: 3, order: [["token", "ASC"]] } });
      say(seen.Animals.map(({ dataValues }) => JSON.stringify(dataValues)));
      say(await Animal.count({ where: { about: { n: { [Op.lt]: 10 } }, marks: { [Op.contains]: ["m7"] } } }));
      say(await Animal.sum("price"), await Animal.count({ where: { years: { [Op.contains]: 100 } } }));
      await herd.update({ size: 4 });
      await herd.increment("size", { by: 2 });
      await herd.reload();
      say(herd.size, herd.version);
      const [found, made] = await Herd.findOrCreate({ where: { name: "south" }, defaults: { size: 9 } });
      say(found.size, made, (await Herd.findOrCreate({ where: { name: "south" } }))[1]);
      say((await Herd.upsert({ name: "south", size: 10 }, { conflictFields: ["name"] }))[0].size);
      await found.destroy();
      say(await Herd.count(), await Herd.count({ paranoid: false }));
      say(await Animal.update({ kind: "cow" }, { where: { about: { n: 7 } }, returning: ["kind", "day"] }).then(([n, rows]) => [n, rows[0].day]));
      say(await Animal.destroy({ where: { price: { [Op.gt]: 700 } } }));
    });
  },

  async transactions_and_savepoints() {
    await using(async (sequelize) => {
      const { Herd } = define(sequelize);
      await sequelize.transaction(async (transaction) => {
        await Herd.create({ name: "a1" }, { transaction });
        const inner = refused(
          sequelize.transaction({ transaction }, async (transaction) => {
            await Herd.create({ name: "a2" }, { transaction });
            await Herd.create({ name: "a1" }, { transaction });
          }),
        );
        say(await inner);
        await Herd.create({ name: "a3" }, { transaction });
      });
      say(await refused(sequelize.transaction(async (transaction) => {
        await Herd.create({ name: "a4" }, { transaction });
        throw new Error("mine");
      })));
      const names = await Herd.findAll({ where: { name: { [Op.like]: "a%" } }, order: ["name"] });
      say(names.map(({ name }) => name));
      for (const isolationLevel of Object.values(Transaction.ISOLATION_LEVELS)) {
        await sequelize.transaction({ isolationLevel, readOnly: true }, async (transaction) => {
          const [row] = await sequelize.query("show transaction_isolation", { type: QueryTypes.SELECT, transaction });
          say(row);
        });
      }
      await Herd.create({ name: "counter", size: 0 });
      await together(async () => {
        for (let turn = 0; turn < 5; turn++) {
          await sequelize.transaction(async (transaction) => {
            const one = await Herd.findOne({ where: { name: "counter" }, lock: transaction.LOCK.UPDATE, transaction });
            await one.update({ size: one.size + 1 }, { transaction });
          });
        }
      });
      say((await Herd.findOne({ where: { name: "counter" } })).size);
    });
  },

  async replaced_and_bound_values() {
    await using(async (sequelize) => {
      const all = await together(async (me) => {
        const seen = [];
        for (let turn = 0; turn < 10; turn++) {
          const [bound] = await sequelize.query("select $n::int as n, $who::text as who", { bind: { n: turn, who: `it's ${me}` }, type: QueryTypes.SELECT });
          const [replaced] = await sequelize.query("select :n as n, :who as who", { replacements: { n: turn, who: `it's ${me}` }, type: QueryTypes.SELECT });
          const [numbered] = await sequelize.query("select $1::int + $2::int as n", { bind: [turn, me], type: QueryTypes.SELECT });
          assert.equal(numbered.n, turn + me);
          seen.push(replaced.who, bound.who);
        }
        return new Set(seen);
      });
      say(all);
    });
  },

  async errors_and_timeouts() {
    await using(
      async (sequelize) => {
        const { Herd } = define(sequelize);
        for (const wrong of ["select 1/0", "selekt", "select * from nowhere", "select pg_sleep(20)"]) say(await refused(sequelize.query(wrong)));
        say(await refused(Herd.create({ name: "a1" })), await refused(Herd.create({})));
        say((await sequelize.query("show statement_timeout", { type: QueryTypes.SELECT }))[0]);
      },
      { dialectOptions: { statement_timeout: 300, application_name: "herds" }, timezone: "+02:00" },
    );
  },

  async big_results() {
    await using(async (sequelize) => {
      const rows = await together((me) => sequelize.query("select n, repeat(:x, 500) as x from generate_series(1, 3000) n", { replacements: { x: String(me) }, type: QueryTypes.SELECT }));
      say(rows.map((some) => some.length), rows.every((some, me) => some.every(({ x }) => x === String(me).repeat(500))));
    });
  },

  async work_goes_on_after_the_server_was_lost() {
    await using(async (sequelize) => {
      const { Herd } = define(sequelize);
      const [, code] = await refused(
        sequelize.transaction(async (transaction) => {
          await Herd.create({ name: "lost" }, { transaction });
          const [{ pid }] = await sequelize.query("select pg_backend_pid() as pid", { type: QueryTypes.SELECT, transaction });
          await sequelize.query("select pg_terminate_backend($1, 5000)", { bind: [pid] });
          await Herd.create({ name: "lost too" }, { transaction });
        }),
      );
      say(/^(57P01|40001|Connection terminated|Client has encountered a connection error)/.test(code) ? "cut off" : code);
      await Herd.create({ name: "found" });
      say(await Herd.count({ where: { name: { [Op.or]: ["lost", "lost too", "found"] } } }));
    });
  },
});
