/* The protocol of one key: clients that retry until they have an answer, crashes, expiry, purge.

   Each atomic block is one statement of the store, or one commit. README.md says which, and lists
   the mistakes (-DMUTANT_...) that the checker must refute.

   -DCLIENTS=3   how many clients send the same request
   -DCRASHES=2   how many attempts die, lose their session, or answer 5xx
   -DATTEMPTS=4  how far attempts of one record are counted
   -DEXPIRIES=1  how often the retention passes
   -DLEASE       effects outside the database: the record is held by a lease, not by a row lock
*/

#ifndef CLIENTS
#define CLIENTS 3
#endif
#ifndef CRASHES
#define CRASHES 2
#endif
#ifndef ATTEMPTS
#define ATTEMPTS 4
#endif
#ifndef EXPIRIES
#define EXPIRIES 1
#endif

mtype = { ABSENT, CLAIMED, COMPLETED };

/* The record. */
mtype record = ABSENT;
byte id = 0;              /* primary key: another record after a purge is another id */
byte attempt = 0;         /* the fencing token */
bool expired = false;     /* past expires_at, by the store's clock */
byte holder = 0;          /* whose row lock, or lease, it is; 0: nobody's */

/* What nobody can see, but must hold. */
byte executions = 0;      /* effects that are there, within the retention */
bool stored = false;      /* a response of an execution is stored, within the retention */
byte stored_by = 0;       /* the attempt whose response that is */
byte running = 0;         /* views that run */
byte answered = 0;        /* clients that have their answer */
byte unknowns = 0;        /* attempts whose end nobody saw, taken over knowingly */

byte crashes = 0;
byte expiries = 0;

inline forget() {         /* the retention is over, or the record is removed */
    executions = 0; stored = false; stored_by = 0; unknowns = 0
}

inline remove() { record = ABSENT; attempt = 0; expired = false; forget() }

