"""The other process of a trial (see ``file_system``). It is run by its path, without the package, to start quickly.

It prints what is missing, as text after "a file system", or nothing if everything works.
"""

import fcntl
import mmap
import sys

FIRST, OTHER = b"first", b"other"


def look(path: str) -> str:
    with open(path, "r+b") as file:  # noqa: PTH123  importing pathlib would double the time
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 120)
        except BlockingIOError:
            pass
        except OSError as error:
            return f"without file locks ({error.strerror})"
        else:
            return "where one process does not see the locks of another"
        with mmap.mmap(file.fileno(), 0) as shared:
            if shared[: len(FIRST)] != FIRST:
                return "where two processes that map a file do not share its memory"
            shared[-len(OTHER) :] = OTHER
    return ""


if __name__ == "__main__":
    print(look(sys.argv[1]))  # noqa: T201
