"""Records, and copies of stored responses, in a cache."""
