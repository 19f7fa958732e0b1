"""The protocol, without Django: keys, fingerprints, records and the decisions about them."""
