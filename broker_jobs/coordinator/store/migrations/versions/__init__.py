"""One module for each version; those of released versions are never edited."""
