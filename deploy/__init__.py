"""Where Clotho runs: deploy/local is the embedded stack."""
