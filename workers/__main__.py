"""python -m workers: the gristmill command of this installation."""

from workers.cli import main

main()
