"""Everything that talks to a ksqlDB server (the extra `kandle[ksqldb]`)."""

from kandle.errors import OptionalImport

with OptionalImport("The client of ksqlDB", "ksqldb"):
    import h2  # noqa: F401, its modules import both
    import httpx2  # noqa: F401
