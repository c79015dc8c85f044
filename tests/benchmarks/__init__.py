"""Speed of Keyferry against native replication on the same source, in the same run: `make bench`."""
