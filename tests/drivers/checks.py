"""Runs the checks of a driver one after another, and tells which fail and which hang."""

import asyncio
import faulthandler
import inspect
import sys
import time
import traceback

# A check that takes longer hangs.
PATIENCE = 30


def check(function):
    """Marks a function of the calling script as a check."""
    function.is_check = True
    return function


def run(checks):
    """Runs the checks of a module with the URL of the command line, and exits.

    Names after the URL choose some of them.
    """
    url, *chosen = sys.argv[1:]
    failed = 0
    for name, function in list(checks.items()):
        if not getattr(function, "is_check", False) or (chosen and name not in chosen):
            continue
        start = time.monotonic()
        faulthandler.dump_traceback_later(PATIENCE, exit=True)
        print(f"{name} ...", end=" ", flush=True)
        try:
            if inspect.iscoroutinefunction(function):
                asyncio.run(asyncio.wait_for(function(url), PATIENCE - 5))
            else:
                function(url)
            print(f"ok, {time.monotonic() - start:.2f} s")
        except Exception:
            failed += 1
            print("FAILED")
            traceback.print_exc()
        faulthandler.cancel_dump_traceback_later()
    sys.exit(1 if failed else 0)


def say(*seen):
    """Prints what was seen, which has to be the same through the proxy as without it."""
    print("\n   ", *seen, end=" ")


def raises(kind, call, *arguments, **named):
    """Gives the error of a call, which must be of a kind."""
    try:
        call(*arguments, **named)
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was not raised")
