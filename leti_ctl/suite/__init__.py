"""A suite: the runs behind a paper's tables, each made once, and the tables with ours beside the published numbers."""
