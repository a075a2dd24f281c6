"""What a project declares: section.toml, its fingerprint, where sections are found. Imports `errors` and `system`."""
