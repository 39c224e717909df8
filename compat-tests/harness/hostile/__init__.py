"""The hostile campaign: mutated requests and bad connections, while stock clients work on and check every record."""
