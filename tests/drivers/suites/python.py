"""Runs a suite of unittest and says of each test how it went. Usage: python.py DIRECTORY MODULE…"""

import importlib
import sys
import unittest


class Said(unittest.TextTestResult):
    def told(self, how, test):
        print(how, test.id(), flush=True)

    def addSuccess(self, test):
        super().addSuccess(test)
        self.told("pass", test)

    def addError(self, test, error):
        super().addError(test, error)
        self.told("fail", test)

    def addFailure(self, test, error):
        super().addFailure(test, error)
        self.told("fail", test)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.told("skip", test)

    def addExpectedFailure(self, test, error):
        super().addExpectedFailure(test, error)
        self.told("pass", test)

    def addSubTest(self, test, subtest, error):
        super().addSubTest(test, subtest, error)
        if error is not None:
            self.told("fail", test)


def main():
    directory, *names = sys.argv[1:]
    sys.path.insert(0, directory)
    tests = unittest.TestSuite()
    for name in names:
        tests.addTests(unittest.defaultTestLoader.loadTestsFromModule(importlib.import_module(name)))
    unittest.TextTestRunner(stream=sys.stderr, resultclass=Said, verbosity=1).run(tests)


if __name__ == "__main__":
    main()
