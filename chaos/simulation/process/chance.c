/* Takes chance from a process: what asks the system for random bytes gets those that CHAOS_SEED decides about.
 * Loaded before the C library (LD_PRELOAD) where a simulated run has to be the same each time. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/types.h>

static uint64_t state;

static uint64_t next(void) {
  if (state == 0) {
    const char *seed = getenv("CHAOS_SEED");
    state = seed ? strtoull(seed, NULL, 10) : 0;
  }
  /* splitmix64 */
  uint64_t word = (state += 0x9e3779b97f4a7c15u);
  word = (word ^ (word >> 30)) * 0xbf58476d1ce4e5b9u;
  word = (word ^ (word >> 27)) * 0x94d049bb133111ebu;
  return word ^ (word >> 31);
}

ssize_t getrandom(void *out, size_t length, unsigned int flags) {
  (void)flags;
  for (size_t at = 0; at < length; at++)
    ((unsigned char *)out)[at] = (unsigned char)next();
  return (ssize_t)length;
}

int getentropy(void *out, size_t length) {
  getrandom(out, length, 0);
  return 0;
}
