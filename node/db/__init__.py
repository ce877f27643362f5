"""The database: every table on one page, one door for writing, an audit chain."""
