"""How gunicorn serves the example: several processes, one request at a time in each."""

workers = 4
worker_class = "sync"
graceful_timeout = 5
# Its default path is one file per user; two servers would share it.
control_socket_disable = True
