/* SPDX-License-Identifier: MIT */
/*
 * Arming again after an overflow: engine/dispatch.c (begin_arms, arm_in_turn, handle_last) against
 * a completion queue that has room for CQ completions, as Linux 6.0 and later fill it.
 *
 * All files are ready, and stay so: each poll reports when it is armed, and then only when there is
 * news. A completion that finds the queue full, or others waiting in the kernel before it, waits
 * there and ends its poll: it comes with the next enter, without F_MORE. One enter submits the arms
 * and then hands over what has waited.
 *
 * Every live entry is armed again, and it comes to rest; every entry hears of its file.
 */
// fault NO_LIMIT: arms all at once: the queue overflows again, for ever
// fault ARM_AT_ONCE: arms while the kernel still hands over what did not fit
// fault HALF_OF_ONE: half of a queue of one is no room for anybody
// fault FORGET: does not ask for the arm that it puts off
// fault TAKE_FOR_LIVE: takes a completion without F_MORE for one of a poll that goes on
// also CQ=2

#define N 3
#ifndef CQ
#define CQ 1
#endif

bool is_armed[N]; /* in the kernel */
bool is_known_armed[N]; /* as the driver has it */
bool has_request[N]; /* ARM stands in the inbox */
bool is_told[N]; /* has heard of its file, ever */
bool has_news[N]; /* news that no completion has told of */
bool is_after_overflow = false;
byte news_left = 2;

chan cq = [CQ] of { byte, bool }; /* entry, F_MORE */
chan waiting = [N] of { byte };
byte overflow_pending = 0; /* of what stands in the queue: so many had waited in the kernel */

#define all_armed (is_armed[0] && is_armed[1] && is_armed[2])
#define all_known (is_known_armed[0] && is_known_armed[1] && is_known_armed[2])
#define all_told (is_told[0] && is_told[1] && is_told[2])
#define no_news (!has_news[0] && !has_news[1] && !has_news[2])

/* The kernel reports on entry e, which is armed. */
inline post(e)
{
    has_news[e] = false;
    if
    :: len(cq) < CQ && len(waiting) == 0 -> cq ! e, true
    :: else ->
        is_armed[e] = false;
        waiting ! e
    fi
}

active proctype machine()
{
    byte i;
    byte e;
    byte arms_left;
    byte taken;
    bool is_more;
    bool had_waited;

    atomic {
        i = 0;
        do
        :: i < N ->
            has_request[i] = true;
            i++
        :: else -> break
        od
    }
end:
    do
    :: atomic {
        /* begin_arms() and the inbox */
#ifdef ARM_AT_ONCE
        arms_left = (CQ + 1) / 2;
        if
        :: is_after_overflow -> arms_left = N
        :: else -> skip
        fi
#else
#ifdef NO_LIMIT
        arms_left = N;
#else
#ifdef HALF_OF_ONE
        arms_left = (is_after_overflow -> 0 : CQ / 2);
#else
        arms_left = (is_after_overflow -> 0 : (CQ + 1) / 2);
#endif
#endif
#endif
        is_after_overflow = false;
        had_waited = (len(waiting) > 0);
        i = 0;
        do
        :: i < N ->
            if
            :: has_request[i] && arms_left > 0 ->
                arms_left--;
                has_request[i] = false;
                is_known_armed[i] = true;
                is_armed[i] = true;
                post(i) /* it is ready */
            :: else -> skip
            fi;
            i++
        :: else -> break
        od;
        /* the enter hands over what has waited, as far as there is room */
        do
        :: len(waiting) > 0 && len(cq) < CQ ->
            waiting ? e;
            cq ! e, false
        :: else -> break
        od;
        /* dispatch */
        do
        :: len(cq) > 0 ->
            cq ? e, is_more;
            is_told[e] = true;
            if
            :: !is_more ->
#ifdef TAKE_FOR_LIVE
                skip
#else
                is_known_armed[e] = false;
                is_after_overflow = true;
#ifndef FORGET
                has_request[e] = true;
#endif
#endif
            :: else -> skip
            fi
        :: else -> break
        od
       }
    :: atomic {
        news_left > 0 ->
        news_left--;
        if
        :: e = 0
        :: e = 1
        :: e = 2
        fi;
        has_news[e] = true;
        is_told[e] = false;
        if
        :: is_armed[e] -> post(e)
        :: else -> skip
        fi
       }
    od
}

ltl comes_to_rest { <> [] (all_armed && all_known) }
ltl everybody_hears { [] <> all_told }
ltl what_is_known_is_true { [] <> (is_known_armed[0] == is_armed[0]) }
