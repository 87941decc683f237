"""MongoDB error codes that are not about the request: it can succeed once the database is healthy."""

DUPLICATE_KEY = 11000
# LockTimeout, WriteConflict, PreparedTransactionInProgress: another transaction holds what this one writes
CONFLICTS = frozenset({24, 112, 267})
# The server is healthy: retry soon.
TRANSIENT = frozenset(
    {
        DUPLICATE_KEY,  # another writer was first: the next read shows it
        # CursorNotFound, LockBusy, MaxTimeMSExpired, LockFailed, ConflictingOperationInProgress, CursorInUse
        43, 46, 50, 107, 117, 143,
        # QueryPlanKilled, CursorKilled, SnapshotTooOld, SnapshotUnavailable, TransactionAborted
        175, 237, 239, 244, 246,
        # of sessions: TransactionTooOld, NoSuchTransaction, TransactionExceededLifetimeLimitSeconds, ObjectIsBusy
        225, 251, 290, 314, 363, 374, 375,
        # of sharding: StaleShardVersion, StaleEpoch, MigrationConflict, StaleDbVersion, StaleChunkHistory, StaleConfig
        63, 150, 249, 250, 272, 13388,
        # of elections and shutdowns: not primary, not yet majority, shutting down, stepping down, interrupted
        10058, 10107, 13435, 13436, 91, 133, 134, 189, 216, 281, 11600, 11601, 11602, 355, 453, 333, 46841,
        # of networks: host unreachable or unknown, timeouts, connections that were closed, cancelled or refused
        6, 7, 89, 90, 83, 145, 202, 230, 262, 279, 312, 317, 384, 407, 450, 9001,
    }
)  # fmt: skip
# The server or its replica set has a fault: reads and writes may fail for long.
FAULTS = frozenset(
    {
        # InternalError (embedded servers: any WiredTiger error), UnknownError (MongoDB: a full disk)
        1, 8,
        # FileRenameFailed, FileNotOpen, FileStreamFailed, LogWriteFailed, FileOpenFailed, OutOfDiskSpace
        37, 38, 39, 42, 176, 14031,
        # WriteConcernTimeout, NoReplicationEnabled, UnknownReplWriteConcern, UnsatisfiableWriteConcern
        64, 76, 79, 100,
        # TooManyLocks, TooManyLogicalSessions, TooManyFilesOpen, TemporarilyUnavailable, TransactionTooLargeForCache
        208, 261, 264, 365, 388,
        # ResourceExhausted, RateLimitExceeded, ReleaseMemoryShardError, IngressRequestRateLimitExceeded
        402, 449, 452, 462,
    }
)  # fmt: skip
