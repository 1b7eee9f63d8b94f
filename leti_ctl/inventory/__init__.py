"""What a run's records say that it holds. Nothing here writes artifacts or seals them.

| module | what it holds |
|---|---|
| `catalog` | every key and every record of a run, from one listing: for an audit, a comparison, a collection |
| `ledger` | records one by one, when they are asked for: for the history of a single row |
| `finding` | what of it is not as it should be |
| `makers` | who made parts, and with what |
| `removals` | what collections removed on purpose |
| `parquet`, `spelling` | rows of Parquet artifacts; token ids as text |
| `compact`, `parsing` | how a catalog keeps millions of keys, and reads records of a hundred thousand objects |
"""
