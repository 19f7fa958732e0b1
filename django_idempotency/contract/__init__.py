"""What the project's endpoints promise: the URLconf and the policies, as facts and in words."""
