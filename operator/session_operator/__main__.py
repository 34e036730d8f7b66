"""``python -m session_operator``."""

from session_operator.main import main

main()
