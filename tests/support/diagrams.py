"""The diagrams of ``docs/protocol.md`` and ``docs/how-it-works.md``."""

from tests.support.drawing import Flow, Sequence

DIAGRAMS: dict[str, Sequence | Flow] = {
    "first-request": Sequence(
        "The first request",
        "The guard claims the key in a commit of its own. In one transaction it locks the record,"
        " calls the view, which inserts the order, and stores the answer in the record. COMMIT"
        " makes order and record permanent together; then the client gets 201.",
        ["client", "guard", "database", "view"],
        [
            "client > guard: POST, key k",
            "guard > database: claim k",
            "database > guard: new; committed",
            "[",
            "guard > database: BEGIN; lock the record",
            "database > guard: it is ours",
            "guard > view: call",
            "view > database: INSERT order",
            "view > guard: 201, a body",
            "guard > database: store 201 and the body",
            "guard > database: COMMIT: order and record",
            "]",
            "guard > client: 201, the body",
        ],
    ),
    "retry": Sequence(
        "Its retry",
        "The guard claims the key, finds the record completed, and sends the stored answer with"
        " Idempotency-Replayed: true. The view does not run.",
        ["client", "guard", "database"],
        [
            "client > guard: POST, key k",
            "guard > database: claim k",
            "database > guard: completed: 201, the body",
            "guard > client: 201, the body",
            "client: Idempotency-Replayed: true",
        ],
    ),
    "duplicate": Sequence(
        "A duplicate while the first one runs",
        "The first request has claimed the key and locked the record. The duplicate finds the"
        " record claimed, cannot lock it, and gets 409 with Retry-After at once. Then the first"
        " request stores its answer, commits, and gets 201.",
        ["first", "duplicate", "guard", "database"],
        [
            "first > guard: POST, key k",
            "guard > database: claim k; BEGIN; lock",
            "database: locked",
            "duplicate > guard: POST, key k",
            "guard > database: claim k",
            "database > guard: claimed",
            "guard > database: lock, skip if locked",
            "database > guard: nothing",
            "guard > duplicate: 409, Retry-After",
            "guard > database: of the first: store; COMMIT",
            "database: completed, unlocked",
            "guard > first: 201",
        ],
    ),
    "key-from": Sequence(
        "A key that is not in the header",
        "A request without the header passes authentication, permissions and throttles. The guard"
        " asks your function, which answers with the key k. The guard claims k, and goes on as with"
        " a header.",
        ["client", "guard", "function", "database"],
        [
            "client > guard: POST, no header, reference=k",
            "guard: authentication, permissions, throttles",
            "guard > function: which key?",
            "function > guard: k",
            "guard > database: claim k",
            "guard: goes on as with a header",
        ],
    ),
    "crash": Sequence(
        "A crash, and the retry",
        "Worker 1 claims the key, locks the record, inserts the order and is killed. The database"
        " notices the lost connection and rolls back: the record is claimed and unlocked, and there"
        " is no order. The retry reaches worker 2, which claims the key, gets the lock, runs the"
        " view as attempt 2, and answers 201.",
        ["client", "worker 1", "database", "worker 2"],
        [
            "client > worker 1: POST, key k",
            "worker 1 > database: claim k; BEGIN; lock",
            "worker 1 > database: INSERT order",
            "worker 1!: killed: the connections are lost",
            "database: ROLLBACK: claimed, unlocked, no order",
            "client > worker 2: POST, key k",
            "worker 2 > database: claim k",
            "database > worker 2: claimed",
            "worker 2 > database: BEGIN; lock",
            "database > worker 2: it is ours",
            "worker 2: runs the view as attempt 2",
            "worker 2 > client: 201, the body",
        ],
    ),
    "rooms": Flow(
        "The rooms that a request passes",
        "From the middleware or decorator to the adapter, the guard, the operation, and the store"
        " with its dialect. The store returns a snapshot of the record to the operation, and the"
        " operation its decision to the guard: run, replay, mismatch, in flight.",
        [
            ("middleware or decorator", "finds the policy", ["below: request, policy (conf)"]),
            (
                "adapter",
                "knows the framework: who calls, when the handler runs",
                ["below: request, key"],
            ),
            ("guard", "knows HTTP: replay or error, what to store", ["below: claim"]),
            (
                "operation",
                "locks, transactions: begin, finish",
                ["to the guard: decision", "below: the record's values"],
            ),
            (
                "store, dialect",
                "one database or cache",
                ["to the operation: snapshot"],
            ),
        ],
    ),
    "one-request": Flow(
        "One request",
        "POST with a key. Unless it is a write with a key on a guarded path, the view runs"
        " untouched. A malformed key gets 400. The view's own checks may answer 401, 403 or 429."
        " The claim finds or creates the record: a completed one is replayed, another"
        " fingerprint gets 422. If another attempt holds the lock, 409. Then the view runs, and its"
        " writes and the response are one commit. After a 5xx or an"
        " exception the writes are rolled back; a refusal such as 403 or 429 is committed without"
        " being stored. The record stays claimed and unlocked, so a retry runs.",
        [
            ("other middlewares", "session, CSRF, login ...", []),
            (
                "middleware, decorator",
                "a write, a key, a guarded path?",
                ["no: view, untouched"],
            ),
            ("protocol", "is the key well-formed?", ["no: 400"]),
            (
                "the view's own checks",
                "permissions, throttles ...",
                ["no: 401, 403, 429"],
            ),
            ("http", "who calls? which fingerprint?", []),
            (
                "stores: claim",
                "find or create; a commit by itself",
                ["completed: replay", "another fingerprint: 422"],
            ),
            (
                "operations: BEGIN, lock",
                "which attempt runs?",
                ["it is held: 409"],
            ),
            ("the view", "its writes, in this transaction", ["exception, 5xx: ROLLBACK"]),
            (
                "render, store, COMMIT",
                "writes and response are one commit",
                ["done: the response"],
            ),
        ],
    ),
}
