"""`bin/demo`: what Gristmill is for, from nothing to rows in Postgres, in two stories."""
