"""`clotho`: one module for each noun. Reads settings, talks to Temporal and Postgres; decides nothing."""
