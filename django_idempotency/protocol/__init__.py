"""The rules, without Django: keys, scopes, fingerprints, records and what to do with them."""
