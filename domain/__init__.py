"""The leaf that everything may import: models, rules, ids, step catalogue, errors. No I/O, clock or randomness."""
