"""Records for people: found by what they know, erased, and exported."""
