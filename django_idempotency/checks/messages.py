"""The texts of all system checks. The checks find mistakes, and name the id."""

from collections.abc import Callable
from dataclasses import dataclass

from django.core.checks import CheckMessage, Error, Info, Warning


@dataclass(frozen=True, slots=True)
class Message:
    """The first letter of the id is the level: error, warning or info.

    :param summary: of the mistake, for the table in ``docs/operations.md``
    :param text: with the parameters of :func:`message` in braces
    :param hint: what to do
    :param asks: what the check asks, and when, for that table
    :param deploy: whether it runs with ``check --deploy`` only
    """

    summary: str
    text: str
    hint: str
    asks: str = ""
    deploy: bool = False


_LAST = "List IdempotencyMiddleware last in MIDDLEWARE."

MESSAGES = {
    "E001": Message(
        "an entry of `IDEMPOTENCY` is unknown or has a bad value",
        "{entry}: {problem}.",
        "Correct {entry}, or remove it to get its default.",
    ),
    "E002": Message(
        "the middleware is listed more than once",
        "IdempotencyMiddleware is listed {times} times in MIDDLEWARE.",
        "List it once, last.",
    ),
    "E003": Message(
        "a middleware that checks the caller (session, login, CSRF) is listed below "
        "`IdempotencyMiddleware`: replays would come before the check",
        "IdempotencyMiddleware stands above {paths} in MIDDLEWARE: stored responses would be "
        "replayed before the caller is checked.",
        _LAST,
    ),
    "E004": Message(
        "a decorator around a view or a handler cannot run before a replay: requests with a key "
        "fail. "
        "[Where checks belong](pitfalls.md#what-is-checked-before-a-replay)",
        "The decorator {decorator} around the view {view} cannot run before a replay, and the "
        "guard cannot begin below it: requests with a key fail.",
        "Put @idempotent below it, @transaction.atomic below both, or @idempotency_exempt above "
        "it.",
    ),
    "E005": Message(
        "the database of the records is not in `DATABASES`",
        'Idempotency records go to database "{alias}", which is not in DATABASES.',
        'Correct IDEMPOTENCY["USING"] or the database router. DATABASES has {known}.',
    ),
    "E006": Message(
        "the database of the records is not PostgreSQL, MariaDB, MySQL or SQLite",
        'Database "{alias}" ({server}) cannot keep idempotency records.',
        "Use PostgreSQL, MySQL, MariaDB or SQLite: the database that the views write to.",
    ),
    "E007": Message(
        "the server has no `SKIP LOCKED` (MariaDB before 10.6, MySQL before 8.0.11)",
        'The server of database "{alias}" is {server} {found}, which has no SKIP LOCKED.',
        "Use MariaDB 10.6 or MySQL 8.0.11, or newer.",
        asks="yes",
    ),
    "E008": Message(
        "the table's storage engine has no transactions (MyISAM)",
        'The table {table} in database "{alias}" has the storage engine {found}; records need the '
        "transactions and row locks of InnoDB.",
        "Run ALTER TABLE {table} ENGINE=InnoDB, and the same for the tables that guarded views "
        "write to.",
        asks="yes",
    ),
    "E009": Message(
        "the database has `AUTOCOMMIT` off: claims would not commit",
        'Database "{alias}" has AUTOCOMMIT off: other requests would not see a claim, and '
        "duplicates would wait for each other.",
        'Remove AUTOCOMMIT from DATABASES["{alias}"].',
    ),
    "E010": Message(
        "`CACHE` is not an alias in `CACHES`; or a store needs a cache, and it is not set",
        "{problem}.",
        'Set IDEMPOTENCY["CACHE"] to an alias in CACHES, which has {known}.',
    ),
    "E011": Message(
        "the cache cannot keep records (dummy, file, database, memcached, Django's own Redis "
        "backend)",
        'The cache "{alias}" cannot keep records: {reason}.',
        'Use "django_redis.cache.RedisCache" (python -m pip install '
        "'django-idempotency[redis]'), or for development "
        '"django.core.cache.backends.locmem.LocMemCache".',
    ),
    "E012": Message(
        "the cache ignores exceptions (`IGNORE_EXCEPTIONS`)",
        'The cache "{alias}" ignores exceptions: an outage would look like an empty store.',
        'Remove IGNORE_EXCEPTIONS from the OPTIONS of CACHES["{alias}"], and '
        'DJANGO_REDIS_IGNORE_EXCEPTIONS; or set IDEMPOTENCY["CACHE"] to a separate alias with '
        '"IGNORE_EXCEPTIONS": False.',
    ),
    "E013": Message(
        "the cache has no timeouts: a hanging Redis would hang requests",
        'The cache "{alias}" has no {missing}: a hanging Redis would hang requests.',
        'Set SOCKET_TIMEOUT and SOCKET_CONNECT_TIMEOUT in the OPTIONS of CACHES["{alias}"], for '
        "example to 0.5 seconds. Aliases with one LOCATION share the connections, and with them "
        "the timeouts, of the alias that is used first.",
    ),
    "E014": Message(
        'Redis drops records when its memory is full, and the store is `"cache"`',
        'The Redis of cache "{alias}" has the eviction policy {policy}: when its memory is full, '
        "it drops claims and responses, and their operations run again.",
        "Set maxmemory-policy to noeviction, or use a separate Redis for records. Full memory is "
        "then an outage, and the policy OUTAGE decides.",
        asks="asks Redis",
        deploy=True,
    ),
    "E015": Message(
        "[django-tenants](how-to/multi-tenancy.md#django-tenants) has one table of records for all "
        "tenants, but users are numbered in each schema, and `TENANT` is not set",
        "Records of all tenants are in one table, and users of two tenants with the same primary "
        "key are one caller: one could get the other's response.",
        'Add "django_idempotency" to TENANT_APPS and migrate, or set IDEMPOTENCY["TENANT"].',
    ),
    "E020": Message(
        'a view with `atomic=False` (or the store `"cache"`) would run in the block of '
        "`ATOMIC_REQUESTS`: requests with a key would fail. "
        "[Fix it](non-atomic.md#atomic_requests) with `@transaction.non_atomic_requests`",
        'The view {view} owns its transactions (atomic=False, or store="cache"), and database '
        '"{alias}" has ATOMIC_REQUESTS: requests with a key would fail.',
        "Put @transaction.non_atomic_requests on the view, outermost. Of a class, it is put on "
        "dispatch(), and then holds for all of its methods and actions: their writes are in no "
        "transaction. So move the method that needs it into a separate class.",
    ),
    "E021": Message(
        "an operation of Django Ninja with `auth` is "
        "[its own handler](non-atomic.md#the-view-as-its-own-handler): nothing can authenticate "
        "its caller again",
        "{view} has resumable=True, and its operation has auth=: without its client, nothing can "
        "authenticate the caller again, so requests with a key would fail.",
        "Declare a function instead: resumable=..., and resume_data=... with what it needs.",
    ),
    "E040": Message(
        "a policy encrypts responses, and [`ENCRYPTION_KEYS`](settings.md#encryption_keys) is "
        "empty: requests with a key would fail",
        '{encrypts}, but IDEMPOTENCY["ENCRYPTION_KEYS"] is empty: requests with a key would fail.',
        "Add a key: cryptography.fernet.Fernet.generate_key().decode() makes one.",
    ),
    "E041": Message(
        "responses are to be encrypted, and `cryptography` is not installed",
        "Responses are to be encrypted, but the package cryptography is not installed.",
        "Run python -m pip install 'django-idempotency[crypto]'.",
    ),
    "E042": Message(
        "the columns of keys and scopes do not compare exactly (another collation, `char`, "
        "`citext`): different keys could be taken for one",
        'Columns of the table {table} in database "{alias}" do not compare exactly: {columns}. '
        "Different keys could be taken for one.",
        "Make them {kind} again, as the migrations do.",
        asks="yes",
    ),
    "E051": Message(
        "a view cannot be guarded (it checks permissions in `dispatch()`, and works there, too): "
        "requests with a key would fail. A view that is not yours goes into "
        "[`EXEMPT_PATHS`](settings.md#exempt_paths)",
        "Requests with a key to {path} would fail: {reason}",
        'If the view is not yours, add r"^{fixed}" and the reason to IDEMPOTENCY["EXEMPT_PATHS"]; '
        "if it is, use @idempotency_exempt.",
    ),
    "E052": Message(
        "a receiver of [webhooks](how-to/webhooks.md#signatures) has no secret: every delivery "
        "would fail",
        "The receiver of the webhook {name} has no secret: every delivery would fail.",
        "Its signature function is given the name of a setting. Correct the name, and give the "
        "setting one secret or a list of them.",
    ),
    "E060": Message(
        "effects are declared, and `django_idempotency.effects` is not in `INSTALLED_APPS`: "
        "staging one would fail",
        "Effects are declared ({names}), but their app is not installed: after_commit() would "
        "fail.",
        'Add "django_idempotency.effects" to INSTALLED_APPS, and run manage.py migrate.',
    ),
    "E061": Message(
        "a database router keeps the table of effects away from a database of records: staging an "
        "effect there would fail",
        'A database router keeps the table of effects away from database "{alias}", where '
        "operations are committed: after_commit() would fail there.",
        "Let allow_migrate() of the router treat the app label idempotency_effects as it treats "
        "django_idempotency.",
    ),
    "E062": Message(
        "an effect is declared for a database that is not in `DATABASES`",
        'The effect {name} is for database "{alias}", which is not in DATABASES.',
        "Correct using= of its @effect, or leave it away. DATABASES has {known}.",
    ),
    "E070": Message(
        'a view has [`SCOPE`](settings.md#scope)`="session"`, and no middleware makes sessions: '
        "requests with a key would fail",
        '{view} has SCOPE="session", and no middleware in MIDDLEWARE makes sessions: requests with '
        "a key would fail.",
        "List django.contrib.sessions.middleware.SessionMiddleware, above IdempotencyMiddleware.",
    ),
    "E073": Message(
        "a form is guarded, and its pages of errors are not found: `django_idempotency.forms` is "
        "not installed. [HTML forms](how-to/html-forms.md)",
        "{view} is an idempotent form, and the templates of its pages are not found: a visitor who "
        "sends it twice could get an error of the server.",
        'Add "django_idempotency.forms" to INSTALLED_APPS, and let TEMPLATES have an engine of '
        "Django's with APP_DIRS, or copies of the templates in your own folder.",
    ),
    "E080": Message(
        "a database router keeps the tables of statistics away from the database where they are "
        "written",
        'Statistics are written to database "{alias}", and a database router keeps their tables '
        "away from it.",
        "Let allow_migrate() and db_for_write() of the router agree on the app label "
        "django_idempotency_statistics.",
    ),
    "W001": Message(
        "a middleware with view hooks is listed below `IdempotencyMiddleware`",
        "IdempotencyMiddleware stands above {path} in MIDDLEWARE, which has {hooks}: these would "
        "not see a request that is answered with a stored response, and would act within the "
        "transaction of one that runs.",
        _LAST,
    ),
    "W002": Message(
        "a middleware that changes responses is listed below `IdempotencyMiddleware`: its changes "
        "would be stored",
        "IdempotencyMiddleware stands above {paths} in MIDDLEWARE: changes to the "
        "response of one request (compression, language, headers) would be stored and replayed "
        "to others.",
        _LAST,
    ),
    "W003": Message(
        "SQLite runs without a write-ahead log: replays wait for the writer",
        'The SQLite database "{alias}" has the journal mode {found}, where readers and the writer '
        "block each other: replays would wait for attempts.",
        'Set DATABASES["{alias}"]["OPTIONS"]["init_command"] to "PRAGMA journal_mode=WAL".',
        asks="yes",
    ),
    "W004": Message(
        "the lock of a vanished host would last long",
        'When a host vanishes (power, network), database "{alias}" releases the lock of its '
        "attempt only after {after}; retries get 409 until then.",
        'Add "{example}" to DATABASES["{alias}"]["OPTIONS"]["{option}"], or set this on the '
        "server: check --deploy --database {alias} then sees it.",
        asks="with `--database`",
        deploy=True,
    ),
    "W005": Message(
        "a middleware opens a transaction around each request (django-reversion's does): "
        "[requests with a key would fail](pitfalls.md#a-transaction-around-the-view)",
        "The middleware {path} runs requests inside of transaction.atomic(). A record claimed in "
        "there would be hidden from other requests and could be undone, so requests with a key "
        "fail (on the database that holds the records).",
        "Remove the transaction: a guarded view already runs in one. For django-reversion list a "
        "subclass of RevisionMiddleware with atomic = False; move your own transaction.atomic() "
        "into the views. If it is on another database, or ends before get_response is called, "
        "idle_timeout this check.",
    ),
    "W010": Message(
        "the cache is in the memory of each process (not with `DEBUG`)",
        'The cache "{alias}" is in the memory of each process: other processes do not see its '
        "records.",
        'Use "django_redis.cache.RedisCache" in production.',
    ),
    "W011": Message(
        "a request waits long for a Redis that hangs: long timeouts, retries, a pool that waits",
        'When Redis hangs, a request waits up to {seconds:g} seconds for the cache "{alias}": '
        "timeouts, times retries of the client, and the waiting of its pool.",
        'Shorten SOCKET_TIMEOUT and SOCKET_CONNECT_TIMEOUT of CACHES["{alias}"], and remove retry, '
        "retry_on_timeout and BlockingConnectionPool: after a failure a circuit breaker skips "
        "Redis for a second anyway.",
    ),
    "W012": Message(
        "Redis could not be asked for its eviction policy",
        'The Redis of cache "{alias}" could not be asked for its eviction policy: {error}.',
        "Run the check where Redis can be reached, and let the user of the connection INFO.",
        asks="asks Redis",
        deploy=True,
    ),
    "W020": Message(
        "a [resumable handler](non-atomic.md#clients-that-never-come-back) is never called: its "
        "views are atomic, or keep records in a cache",
        "The resumable handler {name} is never called: its views are atomic, or keep their records "
        "in a cache.",
        "Set atomic=False, and a store in a database, where it is declared.",
    ),
    "W021": Message(
        "a resumable handler is never called: its views have different policies",
        "The resumable handler {name} is never called: its views have different policies, and a "
        "record does not say which one is meant.",
        "Give each policy a separate handler.",
    ),
    "W040": Message(
        "django-cors-headers does not allow the request header with the key of a guarded endpoint",
        "CORS_ALLOW_HEADERS lacks {names}: browsers do not send requests with it from other "
        "origins.",
        "Set CORS_ALLOW_HEADERS = [*corsheaders.defaults.default_headers{added}].",
    ),
    "W041": Message(
        "django-cors-headers does not expose the headers that identify a replay: the marker, other "
        "headers of the policy, `Retry-After`",
        "CORS_EXPOSE_HEADERS lacks {names}: scripts of other origins cannot tell a replay from a "
        "first response, or when to try again.",
        "Add to CORS_EXPOSE_HEADERS: {names}.",
    ),
    "W042": Message(
        "there are records that expired more than a week (and the longest "
        "[`TOMBSTONE`](settings.md#tombstone)) ago and were not purged",
        'Database "{alias}" has idempotency records that expired more than {days} days ago and '
        "were not purged.",
        "Run manage.py purge_idempotency_records, every hour or every day.",
        asks="yes",
        deploy=True,
    ),
    "W043": Message(
        "the records are in a database to which no model is written: views' writes are separate "
        "commits",
        'Idempotency records go to database "{alias}", to which no model is written; models go to '
        "{written}. The writes of guarded views and their record are separate commits: a crash "
        "between the two can lose one of them.",
        'Keep the records where views write (IDEMPOTENCY["USING"], or the database router), or '
        "guard these views with atomic=False.",
    ),
    "W044": Message(
        "another database than that of the records has `ATOMIC_REQUESTS`",
        'Database "{other}" has ATOMIC_REQUESTS, and idempotency records go to "{alias}": '
        'writes of guarded views to "{other}" are committed or undone separately from their '
        "record.",
        'Keep the records of views that write to "{other}" there, with '
        '@idempotent(using="{other}"), or use atomic=False.',
    ),
    "W045": Message(
        "a guarded view hands a task to a queue that is not in its transaction: the task goes out "
        "although the view is undone, or is lost although it is stored. "
        "[Celery](how-to/celery.md), [django.tasks](how-to/django-tasks.md), [RQ](how-to/rq.md)",
        "{view} hands tasks to a queue outside of its transaction: {calls}. They go out although "
        "the view is undone and its retry sends them again; or they find that its writes are not "
        "committed yet.",
        "Stage them: request.idempotency.after_commit(...) of django_idempotency.effects commits "
        "with the response. transaction.on_commit() is at most once. With django-tasks-db in the "
        "same database enqueue() is one of the view's writes.",
    ),
    "W048": Message(
        "a guarded view may be a decorator without `functools.wraps`: replays skip its checks",
        "{view} seems to be a decorator without functools.wraps. If it checks the caller, replays "
        "skip that check.",
        "Use functools.wraps in the decorator, and the guard begins below it. If it checks "
        "nothing, add django_idempotency.W048 to SILENCED_SYSTEM_CHECKS.",
    ),
    "W049": Message(
        'a view that is decorated itself has [`recheck="authentication"`](settings.md#recheck), '
        "and without the middleware the checks above `@idempotent` come first",
        '{view} has the policy recheck="authentication", but checks above its @idempotent come '
        "before the guard, and refuse the retry of a success.",
        "Add django_idempotency.middleware.IdempotencyMiddleware to MIDDLEWARE, or decorate the "
        "view's class.",
    ),
    "W050": Message(
        "the app is installed, but nothing is guarded: no middleware (or `PATHS` matches nothing), "
        "and no decorated view in the URLconf",
        "django_idempotency is installed, but guards nothing: {cause}, and no view in the URLconf "
        "has @idempotent. Keys that clients send are ignored.",
        "{remedy}, or decorate views; manage.py idempotency_contract lists guarded endpoints.",
    ),
    "W051": Message(
        "the table of the records is missing, or migrations are not applied",
        'In database "{alias}" {lacks}: requests with a key would fail.',
        "Run manage.py migrate --database {alias}. If it does nothing, a "
        "database router keeps the app away from there.",
        asks="yes",
    ),
    "W052": Message(
        "an entry of [`POLICIES`](settings.md#policies) applies to no guarded endpoint",
        'IDEMPOTENCY["POLICIES"]["{pattern}"] holds for no guarded endpoint.',
        "The first entry that matches request.path_info (which begins with a slash) holds, and "
        "PATHS and decorators say what is guarded: manage.py idempotency_contract lists it. Each "
        "parameter of a path is tried with 0; if that is why nothing matches, add "
        '"django_idempotency.W052" to SILENCED_SYSTEM_CHECKS.',
    ),
    "W060": Message(
        "effects have been due for more than an hour: nothing runs those that did not run inline",
        'In database "{alias}" {due} effects have been due for more than an hour.',
        "Run manage.py run_idempotent_work, every minute or as a service. If it runs, its output "
        "names effects that no process has declared.",
        asks="yes",
        deploy=True,
    ),
    "W070": Message(
        "sessions that [`SAVE_SESSION`](settings.md#save_session) saves are in another database "
        "than the records: they are saved after the commit, as without the option",
        'SAVE_SESSION is on for {view}, whose records are in database "{alias}", and sessions are '
        'in "{using}": a session is saved after the commit that stores the response, and a crash '
        "between the two loses what the view wrote into it.",
        "Keep sessions where the records are, by the database router, or leave SAVE_SESSION off.",
    ),
    "W071": Message(
        "sessions that [`SAVE_SESSION`](settings.md#save_session) saves are not in a database: "
        "they are saved after the commit, as without the option",
        "SAVE_SESSION is on for {view}, and SESSION_ENGINE {engine} keeps sessions outside of the "
        "database: a session is saved after the commit that stores the response, and a crash "
        "between the two loses what the view wrote into it.",
        'Set SESSION_ENGINE to "django.contrib.sessions.backends.db" or ".cached_db", or leave '
        "SAVE_SESSION off.",
    ),
    "W072": Message(
        "a view has [`SAVE_SESSION`](settings.md#save_session), and no middleware makes sessions",
        "SAVE_SESSION is on for {view}, and no middleware in MIDDLEWARE makes sessions: nothing is "
        "saved.",
        "List django.contrib.sessions.middleware.SessionMiddleware, above IdempotencyMiddleware, "
        "or leave SAVE_SESSION off.",
    ),
    "W080": Message(
        "the tables of statistics are missing or old: nothing that is counted can be written",
        'Statistics cannot be written to database "{alias}": {lacks}.',
        "Run manage.py migrate. What has been counted until then is written afterwards.",
        asks="yes",
    ),
    "I001": Message(
        "scopes are keyed with `SECRET_KEY`",
        "Scopes are digests keyed with SECRET_KEY: after a change of SECRET_KEY the guard finds no "
        "earlier key, and their retries run again.",
        'Set IDEMPOTENCY["SECRET"] to a separate value of at least 16 characters. To keep the '
        "present keys, start with the present SECRET_KEY.",
        deploy=True,
    ),
    "I002": Message(
        "database connections are kept, and not "
        "[checked before they are used again](redis.md#when-the-database-fails)",
        'Connections to database "{alias}" are kept, and not checked before they are used again: '
        "after a restart of the server the first request on each fails in the view.",
        'Set DATABASES["{alias}"]["CONN_HEALTH_CHECKS"] = True.',
        deploy=True,
    ),
    "I050": Message(
        "[`PATHS`](settings.md#paths) is not set, so pages for browsers are guarded, too. "
        "[HTML sites](how-to/html-sites.md)",
        "IdempotencyMiddleware guards every path, also views to which browsers send forms: "
        "{first}{others}. Some browsers and proxies add keys by themselves.",
        'Name the paths of the API: IDEMPOTENCY["PATHS"] = [r"^/api/"]. To guard all '
        'paths, set [""].',
    ),
}

_LEVELS: dict[str, Callable[..., CheckMessage]] = {"E": Error, "W": Warning, "I": Info}

CHECKS = {f"django_idempotency.{number}": each.summary for number, each in MESSAGES.items()}
"""Ids of all checks and what they mean."""


def message(number: str, **parameters: object) -> CheckMessage:
    """Return a message of a check.

    :param number: a key of :data:`MESSAGES`
    """
    said = MESSAGES[number]
    return _LEVELS[number[0]](
        said.text.format(**parameters),
        hint=said.hint.format(**parameters),
        id=f"django_idempotency.{number}",
    )
