"""The asynchronous clients, of which azure-keyvault-administration has others for backups, with other pollers."""

import unittest

import test_hsmbackup
from test_hsm_async import Asynchronous


class AsyncBackups(Asynchronous, test_hsmbackup.Backups):
    pass


if __name__ == "__main__":
    unittest.main(verbosity=2)
