"""What belongs to this paper and no other: its ablations, tables, standings and verdicts."""
