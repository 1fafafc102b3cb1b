"""The models. They do not know each other."""
