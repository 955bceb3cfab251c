"""The declarative base that every table of the project shares."""

from sqlalchemy.orm import DeclarativeBase


class Base(DeclarativeBase):
    """Rows are plain data; what may be done with a job's row is in `db.ledger`."""
