"""Run management commands, one after the other, in one process.

A program: each line of its input is a JSON list of arguments, each line of its output says how the
command ended and what it printed. It takes the place of one interpreter for each command.
"""

import io
import json
import os
import sys
from contextlib import redirect_stderr, redirect_stdout


def main() -> None:
    from django.core.management import ManagementUtility

    requests, answers = sys.stdin, sys.stdout
    sys.stdin = io.StringIO()
    for line in requests:
        out, err, code = io.StringIO(), io.StringIO(), 0
        with redirect_stdout(out), redirect_stderr(err):
            try:
                ManagementUtility(["manage.py", *json.loads(line)]).execute()
            except SystemExit as error:
                code = int(error.code or 0)
            except Exception as error:
                code = 1
                print(repr(error), file=err)
        print(json.dumps([code, out.getvalue(), err.getvalue()]), file=answers, flush=True)


if __name__ == "__main__":
    sys.path[0] = os.getcwd()  # as manage.py there would have it
    main()
