// Says of each test of mocha how it went; a reporter: mocha --reporter mocha.cjs
"use strict";

module.exports = class {
  constructor(runner) {
    const said = (how) => (test) => console.log(how, test.fullTitle().replaceAll(" ", "_"));
    runner.on("pass", said("pass")).on("fail", said("fail")).on("pending", said("skip"));
    runner.on("fail", (_test, error) => console.error(error));
  }
};
