"""``python -m gateway [PORT]``: prints its URL, and serves until it is ended."""

import sys

from .server import Gateway

gateway = Gateway(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
print(f"http://127.0.0.1:{gateway.server_address[1]}", flush=True)
gateway.serve_forever()
