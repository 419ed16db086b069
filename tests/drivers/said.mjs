// Runs the checks of a driver one after another; what they say is to be the same wherever they run.
import { inspect } from "node:util";

// A check that takes longer hangs.
const PATIENCE = 30_000;

/** Prints what was seen. */
export function say(...seen) {
  const plain = (one) => (typeof one === "string" ? one : inspect(one, { depth: 9, breakLength: Infinity, compact: true, maxStringLength: 200 }));
  console.log("   ", ...seen.map(plain));
}

/** Runs all checks, and exits. */
export async function all(checks) {
  let failed = 0;
  for (const [name, check] of Object.entries(checks)) {
    console.log(`${name} ...`);
    const watch = setTimeout(() => {
      console.log(`${name} HANGS`);
      process.exit(1);
    }, PATIENCE);
    try {
      await check();
    } catch (error) {
      failed++;
      console.log(`${name} FAILED`);
      console.error(error);
    }
    clearTimeout(watch);
  }
  process.exit(failed > 0 ? 1 : 0);
}
