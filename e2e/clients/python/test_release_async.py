"""The asynchronous client of azure-keyvault-keys goes through the tests of the synchronous one; see test_keys_async.py."""

import unittest

import test_keys_async
import test_release


class AsyncRelease(test_keys_async.Asynchronous, test_release.Release):
    pass


if __name__ == "__main__":
    unittest.main(verbosity=2)
