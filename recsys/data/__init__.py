"""From raw files to numbered, split interactions and the text of titles."""
