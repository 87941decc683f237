"""What every layer uses: the clock, ids, pagination, sorting, text rules, typed values. No I/O and no framework."""
