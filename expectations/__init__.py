"""What is expected of the tables, said once in Great Expectations suites, and what carries the suites out."""
