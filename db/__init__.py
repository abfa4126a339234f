"""PostgreSQL: migrations, the pool, and one query module for each table family. Depends on domain alone."""
