"""Commands on contacts: upsert, merge, erase, tag."""
