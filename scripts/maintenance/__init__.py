"""Scripts for maintainers that write committed files or check claims about the suite itself."""
