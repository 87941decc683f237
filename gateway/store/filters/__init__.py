"""Reading what a filter needs: scans, facts, contact search, segments."""
