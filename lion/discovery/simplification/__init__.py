"""From a raw program to a readable one, and what it does: rewriting, bypasses, behaviour."""
