"""What a run found: tables and figures."""