proctype Client(byte me) {
    bool fresh;           /* this claim created the record */
    mtype seen; bool late; byte mine; byte number; bool stale;

again:
    /* The claim: find or create, one statement, its own commit. */
    atomic {
        fresh = false; number = 0; stale = false;
#ifdef MUTANT_LOOK_THEN_INSERT
        seen = record
    }
    atomic {
        if
        :: seen == ABSENT ->          /* inserts or overwrites what it did not see */
            if
            :: record == ABSENT -> id = (id + 1) % 4
            :: else
            fi;
            record = CLAIMED; attempt = 1; fresh = true; expired = false
        :: else
        fi;
#else
        if
        :: record == ABSENT ->
            record = CLAIMED; id = (id + 1) % 4; attempt = 1; expired = false; fresh = true;
            number = 1
        :: else
        fi;
#endif
        seen = record; mine = id; stale = expired
    }
    if
    :: stale && seen != ABSENT ->
        /* Evict: delete the row if it is still expired and nobody has locked it. */
        atomic {
            if
            :: record != ABSENT && id == mine && expired && holder == 0 -> remove()
            :: else
            fi
        }
        goto again
    :: !stale && seen == COMPLETED -> goto replay
    :: !stale && seen == ABSENT -> goto again
    :: !stale && seen == CLAIMED
    fi;

#ifdef LEASE
    /* The lease: one statement takes it and counts the attempt, if its predecessor's ran out. */
    atomic {
        if
        :: holder != 0 || record == ABSENT || id != mine || expired -> goto again      /* 409 */
        :: else
        fi;
        if
        :: record == COMPLETED -> goto replay
        :: record == CLAIMED && attempt == number -> holder = me
        :: record == CLAIMED && attempt != number && attempt == ATTEMPTS -> goto done
        :: record == CLAIMED && attempt != number && attempt < ATTEMPTS ->
            holder = me; attempt++; number = attempt; unknowns++
        fi
    }
#else
lock:
    /* The lock, by primary key, skipping what is locked; decide again. */
    atomic {
        if
        :: holder != 0 || record == ABSENT || id != mine -> goto again      /* 409, comes again */
        :: else -> holder = me; seen = record; stale = expired
        fi
    }
    if
    :: stale -> atomic { holder = 0; goto again }
    :: !stale && seen == COMPLETED -> atomic { holder = 0; goto replay }
    :: !stale && seen == CLAIMED
    fi;
    if
    :: attempt == number                     /* our own number: run */
    :: attempt != number && attempt == ATTEMPTS ->
        atomic { holder = 0; goto done }     /* the model ends here, told to come again */
    :: attempt != number && attempt < ATTEMPTS ->
        /* Count this attempt, commit, lock again. */
        atomic { attempt++; number = attempt; holder = 0 };
        goto lock
    fi;
#endif

#ifdef MUTANT_RELEASED_EARLY
    atomic { holder = 0 };
#endif

    /* The view runs. */
#ifdef LEASE
    executions++;                            /* outside: nothing can undo it */
#else
    running++;
#endif
    if
    :: skip
    :: atomic { crashes < CRASHES ->         /* SIGKILL, a lost session, or a 5xx: rolled back */
        crashes++;
#ifndef LEASE
        running--;
#endif
#ifndef MUTANT_NO_TAKEOVER
        if
        :: holder == me -> holder = 0        /* the lock ends with the session; a lease runs out */
        :: else
        fi;
#endif
        goto again }
#ifndef LEASE
    :: atomic { crashes < CRASHES ->         /* a 4xx was raised: rolled back, stored later */
        crashes++; running--; holder = 0; goto late_store }
#else
    :: atomic { crashes < CRASHES ->         /* stalled beyond its lease, and alive */
        crashes++; holder = 0 }
#endif
    fi;

#ifdef LEASE
    /* The response is stored if the record is still this attempt's. */
    atomic {
        if
#ifdef MUTANT_UNFENCED
        :: record != ABSENT && id == mine ->
#else
        :: record == CLAIMED && id == mine && attempt == number ->
#endif
            record = COMPLETED; stored = true; stored_by = number; expired = false;
            if
            :: holder == me -> holder = 0
            :: else
            fi
        :: else ->
            if
            :: holder == me -> holder = 0
            :: else
            fi;
            goto again
        fi
    }
    goto done;
#else
#ifdef MUTANT_COMMIT_BEFORE_STORE
    atomic { executions++ };
    if
    :: skip
    :: atomic { crashes < CRASHES -> crashes++; running--; holder = 0; goto again }
    fi;
#endif
    /* The store and the view's writes: one commit, which ends the lock. */
    atomic {
        running--;
        if
        :: record == CLAIMED && id == mine && attempt == number ->
            record = COMPLETED; stored = true; stored_by = number; expired = false;
#ifndef MUTANT_COMMIT_BEFORE_STORE
            executions++;
#endif
        :: else                              /* LostRecord: everything is rolled back */
        fi;
        if
        :: holder == me -> holder = 0
        :: else
        fi;
        if
        :: record != COMPLETED -> goto again
        :: else -> goto done
        fi
    }

late_store:
    /* A raised 4xx: its writes are undone, its answer is stored if nobody else has begun. */
    atomic {
        if
#ifdef MUTANT_UNFENCED
        :: holder == 0 && record == CLAIMED && id == mine ->
#else
        :: holder == 0 && record == CLAIMED && id == mine && attempt == number ->
#endif
            record = COMPLETED; expired = false; stored_by = number;
            assert(attempt == number)        /* I12 */
        :: else
        fi;
        goto done
    }
#endif

replay:
done:
    atomic { answered++ }
}

/* The store's clock passes expires_at. */
proctype Time() {
    do
    :: atomic { expiries < EXPIRIES && record != ABSENT && !expired ->
        expiries++; expired = true;
        if
        :: record == COMPLETED -> forget()
        :: else
        fi }
    :: expiries == EXPIRIES -> break
    :: answered == CLIENTS -> break
    od
}

/* Deletes what is expired and not locked, again and again. */
proctype Purge() {
    do
#ifdef MUTANT_PURGE_TAKES_LOCKED
    :: atomic { record != ABSENT && expired -> remove(); holder = 0 }
#else
    :: atomic { record != ABSENT && expired && holder == 0 -> remove() }
#endif
    :: answered == CLIENTS -> break
    od
}

init {
    atomic {
        byte n = 1;
        do
        :: n <= CLIENTS -> run Client(n); n++
        :: else -> break
        od;
        run Time(); run Purge()
    }
}

#ifdef LEASE
/* I11: no execution beyond the first, except where an unknown end was taken over. */
ltl once { [] (executions <= 1 + unknowns) }
/* I12: the stored response is the last attempt's. */
ltl fenced { [] ((record == COMPLETED && stored) -> stored_by == attempt) }
#else
/* I1: at most one execution within the retention. */
ltl once { [] (executions <= 1) }
/* I4: one view at a time. */
ltl alone { [] (running <= 1) }
/* I2: stored if and only if committed. */
ltl remembered { [] (stored == (executions == 1)) }
#endif

/* No stuck key: everybody gets an answer. */
ltl answered_at_last { <> (answered == CLIENTS) }
