"""The language of programs: statements and their files, functions, types and keys, compilation."""
