/* SPDX-License-Identifier: MIT */
/*
 * Parking and unparking: engine/driver.c (park_begin, park_end, rdy_driver_unpark) and the inbox of
 * engine/registration.c and dispatch.c.
 *
 * Two threads leave requests in the inbox and unpark; a third raises a flag that the runtime looks
 * at once a round, and unparks (rdy_shutdown_by). The driver may fail to carry a request out, for
 * want of room, and puts it back into the inbox without an unpark (put_off). Facts come by
 * themselves, and end a wait as well. The wake is an edge on an eventfd that is never drained.
 *
 * Each request is carried out, and the flag is seen.
 */
// fault NO_RECHECK: parks without a second look at the inbox: what was put off waits for ever
// fault PARK_BY_STORE: publishes PARKED over a NOTIFIED
// fault NOTIFY_FIRST: notifies, then pushes
// fault NO_WAKE: makes no system call when PARKED was taken out
// fault RESET_LATE: takes a NOTIFIED back after it has looked, instead of before

#define AWAKE 0
#define PARKED 1
#define NOTIFIED 2

byte park = AWAKE;
byte inbox = 0; /* requests in it */
byte pending = 0; /* requests made and not carried out */
byte edges = 0; /* writes to the eventfd that the ring has not reported */
bool flag = false;
bool is_flag_seen = false;
byte busy_left = 1; /* how often there may be no room, in all */
byte facts_left = 1;

inline unpark()
{
    d_step {
        was = park;
        park = NOTIFIED;
    }
    if
#ifndef NO_WAKE
    :: was == PARKED -> edges++
#endif
    :: else -> skip
    fi
}

active [2] proctype requester()
{
    byte was;

#ifdef NOTIFY_FIRST
    unpark();
#endif
    d_step { /* from here on somebody relies on it */
        pending++;
        inbox++;
    }
#ifndef NOTIFY_FIRST
    unpark();
#endif
}

active proctype shutdown()
{
    byte was;

    flag = true;
    unpark();
}

active proctype driver()
{
    byte drained;
    bool may_block;

end:
    do
    :: true ->
        /* the runtime's round */
        if
        :: flag -> is_flag_seen = true
        :: else -> skip
        fi
        /* rdy_driver_drain_inbox() */
        d_step {
            drained = inbox;
            inbox = 0;
        }
        do
        :: drained > 0 ->
            drained--;
            if
            :: pending--
            :: busy_left > 0 ->
                d_step {
                    busy_left--;
                    inbox++;
                }
            fi
        :: else -> break
        od
#ifdef RESET_LATE
        park = AWAKE;
#endif
        /* park_begin() */
        may_block = false;
#ifdef PARK_BY_STORE
        park = PARKED;
        may_block = true;
#else
        d_step {
            if
            :: park == AWAKE ->
                park = PARKED;
                may_block = true;
            :: else -> skip
            fi
        }
#endif
#ifndef NO_RECHECK
        if
        :: may_block && inbox > 0 -> may_block = false
        :: else -> skip
        fi
#endif
        /* the backend's wait() */
        if
        :: may_block ->
end_parked:
            if
            :: edges > 0 -> edges = 0
            :: facts_left > 0 -> facts_left--
            fi
        :: else -> edges = 0
        fi
        /* park_end() */
#ifndef RESET_LATE
        park = AWAKE;
#endif
    od
}

ltl requests_are_carried_out { [] (pending > 0 -> <> (pending == 0)) }
ltl flag_is_seen { [] (flag -> <> is_flag_seen) }
